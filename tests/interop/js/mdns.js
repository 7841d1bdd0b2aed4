#!/usr/bin/env node
// Another implementation of multicast DNS, in the place of a peer. It announces one that isn't there.
//
//   --dir DIR      not used
//   --port PORT    port to announce
//   --network KEY  not used
//   --lan IP       interface
const crypto = require('crypto')
const { option, loader, serve, ready, promise } = require('./common')
const load = loader('mdns')
const { Bonjour } = load('bonjour-service')

const port = Number(option('port'))
const key = crypto.randomBytes(32).toString('base64')
const id = `@${key}.ed25519`
const bonjour = new Bonjour({ interface: option('lan'), bind: '0.0.0.0' }, err => console.error('mdns:', err.message))
const service = bonjour.publish({ name: 'another', type: 'ssb', port, txt: { key: id } })
const browser = bonjour.find({ type: 'ssb' })

const finish = () => promise(cb => bonjour.unpublishAll(() => bonjour.destroy(() => cb())))
serve({
  // who is there now
  found: () => browser.services.map(({ name, host, port, addresses, txt }) => ({ name, host, port, addresses, txt })),
  search: () => { browser.update() },
  // tells of many that aren't there, others every time
  flood: async ({ count }) => {
    const some = crypto.randomBytes(4).toString('hex')
    const mdns = load('multicast-dns')({ interface: option('lan'), bind: '0.0.0.0' })
    for (let n = 0; n < count; n += 20) {
      const answers = Array.from({ length: 20 }, (_, m) =>
        ({ name: '_ssb._tcp.local', type: 'PTR', ttl: 4500, data: `${some}-${n + m}._ssb._tcp.local` }))
      await promise(cb => mdns.respond({ answers }, cb))
      // a receiver's buffer is small
      await new Promise(resolve => setTimeout(resolve, 1))
    }
    await promise(cb => mdns.destroy(cb))
  }
}, finish)
service.on('up', () => ready(id, port))
