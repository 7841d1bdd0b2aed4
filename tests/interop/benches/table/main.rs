//! Our figures beside those of the JavaScript peers on the same machine in the same run: `cargo bench -p sbot-interop`.
//!
//! All are of real processes that talk over loopback; files are in the page cache. Each goal is one that the project set
//! itself for a machine with two cores.

mod blobs;
mod tools;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, bail, ensure};
use sbot_interop::{End, JsPeer, Kind, Network, SbotNode, Spec, network_key};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use tools::{Memory, Row, Started, median, over_socket, over_tcp, per_second, rate, run, ssb_client};

const HELP: &str = "\
cargo bench -p sbot-interop [-- OPTIONS]
  --quick      10,000 messages instead of 100,000, and nothing with a million
  --only NAME  one experiment, may be given again: import sync log whoami start blobs million";

type Experiment = fn(&mut Bench) -> Result<()>;

const EXPERIMENTS: [(&str, Experiment); 7] = [
    ("import", Bench::import),
    ("sync", Bench::syncs),
    ("log", Bench::log_stream),
    ("whoami", Bench::whoami),
    ("start", Bench::start),
    ("blobs", Bench::blobs),
    ("million", Bench::million),
];

const AUTHORS: usize = 500;
const MILLION: u64 = 1_000_000;
/// Of ours, which are short, the middle one of so many runs is shown.
const ROUNDS: usize = 3;
/// Longest exchange.
const EXCHANGE: Duration = Duration::from_secs(240);
/// Time between two looks at a receiver's clock.
const LOOK: Duration = Duration::from_millis(20);
/// Time after a start until a node is called idle.
const REST: Duration = Duration::from_secs(3);
const CALLS: u32 = 1_000;
/// Calls at ssb-server: each takes some 90 ms.
const THEIR_CALLS: &str = "50";
/// What our node can make of its log, below its data directory.
const INDEXES: [&str; 4] = ["log/index", "log/claimed", "log/links", "readable"];

struct Bench {
    network: Network,
    key: String,
    quick: bool,
    world: TempDir,
    runtime: Runtime,
    rows: Vec<Row>,
    /// Data directories with all messages, by who made them.
    ours: Option<PathBuf>,
    classic: Option<PathBuf>,
    db2: Option<PathBuf>,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs this too, and means no measurement.
    if !words.iter().any(|word| word == "--bench") || words.iter().any(|word| word == "--help") {
        println!("{HELP}");
        return Ok(());
    }
    let (mut quick, mut only) = (false, Vec::new());
    let mut rest = words.into_iter().filter(|word| word != "--bench");
    while let Some(word) = rest.next() {
        match word.as_str() {
            "--quick" => quick = true,
            "--only" => only.push(rest.next().context(HELP)?),
            other => bail!("what is {other}?\n{HELP}"),
        }
    }
    if let Some(name) = only.iter().find(|name| EXPERIMENTS.iter().all(|(known, _)| known != name)) {
        bail!("there is no experiment {name}\n{HELP}");
    }
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut bench = Bench {
        network: Network::get(Spec {
            messages: if quick { 10_000 } else { 100_000 },
            authors: AUTHORS,
            blocks: false,
        })?,
        key: network_key()?,
        quick,
        world: tempfile::Builder::new().prefix("b").tempdir_in(tmp)?,
        runtime: Runtime::new()?,
        rows: Vec::new(),
        ours: None,
        classic: None,
        db2: None,
    };
    for (name, experiment) in EXPERIMENTS {
        let wanted = if only.is_empty() { name != "million" || !quick } else { only.iter().any(|one| one == name) };
        if wanted {
            eprintln!("{name} …");
            if let Err(error) = experiment(&mut bench) {
                bench.row(name, "failed", "", "", Some(false));
                eprintln!("{name} failed: {error:#}");
            }
        }
    }
    let cores = thread::available_parallelism()?;
    println!("\n{} messages of {AUTHORS} feeds, {cores} cores, load {}", bench.network.messages, load());
    tools::print(&bench.rows);
    ensure!(bench.rows.iter().all(|row| row.ours != "failed"), "not everything could be measured");
    Ok(())
}

/// What the machine has been doing, this run included.
fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').take(3).collect::<Vec<_>>().join(" ")
}

impl Bench {
    fn row(&mut self, what: &str, ours: &str, theirs: &str, goal: &str, met: Option<bool>) {
        let [what, ours, theirs, goal] = [what, ours, theirs, goal].map(str::to_owned);
        eprintln!("  {what}: {ours} | {theirs}");
        self.rows.push(Row { what, ours, theirs, goal, met });
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.world.path().join(name)
    }

