#!/usr/bin/env node
// An SSB peer over WebRTC, by simple-peer, in a page of headless Chromium. It has a feed of its own and serves nothing else.
//
//   --dir DIR         for the browser's own files
//   --port PORT       not used
//   --network KEY     network key, base64
//   --hub URL         signalling hub
//   --ice JSON        RTCConfiguration
//   --chromium FILE   the browser
//   --names yes       hosts' addresses are hidden behind names of multicast DNS, as they are for people
//
// What it can be told: the commands of rtc/peer.js.
const http = require('http')
const fs = require('fs')
const path = require('path')
const { option, loader, serve, promise } = require('./common')
const { options, ready } = require('./rtc/options')
const load = loader('rtc')
// Whatever becomes of this process, they are gone with the directory.
process.env.TMPDIR = option('dir')
const { chromium } = load('playwright-core')

const here = path.join(__dirname, 'rtc')

// the page's script with all its modules, and what of node they need
const bundle = async () => {
  const { outputFiles } = await load('esbuild').build({
    entryPoints: [path.join(here, 'page.js')],
    bundle: true,
    write: false,
    platform: 'browser',
    logLevel: 'error',
    define: { global: 'window', 'process.env.NODE_ENV': '"production"' },
    inject: [path.join(here, 'node.js')],
    alias: {
      stream: path.join(here, 'node_modules/stream-browserify'),
      // loaded, and not used there
      ...Object.fromEntries(['fs', 'os', 'path', 'querystring'].map(name => [name, path.join(here, 'nothing.js')]))
    }
  })
  return outputFiles[0].text
}

const files = async () => ({
  '/': ['text/html', fs.readFileSync(path.join(here, 'page.html'))],
  '/page.js': ['text/javascript', await bundle()]
})

const main = async () => {
  const served = await files()
  const server = http.createServer(({ url }, response) => {
    const [type, body] = served[url] || ['text/plain', '']
    response.writeHead(served[url] ? 200 : 404, { 'content-type': type })
    response.end(body)
  })
  await promise(cb => server.listen(0, '127.0.0.1', cb))
  const browser = await chromium.launch({
    executablePath: option('chromium', '/usr/bin/chromium'),
    chromiumSandbox: false,
    args: [
      '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
      '--disable-sync',
      // Hosts without any other network have loopback.
      '--allow-loopback-in-peer-connection'
    ].concat(option('names') === 'yes' ? [] : ['--disable-features=WebRtcHideLocalIpsWithMdns'])
  })
  const page = await browser.newPage()
  page.on('console', message => console.error('page:', message.text()))
  page.on('pageerror', err => console.error('page:', err))
  await page.goto(`http://127.0.0.1:${server.address().port}/`)
  const run = command => page.evaluate(command => window.run(command), command)
  const commands = new Proxy({}, { get: () => run })
  serve(commands, async () => {
    await page.evaluate(() => window.leave())
    await browser.close()
  })
  ready(await page.evaluate(options => window.start(options), options))
}
main().catch(err => {
  console.error('failed:', err)
  process.exit(1)
})
