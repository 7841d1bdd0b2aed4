//! Our own node, as a process.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sbot_rpc::{Body, Limits, Peer, Registry, Session};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::child::{Process, wait_until};
use crate::lan::Host;
use crate::peer::free_port;
use crate::{End, Tips, program};

/// Longest start and longest stop.
const START: Duration = Duration::from_secs(60);
/// The port of a node without settings.
pub(crate) const DEFAULT_PORT: u16 = 8008;
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(60);

/// A running `sbot server`. It ends when dropped.
pub struct SbotNode {
    process: Process,
    runtime: Runtime,
    peer: Peer,
    /// Its feed.
    pub id: String,
    /// Its multiserver address.
    pub address: String,
    /// Its TCP port.
    pub port: u16,
    /// Its data directory.
    pub dir: PathBuf,
}

impl SbotNode {
    /// `sbot COMMAND` on the data directory `dir`, with nothing of this machine's settings.
    ///
    /// # Errors
    /// The program isn't built.
    pub fn command(dir: &Path, network: &str, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(program("sbot-under-test")?);
        command.env_clear().env("HOME", dir).args(words).arg("--path").arg(dir).args(["--caps.shs", network]);
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Runs `sbot COMMAND` to its end and returns what it prints.
    ///
    /// # Errors
    /// It fails; what it says is in the error.
    pub fn run(dir: &Path, network: &str, words: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = Self::command(dir, network, words)?.output()?;
        ensure!(
            status.success(),
            "sbot {} failed with {status}: {}",
            words.join(" "),
            String::from_utf8_lossy(&stderr)
        );
        Ok(String::from_utf8(stdout)?)
    }

    /// Takes a log into `dir`, without a server.
    ///
    /// # Errors
    /// As [`SbotNode::run`].
    pub fn import(dir: &Path, network: &str, log: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)?;
        Self::run(dir, network, &["import", &log.to_string_lossy()]).map(|_| ())
    }

    /// Starts a server on the data directory `dir` and waits until it answers.
    ///
    /// # Errors
    /// It doesn't start; the end of its log is in the error.
    pub fn start(dir: &Path, network: &str) -> Result<Self> {
        Self::start_with(dir, network, &[])
    }

    /// As [`SbotNode::start`], with more settings: `--NAME VALUE`.
    ///
    /// # Errors
    /// As [`SbotNode::start`].
    pub fn start_with(dir: &Path, network: &str, settings: &[&str]) -> Result<Self> {
        let port = free_port()?;
        let mut command = Self::command(dir, network, &["server", "--host", "127.0.0.1", "--port", &port.to_string()])?;
        // It dials nobody of itself.
        command.args(["--", "--local", "false", "--conn.autostart", "false"]).args(settings);
        Self::wait_for(command, dir, "127.0.0.1", port)
    }

    /// Starts a server as it is without settings on a host of a [`Lan`](crate::Lan), and waits until it answers.
    ///
    /// # Errors
    /// It doesn't start; the end of its log is in the error.
    pub fn start_on(host: &Host, dir: &Path, network: &str) -> Result<Self> {
        Self::start_on_with(host, dir, network, &[])
    }

    /// As [`SbotNode::start_on`], with `words` at the end of its command line.
    ///
    /// # Errors
    /// As [`SbotNode::start_on`].
    pub fn start_on_with(host: &Host, dir: &Path, network: &str, words: &[&str]) -> Result<Self> {
        let mut command = Self::command(dir, network, &["server"])?;
        command.args(words);
        Self::wait_for(host.run(&command, dir), dir, &host.ip, DEFAULT_PORT)
    }

