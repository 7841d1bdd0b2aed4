//! What nodes that behave do for one another.

use anyhow::Result;
use sbot_feed::Keypair;
use sbot_testbot::feeds::Network;
use sbot_testbot::{PATIENCE, TestNode, World, post};
use serde_json::{Value, json};
use tokio::time::timeout;

/// Both have the same messages of each other's feeds.
fn agree(a: &TestNode, b: &TestNode) -> Result<()> {
    for feed in [a.id(), b.id()] {
        assert_eq!(a.store().tip(&feed), b.store().tip(&feed), "{} and {} disagree on {feed}", a.name(), b.name());
        let values = |node: &TestNode| -> Result<Vec<_>> {
            Ok(node.feed(feed)?.into_iter().map(|record| record.value).collect())
        };
        assert_eq!(values(a)?, values(b)?);
    }
    Ok(())
}

async fn mutual(a: &TestNode, b: &TestNode) -> Result<()> {
    a.follow(b).await?;
    b.follow(a).await
}

#[tokio::test]
async fn who_follows_gets_the_feed() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    a.posts(3).await?;
    b.follow(&a).await?;
    b.connect(&a).await?;
    b.until_has(a.id(), 3).await?;
    assert_eq!(a.has(b.id()), 0, "a doesn't follow b");
    Ok(())
}

#[tokio::test]
async fn it_does_not_matter_who_dials() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    a.posts(3).await?;
    b.follow(&a).await?;
    a.connect(&b).await?;
    b.until_has(a.id(), 3).await
}

#[tokio::test]
async fn nodes_can_be_joined_in_memory() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    mutual(&a, &b).await?;
    a.join(&b);
    a.until_has(b.id(), 1).await?;
    b.until_has(a.id(), 1).await?;
    agree(&a, &b)
}

#[tokio::test]
async fn a_follow_on_an_open_link_starts_replication() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    a.posts(2).await?;
    b.connect(&a).await?;
    b.follow(&a).await?;
    b.until_has(a.id(), 2).await
}

#[tokio::test]
async fn live_messages_go_both_ways_on_an_open_link() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    mutual(&a, &b).await?;
    a.connect(&b).await?;
    for round in 2..=6 {
        a.publish(post("from a")).await?;
        b.until_has(a.id(), round).await?;
        b.publish(post("from b")).await?;
        a.until_has(b.id(), round).await?;
    }
    agree(&a, &b)
}

#[tokio::test]
async fn what_was_published_meanwhile_comes_with_the_next_connection() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    mutual(&a, &b).await?;
    a.connect(&b).await?;
    a.until_has(b.id(), 1).await?;
    b.until_has(a.id(), 1).await?;
    a.disconnect(&b).await?;
    b.until_disconnected(a.id()).await?;
    a.posts(2).await?;
    b.posts(2).await?;
    b.connect(&a).await?;
    a.until_has(b.id(), 3).await?;
    b.until_has(a.id(), 3).await?;
    agree(&a, &b)
}

#[tokio::test]
async fn a_restart_loses_nothing_and_replication_goes_on() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    mutual(&a, &b).await?;
    a.connect(&b).await?;
    a.until_has(b.id(), 1).await?;
    b.until_has(a.id(), 1).await?;
    let a = a.restart().await?;
    assert_eq!((a.has(a.id()), a.has(b.id())), (1, 1));
    b.until_disconnected(a.id()).await?;
    a.posts(2).await?;
    b.posts(2).await?;
    a.connect(&b).await?;
    a.until_has(b.id(), 3).await?;
    b.until_has(a.id(), 3).await?;
    agree(&a, &b)
}

#[tokio::test]
async fn friends_of_friends_come_by_the_friend_within_the_hops() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    let (far, near) = (world.setup("far").hops(2).start().await?, world.setup("near").hops(1).start().await?);
    a.posts(3).await?;
    mutual(&a, &b).await?;
    a.connect(&b).await?;
    b.until_has(a.id(), 4).await?;
    for c in [&far, &near] {
        c.follow(&b).await?;
        c.connect(&b).await?;
        c.until_has(b.id(), 1).await?;
    }
    far.until_has(a.id(), 4).await?;
    // what comes later comes after whatever was to come before
    b.publish(post("later")).await?;
    near.until_has(b.id(), 2).await?;
    assert_eq!(near.has(a.id()), 0, "a is two hops away");
    Ok(())
}

