//! kill -9 at any moment of an import and of a sync: what is left starts again, is whole, and goes on.
//!
//! The moments are drawn from a seed, which a failure names; `SBOT_KILL_SEED` takes another. They are lengths of the log
//! on disk, not times: so they fall into the work on fast machines and on slow ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sbot_interop::{End, SbotNode, network_key, wait_until};
use sbot_testbot::feeds::{Draws, Network};
use serde_json::{Value, json};
use tempfile::TempDir;

const MESSAGES: usize = 10_000;
const AUTHORS: usize = 40;
/// Data directories that are begun anew.
const WORLDS: usize = 10;
/// Kills that each of them survives, one after another.
const KILLS: usize = 5;
/// Longest rest of an exchange.
const EXCHANGE: Duration = Duration::from_secs(60);
/// Time between two looks at a log's length.
const LOOK: Duration = Duration::from_micros(100);
/// Longest pause between the length and the kill: it may fall before, into or behind the next write.
const PAUSE: Duration = Duration::from_millis(3);

/// A log in a file, and what a peer that has it must answer.
struct Log {
    file: PathBuf,
    clock: BTreeMap<String, u64>,
    /// The id of each feed's message, by author and sequence: `previous` of the one after it.
    previous: BTreeMap<(String, u64), String>,
    feeds: Vec<String>,
    key: String,
    world: TempDir,
}

impl Log {
    fn new() -> Result<Self> {
        let world = tempfile::tempdir()?;
        let mut network = Network::new(3, AUTHORS);
        let messages = network.grow(MESSAGES)?;
        let file = world.path().join("log.jsonl");
        let (mut clock, mut previous) = (BTreeMap::new(), BTreeMap::new());
        for message in &messages {
            let message: Value = serde_json::from_slice(message)?;
            let (author, sequence) = place(&message)?;
            clock.insert(author.clone(), sequence);
            if let Some(key) = message["previous"].as_str() {
                previous.insert((author, sequence - 1), key.to_owned());
            }
        }
        fs::write(&file, messages.join(&b"\n"[..]))?;
        let feeds = network.ids().iter().map(ToString::to_string).collect();
        Ok(Self { file, clock, previous, feeds, key: network_key()?, world })
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.world.path().join(name)
    }

    /// Number of messages of the log that the node has. Everything that it has must be whole: what it streams, what its
    /// clock says, and its own messages whose publishing was answered.
    fn check(&self, node: &SbotNode, published: &[String]) -> Result<usize> {
        ensure!(node.call("whoami", json!([]))?["id"] == json!(node.id), "whoami");
        let mut tips: BTreeMap<String, (u64, String)> = BTreeMap::new();
        let (mut of_log, mut own) = (0, Vec::new());
        for item in node.source("createLogStream", json!([{}]))? {
            let message = &item["value"];
            let (author, sequence) = place(message)?;
            let key = item["key"].as_str().context("no key")?.to_owned();
            let before = tips.get(&author);
            let next = before.map_or(1, |(sequence, _)| sequence + 1);
            ensure!(sequence == next, "{author} has {sequence} where {next} was due");
            let previous = before.map_or(Value::Null, |(_, key)| json!(key));
            ensure!(message["previous"] == previous, "{sequence} of {author} doesn't hold on to what is before it");
            if author == node.id {
                own.push(key.clone());
            } else {
                of_log += 1;
                let right = self.previous.get(&(author.clone(), sequence));
                ensure!(right.is_none_or(|right| *right == key), "{sequence} of {author} is {key}, not {right:?}");
            }
            tips.insert(author, (sequence, key));
        }
        let clock: BTreeMap<String, u64> = serde_json::from_value(node.call("getVectorClock", json!([]))?)?;
        let streamed: BTreeMap<String, u64> =
            tips.into_iter().map(|(author, (sequence, _))| (author, sequence)).collect();
        let clock: BTreeMap<String, u64> = clock.into_iter().filter(|(_, sequence)| *sequence > 0).collect();
        ensure!(clock == streamed, "the clock says {clock:?}, the log {streamed:?}");
        let lost: Vec<_> = published.iter().filter(|message| !own.contains(message)).collect();
        ensure!(lost.is_empty(), "own messages are lost: {lost:?}");
        Ok(of_log)
    }

