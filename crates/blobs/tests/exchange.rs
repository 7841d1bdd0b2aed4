//! One exchange and its peers, by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use sbot_blobs::{
    DISK_PAUSE, Effect, Ended, Exchange, Found, Gate, MAX_BAD, MAX_FETCHES, MAX_FETCHES_FROM_PEER, MAX_WANTS,
    MAX_WANTS_OF_OTHERS, MAX_WANTS_OF_PEER, Note, OTHERS_AGE, Open, PARTIAL_AGE, RETRY_PAUSE, Saved, Settings,
};
use sbot_feed::{BlobId, FeedId};

const A: FeedId = FeedId([1; 32]);
const B: FeedId = FeedId([2; 32]);
const C: FeedId = FeedId([3; 32]);

fn blob(n: u64) -> BlobId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    BlobId(bytes)
}

fn with(settings: Settings, gate: impl Gate + 'static, peers: &[FeedId]) -> Exchange {
    let mut exchange = Exchange::new(settings, Arc::new(gate), Saved::default());
    for peer in peers {
        exchange.connected(*peer, 0);
        exchange.listens(peer);
    }
    exchange
}

fn exchange(peers: &[FeedId]) -> Exchange {
    with(Settings::default(), Open, peers)
}

fn wants(exchange: &mut Exchange, peer: &FeedId, id: BlobId, distance: u32) -> Vec<Effect> {
    exchange.heard(peer, &[(id, Note::Want(distance))], 0, |_| None)
}

fn has(exchange: &mut Exchange, peer: &FeedId, id: BlobId, size: u64) -> Vec<Effect> {
    exchange.heard(peer, &[(id, Note::Has(Some(size)))], 0, |_| None)
}

fn told(exchange: &mut Exchange, peer: &FeedId) -> BTreeMap<BlobId, i64> {
    let mut told = exchange.notes_for(peer, usize::MAX);
    told.append(&mut exchange.notes_for(peer, usize::MAX));
    told
}

fn fetches(effects: &[Effect]) -> Vec<(BlobId, FeedId, u64)> {
    let fetch = |effect: &Effect| match effect {
        Effect::Fetch { blob, peer, from, .. } => Some((*blob, *peer, *from)),
        _ => None,
    };
    effects.iter().filter_map(fetch).collect()
}

#[test]
fn our_wants_are_told_as_minus_one_and_others_one_farther() {
    let mut exchange = exchange(&[A, B]);
    exchange.want(blob(1), 0).unwrap();
    wants(&mut exchange, &A, blob(2), 1);
    wants(&mut exchange, &A, blob(3), 2);
    let all = BTreeMap::from([(blob(1), -1), (blob(2), -2), (blob(3), -3)]);
    assert_eq!(told(&mut exchange, &A), all, "whoever asked is told too: a peer that pushes answers that it has it");
    assert_eq!(told(&mut exchange, &B), all);
    assert_eq!(told(&mut exchange, &B), BTreeMap::new());
}

#[test]
fn sympathy_ends_at_the_configured_distance() {
    for (sympathy, farthest) in [(0, None), (1, None), (2, Some(1)), (3, Some(2)), (100, Some(99))] {
        let mut exchange = with(Settings { sympathy, ..Settings::default() }, Open, &[A, B]);
        for distance in 1..=200 {
            wants(&mut exchange, &A, blob(distance.into()), distance);
        }
        wants(&mut exchange, &A, blob(1000), u32::MAX);
        let told = told(&mut exchange, &B);
        assert_eq!(told.len(), farthest.unwrap_or(0), "sympathy {sympathy}");
        assert_eq!(told.values().min().copied(), farthest.map(|farthest: usize| -(farthest as i64) - 1));
    }
}

