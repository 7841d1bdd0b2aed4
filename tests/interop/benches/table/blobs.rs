//! Blobs: how fast large ones and many small ones go, and how much memory a very large one takes.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sbot_feed::{Keypair, NetworkKey};
use sbot_interop::blobs::{BlobEnd, LARGEST, place};
use sbot_interop::{JsPeer, Kind, SbotNode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::tools::{Memory, median, rate};
use crate::{Bench, EXCHANGE, ROUNDS, mb};

/// Large blobs that are transferred: as large as ssb-blobs takes them.
const LARGE: usize = 60;
/// Small blobs that are transferred.
const COUNT: usize = 10_000;
/// Bytes of a small blob.
const SMALL: usize = 1_000;
/// Bytes of the very large blob.
const HUGE: usize = 100_000_000;
/// Bytes through the box stream alone.
const PLAIN: usize = 400_000_000;
/// Parts of what is transferred that are looked for, one after the other.
const LOOKS: usize = 10;
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// `blobs.max` where the very large one may come.
const HUGE_ALLOWED: [&str; 2] = ["--blobs.max", "200000000"];

/// Has `to` get these blobs from `from`, and says how long that took from the dial.
fn transfer(from: &mut dyn BlobEnd, to: &mut dyn BlobEnd, ids: &[String]) -> Result<Duration> {
    to.want_blobs(ids)?;
    let begin = Instant::now();
    to.connect(from.address())?;
    // A look at few costs the receiver little.
    for part in ids.chunks(ids.len().div_ceil(LOOKS)) {
        while to.count_blobs(part)? < part.len() {
            ensure!(begin.elapsed() < EXCHANGE, "the blobs don't arrive");
            std::thread::sleep(LOOK);
        }
    }
    Ok(begin.elapsed())
}

#[allow(clippy::cast_precision_loss)]
fn megabytes(bytes: usize, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

fn speed(megabytes: f64) -> String {
    format!("{megabytes:.0} MB/s")
}

/// The secret handshake's box stream over loopback, with nothing else.
async fn box_stream() -> Result<Duration> {
    let (server, client) = (Keypair::generate(), Keypair::generate());
    let (network, listener) = (NetworkKey::default(), TcpListener::bind(("127.0.0.1", 0)).await?);
    let (address, server_id) = (listener.local_addr()?, server.id());
    let receiving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let (read, write) = stream.into_split();
        let mut secure = sbot_shs::accept_split(read, write, &network, &server, |_| Ok(())).await?;
        let (mut buffer, mut left) = (vec![0; 1 << 16], PLAIN);
        while left > 0 {
            let count = secure.reader.read(&mut buffer).await?;
            ensure!(count > 0, "the stream ends early");
            left -= count.min(left);
        }
        Ok(())
    });
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    let mut secure = sbot_shs::dial_split(read, write, &network, &client, &server_id).await?;
    let (bytes, mut left, begin) = (vec![7; 1 << 16], PLAIN, Instant::now());
    while left > 0 {
        let count = left.min(bytes.len());
        secure.writer.write_all(&bytes[..count]).await?;
        left -= count;
    }
    secure.writer.flush().await?;
    receiving.await.context("the receiver failed")??;
    Ok(begin.elapsed())
}

impl Bench {
    pub(crate) fn blobs(&mut self) -> Result<()> {
        let (mut plain, mut ours, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut to_js, mut from_js) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            // In turn, so that all meet the same load.
            plain.push(megabytes(PLAIN, self.runtime.block_on(box_stream())?));
            ours.push(self.between(round, false, false)?);
            theirs.push(self.between(round, true, true)?);
            to_js.push(self.between(round, false, true)?);
            from_js.push(self.between(round, true, false)?);
        }
        let (ours, plain, theirs) = (median(ours), median(plain), median(theirs));
        let (to_js, from_js) = (median(to_js), median(from_js));

