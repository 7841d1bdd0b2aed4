//! What is to happen when: a binary heap, in which what is equally due comes in the order in which it was put in.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::graph::NodeId;
use crate::links::End;
use crate::policy::{AttemptId, LinkId};
use crate::settings::Millis;

/// Something that happens in the world.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// A peer goes online for its session of this number.
    Begin(NodeId, u32),
    /// That session ends.
    End(NodeId, u32),
    /// A peer asked to be woken, in this life of it.
    Tick(NodeId, u32),
    /// A dial comes to something, in this life of the peer that dialed.
    DialDone(NodeId, u32, AttemptId),
    /// This end of a link hears that the other one has hung up.
    Told(LinkId, End),
    /// This end of a link has not heard anything for too long, if the link is still dead.
    Silent(LinkId, End),
    /// The peers of a link have told each other what they have.
    Compared(LinkId),
    /// What was missing has been transferred.
    CaughtUp(LinkId),
    /// A message of this author, of this number, comes to this end of a link.
    Deliver(LinkId, End, NodeId, u32),
    /// The message of this number is published.
    Publish(u32),
    /// A peer hears of the address of this number.
    Hear(NodeId, u32),
    /// The partition of this number begins.
    Cut(u32),
    /// All links and dials break.
    Reconnect,
    /// A peer notices that its network is another one, in this life of it.
    Notice(NodeId, u32),
    /// The network is measured.
    Sample,
    /// The network is measured around the reconnect.
    SampleReconnect,
    /// What peers know is measured.
    SampleKnowledge,
}

struct Due {
    at: Millis,
    order: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<Due>>,
    order: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Millis, event: Event) {
        self.order += 1;
        self.heap.push(Reverse(Due { at, order: self.order, event }));
    }

    pub(crate) fn pop(&mut self) -> Option<(Millis, Event)> {
        self.heap.pop().map(|Reverse(due)| (due.at, due.event))
    }
}
