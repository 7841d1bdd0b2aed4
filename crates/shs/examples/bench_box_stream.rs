//! What the box stream costs: plain bytes a second on one core, sealed and opened in memory, without sockets.
//!
//! Each figure is the best of several rounds, so that other load on the machine shows little. Three ways to write the
//! same bytes: messages of 600 bytes each flushed by itself (a box a message), messages of 600 bytes one after another
//! (boxes filled to 4096 bytes), and large writes as of blobs. Run with
//! `cargo run --release -p sbot-shs --example bench_box_stream`.

use std::io;
use std::time::{Duration, Instant};

use sbot_shs::boxstream::BoxKey;
use sbot_shs::{SecureReader, SecureWriter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes of plain text a round.
const TOTAL: usize = 6_000_000;
/// Rounds, of which the best counts.
const ROUNDS: usize = 15;
/// Bytes of a message as replication sends them.
const MESSAGE: usize = 600;
/// Bytes of a write of a blob.
const LARGE: usize = 65_536;

async fn seal(key: &BoxKey, write: usize, flush_each: bool) -> io::Result<Vec<u8>> {
    let mut sealed = Vec::with_capacity(2 * TOTAL);
    let mut writer = SecureWriter::new(&mut sealed, key);
    let plain = vec![7; write];
    for _ in 0..TOTAL / write {
        writer.write_all(&plain).await?;
        if flush_each {
            writer.flush().await?;
        }
    }
    writer.shutdown().await?;
    Ok(sealed)
}

async fn open(key: &BoxKey, sealed: &[u8]) -> io::Result<usize> {
    let (mut reader, mut taken, mut count) = (SecureReader::new(sealed, key), vec![0; LARGE], 0);
    loop {
        match reader.read(&mut taken).await? {
            0 => return Ok(count),
            read => count += read,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let key = BoxKey { key: [3; 32], nonce: [250; 24] };
    println!("{:<38} {:>10} {:>10} {:>12}", "written", "seal MB/s", "open MB/s", "wire/plain");
    for (name, write, flush_each) in [
        ("600 bytes, each flushed (a box each)", MESSAGE, true),
        ("600 bytes, boxes filled", MESSAGE, false),
        ("64 KiB", LARGE, false),
    ] {
        let (mut sealing, mut opening, mut ratio) = (Duration::MAX, Duration::MAX, 0.0);
        let mut plain = 0;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let sealed = seal(&key, write, flush_each).await?;
            sealing = sealing.min(start.elapsed());
            let start = Instant::now();
            plain = open(&key, &sealed).await?;
            opening = opening.min(start.elapsed());
            ratio = sealed.len() as f64 / plain as f64;
        }
        let rate = |time: Duration| plain as f64 / 1e6 / time.as_secs_f64();
        println!("{name:<38} {:>10.0} {:>10.0} {ratio:>12.3}", rate(sealing), rate(opening));
    }
    Ok(())
}
