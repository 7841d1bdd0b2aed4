#!/usr/bin/env node
// Makes the calls of `conn.*` or of `gossip.*` in order over one connection, by ssb-client, and writes an answer a line:
// {call, answer}. What the live streams have sent by the end comes last, as calls of its own.
//
//   --dir DIR       data directory of the server: its `secret` and `manifest.json` are used
//   --remote ADDR   multiserver address
//   --network KEY   network key, base64
//   --calls NAME    conn, or gossip
//   --friend ADDR   a peer that can be dialed
//   --refused ADDR  an address at which nobody listens
//   --out FILE      where the answers go
//
// answer: {value} or {error}; of a source its {first} item; of a live stream its {items}; {timeout} if there is none.
const fs = require('fs')
const path = require('path')
const { option, loader, promise } = require('./common')
const load = loader('classic')
const pull = load('pull-stream')
const Client = load('ssb-client')

// For a dial, on a busy machine.
const PATIENCE = 30000
const dir = option('dir')
const keys = load('ssb-keys').loadSync(path.join(dir, 'secret'))
const manifest = JSON.parse(fs.readFileSync(path.join(dir, 'manifest.json')))
const config = { path: dir, remote: option('remote'), caps: { shs: option('network') }, manifest }

const friend = option('friend')
const refused = option('refused')
const id = address => '@' + address.split('~shs:')[1] + '.ed25519'
const key = letter => letter.repeat(43) + '='
const feed = letter => '@' + key(letter) + '.ed25519'
const net = (host, port, letter) => `net:${host}:${port}~shs:${key(letter)}`
const call = (method, ...args) => ({ method, args })
const first = (method, ...args) => ({ method, args, first: true })

const conn = () => {
  const A = net('10.0.0.9', 8008, 'A')
  const B = net('pub.example', 8008, 'E')
  const C = net('10.0.0.10', 8008, 'I')
  const D = net('198.51.100.7', 8008, 'M')
  return [
    call('conn.dbPeers'), first('conn.peers'), first('conn.stagedPeers'),
    // remembering
    call('conn.remember', A), call('conn.dbPeers'),
    call('conn.remember', B, { type: 'pub', key: feed('E'), autoconnect: false, name: 'a pub' }), call('conn.dbPeers'),
    call('conn.remember', B, { name: 'the pub', note: { any: ['thing'] } }), call('conn.dbPeers'),
    call('conn.remember', 'nonsense!'), call('conn.remember', A, null), call('conn.remember', A, 'text'),
    call('conn.remember', A, 5), call('conn.remember', A, []), call('conn.remember', { host: '10.0.0.9', port: 8008, key: feed('A') }),
    call('conn.remember', '10.0.0.9:8008:' + feed('A')), call('conn.dbPeers'),
    call('conn.forget', A), call('conn.forget', A), call('conn.forget', 'nonsense!'), call('conn.dbPeers'),
    // staging
    call('conn.stage', C), first('conn.stagedPeers'), call('conn.stage', C, { type: 'lan', key: feed('I'), note: 'seen' }),
    first('conn.stagedPeers'), call('conn.stage', D, { key: feed('M'), autoconnect: false }),
    call('conn.stage', B, { key: feed('E') }), first('conn.stagedPeers'),
    call('conn.stage', 'nonsense!'), call('conn.stage', '10.0.0.9:8008:' + feed('A')),
    call('conn.stage', { host: '10.0.0.9', port: 8008, key: feed('A') }),
    call('conn.unstage', B), call('conn.unstage', B), call('conn.unstage', 'nonsense!'), call('conn.unstage', D),
    first('conn.stagedPeers'), call('conn.dbPeers'), first('conn.peers'),
    // connecting
    call('conn.stage', friend, { type: 'lan', key: id(friend), note: 'a friend' }),
    call('conn.remember', friend, { key: id(friend), name: 'friend' }),
    call('conn.connect', friend, { color: 'blue' }), first('conn.peers'), first('conn.stagedPeers'), call('conn.connect', friend),
    call('conn.stage', friend, { key: id(friend) }),
    call('conn.stage', D.replace(key('M'), friend.split('~shs:')[1]), { key: id(friend) }),
    call('conn.disconnect', friend), first('conn.peers'), first('conn.stagedPeers'), call('conn.disconnect', friend),
    call('conn.dbPeers'), call('conn.disconnect', 'nonsense!'), call('conn.disconnect', D),
    call('conn.connect', refused), first('conn.peers'), first('conn.stagedPeers'), call('conn.dbPeers'),
    call('conn.remember', refused, { key: id(refused) }), call('conn.connect', refused), call('conn.dbPeers'),
    call('conn.connect', 'nonsense!'), call('conn.connect', friend, null), call('conn.connect', { host: '10.0.0.9', port: 8008, key: feed('A') }),
    call('conn.connect', '10.0.0.9:8008:' + feed('A')),
    call('conn.unstage', C), first('conn.stagedPeers'),
    call('conn.forget', B), call('conn.forget', friend), call('conn.forget', refused), call('conn.dbPeers'),
    call('conn.start'), call('conn.stop'), first('conn.peers')
  ]
}

