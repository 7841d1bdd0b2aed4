//! JavaScript peers.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::child::Process;
use crate::install::script;
use crate::lan::Host;
use crate::node::DEFAULT_PORT;
use crate::{End, Tips};

/// Longest start, 100,000 messages taken in included: about 15 s for ssb-server and 40 s for the ssb-db2 stack.
const START: Duration = Duration::from_secs(300);
/// Longest wait for an answer of a peer that is busy.
const ANSWER: Duration = Duration::from_secs(60);

/// Which peer, and how it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// ssb-server 16.
    Classic,
    /// ssb-server 16 without ssb-ebt: it replicates by createHistoryStream.
    ClassicWithoutEbt,
    /// ssb-server 16 that lives on when a client's call makes it throw, as some calls with odd arguments do, and so does
    /// its own dialing of peers whose host it doesn't know.
    ClassicThatSurvives,
    /// ssb-server 16 whose invites may lead to loopback, and that lives on likewise.
    ClassicPub,
    /// secret-stack 6 with ssb-db2 8 and ssb-ebt 9.
    Db2,
    /// No peer: another implementation of multicast DNS, which announces one that isn't there.
    Mdns,
    /// No peer: npm signalhub as a client of signalling hubs.
    Signalhub,
    /// A peer over WebRTC alone, by werift. It has a feed of its own.
    Werift,
    /// The same in a page of headless Chromium, by simple-peer.
    Chromium,
}

impl Kind {
    /// Its script.
    pub(crate) fn script(self) -> &'static str {
        match self {
            Self::Classic | Self::ClassicWithoutEbt | Self::ClassicThatSurvives | Self::ClassicPub => "peer-classic.js",
            Self::Db2 => "peer-db2.js",
            Self::Mdns => "mdns.js",
            Self::Signalhub => "signalhub.js",
            Self::Werift => "rtc-werift.js",
            Self::Chromium => "rtc-chromium.js",
        }
    }
}

/// A running JavaScript peer. It ends when dropped.
pub struct JsPeer {
    process: Process,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    asked: u64,
    /// Its feed.
    pub id: String,
    /// Its multiserver address.
    pub address: String,
    /// Its data directory.
    pub dir: PathBuf,
}

impl JsPeer {
    /// Starts a peer on the data directory `dir` and waits until it listens. It takes in the log `ingest` first.
    ///
    /// # Errors
    /// It doesn't start; the end of its log is in the error.
    pub fn start(kind: Kind, dir: &Path, network: &str, ingest: Option<&Path>) -> Result<Self> {
        let mut command = Self::command(kind, dir, free_port()?, network)?;
        if let Some(file) = ingest {
            command.arg("--ingest").arg(file);
        }
        match kind {
            Kind::ClassicWithoutEbt => command.args(["--ebt", "off"]),
            Kind::ClassicThatSurvives => command.args(["--survive", "yes"]),
            Kind::ClassicPub => command.args(["--private", "yes", "--survive", "yes"]),
            _ => &mut command,
        };
        Self::wait_for(command, dir)
    }

    /// Starts a peer that announces itself on a host of a [`Lan`](crate::Lan), and waits until it listens: ssb-server with
    /// ssb-local, which dials nobody, or the ssb-db2 stack with ssb-lan.
    ///
    /// # Errors
    /// It doesn't start; the end of its log is in the error.
    pub fn start_on(host: &Host, kind: Kind, dir: &Path, network: &str) -> Result<Self> {
        let mut command = Self::command(kind, dir, DEFAULT_PORT, network)?;
        command.args(["--lan", &host.ip]);
        if kind != Kind::Db2 {
            // Its own dialing throws on addresses whose host is unknown to its `ip` dependency: it lives on without.
            command.args(["--survive", "yes"]);
        }
        Self::wait_for(host.run(&command, dir), dir)
    }

    /// Starts a peer that meets others at the signalling hub `hub`, and waits until it has announced itself there. `words`
    /// are more options of its script.
    ///
    /// # Errors
    /// It doesn't start; the end of its log is in the error.
    pub fn start_rtc(kind: Kind, dir: &Path, network: &str, hub: &str, words: &[&str]) -> Result<Self> {
        let mut command = Self::command(kind, dir, 0, network)?;
        command.args(["--hub", hub]).args(words);
        Self::wait_for(command, dir)
    }

    /// As [`JsPeer::start_rtc`], on a host of a network of its own.
    ///
    /// # Errors
    /// As [`JsPeer::start_rtc`].
    pub fn start_rtc_on(host: &Host, kind: Kind, dir: &Path, network: &str, hub: &str, words: &[&str]) -> Result<Self> {
        let mut command = Self::command(kind, dir, 0, network)?;
        command.args(["--hub", hub]).args(words);
        Self::wait_for(host.run(&command, dir), dir)
    }