#[test]
fn a_want_is_told_again_only_when_it_is_nearer() {
    let mut exchange = exchange(&[A, B, C]);
    wants(&mut exchange, &A, blob(1), 2);
    assert_eq!(told(&mut exchange, &C), BTreeMap::from([(blob(1), -3)]));
    wants(&mut exchange, &B, blob(1), 2);
    assert!(told(&mut exchange, &C).is_empty());
    wants(&mut exchange, &B, blob(1), 1);
    assert_eq!(told(&mut exchange, &C), BTreeMap::from([(blob(1), -2)]));
    exchange.want(blob(1), 0).unwrap();
    exchange.want(blob(1), 0).unwrap();
    assert_eq!(told(&mut exchange, &C), BTreeMap::from([(blob(1), -1)]));
    exchange.disconnected(&B, 0);
    exchange.connected(B, 0);
    exchange.listens(&B);
    wants(&mut exchange, &B, blob(1), 1);
    assert!(told(&mut exchange, &C).is_empty(), "a peer that comes and goes makes us repeat nothing");
    exchange.connected(C, 0);
    assert!(told(&mut exchange, &C).is_empty(), "nothing before it listens");
    exchange.listens(&C);
    assert_eq!(told(&mut exchange, &C), BTreeMap::from([(blob(1), -1)]));
}

#[test]
fn who_wants_what_is_here_is_told_its_size() {
    let mut exchange = exchange(&[A, B]);
    exchange.heard(&A, &[(blob(1), Note::Want(3))], 0, |_| Some(77));
    assert_eq!(told(&mut exchange, &A), BTreeMap::from([(blob(1), 77)]));
    assert!(told(&mut exchange, &B).is_empty());
    assert_eq!(exchange.counts().wants_of_others, 0);
}

#[test]
fn what_a_peer_asks_before_it_listens_is_answered_when_it_does() {
    let mut exchange = exchange(&[]);
    exchange.connected(A, 0);
    exchange.heard(&A, &[(blob(1), Note::Want(1))], 0, |_| Some(77));
    exchange.want(blob(2), 0).unwrap();
    assert!(told(&mut exchange, &A).is_empty());
    assert_eq!(exchange.listens(&A), [Effect::Tell(A)]);
    assert_eq!(told(&mut exchange, &A), BTreeMap::from([(blob(1), 77), (blob(2), -1)]));
}

#[test]
fn a_blob_that_has_come_is_told_to_all_and_wanted_no_more() {
    let mut exchange = exchange(&[A, B, C]);
    wants(&mut exchange, &A, blob(1), 1);
    let effects = has(&mut exchange, &B, blob(1), 5);
    assert_eq!(fetches(&effects), [(blob(1), B, 0)]);
    let effects = exchange.fetched(&blob(1), Ended::Here(5), 0);
    assert!(effects.contains(&Effect::Done(blob(1), Found::Here)));
    for peer in [A, B, C] {
        assert_eq!(told(&mut exchange, &peer), BTreeMap::from([(blob(1), 5)]), "and not of the want");
    }
    assert_eq!((exchange.counts().wants, exchange.counts().wants_of_others), (0, 0));
}

#[test]
fn what_a_peer_said_it_has_is_fetched_when_it_comes_to_be_wanted() {
    let mut exchange = exchange(&[A]);
    assert!(fetches(&has(&mut exchange, &A, blob(1), 5)).is_empty());
    assert_eq!(fetches(&exchange.want(blob(1), 0).unwrap()), [(blob(1), A, 0)]);
}

#[test]
fn a_blob_is_fetched_from_one_peer_at_a_time_and_from_the_next_where_the_last_one_left() {
    let mut exchange = exchange(&[A, B, C]);
    exchange.want(blob(1), 0).unwrap();
    assert_eq!(fetches(&has(&mut exchange, &A, blob(1), 100)), [(blob(1), A, 0)]);
    assert!(fetches(&has(&mut exchange, &B, blob(1), 100)).is_empty());
    assert!(fetches(&has(&mut exchange, &C, blob(1), 100)).is_empty());
    exchange.disconnected(&A, 0);
    let next = fetches(&exchange.fetched(&blob(1), Ended::Broken(40), 0));
    assert_eq!(next, [(blob(1), B, 40)]);
    let next = fetches(&exchange.fetched(&blob(1), Ended::Absent, 0));
    assert_eq!(next, [(blob(1), C, 0)], "what had been there went with the failed try");
}

#[test]
fn bytes_of_a_broken_transfer_wait_for_a_while_for_a_peer_to_go_on_with() {
    let mut exchange = exchange(&[A]);
    exchange.want(blob(1), 0).unwrap();
    has(&mut exchange, &A, blob(1), 100);
    exchange.disconnected(&A, 0);
    exchange.fetched(&blob(1), Ended::Broken(40), 0);
    exchange.connected(A, 0);
    exchange.listens(&A);
    assert_eq!(fetches(&has(&mut exchange, &A, blob(1), 100)), [(blob(1), A, 40)]);
    exchange.disconnected(&A, 0);
    exchange.fetched(&blob(1), Ended::Broken(60), 0);
    assert_eq!(exchange.tick(PARTIAL_AGE + 1), [Effect::Discard(blob(1))]);
}

