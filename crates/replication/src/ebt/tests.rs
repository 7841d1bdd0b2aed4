//! The state machine by hand, rule by rule.

use std::collections::BTreeMap;

use sbot_feed::FeedId;

use super::*;

fn id(number: u8) -> FeedId {
    FeedId([number; 32])
}

fn notes(list: &[(u8, i64)]) -> Notes {
    let notes =
        list.iter().map(|(feed, note)| (id(*feed), Note::from_number(*note as f64).expect("a valid note"))).collect();
    Notes { notes, ignored: 0 }
}

/// What goes out next, as feed → number; `None` for nothing.
fn said(ebt: &mut Ebt, link: Link) -> Option<BTreeMap<u8, i64>> {
    Some(ebt.take_notes(link)?.into_iter().map(|(feed, note)| (feed.0[0], note.to_number())).collect())
}

fn says(list: &[(u8, i64)]) -> Option<BTreeMap<u8, i64>> {
    Some(list.iter().copied().collect())
}

fn ebt(wants: &[(u8, u64)]) -> Ebt {
    let mut ebt = Ebt::new(id(0), 0, Settings::default());
    for (feed, have) in wants {
        ebt.want(id(*feed), *have);
    }
    ebt
}

/// Everything known about a peer that is as far as we are and was told so.
fn in_step(ebt: &mut Ebt, peer: u8, feeds: &[(u8, i64)]) -> Vec<(FeedId, i64)> {
    let link = ebt.connect(id(peer), false, &[], 0);
    said(ebt, link);
    ebt.heard(link, &notes(feeds), 0);
    said(ebt, link);
    ebt.disconnect(link, 0)
}

#[test]
fn who_was_dialed_speaks_first_and_who_dialed_waits() {
    let mut ebt = ebt(&[(1, 5)]);
    let dialed = ebt.connect(id(7), false, &[], 0);
    assert_eq!(said(&mut ebt, dialed), says(&[(0, 0), (1, 10)]));
    let dialing = ebt.connect(id(8), true, &[], 0);
    assert_eq!(said(&mut ebt, dialing), None);
    ebt.heard(dialing, &notes(&[]), 0);
    // both feeds are asked of the first peer already
    assert_eq!(said(&mut ebt, dialing), says(&[(0, 1), (1, 11)]));
}

#[test]
fn an_empty_object_is_sent_when_there_is_nothing_to_say() {
    let mut node = Ebt::new(id(0), 3, Settings::default());
    let clock = in_step(&mut node, 7, &[(0, 6)]);
    let link = node.connect(id(7), false, &clock, 0);
    assert_eq!(said(&mut node, link), says(&[]));
    assert_eq!(said(&mut node, link), None);
}

#[test]
fn only_feeds_that_changed_are_mentioned() {
    let mut node = ebt(&[(1, 5), (2, 9)]);
    let clock = in_step(&mut node, 7, &[(0, 0), (1, 10), (2, 18)]);
    node.appended(&id(2), 10, 0);
    node.spread(0);
    let link = node.connect(id(7), false, &clock, 0);
    assert_eq!(said(&mut node, link), says(&[(0, 0), (2, 20)]), "an empty feed may have begun unseen");
}

#[test]
fn a_kept_refusal_is_put_to_the_test_once_the_feed_has_changed() {
    let mut node = ebt(&[(1, 5)]);
    let clock = in_step(&mut node, 7, &[(0, 0), (1, -1)]);
    let link = node.connect(id(7), false, &clock, 0);
    assert_eq!(said(&mut node, link), says(&[(0, 0)]));
    node.appended(&id(1), 6, 0);
    node.spread(0);
    assert_eq!(said(&mut node, link), says(&[(1, 13)]));
    node.heard(link, &notes(&[(1, -1)]), 0);
    node.appended(&id(1), 7, 0);
    node.spread(0);
    assert_eq!(said(&mut node, link), None, "it said no just now");
}

