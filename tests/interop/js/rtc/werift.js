// A duplex stream over a data channel of werift, which behaves as simple-peer's do.
const { Duplex } = require('stream')
const { RTCPeerConnection } = require('werift')

// Bytes that wait in the channel before a writer is told to.
const WAITING = 64 * 1024
// Longest message: what is written in one go goes out joined, in whatever pieces it came.
const MESSAGE = 60 * 1024
// Longest wait for the other end to close too, in ms.
const CLOSING = 2000
// Between two looks at what still waits, in ms.
const LOOK = 20

module.exports = class WeriftLink extends Duplex {
  constructor ({ initiator, config }) {
    super({ allowHalfOpen: false })
    // Hosts without any other network have loopback.
    this.pc = new RTCPeerConnection({ iceAdditionalHostAddresses: ['127.0.0.1'], ...config })
    this.pc.connectionStateChange.subscribe(state => {
      if (state === 'failed') this.destroy(new Error('connection failed'))
      if (state === 'closed') this.destroy()
    })
    this.pc.onIceCandidate.subscribe(found => {
      if (!found) return
      const { candidate, sdpMLineIndex, sdpMid } = found
      this.emit('signal', { type: 'candidate', candidate: { candidate, sdpMLineIndex, sdpMid } })
    })
    this.stun = config.iceServers.length > 0
    // One thing after the other.
    this.work = Promise.resolve()
    if (initiator) {
      this.use(this.pc.createDataChannel('werift'))
      this.next(async () => {
        const { type, sdp } = await this.pc.createOffer()
        await this.described({ type, sdp })
      })
    } else {
      this.pc.onDataChannel.subscribe(channel => this.use(channel))
    }
  }

  next (step) {
    this.work = this.work.then(() => this.destroyed ? undefined : step()).catch(err => this.destroy(err))
  }

  // says what it is, and then looks for candidates
  async described (description) {
    this.emit('signal', description)
    if (!this.stun) {
      // It would ask a server in the world, for want of one.
      for (const { connection } of this.pc.iceTransports) connection.stunServer = undefined
    }
    await this.pc.setLocalDescription(description)
  }

  signal (signal) {
    this.next(async () => {
      if (signal.candidate) return this.pc.addIceCandidate(signal.candidate)
      await this.pc.setRemoteDescription(signal)
      if (signal.type !== 'offer') return
      const { type, sdp } = await this.pc.createAnswer()
      // By itself it is the client of DTLS, and leaves it to the other end to begin SCTP. Ours begins as the client alone.
      await this.described({ type, sdp: sdp.replace('a=setup:active', 'a=setup:passive') })
    })
  }

  use (channel) {
    this.channel = channel
    const open = () => process.nextTick(() => this.emit('connect'))
    channel.onMessage.subscribe(data => this.push(Buffer.from(data)))
    channel.stateChanged.subscribe(state => {
      if (state === 'open') open()
      if (state === 'closed') this.destroy()
    })
    if (channel.readyState === 'open') open()
  }

  // the types of the candidates in use, ours and the other's
  async pair () {
    const stats = [...(await this.pc.getStats()).values()]
    const pair = stats.find(one => one.type === 'candidate-pair' && one.nominated)
    const type = id => (stats.find(one => one.id === id) || {}).candidateType
    return pair ? { local: type(pair.localCandidateId), remote: type(pair.remoteCandidateId) } : null
  }

  _read () {}

  _write (chunk, encoding, cb) {
    this._writev([{ chunk }], cb)
  }

  _writev (chunks, cb) {
    const bytes = Buffer.concat(chunks.map(({ chunk }) => chunk))
    for (let at = 0; at < bytes.length; at += MESSAGE) this.channel.send(bytes.subarray(at, at + MESSAGE))
    this.drained(WAITING, cb)
  }

  _final (cb) {
    this.drained(0, () => {
      cb()
      this.destroy()
    })
  }

  // calls back when no more than `most` bytes wait
  drained (most, cb) {
    if (this.destroyed || this.channel.bufferedAmount <= most) return cb()
    setTimeout(() => this.drained(most, cb), LOOK)
  }

  // the other end learns of it by the channel's end
  _destroy (err, cb) {
    const close = () => this.pc.close().then(() => cb(err), () => cb(err))
    const { channel } = this
    if (!channel || channel.readyState !== 'open') return close()
    const timer = setTimeout(close, CLOSING)
    channel.stateChanged.subscribe(state => {
      if (state !== 'closed') return
      clearTimeout(timer)
      close()
    })
    channel.close()
  }
}
