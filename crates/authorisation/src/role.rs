//! What an asker is to us.

/// What an asker is to us.
///
/// Those from `stranger` to `owner` stand on one ladder: whoever stands higher may do all that those below may. Guests and
/// rooms stand beside it: rules name them one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// We block it: it may do nothing.
    Blocked,
    /// It comes with the key of an invite of ours.
    Guest,
    /// A server that the settings name. It may do what strangers may, and keep a connection.
    Room,
    /// Any other peer.
    Stranger,
    /// Followed by one of our friends, and itself beyond their reach: one hop further.
    FollowedByFriend,
    /// Within `friends.hops` of us.
    Friend,
    /// We follow it ourselves.
    Followed,
    /// It has a key that the config lists as `master`.
    Master,
    /// A client on the unix socket, or one that has our own key.
    Owner,
}

impl Role {
    /// All roles, from least to most trusted.
    pub const ALL: [Role; 9] = [
        Role::Blocked,
        Role::Guest,
        Role::Room,
        Role::Stranger,
        Role::FollowedByFriend,
        Role::Friend,
        Role::Followed,
        Role::Master,
        Role::Owner,
    ];

    /// The name, in the config, in refusals and in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Blocked => "blocked",
            Role::Guest => "guest",
            Role::Room => "room",
            Role::Stranger => "stranger",
            Role::FollowedByFriend => "followed-by-friend",
            Role::Friend => "friend",
            Role::Followed => "followed",
            Role::Master => "master",
            Role::Owner => "owner",
        }
    }

    /// The role with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Role> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether it acts for us: it may do all that we may.
    #[must_use]
    pub fn acts_for_us(self) -> bool {
        matches!(self, Role::Master | Role::Owner)
    }

    /// Whether it is one that we block.
    #[must_use]
    pub fn is_blocked(self) -> bool {
        self == Role::Blocked
    }

    /// As what it is served.
    #[must_use]
    pub fn door(self) -> Door {
        match self {
            Role::Owner | Role::Master => Door::Client,
            Role::Guest => Door::Guest,
            _ => Door::Peer,
        }
    }

    /// The place on the ladder: a room stands where strangers stand, guests and blocked ones below its foot.
    pub(crate) fn rung(self) -> u8 {
        match self {
            Role::Blocked | Role::Guest => 0,
            Role::Room | Role::Stranger => 1,
            Role::FollowedByFriend => 2,
            Role::Friend => 3,
            Role::Followed => 4,
            Role::Master => 5,
            Role::Owner => 6,
        }
    }
}

/// As what somebody is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// As a client of ours: no replication.
    Client,
    /// As a guest with an invite: one call, and nothing kept.
    Guest,
    /// As a peer.
    Peer,
}