#[test]
fn two_that_refused_a_feed_to_each_other_find_out_when_both_want_it() {
    let (mut here, mut there) = (ebt(&[]), ebt(&[]));
    let here_clock = in_step(&mut here, 7, &[(0, 0), (1, -1)]);
    let there_clock = in_step(&mut there, 8, &[(0, 0), (1, 4)]);
    here.want(id(1), 0);
    there.want(id(1), 2);
    let link = here.connect(id(7), false, &here_clock, 0);
    let back = there.connect(id(8), true, &there_clock, 0);
    let first = here.take_notes(link).expect("notes");
    there.heard(back, &Notes { notes: first, ignored: 0 }, 0);
    let answer = there.take_notes(back).expect("notes");
    here.heard(link, &Notes { notes: answer, ignored: 0 }, 0);
    assert_eq!(
        here.take_notes(link).map(|notes| notes.contains(&(id(1), Note::At { sequence: 0, send: true }))),
        Some(true)
    );
}

#[test]
fn a_feed_that_isnt_wanted_is_refused_once() {
    let mut node = ebt(&[]);
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(3, 8), (4, -1)]), 0);
    assert_eq!(said(&mut node, link), says(&[(3, -1)]));
    node.heard(link, &notes(&[(3, 10)]), 0);
    assert_eq!(said(&mut node, link), None);
    node.want(id(3), 0);
    assert_eq!(said(&mut node, link), says(&[(3, 0)]));
}

#[test]
fn a_peer_that_asks_gets_what_follows_and_then_what_is_appended() {
    let mut node = ebt(&[(1, 5)]);
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(1, 4)]), 0);
    let run = |from, count| Some(Run { feed: id(1), from, count });
    assert_eq!(node.next_run(link, 2), run(3, 2));
    assert_eq!(node.next_run(link, 2), run(5, 1));
    assert_eq!(node.next_run(link, 2), None);
    node.appended(&id(1), 6, 0);
    node.spread(0);
    assert_eq!(node.take_woken(), [link]);
    assert_eq!(node.next_run(link, 9), run(6, 1));
    node.heard(link, &notes(&[(1, 13)]), 0);
    node.appended(&id(1), 7, 0);
    node.spread(0);
    assert_eq!(node.next_run(link, 9), None);
    assert_eq!(said(&mut node, link), says(&[(1, 14)]));
}

#[test]
fn a_request_that_crossed_our_messages_doesnt_bring_them_twice_but_a_repeated_one_does() {
    let mut node = ebt(&[(1, 9)]);
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(1, 0)]), 0);
    assert!(node.next_run(link, 100).is_some());
    node.heard(link, &notes(&[(1, 8)]), 0);
    assert_eq!(node.next_run(link, 100), None);
    node.heard(link, &notes(&[(1, 8)]), 0);
    assert_eq!(node.next_run(link, 100), Some(Run { feed: id(1), from: 5, count: 5 }));
    // off and on starts over, too
    node.heard(link, &notes(&[(1, 9)]), 0);
    node.heard(link, &notes(&[(1, 12)]), 0);
    assert_eq!(node.next_run(link, 100), Some(Run { feed: id(1), from: 7, count: 3 }));
}

#[test]
fn feeds_take_turns() {
    let mut node = ebt(&[(1, 4), (2, 4)]);
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(1, 0), (2, 0)]), 0);
    let order: Vec<u8> = std::iter::from_fn(|| node.next_run(link, 2)).map(|run| run.feed.0[0]).collect();
    assert_eq!(order, [1, 2, 1, 2]);
}

