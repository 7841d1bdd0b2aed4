//! `bench_store LOG.jsonl [TIMES]`: how fast a log goes in, opens and comes out, and what it takes of memory.
//!
//! With `TIMES`, a log of so many feeds' worth of records is made of the file's messages for all but the import: their
//! authors are changed, so that nothing but the signatures is wrong, which nobody looks at again.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use sbot_store::{Direction, LinkEnd, LinkQuery, Store, StoreOptions};

/// Records or messages that are read at once.
const CHUNK: usize = 1024;

fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Seconds of processor time so far, in all threads.
fn processor() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.split_whitespace().skip(13).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

fn row(what: &str, count: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    let (now, peak) = (memory("VmRSS:"), memory("VmHWM:"));
    let (rate, cpu) = (count as f64 / seconds, processor());
    println!("{what:<34} {rate:>12.0}/s {seconds:>8.3} s {now:>5} MB now {peak:>5} MB peak {cpu:>6.2} s of cpu so far");
}

fn open(dir: &Path) -> Result<Store, Box<dyn Error>> {
    Ok(Store::open(dir, StoreOptions::default(), &mut |_| {})?)
}

/// Copies the records of a log `times` times, each time with other authors and ids.
fn multiply(dir: &Path, times: u8) -> Result<(), Box<dyn Error>> {
    const SEGMENT: usize = 64 << 20;
    let log: Vec<u8> = (0..).map_while(|n| fs::read(dir.join(format!("log-{n:05}"))).ok()).flatten().collect();
    for name in ["index", "claimed", "links"] {
        let _ = fs::remove_file(dir.join(name));
    }
    let mut out = Vec::with_capacity(SEGMENT);
    let mut segment = 0;
    let (mut seconds, mut rest) = (0.0, &log[..]);
    while let Some(length) = rest.first_chunk::<4>() {
        let (record, next) = rest.split_at(8 + u32::from_le_bytes(*length) as usize);
        rest = next;
        for copy in 0..times {
            let mut record = record.to_vec();
            seconds += 0.001;
            record[8..16].copy_from_slice(&(1_500_000_000_000.0_f64 + seconds).to_le_bytes());
            // Behind the length, the checksum and the time: sequence, author, id.
            record[20] ^= copy;
            record[52] ^= copy;
            record[55] ^= copy.rotate_left(4);
            let sum = crc32c::crc32c(&record[8..]);
            record[4..8].copy_from_slice(&sum.to_le_bytes());
            if out.len() + record.len() > SEGMENT {
                fs::write(dir.join(format!("log-{segment:05}")), &out)?;
                out.clear();
                segment += 1;
            }
            out.extend_from_slice(&record);
        }
    }
    Ok(fs::write(dir.join(format!("log-{segment:05}")), &out)?)
}

fn read(dir: &Path) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let store = open(dir)?;
    row("cold start, with the index", store.len(), start);
    let start = Instant::now();
    let (mut from, mut keys) = (0, Vec::new());
    loop {
        let records = store.read_log(from, CHUNK, Direction::Forward)?;
        let Some(last) = records.last() else { break };
        from = last.number + 1;
        keys.extend(records.iter().step_by(7).map(|record| record.key));
    }
    row("read_log", store.len(), start);
    let start = Instant::now();
    let mut count = 0;
    for feed in store.feeds() {
        loop {
            let records = store.read_feed(&feed, count + 1, CHUNK)?;
            if records.is_empty() {
                break;
            }
            count += records.len() as u64;
        }
        count = 0;
    }
    row("read_feed, all feeds", store.len(), start);
    let start = Instant::now();
    for key in &keys {
        store.get(key)?.ok_or("a message is gone")?;
    }
    row("get by id", keys.len() as u64, start);
    drop(keys);
    let start = Instant::now();
    let posts = store.by_type("post");
    for part in posts.chunks(CHUNK) {
        store.records(part)?;
    }
    row("by_type post, read", posts.len() as u64, start);
    let start = Instant::now();
    store.by_claimed_time(..)?;
    row("by_claimed_time, first call", store.len(), start);
    let start = Instant::now();
    let order = store.by_claimed_time(..)?;
    for part in order.chunks(CHUNK) {
        store.records(part)?;
    }
    row("by_claimed_time again, read", store.len(), start);
    let start = Instant::now();
    let feed = store.feeds().first().map(ToString::to_string).unwrap_or_default();
    let query = LinkQuery { dest: LinkEnd::Id(feed), ..LinkQuery::default() };
    let links = store.links(&query)?.len() as u64;
    row("links to a feed, first call", store.len(), start);
    let start = Instant::now();
    store.links(&query)?;
    row("links to a feed, again", links, start);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: bench_store LOG.jsonl [TIMES] | bench_store --read DIR")?;
    if file == "--read" {
        return read(Path::new(&args.next().ok_or("which directory?")?));
    }
    let times: Option<u8> = args.next().map(|times| times.parse()).transpose()?;
    let dir = tempfile::tempdir()?;
    let store = open(dir.path())?;
    row("empty", 0, Instant::now());
    let start = Instant::now();
    let summary = store.import(File::open(file)?, &mut |_| {})?;
    row("import, every signature checked", summary.stored, start);
    let start = Instant::now();
    let exported = store.export(std::io::sink(), &mut |_| {})?;
    row("export", exported.messages, start);
    drop(store);
    if let Some(times) = times {
        multiply(dir.path(), times)?;
    }
    let _ = fs::remove_file(dir.path().join("index"));
    let child = |what: &str| {
        let mut child = std::process::Command::new(std::env::current_exe()?);
        println!("-- {what}");
        child.arg("--read").arg(dir.path()).status().map(drop)
    };
    let start = Instant::now();
    let store = open(dir.path())?;
    row("cold start, without the index", store.len(), start);
    let (bytes, count) = (store.bytes(), store.len());
    drop(store);
    println!(
        "{count} messages, {} MB of log, {} MB of index",
        bytes >> 20,
        fs::metadata(dir.path().join("index"))?.len() >> 20
    );
    // Each in a process of its own, so that its memory is its own.
    child("a fresh process; indexes on demand are made")?;
    child("another one; all indexes are there")?;
    Ok(())
}
