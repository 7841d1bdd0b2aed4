//! What is fetched from whom: one transfer a blob, few at a time, and from another peer when one goes away.

use std::collections::{BTreeMap, BTreeSet};

use sbot_feed::{BlobId, FeedId};

use crate::effect::{Effect, Ended};
use crate::exchange::Exchange;
use crate::link::Link;
use crate::settings::{DISK_PAUSE, MAX_FETCHES, MAX_FETCHES_FROM_PEER, MAX_PARTIALS, PARTIAL_AGE};
use crate::want::Partial;

/// A transfer under way.
#[derive(Debug, Clone, Copy)]
struct Fetch {
    peer: FeedId,
    /// The connection's number.
    link: u64,
    /// Who sent what was there before; `None` if several did.
    source: Option<FeedId>,
    /// Whether it was told to stop.
    stopped: bool,
}

/// Transfers, and the bytes of those that were broken off.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    under_way: BTreeMap<BlobId, Fetch>,
    partials: BTreeMap<BlobId, Partial>,
    /// Peers that may have something to fetch.
    to_look_at: BTreeSet<FeedId>,
    /// Who was looked at last: the next one comes first, so that nobody is forgotten while all places are taken.
    last: Option<FeedId>,
    /// Nothing is fetched before, in ms: the disk takes nothing.
    not_before: u64,
}

impl Fetches {
    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }

    pub(crate) fn look_at(&mut self, peer: FeedId) {
        self.to_look_at.insert(peer);
    }

    pub(crate) fn look_at_all(&mut self, links: &BTreeMap<FeedId, Link>) {
        self.to_look_at.extend(links.iter().filter(|(_, link)| link.has_ready()).map(|(peer, _)| *peer));
    }

    fn next_to_look_at(&mut self) -> Option<FeedId> {
        let after = self.last.and_then(|last| self.to_look_at.range(last..).find(|peer| **peer != last));
        let peer = *after.or_else(|| self.to_look_at.first())?;
        self.last = Some(peer);
        Some(peer)
    }
}

impl Exchange {
    /// Begins as many transfers as may be under way.
    pub(crate) fn fetch_more(&mut self, now: u64) {
        if now < self.fetches.not_before {
            return;
        }
        while self.fetches.under_way.len() < MAX_FETCHES {
            let Some(peer) = self.fetches.next_to_look_at() else { return };
            let begun = self.links.get(&peer).is_some_and(|link| link.fetching < MAX_FETCHES_FROM_PEER)
                && self.fetch_one(&peer);
            if !begun {
                self.fetches.to_look_at.remove(&peer);
            }
        }
    }

    /// Begins one transfer from a peer. False if there is nothing to fetch from it.
    fn fetch_one(&mut self, peer: &FeedId) -> bool {
        let Some(link) = self.links.get_mut(peer) else { return false };
        while let Some(blob) = link.next_ready() {
            let Some(want) = self.wants.get(&blob).filter(|_| !self.fetches.under_way.contains_key(&blob)) else {
                continue;
            };
            let limit = want.limit(self.settings.max);
            let Some(size) = link.size_of(&blob) else { continue };
            let partial = self.fetches.partials.remove(&blob);
            if partial.is_some() && want.whole {
                self.effects.push(Effect::Discard(blob));
            }
            let partial = partial.filter(|_| !want.whole);
            let source = match partial {
                Some(Partial { source, .. }) if source != Some(*peer) => None,
                _ => Some(*peer),
            };
            link.fetching += 1;
            let fetch = Fetch { peer: *peer, link: link.number, source, stopped: false };
            self.fetches.under_way.insert(blob, fetch);
            let limit = size.unwrap_or(u64::MAX).min(limit);
            let from = partial.map_or(0, |partial| partial.bytes);
            self.effects.push(Effect::Fetch { blob, peer: *peer, from, limit });
            return true;
        }
        false
    }

    /// A transfer has ended. [`Ended::Here`] tells everyone as [`Exchange::added`] does.
    pub fn fetched(&mut self, blob: &BlobId, ended: Ended, now: u64) -> Vec<Effect> {
        let Some(fetch) = self.fetches.under_way.remove(blob) else { return Vec::new() };
        let here = self.links.get_mut(&fetch.peer).filter(|link| link.number == fetch.link);
        let is_wanted = self.wants.contains_key(blob);
        if let Some(link) = here {
            link.fetching = link.fetching.saturating_sub(1);
            match ended {
                Ended::Absent | Ended::Broken(_) if is_wanted && !fetch.stopped => link.retry_later(*blob, now),
                Ended::Wrong if fetch.source.is_some() => link.mark_bad(*blob),
                _ => {}
            }
        }
        match ended {
            Ended::Here(size) => self.has_come(blob, size),
            Ended::Broken(bytes) => self.keep_partial(*blob, bytes, fetch, now),
            Ended::Wrong => {
                if let Some(want) = self.wants.get_mut(blob).filter(|_| fetch.source.is_none()) {
                    want.whole = true;
                }
            }
            Ended::Unstored => self.fetches.not_before = now.saturating_add(DISK_PAUSE),
            Ended::Absent => {}
        }
        self.offer(blob);
        self.fetches.look_at_all(&self.links);
        self.fetch_more(now);
        std::mem::take(&mut self.effects)
    }

    fn keep_partial(&mut self, blob: BlobId, bytes: u64, fetch: Fetch, now: u64) {
        let kept = self.wants.get(&blob).is_some_and(|want| !want.whole);
        if bytes == 0 || !kept || self.fetches.partials.len() >= MAX_PARTIALS {
            self.effects.push(Effect::Discard(blob));
            return;
        }
        self.fetches.partials.insert(blob, Partial { bytes, since: now, source: fetch.source });
    }

    /// Puts a blob that is still wanted into the queues of all peers that have it.
    fn offer(&mut self, blob: &BlobId) {
        let Some(own) = self.wants.get(blob).map(|want| want.own.is_some()) else { return };
        for link in self.links.values_mut() {
            if link.size_of(blob).is_some() {
                link.enqueue(*blob, own);
            }
        }
    }

    /// A blob needn't be fetched any more.
    pub(crate) fn abandon_fetch(&mut self, blob: &BlobId) {
        if let Some(fetch) = self.fetches.under_way.get_mut(blob).filter(|fetch| !fetch.stopped) {
            fetch.stopped = true;
            self.effects.push(Effect::Stop(*blob));
        }
        if self.fetches.partials.remove(blob).is_some() {
            self.effects.push(Effect::Discard(*blob));
        }
    }

    pub(crate) fn forget_old_partials(&mut self, now: u64) {
        let old = |partial: &Partial| now.saturating_sub(partial.since) > PARTIAL_AGE;
        let forgotten = self.fetches.partials.extract_if(.., |_, partial| old(partial));
        self.effects.extend(forgotten.map(|(blob, _)| Effect::Discard(blob)));
        self.fetches.look_at_all(&self.links);
    }
}