#[tokio::test]
async fn a_strangers_feed_is_not_replicated() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    let mut strangers = Network::new(5, 1);
    let stranger = strangers.keys(0).id();
    a.take_in(strangers.grow(20)?).await?;
    a.call("replicate.request", &json!([stranger, true])).await?;
    b.follow(&a).await?;
    b.connect(&a).await?;
    b.until_has(a.id(), 0).await?;
    a.posts(5).await?;
    b.until_has(a.id(), 5).await?;
    assert_eq!(b.has(stranger), 0);

    b.call("replicate.request", &json!([stranger, true])).await?;
    b.until_has(stranger, 20).await
}

#[tokio::test]
async fn a_feed_asked_for_by_hand_comes_without_a_follow() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    a.posts(3).await?;
    b.call("replicate.request", &json!([a.id(), true])).await?;
    b.connect(&a).await?;
    b.until_has(a.id(), 3).await?;
    b.call("replicate.request", &json!([a.id(), false])).await?;
    assert!(!b.inner().context().replication.wanted().contains(&a.id()));
    Ok(())
}

#[tokio::test]
async fn whoever_is_blocked_is_cut_off_and_kept_out() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    mutual(&a, &b).await?;
    b.connect(&a).await?;
    b.until_has(a.id(), 1).await?;
    a.block(&b).await?;
    a.until_disconnected(b.id()).await?;
    b.until_disconnected(a.id()).await?;
    let has = b.has(a.id());
    a.posts(1).await?;
    assert!(b.connect(&a).await.is_err());
    assert!(a.connect(&b).await.is_err());
    assert_eq!(b.has(a.id()), has);
    a.is_well().await?;
    b.is_well().await
}

#[tokio::test]
async fn a_friend_keeps_a_feed_from_whom_its_author_blocks() -> Result<()> {
    let world = World::new()?;
    let (a, friend, enemy) = (world.node("a").await?, world.node("friend").await?, world.node("enemy").await?);
    mutual(&a, &friend).await?;
    a.block(&enemy).await?;
    friend.connect(&a).await?;
    friend.until_has(a.id(), 2).await?;
    let (from, to) = (a.id(), enemy.id());
    friend.until("it knows of the block", |node| node.context().social.is_blocking(&from, &to)).await?;

    enemy.follow(&friend).await?;
    enemy.follow(&a).await?;
    enemy.connect(&friend).await?;
    enemy.until_has(friend.id(), 1).await?;
    friend.posts(3).await?;
    enemy.until_has(friend.id(), 4).await?;
    assert_eq!(enemy.has(a.id()), 0);
    Ok(())
}

#[tokio::test]
async fn without_ebt_on_the_dialing_side_histories_are_asked_for() -> Result<()> {
    let world = World::new()?;
    let (old, new) = (world.setup("old").without_ebt().start().await?, world.node("new").await?);
    by_histories(&old, &new, true).await
}

#[tokio::test]
async fn without_ebt_on_the_dialed_side_histories_are_asked_for() -> Result<()> {
    let world = World::new()?;
    let (old, new) = (world.setup("old").without_ebt().start().await?, world.node("new").await?);
    by_histories(&old, &new, false).await
}

async fn by_histories(old: &TestNode, new: &TestNode, old_dials: bool) -> Result<()> {
    mutual(old, new).await?;
    old.posts(300).await?;
    new.posts(20).await?;
    if old_dials {
        old.connect(new).await?
    } else {
        new.connect(old).await?
    }
    new.until_has(old.id(), 301).await?;
    old.until_has(new.id(), 21).await?;
    old.publish(post("live")).await?;
    new.until_has(old.id(), 302).await?;
    new.publish(post("live")).await?;
    old.until_has(new.id(), 22).await?;
    agree(old, new)
}

