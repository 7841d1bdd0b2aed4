//! Who asks: the facts that make a role.

use sbot_feed::FeedId;

use crate::decision::Facts;
use crate::{Fact, Role};

/// How somebody came to us, or would be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Came {
    /// By the unix socket, which only the owner can open, or within this process.
    Socket,
    /// Over TCP on this machine or a local network.
    Lan,
    /// Over TCP.
    Tcp,
    /// Over WebRTC, met at a signalling hub.
    Rtc,
    /// Through a room's tunnel.
    Tunnel,
    /// Through Tor.
    Onion,
    /// In a way that isn't known, or not yet: during the handshake.
    Unknown,
}

impl Came {
    /// All ways.
    pub const ALL: [Came; 7] =
        [Came::Socket, Came::Lan, Came::Tcp, Came::Rtc, Came::Tunnel, Came::Onion, Came::Unknown];

    /// The name: `socket`, `lan`, `tcp`, `rtc`, `tunnel`, `onion` or `unknown`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Came::Socket => "socket",
            Came::Lan => "lan",
            Came::Tcp => "tcp",
            Came::Rtc => "rtc",
            Came::Tunnel => "tunnel",
            Came::Onion => "onion",
            Came::Unknown => "unknown",
        }
    }

    /// The rule for connections that come in this way.
    pub(crate) fn rule(self) -> Option<&'static str> {
        match self {
            Came::Socket | Came::Unknown => None,
            Came::Lan => Some("over.lan"),
            Came::Tcp => Some("over.tcp"),
            Came::Rtc => Some("over.rtc"),
            Came::Tunnel => Some("over.tunnel"),
            Came::Onion => Some("over.onion"),
        }
    }
}

/// Who asks, and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The key that it has proved to have; ours for a client on the unix socket.
    pub id: FeedId,
    /// How it came.
    pub came: Came,
    /// It has our own key.
    pub own_key: bool,
    /// The config lists its key as `master`.
    pub master: bool,
    /// We block it.
    pub we_block: bool,
    /// It blocks us.
    pub blocks_us: bool,
    /// Its key is that of an invite which we gave out.
    pub guest: bool,
    /// The settings name it as a room or server.
    pub room: bool,
    /// Its distance from us; `None` if nobody within `friends.hops` follows or blocks it, negative if the nearest who says
    /// something of it blocks it (sbot-graph).
    pub hops: Option<i32>,
    /// One of our friends follows it; asked only of those without a distance.
    pub followed_by_friend: bool,
}

impl Asker {
    /// A peer that came over TCP and of which nothing is known.
    #[must_use]
    pub fn stranger(id: FeedId) -> Asker {
        Asker {
            id,
            came: Came::Tcp,
            own_key: false,
            master: false,
            we_block: false,
            blocks_us: false,
            guest: false,
            room: false,
            hops: None,
            followed_by_friend: false,
        }
    }

    /// What it is to us if friends reach `reach` hops; notes what that follows from.
    ///
    /// The owner and masters are so even if they are blocked (ssb-master comes before ssb-friends), and an invite's key
    /// counts unless it is blocked (ssb-invite, `auth` hook).
    pub(crate) fn role_by(&self, reach: i32, facts: &mut Facts) -> Role {
        facts.add(Fact::Came(self.came));
        if self.came == Came::Socket {
            return Role::Owner;
        }
        if self.own_key {
            facts.add(Fact::OwnKey);
            return Role::Owner;
        }
        if self.master {
            facts.add(Fact::MasterKey);
            if self.room {
                facts.add(Fact::Room);
            }
            return Role::Master;
        }
        if self.we_block {
            facts.add(Fact::WeBlockIt);
            return Role::Blocked;
        }
        if self.guest {
            facts.add(Fact::InviteKey);
            return Role::Guest;
        }
        if self.room {
            facts.add(Fact::Room);
        }
        match self.hops {
            Some(hops @ 0..=1) => {
                facts.add(Fact::Hops { hops, reach });
                Role::Followed
            }
            Some(hops) if (0..=reach).contains(&hops) => {
                facts.add(Fact::Hops { hops, reach });
                Role::Friend
            }
            Some(hops) if hops < 0 => {
                facts.add(Fact::BlockedByFriend);
                self.unknown()
            }
            _ if self.followed_by_friend => {
                facts.add(Fact::FollowedByFriend);
                Role::FollowedByFriend
            }
            _ => {
                facts.add(Fact::OutOfReach { reach });
                self.unknown()
            }
        }
    }

    fn unknown(&self) -> Role {
        if self.room { Role::Room } else { Role::Stranger }
    }

    /// What it is to us if friends reach `reach` hops (`friends.hops`).
    #[must_use]
    pub fn role(&self, reach: i32) -> Role {
        self.role_by(reach, &mut Facts::default())
    }
}
