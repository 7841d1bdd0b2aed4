//! A disk that takes no more messages.

mod limited;

use anyhow::{Context as _, Result};
use sbot_testbot::feeds::Network;
use sbot_testbot::{World, post};
use serde_json::json;

/// Room left in the log, in bytes: less than a message.
const ROOM: u64 = 50;

#[test]
fn with_a_full_disk_publishing_fails_clearly_and_goes_on_once_there_is_room() -> Result<()> {
    limited::alone("with_a_full_disk_publishing_fails_clearly_and_goes_on_once_there_is_room", inside())
}

async fn inside() -> Result<()> {
    let world = World::new()?;
    let (node, peer) = (world.node("a").await?, world.node("peer").await?);
    let mut network = Network::new(8, 1);
    let known = network.grow(50)?;
    let feed = network.keys(0).id();
    node.posts(3).await?;
    node.take_in(known.clone()).await?;
    node.store().flush()?;
    peer.take_in(known).await?;
    node.call("replicate.request", &json!([feed, true])).await?;
    peer.call("replicate.request", &json!([feed, true])).await?;
    node.call("replicate.request", &json!([peer.id(), true])).await?;
    node.connect(&peer).await?;

    let log = node.setup().segments()?.pop().context("no log")?;
    limited::limit(Some(std::fs::metadata(&log)?.len() + ROOM))?;
    let error = node.publish(post("no room for this")).await.err().context("published without room")?.to_string();
    assert!(error.contains("can't write") && error.contains(&log.display().to_string()), "{error}");
    assert_eq!(node.has(node.id()), 3, "what was refused is not there");

    // It goes on to serve, and a message from a peer that can't be stored is no message lost.
    node.is_well().await?;
    assert_eq!(node.feed(feed)?.len(), 50);
    let refused = node.store().ingest(network.clone().grow(1)?).await;
    assert!(format!("{refused:?}").contains("Store("), "{refused:?}");
    assert_eq!(node.has(feed), 50);
    assert!(node.publish(post("still no room")).await.is_err());
    let (store, lines) = (node.store().clone(), network.clone().grow(20)?.join(&b'\n'));
    let import = tokio::task::spawn_blocking(move || store.import(&lines[..], &mut |_| {})).await??;
    assert!(import.stopped.as_ref().is_some_and(|why| why.contains("can't write")), "{import:?}");
    assert_eq!((import.stored, import.refused), (0, 0), "no message is at fault: {import:?}");
    // What comes over the open link can't be stored either; the peer has it for later.
    peer.posts(2).await?;
    assert_eq!(node.has(peer.id()), 0);

    limited::limit(None)?;
    let message = node.publish(post("room again")).await?;
    assert_eq!(message["value"]["sequence"], 4);
    assert_eq!(node.has(node.id()), 4);
    node.is_well().await?;
    // The link is the same, and what was refused comes again with what follows it.
    peer.take_in(network.grow(10)?).await?;
    peer.posts(1).await?;
    node.until_has(feed, 60).await?;
    node.until_has(peer.id(), 3).await?;

    let node = node.restart().await?;
    assert_eq!((node.has(node.id()), node.has(feed)), (4, 60));
    assert!(node.store().damage().is_empty());
    node.is_well().await
}
