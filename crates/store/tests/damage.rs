//! Torn ends, damaged bytes, lost files: what is whole is served, and what is not is fetched again.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::path::Path;

use common::{Author, assert_feed, author, close, ingest, open, stored, wait};
use sbot_store::{Direction, Ingested, Store, StoreError};

const SEGMENT: &str = "log-00000";
/// What lies before a record's value: length, checksum, time, sequence, author, id.
const HEAD: usize = 4 + 4 + 8 + 4 + 32 + 32;

fn length(author: &Author, number: usize) -> usize {
    HEAD + author.messages[number].value.len()
}

/// A log of one feed, closed.
fn log(messages: usize) -> (tempfile::TempDir, Author) {
    let dir = tempfile::tempdir().unwrap();
    let author = author(1, messages);
    let store = open(dir.path());
    assert_eq!(stored(&ingest(&store, author.values())), messages);
    close(store);
    (dir, author)
}

fn write(dir: &Path, log: &[u8], index: Option<&[u8]>) {
    fs::write(dir.join(SEGMENT), log).unwrap();
    match index {
        Some(index) => fs::write(dir.join("index"), index).unwrap(),
        None => drop(fs::remove_file(dir.join("index"))),
    }
}

/// Everything comes back once somebody sends it.
fn heals(store: &Store, author: &Author) {
    let answers = ingest(store, author.values());
    assert!(answers.iter().all(|a| matches!(a, Ingested::Stored { .. } | Ingested::Duplicate { .. })), "{answers:?}");
    assert_feed(store, author, author.messages.len());
}

#[test]
fn a_log_that_ends_at_any_byte_is_cut_at_the_last_whole_record_and_no_earlier() {
    let (dir, author) = log(4);
    let whole = fs::read(dir.path().join(SEGMENT)).unwrap();
    let index = fs::read(dir.path().join("index")).unwrap();
    let ends: Vec<usize> = (0..4)
        .scan(0, |end, n| {
            *end += length(&author, n);
            Some(*end)
        })
        .collect();
    assert_eq!(ends[3], whole.len());
    for end in (ends[1] - 1..ends[2]).step_by(7).chain(ends[2] - 1..=whole.len()) {
        let index = (end % 2 == 0).then_some(&index[..]);
        write(dir.path(), &whole[..end], index);
        let kept = ends.iter().filter(|last| **last <= end).count();
        let store = open(dir.path());
        assert_eq!(store.len(), kept as u64, "cut at {end}");
        assert_feed(&store, &author, kept);
        assert!(store.damage().is_empty());
        assert_eq!(
            fs::metadata(dir.path().join(SEGMENT)).unwrap().len(),
            kept.checked_sub(1).map_or(0, |n| ends[n]) as u64
        );
        if end % 40 == 0 {
            heals(&store, &author);
        }
    }
    // Copies of what was cut are kept, but not without end.
    let copies = fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("cut-"));
    assert!((1..=8).contains(&copies.count()));
}

#[test]
fn a_tail_of_zeros_or_of_garbage_is_cut() {
    let (dir, author) = log(3);
    let whole = fs::read(dir.path().join(SEGMENT)).unwrap();
    for tail in [vec![0; 5000], vec![0xff; 77], b"{\"not\":\"a record\"}".to_vec()] {
        write(dir.path(), &[&whole[..], &tail].concat(), None);
        let store = open(dir.path());
        assert_feed(&store, &author, 3);
        assert_eq!(fs::read(dir.path().join(SEGMENT)).unwrap(), whole);
    }
}

#[test]
fn a_flipped_byte_anywhere_costs_its_message_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (author(1, 3), author(2, 3));
    let store = open(dir.path());
    for number in 0..3 {
        ingest(&store, vec![one.messages[number].value.clone()]);
        ingest(&store, vec![two.messages[number].value.clone()]);
    }
    close(store);
    let whole = fs::read(dir.path().join(SEGMENT)).unwrap();
    let index = fs::read(dir.path().join("index")).unwrap();
    let start = length(&one, 0) + length(&two, 0);
    for at in start..start + length(&one, 1) {
        // Some of each field.
        if at - start > HEAD && at % 29 != 0 || at % 3 != 0 {
            continue;
        }
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        let with_index = (at / 3) % 2 == 0;
        write(dir.path(), &damaged, with_index.then_some(&index[..]));
        let store = open(dir.path());
        // With an index, the damage shows when the record is read.
        let read = store.read_log(0, 100, Direction::Forward).unwrap();
        assert_eq!(read.len(), 5, "byte {at}");
        assert_feed(&store, &one, 1);
        assert_feed(&store, &two, 3);
        let damage = store.damage();
        assert_eq!((damage.len(), damage[0].segment(), damage[0].offset()), (1, 0, start as u64));
        assert_eq!(damage[0].length, length(&one, 1) as u64);
        if with_index {
            assert_eq!(damage[0].message, Some((one.id(), 2)));
        }
        assert!(store.get(&one.messages[1].key).unwrap().is_none());
        // What lies behind it is kept, and served again once it is there.
        let answers = ingest(&store, vec![one.messages[2].value.clone(), one.messages[1].value.clone()]);
        assert!(matches!(answers[0], Ingested::Duplicate { sequence: 3, .. }));
        assert!(matches!(answers[1], Ingested::Stored { sequence: 2, .. }));
        assert_feed(&store, &one, 3);
        close(store);
        let store = open(dir.path());
        assert_feed(&store, &one, 3);
        assert_eq!(store.damage(), damage);
        drop(store);
        fs::remove_file(dir.path().join("index")).unwrap();
        assert_feed(&open(dir.path()), &one, 3);
    }
}

