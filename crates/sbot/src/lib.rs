//! A Secure Scuttlebutt peer: node, RPC API, daemon and command line

pub mod api;
pub mod cli;
pub mod config;
mod content;
pub mod private;
pub mod publish;
mod records;
pub mod social;
mod state;

pub use config::Config;
