//! The world: who is when online, who knows which addresses, when the network breaks, and what is published. It is drawn
//! before anything happens, from the seed alone: every policy lives in the same one.

use crate::graph::{BLOCKED, FAR, Graph, NodeId};
use crate::random::Draws;
use crate::settings::{HOUR, Millis, Settings};
use crate::timeline::Timeline;

/// An address that somebody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    /// Whose it is, as far as is known: a living peer, or one that is gone ([`World::is_gone`]).
    pub(crate) peer: NodeId,
    /// Whether anybody will ever answer there.
    pub(crate) alive: bool,
    /// Whether the machine that is there now refuses.
    pub(crate) refuses: bool,
    /// How far the peer is from the one who knows the address; `None` for strangers and for the blocked.
    pub(crate) hops: Option<u8>,
}

/// A part of the network is cut off.
#[derive(Debug, Clone)]
pub(crate) struct Partition {
    /// From when on.
    pub(crate) from: Millis,
    /// Until when.
    pub(crate) to: Millis,
    /// Who is cut off, with each other.
    cut_off: Vec<bool>,
}

/// Something that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    /// By whom.
    pub(crate) author: NodeId,
    /// When.
    pub(crate) at: Millis,
}

/// All of it.
#[derive(Debug)]
pub struct World {
    /// What it was drawn from.
    pub(crate) settings: Settings,
    /// Who follows whom.
    pub(crate) graph: Graph,
    /// When each peer is online.
    pub(crate) timelines: Vec<Timeline>,
    /// Who can be dialed while it is online.
    pub(crate) dialable: Vec<bool>,
    /// The addresses that each knows at the beginning (`conn.json`).
    pub(crate) books: Vec<Vec<Address>>,
    /// What each hears of later, in `pub` messages, in order.
    pub(crate) heard: Vec<Vec<(Millis, Address)>>,
    /// Times at which parts are cut off.
    pub(crate) partitions: Vec<Partition>,
    /// When everyone's network reconnects.
    pub(crate) reconnect: Millis,
    /// What is published, in order.
    pub(crate) messages: Vec<Message>,
}

impl World {
    /// Draws a world.
    pub fn new(settings: Settings) -> World {
        let mut draws = Draws::new(settings.seed);
        let graph = Graph::new(&settings, &mut draws.fork());
        let mut of_time = draws.fork();
        let (timelines, dialable): (Vec<_>, Vec<_>) = (0..settings.peers)
            .map(|node| {
                let pub_server = node < graph.pubs;
                let always_on = pub_server || of_time.chance(settings.always_on);
                let timeline = match always_on {
                    true => Timeline::always_on(&settings, &mut of_time),
                    false => Timeline::person(&settings, &mut of_time),
                };
                (timeline, pub_server || of_time.chance(settings.open_homes))
            })
            .unzip();
        let reconnect = (settings.duration as f64 * settings.reconnect_at) as Millis;
        let mut world = World {
            graph,
            timelines,
            dialable,
            books: Vec::new(),
            heard: Vec::new(),
            partitions: Vec::new(),
            reconnect,
            messages: Vec::new(),
            settings,
        };
        let mut of_addresses = draws.fork();
        world.books = (0..world.settings.peers).map(|node| world.book(node as NodeId, &mut of_addresses)).collect();
        world.heard = (0..world.settings.peers).map(|node| world.hears(node as NodeId, &mut of_addresses)).collect();
        world.partitions = world.cut(&mut draws.fork());
        world.messages = world.publish(&mut draws.fork());
        world
    }

    fn is_pub(&self, node: NodeId) -> bool {
        (node as usize) < self.graph.pubs
    }

    /// Whether a peer is gone for good: others still know an address of it.
    pub(crate) fn is_gone(&self, node: NodeId) -> bool {
        node as usize >= self.settings.peers
    }

    /// How far `to` is from `from`; `None` if it isn't known, or blocked.
    pub(crate) fn hops(&self, from: NodeId, to: NodeId) -> Option<u8> {
        if self.is_gone(to) {
            let later = self.heard[from as usize].iter().map(|(_, address)| address);
            let mut known = self.books[from as usize].iter().chain(later);
            return known.find(|address| address.peer == to).and_then(|address| address.hops);
        }
        Some(self.graph.distance(from, to)).filter(|hops| !matches!(*hops, FAR | BLOCKED))
    }

    /// Whether `node` blocks `other`.
    pub(crate) fn blocks(&self, node: NodeId, other: NodeId) -> bool {
        !self.is_gone(other) && self.graph.distance(node, other) == BLOCKED
    }

    fn alive(&self, from: NodeId, peer: NodeId) -> Address {
        Address { peer, alive: true, refuses: false, hops: self.hops(from, peer) }
    }

    /// An address like `other`, but dead: where a friend was, or of a peer that is gone and was as near.
    fn dead(&self, from: NodeId, other: Address, draws: &mut Draws) -> Address {
        let settings = &self.settings;
        let friends = &self.graph.follows[from as usize];
        let moved = Some(()).filter(|()| draws.chance(settings.moved)).and_then(|()| draws.pick(friends));
        // A fifth as many are gone as are alive.
        let gone = settings.peers as u64 + draws.below(settings.peers as u64 / 5 + 1);
        let (peer, hops) = match moved.filter(|friend| !self.is_pub(*friend)) {
            Some(friend) => (friend, self.hops(from, friend)),
            None => (gone as NodeId, other.hops),
        };
        Address { peer, alive: false, refuses: draws.chance(settings.refusing), hops }
    }

