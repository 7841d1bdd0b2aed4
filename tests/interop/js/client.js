#!/usr/bin/env node
// Makes the calls of calls.js by ssb-client and writes an answer a line: {call, answer}.
//
//   --dir DIR       data directory of the server: its `secret` and `manifest.json` are used
//   --remote ADDR   multiserver address
//   --network KEY   network key, base64
//   --log FILE      the log that the server holds
//   --out FILE      where the answers go
//   --hangs yes     make also the calls that ssb-server never answers
//
// answer: {value} or {error}; of streams {items, end | open | error}; {timeout} if there is none, {missing} if the manifest
// doesn't have the method. Each call has a connection of its own, so that none can disturb the next.
const fs = require('fs')
const path = require('path')
const { option, loader, promise } = require('./common')
const load = loader('classic')
const pull = load('pull-stream')
const Client = load('ssb-client')

const PATIENCE = 2000
// A sink doesn't tell when what was sent is done with.
const SETTLE = 300
const dir = option('dir')
const ssbKeys = load('ssb-keys')
const keys = ssbKeys.loadSync(path.join(dir, 'secret'))
const manifest = JSON.parse(fs.readFileSync(path.join(dir, 'manifest.json')))
const config = { path: dir, remote: option('remote'), caps: { shs: option('network') }, manifest }
const log = fs.readFileSync(option('log'), 'utf8').split('\n').filter(Boolean).map(line => JSON.parse(line))

const failure = err => ({ error: err === true ? true : { name: err.name, message: err.message } })
const plain = item => Buffer.isBuffer(item) ? { bytes: item.toString('base64') } : item

function answerOf (server, call) {
  const method = call.method.split('.').reduce((object, name) => object && object[name], server)
  if (!method) return { missing: true }
  return new Promise(resolve => {
    const items = []
    const open = call.type === 'source' || call.type === 'duplex'
    let drain
    const done = answer => {
      clearTimeout(timer)
      resolve(open ? { items: items.map(plain), ...answer } : answer)
      if (drain) drain.abort()
    }
    const timer = setTimeout(() => done(open ? { open: true } : { timeout: true }), call.ms || PATIENCE)
    const result = (err, value) => done(err ? failure(err) : { value: value === undefined ? null : plain(value) })
    try {
      if (call.type === 'async') return method(...call.args, result)
      if (call.type === 'sink') {
        const sent = (err, value) => setTimeout(result, SETTLE, err, value)
        return pull(pull.values(call.input.map(text => Buffer.from(text))), method(...call.args, sent))
      }
      drain = pull.drain(item => { items.push(item) }, err => done(err && err !== true ? failure(err) : { end: true }))
      const stream = method(...call.args)
      pull(call.type === 'duplex' ? stream.source : stream, drain)
    } catch (err) {
      done({ thrown: failure(err).error })
    }
  })
}

async function main () {
  const stranger = ssbKeys.generate('ed25519', Buffer.alloc(32, 'a stranger'))
  const fresh = load('ssb-validate').create(null, stranger, null, { type: 'post', text: 'from afar' }, 1600000000000)
  const calls = require('./calls')({ self: keys.id, log, fresh })
  const out = fs.openSync(option('out'), 'w')
  for (const call of calls) {
    if (call.hangs && option('hangs') !== 'yes') continue
    const server = await promise(cb => Client(keys, config, cb))
    const answer = await answerOf(server, call)
    server.close(true, () => {})
    fs.writeSync(out, JSON.stringify({ call, answer }) + '\n')
  }
  fs.closeSync(out)
  process.exit(0)
}
main().catch(err => {
  console.error('failed:', (err && err.stack) || err)
  process.exit(1)
})
