//! How long a decision takes: `cargo run --release -p sbot-authorisation --example speed`.

use std::hint::black_box;
use std::time::Instant;

use sbot_authorisation::{About, Asker, Feed, Policy, Preset, Question};
use sbot_feed::FeedId;

/// Decisions of each kind.
const COUNT: u32 = 2_000_000;

fn main() {
    let policy = Policy::new(Preset::Default, 3, 5 << 20);
    let stranger = Asker::stranger(FeedId([1; 32]));
    let friend = Asker { hops: Some(2), ..stranger };
    let call = |method| Question::Call { method, about: About::NOTHING };
    for (what, asker, question) in [
        ("a friend calls blobs.get", friend, call("blobs.get")),
        ("a stranger calls publish (refused)", stranger, call("publish")),
        ("a friend gets a feed", friend, Question::Replicate(Feed::OURS)),
        ("a stranger connects", stranger, Question::Connect),
    ] {
        let begin = Instant::now();
        for _ in 0..COUNT {
            let _ = black_box(policy.decide(black_box(&asker), black_box(&question)));
        }
        println!("{what}: {} ns", begin.elapsed().as_nanos() / u128::from(COUNT));
    }
}