#[test]
fn a_peer_that_sends_something_else_is_not_asked_for_it_again() {
    let mut exchange = exchange(&[A, B]);
    exchange.want(blob(1), 0).unwrap();
    has(&mut exchange, &A, blob(1), 100);
    exchange.fetched(&blob(1), Ended::Wrong, 0);
    assert!(fetches(&has(&mut exchange, &A, blob(1), 100)).is_empty());
    assert!(fetches(&exchange.tick(1 << 20)).is_empty());
    assert_eq!(fetches(&has(&mut exchange, &B, blob(1), 100)), [(blob(1), B, 0)]);
}

#[test]
fn whose_bytes_of_a_mixed_blob_were_wrong_shows_when_it_is_fetched_whole() {
    let mut exchange = exchange(&[A, B]);
    exchange.want(blob(1), 0).unwrap();
    has(&mut exchange, &A, blob(1), 100);
    exchange.disconnected(&A, 0);
    exchange.fetched(&blob(1), Ended::Broken(40), 0);
    assert_eq!(fetches(&has(&mut exchange, &B, blob(1), 100)), [(blob(1), B, 40)]);
    assert_eq!(fetches(&exchange.fetched(&blob(1), Ended::Wrong, 0)), [(blob(1), B, 0)], "B may be innocent");
    exchange.fetched(&blob(1), Ended::Broken(50), 0);
    let again = exchange.tick(RETRY_PAUSE);
    assert!(again.contains(&Effect::Tell(B)));
    let effects = exchange.heard(&B, &[(blob(1), Note::Has(Some(100)))], RETRY_PAUSE, |_| None);
    assert_eq!(fetches(&effects), [(blob(1), B, 0)], "from the beginning each time");
}

#[test]
fn a_peer_that_sends_wrong_blobs_again_and_again_is_not_fetched_from() {
    let mut exchange = exchange(&[A]);
    for n in 0..1000 {
        exchange.want(blob(n), 0).unwrap();
    }
    let mut under_way = Vec::new();
    for n in 0..1000 {
        under_way.extend(fetches(&has(&mut exchange, &A, blob(n), 9)));
    }
    let mut wrong = 0;
    while let Some((id, ..)) = under_way.pop() {
        wrong += 1;
        under_way.extend(fetches(&exchange.fetched(&id, Ended::Wrong, 0)));
    }
    assert!(wrong <= MAX_BAD + MAX_FETCHES_FROM_PEER, "{wrong}");
}

#[test]
fn a_peer_that_says_it_has_what_it_doesnt_give_is_asked_ever_more_rarely() {
    let mut exchange = exchange(&[A]);
    exchange.want(blob(1), 0).unwrap();
    let (mut now, mut tries) = (0, Vec::new());
    while now < 1 << 20 {
        let effects = exchange.heard(&A, &[(blob(1), Note::Has(Some(9)))], now, |_| None);
        if !fetches(&effects).is_empty() {
            tries.push(now);
            exchange.fetched(&blob(1), Ended::Absent, now);
        }
        now += 1000;
    }
    let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] >= RETRY_PAUSE && pauses.windows(2).all(|pair| pair[1] >= pair[0]), "{pauses:?}");
}

#[test]
fn few_transfers_run_at_a_time_and_every_peer_gets_its_turn() {
    let peers: Vec<FeedId> = (0..10).map(|n| FeedId([n + 1; 32])).collect();
    let mut exchange = exchange(&peers);
    let mut under_way = Vec::new();
    for n in 0..1000 {
        exchange.want(blob(n), 0).unwrap();
    }
    for n in 0..1000 {
        under_way.extend(fetches(&has(&mut exchange, &peers[n as usize / 100], blob(n), 9)));
        assert!(under_way.len() <= MAX_FETCHES);
        for peer in &peers {
            assert!(under_way.iter().filter(|(_, from, _)| from == peer).count() <= MAX_FETCHES_FROM_PEER);
        }
    }
    assert_eq!(under_way.len(), MAX_FETCHES);
    let mut came = 0;
    while let Some((id, ..)) = (!under_way.is_empty()).then(|| under_way.remove(0)) {
        came += 1;
        under_way.extend(fetches(&exchange.fetched(&id, Ended::Here(9), 0)));
    }
    assert_eq!(came, 1000);
}

