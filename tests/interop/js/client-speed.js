#!/usr/bin/env node
// How fast ssb-client gets answers: prints {"count": N, "seconds": S}.
//
//   --dir DIR       data directory of the server: its `secret` and `manifest.json` are used
//   --remote ADDR   multiserver address
//   --network KEY   network key, base64
//   --what log      the whole of createLogStream, once
//   --what whoami   --count calls, one after another
const fs = require('fs')
const path = require('path')
const { option, loader, promise } = require('./common')
const load = loader('classic')
const pull = load('pull-stream')
const Client = load('ssb-client')

const dir = option('dir')
const keys = load('ssb-keys').loadSync(path.join(dir, 'secret'))
const manifest = JSON.parse(fs.readFileSync(path.join(dir, 'manifest.json')))
const config = { path: dir, remote: option('remote'), caps: { shs: option('network') }, manifest }

async function wholeLog (server) {
  let count = 0
  await promise(cb => pull(server.createLogStream({}), pull.drain(() => { count++ }, err => cb(err === true ? null : err))))
  return count
}

async function whoami (server) {
  const count = Number(option('count'))
  for (let i = 0; i < count; i++) await promise(cb => server.whoami(cb))
  return count
}

async function main () {
  const server = await promise(cb => Client(keys, config, cb))
  const begin = process.hrtime.bigint()
  const count = await (option('what') === 'log' ? wholeLog(server) : whoami(server))
  const seconds = Number(process.hrtime.bigint() - begin) / 1e9
  process.stdout.write(JSON.stringify({ count, seconds }) + '\n')
  process.exit(0)
}
main().catch(err => {
  console.error('failed:', (err && err.stack) || err)
  process.exit(1)
})
