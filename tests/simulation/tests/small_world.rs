//! A world that is small enough to be run by every test run.

use std::sync::LazyLock;

use sbot_simulation::{DAY, HOUR, Kind, Measures, Millis, Settings, Spread, World, run, table};

fn settings() -> Settings {
    Settings {
        peers: 60,
        duration: 2 * DAY,
        messages_a_day: 300,
        tail: 12 * HOUR,
        partitions: 1,
        partition_length: (HOUR, 2 * HOUR),
        ..Settings::default()
    }
}

static WORLD: LazyLock<World> = LazyLock::new(|| World::new(settings()));
static OURS: LazyLock<Measures> = LazyLock::new(|| run(&WORLD, Kind::Ours).measures);
static THEIRS: LazyLock<Measures> = LazyLock::new(|| run(&WORLD, Kind::SsbConn).measures);

/// The times after which messages had reached 99 % of their reachable followers, the shortest first.
fn times(measures: &Measures) -> Vec<Millis> {
    let until = |spread: &Spread| spread.until(0.99).unwrap_or(Millis::MAX);
    let mut times: Vec<_> = measures.spreads.iter().map(until).collect();
    times.sort_unstable();
    times
}

#[test]
fn the_same_seed_gives_the_same_table() {
    let again = World::new(settings());
    for kind in [Kind::Ours, Kind::SsbConn] {
        let [first, second] = [&*WORLD, &again].map(|world| table(world, &[run(world, kind)]));
        assert_eq!(first, second);
    }
    let other = World::new(Settings { seed: 2, ..settings() });
    assert_ne!(table(&WORLD, &[run(&WORLD, Kind::Ours)]), table(&other, &[run(&other, Kind::Ours)]));
}

#[test]
fn every_message_reaches_all_reachable_followers() {
    assert!(OURS.spreads.len() > 200, "only {} messages have reachable followers", OURS.spreads.len());
    let missed = OURS.spreads.iter().filter(|spread| spread.until(1.0).is_none()).count();
    assert_eq!(missed, 0);
}

#[test]
fn no_peer_exceeds_its_limits() {
    assert_eq!(OURS.over_limit, 0);
}

#[test]
fn at_most_a_third_as_many_dials_fail_as_with_ssb_conn() {
    let [(_, ours), (_, theirs)] = [OURS.all_dials(), THEIRS.all_dials()];
    assert!(ours * 3 <= theirs, "{ours} of ours, {theirs} of ssb-conn's");
}

#[test]
fn messages_reach_nearly_everyone_no_later_than_with_ssb_conn() {
    let [ours, theirs] = [times(&OURS), times(&THEIRS)];
    for (name, at) in [("median", theirs.len() / 2), ("95th percentile", theirs.len() * 95 / 100)] {
        assert!(ours[at] <= theirs[at], "{name}: {} ms, with ssb-conn {} ms", ours[at], theirs[at]);
    }
}
