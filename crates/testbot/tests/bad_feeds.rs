//! Bad input within replication: what a peer sends as feeds.
//!
//! Every test has a liar who brings something bad of one feed and, on the same connection, another feed that is good:
//! that one arrives, the connection stays, and nothing bad is in the log.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use sbot_feed::{FeedId, Keypair, Message};
use sbot_rpc::Body;
use sbot_testbot::feeds::{Author, keypair};
use sbot_testbot::{EbtPeer, PATIENCE, TestNode, World, post};
use serde_json::json;
use tokio::time::timeout;

/// Longest message, in UTF-16 units of its two-space JSON (ssb-validate).
const LONGEST: usize = 8192;

/// A feed that nobody has seen yet, and messages for it.
struct Feed {
    author: Author,
    messages: Vec<Bytes>,
}

impl Feed {
    fn new(number: usize, length: usize) -> Result<Feed> {
        let mut feed = Feed { author: Author { keys: keypair(1, number), tip: None }, messages: Vec::new() };
        for _ in 0..length {
            feed.grow("on and on")?;
        }
        Ok(feed)
    }

    fn id(&self) -> FeedId {
        self.author.keys.id()
    }

    fn length(&self) -> u64 {
        self.messages.len() as u64
    }

    fn grow(&mut self, text: &str) -> Result<Message> {
        let time = 1_600_000_000_000.0 + self.messages.len() as f64;
        let message = self.author.publish(&post(text), None, time)?;
        self.messages.push(message.value.clone());
        Ok(message)
    }

    /// The same feed up to `length`, and then another one.
    fn forked(&self, length: usize, more: usize) -> Result<Feed> {
        let mut branch = Feed { author: Author { keys: self.author.keys.clone(), tip: None }, messages: Vec::new() };
        for _ in 0..length {
            branch.grow("on and on")?;
        }
        for _ in 0..more {
            branch.grow("elsewhere")?;
        }
        Ok(branch)
    }
}

/// A node that wants a bad feed and a good one, and a liar who is asked for both from the beginning.
struct Scene {
    world: World,
    node: TestNode,
    liar: EbtPeer,
    good: Feed,
}

impl Scene {
    async fn new(bad: FeedId, claimed: u64, known: &[Bytes]) -> Result<Scene> {
        let world = World::new()?;
        let node = world.node("a").await?;
        let good = Feed::new(1000, 5)?;
        node.take_in(known.to_vec()).await?;
        for feed in [bad, good.id()] {
            node.call("replicate.request", &json!([feed, true])).await?;
        }
        let mut liar = world.raw("liar", &node).await?.ebt().await?;
        liar.note(bad, claimed, true).await?;
        liar.note(good.id(), good.length(), true).await?;
        liar.until_asked(bad, known.len() as u64 + 1).await?;
        liar.until_asked(good.id(), 1).await?;
        Ok(Scene { world, node, liar, good })
    }

    async fn say(&mut self, messages: &[Bytes]) -> Result<()> {
        for message in messages {
            self.liar.message(message).await?;
        }
        Ok(())
    }

    /// The good feed still comes over the same connection, which means that all before it has been dealt with; and the bad
    /// one is as long as it should be.
    async fn goes_on(&mut self, bad: FeedId, length: u64) -> Result<()> {
        let good = self.good.messages.clone();
        self.say(&good).await?;
        self.node.until_has(self.good.id(), self.good.length()).await?;
        assert_eq!(self.node.has(bad), length, "{}", self.node.state());
        assert!(!self.liar.peer.is_closed());
        assert_eq!(self.node.store().len(), length + self.good.length());
        self.node.is_well().await
    }

    /// Another peer brings the feed in whole.
    async fn healed_by_another(&self, feed: &Feed) -> Result<()> {
        let friend = self.world.node("friend").await?;
        friend.take_in(feed.messages.clone()).await?;
        friend.call("replicate.request", &json!([feed.id(), true])).await?;
        self.node.connect(&friend).await?;
        self.node.until_has(feed.id(), feed.length()).await?;
        let has: Vec<Bytes> = self.node.feed(feed.id())?.into_iter().map(|record| record.value).collect();
        assert_eq!(has, feed.messages);
        Ok(())
    }
}

fn replaced(message: &Bytes, from: &str, to: &str) -> Bytes {
    let text = String::from_utf8_lossy(message);
    let changed = text.replacen(from, to, 1);
    assert_ne!(changed, text, "{from} is not in {text}");
    changed.into()
}

