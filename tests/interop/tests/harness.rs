//! The harness itself: two JavaScript peers agree by it before any of ours is judged.

use anyhow::Result;
use sbot_interop::{End, JsPeer, Kind, Network, Spec, network_key, sync};
use serde_json::json;

fn between(from: Kind, to: Kind) -> Result<()> {
    let network = Network::get(Spec { messages: 2_000, authors: 40, blocks: false })?;
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let with_all = world.path().join("from");
    network.data_for(from, &with_all)?;
    let mut from = JsPeer::start(from, &with_all, &key, None)?;
    let mut other = JsPeer::start(to, &world.path().join("to"), &key, None)?;
    if to == Kind::Db2 {
        let main = network.authors.first().map(String::as_str).unwrap_or_default();
        other.publish(json!({"type": "contact", "contact": main, "following": true}))?;
    }
    sync(&network, &mut from, &mut other)
}

#[test]
fn two_ssb_servers_agree_by_ebt() -> Result<()> {
    between(Kind::Classic, Kind::Classic)
}

#[test]
fn two_ssb_servers_agree_by_history_streams() -> Result<()> {
    between(Kind::ClassicWithoutEbt, Kind::ClassicWithoutEbt)
}

#[test]
fn the_db2_stack_agrees_with_ssb_server() -> Result<()> {
    between(Kind::Db2, Kind::Classic)?;
    between(Kind::Classic, Kind::Db2)
}
