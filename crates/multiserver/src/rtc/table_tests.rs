use super::*;
use proptest::prelude::*;

fn peer(number: u8) -> FeedId {
    FeedId([number; 32])
}

fn session(number: u32) -> Session {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Session(bytes)
}

fn hub(number: u32) -> HubAddress {
    HubAddress::parse(&format!("https://hub{number}.example")).unwrap()
}

fn offer() -> Signal {
    Signal::Offer { sdp: "v=0".into() }
}

fn answer() -> Signal {
    Signal::Answer { sdp: "v=0".into() }
}

fn candidate() -> Signal {
    Signal::Candidate(super::super::Candidate { candidate: String::new(), sdp_m_line_index: None, sdp_mid: None })
}

/// A table of the peer 5 and a clock.
struct World {
    table: Table,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let mut table = Table::new(peer(5));
        table.listen(true);
        World { table, now: Instant::now() }
    }

    fn heard(&mut self, from: u8, number: u32, signal: &Signal) -> Verdict {
        self.table.heard(self.now, &hub(0), (peer(from), session(number)), signal)
    }

    fn answers(&self) -> usize {
        self.table.attempts.values().filter(|attempt| attempt.role == Role::Answers).count()
    }
}

fn answered() -> Verdict {
    Verdict::Answer { instead_of: Vec::new() }
}

#[test]
fn an_offer_is_answered_once_and_its_candidates_are_passed_on() {
    let mut world = World::new();
    assert_eq!(world.heard(1, 1, &candidate()), Verdict::Drop("no such session"));
    assert_eq!(world.heard(1, 1, &offer()), answered());
    assert_eq!(world.heard(1, 1, &candidate()), Verdict::Pass);
    assert_eq!(world.heard(1, 1, &offer()), Verdict::Drop("it doesn't belong to the session"));
    assert_eq!(world.heard(1, 1, &answer()), Verdict::Drop("it doesn't belong to the session"));
    // The session is of that peer.
    assert_eq!(world.heard(2, 1, &candidate()), Verdict::Drop("no such session"));
    world.table.ended(&(peer(1), session(1)));
    assert_eq!(world.heard(1, 1, &offer()), Verdict::Drop("the session is over"));
    assert_eq!(world.heard(1, 1, &candidate()), Verdict::Drop("no such session"));
    assert_eq!(world.heard(1, 2, &offer()), answered());
}

#[test]
fn an_answer_belongs_to_an_offer_of_ours_to_that_peer() {
    let mut world = World::new();
    assert_eq!(world.heard(9, 1, &answer()), Verdict::Drop("no such session"));
    assert_eq!(world.table.offer(&hub(0), (peer(9), session(1))), Ok(Vec::new()));
    assert_eq!(world.heard(8, 1, &answer()), Verdict::Drop("no such session"));
    assert_eq!(world.heard(9, 1, &answer()), Verdict::Pass);
    assert_eq!(world.heard(9, 1, &offer()), Verdict::Drop("it doesn't belong to the session"));
}

#[test]
fn of_two_offers_that_of_the_smaller_key_stands() {
    let mut world = World::new();
    // We are 5: ours stands against 9, theirs against us from 1.
    world.table.offer(&hub(0), (peer(9), session(1))).unwrap();
    world.table.offer(&hub(0), (peer(1), session(2))).unwrap();
    assert_eq!(world.heard(9, 3, &offer()), Verdict::Drop("our own offer goes first"));
    assert_eq!(world.heard(1, 4, &offer()), answered());
    // Our own to 1 is not given up: the other might have been a lie.
    assert_eq!(world.heard(1, 2, &answer()), Verdict::Pass);
    // Once ours has come to an end, theirs is as good as any.
    world.table.ended(&(peer(9), session(1)));
    assert_eq!(world.heard(9, 5, &offer()), answered());
}

#[test]
fn an_offer_that_goes_first_ends_the_answer_to_theirs() {
    let mut world = World::new();
    assert_eq!(world.heard(9, 1, &offer()), answered());
    assert_eq!(world.heard(1, 2, &offer()), answered());
    assert_eq!(world.table.offer(&hub(0), (peer(9), session(3))), Ok(vec![(peer(9), session(1))]));
    assert_eq!(world.table.offer(&hub(0), (peer(1), session(4))), Ok(Vec::new()));
    assert_eq!(world.answers(), 1);
}

#[test]
fn a_peer_that_offers_anew_gives_up_its_oldest_offer() {
    let mut world = World::new();
    assert_eq!(world.heard(1, 1, &offer()), answered());
    assert_eq!(world.heard(2, 2, &offer()), answered());
    assert_eq!(world.heard(1, 3, &offer()), answered());
    let instead_of = vec![(peer(1), session(1))];
    assert_eq!(world.heard(1, 4, &offer()), Verdict::Answer { instead_of });
}

