//! How many messages a second one core parses, verifies and takes from the log: `cargo bench -p sbot-feed`.
//!
//! With a file of messages, one JSON a line, as argument (`-- --log FILE`), it measures those; else generated ones.

use std::hint::black_box;
use std::time::Instant;

use bytes::Bytes;
use sbot_feed::{FeedTip, Keypair, Message, Unverified, create_message, json, parse_message, verify_batch};

/// Feeds and messages of the generated log.
const FEEDS: usize = 100;
const LENGTH: usize = 200;
/// Signatures a batch, as the store takes them.
const CHUNK: usize = 512;

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--log").skip(1);
    let (name, lines) = match arguments.next() {
        Some(path) => match std::fs::read(&path) {
            Ok(bytes) => {
                (path, bytes.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()).map(<[u8]>::to_vec).collect())
            }
            Err(error) => {
                eprintln!("{path}: {error}");
                std::process::exit(1);
            }
        },
        None => (format!("{FEEDS} generated feeds of {LENGTH}"), generate()),
    };
    let lines: Vec<Vec<u8>> = lines;
    let count = lines.len();
    let bytes: usize = lines.iter().map(Vec::len).sum();
    println!("{name}: {count} messages of {} bytes", bytes / count.max(1));

    measure("parse_message", count, || {
        for chunk in lines.chunks(CHUNK) {
            let messages: Vec<Unverified> = chunk.iter().filter_map(|line| parse(line)).collect();
            assert_eq!(messages.len(), chunk.len(), "every message parses");
            black_box(messages);
        }
    });
    let messages: Vec<Unverified> = lines.iter().filter_map(|line| parse(line)).collect();
    measure("json::parse and print", count, || {
        let mut out = Vec::new();
        for line in &lines {
            out.clear();
            if let Ok(document) = json::parse(line) {
                document.root().print(&mut out);
            }
            black_box(&out);
        }
    });
    let stored: Vec<(sbot_feed::MsgId, Bytes)> =
        messages.iter().map(|message| (message.message().key, message.message().value.clone())).collect();
    measure("Message::trusted", count, || {
        for (key, value) in &stored {
            black_box(Message::trusted(*key, value.clone()).is_ok());
        }
    });

    let few: Vec<Unverified> = messages.iter().take(10_000).cloned().collect();
    let length = few.len();
    measure("verify, one by one", length, || assert!(few.into_iter().all(|message| message.verify().is_ok())));

    let mut by_author = messages;
    by_author.sort_by_key(|message| (message.message().author, message.message().sequence));
    let mut spread = by_author.clone();
    spread.sort_by_key(|message| message.message().sequence);
    measure("verify_batch, runs of one author", count, || batches(by_author));
    measure("verify_batch, authors mixed", count, || batches(spread));
}

fn parse(line: &[u8]) -> Option<Unverified> {
    parse_message(line, None).ok()
}

fn batches(messages: Vec<Unverified>) {
    let mut messages = messages.into_iter().peekable();
    while messages.peek().is_some() {
        let chunk = messages.by_ref().take(CHUNK).collect();
        assert!(verify_batch(chunk).iter().all(Result::is_ok));
    }
}

fn measure<T>(what: &str, count: usize, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let seconds = start.elapsed().as_secs_f64();
    println!("{what:<36}{:>10.0} /s{:>9.2} µs each", count as f64 / seconds, seconds * 1e6 / count as f64);
    result
}

fn generate() -> Vec<Vec<u8>> {
    let text = "Lorem ipsum dolor sit amet, consectetur adipiscing elit. ".repeat(4);
    let mut lines = Vec::with_capacity(FEEDS * LENGTH);
    for feed in 0..FEEDS {
        let keys = Keypair::from_seed([feed as u8; 32]);
        let mut tip: Option<FeedTip> = None;
        for at in 0..LENGTH {
            let content = format!(r#"{{"type":"post","text":"{at} {text}","mentions":[]}}"#);
            let message = create_message(&keys, None, tip.as_ref(), content.as_bytes(), 1.7e12 + at as f64);
            let Ok(message) = message else { panic!("a generated message is valid") };
            tip = Some(FeedTip::from(&message));
            lines.push(message.value.to_vec());
        }
    }
    lines
}