    fn command(kind: Kind, dir: &Path, port: u16, network: &str) -> Result<Command> {
        let mut command = script(kind.script())?;
        command.arg("--dir").arg(dir).args(["--port", &port.to_string(), "--network", network]);
        Ok(command)
    }

    fn wait_for(mut command: Command, dir: &Path) -> Result<Self> {
        // ssb-config reads the home directory and the environment.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ssb_") {
                command.env_remove(name);
            }
        }
        std::fs::create_dir_all(dir)?;
        command.env("HOME", dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command, &dir.join("stderr.log"))?;
        let stdin = process.child.stdin.take();
        let stdout = process.child.stdout.take().context("no standard output")?;
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if to.send(line).is_err() {
                    break;
                }
            }
        });
        let mut peer =
            Self { process, stdin, lines, asked: 0, id: String::new(), address: String::new(), dir: dir.to_owned() };
        let report: Value = serde_json::from_str(&peer.line("ready ", START)?)?;
        peer.id = text(&report, "id")?;
        peer.address = text(&report, "address")?;
        Ok(peer)
    }

    /// Runs a command of the script and waits for its answer.
    ///
    /// # Errors
    /// The command fails, or the peer has gone.
    pub fn ask(&mut self, mut command: Value) -> Result<Value> {
        self.asked += 1;
        command["id"] = json!(self.asked);
        let stdin = self.stdin.as_mut().context("the peer is told to end")?;
        writeln!(stdin, "{command}").with_context(|| format!("the peer has gone: {}", self.process.tail()))?;
        loop {
            let answer: Value = serde_json::from_str(&self.line("answer ", ANSWER)?)?;
            if answer.get("id").and_then(Value::as_u64) != Some(self.asked) {
                continue;
            }
            if let Some(error) = answer.get("error") {
                bail!("{command} failed: {error}");
            }
            return Ok(answer.get("value").cloned().unwrap_or_default());
        }
    }

    /// Calls an async method of it, as a plugin of its own would; only of ssb-server. What it refuses comes as the inner
    /// error, in its words.
    ///
    /// # Errors
    /// The peer has gone.
    pub fn call(&mut self, method: &str, args: Value) -> Result<std::result::Result<Value, String>> {
        let mut answer = self.ask(json!({"do": "call", "method": method, "args": args}))?;
        Ok(match answer.get("refusal").and_then(Value::as_str) {
            Some(refusal) => Err(refusal.to_owned()),
            None => Ok(answer["value"].take()),
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Ends it and waits until it has ended.
    ///
    /// # Errors
    /// It doesn't end.
    pub fn stop(mut self) -> Result<()> {
        self.stdin = None;
        self.process.ended(START)
    }

    /// The next line that begins with `prefix`, without it.
    fn line(&mut self, prefix: &str, patience: Duration) -> Result<String> {
        let start = Instant::now();
        loop {
            match self.lines.recv_timeout(patience.saturating_sub(start.elapsed())) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(prefix) {
                        return Ok(rest.to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout) => bail!("no {prefix:?} within {patience:?}: {}", self.process.tail()),
                Err(RecvTimeoutError::Disconnected) => bail!("the peer has ended: {}", self.process.tail()),
            }
        }
    }
}

impl End for JsPeer {
    fn id(&self) -> &str {
        &self.id
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn total(&mut self) -> Result<u64> {
        self.ask(json!({"do": "total"}))?.as_u64().context("no number")
    }

    fn tips(&mut self) -> Result<Tips> {
        Ok(serde_json::from_value(self.ask(json!({"do": "tips"}))?)?)
    }

    fn want(&mut self, feeds: &[String]) -> Result<()> {
        self.ask(json!({"do": "want", "feeds": feeds})).map(|_| ())
    }

    fn publish(&mut self, content: Value) -> Result<String> {
        Ok(self.ask(json!({"do": "publish", "content": content}))?.as_str().context("no id")?.to_owned())
    }

    fn has(&mut self, message: &str) -> Result<bool> {
        Ok(self.ask(json!({"do": "has", "message": message}))? == Value::Bool(true))
    }

    fn connect(&mut self, address: &str) -> Result<()> {
        self.ask(json!({"do": "connect", "address": address})).map(|_| ())
    }
}

fn text(report: &Value, name: &str) -> Result<String> {
    report.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| anyhow!("{report} has no {name}"))
}

/// A port on which nobody listens, for a process that is about to. None that the system itself gives to whoever asks for
/// any, or that was given before: else another one may take it first, and be taken for that process.
pub(crate) fn free_port() -> Result<u16> {
    const PORTS: std::ops::Range<u32> = 10_240..32_768;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in PORTS {
        let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + number % (PORTS.end - PORTS.start))?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free")
}
