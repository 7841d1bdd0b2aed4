//! Feeds whose author has signed two messages with one sequence number.
//!
//! Kept in a file beside the log, one JSON object a line, since the branch that was refused is nowhere else.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use sbot_feed::{FeedId, MsgId};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;

/// Most forks that are remembered. Each costs its author a signature and us a line.
const MAX_FORKS: usize = 10_000;

/// One forked feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The feed.
    pub author: FeedId,
    /// Of the message that doesn't fit.
    pub sequence: u64,
    /// The message that was refused, signed by the author all the same.
    pub refused: MsgId,
}

pub(crate) struct Forks {
    path: PathBuf,
    list: Vec<Fork>,
}

impl Forks {
    pub(crate) fn load(path: &Path) -> Forks {
        let text = fs::read_to_string(path).unwrap_or_default();
        let list = text.lines().take(MAX_FORKS).filter_map(|line| serde_json::from_str(line).ok()).collect();
        Forks { path: path.to_owned(), list }
    }

    pub(crate) fn list(&self) -> &[Fork] {
        &self.list
    }

    /// Remembers a fork; the first of a feed is enough. True if it is news.
    pub(crate) fn add(&mut self, fork: Fork) -> Result<bool, StoreError> {
        if self.list.len() >= MAX_FORKS || self.list.iter().any(|known| known.author == fork.author) {
            return Ok(false);
        }
        let mut line = serde_json::to_vec(&fork).unwrap_or_default();
        line.push(b'\n');
        let file = fs::OpenOptions::new().append(true).create(true).open(&self.path);
        file.and_then(|mut file| file.write_all(&line))
            .map_err(|error| StoreError::io("can't write", &self.path, error))?;
        self.list.push(fork);
        Ok(true)
    }
}
