//! What happens (actions) and what shall happen (effects).

use std::fmt;

use sbot_feed::FeedId;
use serde::{Deserialize, Serialize};

use crate::state::{AttemptId, LinkId, Millis, Settings, Source};

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Someone says that `peer` is at `route`: a claim, until a handshake proves it.
    RouteAdded {
        /// The peer, known before or not.
        peer: FeedId,
        /// A multiserver address.
        route: String,
        /// Who says so.
        source: Source,
    },
    /// `peer` is no longer at `route`.
    RouteRemoved {
        /// The peer.
        peer: FeedId,
        /// The address as it was added.
        route: String,
    },
    /// The user no longer wants to know `peer`. A link with it stays until it ends.
    PeerForgotten {
        /// The peer.
        peer: FeedId,
    },
    /// The user wants `peer` to be remembered and always connected, or no longer so.
    LongTermSet {
        /// The peer.
        peer: FeedId,
        /// Whether it is to be remembered.
        on: bool,
    },
    /// How far `peer` is from us in the social graph has changed. Says nothing of a peer that isn't known.
    PeerPrioritised {
        /// The peer.
        peer: FeedId,
        /// 1 for whom we follow, 2 for whom they follow, and so on; `None` for strangers.
        hops: Option<u32>,
    },
    /// `peer` is not to be talked with (blocked, or banned by the user), or may be again.
    PeerBanned {
        /// The peer.
        peer: FeedId,
        /// Whether it is banned.
        on: bool,
    },
    /// The user wants to be connected with `peer` now.
    ConnectRequested {
        /// A known peer.
        peer: FeedId,
    },
    /// The user wants to be rid of the link with `peer`; it is not dialed again before the user asks for it.
    DisconnectRequested {
        /// The peer.
        peer: FeedId,
    },
    /// A dial that we asked for succeeded: the handshake is done.
    RemotePeerConnectionSucceeded {
        /// The peer that was dialed.
        peer: FeedId,
        /// Which dial.
        attempt: AttemptId,
        /// How the runtime calls the link.
        link: LinkId,
    },
    /// A dial that we asked for failed.
    RemotePeerConnectionFailed {
        /// The peer that was dialed.
        peer: FeedId,
        /// Which dial.
        attempt: AttemptId,
        /// Why, for people.
        error: String,
    },
    /// `peer` dialed us: the handshake is done. Not for local clients.
    RemotePeerClientDidConnect {
        /// Who dialed us.
        peer: FeedId,
        /// How the runtime calls the link.
        link: LinkId,
        /// Where it dialed from.
        address: String,
    },
    /// A link has ended.
    RemotePeerDidDisconnect {
        /// The peer.
        peer: FeedId,
        /// Which link.
        link: LinkId,
        /// What went wrong, if something did.
        error: Option<String>,
    },
    /// The network is back, another one, or the machine woke up: all links are taken for dead.
    NetworkDidReconnect,
    /// Peers are to be dialed without being asked for each time.
    SchedulerStarted,
    /// Only what the user asks for is dialed from now on. Links stay.
    SchedulerStopped,
    /// The time of [`Effect::WakeMeAt`] has come.
    PeerConnectionTimerTicked,
    /// There are new settings.
    SettingsChanged(Settings),
}

/// Something that shall happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Dial, and report [`Action::RemotePeerConnectionSucceeded`] or [`Action::RemotePeerConnectionFailed`].
    Dial {
        /// Whom to expect there.
        peer: FeedId,
        /// Where: a multiserver address.
        route: String,
        /// To be told with the result.
        attempt: AttemptId,
        /// Time for it, in milliseconds.
        timeout: Millis,
    },
    /// Break off a dial; no report is wanted. If it has just succeeded, its report leads to a [`Effect::HangUp`].
    CancelDial {
        /// Who was dialed.
        peer: FeedId,
        /// Which dial.
        attempt: AttemptId,
    },
    /// End a link, and report [`Action::RemotePeerDidDisconnect`].
    HangUp {
        /// Who is at the other end.
        peer: FeedId,
        /// Which link.
        link: LinkId,
        /// The reason, for people.
        why: WhyHungUp,
    },
    /// Save [`State::saved`](crate::State::saved) at leisure.
    Persist,
    /// Report [`Action::PeerConnectionTimerTicked`] then; replaces an earlier wish.
    WakeMeAt(Millis),
    /// Tell those who follow the state of peers.
    Changed {
        /// The peer.
        peer: FeedId,
        /// What is new about it.
        change: Change,
    },
    /// A request of the user can't be fulfilled.
    Refused {
        /// The peer.
        peer: FeedId,
        /// The reason, for people.
        why: Refusal,
    },
}

/// What is new about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It became known.
    Added,
    /// It is forgotten.
    Removed,
    /// It is being dialed.
    Connecting,
    /// Dialing it failed.
    ConnectFailed,
    /// It is connected.
    Connected,
    /// Its link is being closed.
    Disconnecting,
    /// Its link has ended.
    Disconnected,
}

/// Why we end a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhyHungUp {
    /// The user wants it.
    ByHand,
    /// There is another link with the same peer.
    Duplicate,
    /// The dial was broken off before.
    NoLongerWanted,
    /// The peer is banned.
    Banned,
    /// Too many have dialed us.
    TooMany,
    /// The network changed.
    NetworkChanged,
}

impl fmt::Display for WhyHungUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WhyHungUp::ByHand => "disconnected by hand",
            WhyHungUp::Duplicate => "there is another link with this peer",
            WhyHungUp::NoLongerWanted => "no longer wanted when it succeeded",
            WhyHungUp::Banned => "banned",
            WhyHungUp::TooMany => "too many peers have dialed us",
            WhyHungUp::NetworkChanged => "the network changed",
        })
    }
}

/// Why a request can't be fulfilled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// It is not known.
    UnknownPeer,
    /// No address of it is known.
    NoRoute,
    /// It is banned.
    Banned,
    /// It is ourselves.
    OwnKey,
    /// The table is full of peers that are worth more.
    TableFull,
    /// The address is longer than [`MAX_ROUTE`](crate::MAX_ROUTE).
    RouteTooLong,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::UnknownPeer => "this peer is not known",
            Refusal::NoRoute => "no address of this peer is known",
            Refusal::Banned => "this peer is banned",
            Refusal::OwnKey => "this is our own key",
            Refusal::TableFull => "too many peers are known",
            Refusal::RouteTooLong => "the address is too long",
        })
    }
}