    /// Checks that the node has all.
    fn is_complete(&self, node: &SbotNode, published: &[String]) -> Result<()> {
        let found = self.check(node, published)?;
        ensure!(found == MESSAGES, "{found} of {MESSAGES} messages are there");
        let clock = others(node)?;
        ensure!(clock == self.clock, "the clock is {clock:?}, not {:?}", self.clock);
        Ok(())
    }
}

fn place(message: &Value) -> Result<(String, u64)> {
    let author = message["author"].as_str().context("no author")?;
    Ok((author.to_owned(), message["sequence"].as_u64().context("no sequence")?))
}

/// The moments of kills: `WORLDS` times `KILLS`.
struct Moments {
    seed: u64,
    draws: Draws,
    /// Length of the whole log.
    whole: u64,
}

/// A moment: when the log in `dir` is so long, and a pause after that.
struct Moment {
    dir: PathBuf,
    bytes: u64,
    pause: Duration,
}

impl Moments {
    /// Those of a log that is whole in the data directory `measured`; `of` tells one test's from the other's.
    fn within(measured: &Path, of: u64) -> Result<Self> {
        let seed = std::env::var("SBOT_KILL_SEED").map_or(Ok(1), |text| text.parse())?;
        let whole = log_bytes(measured);
        ensure!(whole > MESSAGES as u64 * 100, "the log is of {whole} bytes");
        Ok(Self { seed, draws: Draws::new(seed.wrapping_mul(2).wrapping_add(of)), whole })
    }

    /// One between what is in `dir` now and the whole; rather an early one, so that something is left for the next.
    fn next(&mut self, dir: &Path) -> Moment {
        let now = log_bytes(dir);
        let part = self.draws.unit().powi(3);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small"
        )]
        let more = (self.whole.saturating_sub(now) as f64 * part) as u64;
        Moment { dir: dir.to_owned(), bytes: now + more, pause: PAUSE.mul_f64(self.draws.unit()) }
    }

    fn context(&self, world: usize, kill: usize, moment: &Moment) -> String {
        let Moment { bytes, pause, .. } = moment;
        format!("seed {}, world {world}, kill {kill} at {bytes} bytes of {} and {pause:?}", self.seed, self.whole)
    }
}

impl Moment {
    /// Waits for it, or until `done`.
    fn wait(&self, mut done: impl FnMut() -> bool) {
        let begin = Instant::now();
        while log_bytes(&self.dir) < self.bytes && !done() && begin.elapsed() < EXCHANGE {
            thread::sleep(LOOK);
        }
        thread::sleep(self.pause);
    }
}

/// Length of the log in the data directory `dir`.
fn log_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir.join("log")) else { return 0 };
    let segments = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("log-"));
    segments.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

fn own(node: &mut SbotNode, published: &mut Vec<String>) -> Result<()> {
    let message = node.publish(json!({"type": "post", "text": format!("number {}", published.len())}))?;
    published.push(message);
    Ok(())
}

#[test]
fn a_killed_import_leaves_a_whole_log_and_can_be_finished() -> Result<()> {
    let log = Log::new()?;
    SbotNode::import(&log.dir("measured"), &log.key, &log.file)?;
    let mut moments = Moments::within(&log.dir("measured"), 0)?;
    let (mut unfinished, mut begun) = (0, 0);
    for world in 0..WORLDS {
        let dir = log.dir(&format!("import-{world}"));
        fs::create_dir_all(&dir)?;
        let mut published = Vec::new();
        for kill in 0..KILLS {
            let moment = moments.next(&dir);
            let found = killed_import(&log, &dir, &moment, &mut published)
                .with_context(|| moments.context(world, kill, &moment))?;
            begun += usize::from(found > 0);
            unfinished += usize::from(found < MESSAGES);
        }
        SbotNode::import(&dir, &log.key, &log.file)?;
        log.is_complete(&SbotNode::start(&dir, &log.key)?, &published)?;
    }
    println!("{} kills: {begun} found messages, {unfinished} were before the end", WORLDS * KILLS);
    ensure!(begun > 0 && unfinished > WORLDS, "the kills miss the import");
    Ok(())
}

