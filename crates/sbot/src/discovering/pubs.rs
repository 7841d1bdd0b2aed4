//! Pubs that feeds tell of: reads the log for [`sbot_discovery::pubs`], and passes on what that chooses.

use std::sync::Arc;
use std::time::Duration;

use sbot_discovery::Spotter;
use sbot_discovery::pubs::{Pubs, Told};
use sbot_feed::{FeedId, content_of};
use sbot_store::{Record, Store, StoreError};

use crate::social::{Hops, Social};

/// Messages read at a time.
const CHUNK: usize = 1024;

/// Shortest time from one choice to the next: while much comes in, most of it changes nothing.
const PAUSE: Duration = Duration::from_secs(2);

/// Tells of the pubs that people within `limit` hops tell of, now and as it changes, until nobody takes sightings any more.
pub(super) async fn follow(store: Store, social: Arc<Social>, own: FeedId, limit: u8, spotter: Spotter) {
    let (mut length, mut hops) = (store.watch(), social.watch());
    let mut pubs = Pubs::default();
    let mut read = 0;
    loop {
        length.borrow_and_update();
        let now = Arc::clone(&hops.borrow_and_update());
        if let Err(error) = hear(&store, &mut read, &mut pubs, |author| is_near(&now, author, limit)).await {
            tracing::error!(%error, "the pubs that feeds tell of can't be read");
        }
        let is_wanted = |peer: &FeedId| *peer != own && now.get(peer).is_none_or(|hops| *hops >= 0);
        let changed = pubs.choose(|author| is_near(&now, author, limit), is_wanted);
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

/// Whether `author` is at most `limit` hops away, and not blocked.
fn is_near(hops: &Hops, author: &FeedId, limit: u8) -> bool {
    hops.get(author).is_some_and(|hops| (0..=i32::from(limit)).contains(hops))
}

/// Reads the messages of type `pub` with numbers from `read` on, a chunk at a time and off the async threads.
async fn hear(
    store: &Store,
    read: &mut u32,
    pubs: &mut Pubs,
    is_near: impl Fn(&FeedId) -> bool,
) -> Result<(), StoreError> {
    loop {
        let (from, store) = (*read, store.clone());
        // That the task was broken off means the end of the runtime.
        let Ok(chunk) = tokio::task::spawn_blocking(move || next_chunk(&store, from)).await else { return Ok(()) };
        let (told, next) = chunk?;
        told.into_iter().for_each(|told| pubs.heard(told, &is_near));
        match next {
            Some(next) => *read = next,
            None => return Ok(()),
        }
    }
}

/// What the next messages of type `pub` tell, from record `from` on, and where to go on if there were any. Blocks.
fn next_chunk(store: &Store, from: u32) -> Result<(Vec<Told>, Option<u32>), StoreError> {
    let numbers = store.by_type("pub");
    let new = &numbers[numbers.partition_point(|number| *number < from)..];
    let new = &new[..new.len().min(CHUNK)];
    let told = store.records(new)?.iter().filter_map(told).collect();
    Ok((told, new.last().map(|last| last + 1)))
}

fn told(record: &Record) -> Option<Told> {
    Told::read(record.author, record.resolved_time(), content_of(&record.value))
}
