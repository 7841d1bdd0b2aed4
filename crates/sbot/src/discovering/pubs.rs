//! Pubs that feeds tell of: reads the log for [`sbot_discovery::pubs`], and passes on what that chooses.

use std::sync::Arc;
use std::time::Duration;

use sbot_discovery::pubs::{Pubs, Told};
use sbot_discovery::{News, Spotter};
use sbot_feed::{FeedId, content_of};
use sbot_store::{Record, Store, StoreError};

use crate::social::{Hops, Social};

/// Messages that are in memory at once.
const CHUNK: usize = 1024;

/// Shortest time from one choice to the next: while much comes in, most of it changes nothing.
const PAUSE: Duration = Duration::from_secs(2);

/// Tells of the pubs that people within `limit` hops tell of, now and as it changes, until nobody takes sightings any more.
pub(super) async fn follow(store: Store, social: Arc<Social>, own: FeedId, limit: u8, spotter: Spotter) {
    let (mut length, mut hops) = (store.watch(), social.watch());
    let mut reader = Reader { store, own, limit, pubs: Pubs::default(), next: 0 };
    loop {
        length.borrow_and_update();
        let now = Arc::clone(&hops.borrow_and_update());
        let looked = tokio::task::spawn_blocking(move || {
            let changed = reader.look(&now);
            (reader, changed)
        });
        // That it was broken off means the end of the runtime.
        let Ok((back, changed)) = looked.await else { return };
        reader = back;
        if spotter.pass_on(changed).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
        let changed = tokio::select! {
            changed = length.changed() => changed,
            changed = hops.changed() => changed,
        };
        if changed.is_err() || spotter.is_ended() {
            return;
        }
    }
}

/// What was read, and how far.
struct Reader {
    store: Store,
    own: FeedId,
    limit: u8,
    pubs: Pubs,
    /// The first record that wasn't looked at.
    next: u32,
}

impl Reader {
    /// Reads what is new and chooses anew; answers what has changed. Blocks.
    fn look(&mut self, hops: &Hops) -> Vec<News> {
        let limit = i32::from(self.limit);
        let is_near = |author: &FeedId| hops.get(author).is_some_and(|hops| (0..=limit).contains(hops));
        if let Err(error) = self.read(is_near) {
            tracing::error!(%error, "the pubs that feeds tell of can't be read");
        }
        // We and those that we block are no pubs of ours.
        let is_wanted = |peer: &FeedId| *peer != self.own && hops.get(peer).is_none_or(|hops| *hops >= 0);
        self.pubs.choose(is_near, is_wanted)
    }

    fn read(&mut self, is_near: impl Fn(&FeedId) -> bool) -> Result<(), StoreError> {
        let numbers = self.store.by_type("pub");
        let new = &numbers[numbers.partition_point(|number| *number < self.next)..];
        for chunk in new.chunks(CHUNK) {
            for told in self.store.records(chunk)?.iter().filter_map(told) {
                self.pubs.heard(told, &is_near);
            }
            self.next = chunk.last().map_or(self.next, |last| last + 1);
        }
        Ok(())
    }
}

fn told(record: &Record) -> Option<Told> {
    Told::read(record.author, record.resolved_time(), content_of(&record.value))
}
