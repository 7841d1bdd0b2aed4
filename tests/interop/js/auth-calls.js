#!/usr/bin/env node
// Calls methods of a server as a peer with a key of its own, and prints one line of JSON: {connected, refused}, refused
// being for each method the text with which it was refused, or null if it wasn't.
//
//   --remote ADDR   multiserver address
//   --network KEY   network key, base64
//   --seed TEXT     the peer's key is made of this, 32 bytes in base64
//   --methods FILE  what to call: {NAME: KIND}
//
// A server refuses in the order in which it is asked. So each call is followed by one that is answered either way; what was
// not refused by then, never is.
const fs = require('fs')
const os = require('os')
const path = require('path')
const { option, loader, promise } = require('./common')
const load = loader('classic')
const pull = load('pull-stream')
// ssb-client's own blobs.add makes no call before it has read all of its input: here it is a sink like any other
const wrapper = require.resolve('ssb-client/util/fix-add-blob', { paths: [path.join(__dirname, 'classic')] })
require.cache[wrapper] = { id: wrapper, filename: wrapper, loaded: true, exports: add => add }
const Client = load('ssb-client')

const REFUSAL = /is not in list of allowed methods/
const PROBE = 'noSuchMethod'
const keys = load('ssb-keys').generate('ed25519', Buffer.from(option('seed'), 'base64'))
const methods = JSON.parse(fs.readFileSync(option('methods')))

// a manifest can't have a method and a group of one name: such methods are called over a connection of their own
const names = Object.keys(methods)
const isGroup = name => names.some(other => other.startsWith(name + '.'))

function manifestOf (names) {
  const manifest = { [PROBE]: 'async' }
  for (const name of names) {
    const parts = name.split('.')
    const last = parts.pop()
    const group = parts.reduce((object, part) => (object[part] = object[part] || {}), manifest)
    group[last] = methods[name]
  }
  return manifest
}

const connect = manifest => promise(cb => Client(keys, { path: os.tmpdir(), remote: option('remote'), caps: { shs: option('network') }, manifest }, cb))

// says nothing, and goes on until the other side has enough
const silence = (abort, cb) => { if (abort) cb(abort) }

async function tried (server, name) {
  let told = null
  const heard = err => { if (err && err !== true && REFUSAL.test(err.message)) told = err.message }
  const method = name.split('.').reduce((object, part) => object[part], server)
  const kind = methods[name]
  if (kind === 'sync' || kind === 'async') method(heard)
  else if (kind === 'sink') pull(silence, method(heard))
  else if (kind === 'source') pull(method(), pull.drain(() => {}, heard))
  else {
    const stream = method(heard)
    pull(stream.source, pull.drain(() => {}, heard))
    pull(silence, stream.sink)
  }
  await new Promise(resolve => server[PROBE](resolve))
  return told
}

async function main () {
  const refused = {}
  for (const some of [names.filter(name => !isGroup(name)), names.filter(isGroup)]) {
    let server
    try {
      server = await connect(manifestOf(some))
    } catch (err) {
      return { connected: false, why: String((err && err.message) || err) }
    }
    for (const name of some) refused[name] = await tried(server, name)
    await new Promise(resolve => server.close(true, resolve))
  }
  return { connected: true, refused }
}

main().then(answer => {
  console.log(JSON.stringify(answer))
  process.exit(0)
}, err => {
  console.error('failed:', (err && err.stack) || err)
  process.exit(1)
})
