//! The node of a benchmark, in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use sbot_feed::{FeedId, Keypair, NetworkKey};
use sbot_testbot::{World, post};
use tokio::runtime::Runtime;

/// Names the network to the process that is to be the node.
const NETWORK: &str = "SBOT_BENCH_NETWORK";

/// In the process of the node: runs it until its input ends.
pub(crate) fn run(runtime: &Runtime) -> Option<Result<()>> {
    let network = std::env::var(NETWORK).ok()?;
    sbot::memory::give_back_large_buffers();
    Some(runtime.block_on(serve(&network)))
}

/// Prints its address, then publishes a message for each line that it reads, and prints one, until there are no more.
async fn serve(network: &str) -> Result<()> {
    let world = World::new()?;
    let key = NetworkKey(*network.parse::<FeedId>()?.as_bytes());
    let node = world.setup("node").change(|config| config.caps.shs = key).start().await?;
    println!("{}", node.address()?);
    let (lines, mut wanted) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(text) = wanted.recv().await {
        node.publish(post(&text)).await?;
        println!("published");
    }
    node.stop().await;
    Ok(())
}

/// A running node.
pub(crate) struct Node {
    child: Child,
    out: BufReader<ChildStdout>,
    /// Where it can be dialed.
    pub(crate) address: String,
    /// Its feed.
    pub(crate) id: String,
    /// The network that it is alone in.
    pub(crate) network: NetworkKey,
}

impl Node {
    /// Starts one in a network of its own.
    pub(crate) fn start() -> Result<Node> {
        let network = Keypair::generate().id();
        let mut child = Command::new(std::env::current_exe()?)
            .env(NETWORK, network.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (mut address, out) = (String::new(), child.stdout.take().context("it has an output")?);
        let mut out = BufReader::new(out);
        out.read_line(&mut address)?;
        ensure!(!address.is_empty(), "the node did not start");
        let address = address.trim().to_owned();
        let id = address.rsplit_once("~shs:").map(|(_, key)| format!("@{key}.ed25519")).context("an address")?;
        Ok(Node { child, out, address, id, network: NetworkKey(*network.as_bytes()) })
    }

    /// Publishes a post.
    pub(crate) fn publish(&mut self, text: &str) -> Result<()> {
        writeln!(self.child.stdin.as_mut().context("it has an input")?, "{text}")?;
        ensure!(self.out.read_line(&mut String::new())? > 0, "the node published nothing");
        Ok(())
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// The most resident memory that there was, in bytes.
    pub(crate) fn peak(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(name)).context("its memory is not shown")?;
        let kilobytes: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
        Ok(kilobytes * 1024)
    }

    /// Processor time used so far, in seconds, at 100 ticks each.
    pub(crate) fn time(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
        Ok((ticks(11) + ticks(12)) / 100.0)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