#[test]
fn a_hole_takes_only_the_message_on_which_the_next_was_signed() {
    let (dir, mut one) = log(4);
    let mut whole = fs::read(dir.path().join(SEGMENT)).unwrap();
    whole[length(&one, 0) + HEAD + 3] ^= 1;
    write(dir.path(), &whole, None);
    let store = open(dir.path());
    assert_feed(&store, &one, 1);
    let answers = ingest(&store, vec![one.sign_after(1, "another second").value]);
    let Ingested::Fork { sequence: 2, ours, .. } = answers[0] else { panic!("{answers:?}") };
    assert_eq!(ours, one.messages[1].key);
    // Nor is anything signed over it.
    let next = one.publish("mine");
    let refused = wait(store.append_own(next.clone()));
    assert!(matches!(refused, Err(StoreError::Damaged { sequence: 2, .. })));
    one.messages.pop();
    heals(&store, &one);
    one.messages.push(next.clone());
    wait(store.append_own(next)).unwrap();
    assert_feed(&store, &one, 5);
}

#[test]
fn several_damaged_messages_in_a_row_come_back_one_by_one() {
    let (dir, one) = log(8);
    let index = fs::read(dir.path().join("index")).unwrap();
    let mut whole = fs::read(dir.path().join(SEGMENT)).unwrap();
    let mut at = 0;
    for number in 0..8 {
        if [2, 3, 4, 6].contains(&number) {
            whole[at + HEAD + 1] ^= 1;
        }
        at += length(&one, number);
    }
    for index in [None, Some(&index[..])] {
        write(dir.path(), &whole, index);
        let store = open(dir.path());
        assert_eq!(store.read_feed(&one.id(), 1, 100).unwrap().len(), 2);
        assert_eq!(store.get_at(&one.id(), 4).unwrap(), None);
        assert_eq!(store.read_log(0, 100, Direction::Backward).unwrap().len(), 1);
        assert_eq!(store.read_log(7, 100, Direction::Backward).unwrap().len(), 4);
        assert_feed(&store, &one, 2);
        heals(&store, &one);
        assert_eq!(store.read_feed(&one.id(), 3, 2).unwrap().len(), 2);
    }
}

#[test]
fn the_index_may_be_deleted_or_damaged_anywhere() {
    let (dir, author) = log(20);
    let whole = fs::read(dir.path().join(SEGMENT)).unwrap();
    let index = fs::read(dir.path().join("index")).unwrap();
    for at in (0..index.len()).step_by(5) {
        let mut damaged = index.clone();
        if at % 2 == 0 {
            damaged.truncate(at);
        } else {
            damaged[at] ^= 1 << (at % 8);
        }
        write(dir.path(), &whole, Some(&damaged));
        let store = open(dir.path());
        assert_eq!(store.len(), 20);
        if at % 50 == 0 {
            assert_feed(&store, &author, 20);
        }
    }
    // That of another log, too.
    let (other, _) = log(30);
    let foreign = fs::read(other.path().join("index")).unwrap();
    write(dir.path(), &whole, Some(&foreign));
    assert_feed(&open(dir.path()), &author, 20);
}

#[test]
fn a_lost_segment_costs_its_messages_and_not_those_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (author(1, 5), author(2, 5));
    let store = open(dir.path());
    ingest(&store, one.values());
    close(store);
    fs::rename(dir.path().join(SEGMENT), dir.path().join("log-00001")).unwrap();
    let store = open(dir.path());
    assert_feed(&store, &one, 5);
    ingest(&store, two.values());
    close(store);
    fs::remove_file(dir.path().join("index")).unwrap();
    let store = open(dir.path());
    assert_feed(&store, &one, 5);
    assert_feed(&store, &two, 5);
}
