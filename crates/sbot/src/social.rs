//! Who follows and blocks whom, kept up to date from the contact messages in the log.
//!
//! [`Social::load`] reads all contact messages, [`Social::follow`] keeps up with the log. What changes goes out twice: as
//! [`Social::edges`], one by one, and as [`Social::hops_changes`], which feeds came nearer or went away. Private contact
//! messages that we can read count too, as in ssb-friends; they are looked for when the log has been quiet for a
//! moment, because opening them takes long.
//!
//! Where two messages speak of the same pair the later one in the log counts, whichever is read first.
//!
//! Sources: `ssb-friends/{index,contacts,legacy}.js` 4.1.4, `layered-graph/index.js`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use sbot_feed::FeedId;
use sbot_graph::{Graph, HopsView, Relation, contact_from_content};
use sbot_store::{Direction, Record, Store, StoreError};
use tokio::sync::{broadcast, watch};

use crate::content::{may_be_of_type, raw_content};
use crate::private::Boxes;

/// Changes that a slow reader may be behind before it has to start over.
const BACKLOG: usize = 1024;

/// Records read at a time.
const CHUNK: usize = 2048;

/// How long the log has to be quiet before private contact messages are looked for.
const QUIET: Duration = Duration::from_secs(1);

/// Distances from us: 0 is we, 1 whom we follow, and so on; negative for blocked ones.
pub type Hops = BTreeMap<FeedId, i32>;

/// One change in the graph.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edge {
    /// Who said it.
    pub from: FeedId,
    /// Of whom.
    pub to: FeedId,
    /// What holds from now on.
    pub relation: Relation,
}

/// The social graph as the log tells it.
pub struct Social {
    store: Store,
    boxes: Arc<Boxes>,
    me: FeedId,
    max: i32,
    state: RwLock<State>,
    edges: broadcast::Sender<Edge>,
    changes: broadcast::Sender<Arc<Hops>>,
    hops: watch::Sender<Arc<Hops>>,
    /// Counts up with whatever changes.
    version: watch::Sender<u64>,
}

struct State {
    graph: Graph,
    view: HopsView,
    /// The first record that wasn't looked at.
    next: u64,
    /// How many readable private messages were looked at.
    private: usize,
}

impl Social {
    /// Reads the contact messages that are there. Blocks; call [`Social::follow`] afterwards to keep up with the log.
    ///
    /// `max` is how many hops away feeds still count (`friends.hops`).
    ///
    /// # Errors
    /// What reading the log meets.
    pub fn load(store: Store, boxes: Arc<Boxes>, me: FeedId, max: i32) -> Result<Arc<Self>, StoreError> {
        let end = store.len();
        let mut graph = Graph::new();
        for numbers in store.by_type("contact").chunks(CHUNK) {
            for record in store.records(numbers)? {
                if let Some((_, edge)) = public_contact(&record).filter(|(number, _)| *number < end) {
                    graph.apply(edge.from, edge.to, edge.relation);
                }
            }
        }
        let view = HopsView::new(&graph, me, max);
        let hops: Hops = view.hops(&graph).into_iter().collect();
        Ok(Arc::new(Self {
            store,
            boxes,
            me,
            max,
            state: RwLock::new(State { graph, view, next: end, private: 0 }),
            edges: broadcast::Sender::new(BACKLOG),
            changes: broadcast::Sender::new(BACKLOG),
            hops: watch::Sender::new(Arc::new(hops)),
            version: watch::Sender::new(0),
        }))
    }

    /// Follows the log until the store closes.
    pub async fn follow(self: Arc<Self>) {
        let mut length = self.store.watch();
        let mut seen = None;
        loop {
            let end = *length.borrow_and_update();
            let social = Arc::clone(&self);
            let result = tokio::task::spawn_blocking(move || social.catch_up(end)).await;
            report(result);
            tokio::select! {
                changed = length.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(QUIET), if seen != Some(end) => {
                    let social = Arc::clone(&self);
                    report(tokio::task::spawn_blocking(move || social.catch_up_private()).await);
                    seen = Some(end);
                }
            }
        }
    }

    /// Takes in the public contact messages up to record `end`. Blocks.
    fn catch_up(&self, end: u64) -> Result<(), StoreError> {
        loop {
            let from = self.state.read().next;
            if from >= end {
                return Ok(());
            }
            let records = self.store.read_log(from, CHUNK, Direction::Forward)?;
            let Some(last) = records.last() else { return Ok(()) };
            let news: Vec<_> = records.iter().filter_map(public_contact).map(|(_, edge)| edge).collect();
            self.state.write().next = last.number + 1;
            self.take(news);
        }
    }

    /// Takes in the private contact messages that we can read and haven't looked at. Blocks.
    fn catch_up_private(&self) -> Result<(), StoreError> {
        let readable = self.boxes.readable()?;
        let seen = std::mem::replace(&mut self.state.write().private, readable.len());
        let mut news = Vec::new();
        for message in readable.get(seen..).unwrap_or_default() {
            let number = u64::from(message.number);
            if let Some((to, relation)) = message.contact
                && let Some(record) = self.store.record(number)?
                && !self.said_since(number, &record.author, &to)?
            {
                news.push(Edge { from: record.author, to, relation });
            }
        }
        self.take(news);
        Ok(())
    }

