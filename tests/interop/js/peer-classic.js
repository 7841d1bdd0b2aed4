#!/usr/bin/env node
// ssb-server 16 with its default plugins, on loopback. It dials nobody of itself.
//
//   --dir DIR      data directory; its `secret` is made if missing
//   --port PORT    tcp port on 127.0.0.1
//   --network KEY  network key, base64
//   --hops N       friends.hops, default 3
//   --ingest FILE  log to add before it is ready
//   --ebt off      replicate by createHistoryStream alone
//   --survive yes  go on after an exception that nobody caught
//   --private yes  invites may name loopback
//   --lan IP       listen there instead, and announce itself by ssb-local
//
// ssb-config reads the command line too: no option here may be named like one of its settings, but for `port`.
// `autoPopulate` is off because gossip's `ip` dependency throws on a pub whose host is a name.
const fs = require('fs')
const path = require('path')
const { option, loader, ingest, serve, ready, promise, commands } = require('./common')
const load = loader('classic')

if (option('survive') === 'yes') process.on('uncaughtException', err => console.error('exception:', err.message))

const dir = option('dir')
const port = Number(option('port'))
const lan = option('lan')
fs.mkdirSync(dir, { recursive: true })
const config = load('ssb-config/inject')('sbot-interop', {
  path: dir,
  caps: { shs: option('network') },
  friends: { hops: Number(option('hops', 3)) },
  timeout: 0,
  logging: { level: 'error' },
  allowPrivate: option('private') === 'yes',
  gossip: { connections: 5, autoPopulate: false, pub: false, seed: false, friends: false, local: Boolean(lan), global: false },
  connections: {
    incoming: {
      net: [{ scope: lan ? ['device', 'local', 'private'] : ['device', 'local'], transform: 'shs', host: lan || '127.0.0.1', port }],
      unix: [{ scope: 'device', transform: 'noauth' }]
    },
    outgoing: { net: [{ transform: 'shs' }] }
  }
})
config.keys = load('ssb-keys').loadOrCreateSync(path.join(dir, 'secret'))

const plugins = ['ssb-private1', 'ssb-unix-socket', 'ssb-no-auth', 'ssb-master', 'ssb-gossip', 'ssb-replicate',
  'ssb-friends', 'ssb-blobs', 'ssb-invite', 'ssb-query', 'ssb-links', 'ssb-ooo']
if (option('ebt') !== 'off') plugins.push('ssb-ebt')
if (lan) plugins.push('ssb-local')
plugins.push('ssb-private')
const stack = load('ssb-server')
for (const name of plugins) stack.use(load(name))
const peer = stack(config)
fs.writeFileSync(path.join(dir, 'manifest.json'), JSON.stringify(peer.getManifest(), null, 2))

// What has no index yet is indexed at the next start, which then serves nobody for seconds.
async function finish () {
  while (!peer.status().sync.sync) await new Promise(resolve => setTimeout(resolve, 50))
  await promise(cb => peer.close(true, () => cb()))
}

async function main () {
  const file = option('ingest')
  if (file) await ingest(file, peer.add)
  serve({
    ...commands(peer),
    want: ({ feeds }) => feeds.forEach(feed => peer.replicate.request(feed, true)),
    connect: ({ address }) => promise(cb => peer.gossip.connect(address, cb)).then(() => null),
    remember: ({ address }) => { peer.gossip.add(address, 'manual') },
    disconnect: ({ key }) => promise(cb => peer.gossip.disconnect(key, cb)),
    peers: () => peer.gossip.peers(),
    // an async method, called as a plugin calls it: { value } or { refusal }
    call: ({ method, args }) => promise(cb => method.split('.').reduce((group, name) => group[name], peer)(...args, cb))
      .then(value => ({ value }), err => ({ refusal: String(err.message) }))
  }, finish)
  ready(peer.id, port)
}
main().catch(err => {
  console.error('failed:', (err && err.stack) || err)
  process.exit(1)
})
