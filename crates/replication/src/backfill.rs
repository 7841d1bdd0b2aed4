//! Replication with a peer that only knows `createHistoryStream`: [`crate::history`] says what to ask for, this asks.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use sbot_feed::FeedId;
use sbot_rpc::{Body, Peer};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::{AbortHandle, Id, JoinSet};

use crate::ebt::{Event, Item, Outcome, read_item};
use crate::history::{Ask, End, Plan};
use crate::link::{BATCH, BATCH_BYTES, outcome};
use crate::replicator::Replicator;

/// `createHistoryStream`'s argument, as ssb-replicate sends it.
#[derive(Serialize)]
struct Options {
    id: FeedId,
    seq: u64,
    live: bool,
    keys: bool,
}

/// Items of one stream that may be something else than the feed's messages, before it is given up.
const MAX_STRANGE: usize = 64;

/// The feeds whose streams are open, by their tasks.
#[derive(Default)]
struct Open {
    tasks: JoinSet<End>,
    feeds: HashMap<Id, FeedId>,
    handles: HashMap<FeedId, AbortHandle>,
}

impl Replicator {
    /// Fetches all wanted feeds from a peer, and what is appended to them, until this is dropped.
    pub(crate) async fn backfill(&self, id: FeedId, peer: &Peer) {
        tracing::debug!(peer = %id, "replicating by createHistoryStream");
        let mut changes = self.wanted_changes();
        let mut plan = Plan::new();
        // our own first: nothing may be signed before it is complete
        plan.want(self.0.own);
        self.wanted().into_iter().for_each(|feed| plan.want(feed));
        let mut open = Open::default();
        loop {
            while let Some(ask) = plan.next(self.0.now()) {
                let (replicator, peer) = (self.clone(), peer.clone());
                let handle = open.tasks.spawn(async move { replicator.fetch(id, &peer, ask).await });
                open.feeds.insert(handle.id(), ask.feed);
                open.handles.insert(ask.feed, handle);
            }
            let wait = plan.wake_at().map(|time| Duration::from_millis(time.saturating_sub(self.0.now())));
            tokio::select! {
                Some(ended) = open.tasks.join_next_with_id() => {
                    let (task, how) = ended.unwrap_or_else(|error| (error.id(), End::Broken));
                    if let Some(feed) = open.feeds.remove(&task) {
                        open.handles.remove(&feed);
                        plan.ended(&feed, how, self.0.now());
                    }
                }
                change = changes.recv() => match change {
                    Ok((feed, true)) => plan.want(feed),
                    Ok((feed, false)) => {
                        if plan.unwant(&feed) && let Some(handle) = open.handles.get(&feed) {
                            handle.abort();
                        }
                    }
                    // those that ceased to be wanted meanwhile go on until the connection ends
                    Err(RecvError::Lagged(_)) => self.wanted().into_iter().for_each(|feed| plan.want(feed)),
                    Err(RecvError::Closed) => return,
                },
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    /// Reads one stream into the store.
    async fn fetch(&self, id: FeedId, peer: &Peer, ask: Ask) -> End {
        let seq = self.0.store.tip(&ask.feed).map_or(0, |tip| tip.sequence) + 1;
        let options = [Options { id: ask.feed, seq, live: ask.live, keys: false }];
        let mut source = match peer.source("createHistoryStream", &options).await {
            Ok(source) => source,
            Err(error) => {
                tracing::debug!(peer = %id, feed = %ask.feed, %error, "createHistoryStream can't be called");
                return End::Broken;
            }
        };
        let (mut items, mut strange) = (Vec::new(), 0);
        loop {
            match source.recv_many(&mut items).await {
                Ok(0) => return End::Well,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(peer = %id, feed = %ask.feed, %error, "a history stream failed");
                    return End::Broken;
                }
            }
            let (mut batch, mut size) = (Vec::new(), 0);
            for body in items.drain(..) {
                match message_of(&ask.feed, body) {
                    Some((sequence, json)) => {
                        size += json.len();
                        batch.push((sequence, json));
                    }
                    None => strange += 1,
                }
                if batch.len() >= BATCH || size >= BATCH_BYTES {
                    size = 0;
                    if let Some(end) = self.store(id, &ask.feed, &mut batch).await {
                        return end;
                    }
                }
            }
            if strange > MAX_STRANGE {
                return End::Bad;
            }
            if let Some(end) = self.store(id, &ask.feed, &mut batch).await {
                return end;
            }
        }
    }

    /// Hands a batch to the store; answers how the stream is to end, if it is.
    async fn store(&self, peer: FeedId, feed: &FeedId, batch: &mut Vec<(u64, Bytes)>) -> Option<End> {
        if batch.is_empty() {
            return None;
        }
        let (sequences, batch): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let done = self.0.store.ingest(batch).await;
        let (mut have, mut event, mut end) = (0, None, None);
        for (sequence, ingested) in sequences.into_iter().zip(done) {
            match outcome(ingested) {
                Ok(Outcome::Stored | Outcome::Duplicate) => have = have.max(sequence),
                // the peer left some out, or they weren't stored
                Ok(Outcome::Gap { .. }) => end = Some(End::Broken),
                Ok(Outcome::Fork) => event = event.or(Some(Event::Forked { feed: *feed, peer, sequence })),
                Ok(Outcome::Invalid { error }) => {
                    event = event.or(Some(Event::Invalid { feed: *feed, peer, sequence, error }));
                }
                Err(error) => {
                    tracing::error!(%peer, %feed, error, "messages can't be stored");
                    end = Some(End::Broken);
                }
            }
        }
        self.0.with(|core, now| {
            core.ebt.appended(feed, have, now);
            core.ebt.spread(now);
        });
        if let Some(event) = event {
            self.0.tell(event);
            end = Some(End::Bad);
        }
        end
    }
}

/// A message of this feed, with its claimed sequence.
fn message_of(feed: &FeedId, body: Body) -> Option<(u64, Bytes)> {
    let Body::Json(json) = body else { return None };
    match read_item(&json) {
        Item::Message { author, sequence } if author == *feed => Some((sequence, json)),
        _ => None,
    }
}
