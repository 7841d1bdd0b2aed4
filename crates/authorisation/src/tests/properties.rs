//! What holds whatever the facts, the question and the config are.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sbot_feed::FeedId;
use sbot_graph::{Graph, Relation};

use super::{LARGE, REACH};
use crate::{About, Access, Asker, Came, Fact, Feed, Policy, Preset, Question, RULES, Role};

fn id(number: u8) -> FeedId {
    FeedId([number; 32])
}

fn preset() -> impl Strategy<Value = Preset> {
    prop::sample::select(Preset::ALL.to_vec())
}

/// A policy as configs make them: changes that can't be made are left out.
fn any_policy() -> impl Strategy<Value = Policy> {
    let roles = prop::sample::subsequence(Role::ALL.to_vec(), 1..4);
    let change = (0..RULES.len(), roles);
    (preset(), 0..4u8, option::of(0..4u8), vec(change, 0..20)).prop_map(|(preset, friends, reach, changes)| {
        let mut policy = Policy::new(preset, friends, LARGE);
        if reach.is_some() {
            policy.set_reach(reach);
        }
        for (rule, roles) in changes {
            if let Ok(access) = Access::from_names(roles.into_iter().map(Role::name)) {
                let _ = policy.set(RULES[rule].name, access);
            }
        }
        policy
    })
}

prop_compose! {
    fn asker()(
        came in prop::sample::select(Came::ALL.to_vec()),
        own_key in any::<bool>(),
        master in any::<bool>(),
        we_block in any::<bool>(),
        blocks_us in any::<bool>(),
        guest in any::<bool>(),
        room in any::<bool>(),
        hops in option::of(-5..6),
        followed_by_friend in any::<bool>(),
    ) -> Asker {
        Asker { id: id(7), came, own_key, master, we_block, blocks_us, guest, room, hops, followed_by_friend }
    }
}

/// Somebody who came over the network, with a key of its own.
fn peer() -> impl Strategy<Value = Asker> {
    let ways = prop::sample::select(Came::ALL[1..].to_vec());
    (asker(), ways).prop_map(|(asker, came)| Asker { came, own_key: false, master: false, ..asker })
}

fn feed() -> impl Strategy<Value = Feed> {
    (any::<bool>(), option::of(-3..5), any::<bool>()).prop_map(|(blocks_asker, hops, requested)| Feed {
        blocks_asker,
        hops,
        requested,
    })
}

fn methods() -> impl Strategy<Value = &'static str> {
    let methods: Vec<_> = RULES.iter().filter(|rule| rule.is_method).map(|rule| rule.name).collect();
    prop::sample::select(methods)
}

fn question() -> impl Strategy<Value = Question<'static>> {
    let size = prop_oneof![Just(0), Just(LARGE), Just(LARGE + 1), any::<u64>()];
    let about = (option::of(feed()), option::of(size.clone())).prop_map(|(feed, blob)| About { feed, blob });
    prop_oneof![
        Just(Question::Dial),
        Just(Question::Connect),
        (methods(), about).prop_map(|(method, about)| Question::Call { method, about }),
        feed().prop_map(Question::Replicate),
        size.prop_map(|size| Question::ServeBlob { size }),
        Just(Question::TellWants),
        Just(Question::PassWantOn),
    ]
}

fn may(policy: &Policy, asker: &Asker, question: &Question<'_>) -> bool {
    policy.decide(asker, question).is_allowed()
}

/// The peer's facts as the graph has them, from the point of view of feed 0.
fn as_the_graph_says(graph: &Graph, peer: u8, room: bool) -> Asker {
    let (own, peer) = (id(0), id(peer));
    let reach = i32::from(REACH);
    let hops = graph.hops(&own, reach);
    let near = |feed: FeedId| hops.get(&feed).is_some_and(|hops| (0..=reach).contains(hops));
    Asker {
        we_block: graph.is_blocking(&own, &peer),
        blocks_us: graph.is_blocking(&peer, &own),
        hops: hops.get(&peer).copied(),
        followed_by_friend: (0..8).any(|other| near(id(other)) && graph.is_following(&id(other), &peer)),
        room,
        ..Asker::stranger(peer)
    }
}

