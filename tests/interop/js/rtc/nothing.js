// Modules of node that a page has no use for.
module.exports = {}
