//! What the store does with good and bad messages.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use common::{Author, assert_feed, author, close, ingest, open, stored, wait};
use sbot_feed::FeedTip;
use sbot_store::{Direction, Ingested, LinkEnd, LinkQuery, Refusal, Store, StoreError, StoreOptions};

#[test]
fn what_was_taken_in_is_served_in_the_same_bytes_before_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let authors: Vec<Author> = (1..6).map(|seed| author(seed, 40)).collect();
    let store = open(dir.path());
    for start in (0..40).step_by(8) {
        let batch = authors.iter().flat_map(|author| author.values().into_iter().skip(start).take(8)).collect();
        assert_eq!(stored(&ingest(&store, batch)), 40);
    }
    let all = store.read_log(0, 1000, Direction::Forward).unwrap();
    assert_eq!(all.len(), 200);
    assert!(all.windows(2).all(|pair| pair[0].received < pair[1].received && pair[0].number + 1 == pair[1].number));
    let mut backwards = store.read_log(199, 1000, Direction::Backward).unwrap();
    backwards.reverse();
    assert_eq!(backwards, all);
    assert_eq!(store.read_log(50, 7, Direction::Forward).unwrap(), all[50..57]);
    assert_eq!(store.read_log(200, 7, Direction::Forward).unwrap(), []);
    assert_eq!(store.read_log(1000, 2, Direction::Backward).unwrap().len(), 2);
    close(store);
    for delete in [false, true] {
        if delete {
            std::fs::remove_file(dir.path().join("index")).unwrap();
        }
        let store = open(dir.path());
        assert_eq!(store.len(), 200);
        assert_eq!(store.read_log(0, 1000, Direction::Forward).unwrap(), all);
        for author in &authors {
            assert_feed(&store, author, 40);
            assert_eq!(store.get_at(&author.id(), 7).unwrap().unwrap().key, author.messages[6].key);
        }
        let types: BTreeSet<u32> = ["post", "vote", "about"].iter().flat_map(|kind| store.by_type(kind)).collect();
        assert_eq!(types.len(), 200);
        assert_eq!(store.clock().len(), 5);
        assert!(store.damage().is_empty());
        close(store);
    }
}

#[test]
fn a_feed_is_read_until_there_are_enough_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (author(1, 40), author(2, 40));
    let store = open(dir.path());
    for at in 0..40 {
        ingest(&store, vec![one.messages[at].value.clone(), other.messages[at].value.clone()]);
    }
    let id = one.id();
    let all = store.feed_bytes(&id, 1, 100);
    let values: usize = one.messages.iter().map(|message| message.value.len()).sum();
    assert!((values as u64..3 * values as u64).contains(&all), "{all} of {values}");
    for bytes in [1, 1_000, all / 2, all - 1, all, u64::MAX] {
        let records = store.read_feed_within(&id, 1, 100, bytes).unwrap();
        // as few as reach it
        let (with, without) = (records.len(), records.len() - 1);
        assert!(store.feed_bytes(&id, 1, with) >= bytes.min(all) && (store.feed_bytes(&id, 1, without) < bytes));
        assert_eq!(records, store.read_feed(&id, 1, with).unwrap());
    }
    assert_eq!(store.read_feed_within(&id, 3, 2, u64::MAX).unwrap().len(), 2);
    assert_eq!(store.read_feed_within(&id, 3, 100, 0).unwrap(), []);
    assert_eq!(store.feed_bytes(&id, 41, 100), 0);
    close(store);
}

#[test]
fn each_message_gets_the_answer_it_deserves() {
    let dir = tempfile::tempdir().unwrap();
    let (good, other) = (author(1, 10), author(2, 3));
    let store = open(dir.path());
    let mut batch = good.values();
    let forged = String::from_utf8(other.messages[0].value.to_vec()).unwrap().replace("says", "lies");
    batch.truncate(5);
    batch.push(Bytes::from(forged));
    batch.push(Bytes::from_static(b"{garbage"));
    batch.push(good.messages[2].value.clone());
    batch.push(good.messages[7].value.clone());
    batch.extend(good.values()[5..].iter().cloned());
    let answers = ingest(&store, batch);
    let id = good.id();
    assert_eq!(answers[4], Ingested::Stored { number: 4, author: id, sequence: 5 });
    let Ingested::Invalid { error: Refusal::Message(_), author: Some(author), sequence: Some(1) } = &answers[5] else {
        panic!("{:?}", answers[5])
    };
    assert_eq!(*author, other.id());
    assert!(matches!(&answers[6], Ingested::Invalid { error: Refusal::Message(_), author: None, sequence: None }));
    assert_eq!(answers[7], Ingested::Duplicate { author: id, sequence: 3 });
    assert_eq!(answers[8], Ingested::Gap { author: id, sequence: 8, tip: 5 });
    assert_eq!(stored(&answers[9..]), 5);
    assert_feed(&store, &good, 10);
    assert_feed(&store, &other, 0);
    // All known by now: no signature is looked at.
    let again = ingest(&store, good.values());
    assert!(again.iter().all(|answer| matches!(answer, Ingested::Duplicate { .. })));
}