proptest! {
    #[test]
    fn blocked_peers_never_get_anything(policy in any_policy(), peer in peer(), question in question()) {
        let blocked = Asker { we_block: true, ..peer };
        prop_assert!(!may(&policy, &blocked, &question));
    }

    #[test]
    fn the_owner_always_may(policy in any_policy(), asker in asker(), question in question(), socket in any::<bool>()) {
        let owner = if socket { Asker { came: Came::Socket, ..asker } } else { Asker { own_key: true, ..asker } };
        prop_assert!(may(&policy, &owner, &question));
    }

    #[test]
    fn a_block_never_grants_anything(policy in any_policy(), asker in asker(), question in question(), which in 0..3) {
        let (mut blocked, mut about) = (asker, question);
        match (which, &mut about) {
            (0, _) => blocked.we_block = true,
            (1, _) => blocked.blocks_us = true,
            (_, Question::Replicate(feed) | Question::Call { about: About { feed: Some(feed), .. }, .. }) => {
                feed.blocks_asker = true;
            }
            _ => {}
        }
        prop_assert!(!may(&policy, &blocked, &about) || may(&policy, &asker, &question));
    }

    // To others it may: with a friend whom we block go its blocks. So it is in ssb-friends.
    #[test]
    fn a_block_in_the_graph_never_grants_anything_to_whom_it_names(
        policy in any_policy(),
        edges in vec((0..8u8, 0..8u8, 0..5u8), 0..30),
        (from, to) in (0..8u8, 1..8u8),
        question in question(),
        room in any::<bool>(),
    ) {
        let policy = policy.with_friends(REACH.into());
        let mut graph = Graph::new();
        for (from, to, relation) in edges {
            let relation = match relation {
                0 => Relation::Block,
                1 => Relation::None,
                _ => Relation::Follow,
            };
            graph.apply(id(from), id(to), relation);
        }
        let before = as_the_graph_says(&graph, to, room);
        graph.apply(id(from), id(to), Relation::Block);
        let after = as_the_graph_says(&graph, to, room);
        prop_assert!(
            !may(&policy, &after, &question) || may(&policy, &before, &question),
            "before {before:?}\nafter {after:?}"
        );
    }

    #[test]
    fn more_trust_never_allows_less(policy in any_policy(), peer in peer(), question in question()) {
        let peer = Asker { we_block: false, guest: false, hops: None, followed_by_friend: false, ..peer };
        let ladder = [
            Asker { room: false, ..peer },
            peer,
            Asker { followed_by_friend: true, ..peer },
            Asker { hops: Some(3), ..peer },
            Asker { hops: Some(2), ..peer },
            Asker { hops: Some(1), ..peer },
            Asker { master: true, ..peer },
            Asker { own_key: true, ..peer },
        ];
        let ladder: Vec<_> = ladder.into_iter().filter(|asker| asker.hops.is_none_or(|hops| hops <= policy.friends().max(1))).collect();
        for pair in ladder.windows(2) {
            prop_assert!(!may(&policy, &pair[0], &question) || may(&policy, &pair[1], &question), "{pair:?}");
        }
    }

    #[test]
    fn the_trace_says_what_is_decided_and_by_which_rule(policy in any_policy(), asker in asker(), question in question()) {
        let decision = policy.decide(&asker, &question);
        let trace = decision.to_string();
        let mut lines = trace.lines();
        prop_assert_eq!(lines.next(), Some(if decision.is_allowed() { "allowed" } else { "refused" }));
        let role = lines.next().and_then(|line| line.strip_prefix("  role ")).and_then(Role::from_name);
        prop_assert_eq!(role, Some(asker.role(policy.friends())));
        let rule = lines.next().and_then(|line| line.strip_prefix("  rule ")).unwrap();
        prop_assert!(rule.starts_with(decision.rule()));
        // Who reads the rule and the role comes to the same conclusion.
        match decision.access() {
            None => prop_assert!(!decision.is_allowed(), "only refusals need no rule of the table: {trace}"),
            Some(access) => {
                prop_assert_eq!(policy.access(decision.rule()), Some(access));
                let (_, who) = rule.split_once(": ").unwrap();
                let who = who.split(" (").next().unwrap();
                let said = Access::from_names(who.split(" and ")).unwrap();
                prop_assert_eq!(said, access);
                let is_room = trace.contains("the settings name it");
                prop_assert_eq!(is_room && role != Some(Role::Blocked), asker.room && decision.facts().any(|fact| fact == Fact::Room) && role != Some(Role::Blocked));
                let reader = Asker { room: is_room, ..asker };
                prop_assert_eq!(said.admits(role.unwrap(), &reader), decision.is_allowed(), "{}", trace);
            }
        }
        prop_assert_eq!(decision.facts().count(), lines.count());
    }
}
