//! Friends that find each other by the distributed hash table alone. The table is one on loopback.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use mainline::{Id, Testnet};
use sbot_discovery::dht::dht_keys;
use sbot_testbot::{PATIENCE, World};
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_we_come_to_follow_is_looked_up() -> Result<()> {
    let table = tokio::task::spawn_blocking(|| Testnet::builder(8).build()).await??;
    let world = World::new()?;
    let bootstrap = table.bootstrap.clone();
    let with_table = |name: &str| {
        let bootstrap = bootstrap.clone();
        world.setup(name).change(move |config| {
            config.peers.dht = true;
            config.peers.dht_bootstrap = bootstrap;
        })
    };
    let node = with_table("node").start().await?;
    let friend = with_table("friend").start().await?;

    // The table has the friend's port, under the key that others can make as well.
    let asked = table.nodes[0].clone().as_async();
    let announced = async {
        loop {
            let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
            for key in dht_keys(&world.network(), &friend.id(), now) {
                let mut answers = asked.get_peers(Id::from(key));
                while let Some(found) = futures_util::StreamExt::next(&mut answers).await {
                    if found.iter().any(|found| found.port() == friend.port().unwrap_or_default()) {
                        return anyhow::Ok(());
                    }
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, announced).await.context("the friend isn't announced")??;

    let known = |node: &sbot::Node| {
        node.context().peers.list().iter().any(|peer| peer.key == friend.id() && peer.source.as_deref() == Some("dht"))
    };
    assert!(!known(node.inner()), "a stranger was looked up");
    node.follow(&friend).await?;
    node.until("it finds its friend in the table", known).await?;
    node.is_well().await
}