    /// Takes the log into a fresh directory: rate and peak of memory.
    fn take_in(&self, name: &str, log: &Path, messages: u64) -> Result<(f64, f64)> {
        let dir = self.dir(name);
        let _ = fs::remove_dir_all(&dir);
        let (took, peak) = run(&dir, &self.key, &["import", &log.to_string_lossy()])?;
        Ok((per_second(messages, took), peak))
    }

    /// A data directory of ours with all messages, that a server has run on: the first start after an import has something
    /// to finish, as it has with the JavaScript peers.
    fn ours(&mut self) -> Result<PathBuf> {
        if self.ours.is_none() {
            let dir = self.dir("ours");
            if !dir.exists() {
                self.take_in("ours", &self.network.log(), self.network.messages)?;
            }
            let first = Started::on(&dir, &self.key)?;
            thread::sleep(REST);
            first.stop()?;
            self.ours = Some(dir);
        }
        self.ours.clone().context("just made")
    }

    /// A data directory of a JavaScript peer with all messages.
    fn theirs(&mut self, kind: Kind) -> Result<PathBuf> {
        let dir = self.dir(if kind == Kind::Db2 { "db2" } else { "classic" });
        let known = if kind == Kind::Db2 { &mut self.db2 } else { &mut self.classic };
        if known.is_none() {
            self.network.data_for(kind, &dir)?;
            *known = Some(dir.clone());
        }
        Ok(dir)
    }

    fn import(&mut self) -> Result<()> {
        let (log, messages) = (self.network.log(), self.network.messages);
        let runs = (0..ROUNDS).map(|_| self.take_in("ours", &log, messages)).collect::<Result<Vec<_>>>()?;
        let ours = median(runs.iter().map(|(rate, _)| *rate).collect());
        let peak = median(runs.iter().map(|(_, peak)| *peak).collect());
        let started = |log: Option<&Path>, name: &str| -> Result<Duration> {
            let begin = Instant::now();
            JsPeer::start(Kind::Classic, &self.dir(name), &self.key, log)?;
            Ok(begin.elapsed())
        };
        let (empty, full) = (started(None, "empty")?, started(Some(&log), "import")?);
        let theirs = per_second(messages, full.saturating_sub(empty));
        self.row("import, every signature checked", &rate(ours), &rate(theirs), "≥ 80,000/s", Some(ours >= 80_000.0));
        self.row("  memory at its peak", &mb(peak), "", "", None);
        Ok(())
    }

    fn syncs(&mut self) -> Result<()> {
        let (ours, classic, db2) = (self.ours()?, self.theirs(Kind::Classic)?, self.theirs(Kind::Db2)?);
        let key = self.key.clone();
        let mut between_ours = Vec::new();
        for round in 0..ROUNDS {
            let mut from = SbotNode::start(&ours, &key)?;
            let mut to = SbotNode::start(&self.dir(&format!("to-{round}")), &key)?;
            let pids = (from.pid(), to.pid());
            between_ours.push(self.exchange(&mut from, &mut to, pids)?);
        }
        between_ours.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let mine = between_ours[ROUNDS / 2];

        let mut from = SbotNode::start(&ours, &key)?;
        let mut to = JsPeer::start(Kind::Classic, &self.dir("to-classic"), &key, None)?;
        let pids = (from.pid(), to.pid());
        let to_classic = self.exchange(&mut from, &mut to, pids)?;
        drop((from, to));

        let mut from = JsPeer::start(Kind::Classic, &classic, &key, None)?;
        let mut to = SbotNode::start(&self.dir("from-classic"), &key)?;
        let pids = (from.pid(), to.pid());
        let from_classic = self.exchange(&mut from, &mut to, pids)?;
        drop((from, to));

        let js = |kind: Kind, from: &Path, name: &str| -> Result<Exchange> {
            let mut from = JsPeer::start(kind, from, &key, None)?;
            let mut to = JsPeer::start(kind, &self.dir(name), &key, None)?;
            if kind == Kind::Db2 {
                // ssb-ebt 9 asks for feeds of the social graph: wishes alone start nothing between strangers.
                let main = self.network.authors.first().map(String::as_str).unwrap_or_default();
                to.publish(json!({"type": "contact", "contact": main, "following": true}))?;
            }
            let pids = (from.pid(), to.pid());
            self.exchange(&mut from, &mut to, pids)
        };
        let classics = js(Kind::Classic, &classic, "classic-classic")?;
        let db2s = js(Kind::Db2, &db2, "db2-db2")?;

        let times = |theirs: f64| mine.rate / theirs;
        let goal = |least: f64, name: &str, theirs: f64| format!("≥ {least} × {name}: {:.1} ×", times(theirs));
        let classic_goal = goal(12.0, "ssb-server", classics.rate);
        let db2_goal = goal(8.0, "db2", db2s.rate);
        let met = |least: f64, theirs: f64| Some(times(theirs) >= least);
        let (our_rate, classic_rate) = (rate(mine.rate), rate(classics.rate));
        self.row(
            "sync, ours to ours | ssb-server to itself",
            &our_rate,
            &classic_rate,
            &classic_goal,
            met(12.0, classics.rate),
        );
        self.row("sync, ours to ours | db2 to itself", &our_rate, &rate(db2s.rate), &db2_goal, met(8.0, db2s.rate));
        self.row("sync, ours to ssb-server", &rate(to_classic.rate), "", "", None);
        self.row("sync, ssb-server to ours", &rate(from_classic.rate), "", "", None);
        let peak = mine.to.max(mine.from).max(from_classic.to).max(to_classic.from);
        let theirs = format!("{}, db2 {}", mb(classics.to.max(classics.from)), mb(db2s.to.max(db2s.from)));
        self.row("  memory at its peak", &mb(peak), &theirs, "≤ 120 MB", Some(peak <= 120.0));
        let apart = format!(
            "ours→ours {:.0}/{:.0}, →ssb-server {:.0}, ssb-server→ {:.0}",
            mine.from, mine.to, to_classic.from, from_classic.to
        );
        eprintln!("  peaks of ours, MB (sender/receiver): {apart}");
        Ok(())
    }

