//! Who follows and blocks whom, kept up to date from the contact messages in the log.
//!
//! [`Social::start`] reads all contact messages, then follows the log. What changes goes out twice: as
//! [`Social::edges`], one by one, and as [`Social::hops_changes`], which feeds came nearer or went away. Private contact
//! messages that we can read count too, as in ssb-friends; they are looked for when the log has been quiet for a
//! moment, because opening them takes long.
//!
//! Where two messages speak of the same pair the later one in the log counts, whichever is read first.
//!
//! Sources: `ssb-friends/{index,contacts,legacy}.js` 4.1.4, `layered-graph/index.js`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use sbot_feed::FeedId;
use sbot_graph::{Graph, Relation, contact_from_content};
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
    loaded: watch::Sender<bool>,
}

struct State {
    graph: Graph,
    /// What was last said of each pair, and in which record. Feeds are numbered, a number here is 4 bytes and not 32.
    said: Vec<Vec<Said>>,
    numbers: HashMap<FeedId, u32>,
    feeds: Vec<FeedId>,
    next: u64,
}

#[derive(Clone, Copy)]
struct Said {
    of: u32,
    relation: Relation,
    record: u64,
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
        let mut state =
            State { graph: Graph::new(), said: Vec::new(), numbers: HashMap::new(), feeds: Vec::new(), next: end };
        for number in store.by_type("contact") {
            let number = u64::from(number);
            if number < end
                && let Some(record) = store.record(number)?
                && let Some((to, relation)) = contact_from_content(raw_content(&record.value))
            {
                state.apply(number, record.author, to, relation);
            }
        }
        let hops = Arc::new(state.graph.hops(&me, max).into_iter().collect::<Hops>());
        Ok(Arc::new(Self {
            store,
            boxes,
            me,
            max,
            state: RwLock::new(state),
            edges: broadcast::Sender::new(BACKLOG),
            changes: broadcast::Sender::new(BACKLOG),
            hops: watch::Sender::new(hops),
            loaded: watch::Sender::new(false),
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
            let news: Vec<_> = records.iter().filter_map(public_contact).collect();
            let next = last.number + 1;
            self.take(news, Some(next));
        }
    }

    /// Takes in the private contact messages that we can read. Blocks.
    fn catch_up_private(&self) -> Result<(), StoreError> {
        let mut news = Vec::new();
        for found in self.boxes.readable()?.iter() {
            if let Some((to, relation)) = found.contact
                && let Some(record) = self.store.record(found.number)?
            {
                news.push((found.number, Edge { from: record.author, to, relation }));
            }
        }
        self.take(news, None);
        self.loaded.send_replace(true);
        Ok(())
    }

    fn take(&self, news: Vec<(u64, Edge)>, next: Option<u64>) {
        let mut state = self.state.write();
        state.next = next.unwrap_or(state.next);
        let fresh: Vec<Edge> = news
            .into_iter()
            .filter(|(number, edge)| state.apply(*number, edge.from, edge.to, edge.relation))
            .map(|(_, edge)| edge)
            .collect();
        if fresh.is_empty() {
            return;
        }
        let hops: Hops = state.graph.hops(&self.me, self.max).into_iter().collect();
        drop(state);
        for edge in fresh {
            // nobody listening is no error
            let _ = self.edges.send(edge);
        }
        let before = Arc::clone(&self.hops.borrow());
        let changed: Hops = hops
            .iter()
            .filter(|(feed, hops)| before.get(*feed) != Some(hops))
            .map(|(feed, hops)| (*feed, *hops))
            .collect();
        if changed.is_empty() && hops.len() == before.len() {
            return;
        }
        self.hops.send_replace(Arc::new(hops));
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

    /// What changes in the graph.
    #[must_use]
    pub fn edges(&self) -> broadcast::Receiver<Edge> {
        self.edges.subscribe()
    }

    /// Distances from any feed, at most `max`; against the direction of following if `reverse`.
    #[must_use]
    pub fn hops_from(&self, start: &FeedId, max: i32, reverse: bool) -> Hops {
        let state = self.state.read();
        if reverse {
            let mut graph = Graph::new();
            for (from, to, relation) in state.edges() {
                graph.apply(to, from, relation);
            }
            return graph.hops(start, max).into_iter().collect();
        }
        if *start == self.me && max <= self.max {
            drop(state);
            return self.hops().iter().filter(|(_, hops)| **hops <= max).map(|(feed, hops)| (*feed, *hops)).collect();
        }
        state.graph.hops(start, max).into_iter().collect()
    }

    /// How far feeds count.
    #[must_use]
    pub fn max_hops(&self) -> i32 {
        self.max
    }

    /// What `from` last said of `to`.
    #[must_use]
    pub fn relation(&self, from: &FeedId, to: &FeedId) -> Option<Relation> {
        self.state.read().said(from, to).map(|said| said.relation)
    }

    /// Whether `from` follows `to`.
    #[must_use]
    pub fn is_following(&self, from: &FeedId, to: &FeedId) -> bool {
        self.relation(from, to) == Some(Relation::Follow)
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
        for (from, to, relation) in self.state.read().edges() {
            all.entry(from).or_default().insert(to, relation);
        }
        all
    }

    /// Of whom `from` said something, and what.
    #[must_use]
    pub fn said_by(&self, from: &FeedId) -> BTreeMap<FeedId, Relation> {
        self.state.read().said_by(from).collect()
    }

    /// Who said something of `to`, and what.
    #[must_use]
    pub fn said_of(&self, to: &FeedId) -> BTreeMap<FeedId, Relation> {
        let state = self.state.read();
        state.edges().filter(|(_, of, _)| of == to).map(|(from, _, relation)| (from, relation)).collect()
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

impl State {
    /// Notes what record `number` says; answers whether that changes anything.
    fn apply(&mut self, number: u64, from: FeedId, to: FeedId, relation: Relation) -> bool {
        let (author, of) = (self.number(from), self.number(to));
        let Some(list) = self.said.get_mut(author as usize) else { return false };
        match list.binary_search_by_key(&of, |said| said.of) {
            Ok(at) => {
                let said = &mut list[at];
                if said.record > number {
                    return false;
                }
                said.record = number;
                if said.relation == relation {
                    return false;
                }
                said.relation = relation;
            }
            Err(at) => list.insert(at, Said { of, relation, record: number }),
        }
        self.graph.apply(from, to, relation);
        true
    }

    fn number(&mut self, feed: FeedId) -> u32 {
        if let Some(number) = self.numbers.get(&feed) {
            return *number;
        }
        let number = u32::try_from(self.feeds.len()).unwrap_or(u32::MAX);
        self.numbers.insert(feed, number);
        self.feeds.push(feed);
        self.said.push(Vec::new());
        number
    }

    fn said(&self, from: &FeedId, to: &FeedId) -> Option<Said> {
        let list = self.said.get(*self.numbers.get(from)? as usize)?;
        let of = self.numbers.get(to)?;
        list.binary_search_by_key(of, |said| said.of).ok().and_then(|at| list.get(at).copied())
    }

    fn said_by(&self, from: &FeedId) -> impl Iterator<Item = (FeedId, Relation)> + '_ {
        let list = self.numbers.get(from).and_then(|number| self.said.get(*number as usize));
        list.into_iter().flatten().filter_map(|said| Some((*self.feeds.get(said.of as usize)?, said.relation)))
    }

    fn edges(&self) -> impl Iterator<Item = (FeedId, FeedId, Relation)> + '_ {
        self.feeds.iter().flat_map(|from| self.said_by(from).map(move |(to, relation)| (*from, to, relation)))
    }
}
