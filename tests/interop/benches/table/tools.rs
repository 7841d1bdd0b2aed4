//! What the experiments share: figures, processes watched from outside, connections of our own client.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sbot_feed::{FeedId, NetworkKey, secret};
use sbot_interop::{SbotNode, script};
use sbot_rpc::{Limits, Peer, Registry, Session};
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};

/// Longest start.
const START: Duration = Duration::from_secs(120);
/// Time between two tries to reach a node that starts.
const TRY: Duration = Duration::from_millis(2);
/// Time between two looks at the memory of a process.
const LOOK: Duration = Duration::from_millis(20);

/// One line of the table.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) ours: String,
    pub(crate) theirs: String,
    pub(crate) goal: String,
    /// Whether ours reaches the goal, where there is one.
    pub(crate) met: Option<bool>,
}

/// Prints the rows below a head, each column as wide as its widest cell.
pub(crate) fn print(rows: &[Row]) {
    let head = ["", "ours", "JavaScript", "goal", ""];
    let cells: Vec<[&str; 5]> = std::iter::once(head)
        .chain(rows.iter().map(|row| {
            let met = match row.met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "",
            };
            [row.what.as_str(), &row.ours, &row.theirs, &row.goal, met]
        }))
        .collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    for row in &cells {
        let line: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell}{:1$}", "", width - cell.chars().count()))
            .collect();
        println!("{}", line.join("  ").trim_end());
    }
}

/// Messages a second, with separators.
pub(crate) fn rate(per_second: f64) -> String {
    let digits = format!("{per_second:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text + "/s"
}

/// How many of these a second.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// The middle one.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Memory of a process, in MB of a million bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident now.
    pub(crate) now: f64,
    /// Most that has been resident.
    pub(crate) peak: f64,
}

impl Memory {
    /// As `/proc` says.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let megabytes = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            let kibibytes: f64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?;
            Ok(kibibytes * 1024.0 / 1e6)
        };
        Ok(Self { now: megabytes("VmRSS")?, peak: megabytes("VmHWM")? })
    }
}

/// Runs `sbot COMMAND` to its end: the time that it takes, and its peak of memory.
pub(crate) fn run(dir: &Path, network: &str, words: &[&str]) -> Result<(Duration, f64)> {
    fs::create_dir_all(dir)?;
    let mut command = SbotNode::command(dir, network, words)?;
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
    let mut peak = 0.0;
    let status: ExitStatus = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // It may have ended since.
        peak = Memory::of(child.id()).map_or(peak, |memory| memory.peak);
        std::thread::sleep(LOOK);
    };
    ensure!(status.success(), "sbot {} failed with {status}", words.join(" "));
    Ok((begin.elapsed(), peak))
}

/// A node that was started with a watch in hand. It ends when dropped.
pub(crate) struct Started {
    child: Child,
    /// From the start of the process to the answer.
    pub(crate) took: Duration,
    /// Number of messages in the answer.
    pub(crate) total: u64,
}

impl Started {
    /// Starts `sbot server` on `dir` and asks for its vector clock over the socket as soon as there is one.
    pub(crate) fn on(dir: &Path, network: &str) -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port().to_string();
        let mut command = SbotNode::command(dir, network, &["server", "--host", "127.0.0.1", "--port", &port])?;
        command.args(["--", "--local", "false", "--conn.autostart", "false"]);
        command.stdout(Stdio::null()).stderr(fs::File::create(dir.join("stderr.log"))?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let begin = Instant::now();
        let mut started = Self { child: command.spawn()?, took: Duration::ZERO, total: 0 };
        let clock = runtime.block_on(async {
            let peer = loop {
                if let Ok(peer) = over_socket(dir).await {
                    break peer;
                }
                ensure!(begin.elapsed() < START && started.child.try_wait()?.is_none(), "sbot server doesn't start");
                tokio::time::sleep(TRY).await;
            };
            clock(&peer).await
        })?;
        started.took = begin.elapsed();
        started.total = clock.as_object().context("no clock")?.values().filter_map(Value::as_u64).sum();
        Ok(started)
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Result<Memory> {
        Memory::of(self.child.id())
    }

    /// Ends it well.
    pub(crate) fn stop(mut self) -> Result<()> {
        ensure!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?.success(), "kill failed");
        ensure!(self.child.wait()?.success(), "sbot server didn't end well");
        Ok(())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn clock(peer: &Peer) -> Result<Value> {
    match peer.call("getVectorClock", &json!([])).await? {
        sbot_rpc::Body::Json(bytes) => Ok(serde_json::from_slice(&bytes)?),
        other => anyhow::bail!("getVectorClock answered {other:?}"),
    }
}

/// Our client, over the unix socket in `dir`.
pub(crate) async fn over_socket(dir: &Path) -> Result<Peer> {
    let (read, write) = UnixStream::connect(dir.join("socket")).await?.into_split();
    Ok(Session::spawn(read, write, Arc::new(Registry::<()>::new()), (), Limits::LOCAL))
}

/// Our client, over tcp with the node's own key.
pub(crate) async fn over_tcp(node: &SbotNode, network: &str) -> Result<Peer> {
    let keys = secret::parse(&fs::read_to_string(node.dir.join("secret"))?)?;
    let network: NetworkKey = network.parse()?;
    let server: FeedId = node.id.parse()?;
    let stream = TcpStream::connect(("127.0.0.1", node.port)).await?;
    stream.set_nodelay(true)?;
    let secure = sbot_shs::dial(stream, &network, &keys, &server).await?;
    Ok(Session::spawn(secure.reader, secure.writer, Arc::new(Registry::<()>::new()), (), Limits::LOCAL))
}

/// What `client-speed.js` measures with ssb-client: answers and seconds.
pub(crate) fn ssb_client(dir: &Path, remote: &str, network: &str, words: &[&str]) -> Result<(u64, Duration)> {
    let mut command = script("client-speed.js")?;
    command.arg("--dir").arg(dir).args(["--remote", remote, "--network", network]).args(words).stdin(Stdio::null());
    let output = command.output()?;
    ensure!(output.status.success(), "client-speed.js failed: {}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let seconds = report["seconds"].as_f64().context("no seconds")?;
    Ok((report["count"].as_u64().context("no count")?, Duration::from_secs_f64(seconds)))
}
