//! A Secure Scuttlebutt peer: node, RPC API, daemon and command line
