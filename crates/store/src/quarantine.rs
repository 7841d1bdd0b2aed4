//! What becomes of bytes in the log that are no whole record.
//!
//! In the middle of the log they stay where they are and are told of ([`Damage`]). At its end they are the rest of a write
//! that a crash cut short: they are cut off, but not before a copy was put aside, since a damaged last record looks the
//! same.

use std::fs;
use std::path::Path;

use sbot_feed::FeedId;

use crate::error::StoreError;
use crate::log::{Log, SEGMENT, Stretch};

/// Most stretches that are remembered one by one.
pub(crate) const MAX_DAMAGE: usize = 1000;

/// Most bytes of a cut end that are kept.
const MAX_KEPT: u64 = 4 << 20;

/// Most copies of cut ends: the oldest goes first.
const MAX_COPIES: usize = 8;

const COPY: &str = "cut-";

/// A stretch of the log that can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    pub(crate) place: u64,
    /// Its length in bytes.
    pub length: u64,
    /// The message that lay there, if that can be told.
    pub message: Option<(FeedId, u64)>,
}

impl Damage {
    /// The segment's number, as in the name of its file.
    pub fn segment(&self) -> u64 {
        self.place / SEGMENT
    }

    /// Where it begins in the segment's file.
    pub fn offset(&self) -> u64 {
        self.place % SEGMENT
    }
}

/// Cuts the log's torn end; a copy of it is kept beside the log.
pub(crate) fn cut(dir: &Path, log: &Log, stretch: Stretch) -> Result<(), StoreError> {
    let (segment, offset) = (stretch.from / SEGMENT, stretch.from % SEGMENT);
    let bytes = log.read(stretch.from, stretch.to.min(stretch.from + MAX_KEPT))?;
    let copy = dir.join(format!("{COPY}{segment:05}-{offset:08}"));
    tracing::warn!(
        segment,
        offset,
        bytes = stretch.to - stretch.from,
        copy = %copy.display(),
        "the log's last write was cut short: its end is no whole record and is removed"
    );
    if bytes.iter().any(|byte| *byte != 0) {
        make_room(dir);
        // On a full disk there is no copy: the start matters more.
        if let Err(error) = fs::write(&copy, &bytes) {
            tracing::warn!(%error, copy = %copy.display(), "can't keep a copy of the log's torn end");
        }
    }
    log.cut(stretch.from)
}

fn make_room(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut copies: Vec<_> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(COPY)))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    copies.sort();
    let surplus = (copies.len() + 1).saturating_sub(MAX_COPIES);
    for (_, path) in copies.into_iter().take(surplus) {
        // One too many is no harm.
        let _ = fs::remove_file(path);
    }
}
