//! One blob that is looked for.

use std::collections::BTreeMap;

use sbot_feed::FeedId;

/// The distance of our own wants, as told to peers.
pub(crate) const OWN: u32 = 1;

/// A blob that is looked for, by us or by connected peers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Want {
    /// When we last asked for it, in ms; `None` if only peers want it.
    pub(crate) own: Option<u64>,
    /// Most bytes that we take it with, if that is less than usual.
    pub(crate) own_limit: Option<u64>,
    /// Peers that want it, and the distance that they told.
    pub(crate) askers: BTreeMap<FeedId, u32>,
    /// When the first of them asked, in ms.
    pub(crate) asked: u64,
    /// Bytes that came from several peers were wrong: from now on each transfer begins anew, so that it shows who lies.
    pub(crate) whole: bool,
}

impl Want {
    /// Most bytes that the blob may have to be fetched, given the most that any may have.
    pub(crate) fn limit(&self, max: u64) -> u64 {
        self.own_limit.filter(|_| self.askers.is_empty()).map_or(max, |limit| limit.min(max))
    }

    /// As peers are told. Nobody wants it if there is none.
    pub(crate) fn distance(&self) -> Option<u32> {
        if self.own.is_some() {
            return Some(OWN);
        }
        self.askers.values().min().map(|nearest| nearest.saturating_add(1))
    }
}

/// The bytes of a broken-off transfer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Partial {
    /// How many.
    pub(crate) bytes: u64,
    /// Since when, in ms.
    pub(crate) since: u64,
    /// From whom; `None` if from several.
    pub(crate) source: Option<FeedId>,
}
