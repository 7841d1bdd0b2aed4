//! A log that the disk has damaged.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use sbot_testbot::feeds::Network;
use sbot_testbot::{Setup, World, post};
use serde_json::json;

/// Turns one bit of a byte in the middle of the file.
fn damage(path: &Path, at: impl Fn(u64) -> u64) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let at = usize::try_from(at(bytes.len() as u64))?;
    *bytes.get_mut(at).context("the file is too short")? ^= 0x10;
    Ok(fs::write(path, bytes)?)
}

/// A stopped node with 300 messages of 5 authors, and a peer who has them too.
async fn scene(world: &World) -> Result<(Setup, sbot_testbot::TestNode, Network)> {
    let mut network = Network::new(3, 5);
    let log = network.grow(300)?;
    let (node, peer) = (world.node("a").await?, world.node("peer").await?);
    for one in [&node, &peer] {
        one.take_in(log.clone()).await?;
        for feed in network.ids() {
            one.call("replicate.request", &json!([feed, true])).await?;
        }
    }
    Ok((node.stop().await, peer, network))
}

async fn is_healed(setup: Setup, peer: &sbot_testbot::TestNode, network: &Network, told_at_start: bool) -> Result<()> {
    let node = setup.start().await?;
    if told_at_start {
        let damage = node.store().damage();
        assert_eq!(damage.len(), 1, "{}", node.state());
        assert!(damage[0].length > 0);
    }
    node.is_well().await?;
    // The rest is served as before.
    let missing: Vec<_> =
        network.ids().into_iter().filter(|feed| node.store().tip(feed) != peer.store().tip(feed)).collect();
    assert!(missing.len() <= 1);
    if told_at_start {
        assert_eq!(missing.len(), 1);
    }
    for feed in network.ids() {
        let (has, should) = (node.feed(feed)?, peer.feed(feed)?);
        let same = has.iter().zip(&should).all(|(one, other)| one.key == other.key && one.value == other.value);
        assert!(same, "a message has changed");
        if !missing.contains(&feed) {
            assert_eq!(has.len(), should.len());
        }
    }
    // Our own feed isn't hindered.
    node.publish(post("still here")).await?;

    for feed in network.ids() {
        node.call("replicate.request", &json!([feed, true])).await?;
    }
    node.connect(peer).await?;
    for feed in network.ids() {
        node.until_has(feed, peer.has(feed)).await?;
        let keys = |node: &sbot_testbot::TestNode| -> Result<Vec<_>> {
            Ok(node.feed(feed)?.into_iter().map(|record| (record.sequence, record.key)).collect())
        };
        assert_eq!(keys(&node)?, keys(peer)?);
    }
    let node = node.restart().await?;
    for feed in network.ids() {
        assert_eq!(node.has(feed), peer.has(feed), "it stays healed");
    }
    node.is_well().await
}

#[tokio::test]
async fn a_wrong_byte_in_the_middle_of_a_message_costs_that_message_until_a_peer_sends_it_again() -> Result<()> {
    let world = World::new()?;
    let (setup, peer, network) = scene(&world).await?;
    damage(&setup.segments()?[0], |length| length / 2)?;
    is_healed(setup.without_index()?, &peer, &network, true).await
}

#[tokio::test]
async fn a_wrong_length_in_the_middle_of_the_log_costs_no_more() -> Result<()> {
    let world = World::new()?;
    let (setup, peer, network) = scene(&world).await?;
    let path = setup.segments()?.remove(0);
    let bytes = fs::read(&path)?;
    // The first record's length leads to the second's, and so on: the one in the middle.
    let (mut at, mut count) = (0, 0);
    while count < 150 {
        at += 8 + u32::from_le_bytes(*bytes[at..].first_chunk().context("no record")?) as usize;
        count += 1;
    }
    damage(&path, |_| at as u64 + 1)?;
    is_healed(setup.without_index()?, &peer, &network, true).await
}

#[tokio::test]
async fn a_wrong_byte_that_an_old_index_hides_is_told_of_once_it_is_read() -> Result<()> {
    let world = World::new()?;
    let (setup, peer, network) = scene(&world).await?;
    damage(&setup.segments()?[0], |length| length / 2)?;
    let node = setup.start().await?;
    node.is_well().await?;
    // Whatever is read is right, or isn't there.
    for feed in network.ids() {
        let (has, should) = (node.feed(feed)?, peer.feed(feed)?);
        assert!(has.iter().zip(&should).all(|(one, other)| one.key == other.key && one.value == other.value));
    }
    let log = node.store().read_log(0, 1000, sbot_store::Direction::Forward)?;
    assert_eq!(log.len(), 299);
    assert_eq!(node.store().damage().len(), 1, "{}", node.state());
    node.publish(post("still here")).await?;
    is_healed(node.stop().await, &peer, &network, false).await
}

#[tokio::test]
async fn a_damaged_index_is_made_again() -> Result<()> {
    let world = World::new()?;
    let (setup, peer, network) = scene(&world).await?;
    let index = setup.config().store_path().join("index");
    damage(&index, |length| length / 2)?;
    let node = setup.start().await?;
    for feed in network.ids() {
        assert_eq!(node.store().tip(&feed), peer.store().tip(&feed));
    }
    assert!(node.store().damage().is_empty());
    node.is_well().await
}

#[tokio::test]
async fn a_log_cut_short_ends_with_its_last_whole_message() -> Result<()> {
    let world = World::new()?;
    let (setup, peer, network) = scene(&world).await?;
    let path = setup.segments()?.remove(0);
    let length = fs::metadata(&path)?.len();
    fs::File::options().write(true).open(&path)?.set_len(length - 7)?;
    let node = setup.start().await?;
    assert_eq!(node.store().len(), 299);
    node.is_well().await?;
    for feed in network.ids() {
        node.call("replicate.request", &json!([feed, true])).await?;
    }
    node.connect(&peer).await?;
    node.until_len(300).await?;
    for feed in network.ids() {
        assert_eq!(node.store().tip(&feed), peer.store().tip(&feed));
    }
    Ok(())
}

#[tokio::test]
async fn damaged_small_state_is_put_aside() -> Result<()> {
    let world = World::new()?;
    let (setup, _peer, network) = scene(&world).await?;
    fs::write(setup.path().join("state.redb"), b"nonsense")?;
    let node = setup.start().await?;
    assert_eq!(node.store().len(), 300);
    assert_eq!(node.store().feeds().len(), network.ids().len());
    node.is_well().await
}

#[tokio::test]
async fn damage_that_is_found_while_the_node_runs_is_healed_without_a_restart() -> Result<()> {
    let world = World::new()?;
    let (setup, peer, network) = scene(&world).await?;
    damage(&setup.segments()?[0], |length| length / 2)?;
    let node = setup.start().await?;
    for feed in network.ids() {
        node.call("replicate.request", &json!([feed, true])).await?;
    }
    node.connect(&peer).await?;
    node.store().read_log(0, 1000, sbot_store::Direction::Forward)?;
    assert_eq!(node.store().damage().len(), 1, "{}", node.state());
    for feed in network.ids() {
        node.until_has(feed, peer.has(feed)).await?;
    }
    Ok(())
}
