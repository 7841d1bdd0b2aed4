#!/usr/bin/env node
// npm signalhub as a client of signalling hubs, in the place of a peer.
//
//   --dir DIR --port PORT --network KEY    not used
const crypto = require('crypto')
const { loader, serve, ready, promise } = require('./common')
const signalhub = loader('rtc')('signalhub')

const id = `@${crypto.randomBytes(32).toString('base64')}.ed25519`
const open = []
serve({
  // subscribes to channels at one or several hubs; what comes is kept under the number that this answers
  subscribe: ({ hubs, app, channels }) => new Promise((resolve, reject) => {
    const hub = signalhub(app, hubs)
    const got = []
    const stream = hub.subscribe(channels)
    let opening = hubs.length
    stream.on('open', () => {
      if (--opening > 0) return
      open.push({ hub, got })
      resolve(open.length - 1)
    })
    stream.on('data', message => got.push(message))
    stream.on('error', reject)
  }),
  got: ({ number }) => open[number].got,
  broadcast: ({ hubs, app, channel, message }) => {
    const hub = signalhub(app, hubs)
    return promise(cb => hub.broadcast(channel, message, cb)).then(() => null)
  },
  close: ({ number }) => promise(cb => open[number].hub.close(cb)).then(() => null)
})
ready(id, 0)
