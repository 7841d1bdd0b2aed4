//! The log under everything that can happen to it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use sbot_feed::{FeedId, FeedTip, Keypair, Message, create_message};
use sbot_store::{Direction, Ingested, Refusal, Store, StoreError, StoreOptions};

fn open(dir: &Path) -> Store {
    Store::open(dir, StoreOptions::default(), &mut |_| {}).unwrap()
}

struct Author {
    keys: Keypair,
    tip: Option<FeedTip>,
}

impl Author {
    fn new(seed: u8) -> Author {
        Author { keys: Keypair::from_seed([seed; 32]), tip: None }
    }

    fn id(&self) -> FeedId {
        self.keys.id()
    }

    fn write(&mut self, text: &str) -> Message {
        let content = format!("{{\"type\":\"post\",\"text\":\"{text}\"}}");
        let message = create_message(&self.keys, None, self.tip.as_ref(), content.as_bytes(), 1e12).unwrap();
        self.tip = Some(FeedTip::from(&message));
        message
    }

    fn write_many(&mut self, count: usize) -> Vec<Bytes> {
        (0..count).map(|at| self.write(&at.to_string()).value).collect()
    }
}

fn stored(outcomes: &[Ingested]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, Ingested::Stored { .. })).count()
}

fn check_whole(store: &Store, author: &Author, count: u64) {
    assert_eq!(store.tip(&author.id()).map_or(0, |tip| tip.sequence), count);
    let records = store.read_feed(&author.id(), 1, usize::MAX).unwrap();
    assert_eq!(records.len() as u64, count);
    for record in records {
        let message = sbot_feed::parse_message(&record.value, None).unwrap().verify().unwrap();
        assert_eq!((message.key, message.sequence), (record.key, record.sequence));
        assert_eq!(store.get(&record.key).unwrap().unwrap(), record);
        assert_eq!(store.record(record.number).unwrap().unwrap(), record);
    }
}

#[tokio::test]
async fn messages_are_there_after_reopening_with_and_without_their_index() {
    let dir = tempfile::tempdir().unwrap();
    let (mut a, mut b) = (Author::new(1), Author::new(2));
    let store = open(dir.path());
    let mut mixed = Vec::new();
    for _ in 0..150 {
        mixed.push(a.write("a").value);
        mixed.push(b.write("b").value);
    }
    assert_eq!(stored(&store.ingest(mixed).await), 300);
    let own = store.append_own(a.write("own")).await.unwrap();
    assert_eq!((own.number, own.sequence), (300, 151));
    check_whole(&store, &a, 151);
    store.close().await.unwrap();
    for index_is_gone in [false, true] {
        if index_is_gone {
            fs::remove_file(dir.path().join("index")).unwrap();
        }
        let store = open(dir.path());
        assert_eq!(store.len(), 301);
        check_whole(&store, &a, 151);
        check_whole(&store, &b, 150);
        assert_eq!(store.by_type("post").len(), 301);
        let times: Vec<f64> =
            store.read_log(0, 1000, Direction::Forward).unwrap().iter().map(|record| record.received).collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
        let back = store.read_log(300, 10, Direction::Backward).unwrap();
        assert_eq!(back.iter().map(|record| record.number).collect::<Vec<_>>(), (291..=300).rev().collect::<Vec<_>>());
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn what_does_not_fit_is_told_and_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut a = Author::new(1);
    let messages = a.write_many(5);
    let outcomes = store.ingest(vec![messages[1].clone()]).await;
    assert!(matches!(outcomes[0], Ingested::Gap { sequence: 2, tip: 0, .. }));
    assert_eq!(stored(&store.ingest(messages[..4].to_vec()).await), 4);
    let outcomes = store.ingest(vec![messages[0].clone(), messages[3].clone(), messages[4].clone()]).await;
    assert!(matches!(outcomes[0], Ingested::Duplicate { sequence: 1, .. }));
    assert!(matches!(outcomes[1], Ingested::Duplicate { sequence: 4, .. }));
    assert!(matches!(outcomes[2], Ingested::Stored { sequence: 5, .. }));

    let mut other = Author::new(1);
    other.write_many(4);
    let fork = other.write("another fifth");
    let outcomes = store.ingest(vec![fork.value.clone()]).await;
    assert!(matches!(outcomes[0], Ingested::Fork { sequence: 5, .. }));
    let outcomes = store.ingest(vec![other.write("on top of it").value]).await;
    assert!(matches!(outcomes[0], Ingested::Fork { sequence: 6, .. }));
    assert_eq!(store.forks().len(), 1);
    assert_eq!((store.forks()[0].author, store.forks()[0].refused), (a.id(), fork.key));

    let mut bad = messages[4].to_vec();
    let at = bad.len() - 30;
    bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
    let sixth = a.write("6").value;
    let mut wrong = sixth.to_vec();
    let at = wrong.len() - 40;
    wrong[at] = if wrong[at] == b'A' { b'B' } else { b'A' };
    let outcomes = store.ingest(vec![wrong.into(), Bytes::from_static(b"nonsense"), sixth]).await;
    assert!(
        matches!(&outcomes[0], Ingested::Invalid { author: Some(author), sequence: Some(6), .. } if *author == a.id())
    );
    assert!(matches!(&outcomes[1], Ingested::Invalid { author: None, error: Refusal::Message(_), .. }));
    assert!(matches!(outcomes[2], Ingested::Stored { sequence: 6, .. }));
    store.close().await.unwrap();
    assert_eq!(open(dir.path()).forks().len(), 1);
}

#[tokio::test]
async fn a_log_cut_anywhere_keeps_every_whole_message() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut a = Author::new(1);
    store.ingest(a.write_many(6)).await;
    store.close().await.unwrap();
    let whole = fs::read(dir.path().join("log-00000")).unwrap();
    let mut ends = Vec::new();
    let mut at = 0;
    while at < whole.len() {
        at += 8 + u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
        ends.push(at);
    }
    for length in (ends[3]..whole.len()).step_by(37).chain([ends[4] - 1, ends[4], ends[4] + 1]) {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("log-00000"), &whole[..length]).unwrap();
        // With an index of the longer log too: it must not be believed.
        fs::copy(dir.path().join("index"), copy.path().join("index")).unwrap();
        let store = open(copy.path());
        let kept = ends.iter().filter(|end| **end <= length).count();
        check_whole(&store, &a, kept as u64);
        let again = a_messages(6);
        assert_eq!(stored(&store.ingest(again).await), 6 - kept);
        check_whole(&store, &a, 6);
    }
}

