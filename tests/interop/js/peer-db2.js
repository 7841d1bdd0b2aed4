#!/usr/bin/env node
// The newer JavaScript stack on loopback: secret-stack 6, ssb-db2 8, ssb-ebt 9, ssb-conn 6. It dials nobody of itself.
//
//   --dir DIR      data directory; its `secret` is made if missing
//   --port PORT    tcp port on 127.0.0.1
//   --network KEY  network key, base64
//   --hops N       friends.hops, default 3
//   --ingest FILE  log to add before it is ready
//   --lan IP       listen there instead, announce itself by ssb-lan in its boxed form alone, and dial as ssb-conn does
const fs = require('fs')
const path = require('path')
const { option, loader, ingest, serve, ready, promise, commands } = require('./common')
const load = loader('db2')

const dir = option('dir')
const port = Number(option('port'))
const lan = option('lan')
const host = lan || '127.0.0.1'
fs.mkdirSync(dir, { recursive: true })
const caps = { shs: option('network') }
const keys = load('ssb-keys').loadOrCreateSync(path.join(dir, 'secret'))
const plugins = ['ssb-db2/core', 'ssb-classic', 'ssb-box', 'ssb-db2/compat/publish', 'ssb-db2/compat/post',
  'ssb-db2/compat/db', 'ssb-db2/compat/history-stream', 'ssb-db2/compat/log-stream', 'ssb-db2/compat/ebt',
  'ssb-db2/compat/feedstate', 'ssb-db2/about-self', 'ssb-master', 'ssb-conn', 'ssb-blobs', 'ssb-ebt', 'ssb-friends',
  'ssb-replication-scheduler']
if (lan) plugins.push('ssb-lan')
const stack = load('secret-stack')({ caps })
for (const name of plugins) stack.use(load(name))
const peer = stack({
  path: dir,
  caps,
  keys,
  port,
  host,
  local: false,
  lan: { legacy: false },
  friends: { hops: Number(option('hops', 3)) },
  replicationScheduler: { autostart: true },
  conn: { autostart: Boolean(lan), populatePubs: false },
  blobs: { sympathy: 3 },
  connections: {
    incoming: { net: [{ scope: lan ? ['device', 'local', 'private'] : ['device', 'public'], host, port, transform: 'shs' }] },
    outgoing: { net: [{ transform: 'shs' }] }
  }
})
fs.writeFileSync(path.join(dir, 'manifest.json'), JSON.stringify(peer.getManifest(), null, 2))

async function main () {
  const file = option('ingest')
  if (file) {
    await ingest(file, peer.db.add)
    await promise(cb => peer.db.onDrain('base', cb))
  }
  serve({
    ...commands(peer),
    want: ({ feeds }) => feeds.forEach(feed => peer.ebt.request(feed, true)),
    connect: ({ address }) => promise(cb => peer.conn.connect(address, cb)).then(() => null),
    remember: ({ address, data }) => peer.conn.remember(address, data),
    disconnect: ({ address }) => promise(cb => peer.conn.disconnect(address, cb)),
    staged: () => peer.conn.query().peersConnectable('staging')
  })
  ready(peer.id, port)
}
main().catch(err => {
  console.error('failed:', (err && err.stack) || err)
  process.exit(1)
})