#[test]
fn a_feed_is_asked_of_one_peer_and_moves_on_when_that_one_has_no_more() {
    let mut node = ebt(&[(1, 5)]);
    let one = node.connect(id(7), false, &[], 0);
    assert_eq!(said(&mut node, one), says(&[(0, 0), (1, 10)]));
    let two = node.connect(id(8), false, &[], 0);
    assert_eq!(said(&mut node, two), says(&[(0, 1), (1, 11)]));
    node.heard(one, &notes(&[(1, 12)]), 0);
    node.heard(two, &notes(&[(1, 12)]), 0);
    assert_eq!((said(&mut node, one), said(&mut node, two)), (None, None));
    node.heard(two, &notes(&[(1, 18)]), 0);
    assert_eq!((said(&mut node, one), said(&mut node, two)), (None, None), "the first still has something to send");
    node.outcome(one, &id(1), 6, Outcome::Stored, 0);
    node.spread(0);
    assert_eq!((said(&mut node, one), said(&mut node, two)), (says(&[(1, 13)]), says(&[(1, 12)])));
    node.heard(one, &notes(&[(1, 16)]), 0);
    node.disconnect(two, 0);
    assert_eq!(said(&mut node, one), says(&[(1, 12)]), "the other still has more than we");
}

#[test]
fn a_source_that_doesnt_deliver_is_replaced_in_turns() {
    let mut node = ebt(&[(1, 0)]);
    let links: Vec<Link> = (7..10).map(|peer| node.connect(id(peer), false, &[], 0)).collect();
    for link in &links {
        said(&mut node, *link);
        node.heard(*link, &notes(&[(1, 9)]), 0);
        said(&mut node, *link);
    }
    let mut sources = Vec::new();
    for round in 1..5 {
        node.tick(round * 3_000);
        for (peer, link) in links.iter().enumerate() {
            if said(&mut node, *link).is_some_and(|notes| notes.get(&1) == Some(&0)) {
                sources.push(peer);
            }
        }
    }
    assert_eq!(sources, [1, 2, 0, 1]);
    assert_eq!(node.accept(links[1], &id(1), 1, 14_000), Accept::Take);
    node.tick(16_000);
    assert!(links.iter().all(|link| said(&mut node, *link).is_none()), "the source delivers");
}

#[test]
fn the_only_source_is_asked_anew_ever_more_rarely() {
    let mut node = ebt(&[(1, 5)]);
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(1, 40)]), 0);
    let mut asked = Vec::new();
    for second in 1..=200 {
        node.tick(second * 1_000);
        if let Some(stop) = said(&mut node, link) {
            assert_eq!((Some(stop), said(&mut node, link)), (says(&[(1, 11)]), says(&[(1, 10)])));
            asked.push(second);
        }
    }
    assert_eq!(asked, [20, 60, 140]);
    node.appended(&id(1), 6, 200_000);
    node.tick(219_000);
    assert_eq!(said(&mut node, link), None);
    node.tick(220_000);
    assert_eq!(said(&mut node, link), says(&[(1, 13)]));
}

#[test]
fn a_message_that_wasnt_asked_for_is_not_taken() {
    let mut node = ebt(&[(1, 5)]);
    let link = node.connect(id(7), false, &[], 0);
    assert_eq!(node.accept(link, &id(1), 6, 0), Accept::Unasked, "nothing was said yet");
    said(&mut node, link);
    assert_eq!(node.accept(link, &id(1), 6, 0), Accept::Take);
    assert_eq!(node.accept(link, &id(1), 5, 0), Accept::Known);
    assert_eq!(node.accept(link, &id(3), 1, 0), Accept::Unasked);
    node.unwant(&id(1));
    assert_eq!(said(&mut node, link), says(&[(1, -1)]));
    assert_eq!(node.accept(link, &id(1), 6, 0), Accept::Stopped);
    node.disconnect(link, 0);
    assert_eq!(node.accept(link, &id(1), 6, 0), Accept::Unasked);
}

