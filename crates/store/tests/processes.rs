//! Stores in processes of their own, which are killed, or run out of disk.
//!
//! The child is this test binary again: the test named `child` does nothing unless it is told to.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use common::{Author, assert_feed, author, close, ingest, open, wait};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sbot_feed::Keypair;
use sbot_store::{Ingested, Refusal, StoreError};

const TASK: &str = "SBOT_STORE_TEST_TASK";
const DIR: &str = "SBOT_STORE_TEST_DIR";

fn spawn(task: &str, dir: &Path, before: &str) -> Child {
    // The shell sets what a child inherits; ignored signals are among it.
    Command::new("sh")
        .arg("-c")
        .arg(format!("{before} exec \"$0\" --exact child --nocapture --test-threads=1"))
        .arg(env::current_exe().unwrap())
        .env(TASK, task)
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn child() {
    let (Ok(task), Ok(dir)) = (env::var(TASK), env::var(DIR)) else { return };
    let dir = Path::new(&dir);
    match task.as_str() {
        "append" => append_until_killed(dir),
        "full" => run_out_of_disk(dir),
        "lock" => {
            let store = open(dir);
            println!("\nlocked");
            let _ = std::io::stdin().read(&mut [0]);
            drop(store);
        }
        task => panic!("no such task: {task}"),
    }
}

/// Goes on with the own feed and takes in others, and says which own messages were answered.
fn append_until_killed(dir: &Path) {
    let store = open(dir);
    let others: Vec<Author> = (10..14).map(|seed| author(seed, 200)).collect();
    let keys = Keypair::from_seed([1; 32]);
    wait(async {
        let feeds = store.clone();
        let bring = tokio::spawn(async move {
            for start in (0..200).step_by(5) {
                let part = |author: &Author| author.values().into_iter().skip(start).take(5).collect::<Vec<Bytes>>();
                feeds.ingest(others.iter().flat_map(part).collect()).await;
            }
        });
        for _ in 0..100_000 {
            let tip = store.tip(&keys.id());
            let content = br#"{"type":"post","text":"mine"}"#;
            let message = sbot_feed::create_message(&keys, None, tip.as_ref(), content, 1_600_000_000_000.0).unwrap();
            let record = store.append_own(message).await.unwrap();
            println!("\nown {} {}", record.sequence, record.key);
        }
        bring.await.unwrap();
    });
}

#[test]
fn a_process_killed_at_any_moment_loses_no_own_message_and_tears_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let keys = Keypair::from_seed([1; 32]);
    let mut last = (0, String::new());
    for round in 0..10_u64 {
        let mut child = spawn("append", dir.path(), "");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines.by_ref() {
            let line = line.unwrap();
            if let Some((sequence, key)) = line.strip_prefix("own ").and_then(|own| own.split_once(' ')) {
                last = (sequence.parse::<u64>().unwrap(), key.to_owned());
                seen += 1;
                // At once after an answer, or somewhere between two.
                if seen > round * 7 % 23 {
                    break;
                }
            }
        }
        child.kill().unwrap();
        // What was answered before the end counts too.
        for line in lines.map_while(Result::ok) {
            if let Some((sequence, key)) = line.strip_prefix("own ").and_then(|own| own.split_once(' ')) {
                last = (sequence.parse::<u64>().unwrap(), key.to_owned());
            }
        }
        child.wait().unwrap();
        if round % 3 == 2 {
            let _ = std::fs::remove_file(dir.path().join("index"));
        }
        let store = open(dir.path());
        let own = store.read_feed(&keys.id(), 1, usize::MAX).unwrap();
        assert!(own.len() as u64 >= last.0 && last.0 > 0, "{} of {}", own.len(), last.0);
        assert_eq!(own[last.0 as usize - 1].key.to_string(), last.1);
        assert!(store.damage().is_empty());
        for seed in 10..14 {
            let other = author(seed, 200);
            assert_feed(&store, &other, store.tip(&other.id()).map_or(0, |tip| tip.sequence as usize));
        }
        if round % 2 == 0 {
            close(store);
        }
    }
    // And the rest still fits.
    let store = open(dir.path());
    for seed in 10..14 {
        let other = author(seed, 200);
        ingest(&store, other.values());
        assert_feed(&store, &other, 200);
    }
}

/// Bytes that a file may have in the child until it gets more room.
const ROOM: u64 = 64 * 1024;

fn run_out_of_disk(dir: &Path) {
    // A limit on a file's length stands in for the disk's: writes fail half-way in the same manner.
    let limit = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(ROOM), maximum: limit.maximum }).unwrap();
    let store = open(dir);
    let feed = author(1, 300);
    let mut stored = 0;
    let mut refused = 0;
    for part in feed.values().chunks(10) {
        for answer in ingest(&store, part.to_vec()) {
            match answer {
                Ingested::Stored { .. } => stored += 1,
                Ingested::Invalid { error: Refusal::Store(why), .. } => {
                    assert!(why.contains("can't write") && why.contains("log-00000"), "{why}");
                    refused += 1;
                }
                Ingested::Gap { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(stored > 50 && stored < 290 && refused > 0, "{stored} stored, {refused} refused");
    assert!(std::fs::metadata(dir.join("log-00000")).unwrap().len() <= ROOM);
    // Own messages are refused with the reason, once there is no room for them either.
    let mut own = Author::new(2);
    let failed = loop {
        let message = own.sign_after(own.messages.len(), "of mine");
        match wait(store.append_own(message.clone())) {
            Ok(_) => own.messages.push(message),
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, StoreError::Io { .. }), "{failed}");
    // All that is there can be read, and the store opens again.
    assert_feed(&store, &feed, stored);
    assert_feed(&store, &own, own.messages.len());
    close(store);
    let store = open(dir);
    assert_feed(&store, &feed, stored);
    assert_feed(&store, &own, own.messages.len());
    // With room again, the same store goes on.
    setrlimit(Resource::Fsize, limit).unwrap();
    ingest(&store, feed.values());
    assert_feed(&store, &feed, 300);
    let message = own.publish("of mine");
    wait(store.append_own(message)).unwrap();
    close(store);
    std::fs::remove_file(dir.join("index")).unwrap();
    let store = open(dir);
    assert_feed(&store, &feed, 300);
    assert_feed(&store, &own, own.messages.len());
    println!("\ndone");
}

#[test]
fn a_full_disk_refuses_messages_tears_nothing_and_takes_them_later() {
    let dir = tempfile::tempdir().unwrap();
    // Without this the system kills who writes beyond the limit.
    let child = spawn("full", dir.path(), "trap '' XFSZ;");
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("\ndone"), "{text}");
}

#[test]
fn a_second_process_is_told_that_the_directory_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "child", "--nocapture"]).env(TASK, "lock").env(DIR, dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "locked"));
    let second = sbot_store::Store::open(dir.path(), sbot_store::StoreOptions::default(), &mut |_| {});
    assert!(matches!(second, Err(StoreError::Locked(_))));
    child.kill().unwrap();
    child.wait().unwrap();
    // The lock died with its process.
    open(dir.path());
}
