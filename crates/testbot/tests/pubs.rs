//! Pubs that feeds tell of: who is believed, and for how long.

use anyhow::Result;
use sbot::Node;
use sbot::api::Peer;
use sbot_testbot::World;
use sbot_testbot::feeds::Network;
use serde_json::{Value, json};

const A_PUB: &str = "@1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=.ed25519";
const ANOTHER: &str = "@HsKUZVEeFbiPTzWtaaDSKdwplQ/toWK/xUDqM9fq6ao=.ed25519";

fn tells_of(key: &str) -> Value {
    // Nobody is there: RFC 5737.
    json!({"type": "pub", "address": {"host": "192.0.2.1", "port": 8008, "key": key}})
}

fn knows(node: &Node, key: &str) -> bool {
    let is_it = |peer: &Peer| peer.key.to_string() == key && peer.source.as_deref() == Some("pub");
    node.context().peers.list().iter().any(is_it)
}

#[tokio::test]
async fn pubs_are_known_as_long_as_somebody_near_tells_of_them() -> Result<()> {
    let world = World::new()?;
    let node = world.node("node").await?;
    let mut network = Network::new(1, 1);
    let friend = network.ids()[0];
    let told = network.publish(0, &tells_of(A_PUB))?.value.clone();
    node.take_in(vec![told]).await?;
    node.publish(tells_of(ANOTHER)).await?;
    node.until("it knows the pub of its own feed", |node| knows(node, ANOTHER)).await?;
    assert!(!knows(node.inner(), A_PUB), "a stranger was believed");

    node.follow(friend).await?;
    node.until("it knows the friend's pub", |node| knows(node, A_PUB)).await?;
    node.block(friend).await?;
    node.until("it forgets what a blocked one said", |node| !knows(node, A_PUB)).await?;
    assert!(knows(node.inner(), ANOTHER));
    node.is_well().await
}

#[tokio::test]
async fn word_from_further_away_than_the_setting_does_not_count() -> Result<()> {
    let world = World::new()?;
    let node = world.setup("node").change(|config| config.peers.pub_hops = 1).start().await?;
    let mut network = Network::new(2, 2);
    let [friend, friend_of_friend] = network.ids()[..] else { unreachable!("there are two") };
    let follow = json!({"type": "contact", "contact": friend_of_friend.to_string(), "following": true});
    node.follow(friend).await?;
    let far = network.publish(1, &tells_of(A_PUB))?.value.clone();
    let near = [network.publish(0, &follow)?.value.clone(), network.publish(0, &tells_of(ANOTHER))?.value.clone()];
    node.take_in([vec![far], near.to_vec()].concat()).await?;
    // It came last.
    node.until("it knows the friend's pub", |node| knows(node, ANOTHER)).await?;
    assert_eq!(node.inner().context().social.hops().get(&friend_of_friend), Some(&2));
    assert!(!knows(node.inner(), A_PUB));
    node.is_well().await
}

#[tokio::test]
async fn with_the_setting_off_no_feed_is_believed() -> Result<()> {
    let world = World::new()?;
    let node = world.setup("node").change(|config| config.peers.pubs = false).start().await?;
    let other = world.node("other").await?;
    for node in [&node, &other] {
        node.publish(tells_of(A_PUB)).await?;
    }
    // By then the one without would know it too.
    other.until("the other knows it", |node| knows(node, A_PUB)).await?;
    assert!(!knows(node.inner(), A_PUB));
    node.is_well().await
}
