#!/usr/bin/env node
// Announces made-up peers on the local network, in the plain form of ssb-local: node flood.js BROADCAST COUNT. Each has a
// key of its own, at an address where nobody is. Prints a line when the first thousand is out, and one when all are.
const crypto = require('crypto')
const dgram = require('dgram')

const [to, count] = [process.argv[2], Number(process.argv[3])]
const socket = dgram.createSocket('udp4')

function send (number) {
  if (number === 1000) console.log('begun')
  if (number >= count) return console.log('done')
  const host = `10.77.${number >> 8 & 255}.${number & 255}`
  const text = `net:${host}:8008~shs:${crypto.randomBytes(32).toString('base64')}`
  socket.send(text, 8008, to, err => {
    // A full buffer is waited out.
    if (err) setTimeout(send, 5, number)
    else send(number + 1)
  })
}

socket.bind(0, () => {
  socket.setBroadcast(true)
  send(0)
})
process.stdin.on('end', () => process.exit()).resume()
