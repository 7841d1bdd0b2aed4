//! Signed feeds and small helpers for the store's tests.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::path::Path;

use bytes::Bytes;
use sbot_feed::{FeedId, FeedTip, Keypair, Message, create_message};
use sbot_store::{Ingested, Store, StoreOptions};

pub(crate) struct Author {
    pub(crate) keys: Keypair,
    pub(crate) messages: Vec<Message>,
}

impl Author {
    pub(crate) fn new(seed: u8) -> Author {
        Author { keys: Keypair::from_seed([seed; 32]), messages: Vec::new() }
    }

    pub(crate) fn id(&self) -> FeedId {
        self.keys.id()
    }

    /// Signs the message after the given number of messages, without keeping it.
    pub(crate) fn sign_after(&self, count: usize, text: &str) -> Message {
        let tip = count.checked_sub(1).map(|last| FeedTip::from(&self.messages[last]));
        let kind = ["post", "vote", "about"][text.len() % 3];
        let content = format!("{{\"type\":\"{kind}\",\"text\":\"{text}\"}}");
        let time = 1_500_000_000_000.0 + 1000.0 * count as f64;
        create_message(&self.keys, None, tip.as_ref(), content.as_bytes(), time).unwrap()
    }

    pub(crate) fn publish(&mut self, text: &str) -> Message {
        let message = self.sign_after(self.messages.len(), text);
        self.messages.push(message.clone());
        message
    }

    pub(crate) fn values(&self) -> Vec<Bytes> {
        self.messages.iter().map(|message| message.value.clone()).collect()
    }
}

/// An author with so many messages.
pub(crate) fn author(seed: u8, count: usize) -> Author {
    let mut author = Author::new(seed);
    for number in 0..count {
        author.publish(&format!("{seed} says {number} {}", "words ".repeat(number % 7)));
    }
    author
}

pub(crate) fn open(dir: &Path) -> Store {
    Store::open(dir, StoreOptions { threads: 2, ..StoreOptions::default() }, &mut |_| {}).unwrap()
}

pub(crate) fn ingest(store: &Store, messages: Vec<Bytes>) -> Vec<Ingested> {
    wait(store.ingest(messages))
}

pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn close(store: Store) {
    wait(store.close()).unwrap();
}

pub(crate) fn stored(outcomes: &[Ingested]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, Ingested::Stored { .. })).count()
}

/// The store holds exactly this of the author's feed.
pub(crate) fn assert_feed(store: &Store, author: &Author, count: usize) {
    let id = author.id();
    assert_eq!(store.tip(&id).map_or(0, |tip| tip.sequence), count as u64);
    let records = store.read_feed(&id, 1, usize::MAX).unwrap();
    assert_eq!(records.len(), count);
    for (record, message) in records.iter().zip(&author.messages) {
        assert_eq!((record.key, record.sequence, &record.value), (message.key, message.sequence, &message.value));
        assert_eq!(store.get(&message.key).unwrap().as_ref(), Some(record));
        assert_eq!(store.record(record.number).unwrap().as_ref(), Some(record));
    }
}