#[test]
fn a_fork_is_noted_and_its_branch_refused_while_ours_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut ours = author(1, 6);
    let mut theirs = author(1, 4);
    theirs.publish("another fifth");
    theirs.publish("and on");
    theirs.publish("and on and on");
    let store = open(dir.path());
    assert_eq!(stored(&ingest(&store, ours.values())), 6);
    let id = ours.id();
    let answers = ingest(&store, theirs.values());
    let (fifth, theirs_fifth) = (ours.messages[4].key, theirs.messages[4].key);
    assert_eq!(answers[4], Ingested::Fork { author: id, sequence: 5, ours: fifth, theirs: theirs_fifth });
    assert!(matches!(answers[5], Ingested::Fork { sequence: 6, .. }));
    let Ingested::Fork { sequence: 7, ours: sixth, theirs: other, .. } = answers[6] else { panic!("{:?}", answers[6]) };
    assert_eq!((sixth, other), (ours.messages[5].key, theirs.messages[5].key));
    let next = ours.publish("goes on");
    assert_eq!(stored(&ingest(&store, vec![next.value])), 1);
    close(store);
    let store = open(dir.path());
    let forks = store.forks();
    assert_eq!(forks.len(), 1);
    assert_eq!((forks[0].author, forks[0].sequence), (id, 5));
    assert_eq!((forks[0].ours, forks[0].theirs), (fifth, theirs_fifth));
    assert_feed(&store, &ours, 7);
}

#[test]
fn a_second_process_is_refused_until_the_first_has_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let second = Store::open(dir.path(), StoreOptions::default(), &mut |_| {});
    let error = second.unwrap_err();
    assert!(matches!(&error, StoreError::Locked(_)) && error.to_string().contains("in use by another process"));
    let clone = store.clone();
    wait(clone.close()).unwrap();
    open(dir.path());
    // The closed one still reads, and says why it takes nothing.
    assert!(store.is_empty());
    assert!(matches!(store.flush(), Err(StoreError::Closed)));
    let answers = ingest(&store, author(1, 1).values());
    assert!(matches!(&answers[0], Ingested::Invalid { error: Refusal::Store(_), .. }));
    drop((store, clone));
    open(dir.path());
}

#[test]
fn own_messages_follow_their_feed_or_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut own = Author::new(1);
    wait(async {
        for number in 0..5 {
            let message = own.publish(&number.to_string());
            let record = store.append_own(message.clone()).await.unwrap();
            assert_eq!((record.number, record.key, &record.value), (number, message.key, &message.value));
            assert_eq!(store.tip(&own.id()), Some(FeedTip::from(&message)));
        }
        let again = store.append_own(own.messages[4].clone()).await;
        assert!(matches!(again, Err(StoreError::Message(_))));
        let fork = own.sign_after(4, "other");
        assert!(matches!(store.append_own(fork).await, Err(StoreError::Message(_))));
        // Many at once: each on its own feed.
        let others: Vec<Author> = (10..50).map(|seed| author(seed, 1)).collect();
        let waiting: Vec<_> = others.iter().map(|author| store.append_own(author.messages[0].clone())).collect();
        for one in waiting {
            one.await.unwrap();
        }
    });
    assert_eq!(store.len(), 45);
    drop(store);
    assert_feed(&open(dir.path()), &own, 5);
}

#[test]
fn a_live_tail_wakes_for_every_append_and_ends_with_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let feed = author(1, 50);
    wait(async {
        let mut watch = store.watch();
        let reader = {
            let store = store.clone();
            tokio::spawn(async move {
                let mut keys = Vec::new();
                while watch.changed().await.is_ok() {
                    let _ = *watch.borrow_and_update();
                    let records = store.read_log(keys.len() as u64, 1000, Direction::Forward).unwrap();
                    keys.extend(records.iter().map(|record| record.key));
                }
                keys
            })
        };
        for part in feed.values().chunks(7) {
            store.ingest(part.to_vec()).await;
            tokio::task::yield_now().await;
        }
        store.close().await.unwrap();
        let keys = tokio::time::timeout(Duration::from_secs(10), reader).await.unwrap().unwrap();
        assert_eq!(keys, feed.messages.iter().map(|message| message.key).collect::<Vec<_>>());
    });
}

#[test]
fn the_length_is_never_behind_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let feed = author(1, 3_000);
    let looking = {
        let store = store.clone();
        std::thread::spawn(move || {
            let mut looks = 0;
            loop {
                let told: u64 = store.clock().iter().map(|(_, sequence)| sequence).sum();
                let length = store.len();
                assert!(told <= length, "the clock tells of {told} messages, the log ends after {length}");
                looks += 1;
                if told == 3_000 {
                    return looks;
                }
            }
        })
    };
    for message in feed.values() {
        assert_eq!(stored(&ingest(&store, vec![message])), 1);
    }
    assert!(looking.join().unwrap() > 1);
}