    /// Lets `to`, which has nothing, dial `from` and have everything. Both want all feeds, as EBT needs it.
    fn exchange(&self, from: &mut dyn End, to: &mut dyn End, (sender, receiver): (u32, u32)) -> Result<Exchange> {
        from.want(&self.network.authors)?;
        to.want(&self.network.authors)?;
        let before = to.total()?;
        let address = from.address().to_owned();
        let begin = Instant::now();
        to.connect(&address)?;
        loop {
            let total = to.total()?;
            if total >= before + self.network.messages {
                break;
            }
            ensure!(begin.elapsed() < EXCHANGE, "{total} of {} messages within {EXCHANGE:?}", self.network.messages);
            thread::sleep(LOOK);
        }
        let rate = per_second(self.network.messages, begin.elapsed());
        Ok(Exchange { rate, from: Memory::of(sender)?.peak, to: Memory::of(receiver)?.peak })
    }

    fn log_stream(&mut self) -> Result<()> {
        let (ours, classic) = (self.ours()?, self.theirs(Kind::Classic)?);
        let node = SbotNode::start(&ours, &self.key)?;
        let mut runs = Vec::new();
        for _ in 0..ROUNDS {
            let (count, bytes, took) = self.runtime.block_on(async {
                let peer = over_socket(&ours).await?;
                let begin = Instant::now();
                let mut source = peer.source("createLogStream", &json!([{}])).await?;
                let (mut items, mut count, mut bytes) = (Vec::new(), 0, 0);
                loop {
                    let more = source.recv_many(&mut items).await?;
                    if more == 0 {
                        break;
                    }
                    count += more as u64;
                    bytes += items.drain(..).map(|item| item.len() as u64).sum::<u64>();
                }
                anyhow::Ok((count, bytes, begin.elapsed()))
            })?;
            ensure!(count == self.network.messages, "createLogStream had {count}");
            // The file holds the same lines, but for the times of receipt, and a line break each.
            let lines = fs::metadata(self.network.log())?.len();
            ensure!(bytes.abs_diff(lines) < 16 * count, "createLogStream had {bytes} bytes, the file has {lines}");
            runs.push(per_second(count, took));
        }
        let mine = median(runs);
        let peak = Memory::of(node.pid())?.peak;
        let what = ["--what", "log"];
        let (count, took) = ssb_client(&ours, &unix(&ours, &node.id), &self.key, &what)?;
        ensure!(count == self.network.messages, "createLogStream had {count}");
        let to_client = per_second(count, took);
        drop(node);
        let peer = JsPeer::start(Kind::Classic, &classic, &self.key, None)?;
        let (count, took) = ssb_client(&classic, &unix(&classic, &peer.id), &self.key, &what)?;
        ensure!(count == self.network.messages, "their createLogStream had {count}");
        let theirs = per_second(count, took);
        let their_peak = Memory::of(peer.pid())?.peak;
        let (high, low) = (mine >= 150_000.0, to_client >= theirs);
        self.row("createLogStream, to our client", &rate(mine), "", "≥ 150,000/s", Some(high));
        self.row("createLogStream, to ssb-client", &rate(to_client), &rate(theirs), "not slower", Some(low));
        self.row("  memory at its peak", &mb(peak), &mb(their_peak), "", None);
        Ok(())
    }