        let times = format!("≥ 5 × ssb-server: {:.1} ×", ours / theirs);
        self.row(
            "blobs of 5 MB, ours to ours | ssb-server to itself",
            &speed(ours),
            &speed(theirs),
            &times,
            Some(ours >= 5.0 * theirs),
        );
        let part = format!("≥ 70 % of it: {:.0} %", 100.0 * ours / plain);
        self.row("  the box stream alone", &speed(plain), "", &part, Some(ours >= 0.7 * plain));
        self.row("blobs of 5 MB, ours to ssb-server", &speed(to_js), "", "", None);
        self.row("blobs of 5 MB, ssb-server to ours", &speed(from_js), "", "", None);
        self.small()?;
        self.huge()
    }

    /// Speed of large blobs from one node to another, of which each is ours or JavaScript. What they have written stays until
    /// all is done: file systems have more work for a while after much was deleted.
    fn between(&self, round: usize, js_from: bool, js_to: bool) -> Result<f64> {
        let start = |js: bool, role: &str| -> Result<Box<dyn BlobEnd>> {
            let dir = self.dir(&format!("blobs-{round}-{js_from}-{js_to}-{role}"));
            Ok(match js {
                true => Box::new(JsPeer::start(Kind::Classic, &dir, &self.key, None)?),
                false => Box::new(SbotNode::start(&dir, &self.key)?),
            })
        };
        let (mut from, mut to) = (start(js_from, "from")?, start(js_to, "to")?);
        let ids: Vec<String> =
            (0..LARGE).map(|n| from.add_blob(LARGEST - n, &format!("large {n}"))).collect::<Result<_>>()?;
        // Or else the blobs that were just added are written to the disk meanwhile.
        ensure!(Command::new("sync").status()?.success(), "can't write everything to the disk");
        self.touch_memory()?;
        let took = transfer(from.as_mut(), to.as_mut(), &ids)?;
        Ok(megabytes(LARGE * LARGEST, took))
    }

    /// Has the system use as much memory for files as a transfer will, and frees it. Memory that a virtual machine has not
    /// used yet comes from its host, which can take longer than everything else here together.
    fn touch_memory(&self) -> Result<()> {
        let path = self.dir("memory");
        let (mut file, piece) = (fs::File::create(&path)?, vec![1; 1 << 20]);
        for _ in 0..LARGE * LARGEST / piece.len() {
            file.write_all(&piece)?;
        }
        Ok(fs::remove_file(&path)?)
    }

    fn small(&mut self) -> Result<()> {
        let placed = |dir: &str| -> Result<Vec<String>> {
            (0..COUNT).map(|n| place(&self.dir(dir), SMALL, &format!("small {n} "))).collect()
        };
        let (ids, _) = (placed("small-from")?, placed("small-js-from")?);
        let mut from = SbotNode::start(&self.dir("small-from"), &self.key)?;
        let mut to = SbotNode::start(&self.dir("small-to"), &self.key)?;
        let ours = transfer(&mut from, &mut to, &ids)?;
        drop((from, to));
        let mut from = JsPeer::start(Kind::Classic, &self.dir("small-js-from"), &self.key, None)?;
        let mut to = JsPeer::start(Kind::Classic, &self.dir("small-js-to"), &self.key, None)?;
        let theirs = transfer(&mut from, &mut to, &ids)?;
        #[allow(clippy::cast_precision_loss)]
        let each = |took: Duration| rate(COUNT as f64 / took.as_secs_f64());
        let what = format!("{COUNT} blobs of {SMALL} bytes");
        self.row(&what, &each(ours), &each(theirs), "", None);
        Ok(())
    }

    fn huge(&mut self) -> Result<()> {
        let mut from = SbotNode::start_with(&self.dir("huge-from"), &self.key, &HUGE_ALLOWED)?;
        let mut to = SbotNode::start_with(&self.dir("huge-to"), &self.key, &HUGE_ALLOWED)?;
        let id = place(&from.dir, HUGE, "huge ")?;
        let pids = (from.pid(), to.pid());
        let before = (Memory::of(pids.0)?, Memory::of(pids.1)?);
        let took = transfer(&mut from, &mut to, std::slice::from_ref(&id))?;
        let after = (Memory::of(pids.0)?, Memory::of(pids.1)?);
        let (sender, receiver) = (after.0.peak - before.0.now, after.1.peak - before.1.now);
        let most = sender.max(receiver);
        let what = format!("a blob of 100 MB: {}, memory more than before", speed(megabytes(HUGE, took)));
        let ours = format!("{} sending, {} receiving", mb(sender), mb(receiver));
        self.row(&what, &ours, "", "≤ 20 MB", Some(most <= 20.0));
        let _ = fs::remove_dir_all(self.dir("huge-to"));
        Ok(())
    }
}