#[test]
fn a_forked_feed_stops_with_that_peer_and_goes_on_with_another() {
    let mut node = ebt(&[(1, 5)]);
    let one = node.connect(id(7), false, &[], 0);
    let two = node.connect(id(8), false, &[], 0);
    for link in [one, two] {
        said(&mut node, link);
        node.heard(link, &notes(&[(1, 16)]), 0);
        said(&mut node, link);
    }
    assert_eq!(node.accept(one, &id(1), 6, 0), Accept::Take);
    node.outcome(one, &id(1), 6, Outcome::Fork, 0);
    node.outcome(one, &id(1), 7, Outcome::Gap { have: 5 }, 0);
    assert_eq!(node.take_events(), [Event::Forked { feed: id(1), peer: id(7), sequence: 6 }]);
    assert_eq!(said(&mut node, one), says(&[(1, -1)]));
    assert_eq!(said(&mut node, two), says(&[(1, 10)]));
    assert_eq!(node.accept(one, &id(1), 8, 0), Accept::Stopped);
    assert_eq!(node.accept(two, &id(1), 6, 0), Accept::Take);
    node.outcome(two, &id(1), 6, Outcome::Stored, 0);
    node.spread(0);
    node.heard(one, &notes(&[(1, 0)]), 0);
    assert_eq!(node.next_run(one, 9), None);
}

#[test]
fn after_a_gap_the_peer_is_asked_to_start_over_once() {
    let mut node = ebt(&[(1, 5)]);
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(1, 40)]), 0);
    for sequence in 8..12 {
        assert_eq!(node.accept(link, &id(1), sequence, 0), Accept::Take);
        node.outcome(link, &id(1), sequence, Outcome::Gap { have: 5 }, 0);
    }
    assert_eq!(said(&mut node, link), says(&[(1, 11)]));
    assert_eq!(said(&mut node, link), says(&[(1, 10)]));
    node.outcome(link, &id(1), 12, Outcome::Gap { have: 5 }, 0);
    assert_eq!(said(&mut node, link), None);
}

#[test]
fn what_is_lost_is_asked_for_again_of_who_has_it() {
    let mut node = ebt(&[(1, 5)]);
    let one = node.connect(id(7), false, &[], 0);
    let two = node.connect(id(8), false, &[], 0);
    for (link, has) in [(one, 3), (two, 5)] {
        said(&mut node, link);
        node.heard(link, &notes(&[(1, has * 2)]), 0);
        said(&mut node, link);
    }
    node.lost(&id(1), 6, 0);
    node.lost(&id(9), 1, 0);
    assert_eq!((said(&mut node, one), said(&mut node, two)), (None, None));
    node.lost(&id(1), 3, 0);
    assert_eq!(said(&mut node, two), says(&[(1, 7)]), "first to stop");
    assert_eq!(said(&mut node, two), says(&[(1, 6)]), "then to begin with the fourth");
    assert_eq!(node.accept(two, &id(1), 4, 0), Accept::Take);
}

#[test]
fn nothing_is_published_while_a_peer_has_what_we_lost_of_our_own_feed() {
    let mut node = Ebt::new(id(0), 5, Settings::default());
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(0, 10)]), 0);
    assert_eq!(node.own_feed(), OwnFeed { have: 5, ahead: None });
    node.lost(&id(0), 2, 0);
    assert_eq!(node.own_feed(), OwnFeed { have: 2, ahead: Some(5) });
}

#[test]
fn a_feed_isnt_exchanged_with_a_peer_that_its_author_blocks() {
    let mut node = ebt(&[(1, 5), (2, 5)]);
    node.block(id(1), id(7), true, 0);
    let link = node.connect(id(7), false, &[], 0);
    assert_eq!(said(&mut node, link), says(&[(0, 0), (2, 10)]));
    node.heard(link, &notes(&[(1, 0), (2, 0)]), 0);
    assert_eq!(said(&mut node, link), says(&[(1, -1)]));
    assert_eq!(node.next_run(link, 9).map(|run| run.feed), Some(id(2)));
    node.block(id(2), id(7), true, 0);
    assert_eq!(said(&mut node, link), says(&[(2, -1)]));
    node.appended(&id(2), 6, 0);
    node.spread(0);
    assert_eq!(node.next_run(link, 9), None);
    node.block(id(1), id(7), false, 0);
    assert_eq!(said(&mut node, link), says(&[(1, 10)]));
}

