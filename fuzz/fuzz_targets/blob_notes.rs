//! Objects of `blobs.createWants`, and an exchange that hears them.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sbot_blobs::{Effect, Ended, Exchange, MAX_FETCHES, MAX_WANTS_OF_PEER, Open, Saved, Settings, read_notes};
use sbot_feed::{BlobId, FeedId};

const PEERS: [FeedId; 2] = [FeedId([5; 32]), FeedId([6; 32])];

fuzz_target!(|data: &[u8]| {
    let mut exchange = Exchange::new(Settings::default(), Arc::new(Open), Saved::default());
    for peer in PEERS {
        exchange.connected(peer, 0);
        exchange.listens(&peer);
    }
    let wanted = BlobId([7; 32]);
    let _ = exchange.want(wanted, 0);
    // Each line is an object, of either peer in turn.
    for (now, object) in data.split(|byte| *byte == b'\n').enumerate() {
        let (peer, now) = (PEERS[now % 2], now as u64 * 1000);
        let notes = read_notes(object);
        let effects = exchange.heard(&peer, &notes, now, |id| (id.as_bytes()[0] == 1).then_some(9));
        let counts = exchange.counts();
        assert!(counts.wants_of_others <= 2 * MAX_WANTS_OF_PEER && counts.fetches <= MAX_FETCHES);
        for effect in effects {
            if let Effect::Fetch { blob, from, limit, .. } = effect {
                assert!(limit <= Settings::default().max);
                let ends = [Ended::Here(9), Ended::Absent, Ended::Broken(from + 1), Ended::Wrong, Ended::Unstored];
                exchange.fetched(&blob, ends[blob.as_bytes()[1] as usize % ends.len()], now);
            }
        }
        exchange.tick(now);
        exchange.notes_for(&peer, 10);
    }
    for peer in PEERS {
        exchange.disconnected(&peer, u64::MAX);
    }
    assert_eq!(exchange.counts().wants_of_others, 0);
});
