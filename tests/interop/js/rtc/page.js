// A peer in a page, by simple-peer. The page's driver starts it and tells it what to do: see ../rtc-chromium.js.
const SimplePeer = require('simple-peer')
const connect = require('./peer')

class Link extends SimplePeer {
  // the types of the candidates in use, ours and the other's
  async pair () {
    const stats = [...(await this._pc.getStats()).values()]
    const transport = stats.find(one => one.type === 'transport') || {}
    const pair = stats.find(one => one.id === transport.selectedCandidatePairId)
    const type = id => (stats.find(one => one.id === id) || {}).candidateType
    return pair ? { local: type(pair.localCandidateId), remote: type(pair.remoteCandidateId) } : null
  }
}

const random = count => Buffer.from(window.crypto.getRandomValues(new Uint8Array(count)))
let peer
window.start = async options => {
  peer = connect({ ...options, Link, random })
  await peer.joined
  return peer.id
}
window.run = command => peer.commands[command.do](command)
window.leave = () => peer.leave()
