// The reference's muxrpc over plain TCP: offers methods of every type, and calls those of whoever connects.
//
// Prints `port N`. The end of stdin ends it.
const net = require('net')
const load = require('./common').loader('classic')
const pull = load('pull-stream')
const muxrpc = load('muxrpc', 'ssb-server')
const toPull = load('stream-to-pull-stream', 'ssb-server')

const manifest = {
  manifest: 'sync',
  hello: 'async',
  same: 'sync',
  fail: 'async',
  text: 'async',
  bytes: 'async',
  nothing: 'async',
  stopped: 'async',
  swallowed: 'async',
  closed: 'async',
  leave: 'async',
  report: 'async',
  deep: { er: { count: 'source' } },
  endless: 'source',
  broken: 'source',
  swallow: 'sink',
  picky: 'sink',
  echo: 'duplex',
  shout: 'duplex',
  hidden: 'async'
}

const state = { stopped: 0, swallowed: [], closed: 0 }
const plain = item => Buffer.isBuffer(item) ? { bytes: item.toString('base64') } : item
const count = n => pull.count(n - 1)

// must give others a turn: muxrpc takes whatever it is given
const endless = stopped => {
  let next = 0
  return (abort, cb) => {
    if (abort) stopped()
    if (abort) cb(abort)
    else setImmediate(() => cb(null, next++))
  }
}

const api = rpc => ({
  manifest: () => manifest,
  hello: (name, cb) => cb(null, 'hello ' + name),
  same: value => value,
  fail: cb => cb(new TypeError('it failed')),
  text: cb => cb(null, 'ünïcode 🦀'.repeat(10000)),
  bytes: cb => cb(null, Buffer.from([0, 1, 255])),
  nothing: cb => cb(),
  stopped: cb => cb(null, state.stopped),
  swallowed: cb => cb(null, state.swallowed),
  closed: cb => cb(null, state.closed),
  leave: cb => {
    cb(null, true)
    setImmediate(() => rpc().close(() => {}))
  },
  report: cb => report(rpc()).then(value => cb(null, value), cb),
  deep: { er: { count } },
  endless: () => endless(() => { state.stopped++ }),
  broken: () => {
    let next = 0
    return (abort, cb) => cb(abort || (next === 2 ? new Error('it broke') : null), next++)
  },
  swallow: () => pull.collect((err, items) => { state.swallowed = err ? err.message : items.map(plain) }),
  picky: () => read => read(null, () => read(new Error('enough'), () => {})),
  echo: () => pull.map(item => item),
  // speaks whether or not it is listened to
  shout: () => ({ source: pull.values(['a', 'b']), sink: pull.drain() }),
  hidden: cb => cb(null, 'seen')
})

const promise = call => new Promise(resolve => call((err, value) => resolve(err ? 'error: ' + err.message : plain(value))))
const collect = source => new Promise(resolve => {
  const items = []
  pull(source, pull.drain(item => { items.push(plain(item)) }, err => resolve(err ? [...items, 'error: ' + err.message] : items)))
})

// calls every method of the other side
async function report (rpc) {
  const theirs = await rpc.theirs
  const raw = (type, name, args = []) => new Promise(resolve => {
    const stream = rpc.raw.remoteCall(type, name, args, (err, value) => resolve(err ? 'error: ' + err.message : value))
    if (type === 'source' || type === 'duplex') resolve(collect(stream.source || stream))
  })
  return {
    manifest: theirs,
    hello: await promise(cb => rpc.hello('node', cb)),
    fail: await promise(rpc.fail),
    panic: await promise(rpc.panic),
    text: await promise(rpc.text),
    empty: await promise(rpc.empty),
    bytes: await promise(rpc.bytes),
    count: await collect(rpc.deep.er.count(3)),
    none: await collect(rpc.deep.er.count(0)),
    many: (await collect(rpc.deep.er.count(50000))).length,
    some: await collect(pull(rpc.endless(), pull.take(3))),
    broken: await collect(rpc.broken()),
    swallow: await promise(cb => pull(pull.values([1, 'two', Buffer.from('three')]), rpc.swallow(cb))),
    echo: await collect(pull(pull.values([1, 'two', { three: [3] }, Buffer.from('four')]), rpc.echo())),
    taken: await collect(pull(pull.values([0, 1, 2, 3, 4, 5]), rpc.echo(), pull.take(2))),
    missing: await raw('async', ['missing', 'method']),
    wrong: await raw('async', ['echo']),
    missingSource: await raw('source', ['missing', 'stream']),
    missingDuplex: await raw('duplex', ['missing', 'duplex']),
    hidden: await raw('async', ['hidden']),
    hiddenSource: await raw('source', ['hidden'])
  }
}

const server = net.createServer(socket => {
  let rpc
  // their manifest is asked for when the connection is made
  let bootstrapped
  const theirs = new Promise((resolve, reject) => {
    bootstrapped = (err, theirs) => err ? reject(err) : resolve(theirs)
  })
  theirs.catch(err => console.error(err))
  rpc = muxrpc((err, theirs) => bootstrapped(err, theirs), manifest)(api(() => rpc), { deny: ['hidden'] })
  rpc.theirs = theirs
  socket.setNoDelay(true)
  const stream = rpc.createStream(() => {})
  rpc.raw = stream
  rpc.once('closed', () => { state.closed++ })
  const duplex = toPull.duplex(socket)
  pull(duplex, stream, duplex)
})
server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port))
process.stdin.on('end', () => process.exit(0)).resume()
