//! How messages spread over links: peers compare what they have when a link comes up, transfer what is missing, and from
//! then on pass on whatever is new to whoever wants it.

use crate::engine::Engine;
use crate::graph::NodeId;
use crate::links::{End, Link};
use crate::measure::Spread;
use crate::policy::{Fact, LinkId};
use crate::queue::Event;
use crate::settings::{Millis, SECOND};
use crate::world::World;

/// What it takes to verify, store and pass on a message.
const HANDLING: Millis = 20;

/// Everyone's logs.
pub(crate) struct Logs {
    /// How many messages of each feed each peer has, one row a peer.
    has: Vec<Vec<u32>>,
    /// The messages of each feed, in order.
    feeds: Vec<Vec<u32>>,
}

impl Logs {
    pub(crate) fn new(world: &World) -> Self {
        let peers = world.settings.peers;
        Logs { has: vec![vec![0; peers]; peers], feeds: vec![Vec::new(); peers] }
    }
}

impl Engine<'_> {
    fn carries(&self, link: &Link) -> bool {
        link.carries() && self.reaches(link.at(0), link.at(1))
    }

    pub(crate) fn publish(&mut self, number: u32) {
        let author = self.world.messages[number as usize].author;
        let followers = &self.world.graph.followers[author as usize];
        let reachable = followers.iter().filter(|follower| self.is_reachable(**follower, number)).count();
        self.measures.spreads.push(Spread { reachable, waits: Vec::new() });
        self.logs.feeds[author as usize].push(number);
        let sequence = &mut self.logs.has[author as usize][author as usize];
        *sequence += 1;
        let sequence = *sequence;
        self.pass_on(author, author, sequence, None);
    }

    /// Whether a peer counts among those that a message is to reach: a person that follows the author, and is online for
    /// long enough after the message was published, and not cut off from the author.
    fn is_reachable(&self, node: NodeId, number: u32) -> bool {
        let (world, message) = (self.world, self.world.messages[number as usize]);
        let follows = node as usize >= world.graph.pubs && world.graph.distance(node, message.author) == 1;
        let end = world.settings.duration;
        follows && world.waits(node, message.author, message.at, end) >= world.settings.long_enough
    }

    /// Sends a message on over all links whose other end wants it and doesn't have it, but the one over which it came.
    fn pass_on(&mut self, node: NodeId, feed: NodeId, sequence: u32, came_over: Option<LinkId>) {
        for place in 0..self.nodes[node as usize].links.len() {
            let id = self.nodes[node as usize].links[place];
            let Some(link) = self.links.get(id).filter(|link| link.flows && Some(id) != came_over) else { continue };
            let end = 1 - link.end_of(node);
            let other = link.at(end);
            if self.world.graph.wants(other, feed) && self.logs.has[other as usize][feed as usize] < sequence {
                let at = self.now + link.round_trip / 2 + HANDLING;
                self.queue.push(at, Event::Deliver(id, end, feed, sequence));
            }
        }
    }

    pub(crate) fn deliver(&mut self, id: LinkId, end: End, feed: NodeId, sequence: u32) {
        let Some(link) = self.links.get(id).copied().filter(|link| self.carries(link)) else { return };
        self.receive(&link, end, feed, sequence);
    }

    /// The peer at this end now has so many messages of a feed.
    fn receive(&mut self, link: &Link, end: End, feed: NodeId, sequence: u32) {
        let node = link.at(end);
        let had = &mut self.logs.has[node as usize][feed as usize];
        if *had >= sequence {
            return;
        }
        let new = std::mem::replace(had, sequence) as usize..sequence as usize;
        for place in new {
            let number = self.logs.feeds[feed as usize][place];
            if self.is_reachable(node, number) {
                let since = self.world.messages[number as usize].at;
                let waited = self.world.waits(node, feed, since, self.now);
                self.measures.spreads[number as usize].waits.push(u32::try_from(waited).unwrap_or(u32::MAX));
            }
        }
        self.facts.push_back((node, Fact::MessageCame { from: link.at(1 - end) }));
        self.pass_on(node, feed, sequence, Some(link.id));
    }

    /// What one end has and the other one lacks: the feed, the end that lacks it, up to which message, and how many.
    fn missing(&self, link: &Link) -> Vec<(NodeId, End, u32, u32)> {
        let [one, other] = link.ends;
        let (ones, others) = (&self.logs.has[one as usize], &self.logs.has[other as usize]);
        let feeds = self.world.graph.both_want(one, other);
        let missing = feeds.filter_map(|feed| {
            let (ones, others) = (ones[feed as usize], others[feed as usize]);
            (ones != others).then(|| (feed, End::from(ones > others), ones.max(others), ones.abs_diff(others)))
        });
        missing.collect()
    }

    pub(crate) fn compared(&mut self, id: LinkId) {
        let Some(link) = self.links.get(id).copied().filter(|link| self.carries(link)) else { return };
        let missing: u64 = self.missing(&link).iter().map(|(.., count)| u64::from(*count)).sum();
        if missing == 0 {
            return self.flow(id);
        }
        for end in [0, 1] {
            self.facts.push_back((link.at(end), Fact::TransferStarted { peer: link.at(1 - end) }));
        }
        let takes = link.round_trip / 2 + HANDLING + missing * SECOND / self.world.settings.catch_up_rate.max(1);
        self.queue.push(self.now + takes, Event::CaughtUp(id));
    }

    pub(crate) fn caught_up(&mut self, id: LinkId) {
        let Some(link) = self.links.get(id).copied().filter(|link| self.carries(link)) else { return };
        for (feed, end, sequence, _) in self.missing(&link) {
            self.receive(&link, end, feed, sequence);
        }
        for end in [0, 1] {
            self.facts.push_back((link.at(end), Fact::TransferFinished { peer: link.at(1 - end) }));
        }
        self.flow(id);
    }

    fn flow(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(id).filter(|link| link.carries()) {
            link.flows = true;
        }
    }
}