fn a_messages(count: usize) -> Vec<Bytes> {
    Author::new(1).write_many(count)
}

#[tokio::test]
async fn a_corrupt_byte_within_loses_that_message_alone_and_it_can_come_again() {
    for with_index in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let (mut a, mut b) = (Author::new(1), Author::new(2));
        let ours = a.write_many(9);
        store.ingest(ours[..5].to_vec()).await;
        store.ingest(b.write_many(3)).await;
        store.ingest(ours[5..].to_vec()).await;
        store.close().await.unwrap();
        let path = dir.path().join("log-00000");
        let mut bytes = fs::read(&path).unwrap();
        let damaged = ours[2].clone();
        let at = bytes.windows(damaged.len()).position(|window| window == damaged).unwrap();
        bytes[at + 50] ^= 1;
        fs::write(&path, &bytes).unwrap();
        if !with_index {
            fs::remove_file(dir.path().join("index")).unwrap();
        }
        let store = open(dir.path());
        // Met by reading, or by the scan.
        store.read_log(0, 100, Direction::Forward).unwrap();
        check_whole(&store, &b, 3);
        assert_eq!(store.tip(&a.id()).unwrap().sequence, 2);
        assert_eq!(store.read_feed(&a.id(), 1, 100).unwrap().len(), 2);
        assert_eq!(store.read_feed(&a.id(), 4, 100).unwrap().len(), 6);
        let tip = store.tip(&a.id());
        let own = create_message(&a.keys, None, tip.as_ref(), b"{\"type\":\"post\"}", 1e12).unwrap();
        assert!(matches!(store.append_own(own).await, Err(StoreError::Damaged { sequence: 3, .. })));
        let outcomes = store.ingest(ours.clone()).await;
        assert_eq!(stored(&outcomes), 1, "{outcomes:?}");
        check_whole(&store, &a, 9);
        store.close().await.unwrap();
        fs::remove_file(dir.path().join("index")).unwrap();
        check_whole(&open(dir.path()), &a, 9);
    }
}

#[tokio::test]
async fn a_damaged_index_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut a = Author::new(1);
    store.ingest(a.write_many(20)).await;
    store.close().await.unwrap();
    let path = dir.path().join("index");
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(101) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(&path, &bytes).unwrap();
        let store = open(dir.path());
        check_whole(&store, &a, 20);
        store.close().await.unwrap();
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    check_whole(&open(dir.path()), &a, 20);
}

#[tokio::test]
async fn a_second_opening_is_refused_until_the_first_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = Store::open(dir.path(), StoreOptions::default(), &mut |_| {}).err().unwrap();
    assert!(error.to_string().contains("is in use by another process"), "{error}");
    store.close().await.unwrap();
    open(dir.path());
}

#[tokio::test]
async fn watchers_hear_of_what_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut length = store.watch();
    assert_eq!(*length.borrow_and_update(), 0);
    let mut a = Author::new(1);
    let ingest = store.ingest(a.write_many(3));
    ingest.await;
    length.wait_for(|length| *length == 3).await.unwrap();
    assert_eq!(store.read_log(0, 10, Direction::Forward).unwrap().len(), 3);
}
