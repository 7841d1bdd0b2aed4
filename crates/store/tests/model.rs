//! Random histories, held against a model: what is stored is what a simple list of feeds would hold.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Author, assert_feed, author, close, ingest, open, wait};
use proptest::prelude::*;
use sbot_store::{Direction, Ingested};

const AUTHORS: usize = 3;
const LENGTH: usize = 12;

#[derive(Debug, Clone)]
enum Step {
    /// Brings some messages of a feed, wherever it is.
    Bring {
        author: usize,
        from: usize,
        count: usize,
    },
    /// The next message, as our own.
    Own {
        author: usize,
    },
    /// A message of another branch.
    Fork {
        author: usize,
        after: usize,
    },
    Garbage,
    Close,
    /// Closes, and loses the index.
    Forget,
    /// Closes, and loses some bytes at the end.
    Tear {
        bytes: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let author = 0..AUTHORS;
    prop_oneof![
        8 => (author.clone(), 0..LENGTH, 1..LENGTH).prop_map(|(author, from, count)| Step::Bring { author, from, count }),
        4 => author.clone().prop_map(|author| Step::Own { author }),
        1 => (author, 0..LENGTH).prop_map(|(author, after)| Step::Fork { author, after }),
        1 => Just(Step::Garbage),
        1 => Just(Step::Close),
        1 => Just(Step::Forget),
        1 => (1_usize..900).prop_map(|bytes| Step::Tear { bytes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_holds_what_a_list_of_feeds_would_hold(steps in prop::collection::vec(step(), 1..25)) {
        let dir = tempfile::tempdir().unwrap();
        let authors: Vec<Author> = (1..=AUTHORS as u8).map(|seed| author(seed, LENGTH)).collect();
        // Author and sequence of each record, in order.
        let mut model: Vec<(usize, usize)> = Vec::new();
        let tip = |model: &Vec<(usize, usize)>, author| model.iter().filter(|(a, _)| *a == author).count();
        let mut store = open(dir.path());
        for step in steps {
            match step {
                Step::Bring { author, from, count } => {
                    let values: Vec<_> = authors[author].values().into_iter().skip(from).take(count).collect();
                    let answers = ingest(&store, values);
                    for (at, answer) in answers.iter().enumerate() {
                        let (sequence, tip) = (from + at + 1, tip(&model, author));
                        if sequence == tip + 1 {
                            let stored = matches!(answer, Ingested::Stored { number, .. } if *number == model.len() as u64);
                            prop_assert!(stored);
                            model.push((author, sequence));
                        } else if sequence <= tip {
                            let duplicate = matches!(answer, Ingested::Duplicate { .. });
                            prop_assert!(duplicate);
                        } else {
                            let gap = matches!(answer, Ingested::Gap { tip: t, .. } if *t == tip as u64);
                            prop_assert!(gap);
                        }
                    }
                }
                Step::Own { author } => {
                    let tip = tip(&model, author);
                    if tip < LENGTH {
                        wait(store.append_own(authors[author].messages[tip].clone())).unwrap();
                        model.push((author, tip + 1));
                    }
                }
                Step::Fork { author, after } => {
                    let answers = ingest(&store, vec![authors[author].sign_after(after, "otherwise").value]);
                    // On an empty place it is as good as any: don't let the branch begin.
                    if after < tip(&model, author) {
                        let forked = matches!(answers[0], Ingested::Fork { .. });
                        prop_assert!(forked);
                    } else if after > tip(&model, author) {
                        let gap = matches!(answers[0], Ingested::Gap { .. });
                        prop_assert!(gap);
                    } else {
                        // It was taken: the model knows no branches, so this history ends.
                        return Ok(());
                    }
                }
                Step::Garbage => {
                    let answers = ingest(&store, vec![b"{}".as_slice().into(), b"".as_slice().into()]);
                    let invalid = answers.iter().all(|answer| matches!(answer, Ingested::Invalid { .. }));
                    prop_assert!(invalid);
                }
                Step::Close | Step::Forget | Step::Tear { .. } => {
                    close(store);
                    if !matches!(step, Step::Close) {
                        std::fs::remove_file(dir.path().join("index")).unwrap();
                    }
                    let path = dir.path().join("log-00000");
                    if let Step::Tear { bytes } = step && path.exists() {
                        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                        let mut length = file.metadata().unwrap().len();
                        file.set_len(length.saturating_sub(bytes as u64)).unwrap();
                        let mut left = bytes as u64;
                        while let Some((author, sequence)) = model.last().copied() && left > 0 {
                            let record = 84 + authors[author].messages[sequence - 1].value.len() as u64;
                            left = left.saturating_sub(record);
                            length -= record;
                            model.pop();
                        }
                        prop_assert!(length <= file.metadata().unwrap().len());
                    }
                    store = open(dir.path());
                }
            }
            prop_assert_eq!(store.len(), model.len() as u64);
        }
        let records = store.read_log(0, 1000, Direction::Forward).unwrap();
        let found: Vec<_> = records.iter().map(|record| (record.author, record.sequence)).collect();
        let expected: Vec<_> = model.iter().map(|(author, sequence)| (authors[*author].id(), *sequence as u64)).collect();
        prop_assert_eq!(found, expected);
        prop_assert!(records.windows(2).all(|pair| pair[0].received < pair[1].received));
        for (number, author) in authors.iter().enumerate() {
            assert_feed(&store, author, tip(&model, number));
        }
        prop_assert!(store.damage().is_empty());
    }
}
