//! `bench_store LOG.jsonl`: how fast a log of messages goes in, opens and comes out.

use std::io::{BufRead, BufReader};
use std::time::Instant;

use bytes::Bytes;
use sbot_store::{Direction, Ingested, Store, StoreOptions};

const BATCH: usize = 1024;

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn row(what: &str, count: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what:<32} {:>12.0}/s {seconds:>9.3} s {:>6} MB resident", count as f64 / seconds, resident_mb());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("which log?")?;
    let dir = tempfile::tempdir()?;
    let open = || Store::open(dir.path(), StoreOptions::default(), &mut |_| {});

    let store = open()?;
    let start = Instant::now();
    let mut lines = BufReader::with_capacity(1 << 20, std::fs::File::open(file)?).split(b'\n');
    let (mut stored, mut last) = (0, None);
    loop {
        let batch: Vec<Bytes> = lines.by_ref().take(BATCH).filter_map(Result::ok).map(Bytes::from).collect();
        if batch.is_empty() {
            break;
        }
        let store = store.clone();
        let previous = last.replace(tokio::spawn(async move { store.ingest(batch).await }));
        if let Some(previous) = previous {
            stored += previous.await?.iter().filter(|outcome| matches!(outcome, Ingested::Stored { .. })).count();
        }
    }
    if let Some(last) = last {
        stored += last.await?.iter().filter(|outcome| matches!(outcome, Ingested::Stored { .. })).count();
    }
    row("import, every signature checked", stored as u64, start);
    let start = Instant::now();
    store.close().await?;
    drop(store);
    row("close", stored as u64, start);
    let start = Instant::now();
    let store = open()?;
    row("open with the index", store.len(), start);
    store.close().await?;
    drop(store);
    std::fs::remove_file(dir.path().join("index"))?;
    let start = Instant::now();
    let store = open()?;
    row("open without the index", store.len(), start);
    let start = Instant::now();
    let (mut at, mut keys) = (0, Vec::new());
    while at < store.len() {
        let records = store.read_log(at, 500, Direction::Forward)?;
        at += records.len() as u64;
        keys.extend(records.iter().map(|record| record.key));
    }
    row("read the log in order", at, start);
    let start = Instant::now();
    let mut count = 0;
    for feed in store.feeds() {
        let mut from = 1;
        loop {
            let records = store.read_feed(&feed, from, 200)?;
            if records.is_empty() {
                break;
            }
            from += records.len() as u64;
            count += records.len() as u64;
        }
    }
    row("read feed by feed", count, start);
    let start = Instant::now();
    for key in keys.iter().step_by(7) {
        store.get(key)?;
    }
    row("get by id", keys.len() as u64 / 7, start);
    Ok(())
}
