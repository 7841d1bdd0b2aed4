// What the scripts here share: options, loading a log, and commands over stdin.
//
// A peer prints `ready {"id":…,"address":…}` once it listens and has loaded its log. From then on each line of its stdin
// is a command {"id": N, "do": NAME, …}, answered by `answer {"id": N, "value": …}` or `answer {"id": N, "error": TEXT}`.
// The end of stdin ends the peer, once it has put away what it must (30 s at most): none outlives the test that started it.
const fs = require('fs')
const path = require('path')
const readline = require('readline')

exports.option = (name, fallback = null) => {
  const at = process.argv.indexOf('--' + name)
  return at < 0 ? fallback : process.argv[at + 1]
}

// loads modules of one of the two installations
exports.loader = installation => {
  const paths = [path.join(__dirname, installation)]
  return (name, beside) => require(require.resolve(name, { paths: beside ? [path.dirname(require.resolve(beside, { paths }))] : paths }))
}

// gives every message of the file (values, or {key, value, timestamp}) to add(value, cb), a thousand under way at most
exports.ingest = (file, add) => new Promise((resolve, reject) => {
  const lines = fs.readFileSync(file, 'utf8').split('\n').filter(Boolean)
  let next = 0
  let done = 0
  let failed = false
  const added = err => {
    if (failed) return
    if (err) {
      failed = true
      return reject(err)
    }
    done++
    if (done === lines.length) return resolve(done)
    if (next - done <= 500) more()
  }
  const more = () => {
    while (next < lines.length && next - done < 1000) {
      const message = JSON.parse(lines[next++])
      add(message.value || message, added)
    }
  }
  if (lines.length) more()
  else resolve(0)
})

// serves commands: { name: argument => value or promise }; finish() is waited for at the end
exports.serve = (commands, finish = async () => {}) => {
  const answer = (id, rest) => process.stdout.write('answer ' + JSON.stringify({ id, ...rest }) + '\n')
  readline.createInterface({ input: process.stdin })
    .on('line', async line => {
      const command = JSON.parse(line)
      try {
        const value = await commands[command.do](command)
        answer(command.id, { value: value === undefined ? null : value })
      } catch (err) {
        answer(command.id, { error: String((err && err.message) || err) })
      }
    })
    .on('close', () => {
      setTimeout(() => process.exit(1), 30000).unref()
      finish().then(() => process.exit(0), () => process.exit(1))
    })
}

exports.ready = (id, port) => {
  const key = id.slice(1).replace('.ed25519', '')
  const report = { id, address: `net:127.0.0.1:${port}~shs:${key}` }
  process.stdout.write('ready ' + JSON.stringify(report) + '\n')
}

exports.promise = run => new Promise((resolve, reject) => run((err, value) => err ? reject(err) : resolve(value)))

// the commands that both kinds of peer have
exports.commands = peer => {
  const { promise } = exports
  const clock = () => promise(cb => peer.getVectorClock(cb))
  const slices = []
  return {
    // number of messages
    total: async () => Object.values(await clock()).reduce((a, b) => a + b, 0),
    // {FEED: [sequence, id of the last message]}
    tips: async () => {
      const tips = {}
      for (const feed of Object.keys(await clock())) {
        const { id, sequence } = await promise(cb => peer.getFeedState(feed, cb))
        tips[feed] = [sequence, id]
      }
      return tips
    },
    publish: async ({ content }) => (await promise(cb => peer.publish(content, cb))).key,
    has: ({ message }) => promise(cb => peer.get(message, err => cb(null, !err))),
    memory: () => Math.round(process.resourceUsage().maxRSS / 1024),
    // stores so many bytes, a pattern that `seed` names; the blob's id
    addBlob: ({ size, seed }) => promise(cb => {
      const bytes = Buffer.alloc(size, seed)
      let at = 0
      peer.blobs.add(cb)((end, cb) => {
        if (end || at >= size) return cb(end || true)
        cb(null, bytes.slice(at, at += 65536))
      })
    }),
    // begins to look for blobs; errors only show in that they don't come
    wantBlobs: ({ ids }) => ids.forEach(id => peer.blobs.want(id, () => {})),
    // how many of these blobs are there; not by `has`, which would be taken for a remote peer's and count as a want
    countBlobs: ({ ids }) => promise(cb => peer.blobs.size(ids, cb)).then(sizes => sizes.filter(size => size !== null).length),
    // the size of a blob, null if it isn't there
    sizeOfBlob: ({ blob }) => promise(cb => peer.blobs.size(blob, cb)),
    pushBlob: ({ blob }) => promise(cb => peer.blobs.push(blob, cb)),
    // sends no more than the first `bytes` of any blob from now on, and then nothing
    stallBlobs: ({ bytes }) => {
      peer.blobs.get.hook(function (fn, args) {
        const read = fn.apply(this, args)
        let sent = 0
        return (end, cb) => {
          if (!end && sent >= bytes) return
          read(end, (end, data) => {
            if (data) sent += data.length
            cb(end, data)
          })
        }
      })
    },
    // collects where the slices begin that are asked for from now on
    watchSlices: () => {
      peer.blobs.getSlice.hook(function (fn, args) {
        slices.push(args[0].start)
        return fn.apply(this, args)
      })
    },
    slices: () => slices
  }
}
