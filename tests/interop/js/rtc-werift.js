#!/usr/bin/env node
// An SSB peer over WebRTC, by werift. It has a feed of its own and serves nothing else.
//
//   --dir DIR       not used
//   --port PORT     not used
//   --network KEY   network key, base64
//   --hub URL       signalling hub
//   --ice JSON      RTCConfiguration
//
// What it can be told: the commands of rtc/peer.js.
const crypto = require('crypto')
const { serve } = require('./common')
const { options, ready } = require('./rtc/options')
const Link = require('./rtc/werift')
const peer = require('./rtc/peer')({ ...options, Link, random: crypto.randomBytes })

serve(peer.commands, peer.leave)
peer.joined.then(() => ready(peer.id))