#[test]
fn our_own_feed_is_behind_until_what_peers_have_is_taken_in() {
    let mut node = Ebt::new(id(0), 2, Settings::default());
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    assert_eq!(node.own_feed(), OwnFeed { have: 2, ahead: None });
    node.heard(link, &notes(&[(0, 8)]), 0);
    assert_eq!(node.own_feed(), OwnFeed { have: 2, ahead: Some(4) });
    for sequence in [3, 4] {
        assert_eq!(node.accept(link, &id(0), sequence, 0), Accept::Take);
        node.outcome(link, &id(0), sequence, Outcome::Stored, 0);
    }
    assert_eq!(node.own_feed(), OwnFeed { have: 4, ahead: None });
    let ahead = Event::OwnFeedAhead { peer: id(7), claimed: 4, have: 2 };
    assert_eq!(node.take_events(), [ahead, Event::OwnFeedTakenIn { have: 4 }]);
}

#[test]
fn an_idle_claim_to_have_more_of_our_feed_is_dropped_for_good() {
    let mut node = Ebt::new(id(0), 2, Settings::default());
    let link = node.connect(id(7), false, &[], 0);
    node.heard(link, &notes(&[(0, 8)]), 0);
    node.disconnect(link, 10);
    assert_eq!(node.own_feed().ahead, Some(4), "hanging up doesn't take it back");
    node.tick(60_000);
    assert_eq!(node.own_feed().ahead, None);
    let link = node.connect(id(7), false, &[], 60_000);
    node.heard(link, &notes(&[(0, 10)]), 60_000);
    assert_eq!(node.own_feed().ahead, None);
}

#[test]
fn status_and_progress_are_told_as_the_reference_does() {
    let mut node = ebt(&[(1, 5)]);
    assert_eq!(node.progress(), Progress::default());
    let link = node.connect(id(7), false, &[], 0);
    said(&mut node, link);
    node.heard(link, &notes(&[(0, 0), (1, 30)]), 0);
    let replicating = Some(Replicating { tx: true, rx: true, sent: 15, requested: 5 });
    assert_eq!(node.peer_status(&id(1)), [(id(7), PeerStatus { sequence: Some(15), replicating })]);
    assert_eq!(node.progress(), Progress { start: 0, current: 4, target: 14 });
    assert_eq!((node.incomplete(), node.behind()), (1, 10));
    node.appended(&id(1), 15, 0);
    assert_eq!((node.progress().current, node.incomplete(), node.behind()), (4, 0, 0));
    assert_eq!(node.peer_status(&id(9)), []);
}

#[test]
fn what_one_peer_can_make_us_keep_is_bounded() {
    let mut node = ebt(&[]);
    let link = node.connect(id(7), false, &[], 0);
    for round in 0..3u32 {
        let notes = (0..MAX_NOTES as u32)
            .map(|number| {
                let mut feed = [9; 32];
                feed[..4].copy_from_slice(&number.to_le_bytes());
                feed[4..8].copy_from_slice(&round.to_le_bytes());
                (FeedId(feed), Note::At { sequence: 1, send: true })
            })
            .collect();
        node.heard(link, &Notes { notes, ignored: 0 }, 0);
    }
    assert!(node.clock(link).len() <= MAX_ELSEWHERE + 1);
    let mut told = 0;
    while let Some(notes) = node.take_notes(link) {
        assert!(notes.len() <= NOTES_AT_A_TIME);
        told += notes.len();
    }
    assert_eq!(told, MAX_ELSEWHERE + 1);
}
