// An SSB peer that meets others at a signalling hub and connects to them by WebRTC; for node and for a page alike.
//
// Whoever makes a connection is given as `Link`: a class of duplex streams that behave as those of simple-peer do, made by
// `new Link({ initiator, config })`, with `signal(object)`, `destroy()`, and the events `signal`, `connect`, `error` and
// `close`; and `pair()`, the types of the candidates in use.
const pull = require('pull-stream')
const pushable = require('pull-pushable')
const toPull = require('stream-to-pull-stream')
const secretHandshake = require('secret-handshake')
const muxrpc = require('muxrpc')
const ssbKeys = require('ssb-keys')
const validate = require('ssb-validate')
const signalhub = require('signalhub')

// Longest secret handshake, in ms.
const PATIENCE = 60000
// Between two announcements, in ms: a minute, more or less.
const ANNOUNCE = () => 45000 + Math.random() * 30000

const MANIFEST = { manifest: 'sync', whoami: 'sync', createHistoryStream: 'source' }

const bytesOf = id => Buffer.from(id.slice(1).replace('.ed25519', ''), 'base64')
const letterBox = id => 'peer-' + bytesOf(id).toString('hex')
const error = err => String((err && err.message) || err)

// hub: URL; app: name there; network: key in base64; ice: RTCConfiguration; Link: see above; random: n => n random bytes
module.exports = ({ hub: url, app, network, ice, Link, random }) => {
  const keys = ssbKeys.generate()
  const pair = { publicKey: bytesOf(keys.id), secretKey: Buffer.from(keys.private.replace('.ed25519', ''), 'base64') }
  const caps = Buffer.from(network, 'base64')
  const hub = signalhub(app, [url])
  const heard = new Set()
  // session => { session, to, initiator, link, connected }
  const links = new Map()
  // id => { rpc, session, remote, ended }
  const peers = new Map()
  // id => those that wait for a connection
  const waiting = new Map()
  // names of the methods that others have called
  const asked = []
  const log = (...words) => console.error(...words)

  // what is said to the hub goes out in order
  let said = Promise.resolve()
  const say = (channel, message) => {
    said = said.then(() => new Promise((resolve, reject) => hub.broadcast(channel, message, err => err ? reject(err) : resolve())))
    said = said.catch(err => log('hub:', error(err)))
    return said
  }
  const announce = () => say('announce', { id: keys.id })

  // its own feed
  let feed = validate.initial()
  const readers = new Set()
  const append = count => {
    for (let n = 0; n < count; n++) {
      const at = feed.feeds[keys.id]
      const content = { type: 'post', text: `message ${at ? at.sequence + 1 : 1} of a peer over WebRTC` }
      feed = validate.appendNew(feed, null, keys, content, Date.now() + n / 1000)
      const message = feed.queue[feed.queue.length - 1]
      for (const reader of readers) reader(message)
    }
    return feed.feeds[keys.id].sequence
  }
  const history = options => {
    const { id, live = false, keys: withKeys = true, limit = -1 } = options || {}
    const from = options.seq || options.sequence || 1
    const queue = pushable(() => readers.delete(read))
    let left = limit < 0 ? Infinity : limit
    const read = message => {
      if (id !== keys.id || message.value.sequence < from || left === 0) return
      left--
      queue.push(withKeys ? message : message.value)
      if (left === 0) queue.end()
    }
    feed.queue.forEach(read)
    if (live) readers.add(read)
    else queue.end()
    return queue
  }

  const found = (id, peer, err) => {
    const all = waiting.get(id) || []
    waiting.delete(id)
    for (const { resolve, reject } of all) err ? reject(err) : resolve(peer)
  }

  // what is above the data channel
  const connected = entry => {
    entry.connected = true
    const { link, initiator, session } = entry
    const stream = toPull.duplex(link)
    const shaken = (err, secure) => {
      if (err) {
        log('handshake:', error(err))
        link.destroy()
        if (initiator) found(entry.to, null, err)
        return
      }
      const id = '@' + secure.remote.toString('base64') + '.ed25519'
      const api = {
        manifest: () => MANIFEST,
        whoami: () => ({ id: keys.id }),
        createHistoryStream: history
      }
      const permissions = {
        pre: method => {
          const name = [].concat(method)
          asked.push(name.join('.'))
          const at = name.reduce((object, part) => object && object[part], MANIFEST)
          if (!at) return new Error(`method:${name} is not in list of allowed methods`)
        },
        test: () => {},
        post: () => {}
      }
      const peer = { session, initiator, link }
      const rpc = muxrpc((err, manifest) => {
        if (err) return found(id, null, err)
        peer.manifest = manifest
        peers.set(id, peer)
        found(id, peer)
      }, MANIFEST, api, permissions)
      peer.rpc = rpc
      peer.ended = new Promise(resolve => link.once('close', resolve))
      peer.ended.then(() => {
        if (peers.get(id) === peer) peers.delete(id)
      })
      pull(secure, rpc.stream, secure)
    }
    const shake = initiator
      ? secretHandshake.createClient(pair, caps, PATIENCE)(bytesOf(entry.to), shaken)
      : secretHandshake.createServer(pair, (id, cb) => cb(null, true), caps, PATIENCE)(shaken)
    pull(stream, shake, stream)
  }

  const connect = (to, session, initiator) => {
    const link = new Link({ initiator, config: ice })
    const entry = { session, to, initiator, link, connected: false, dropped: false }
    links.set(session, entry)
    link.on('signal', signal => say(letterBox(to), { id: keys.id, session, signal }))
    link.once('connect', () => connected(entry))
    let trouble = new Error('the connection has ended')
    link.on('error', err => {
      log('link:', error(err))
      trouble = err
    })
    link.once('close', () => {
      links.delete(session)
      if (initiator && !entry.dropped) found(to, null, trouble)
    })
    return entry
  }

  const signalled = ({ id: from, session, signal }) => {
    const known = links.get(session)
    if (known) {
      if (known.to === from) known.link.signal(signal)
      return
    }
    if (signal.type !== 'offer') return
    const mine = [...links.values()].find(entry => entry.to === from && entry.initiator && !entry.connected)
    if (mine) {
      // both have offered: the offer of the smaller key stands
      if (Buffer.compare(bytesOf(keys.id), bytesOf(from)) < 0) return
      mine.dropped = true
      mine.link.destroy()
      links.delete(mine.session)
    }
    connect(from, session, false).link.signal(signal)
  }

  const subscriber = hub.subscribe(['announce', letterBox(keys.id)])
  subscriber.on('data', message => {
    if (!message || message.id === keys.id) return
    if (message.signal) return signalled(message)
    if (message.gone) return heard.delete(message.id)
    if (heard.has(message.id)) return
    heard.add(message.id)
    say(letterBox(message.id), { id: keys.id })
  })
  subscriber.on('error', err => log('hub:', error(err)))
  const joined = new Promise(resolve => subscriber.once('open', resolve)).then(announce)
  const again = () => {
    announce()
    timer = setTimeout(again, ANNOUNCE())
  }
  let timer = setTimeout(again, ANNOUNCE())

  const peerOf = id => {
    const peer = peers.get(id)
    if (!peer) throw new Error(`no connection with ${id}`)
    return peer
  }
  const method = (rpc, name) => {
    const found = name.split('.').reduce((object, part) => object && object[part], rpc)
    if (!found) throw new Error(`${name} isn't in the manifest`)
    return found
  }

  const commands = {
    // ids of those that have announced themselves
    heard: () => [...heard],
    // dials a peer through the hub; returns when the connection is up and the other's manifest is there
    dial: ({ to }) => new Promise((resolve, reject) => {
      waiting.set(to, [...(waiting.get(to) || []), { resolve, reject }])
      connect(to, random(16).toString('hex'), true)
    }).then(() => {}),
    // waits for a connection, whoever makes it
    wait: ({ to }) => new Promise((resolve, reject) => {
      if (peers.has(to)) return resolve()
      waiting.set(to, [...(waiting.get(to) || []), { resolve, reject }])
    }).then(() => {}),
    connected: () => [...peers.keys()],
    // whether this end has made the connection
    dialed: ({ to }) => peerOf(to).initiator,
    // calls an async method
    ask: ({ to, method: name, args = [] }) => new Promise(resolve =>
      method(peerOf(to).rpc, name)(...args, (err, value) => resolve(err ? { refusal: error(err) } : { value }))),
    // reads a feed to its end and checks each message; returns how many there were
    history: ({ to, feed }) => new Promise((resolve, reject) => {
      let state = validate.initial()
      const source = peerOf(to).rpc.createHistoryStream({ id: feed, seq: 1, live: false, keys: true })
      const check = ({ key, value }) => {
        if (value.author !== feed) throw new Error(`${key} is not of ${feed}`)
        state = validate.append(state, null, value)
        const { sequence, id } = state.feeds[feed]
        if (id !== key) throw new Error(`${key} has the id ${id}`)
        if (sequence !== state.queue.length) throw new Error(`${key} is number ${state.queue.length}`)
      }
      pull(source, pull.map(check), pull.onEnd(err => err && err !== true ? reject(err) : resolve(state.queue.length)))
    }),
    // writes messages; returns how many there are
    append: ({ count }) => append(count),
    asked: () => asked,
    pair: ({ to }) => peerOf(to).link.pair(),
    // says goodbye and ends a connection
    hangup: async ({ to }) => {
      const { rpc, ended } = peerOf(to)
      // without waiting for live streams to end
      rpc.close(true, () => {})
      await ended
    },
    // waits for the end of a connection, whoever ends it
    ended: ({ to }) => peers.has(to) ? peers.get(to).ended.then(() => {}) : undefined
  }

  const leave = async () => {
    clearTimeout(timer)
    for (const { rpc } of peers.values()) rpc.close(true, () => {})
    await Promise.all([...peers.values()].map(({ ended }) => ended))
    for (const { link } of links.values()) link.destroy()
    await say('announce', { id: keys.id, gone: true })
    await new Promise(resolve => hub.close(resolve))
  }
  return { id: keys.id, joined, commands, leave }
}