const gossip = () => {
  const A = net('10.0.0.9', 8008, 'A')
  const B = net('pub.example', 8008, 'E')
  const L = net('10.0.0.12', 8008, 'Q')
  const object = () => ({ host: '10.0.0.10', port: 8008, key: feed('I') })
  const self = A.replace(key('A'), keys.id.slice(1, 45))
  return [
    call('gossip.peers'), call('gossip.get', feed('A')),
    call('gossip.add', A), call('gossip.peers'), call('gossip.get', feed('A')), call('gossip.get', { key: feed('A') }),
    call('gossip.add', A, 'manual'), call('gossip.get', feed('A')),
    call('gossip.add', L, 'local'), call('gossip.get', feed('Q')), call('gossip.remove', feed('Q')),
    call('gossip.add', B, 'friends'), call('gossip.remove', feed('E')),
    call('gossip.add', object(), 'pub'), call('gossip.add', { address: net('10.0.0.11', 8008, 'M'), key: feed('M') }, 'seed'),
    call('gossip.add', self, 'manual'), call('gossip.peers'), call('gossip.add', A, 5), call('gossip.get', feed('A')),
    call('gossip.add', 'nonsense!'), call('gossip.add'), call('gossip.add', { host: '10.0.0.9' }), call('gossip.get', 'nonsense!'),
    call('gossip.remove', feed('I')), call('gossip.get', feed('I')), call('gossip.remove', { key: feed('M') }), call('gossip.peers'),
    call('gossip.connect', friend), call('gossip.get', id(friend)), call('gossip.peers'),
    call('gossip.disconnect', id(friend)), call('gossip.get', id(friend)),
    call('gossip.connect', refused), call('gossip.get', id(refused)), call('gossip.connect', refused), call('gossip.get', id(refused)),
    call('gossip.connect', id(refused)), call('gossip.remove', id(refused)),
    call('gossip.connect', feed('Y')), call('gossip.connect', 'nonsense!'), call('gossip.connect'),
    call('gossip.connect', { host: '10.0.0.9', port: 8008 }),
    call('gossip.remove', id(friend)), call('gossip.peers'), call('gossip.reconnect'),
    call('gossip.disable', 'global'), call('gossip.enable', 'global'), call('gossip.disable', 'local'),
    call('gossip.disable', 'friends'), call('gossip.enable', 'seed'), call('gossip.enable', 5)
  ]
}

const failure = err => ({ error: { name: err.name, message: err.message } })
const find = (server, method) => method.split('.').reduce((object, name) => object && object[name], server)

function answerOf (server, { method, args, first }) {
  return new Promise(resolve => {
    const timer = setTimeout(() => resolve({ timeout: true }), PATIENCE)
    const done = answer => {
      clearTimeout(timer)
      resolve(answer)
    }
    const result = name => (err, value) => done(err && err !== true ? failure(err) : { [name]: value === undefined ? null : value })
    try {
      if (first) pull(find(server, method)(...args), pull.take(1), pull.collect((err, items) => result('first')(err, items && items[0])))
      else find(server, method)(...args, result('value'))
    } catch (err) {
      done({ thrown: failure(err).error })
    }
  })
}

async function main () {
  const server = await promise(cb => Client(keys, config, cb))
  const out = fs.openSync(option('out'), 'w')
  const write = (call, answer) => fs.writeSync(out, JSON.stringify({ call, answer }) + '\n')
  const calls = option('calls') === 'conn' ? conn() : gossip()
  const streams = option('calls') === 'conn' ? ['conn.peers', 'conn.stagedPeers'] : ['gossip.changes']
  const live = streams.map(method => {
    const items = []
    pull(find(server, method)(), pull.drain(item => { items.push(item) }, () => {}))
    return { method, items }
  })
  for (const call of calls) write(call, await answerOf(server, call))
  for (const { method, items } of live) write({ method, args: [], live: true }, { items })
  fs.closeSync(out)
  process.exit(0)
}
main().catch(err => {
  console.error('failed:', (err && err.stack) || err)
  process.exit(1)
})
