//! Which stored blobs can go: those that no message mentions, that are too old, or for which there is no room.

use std::collections::BTreeMap;

use sbot_feed::{BlobId, FeedId};

/// A stored blob, and what speaks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its id.
    pub id: BlobId,
    /// Bytes.
    pub size: u64,
    /// When it came or was last read, in ms.
    pub used: u64,
    /// Whose message in the log mentions it, the first one's if several do.
    pub author: Option<FeedId>,
    /// Our own, pinned, or still needed: it stays.
    pub kept: bool,
}

/// How much may be kept. Where there is no limit, everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Bytes of all blobs together.
    pub total: Option<u64>,
    /// Bytes of the blobs that one author's messages mention.
    pub per_author: Option<u64>,
    /// How long a blob stays that nobody reads, in ms.
    pub max_age: Option<u64>,
    /// How long a blob stays that no message mentions, in ms: its message may come later than the blob.
    pub grace: u64,
}

/// Why a blob can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No message in the log mentions it.
    Unmentioned,
    /// Nobody has read it for too long.
    Old,
    /// The messages of this author mention too much.
    AuthorQuota(FeedId),
    /// All blobs together take too much.
    Quota,
}

/// The blobs that can go, each with why: of those over a quota the ones that were used least recently.
#[must_use]
pub fn garbage(mut blobs: Vec<Stored>, quotas: &Quotas, now: u64) -> Vec<(Stored, Reason)> {
    // of two used at the same time the larger one first; ids make the order the same each time
    blobs.sort_by_key(|blob| (blob.used, u64::MAX - blob.size, blob.id));
    let mut total: u64 = blobs.iter().fold(0, |sum, blob| sum.saturating_add(blob.size));
    let mut authors: BTreeMap<FeedId, u64> = BTreeMap::new();
    for blob in blobs.iter().filter(|blob| !blob.kept) {
        if let Some(author) = blob.author {
            let sum = authors.entry(author).or_default();
            *sum = sum.saturating_add(blob.size);
        }
    }
    let mut rest = Vec::new();
    let mut gone = Vec::new();
    for blob in blobs.into_iter().filter(|blob| !blob.kept) {
        let age = now.saturating_sub(blob.used);
        let over =
            |author: &FeedId| quotas.per_author.is_some_and(|most| authors.get(author).is_some_and(|sum| *sum > most));
        let reason = match blob.author {
            None if age > quotas.grace => Some(Reason::Unmentioned),
            _ if quotas.max_age.is_some_and(|most| age > most) => Some(Reason::Old),
            Some(author) if over(&author) => Some(Reason::AuthorQuota(author)),
            _ => None,
        };
        let Some(reason) = reason else {
            rest.push(blob);
            continue;
        };
        if let Some(sum) = blob.author.and_then(|author| authors.get_mut(&author)) {
            *sum -= blob.size.min(*sum);
        }
        total -= blob.size.min(total);
        gone.push((blob, reason));
    }
    for blob in rest {
        if quotas.total.is_none_or(|most| total <= most) {
            break;
        }
        total -= blob.size.min(total);
        gone.push((blob, Reason::Quota));
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_000_000;

    fn stored(n: u8, size: u64, used: u64, author: Option<u8>) -> Stored {
        Stored { id: BlobId([n; 32]), size, used, author: author.map(|n| FeedId([n; 32])), kept: false }
    }

    fn gone(blobs: &[Stored], quotas: Quotas) -> Vec<(u8, Reason)> {
        garbage(blobs.to_vec(), &quotas, NOW).iter().map(|(blob, why)| (blob.id.as_bytes()[0], *why)).collect()
    }

    #[test]
    fn what_no_message_mentions_goes_when_its_grace_is_over() {
        let blobs = [stored(1, 9, NOW - 101, None), stored(2, 9, NOW - 100, None), stored(3, 9, 0, Some(1))];
        assert_eq!(gone(&blobs, Quotas { grace: 100, ..Quotas::default() }), [(1, Reason::Unmentioned)]);
    }

    #[test]
    fn over_a_quota_the_least_recently_used_go_first_and_no_more_than_needed() {
        let blobs = [stored(1, 10, 30, Some(1)), stored(2, 10, 10, Some(1)), stored(3, 10, 20, Some(2))];
        let quotas = Quotas { total: Some(15), grace: NOW, ..Quotas::default() };
        assert_eq!(gone(&blobs, quotas), [(2, Reason::Quota), (3, Reason::Quota)]);
        let quotas = Quotas { per_author: Some(10), grace: NOW, ..Quotas::default() };
        assert_eq!(gone(&blobs, quotas), [(2, Reason::AuthorQuota(FeedId([1; 32])))]);
        let quotas = Quotas { max_age: Some(NOW - 25), grace: NOW, ..Quotas::default() };
        assert_eq!(gone(&blobs, quotas), [(2, Reason::Old), (3, Reason::Old)]);
    }

    proptest! {
        #[test]
        fn what_is_kept_never_goes_and_without_quotas_nothing_that_is_mentioned(
            blobs in proptest::collection::vec((any::<u8>(), 0..100u64, 0..NOW, proptest::option::of(0..3u8), any::<bool>()), 0..40),
            total in proptest::option::of(0..2000u64),
        ) {
            let blobs: Vec<Stored> = blobs.into_iter()
                .map(|(n, size, used, author, kept)| Stored { kept, ..stored(n, size, used, author) }).collect();
            let all: u64 = blobs.iter().map(|blob| blob.size).sum();
            let kept: u64 = blobs.iter().filter(|blob| blob.kept).map(|blob| blob.size).sum();
            let quotas = Quotas { total, grace: NOW, ..Quotas::default() };
            let gone = garbage(blobs, &quotas, NOW);
            prop_assert!(gone.iter().all(|(blob, _)| !blob.kept));
            let left = all - gone.iter().map(|(blob, _)| blob.size).sum::<u64>();
            prop_assert!(total.is_none_or(|total| left <= total.max(kept)));
            prop_assert!(total.is_some() || gone.is_empty());
        }
    }
}
