//! What a caller is to us.

use sbot_feed::FeedId;

/// What a caller is to us, from least to most trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// We block it.
    Blocked,
    /// One that comes with the key of an invite of ours: it may redeem it, and nothing else.
    Guest,
    /// Any other peer.
    Stranger,
    /// A peer within `friends.hops` of us.
    Friend,
    /// A client on the unix socket, or one that comes with our own key or a master's.
    Owner,
}

impl Role {
    /// `blocked`, `guest`, `stranger`, `friend` or `owner`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::Blocked => "blocked",
            Role::Guest => "guest",
            Role::Stranger => "stranger",
            Role::Friend => "friend",
            Role::Owner => "owner",
        }
    }
}

/// The distance of a feed that the root itself blocks: no other edge makes it (dynamic-dijkstra `simple.js`).
const BLOCKED_BY_US: i32 = -1;

/// The role of the peer with key `peer`.
///
/// `own` is our key, `masters` are keys whose owners may do all that we may (`master` in the config, ssb-master);
/// `local_client` says that it came over the unix socket. `hops` is its distance from us in the social graph, `max_hops`
/// how far friends reach. `guest` says that the key is that of an invite which we gave out: it counts unless the peer is
/// the owner or blocked (the `auth` hook of ssb-invite).
#[must_use]
pub fn role_of(
    peer: &FeedId,
    own: &FeedId,
    masters: &[FeedId],
    local_client: bool,
    hops: Option<i32>,
    max_hops: i32,
    guest: bool,
) -> Role {
    if local_client || peer == own || masters.contains(peer) {
        return Role::Owner;
    }
    match hops {
        Some(BLOCKED_BY_US) => Role::Blocked,
        _ if guest => Role::Guest,
        Some(hops) if (0..=max_hops).contains(&hops) => Role::Friend,
        _ => Role::Stranger,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: FeedId = FeedId([1; 32]);
    const PEER: FeedId = FeedId([2; 32]);

    #[test]
    fn local_clients_our_own_key_and_masters_are_the_owner() {
        assert_eq!(role_of(&PEER, &OWN, &[], true, None, 3, false), Role::Owner);
        assert_eq!(role_of(&OWN, &OWN, &[], false, Some(0), 3, false), Role::Owner);
        assert_eq!(role_of(&PEER, &OWN, &[PEER], false, Some(-1), 3, true), Role::Owner);
    }

    #[test]
    fn distance_makes_friends_strangers_and_blocked_ones() {
        for (hops, role) in [
            (Some(1), Role::Friend),
            (Some(3), Role::Friend),
            (Some(4), Role::Stranger),
            (Some(-2), Role::Stranger),
            (None, Role::Stranger),
            (Some(-1), Role::Blocked),
        ] {
            assert_eq!(role_of(&PEER, &OWN, &[], false, hops, 3, false), role, "{hops:?}");
        }
    }

    #[test]
    fn the_key_of_an_invite_makes_a_guest_of_all_but_the_owner_and_blocked_ones() {
        for (hops, role) in [(None, Role::Guest), (Some(1), Role::Guest), (Some(-1), Role::Blocked)] {
            assert_eq!(role_of(&PEER, &OWN, &[], false, hops, 3, true), role, "{hops:?}");
        }
        assert_eq!(role_of(&OWN, &OWN, &[], false, None, 3, true), Role::Owner);
    }
}
