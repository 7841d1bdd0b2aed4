//! What happens (actions) and what shall happen (effects).

use std::fmt;

use sbot_feed::FeedId;
use serde::{Deserialize, Serialize};

use crate::route::Source;
use crate::settings::Settings;
use crate::state::Millis;

/// Names a dial; given by the reducer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId(pub u64);

/// Names a link; given by the runtime, never twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LinkId(pub u64);

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
        /// Who has taken it back: known from a better source, the route stays. `None` removes it whoever said it.
        source: Option<Source>,
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
    /// Whether `peer` may be dialed without being asked for each time (`autoconnect` of ssb-conn) has been said.
    AutoconnectSet {
        /// The peer.
        peer: FeedId,
        /// Whether it may.
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
    RemotePeerDisconnect {
        /// The peer.
        peer: FeedId,
    },
    /// `peer` is about to dial us: it isn't dialed meanwhile.
    RemotePeerConnecting {
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
        /// How far it is from us in the social graph, as in [`Action::PeerPrioritised`].
        hops: Option<u32>,
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
    /// Messages or blobs begin to be transferred over the link with `peer`, in whichever direction.
    DownloadStarted {
        /// The peer.
        peer: FeedId,
    },
    /// Some of them have come or gone.
    DownloadProgressed {
        /// The peer.
        peer: FeedId,
    },
    /// All of them have.
    DownloadFinished {
        /// The peer.
        peer: FeedId,
    },
    /// Our log is far behind what peers have.
    InitialSyncStarted,
    /// Our log has caught up.
    InitialSyncFinished,
    /// The user wants this signalling hub to be used.
    HubAddressAdded {
        /// Its address.
        hub: String,
    },
    /// The user no longer wants it.
    HubAddressRemoved {
        /// Its address.
        hub: String,
    },
    /// A connection with a hub that we asked for is up.
    HubConnectionSucceeded {
        /// Its address.
        hub: String,
    },
    /// A connection with a hub that we asked for could not be made.
    HubConnectionFailed {
        /// Its address.
        hub: String,
        /// Why, for people.
        error: String,
    },
    /// The connection with a hub has ended.
    HubDidDisconnect {
        /// Its address.
        hub: String,
        /// What went wrong, if something did.
        error: Option<String>,
    },
    /// Somebody has announced itself at a hub: a claim, until a handshake proves it.
    RemotePeerDidAnnounce {
        /// The hub's address.
        hub: String,
        /// Who it says it is.
        peer: FeedId,
        /// The multiserver address at which it can be dialed through the hub.
        route: String,
    },
    /// A peer has left a hub, as it says or as the hub says. A link with it lives on.
    RemotePeerDidLeave {
        /// The hub's address.
        hub: String,
        /// Who has left.
        peer: FeedId,
    },
    /// There is no network any more. Links within this machine live on.
    NetworkDidDisconnect,
    /// The network is back, or is another one: all links are taken for dead.
    NetworkDidReconnect,
    /// The machine has slept: all links are taken for dead.
    SystemDidWake,
    /// Peers are to be dialed without being asked for each time.
    SchedulerStarted,
    /// Only what the user asks for is dialed from now on. Links stay.
    SchedulerStopped,
    /// The time of [`Effect::WakeMeAt`] has come.
    PeerConnectionTimerTicked,
    /// There are new settings.
    SettingsChanged(Box<Settings>),
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
    /// Connect to a signalling hub, and report [`Action::HubConnectionSucceeded`] or [`Action::HubConnectionFailed`].
    ConnectToHub {
        /// Its address.
        hub: String,
    },
    /// Say at a connected hub that we are there, and report who else is: [`Action::RemotePeerDidAnnounce`].
    AnnounceToHub {
        /// Its address.
        hub: String,
    },
    /// Say goodbye to a hub and end the connection with it, or what is being done to make one; no report is wanted.
    LeaveHub {
        /// Its address.
        hub: String,
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
    /// Tell those who follow the state of hubs.
    HubChanged {
        /// Its address.
        hub: String,
        /// What is new about it.
        change: HubChange,
    },
    /// A request of the user can't be fulfilled.
    Refused {
        /// The peer.
        peer: FeedId,
        /// The reason, for people.
        why: Refusal,
    },
    /// A hub can't be used.
    HubRefused {
        /// Its address, cut if it is too long.
        hub: String,
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

/// What is new about a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HubChange {
    /// It became known.
    Added,
    /// It is forgotten.
    Removed,
    /// It is being connected.
    Connecting,
    /// It could not be connected.
    ConnectFailed,
    /// It is connected.
    Connected,
    /// It is no longer connected.
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
    /// Too many have dialed us, and this one is not worth more than they are.
    TooMany,
    /// Somebody has dialed us who is worth more.
    LessUseful,
    /// Its time is over, and another one waits.
    Rotated,
    /// One that is to be connected always needs the room.
    MakesRoom,
    /// More dials of its kind have succeeded than there are slots.
    NoSlot,
    /// The network changed.
    NetworkChanged,
    /// There is no network any more.
    NetworkGone,
    /// The machine has slept.
    Slept,
}

impl fmt::Display for WhyHungUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WhyHungUp::ByHand => "disconnected by hand",
            WhyHungUp::Duplicate => "there is another link with this peer",
            WhyHungUp::NoLongerWanted => "no longer wanted when it succeeded",
            WhyHungUp::Banned => "banned",
            WhyHungUp::TooMany => "too many peers have dialed us",
            WhyHungUp::LessUseful => "too many peers have dialed us, and others are nearer",
            WhyHungUp::Rotated => "its time is over, and another peer waits",
            WhyHungUp::NoSlot => "more dials have succeeded than there are slots",
            WhyHungUp::MakesRoom => "a peer that is always to be connected needs the room",
            WhyHungUp::NetworkChanged => "the network changed",
            WhyHungUp::NetworkGone => "there is no network",
            WhyHungUp::Slept => "the machine has slept",
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