    /// How many dead addresses come with so many living ones.
    fn dead_with(&self, alive: usize) -> usize {
        (alive as f64 * self.settings.dead / (1.0 - self.settings.dead)).round() as usize
    }

    fn book(&self, node: NodeId, draws: &mut Draws) -> Vec<Address> {
        let settings = &self.settings;
        let mut known: Vec<NodeId> = self.graph.guest_of[node as usize].clone();
        for _ in 0..settings.other_pubs {
            // A pub of a friend, or any.
            let friend = draws.pick(&self.graph.follows[node as usize]);
            let friends = friend.and_then(|friend| draws.pick(&self.graph.guest_of[friend as usize]));
            known.push(friends.unwrap_or_else(|| draws.below(self.graph.pubs as u64) as NodeId));
        }
        if !self.is_pub(node) {
            let friends = self.graph.follows[node as usize].iter().copied();
            let there = friends.filter(|friend| !self.is_pub(*friend) && self.dialable[*friend as usize]);
            let told: Vec<_> = there.filter(|_| draws.chance(settings.friends_address)).collect();
            known.extend(told.into_iter().take(settings.friends_addresses));
        }
        if (node as usize) < settings.know_all {
            known.extend((0..settings.peers as NodeId).filter(|peer| self.dialable[*peer as usize]));
        }
        known.retain(|peer| *peer != node);
        known.sort_unstable();
        known.dedup();
        let mut book: Vec<Address> = known.iter().map(|peer| self.alive(node, *peer)).collect();
        let dead: Vec<_> = (0..self.dead_with(book.len()))
            .filter_map(|_| draws.pick(&book).map(|other| self.dead(node, other, draws)))
            .collect();
        book.extend(dead);
        book.sort_unstable_by_key(|address| (address.peer, address.alive));
        book.dedup_by_key(|address| (address.peer, address.alive));
        // In no telling order.
        for place in (1..book.len()).rev() {
            book.swap(place, draws.below(place as u64 + 1) as usize);
        }
        book
    }

    fn hears(&self, node: NodeId, draws: &mut Draws) -> Vec<(Millis, Address)> {
        let settings = &self.settings;
        let mean = (24.0 * HOUR as f64 / settings.heard_a_day) as Millis;
        let mut heard = Vec::new();
        let mut at = draws.exponential(mean);
        while at < settings.duration {
            let found = draws.below(self.graph.pubs as u64) as NodeId;
            let address = self.alive(node, found);
            let address = if draws.chance(settings.dead) { self.dead(node, address, draws) } else { address };
            if found != node {
                heard.push((at, address));
            }
            at += draws.exponential(mean);
        }
        heard
    }

    fn cut(&self, draws: &mut Draws) -> Vec<Partition> {
        let settings = &self.settings;
        let (shortest, longest) = settings.partition_length;
        let mut partitions: Vec<Partition> = Vec::new();
        for number in 0..settings.partitions {
            // One in each part of the time, so that they don't overlap.
            let part = settings.duration / settings.partitions as u64;
            let length = draws.between(shortest, longest).min(part / 2);
            let from = number as u64 * part + draws.below(part - length);
            let cut_off = (0..settings.peers).map(|_| draws.chance(settings.cut_off)).collect();
            partitions.push(Partition { from, to: from + length, cut_off });
        }
        partitions
    }

    /// Whether two peers are on different sides of a partition at a time.
    pub(crate) fn apart(&self, one: NodeId, other: NodeId, now: Millis) -> bool {
        self.partitions.iter().any(|cut| cut.from <= now && now < cut.to && cut.divides(one, other))
    }

    /// How long `node` waits for what `author` published at `from`, until `to`: the time that it is online and not cut off
    /// from the author.
    pub(crate) fn waits(&self, node: NodeId, author: NodeId, from: Millis, to: Millis) -> Millis {
        let timeline = &self.timelines[node as usize];
        let divided = self.partitions.iter().filter(|cut| cut.divides(node, author));
        let cut: Millis =
            divided.map(|cut| timeline.online(cut.from.max(from), cut.to.min(to).max(cut.from.max(from)))).sum();
        timeline.online(from, to) - cut
    }

    fn publish(&self, draws: &mut Draws) -> Vec<Message> {
        let settings = &self.settings;
        let count = settings.messages_a_day * (settings.duration / HOUR) as usize / 24;
        let people = (self.graph.pubs as u64, settings.peers as u64);
        let last = settings.duration - settings.tail.min(settings.duration / 4);
        let mut messages = Vec::new();
        // Some have no session that is long enough: they stay silent.
        for _ in 0..count * 20 {
            if messages.len() == count {
                break;
            }
            // The square makes those who have been there longest, and are followed most, talk most.
            let author = people.0 + (draws.unit().powi(2) * (people.1 - people.0) as f64) as u64;
            let Some(session) = draws.pick(self.timelines[author as usize].sessions()) else { continue };
            let until = session.to.saturating_sub(settings.author_stays).min(last);
            if session.from < until {
                messages.push(Message { author: author as NodeId, at: draws.between(session.from, until) });
            }
        }
        messages.sort_unstable_by_key(|message| (message.at, message.author));
        messages
    }
}

impl Partition {
    pub(crate) fn divides(&self, one: NodeId, other: NodeId) -> bool {
        let side = |node: NodeId| self.cut_off.get(node as usize);
        side(one) != side(other)
    }
}
