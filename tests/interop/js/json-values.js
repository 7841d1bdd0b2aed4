'use strict'
// Prints random JSON texts and what V8 makes of them. No packages needed.
//
//   node json-values.js SEED COUNT
//
// Each line is a JSON array of four strings: a text; JSON.stringify of its value, compact; the same with two spaces; and
// the id that the value has as a message: sha256 over the latin1 view of the third, in base64.

const { createHash } = require('crypto')

let state = Number(process.argv[2]) >>> 0
const count = Number(process.argv[3])

// mulberry32
function random () {
  state = (state + 0x6d2b79f5) >>> 0
  let t = state
  t = Math.imul(t ^ (t >>> 15), t | 1)
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}
const below = n => Math.floor(random() * n)
const pick = array => array[below(array.length)]
const times = (n, make) => Array.from({ length: n }, make)

const hex4 = unit => {
  const digits = unit.toString(16).padStart(4, '0')
  return '\\u' + (random() < 0.5 ? digits : digits.toUpperCase())
}

function character () {
  switch (below(14)) {
    case 0: return pick(['\\"', '\\\\', '\\/', '\\b', '\\f', '\\n', '\\r', '\\t'])
    case 1: return hex4(below(0x20))
    case 2: return hex4(below(0x80))
    case 3: return hex4(below(0x10000))
    case 4: return hex4(0xd800 + below(0x800)) // a surrogate, often a lone one
    case 5: return hex4(0xd800 + below(0x400)) + hex4(0xdc00 + below(0x400))
    case 6: return String.fromCodePoint(0x10000 + below(0x100000))
    case 7: return String.fromCharCode(0x80 + below(0xd780))
    case 8: return pick(['\u2028', '\u2029', '\ufeff', '\ufffd', '\uffff', '\u007f', '\u0080', '\u00ff', '\u0100', '/'])
    default: return pick('abcdefghijklmnopqrstuvwxyz ABC0123456789@%&=+.,:;{}[]')
  }
}

const string = () => '"' + times(below(random() < 0.05 ? 60 : 9), character).join('') + '"'

function key () {
  switch (below(7)) {
    case 0: return `"${below(12)}"`
    case 1: return `"${pick(['0', '00', '01', '-0', '-1', '1.5', '1e3', '4294967294', '4294967295', '4294967296', '9007199254740993', ''])}"`
    case 2: return pick(['"__proto__"', '"constructor"', '"toJSON"', '"length"', '"\\u0061"', '"a"', '"\\u0031"'])
    case 3: return `"${below(2 ** 31) * (1 + below(4))}"`
    default: return string()
  }
}

const digits = n => times(n, () => below(10)).join('')
const integer = n => random() < 0.3 ? '0' : String(1 + below(9)) + digits(below(n))

const bits = Buffer.alloc(8)
function double () {
  for (;;) {
    bits.writeUInt32LE(below(2 ** 32), 0)
    bits.writeUInt32LE(below(2 ** 32), 4)
    const value = bits.readDoubleLE(0)
    if (Number.isFinite(value)) return value
  }
}

function number () {
  const sign = random() < 0.3 ? '-' : ''
  switch (below(10)) {
    case 0: return sign + integer(22)
    case 1: return sign + integer(5) + '.' + digits(1 + below(25))
    case 2: return sign + integer(3) + pick(['e', 'E', 'e+', 'E-', 'e-']) + digits(1 + below(3))
    case 3: return sign + integer(20) + '.' + digits(1 + below(5)) + pick(['e', 'E+', 'e-']) + below(330)
    case 4: return String(double())
    case 5: return double().toExponential(16 + below(10))
    case 6: return double().toPrecision(1 + below(21))
    case 7: return pick(['-0', '0', '-0.0', '1.0', '1e21', '999999999999999999999', '1e-7', '0.000001', '5e-324', '2e-324',
      '1.7976931348623157e308', '1.7976931348623159e308', '1e400', '-1e400', '9007199254740993', '1e23', '123456789012345678'])
    case 8: return sign + digits(1).replace('0', '7') + digits(14 + below(4))
    default: return String(below(2 ** 31))
  }
}

const space = () => random() < 0.8 ? '' : times(1 + below(3), () => pick([' ', '\n', '\t', '\r'])).join('')
const around = text => space() + text + space()

function value (depth) {
  switch (below(depth > 0 ? 9 : 5)) {
    case 0: return pick(['null', 'true', 'false'])
    case 1: case 2: return string()
    case 3: case 4: return number()
    case 5: case 6: return '[' + (times(below(5), () => around(value(depth - 1))).join(',') || space()) + ']'
    default: {
      const own = []
      const entries = times(below(random() < 0.05 ? 30 : 7), () => {
        // now and then a key that was there
        const name = own.length && random() < 0.15 ? pick(own) : key()
        own.push(name)
        return around(name) + ':' + around(value(depth - 1))
      })
      return '{' + (entries.join(',') || space()) + '}'
    }
  }
}

function line () {
  const text = around(value(random() < 0.1 ? 6 : 3))
  const parsed = JSON.parse(text)
  // JSON.stringify asks for a toJSON method; no JSON has one, so the key alone does no harm
  const long = JSON.stringify(parsed, null, 2)
  const id = createHash('sha256').update(Buffer.from(long, 'latin1')).digest('base64')
  return JSON.stringify([text, JSON.stringify(parsed), long, id]) + '\n'
}

let left = count
function write () {
  while (left > 0) {
    const lines = Math.min(left, 1000)
    left -= lines
    if (!process.stdout.write(times(lines, line).join(''))) return process.stdout.once('drain', write)
  }
}
write()
