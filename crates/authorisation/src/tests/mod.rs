//! What each role may, and what holds whatever the facts are.

mod budgets;
mod cells;
mod config;
mod properties;

use sbot_feed::FeedId;

use crate::{Asker, Came, Policy, Preset};

/// How far friends reach here.
const REACH: u8 = 3;

/// Blobs beyond so many bytes are large.
const LARGE: u64 = 5 << 20;

fn policy(preset: Preset) -> Policy {
    Policy::new(preset, REACH, LARGE)
}

fn peer() -> Asker {
    Asker { came: Came::Tcp, ..Asker::stranger(FeedId([7; 32])) }
}