    fn whoami(&mut self) -> Result<()> {
        let dir = self.dir("whoami");
        let node = SbotNode::start(&dir, &self.key)?;
        let took = self.runtime.block_on(async {
            let peer = over_tcp(&node, &self.key).await?;
            let begin = Instant::now();
            for _ in 0..CALLS {
                peer.call("whoami", &json!([])).await?;
            }
            anyhow::Ok(begin.elapsed() / CALLS)
        })?;
        drop(node);
        let dir = self.dir("whoami-classic");
        let peer = JsPeer::start(Kind::Classic, &dir, &self.key, None)?;
        let words = ["--what", "whoami", "--count", THEIR_CALLS];
        let (count, theirs) = ssb_client(&dir, &peer.address, &self.key, &words)?;
        let theirs = theirs.as_secs_f64() * 1e3 / f64::from(u32::try_from(count)?);
        let mine = took.as_secs_f64() * 1e3;
        let met = Some(mine <= 1.0);
        self.row(
            "whoami over tcp, one after another",
            &format!("{mine:.3} ms"),
            &format!("{theirs:.1} ms"),
            "≤ 1 ms",
            met,
        );
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let (ours, classic) = (self.ours()?, self.theirs(Kind::Classic)?);
        let messages = self.network.messages;
        let (took, memory) = self.timed_start(&ours, messages)?;
        let (their_took, their_memory) = self.their_start(&classic)?;
        self.row("start to first answer", &s(took), &s(their_took), "", None);
        let (now, theirs) = (memory.now, mb(their_memory.now));
        self.row("  memory at idle", &mb(now), &theirs, "≤ 60 MB", Some(now <= 60.0));
        for index in INDEXES {
            let path = ours.join(index);
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            } else if path.exists() {
                fs::remove_file(path)?;
            }
        }
        for entry in fs::read_dir(classic.join("flume"))? {
            let entry = entry?;
            if entry.file_name() != "log.offset" {
                let path = entry.path();
                if entry.file_type()?.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
            }
        }
        let (took, memory) = self.timed_start(&ours, messages)?;
        let (their_took, _) = self.their_start(&classic)?;
        // The goal is for 100,000.
        let met = (!self.quick).then(|| took <= Duration::from_secs(2));
        self.row("start without indexes to first answer", &s(took), &s(their_took), "≤ 2 s", met);
        self.row("  memory at its peak", &mb(memory.peak), "", "", None);
        Ok(())
    }

    /// Starts ours on `dir`, waits until it is idle, and stops it.
    fn timed_start(&self, dir: &Path, messages: u64) -> Result<(Duration, Memory)> {
        let node = Started::on(dir, &self.key)?;
        ensure!(node.total >= messages, "{} of {messages} messages are there", node.total);
        thread::sleep(REST);
        let figures = (node.took, node.memory()?);
        node.stop()?;
        Ok(figures)
    }

    fn their_start(&self, dir: &Path) -> Result<(Duration, Memory)> {
        let begin = Instant::now();
        let mut peer = JsPeer::start(Kind::Classic, dir, &self.key, None)?;
        let total = peer.total()?;
        let took = begin.elapsed();
        ensure!(total >= self.network.messages, "ssb-server has {total} messages");
        thread::sleep(REST);
        let memory = Memory::of(peer.pid())?;
        peer.stop()?;
        Ok((took, memory))
    }

    fn million(&mut self) -> Result<()> {
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("million.jsonl");
        if !log.exists() {
            let unfinished = log.with_extension("unfinished");
            let mut file = BufWriter::new(fs::File::create(&unfinished)?);
            let mut network = sbot_testbot::feeds::Network::new(1, AUTHORS);
            for _ in 0..MILLION / 10_000 {
                for message in network.grow(10_000)? {
                    file.write_all(&message)?;
                    file.write_all(b"\n")?;
                }
            }
            file.into_inner()?.sync_all()?;
            fs::rename(unfinished, &log)?;
        }
        let (imported, peak) = self.take_in("million", &log, MILLION)?;
        self.row("import of a million", &rate(imported), "", "", None);
        self.row("  memory at its peak", &mb(peak), "", "", None);
        let dir = self.dir("million");
        Started::on(&dir, &self.key)?.stop()?;
        let (took, memory) = self.timed_start(&dir, MILLION)?;
        let (met, small) = (took <= Duration::from_millis(300), memory.now <= 150.0);
        self.row("start with a million to first answer", &s(took), "", "≤ 0.3 s", Some(met));
        self.row("  memory at idle", &mb(memory.now), "", "≤ 150 MB", Some(small));
        fs::remove_dir_all(dir)?;
        Ok(())
    }
}

/// One exchange: messages a second, and the peaks of both ends' memory in MB.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    rate: f64,
    from: f64,
    to: f64,
}

fn mb(megabytes: f64) -> String {
    format!("{megabytes:.0} MB")
}

fn s(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// The address of the unix socket in `dir`.
fn unix(dir: &Path, id: &str) -> String {
    let key = id.trim_start_matches('@').trim_end_matches(".ed25519");
    format!("unix:{}~noauth:{key}", dir.join("socket").display())
}