#[test]
fn a_full_disk_pauses_all_transfers() {
    let mut exchange = exchange(&[A]);
    exchange.want(blob(1), 0).unwrap();
    exchange.want(blob(2), 0).unwrap();
    has(&mut exchange, &A, blob(1), 9);
    assert!(fetches(&exchange.fetched(&blob(1), Ended::Unstored, 0)).is_empty());
    assert!(fetches(&has(&mut exchange, &A, blob(2), 9)).is_empty());
    assert_eq!(fetches(&exchange.tick(DISK_PAUSE)).len(), 2);
}

#[test]
fn too_large_blobs_are_not_fetched() {
    let mut exchange = with(Settings { max: 100, ..Settings::default() }, Open, &[A]);
    exchange.want(blob(1), 0).unwrap();
    assert!(fetches(&has(&mut exchange, &A, blob(1), 101)).is_empty());
    assert!(fetches(&has(&mut exchange, &A, blob(1), u64::MAX)).is_empty());
    let effects = exchange.heard(&A, &[(blob(1), Note::Has(None))], 0, |_| None);
    assert!(matches!(effects[..], [Effect::Fetch { limit: 100, .. }]), "of unknown size: as far as is allowed");
}

#[test]
fn a_want_with_a_limit_takes_no_more_until_somebody_wants_it_without() {
    let mut exchange = exchange(&[A]);
    exchange.want_at_most(blob(1), Some(50), 0).unwrap();
    told(&mut exchange, &A);
    assert!(fetches(&has(&mut exchange, &A, blob(1), 51)).is_empty());
    exchange.want_at_most(blob(1), Some(20), 0).unwrap();
    assert!(told(&mut exchange, &A).is_empty());
    exchange.want(blob(1), 0).unwrap();
    assert_eq!(told(&mut exchange, &A), BTreeMap::from([(blob(1), -1)]), "it is asked again");
    assert_eq!(fetches(&has(&mut exchange, &A, blob(1), 51)).len(), 1);
}

#[test]
fn a_node_without_room_fetches_nothing_for_others() {
    let mut exchange = exchange(&[A, B]);
    exchange.set_full(true);
    wants(&mut exchange, &A, blob(1), 1);
    exchange.heard(&A, &[(blob(2), Note::Want(1))], 0, |_| Some(9));
    exchange.want(blob(3), 0).unwrap();
    assert_eq!(told(&mut exchange, &A), BTreeMap::from([(blob(2), 9), (blob(3), -1)]));
    assert_eq!(told(&mut exchange, &B), BTreeMap::from([(blob(3), -1)]));
}

#[test]
fn a_transfer_stops_when_nobody_wants_the_blob_any_more() {
    let mut exchange = exchange(&[A, B]);
    wants(&mut exchange, &A, blob(1), 1);
    has(&mut exchange, &B, blob(1), 9);
    assert_eq!(exchange.disconnected(&A, 0), [Effect::Stop(blob(1))]);
    assert_eq!(exchange.fetched(&blob(1), Ended::Broken(5), 0), [Effect::Discard(blob(1))]);
    assert_eq!(exchange.counts().fetches, 0);
}

#[test]
fn a_pushed_blob_is_told_as_a_want_until_enough_peers_have_it() {
    let mut exchange = exchange(&[A, B, C]);
    exchange.push(blob(1), 0).unwrap();
    assert_eq!(told(&mut exchange, &A), BTreeMap::from([(blob(1), -1)]));
    let answer = exchange.heard(&A, &[(blob(1), Note::Want(2))], 0, |_| Some(9));
    assert_eq!(answer, [Effect::Tell(A)]);
    assert_eq!(told(&mut exchange, &A), BTreeMap::from([(blob(1), 9)]));
    for peer in [A, A, B] {
        assert!(has(&mut exchange, &peer, blob(1), 9).is_empty());
    }
    assert_eq!(has(&mut exchange, &C, blob(1), 9), [Effect::Pushed(blob(1)), Effect::Save]);
    assert!(!exchange.is_pushed(&blob(1)));
    exchange.push(blob(2), 0).unwrap();
    assert_eq!(exchange.removed(&blob(2)), [Effect::Save]);
}

