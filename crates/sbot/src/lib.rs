//! A Secure Scuttlebutt peer: node, RPC API, daemon and command line

pub mod cli;
pub mod config;
mod state;

pub use config::Config;