/// Imports, kills it, starts a server on what is left, publishes, and kills that too.
fn killed_import(log: &Log, dir: &Path, moment: &Moment, published: &mut Vec<String>) -> Result<usize> {
    let mut command = SbotNode::command(dir, &log.key, &["import", &log.file.to_string_lossy()])?;
    let mut import = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    moment.wait(|| !matches!(import.try_wait(), Ok(None)));
    // It may have ended already.
    let _ = import.kill();
    import.wait()?;
    let mut node = SbotNode::start(dir, &log.key)?;
    let found = log.check(&node, published)?;
    // Dropping the node kills it: the message must be there after the next start.
    own(&mut node, published)?;
    Ok(found)
}

#[test]
fn a_killed_sync_leaves_a_whole_log_and_completes_after_the_restart() -> Result<()> {
    let log = Log::new()?;
    let from = log.dir("from");
    SbotNode::import(&from, &log.key, &log.file)?;
    let mut from = SbotNode::start(&from, &log.key)?;
    from.want(&log.feeds)?;

    let mut moments = Moments::within(&log.dir("from"), 1)?;

    let (mut unfinished, mut begun, mut answered) = (0, 0, 0);
    for world in 0..WORLDS {
        let dir = log.dir(&format!("to-{world}"));
        let mut published = Vec::new();
        let mut node = SbotNode::start(&dir, &log.key)?;
        for kill in 0..KILLS {
            let moment = moments.next(&dir);
            let context = || moments.context(world, kill, &moment);
            killed_sync(&log, node, &from.address, &moment, &mut published).with_context(context)?;
            node = SbotNode::start(&dir, &log.key).with_context(context)?;
            let found = log.check(&node, &published).with_context(context)?;
            begun += usize::from(found > 0);
            unfinished += usize::from(found < MESSAGES);
        }
        node.want(&log.feeds)?;
        node.connect(&from.address)?;
        arrives(&node)?;
        log.is_complete(&node, &published)?;
        answered += published.len();
    }
    println!(
        "{} kills: {begun} found messages, {unfinished} were before the end; {answered} own messages were answered",
        WORLDS * KILLS
    );
    ensure!(begun > 0 && unfinished > WORLDS && answered > 0, "the kills miss the sync");
    Ok(())
}

/// Connects, publishes all the while, and is killed in the midst of it.
fn killed_sync(
    log: &Log,
    mut node: SbotNode,
    address: &str,
    moment: &Moment,
    published: &mut Vec<String>,
) -> Result<()> {
    node.want(&log.feeds)?;
    let pid = node.pid().to_string();
    node.connect(address)?;
    let killed = thread::scope(|scope| {
        let killer = scope.spawn(|| {
            moment.wait(|| false);
            Command::new("kill").args(["-KILL", &pid]).status()
        });
        // It fails when the node has gone; before that only if it doesn't publish yet.
        while !killer.is_finished() {
            if own(&mut node, published).is_err() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        killer.join()
    });
    let killed = killed.map_err(|_| anyhow::anyhow!("the killer panicked"))??;
    ensure!(killed.success(), "kill failed");
    Ok(())
}

/// Waits until the node has the whole log. Of its own messages it may have more than were answered.
fn arrives(node: &SbotNode) -> Result<()> {
    let whole = || Ok(others(node)?.values().sum::<u64>() >= MESSAGES as u64);
    wait_until("all messages arrive", EXCHANGE, whole).map(|_| ())
}

/// The node's clock, but for its own feed.
fn others(node: &SbotNode) -> Result<BTreeMap<String, u64>> {
    let mut clock: BTreeMap<String, u64> = serde_json::from_value(node.call("getVectorClock", json!([]))?)?;
    clock.retain(|feed, sequence| *feed != node.id && *sequence > 0);
    Ok(clock)
}