/// Publishes as soon as the node believes its feed to be complete: it hears of the last message a moment after the log.
async fn publish_once_allowed(node: &TestNode) -> Result<Value> {
    let published = async {
        loop {
            match node.publish(post("back again")).await {
                Err(error) if error.to_string().starts_with("not published") => tokio::task::yield_now().await,
                published => return published,
            }
        }
    };
    timeout(PATIENCE, published).await?
}

#[tokio::test]
async fn a_restored_identity_gets_its_feed_back_and_continues_it() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    mutual(&a, &b).await?;
    a.posts(4).await?;
    b.connect(&a).await?;
    b.until_has(a.id(), 5).await?;
    let a = a.stop().await.wiped()?.start().await?;
    assert_eq!(a.has(a.id()), 0);
    b.until_disconnected(a.id()).await?;
    a.connect(&b).await?;
    a.until_has(a.id(), 5).await?;
    assert_eq!(publish_once_allowed(&a).await?["value"]["sequence"], 6);
    b.until_has(a.id(), 6).await?;
    assert!(a.store().forks().is_empty() && b.store().forks().is_empty());
    agree(&a, &b)
}

#[tokio::test]
async fn while_a_peer_holds_newer_messages_of_ours_nothing_is_published() -> Result<()> {
    let world = World::new()?;
    let a = world.node("a").await?;
    a.posts(3).await?;
    let before = a.feed(a.id())?;
    let a = a.stop().await.wiped()?.start().await?;
    let mut backup = world.raw("backup", &a).await?.ebt().await?;
    backup.note(a.id(), 3, true).await?;
    backup.until_asked(a.id(), 1).await?;
    let refusal = a.publish(post("too early")).await.unwrap_err().to_string();
    assert!(refusal.contains("not published") && refusal.contains("up to message 3"), "{refusal}");
    assert_eq!(a.has(a.id()), 0);

    for message in &before[..2] {
        backup.message(&message.value).await?;
    }
    a.until_has(a.id(), 2).await?;
    assert!(a.publish(post("still too early")).await.is_err());
    backup.message(&before[2].value).await?;
    a.until_has(a.id(), 3).await?;
    assert_eq!(publish_once_allowed(&a).await?["value"]["sequence"], 4);
    assert!(a.store().forks().is_empty());
    a.is_well().await
}

#[tokio::test]
async fn feeds_of_many_authors_come_through_a_friend() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    let mut network = Network::new(11, 40);
    let log = network.grow(2000)?;
    a.take_in(log).await?;
    for feed in network.ids() {
        for node in [&a, &b] {
            node.call("replicate.request", &json!([feed, true])).await?;
        }
    }
    b.connect(&a).await?;
    b.until_len(2000).await?;
    for feed in network.ids() {
        assert_eq!(a.store().tip(&feed), b.store().tip(&feed));
    }
    Ok(())
}

#[tokio::test]
async fn a_private_message_is_read_by_its_reader_alone() -> Result<()> {
    let world = World::new()?;
    let (a, b, c) = (world.node("a").await?, world.node("b").await?, world.node("c").await?);
    for reader in [&b, &c] {
        reader.follow(&a).await?;
        reader.connect(&a).await?;
    }
    let key = a.call("private.publish", &json!([post("hush"), [b.id()]])).await?["key"].clone();
    for (reader, reads) in [(&b, true), (&c, false)] {
        reader.until_has(a.id(), 1).await?;
        let message = reader.call("get", &json!([{"id": key, "private": true}])).await?;
        assert_eq!(message["content"]["text"] == "hush", reads, "{message}");
    }
    Ok(())
}

#[tokio::test]
async fn an_identity_is_one_key_wherever_it_is() -> Result<()> {
    let world = World::new()?;
    let a = world.node("a").await?;
    assert_eq!(a.id(), world.keypair("a").id());
    assert_ne!(a.id(), world.keypair("b").id());
    assert_ne!(Keypair::generate().id(), a.id());
    Ok(())
}
