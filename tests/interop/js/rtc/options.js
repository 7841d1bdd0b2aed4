// What the command line says about a peer over WebRTC.
//
//   --network KEY   network key, base64
//   --hub URL       signalling hub
//   --ice JSON      RTCConfiguration, e.g. {"iceServers": […]}; by default no server
const crypto = require('crypto')
const { option } = require('../common')

const network = option('network')
const hub = option('hub')

// The name at hubs: of the protocol's version and the network, which it doesn't tell.
const mac = crypto.createHmac('sha256', Buffer.from(network, 'base64')).update('sbot-rtc-1').digest()
exports.options = {
  hub,
  network,
  app: 'sbot-rtc-1-' + mac.subarray(0, 16).toString('hex'),
  ice: JSON.parse(option('ice', '{"iceServers": []}'))
}

// tells where the peer with this id is reached
exports.ready = id => {
  const { protocol, hostname, port } = new URL(hub)
  const http = protocol === 'http:'
  const at = `${http ? 'http:' : ''}${hostname}:${port || (http ? 80 : 443)}`
  const address = `rtc:${at}~shs:${id.slice(1).replace('.ed25519', '')}`
  process.stdout.write('ready ' + JSON.stringify({ id, address }) + '\n')
}