#[test]
fn export_and_import_keep_messages_their_order_and_their_times() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (store, other) = (open(dir.path()), open(copy.path()));
    let (one, two) = (author(1, 30), author(2, 30));
    ingest(&store, one.values());
    ingest(&store, two.values());
    let mut lines = Vec::new();
    let done = store.export(&mut lines, &mut |_| {}).unwrap();
    assert_eq!((done.messages, done.bytes), (60, lines.len() as u64));
    let mut last = 0;
    let summary = other.import(&lines[..], &mut |progress| last = progress.bytes).unwrap();
    assert_eq!((summary.stored, summary.refused, last), (60, 0, lines.len() as u64));
    assert_eq!(
        other.read_log(0, 100, Direction::Forward).unwrap(),
        store.read_log(0, 100, Direction::Forward).unwrap()
    );

    // Bare values, bad lines, gaps: the line's number tells which.
    let mut text = b"\nnonsense\n".to_vec();
    for message in author(3, 5).messages.iter().filter(|message| message.sequence != 3) {
        text.extend_from_slice(&message.value);
        text.extend_from_slice(b"\r\n\n");
    }
    text.extend_from_slice(&one.messages[0].value);
    let summary = other.import(&text[..], &mut |_| {}).unwrap();
    assert_eq!((summary.stored, summary.duplicates, summary.refused), (2, 1, 3));
    assert_eq!(summary.named.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 7, 9]);
    assert!(summary.named[1].1.contains("those between are missing"));
    assert_eq!(summary.stopped, None);
}

#[test]
fn records_are_found_by_claimed_time_and_by_link_before_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (one, mut two) = (author(1, 20), author(2, 20));
    let root = one.messages[3].key;
    let tip = FeedTip::from(&two.messages[19]);
    let content = format!(r#"{{"type":"post","root":"{root}","mentions":[{{"link":"{}"}}]}}"#, one.id());
    let reply = sbot_feed::create_message(&two.keys, None, Some(&tip), content.as_bytes(), 7.0).unwrap();
    two.messages.push(reply.clone());
    let store = open(dir.path());
    ingest(&store, one.values());
    let start = 1_500_000_000_000.0;
    assert_eq!(store.by_claimed_time(..).unwrap(), (0..20).collect::<Vec<u32>>());
    assert!(store.linking_to(&root.to_string()).unwrap().is_empty());
    ingest(&store, two.values());
    close(store);
    for delete in [false, true] {
        if delete {
            std::fs::remove_file(dir.path().join("claimed")).unwrap();
            std::fs::write(dir.path().join("links"), b"damaged").unwrap();
        }
        let store = open(dir.path());
        let order = store.by_claimed_time(..).unwrap();
        assert_eq!((order.len(), order[0]), (41, 40));
        let first = store.by_claimed_time(start..=start).unwrap();
        let mut authors: Vec<String> = vec![one.id().to_string(), two.id().to_string()];
        authors.sort();
        let found: Vec<String> =
            first.iter().map(|number| store.record(u64::from(*number)).unwrap().unwrap().author.to_string()).collect();
        assert_eq!(found, authors);
        assert!(store.by_claimed_time(start + 1.0..start + 1000.0).unwrap().is_empty());

        assert_eq!(store.linking_to(&root.to_string()).unwrap(), [40]);
        let query = LinkQuery { dest: LinkEnd::Id(one.id().to_string()), ..LinkQuery::default() };
        let found = store.links(&query).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].source, found[0].rel.as_str(), found[0].key), (two.id(), "mentions", reply.key));
        let from = LinkEnd::Id(two.id().to_string());
        let all = store.links(&LinkQuery { source: from.clone(), ..LinkQuery::default() }).unwrap();
        assert_eq!(all.iter().map(|link| link.rel.as_str()).collect::<Vec<_>>(), ["mentions", "root"]);
        let query = LinkQuery { source: from, dest: LinkEnd::Kind(b'%'), rel: Some("root".into()) };
        assert_eq!(
            store.links(&query).unwrap(),
            store.links(&LinkQuery { dest: LinkEnd::Kind(b'%'), ..LinkQuery::default() }).unwrap()
        );
        close(store);
    }
}

#[test]
fn many_tasks_may_bring_more_than_fits_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let authors: Vec<Author> = (1..9).map(|seed| author(seed, 300)).collect();
    wait(async {
        let mut tasks = Vec::new();
        for author in &authors {
            // Three times the same, from three peers.
            for _ in 0..3 {
                let (store, values) = (store.clone(), author.values());
                tasks.push(tokio::spawn(async move { store.ingest(values).await }));
            }
        }
        let mut count = 0;
        for task in tasks {
            let answers = task.await.unwrap();
            assert_eq!(answers.len(), 300);
            assert!(answers.iter().all(|a| matches!(a, Ingested::Stored { .. } | Ingested::Duplicate { .. })));
            count += stored(&answers);
        }
        assert_eq!(count, 2400);
    });
    for author in &authors {
        assert_feed(&store, author, 300);
    }
}