#[test]
fn a_stingy_node_serves_and_helps_with_its_pushes_alone() {
    let mut exchange = with(Settings { stingy: true, ..Settings::default() }, Open, &[A, B]);
    exchange.heard(&A, &[(blob(1), Note::Want(1))], 0, |_| Some(9));
    wants(&mut exchange, &A, blob(2), 1);
    exchange.added(&blob(3), 9, 0);
    assert!(told(&mut exchange, &A).is_empty() && told(&mut exchange, &B).is_empty());
    exchange.push(blob(1), 0).unwrap();
    exchange.heard(&A, &[(blob(1), Note::Want(1))], 0, |_| Some(9));
    assert_eq!(exchange.notes_for(&A, 9), BTreeMap::from([(blob(1), 9)]));
    assert_eq!(exchange.notes_for(&A, 9), BTreeMap::from([(blob(1), -1)]));
}

#[test]
fn a_million_wants_of_one_peer_take_few_places_and_leave_with_it() {
    let mut exchange = exchange(&[A, B]);
    let notes: Vec<_> = (0..1_000_000).map(|n| (blob(n), Note::Want(1))).collect();
    exchange.heard(&A, &notes, 0, |_| None);
    let counts = exchange.counts();
    assert_eq!((counts.wants_of_others, counts.refused), (MAX_WANTS_OF_PEER, 1_000_000 - MAX_WANTS_OF_PEER as u64));
    assert_eq!(told(&mut exchange, &B).len(), MAX_WANTS_OF_PEER);
    wants(&mut exchange, &B, blob(5_000_000), 1);
    assert_eq!(exchange.counts().wants_of_others, MAX_WANTS_OF_PEER + 1, "another peer has places of its own");
    exchange.disconnected(&A, 0);
    assert_eq!(exchange.counts().wants_of_others, 1);
}

#[test]
fn many_peers_together_take_no_more_places_than_there_are() {
    let peers: Vec<FeedId> = (0..20).map(|n| FeedId([n + 1; 32])).collect();
    let mut exchange = exchange(&peers);
    for (at, peer) in peers.iter().enumerate() {
        let notes: Vec<_> = (0..2000).map(|n| (blob(at as u64 * 2000 + n), Note::Want(1))).collect();
        exchange.heard(peer, &notes, 0, |_| None);
    }
    assert_eq!(exchange.counts().wants_of_others, MAX_WANTS_OF_OTHERS);
    exchange.want(blob(1 << 40), 0).unwrap();
    assert_eq!(exchange.counts().wants, 1, "our own have theirs");
}

#[test]
fn there_are_never_more_own_wants_than_the_bound() {
    let mut exchange = exchange(&[]);
    for n in 0..MAX_WANTS as u64 {
        exchange.want(blob(n), 0).unwrap();
    }
    assert!(exchange.want(blob(1 << 40), 0).is_err());
    exchange.want(blob(0), 0).unwrap();
    exchange.added(&blob(0), 9, 0);
    exchange.want(blob(1 << 40), 0).unwrap();
}

#[test]
fn news_for_a_peer_that_doesnt_read_are_bounded() {
    let mut exchange = exchange(&[A]);
    for n in 0..200_000 {
        exchange.added(&blob(n), 9, 0);
    }
    assert_eq!(told(&mut exchange, &A).len(), sbot_blobs::MAX_PENDING);
}

#[test]
fn what_peers_want_is_not_looked_for_for_ever() {
    let mut exchange = exchange(&[A]);
    wants(&mut exchange, &A, blob(1), 1);
    exchange.tick(OTHERS_AGE);
    assert_eq!(exchange.counts().wants_of_others, 1);
    exchange.tick(OTHERS_AGE + 1);
    assert_eq!(exchange.counts().wants_of_others, 0);
}

#[test]
fn own_wants_and_pushes_are_remembered() {
    let mut first = exchange(&[A]);
    first.want(blob(1), 5).unwrap();
    first.push(blob(2), 6).unwrap();
    wants(&mut first, &A, blob(3), 1);
    let mut second = Exchange::new(Settings::default(), Arc::new(Open), first.saved());
    assert_eq!((second.counts().wants, second.counts().pushes, second.counts().wants_of_others), (1, 1, 0));
    second.connected(B, 0);
    second.listens(&B);
    assert_eq!(told(&mut second, &B), BTreeMap::from([(blob(1), -1), (blob(2), -1)]));
}

