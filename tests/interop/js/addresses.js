#!/usr/bin/env node
// What ssb-ref makes of the `address` of pub messages. Reads one JSON value a line; prints for each, as JSON: the
// multiserver address that ssb-conn would stage, or null where `isAddress` says no or `toMultiServerAddress` throws.
const readline = require('readline')
const { loader } = require('./common')
const ref = loader('db2')('ssb-ref')

readline.createInterface({ input: process.stdin }).on('line', line => {
  const address = JSON.parse(line)
  let staged = null
  try {
    if (ref.isAddress(address)) staged = ref.toMultiServerAddress(address)
  } catch (err) {}
  process.stdout.write(JSON.stringify(typeof staged === 'string' ? staged : null) + '\n')
})
