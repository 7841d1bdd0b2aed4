//! The table: what came of a world, one column a policy.

use comfy_table::{CellAlignment, Table, presets};

use crate::engine::Outcome;
use crate::measure::{Cost, Measures, Sample};
use crate::settings::{DAY, HOUR, MINUTE, Millis, SECOND};
use crate::world::World;

/// How much of the links before the reconnect must be there again.
const BACK: f64 = 0.9;

/// A line of the table: what it says, and how it is made of an outcome.
struct Row {
    name: &'static str,
    cell: fn(&World, &Measures) -> String,
}

/// The lines of [`table`], in order. All come from virtual time: the same seed gives the same.
const ROWS: &[Row] = &[
    Row { name: "peers online, mean", cell: |_, of| one(mean(of.samples.iter().map(|sample| sample.online as f64))) },
    Row { name: "links in all, mean", cell: |_, of| one(mean(of.samples.iter().map(|sample| sample.links as f64))) },
    Row { name: "people online without a link, % of peers online", cell: |_, of| one(100.0 * alone(of)) },
    Row { name: "a link lasts, mean", cell: |_, of| span(of.link_time / of.links.max(1)) },
    Row { name: "links ended by choice, a peer and day", cell: |world, of| a_peer_and_day(world, of.hung_up) },
    Row { name: "dials, a peer and day", cell: |world, of| a_peer_and_day(world, of.all_dials().0) },
    Row { name: "failed dials, a peer and day", cell: |world, of| a_peer_and_day(world, of.all_dials().1) },
    Row { name: "failed dials in all", cell: |_, of| of.all_dials().1.to_string() },
    Row { name: "of these, of dead addresses", cell: |_, of| of.failed_dead.to_string() },
    Row { name: "dials a minute, mean", cell: |_, of| one(mean(of.dials.iter().map(|dials| f64::from(*dials)))) },
    Row { name: "dials a minute, most", cell: |_, of| most(&of.dials) },
    Row { name: "dials a second after the reconnect, most", cell: |_, of| most(&of.stampede) },
    Row { name: "90 % of the links are back after", cell: |world, of| until_back(world, of).map_or_else(never, span) },
    Row { name: "messages with reachable followers", cell: |_, of| of.spreads.len().to_string() },
    Row { name: "of these, reached all, %", cell: |_, of| two(100.0 * complete(of)) },
    Row { name: "50 % of the followers have it after: median, p95", cell: |_, of| reached(of, 0.5) },
    Row { name: "99 % of the followers have it after: median, p95", cell: |_, of| reached(of, 0.99) },
    Row { name: "100 % of the followers have it after: median, p95", cell: |_, of| reached(of, 1.0) },
    Row { name: "known peers at the end: mean, most", cell: |_, of| known(of) },
    Row { name: "own limits exceeded", cell: |_, of| of.over_limit.to_string() },
    Row { name: "events in the world", cell: |_, of| of.events.to_string() },
];

/// All that was measured in virtual time.
pub fn table(world: &World, outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let header = std::iter::once("").chain(outcomes.iter().map(|outcome| outcome.kind.name()));
    table.set_header(header);
    for row in ROWS {
        let cells = outcomes.iter().map(|outcome| (row.cell)(world, &outcome.measures));
        table.add_row(std::iter::once(row.name.to_owned()).chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// What the reducer cost in real time, how large its state is, and how long the run took: differs from run to run.
pub fn costs(outcome: &Outcome) -> String {
    let name = outcome.kind.name();
    let took = format!("{name}: the run took {:.1} s", outcome.took.as_secs_f64());
    let cost: &Cost = &outcome.cost;
    if cost.calls() == 0 {
        return took;
    }
    let (mean, p99) = (cost.mean() / 1000.0, cost.quantile(0.99) / 1000.0);
    let (bytes, most) = outcome.measures.bytes;
    let calls = cost.calls();
    format!(
        "{took}; {calls} actions, {mean:.2} µs each on average, 99 % in less than {p99:.2} µs; \
         a state as JSON: {:.1} kB on average, {:.1} kB the largest",
        bytes / 1000.0,
        most as f64 / 1000.0
    )
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    sum / f64::from(count.max(1))
}

fn one(value: f64) -> String {
    format!("{value:.1}")
}

fn two(value: f64) -> String {
    format!("{value:.2}")
}

fn most(values: &[u32]) -> String {
    values.iter().max().copied().unwrap_or(0).to_string()
}

fn never() -> String {
    "never".to_owned()
}

/// A time, for people.
pub(crate) fn span(time: Millis) -> String {
    let units = [(DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s")];
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| time >= *unit) else { return format!("{time} ms") };
    format!("{:.1} {name}", time as f64 / unit as f64)
}

fn a_peer_and_day(world: &World, count: u64) -> String {
    let days = world.settings.duration as f64 / DAY as f64;
    two(count as f64 / world.settings.peers as f64 / days)
}

fn alone(of: &Measures) -> f64 {
    let sum = |what: fn(&Sample) -> usize| of.samples.iter().map(what).sum::<usize>() as f64;
    sum(|sample| sample.alone) / sum(|sample| sample.online).max(1.0)
}

fn complete(of: &Measures) -> f64 {
    of.spreads.iter().filter(|spread| spread.until(1.0).is_some()).count() as f64 / of.spreads.len().max(1) as f64
}

/// How long after the reconnect there are nearly as many links again as there were before.
fn until_back(world: &World, of: &Measures) -> Option<Millis> {
    let (before, after): (Vec<&Sample>, Vec<&Sample>) =
        of.around_reconnect.iter().partition(|sample| sample.at < world.reconnect);
    let enough = BACK * mean(before.iter().map(|sample| sample.links as f64));
    let back = after.iter().filter(|sample| sample.at > world.reconnect);
    back.clone().find(|sample| sample.links as f64 >= enough).map(|sample| sample.at - world.reconnect)
}

/// For each message, how long it took until this share of its reachable followers had it; the shortest first, and those
/// that never reached so many last.
pub(crate) fn times_until(of: &Measures, share: f64) -> Vec<Option<Millis>> {
    let mut times: Vec<_> = of.spreads.iter().map(|spread| spread.until(share)).collect();
    times.sort_unstable_by_key(|time| time.unwrap_or(Millis::MAX));
    times
}

/// What this share of messages needed at most.
pub(crate) fn quantile(times: &[Option<Millis>], share: f64) -> Option<Millis> {
    let rank = (times.len() as f64 * share).ceil() as usize;
    times.get(rank.max(1) - 1).copied().flatten()
}

fn reached(of: &Measures, share: f64) -> String {
    let times = times_until(of, share);
    let [median, p95] = [0.5, 0.95].map(|share| quantile(&times, share).map_or_else(never, span));
    format!("{median}, {p95}")
}

fn known(of: &Measures) -> String {
    of.knowledge.last().map_or_else(String::new, |last| format!("{:.1}, {}", last.mean, last.most))
}
