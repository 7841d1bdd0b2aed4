//! A Secure Scuttlebutt peer: node, RPC API, daemon and command line.
//!
//! The program is [`cli::main`]. A program with a node in it builds a [`Config`] and calls [`Node::start`].

pub mod api;
mod blobbing;
pub mod cli;
pub mod config;
mod content;
mod discovering;
pub mod gate;
mod heartbeat;
mod hubs;
mod interfaces;
mod inviting;
mod listening;
pub mod memory;
pub mod node;
mod opening;
mod peers;
pub mod private;
pub mod publish;
mod replicating;
pub mod social;
mod state;
mod time;
mod watching;

pub use config::Config;
pub use node::{Environment, Node, StartError};
pub use time::{Uptime, system_uptime};
