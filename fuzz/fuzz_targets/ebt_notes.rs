//! Items of an EBT stream, and a state machine that hears them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbot_feed::{FeedId, Keypair};
use sbot_replication::ebt::{Ebt, Item, MAX_NOTES, Settings, parse_notes, read_item, write_notes};

fuzz_target!(|data: &[u8]| {
    let own = Keypair::from_seed([1; 32]).id();
    let mut ebt = Ebt::new(own, 3, Settings::default());
    ebt.want(FeedId([5; 32]), 10);
    let link = ebt.connect(FeedId([6; 32]), true, &[], 0);
    // Each line is an item.
    for (now, item) in data.split(|byte| *byte == b'\n').enumerate() {
        let now = now as u64 * 100;
        if let Ok(notes) = parse_notes(item) {
            assert!(notes.notes.len() <= MAX_NOTES);
            let again = parse_notes(&write_notes(&notes.notes));
            assert_eq!(again.map(|again| again.notes).ok(), Some(notes.notes));
        }
        match read_item(item) {
            Item::Notes(notes) => ebt.heard(link, &notes, now),
            Item::Message { author, sequence } => {
                ebt.accept(link, &author, sequence, now);
            }
            Item::Garbage => {}
        }
        ebt.tick(now);
        while ebt.next_run(link, 100).is_some() {}
    }
    ebt.disconnect(link, u64::MAX);
});
