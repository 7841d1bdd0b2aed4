//! What a peer manager is told, and what it wishes: the seam between the world and a policy.

use crate::graph::NodeId;
use crate::measure::Cost;
use crate::settings::Millis;
use crate::world::{Address, World};

/// Names a link; the same at both ends.
pub(crate) type LinkId = u64;
/// Names a dial of one peer.
pub(crate) type AttemptId = u64;

/// Something that has happened to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fact {
    /// The program has started.
    Started,
    /// The program was stopped, and with it all links.
    Stopped,
    /// The machine has slept.
    Woke,
    /// The network is another one.
    NetworkChanged,
    /// A `pub` message told of an address.
    Heard(Address),
    /// A dial succeeded.
    Dialed {
        /// Who.
        peer: NodeId,
        /// Which.
        attempt: AttemptId,
        /// The link.
        link: LinkId,
    },
    /// A dial failed.
    DialFailed {
        /// Who.
        peer: NodeId,
        /// Which.
        attempt: AttemptId,
    },
    /// Somebody has dialed us.
    Called {
        /// Who.
        peer: NodeId,
        /// The link.
        link: LinkId,
    },
    /// A link has ended.
    Ended {
        /// With whom.
        peer: NodeId,
        /// Which.
        link: LinkId,
    },
    /// Messages begin to be transferred in bulk.
    TransferStarted {
        /// Over the link with whom.
        peer: NodeId,
    },
    /// They are through.
    TransferFinished {
        /// Over the link with whom.
        peer: NodeId,
    },
    /// Somebody's message came in.
    MessageCame {
        /// From whom.
        from: NodeId,
    },
    /// The time has come that was asked for.
    Tick,
}

/// Something that a peer manager wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Dial.
    Dial {
        /// Its name.
        attempt: AttemptId,
        /// Where.
        address: Address,
        /// It fails after this time.
        timeout: Millis,
    },
    /// Break off a dial; nothing is reported.
    Cancel {
        /// Which.
        attempt: AttemptId,
    },
    /// End a link.
    HangUp {
        /// Which.
        link: LinkId,
    },
    /// Say [`Fact::Tick`] then, and no longer at the time that was asked for before.
    WakeAt(Millis),
}

/// What a policy holds at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Peers that it knows.
    pub(crate) known: usize,
    /// Whether one of its own limits is exceeded.
    pub(crate) over_limit: bool,
}

/// A peer manager: one for each peer.
pub(crate) trait Policy {
    /// Takes note of a fact at a time, and adds wishes.
    fn note(&mut self, fact: Fact, now: Millis, world: &World, wishes: &mut Vec<Wish>, cost: &mut Cost);

    /// What it holds.
    fn holds(&self) -> Holding;

    /// The size of its state as JSON, in bytes.
    fn bytes(&self) -> usize;
}

/// A policy by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The production reducer.
    Ours,
    /// The model of ssb-conn.
    SsbConn,
}

impl Kind {
    /// The name, as in tables and plots.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ours => "sbot",
            Kind::SsbConn => "ssb-conn",
        }
    }
}
