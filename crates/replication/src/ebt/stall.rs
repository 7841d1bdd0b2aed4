//! Sources that don't deliver.

use super::state::{Ebt, shared};

/// The same source is asked anew after 1, 2, 4, … times the patience, up to 2 to this power.
const MAX_DOUBLINGS: u32 = 6;

impl Ebt {
    /// Time passes: call this about once a second. Feeds whose source has more and doesn't send it go to the next peer
    /// that has more, in turns; if there is none, the same one is asked anew.
    pub fn tick(&mut self, now: u64) {
        for number in 0..self.feeds.len() as u32 {
            let Some(feed) = self.feeds.get(number as usize) else { continue };
            let Some(source) = feed.source.filter(|_| feed.wanted) else { continue };
            let Some(Some(peer)) = self.peers.get(source as usize) else { continue };
            let ahead = peer.rep(number).theirs > feed.have;
            let quiet = now.saturating_sub(peer.moved) >= self.settings.stall
                || now.saturating_sub(feed.moved) >= self.settings.feed_stall;
            if ahead && !quiet {
                continue;
            }
            let count = self.peers.len() as u32;
            let next = (1..count).map(|step| (source + step) % count).find(|slot| {
                self.peers.get(*slot as usize).and_then(Option::as_ref).is_some_and(|peer| {
                    let rep = peer.rep(number);
                    peer.ready && shared(feed, &rep) && rep.theirs > feed.have
                })
            });
            if let Some(next) = next {
                self.give_time(next, now);
                self.set_source(number, Some(next), now);
                continue;
            }
            let patience = self.settings.feed_stall << feed.repeats.min(MAX_DOUBLINGS);
            if ahead && now.saturating_sub(feed.moved) >= patience {
                if let Some(feed) = self.feeds.get_mut(number as usize) {
                    feed.moved = now;
                    feed.repeats += 1;
                }
                self.restart(source, number);
            }
        }
        self.expire_claims(now);
    }
}