    /// Whether a public message after record `number` speaks of the same pair: it was taken in before the private one,
    /// and counts.
    fn said_since(&self, number: u64, from: &FeedId, to: &FeedId) -> Result<bool, StoreError> {
        let all = self.store.by_type("contact");
        let later = all.partition_point(|other| u64::from(*other) <= number);
        for numbers in all[later..].chunks(CHUNK) {
            let records = self.store.records(numbers)?;
            if records.iter().filter_map(public_contact).any(|(_, edge)| edge.from == *from && edge.to == *to) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take(&self, news: Vec<Edge>) {
        if news.is_empty() {
            return;
        }
        let mut state = self.state.write();
        let State { graph, view, .. } = &mut *state;
        let mut changed = false;
        for edge in news {
            if view.apply(graph, edge.from, edge.to, edge.relation) {
                changed = true;
                // nobody listening is no error
                let _ = self.edges.send(edge);
            }
        }
        let changes = view.refresh(graph);
        if changed {
            self.version.send_modify(|version| *version += 1);
        }
        if changes.is_empty() {
            return;
        }
        // told under the lock, so that everyone hears changes in their order
        self.hops.send_replace(Arc::new(view.hops(graph).into_iter().collect()));
        // we are at 0 always, though the graph comes to know us only with the first edge
        let others = changes.iter().filter(|change| change.feed != self.me);
        let changed: Hops = others.filter_map(|change| Some((change.feed, change.after?))).collect();
        if !changed.is_empty() {
            let _ = self.changes.send(Arc::new(changed));
        }
    }

    /// Distances from us, as far as `friends.hops`.
    #[must_use]
    pub fn hops(&self) -> Arc<Hops> {
        Arc::clone(&self.hops.borrow())
    }

    /// Distances from us, now and whenever they change: what decides about whom to replicate.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Hops>> {
        self.hops.subscribe()
    }

    /// Which distances change, as they do. Feeds that went out of reach are not named, as in `friends.hopStream`.
    #[must_use]
    pub fn hops_changes(&self) -> broadcast::Receiver<Arc<Hops>> {
        self.changes.subscribe()
    }

    /// Marked as changed whenever anything in the graph has changed.
    #[must_use]
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What changes in the graph.
    #[must_use]
    pub fn edges(&self) -> broadcast::Receiver<Edge> {
        self.edges.subscribe()
    }

    /// Distances from any feed, at most `max`; against the direction of following if `reverse`.
    #[must_use]
    pub fn hops_from(&self, start: &FeedId, max: i32, reverse: bool) -> Hops {
        if reverse {
            return self.state.read().graph.reverse_hops(start, max).into_iter().collect();
        }
        if *start == self.me && max <= self.max {
            return self.hops().iter().filter(|(_, hops)| **hops <= max).map(|(feed, hops)| (*feed, *hops)).collect();
        }
        self.state.read().graph.hops(start, max).into_iter().collect()
    }

    /// How far feeds count.
    #[must_use]
    pub fn max_hops(&self) -> i32 {
        self.max
    }

    /// What `from` last said of `to`.
    #[must_use]
    pub fn relation(&self, from: &FeedId, to: &FeedId) -> Option<Relation> {
        self.state.read().graph.relation(from, to)
    }

    /// Whether `from` follows `to`.
    #[must_use]
    pub fn is_following(&self, from: &FeedId, to: &FeedId) -> bool {
        self.relation(from, to) == Some(Relation::Follow)
    }

    /// Waits until `from` follows `to`: what is published is in the log a moment before it is in the graph.
    pub async fn until_following(&self, from: &FeedId, to: &FeedId) {
        let mut edges = self.edges();
        while !self.is_following(from, to) {
            // who is behind looks again all the same
            if let Err(broadcast::error::RecvError::Closed) = edges.recv().await {
                return;
            }
        }
    }

    /// Our distance to `peer`, as [`Social::hops`] has it; 1 for whoever we follow even if nobody else counts.
    #[must_use]
    pub fn distance(&self, peer: &FeedId) -> Option<i32> {
        let state = self.state.read();
        let known = state.view.hops_of(&state.graph, peer);
        known.or_else(|| state.graph.is_following(&self.me, peer).then_some(1))
    }

    /// Whether one who is within `friends.hops` follows `peer`. Takes as long as `peer` has followers.
    #[must_use]
    pub fn is_followed_by_friend(&self, peer: &FeedId) -> bool {
        let state = self.state.read();
        state.view.is_followed_from_within(&state.graph, peer)
    }

    /// Whether `from` blocks `to`.
    #[must_use]
    pub fn is_blocking(&self, from: &FeedId, to: &FeedId) -> bool {
        self.relation(from, to) == Some(Relation::Block)
    }

    /// What everyone last said of everyone.
    #[must_use]
    pub fn everything(&self) -> BTreeMap<FeedId, BTreeMap<FeedId, Relation>> {
        let mut all: BTreeMap<FeedId, BTreeMap<FeedId, Relation>> = BTreeMap::new();
        for (from, to, relation) in self.state.read().graph.edges() {
            all.entry(from).or_default().insert(to, relation);
        }
        all
    }

    /// Of whom `from` said something, and what.
    #[must_use]
    pub fn said_by(&self, from: &FeedId) -> BTreeMap<FeedId, Relation> {
        self.state.read().graph.said_by(from).collect()
    }

    /// Who said something of `to`, and what.
    #[must_use]
    pub fn said_of(&self, to: &FeedId) -> BTreeMap<FeedId, Relation> {
        let state = self.state.read();
        let of = state.graph.edges().filter(|(_, of, _)| of == to);
        of.map(|(from, _, relation)| (from, relation)).collect()
    }
}

fn public_contact(record: &Record) -> Option<(u64, Edge)> {
    let content = raw_content(&record.value);
    if !may_be_of_type(content, b"\"contact\"") {
        return None;
    }
    let (to, relation) = contact_from_content(content)?;
    Some((record.number, Edge { from: record.author, to, relation }))
}

fn report(result: Result<Result<(), StoreError>, tokio::task::JoinError>) {
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the social graph can't follow the log"),
        Err(error) => tracing::error!(%error, "following the log for the social graph failed"),
    }
}
