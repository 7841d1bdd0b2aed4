//! The plots: what came of a world over time, one colour a policy.

use crate::engine::Outcome;
use crate::policy::Kind;
use crate::settings::{DAY, HOUR, MINUTE, Millis, SECOND};
use crate::svg::{Chart, Line};
use crate::table::times_until;
use crate::world::World;

/// Points of a curve of shares.
const POINTS: usize = 200;

fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Ours => "#0b6e4f",
        Kind::SsbConn => "#c1440e",
    }
}

fn line(outcome: &Outcome, what: &str, dashed: bool, points: Vec<(f64, f64)>) -> Line {
    Line { name: format!("{}{what}", outcome.kind.name()), colour: colour(outcome.kind), dashed, points }
}

/// The files: names and texts.
pub fn plots(world: &World, outcomes: &[Outcome]) -> Vec<(&'static str, String)> {
    vec![
        ("connections.svg", connections(outcomes)),
        ("reconnect.svg", reconnect(world, outcomes)),
        ("dials.svg", dials(outcomes)),
        ("spread.svg", spread(outcomes)),
        ("known.svg", known(outcomes)),
    ]
}

fn days(at: Millis) -> f64 {
    at as f64 / DAY as f64
}

fn connections(outcomes: &[Outcome]) -> String {
    let mut lines = Vec::new();
    if let Some(outcome) = outcomes.first() {
        let online = outcome.measures.samples.iter().map(|sample| (days(sample.at), sample.online as f64));
        lines.push(Line {
            name: "peers online".to_owned(),
            colour: "#999999",
            dashed: false,
            points: online.collect(),
        });
    }
    lines.extend(outcomes.iter().map(|outcome| {
        let links = outcome.measures.samples.iter().map(|sample| (days(sample.at), sample.links as f64));
        line(outcome, ": links", false, links.collect())
    }));
    let title = "Connections over time (at each hour)";
    Chart { title, across: "days", up: "in all", decades: false, lines }.draw()
}

fn reconnect(world: &World, outcomes: &[Outcome]) -> String {
    let begin = world.reconnect.saturating_sub(5 * MINUTE);
    let minutes = |at: Millis| at.saturating_sub(begin) as f64 / MINUTE as f64;
    let lines = outcomes.iter().map(|outcome| {
        let samples = outcome.measures.around_reconnect.iter();
        line(outcome, ": links", false, samples.map(|sample| (minutes(sample.at), sample.links as f64)).collect())
    });
    let title = "Everyone's network reconnects in minute 5";
    Chart { title, across: "minutes", up: "links in all", decades: false, lines: lines.collect() }.draw()
}

fn dials(outcomes: &[Outcome]) -> String {
    let hourly = |minutes: &[u32]| -> Vec<(f64, f64)> {
        let hours = minutes.chunks((HOUR / MINUTE) as usize).enumerate();
        let mean = |hour: &[u32]| hour.iter().sum::<u32>() as f64 / hour.len() as f64;
        hours.map(|(hour, minutes)| (days(hour as Millis * HOUR), mean(minutes))).collect()
    };
    let lines = outcomes.iter().flat_map(|outcome| {
        [
            line(outcome, ": all", false, hourly(&outcome.measures.dials)),
            line(outcome, ": failed", true, hourly(&outcome.measures.failed)),
        ]
    });
    let title = "Dials a minute, all peers together (mean of each hour)";
    Chart { title, across: "days", up: "a minute", decades: false, lines: lines.collect() }.draw()
}

fn spread(outcomes: &[Outcome]) -> String {
    let curve = |outcome: &Outcome, share: f64| -> Vec<(f64, f64)> {
        let times = times_until(&outcome.measures, share);
        let point = |number: usize| {
            let rank = number * times.len().saturating_sub(1) / POINTS;
            let seconds = times.get(rank).copied().flatten()?.max(SECOND / 10) as f64 / SECOND as f64;
            Some((seconds.log10(), 100.0 * (rank + 1) as f64 / times.len() as f64))
        };
        (0..=POINTS).filter_map(point).collect()
    };
    let lines = outcomes.iter().flat_map(|outcome| {
        [line(outcome, ": 50 %", true, curve(outcome, 0.5)), line(outcome, ": 99 %", false, curve(outcome, 0.99))]
    });
    let title = "Messages that have reached 50 and 99 % of their reachable followers";
    let across = "seconds that the followers waited";
    Chart { title, across, up: "% of messages", decades: true, lines: lines.collect() }.draw()
}

fn known(outcomes: &[Outcome]) -> String {
    let lines = outcomes.iter().map(|outcome| {
        let points = outcome.measures.knowledge.iter().map(|known| (days(known.at), known.mean));
        line(outcome, ": known peers", false, points.collect())
    });
    let title = "Peers that one peer knows, on average";
    Chart { title, across: "days", up: "peers", decades: false, lines: lines.collect() }.draw()
}