#[test]
fn the_empty_blob_is_never_wanted_of_or_by_peers() {
    let mut exchange = exchange(&[A]);
    let empty = sbot_blobs::EMPTY.parse().unwrap();
    assert!(wants(&mut exchange, &A, empty, 1).is_empty());
    assert_eq!(exchange.counts().wants_of_others, 0);
}

/// Refuses A everything.
struct NotA;

impl Gate for NotA {
    fn may_have(&self, peer: &FeedId, _: &BlobId, _: u64) -> bool {
        *peer != A
    }

    fn may_pass_on(&self, peer: &FeedId, _: &BlobId, _: u32) -> bool {
        *peer != A
    }

    fn may_be_asked(&self, peer: &FeedId, _: &BlobId, _: bool) -> bool {
        *peer != A
    }
}

#[test]
fn who_may_have_nothing_learns_nothing_and_is_not_helped() {
    let mut exchange = with(Settings::default(), NotA, &[A, B]);
    exchange.heard(&A, &[(blob(1), Note::Want(1))], 0, |_| Some(9));
    wants(&mut exchange, &A, blob(2), 1);
    exchange.want(blob(3), 0).unwrap();
    exchange.push(blob(4), 0).unwrap();
    exchange.added(&blob(5), 9, 0);
    exchange.connected(A, 0);
    exchange.listens(&A);
    assert!(told(&mut exchange, &A).is_empty());
    assert_eq!(told(&mut exchange, &B), BTreeMap::from([(blob(3), -1), (blob(4), -1), (blob(5), 9)]));
    assert_eq!(exchange.counts().wants_of_others, 0);
}

/// Gives A nothing of more than 5 bytes, and looks for what it wants.
struct LittleForA;

impl Gate for LittleForA {
    fn may_have(&self, peer: &FeedId, _: &BlobId, size: u64) -> bool {
        *peer != A || size <= 5
    }

    fn may_pass_on(&self, _: &FeedId, _: &BlobId, _: u32) -> bool {
        true
    }

    fn may_be_asked(&self, _: &FeedId, _: &BlobId, _: bool) -> bool {
        true
    }
}

#[test]
fn what_a_peer_may_not_have_is_looked_for_as_if_it_werent_here() {
    // The same from a node that has the blob, and from one that lacks it, whatever others say of it.
    let [here, lacking] = [Some(9), None].map(|here| {
        let mut exchange = with(Settings::default(), LittleForA, &[A, B, C]);
        let mut seen = Vec::new();
        let mut step = |exchange: &mut Exchange, effects: Vec<Effect>| {
            let told = [A, B, C].map(|peer| told(exchange, &peer));
            seen.push((effects, told));
        };
        let effects = exchange.heard(&A, &[(blob(1), Note::Want(1))], 0, |_| here);
        step(&mut exchange, effects);
        for size in [u64::MAX, 9] {
            let effects = exchange.heard(&B, &[(blob(1), Note::Has(Some(size)))], 0, |_| here);
            step(&mut exchange, effects);
        }
        let effects = exchange.fetched(&blob(1), Ended::Here(9), 0);
        step(&mut exchange, effects);
        assert_eq!(exchange.counts().wants_of_others, 0);
        seen
    });
    assert_eq!(here[0].1[1], BTreeMap::from([(blob(1), -2)]));
    assert_eq!(fetches(&here[2].0), [(blob(1), B, 0)]);
    assert_eq!(here[3].1, [BTreeMap::new(), BTreeMap::from([(blob(1), 9)]), BTreeMap::from([(blob(1), 9)])]);
    assert_eq!(here, lacking);
    // Who may have it is told at once, though A still wants it.
    let mut exchange = with(Settings::default(), LittleForA, &[A, B]);
    exchange.heard(&A, &[(blob(1), Note::Want(1))], 0, |_| Some(9));
    exchange.heard(&B, &[(blob(1), Note::Want(1))], 0, |_| Some(9));
    assert_eq!(exchange.notes_for(&B, 9), BTreeMap::from([(blob(1), 9)]));
    assert_eq!(told(&mut exchange, &A), BTreeMap::from([(blob(1), -2)]));
}
