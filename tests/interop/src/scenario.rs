//! What the tests of replication have in common.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::{End, JsPeer, Kind, Network, SbotNode, Spec, Tips, network_key, wait_until};

/// Longest exchange: JavaScript peers do some 5,000 messages a second on a free machine.
const EXCHANGE: Duration = Duration::from_secs(240);
/// Longest wait for a link.
const CONNECT: Duration = Duration::from_secs(30);
/// Longest way of a live message.
const LIVE: Duration = Duration::from_secs(30);

/// The network that is exchanged: 100,000 messages of 500 feeds, or `SBOT_INTEROP_MESSAGES` for a quick look.
fn network() -> Result<Network> {
    let messages = match std::env::var("SBOT_INTEROP_MESSAGES") {
        Ok(text) => text.parse()?,
        Err(_) => 100_000,
    };
    Network::get(Spec { messages, authors: 500, blocks: false })
}

/// One test at a time: two exchanges at once would share the processors and take each other's patience.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A JavaScript peer that has everything, and our node that has nothing and dials it: both end with the same feeds.
///
/// # Errors
/// They don't, or too late.
pub fn from_js(kind: Kind) -> Result<()> {
    let _alone = alone();
    let (network, key, world) = (network()?, network_key()?, tempfile::tempdir()?);
    let theirs = world.path().join("js");
    network.data_for(kind, &theirs)?;
    let mut js = JsPeer::start(kind, &theirs, &key, None)?;
    let mut ours = SbotNode::start(&world.path().join("sbot"), &key)?;
    sync(&network, &mut js, &mut ours)
}

/// Our node that has everything, and a JavaScript peer that has nothing and dials it: both end with the same feeds.
///
/// # Errors
/// They don't, or too late.
pub fn to_js(kind: Kind) -> Result<()> {
    let _alone = alone();
    let (network, key, world) = (network()?, network_key()?, tempfile::tempdir()?);
    let dir = world.path().join("sbot");
    SbotNode::import(&dir, &key, &network.log())?;
    let mut ours = SbotNode::start(&dir, &key)?;
    let mut js = JsPeer::start(kind, &world.path().join("js"), &key, None)?;
    if kind == Kind::Db2 {
        // ssb-ebt 9 asks for feeds of the social graph: wishes alone start nothing between strangers.
        let main = network.authors.first().map(String::as_str).unwrap_or_default();
        js.publish(json!({"type": "contact", "contact": main, "following": true}))?;
    }
    sync(&network, &mut ours, &mut js)
}

/// Lets `to`, which has nothing, have the whole network from `from`, and checks every feed on both ends. `to` dials.
///
/// # Errors
/// They differ, or take too long.
pub fn sync(network: &Network, from: &mut dyn End, to: &mut dyn End) -> Result<()> {
    // With EBT a peer serves what it replicates itself: both want all.
    from.want(&network.authors)?;
    to.want(&network.authors)?;
    // One that has just started and reads its log may be deaf for longer than a handshake may take.
    let mut failed = None;
    let connected = wait_until("the link is up", CONNECT, || {
        failed = to.connect(from.address()).err();
        Ok(failed.is_none())
    });
    if let (Err(late), Some(failed)) = (connected, failed) {
        return Err(failed.context(late));
    }
    let own = |peer: &mut dyn End| -> Result<u64> {
        let id = peer.id().to_owned();
        Ok(peer.tips()?.get(&id).map_or(0, |(sequence, _)| *sequence))
    };
    let extra = own(to)?;
    let took = wait_until("all messages arrive", EXCHANGE, || Ok(to.total()? >= network.messages + extra))?;
    #[allow(clippy::cast_precision_loss)]
    let rate = network.messages as f64 / took.as_secs_f64();
    println!("{} messages in {:.1} s, {rate:.0}/s", network.messages, took.as_secs_f64());
    agree(network, "the sender", &from.tips()?)?;
    agree(network, "the receiver", &to.tips()?)
}

fn agree(network: &Network, who: &str, tips: &Tips) -> Result<()> {
    for (feed, expected) in &network.tips {
        let found = tips.get(feed);
        ensure!(found == Some(expected), "{who} has {found:?} of {feed}, which ends with {expected:?}");
    }
    Ok(())
}

/// A JavaScript peer and our node on an open link: what either publishes the other has soon.
///
/// # Errors
/// A message doesn't arrive.
pub fn live(kind: Kind) -> Result<()> {
    let _alone = alone();
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let mut js = JsPeer::start(kind, &world.path().join("js"), &key, None)?;
    let mut ours = SbotNode::start(&world.path().join("sbot"), &key)?;
    // Each follows the other, as friends do.
    js.publish(json!({"type": "contact", "contact": ours.id, "following": true}))?;
    ours.publish(json!({"type": "contact", "contact": js.id, "following": true}))?;
    ours.connect(&js.address)?;
    let both: &mut [&mut dyn End; 2] = &mut [&mut js, &mut ours];
    for round in 0..20 {
        let [first, second] = both;
        let text = json!({"type": "post", "text": format!("round {round} 🐚")});
        let message = first.publish(text)?;
        wait_until("a live message arrives", LIVE, || second.has(&message))?;
        both.swap(0, 1);
    }
    let (ours, theirs) = (both[0].tips()?, both[1].tips()?);
    ensure!(ours == theirs && ours.len() == 2, "{ours:?} and {theirs:?} differ");
    Ok(())
}
