#!/usr/bin/env node
// Writes a network of feeds, signed by the reference libraries: the same one for the same options, to the byte.
//
//   node generate.js --out DIR --messages 100000 --authors 500 --seed 1 [--blocks off]
//
// DIR/log.jsonl    one {key, value, timestamp} a line, feeds interleaved, as a peer could have received them
// DIR/facts.json   {messages, authors: [ids; the first follows all others], tips: {FEED: [sequence, last id]}}
// DIR/secret       the first author's, as ssb-keys writes it
//
// Types come in about the mix of the public network (votes, posts, private messages, contacts, about, others), lengths of
// feeds follow a power law. Texts hold what JSON encoders get wrong.
const crypto = require('crypto')
const fs = require('fs')
const path = require('path')
const { option, loader } = require('./common')
const load = loader('classic')

const SEED = Number(option('seed', 1))
const MESSAGES = Number(option('messages', 1000))
const AUTHORS = Number(option('authors', 20))
const BLOCKS = option('blocks') !== 'off'
const out = option('out')

const sha256 = text => crypto.createHash('sha256').update(text).digest()
// Private boxes draw random bytes: from the seed here. That has to be in place before ssb-keys loads the library.
const sodium = load('chloride', 'ssb-keys')
let drawn = 0
sodium.randombytes = buffer => {
  for (let at = 0; at < buffer.length; at += 32) sha256(`bytes ${SEED} ${drawn++}`).copy(buffer, at)
  return buffer
}
sodium.crypto_box_keypair = () => sodium.crypto_box_seed_keypair(sha256(`pair ${SEED} ${drawn++}`))
const ssbKeys = load('ssb-keys')
const validate = load('ssb-validate')

// xorshift32
let state = (SEED * 2654435761) >>> 0 || 1
const random = () => {
  state ^= state << 13
  state >>>= 0
  state ^= state >>> 17
  state ^= state << 5
  state >>>= 0
  return state / 4294967296
}
const below = count => Math.floor(random() * count)
const oneOf = list => list[below(list.length)]
const WORDS = ['tide', 'harbour', 'letters', 'Größe', 'naïve', '潮汐', 'письмо', '🐚', '🦀🌊', '"quoted"', 'back\\slash',
  'line\nbreak', 'tab\t', '\u2028', '\u0007', '/slash', 'a', 'gossip', 'between', 'islands', 'keeps', 'everyone', 'log']
const CHANNELS = ['boats', 'new-people', 'rust', 'gardening']
const text = words => Array.from({ length: words }, () => oneOf(WORDS)).join(' ')

const authors = Array.from({ length: AUTHORS }, (_, i) => ssbKeys.generate('ed25519', sha256(`author ${SEED} ${i}`)))
const shares = authors.map((_, i) => 1 / Math.pow(i + 1, 0.7))
const whole = shares.reduce((a, b) => a + b)
const anAuthor = () => {
  let at = random() * whole
  return Math.max(0, shares.findIndex(share => (at -= share) < 0))
}

const tips = {}
const roots = []
let now = 1500000000000
let written = 0

fs.mkdirSync(out, { recursive: true })
const file = fs.openSync(path.join(out, 'log.jsonl'), 'w')
let lines = []
const flush = () => {
  fs.writeSync(file, lines.map(line => line + '\n').join(''))
  lines = []
}

function publish (author, content) {
  const keys = authors[author]
  now += 1 + below(5000)
  const tip = tips[keys.id]
  const last = tip && { id: tip.key, sequence: tip.value.sequence, timestamp: tip.value.timestamp, queue: [] }
  const message = validate.toKeyValueTimestamp(validate.create(last, keys, null, content, now))
  message.timestamp = now + 0.5
  tips[keys.id] = message
  if (content.type === 'post') roots.push({ key: message.key, root: content.root || message.key })
  written++
  lines.push(JSON.stringify(message))
  if (lines.length === 2000) flush()
}

function contentOf (author) {
  const keys = authors[author]
  const kind = random()
  if (kind < 0.42 && roots.length) {
    return { type: 'vote', vote: { link: oneOf(roots).key, value: oneOf([1, 1, 1, 0, -1]), expression: '❤' } }
  }
  if (kind < 0.68) {
    const post = { type: 'post', text: text(4 + Math.floor(200 * Math.pow(random(), 3))) }
    if (roots.length && random() < 0.7) {
      const to = roots[roots.length - 1 - below(Math.min(300, roots.length))]
      post.root = to.root
      post.branch = to.key
    }
    if (random() < 0.3) post.channel = oneOf(CHANNELS)
    if (random() < 0.5) {
      const blob = '&' + sha256('blob ' + below(500)).toString('base64') + '.sha256'
      post.mentions = [random() < 0.6 ? { link: oneOf(authors).id, name: 'someone' } : { link: blob, type: 'image/png', size: 1234 }]
    }
    return post
  }
  if (kind < 0.80) {
    const reader = random() < 0.3 ? authors[0] : oneOf(authors)
    return ssbKeys.box({ type: 'post', text: text(10), recps: [keys.id, reader.id] }, [keys, reader])
  }
  if (kind < 0.89) {
    // the first author's follows stay
    const contact = { type: 'contact', contact: author ? oneOf(authors).id : authors[1 + below(AUTHORS - 1)].id }
    const relation = author ? random() : 0
    if (relation < 0.8 || (!BLOCKS && relation > 0.92)) contact.following = true
    else if (relation < 0.92) contact.following = false
    else contact.blocking = true
    return contact
  }
  if (kind < 0.92) return { type: 'about', about: keys.id, name: 'author ' + author, description: text(8) }
  if (kind < 0.94) return { type: 'channel', channel: oneOf(CHANNELS), subscribed: random() < 0.8 }
  if (kind < 0.95) return { type: 'pub', address: { host: 'pub.example', port: 8008, key: oneOf(authors).id } }
  const odd = { type: oneOf(['gathering', 'git-update', 'chess_move']), n: random() * Math.pow(10, below(40) - 20) }
  odd.list = [0, -1.5, 1e21, 1e-7, 123456789012345680000, true, { 2: 'two', b: {}, 1: [] }]
  odd.none = null // not in the list: ssb-server's link index fails for good on that
  odd.text = text(6)
  return odd
}

for (let other = 1; other < AUTHORS && written < MESSAGES; other++) {
  publish(0, { type: 'contact', contact: authors[other].id, following: true })
}
// everyone says something
for (let author = 1; author < AUTHORS && written < MESSAGES; author++) {
  publish(author, { type: 'about', about: authors[author].id, name: 'author ' + author })
}
if (BLOCKS && written < MESSAGES) publish(0, { type: 'contact', contact: authors[AUTHORS - 1].id, following: false, blocking: true })
while (written < MESSAGES) {
  const author = anAuthor()
  publish(author, contentOf(author))
}
flush()
fs.closeSync(file)

const facts = { messages: written, authors: authors.map(keys => keys.id), tips: {} }
for (const feed in tips) facts.tips[feed] = [tips[feed].value.sequence, tips[feed].key]
fs.writeFileSync(path.join(out, 'facts.json'), JSON.stringify(facts) + '\n')
const secret = path.join(out, 'secret')
fs.rmSync(secret, { force: true })
const { curve, public: publicKey, private: privateKey, id } = authors[0]
fs.writeFileSync(secret, JSON.stringify({ curve, public: publicKey, private: privateKey, id }, null, 2), { mode: 0o400 })