    fn wait_for(mut command: Command, dir: &Path, host: &str, port: u16) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut process = Process::start(command.stdout(Stdio::null()), &dir.join("stderr.log"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let mut connected = None;
        wait_until("sbot server listens", START, || {
            if let Some(status) = process.child.try_wait()? {
                bail!("it ended with {status}: {}", process.tail());
            }
            connected = runtime.block_on(UnixStream::connect(dir.join("socket"))).ok();
            Ok(connected.is_some())
        })?;
        let (read, write) = connected.context("no socket")?.into_split();
        let peer = {
            let _inside = runtime.enter();
            Session::spawn(read, write, Arc::new(Registry::<()>::new()), (), Limits::default())
        };
        let mut node =
            Self { process, runtime, peer, id: String::new(), address: String::new(), port, dir: dir.into() };
        node.id = node.call("whoami", json!([]))?["id"].as_str().context("whoami has no id")?.to_owned();
        let key = node.id.trim_start_matches('@').trim_end_matches(".ed25519");
        node.address = format!("net:{host}:{port}~shs:{key}");
        Ok(node)
    }

    /// Calls an async or sync method.
    ///
    /// # Errors
    /// Its error.
    pub fn call(&self, method: &str, args: Value) -> Result<Value> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(ANSWER, self.peer.call(method, &args)).await });
        value(&answer.with_context(|| self.trouble(method))?.with_context(|| self.trouble(method))?)
    }

    /// Calls a source and returns all that it sends.
    ///
    /// # Errors
    /// Its error.
    pub fn source(&self, method: &str, args: Value) -> Result<Vec<Value>> {
        self.runtime.block_on(async {
            let mut source = self.peer.source(method, &args).await?;
            let mut items = Vec::new();
            while let Some(item) =
                tokio::time::timeout(ANSWER, source.recv()).await.with_context(|| self.trouble(method))?
            {
                items.push(value(&item.with_context(|| self.trouble(method))?)?);
            }
            Ok(items)
        })
    }

    /// Calls a source and returns the first that it sends.
    ///
    /// # Errors
    /// Its error, or that it ends without.
    pub fn first(&self, method: &str, args: Value) -> Result<Value> {
        self.runtime.block_on(async {
            let mut source = self.peer.source(method, &args).await?;
            let item = tokio::time::timeout(ANSWER, source.recv()).await.with_context(|| self.trouble(method))?;
            value(&item.context("it ends at once")?.with_context(|| self.trouble(method))?)
        })
    }

    /// Calls an async method and doesn't wait for the answer.
    pub fn begin(&self, method: &'static str, args: Value) {
        let peer = self.peer.clone();
        self.runtime.spawn(async move { peer.call(method, &args).await });
    }

    /// Sends a stream to a sink, in pieces of 64 KiB, and waits for its end.
    ///
    /// # Errors
    /// Its error.
    pub fn sink(&self, method: &str, args: Value, bytes: &[u8]) -> Result<()> {
        self.runtime.block_on(async {
            let mut sink = self.peer.sink(method, &args).await?;
            for piece in bytes.chunks(1 << 16) {
                // what went wrong is told by the end
                if sink.send(Body::Binary(piece.to_vec().into())).await.is_err() {
                    break;
                }
            }
            tokio::time::timeout(ANSWER, sink.end()).await.with_context(|| self.trouble(method))??;
            Ok(())
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Ends it with SIGTERM and waits until it has ended.
    ///
    /// # Errors
    /// It doesn't end.
    pub fn stop(mut self) -> Result<()> {
        let status = Command::new("kill").args(["-TERM", &self.process.child.id().to_string()]).status()?;
        ensure!(status.success(), "kill failed");
        self.process.ended(START)
    }

    fn trouble(&self, method: &str) -> String {
        format!("{method} at our node, whose log ends with:\n{}\n", self.process.tail())
    }
}

impl End for SbotNode {
    fn id(&self) -> &str {
        &self.id
    }

    fn address(&self) -> &str {
        &self.address
    }

    fn total(&mut self) -> Result<u64> {
        let clock = self.call("getVectorClock", json!([]))?;
        Ok(clock.as_object().context("no clock")?.values().filter_map(Value::as_u64).sum())
    }

    fn tips(&mut self) -> Result<Tips> {
        let clock = self.call("getVectorClock", json!([]))?;
        let mut tips = Tips::new();
        for feed in clock.as_object().context("no clock")?.keys() {
            let state = self.call("getFeedState", json!([feed]))?;
            let (sequence, id) = (state["sequence"].as_u64(), state["id"].as_str());
            tips.insert(feed.clone(), (sequence.context("no sequence")?, id.context("no id")?.to_owned()));
        }
        Ok(tips)
    }

    fn want(&mut self, feeds: &[String]) -> Result<()> {
        for feed in feeds {
            self.call("replicate.request", json!([feed, true]))?;
        }
        Ok(())
    }

    fn publish(&mut self, content: Value) -> Result<String> {
        Ok(self.call("publish", json!([content]))?["key"].as_str().context("no key")?.to_owned())
    }

    fn has(&mut self, message: &str) -> Result<bool> {
        match self.call("get", json!([message])) {
            Ok(_) => Ok(true),
            Err(error) if format!("{error:#}").to_lowercase().contains("not found") => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn connect(&mut self, address: &str) -> Result<()> {
        self.call("gossip.connect", json!([address])).map(|_| ())
    }
}

fn value(body: &Body) -> Result<Value> {
    Ok(match body {
        Body::Json(bytes) => serde_json::from_slice(bytes)?,
        Body::String(bytes) | Body::Binary(bytes) => Value::String(String::from_utf8_lossy(bytes).into_owned()),
    })
}
