// What node has and a page hasn't, for the modules of page.js.
export { Buffer } from 'buffer'
export const process = {
  browser: true,
  env: {},
  version: '',
  nextTick: (run, ...args) => queueMicrotask(() => run(...args))
}
export const setImmediate = (run, ...args) => setTimeout(run, 0, ...args)