#[test]
fn the_hub_with_most_offers_makes_room() {
    let mut world = World::new();
    let now = world.now;
    assert_eq!(world.table.heard(now, &hub(1), (peer(200), session(0)), &offer()), answered());
    for number in 1..MAX_ANSWERS as u32 {
        assert_eq!(world.heard(10 + number as u8, number, &offer()), answered());
    }
    let oldest = vec![(peer(11), session(1))];
    assert_eq!(world.heard(100, 100, &offer()), Verdict::Answer { instead_of: oldest });
    assert_eq!(world.answers(), MAX_ANSWERS);
}

#[test]
fn a_hub_can_make_us_open_so_many_connections_in_a_time_and_no_more() {
    let mut world = World::new();
    let flood = |world: &mut World, from: u32| {
        (0..300).filter(|number| matches!(world.heard(1, from + number, &offer()), Verdict::Answer { .. })).count()
    };
    assert_eq!(flood(&mut world, 0), OFFERS.at_once as usize);
    assert_eq!(flood(&mut world, 1000), 0);
    // Another hub is not held to account for it.
    assert_eq!(
        world.table.heard(world.now, &hub(1), (peer(2), session(1)), &offer()),
        Verdict::Answer { instead_of: Vec::new() }
    );
    world.now += Duration::from_secs(1);
    assert_eq!(flood(&mut world, 2000), OFFERS.a_second as usize);
    for _ in 0..SIGNALS.at_once {
        world.heard(1, 1, &candidate());
    }
    assert_eq!(world.heard(1, 1, &candidate()), Verdict::Drop("too many signals come by this hub"));
}

#[test]
fn a_session_takes_so_many_signals_and_no_more() {
    let mut world = World::new();
    world.heard(1, 1, &offer());
    for _ in 0..MAX_SIGNALS {
        assert_eq!(world.heard(1, 1, &candidate()), Verdict::Pass);
    }
    assert_eq!(world.heard(1, 1, &candidate()), Verdict::Drop("too many signals in a session"));
}

#[test]
fn nobody_is_answered_who_claims_to_be_us_or_when_nobody_listens() {
    let mut world = World::new();
    assert_eq!(world.heard(5, 1, &offer()), Verdict::Drop("it claims to be our own"));
    assert!(world.table.offer(&hub(0), (peer(5), session(1))).is_err());
    world.heard(1, 1, &offer());
    world.table.offer(&hub(0), (peer(1), session(2))).unwrap();
    assert_eq!(world.table.listen(false), vec![(peer(1), session(1))]);
    assert_eq!(world.heard(1, 3, &offer()), Verdict::Drop("offers are not answered"));
    assert_eq!(world.heard(1, 2, &answer()), Verdict::Pass);
}

#[test]
fn offers_of_ours_are_bounded() {
    let mut world = World::new();
    for number in 0..MAX_OFFERS as u32 {
        world.table.offer(&hub(0), (peer(1), session(number))).unwrap();
    }
    assert!(world.table.offer(&hub(0), (peer(1), session(1000))).is_err());
    world.table.ended(&(peer(1), session(0)));
    world.table.offer(&hub(0), (peer(1), session(1000))).unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Heard(u32, u8, u32, u8),
    Offer(u8, u32),
    Ended(u8, u32),
    Listen(bool),
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u32..400, 0u8..12, 0u32..60, 0u8..4).prop_map(|(hub, from, session, kind)| Step::Heard(hub, from, session, kind)),
        2 => (0u8..12, 0u32..60).prop_map(|(to, session)| Step::Offer(to, session)),
        2 => (0u8..12, 0u32..60).prop_map(|(of, session)| Step::Ended(of, session)),
        1 => any::<bool>().prop_map(Step::Listen),
        1 => any::<u16>().prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn the_bounds_hold_whatever_is_said(steps in prop::collection::vec(step(), 0..400)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Heard(by, from, number, kind) => {
                    let signal = [offer(), answer(), candidate(), Signal::Other][usize::from(kind)].clone();
                    let known = world.table.attempts.contains_key(&(peer(from), session(number)));
                    let verdict = world.table.heard(world.now, &hub(by), (peer(from), session(number)), &signal);
                    let answered_twice = known && matches!(verdict, Verdict::Answer { .. });
                    prop_assert!(!answered_twice);
                }
                Step::Offer(to, number) => drop(world.table.offer(&hub(0), (peer(to), session(number)))),
                Step::Ended(of, number) => world.table.ended(&(peer(of), session(number))),
                Step::Listen(listening) => drop(world.table.listen(listening)),
                Step::Wait(millis) => world.now += Duration::from_millis(millis.into()),
            }
            prop_assert!(world.answers() <= MAX_ANSWERS);
            prop_assert!(world.table.len() <= MAX_ANSWERS + MAX_OFFERS);
            prop_assert!(world.table.hubs.len() <= MAX_HUBS);
            prop_assert!(world.table.remembered.len() <= MAX_REMEMBERED);
            for of in 0..12 {
                let answers = world.table.attempts.iter().filter(|((from, _), it)| *from == peer(of) && it.role == Role::Answers);
                prop_assert!(answers.count() <= MAX_ANSWERS_PER_PEER);
            }
        }
    }
}