#[tokio::test]
async fn a_forked_feed_is_stopped_recorded_and_reported() -> Result<()> {
    let feed = Feed::new(1, 5)?;
    let branch = feed.forked(3, 4)?;
    let mut scene = Scene::new(feed.id(), branch.length(), &feed.messages).await?;
    scene.say(&branch.messages[5..]).await?;
    scene.goes_on(feed.id(), 5).await?;

    let forks = scene.node.store().forks();
    assert_eq!(forks.len(), 1);
    assert_eq!(forks[0].author, feed.id());
    let status = scene.node.call("status", &json!([])).await?;
    assert!(status["forks"][feed.id().to_string()].is_u64(), "{status}");
    let kept: Vec<Bytes> = scene.node.feed(feed.id())?.into_iter().map(|record| record.value).collect();
    assert_eq!(kept, feed.messages, "what came first stays");

    let node = scene.node.restart().await?;
    assert_eq!(node.store().forks(), forks, "the record outlives a restart");
    node.is_well().await
}

#[tokio::test]
async fn a_second_first_message_is_a_fork_too() -> Result<()> {
    let feed = Feed::new(2, 1)?;
    let branch = feed.forked(0, 2)?;
    let mut scene = Scene::new(feed.id(), 2, &feed.messages).await?;
    scene.say(&branch.messages[1..]).await?;
    scene.goes_on(feed.id(), 1).await?;
    assert_eq!(scene.node.store().forks().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_bad_signature_in_the_middle_stops_the_feed_before_it() -> Result<()> {
    let feed = Feed::new(3, 6)?;
    let mut scene = Scene::new(feed.id(), 6, &[]).await?;
    let mut sent = feed.messages.clone();
    sent[2] = replaced(&sent[2], "on and on", "off & off");
    scene.say(&sent).await?;
    scene.goes_on(feed.id(), 2).await?;
    assert!(scene.node.store().forks().is_empty(), "nobody can make another's feed a forked one");
    scene.healed_by_another(&feed).await
}

#[tokio::test]
async fn a_message_signed_by_somebody_else_is_not_taken() -> Result<()> {
    let (feed, other) = (Feed::new(4, 3)?, Feed::new(5, 3)?);
    let mut scene = Scene::new(feed.id(), 3, &[]).await?;
    let forged: Vec<Bytes> = other
        .messages
        .iter()
        .map(|message| replaced(message, &other.id().to_string(), &feed.id().to_string()))
        .collect();
    scene.say(&forged).await?;
    scene.goes_on(feed.id(), 0).await?;
    scene.healed_by_another(&feed).await
}

#[tokio::test]
async fn messages_out_of_order_leave_no_gap_and_do_no_harm() -> Result<()> {
    let feed = Feed::new(6, 5)?;
    let mut scene = Scene::new(feed.id(), 5, &[]).await?;
    let shuffled: Vec<Bytes> = [0, 2, 1, 4, 3].iter().map(|at| feed.messages[*at].clone()).collect();
    scene.say(&shuffled).await?;
    let good = scene.good.messages.clone();
    scene.say(&good).await?;
    scene.node.until_has(scene.good.id(), scene.good.length()).await?;
    let has = scene.node.feed(feed.id())?;
    assert!((1..=5).contains(&has.len()));
    assert!(has.iter().zip(1..).all(|(record, sequence)| record.sequence == sequence));
    assert!(!scene.liar.peer.is_closed());
    assert!(scene.node.store().forks().is_empty());
    scene.node.is_well().await?;
    scene.healed_by_another(&feed).await
}

#[tokio::test]
async fn messages_sent_twice_are_stored_once() -> Result<()> {
    let feed = Feed::new(7, 4)?;
    let mut scene = Scene::new(feed.id(), 4, &[]).await?;
    scene.say(&feed.messages).await?;
    scene.say(&feed.messages).await?;
    scene.goes_on(feed.id(), 4).await
}

#[tokio::test]
async fn messages_that_nobody_asked_for_are_not_stored() -> Result<()> {
    let (wanted, unasked) = (Feed::new(8, 1)?, Feed::new(9, 20)?);
    let mut scene = Scene::new(wanted.id(), 1, &[]).await?;
    scene.say(&unasked.messages).await?;
    scene.goes_on(wanted.id(), 0).await?;
    assert_eq!(scene.node.has(unasked.id()), 0);
    Ok(())
}

#[tokio::test]
async fn a_message_of_8193_units_is_refused_and_one_of_8192_is_not() -> Result<()> {
    let keys = keypair(1, 10);
    let longest = signed_with_length(&keys, LONGEST);
    let mut scene = Scene::new(keys.id(), 1, &[]).await?;
    scene.say(&[signed_with_length(&keys, LONGEST + 1)]).await?;
    scene.goes_on(keys.id(), 0).await?;

    let mut scene = Scene::new(keys.id(), 1, &[]).await?;
    scene.say(&[longest]).await?;
    scene.goes_on(keys.id(), 1).await
}

/// A first message, well signed, whose two-space JSON has so many UTF-16 units.
fn signed_with_length(keys: &Keypair, length: usize) -> Bytes {
    let unsigned = |text: &str| {
        format!(
            "{{\n  \"previous\": null,\n  \"author\": \"{}\",\n  \"sequence\": 1,\n  \"timestamp\": 1600000000000,\n  \
             \"hash\": \"sha256\",\n  \"content\": {{\n    \"type\": \"post\",\n    \"text\": \"{text}\"\n  }}\n}}",
            keys.id()
        )
    };
    let sign = |text: &str| format!("{}.sig.ed25519", STANDARD.encode(keys.sign(text.as_bytes())));
    let whole = |text: &str| {
        let body = unsigned(text);
        let signature = sign(&body);
        (format!("{},\n  \"signature\": \"{signature}\"\n}}", body.trim_end_matches("\n}")), signature)
    };
    let padding = length - whole("").0.len();
    let text = "x".repeat(padding);
    let (signed, signature) = whole(&text);
    assert_eq!(signed.encode_utf16().count(), length);
    format!(
        "{{\"previous\":null,\"author\":\"{}\",\"sequence\":1,\"timestamp\":1600000000000,\"hash\":\"sha256\",\
         \"content\":{{\"type\":\"post\",\"text\":\"{text}\"}},\"signature\":\"{signature}\"}}",
        keys.id()
    )
    .into()
}

#[tokio::test]
async fn garbage_among_messages_is_passed_over() -> Result<()> {
    let feed = Feed::new(11, 3)?;
    let mut scene = Scene::new(feed.id(), 3, &[]).await?;
    let garbage = [
        Body::Json("{".into()),
        Body::Json("null".into()),
        Body::Json("[[[[".into()),
        Body::Json("5".into()),
        Body::Json("{\"author\":5,\"sequence\":\"x\"}".into()),
        Body::Json(Bytes::from_static(b"\xff\xfe")),
        Body::String("hello".into()),
        Body::Binary(Bytes::from_static(&[0; 1000])),
        Body::Json(format!("{{\"{}\":1e400}}", feed.id()).into()),
        Body::Json(format!("{{\"{}\":-5,\"nobody\":3,\"\":null}}", feed.id()).into()),
        Body::Json(format!("{{\"author\":\"{}\",\"sequence\":1,\"content\":{}}}", feed.id(), "[".repeat(9000)).into()),
    ];
    for item in garbage {
        scene.liar.body(item).await?;
    }
    let good = scene.good.messages.clone();
    scene.say(&good).await?;
    scene.node.until_has(scene.good.id(), scene.good.length()).await?;
    assert!(!scene.liar.peer.is_closed());
    assert_eq!(scene.node.has(feed.id()), 0);
    scene.node.is_well().await?;
    scene.healed_by_another(&feed).await
}

#[tokio::test]
async fn a_peer_that_claims_more_than_there_is_holds_nobody_up() -> Result<()> {
    let feed = Feed::new(12, 3)?;
    // It claims, is asked, and never sends anything.
    let scene = Scene::new(feed.id(), 1_000_000, &[]).await?;
    scene.healed_by_another(&feed).await?;
    scene.node.is_well().await
}

#[tokio::test]
async fn a_peer_that_hangs_up_in_the_middle_of_a_feed_costs_nothing() -> Result<()> {
    let feed = Feed::new(13, 6)?;
    let mut scene = Scene::new(feed.id(), 6, &[]).await?;
    scene.say(&feed.messages[..3]).await?;
    scene.node.until_has(feed.id(), 3).await?;
    scene.liar.peer.close("enough");
    scene.healed_by_another(&feed).await?;
    scene.node.is_well().await
}

#[tokio::test]
async fn a_stream_of_nothing_but_the_unasked_is_given_up() -> Result<()> {
    let (wanted, unasked) = (Feed::new(14, 1)?, Feed::new(15, 1)?);
    let mut scene = Scene::new(wanted.id(), 1, &[]).await?;
    let flood = async { while scene.liar.message(&unasked.messages[0]).await.is_ok() {} };
    timeout(PATIENCE, flood).await?;
    assert!(!scene.liar.peer.is_closed(), "the connection may serve for something else");
    assert!(scene.node.store().is_empty());
    scene.node.is_well().await?;
    scene.healed_by_another(&wanted).await
}
