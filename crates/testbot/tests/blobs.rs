//! Blobs between nodes of ours, and what becomes of them in one.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use sbot::api::BlobGate;
use sbot_feed::{BlobId, FeedId};
use sbot_rpc::{Body, Call, Outlet, Registry, RpcError};
use sbot_shs::boxstream::{BoxKey, Sealer};
use sbot_testbot::blobs::{self, Reply, Server};
use sbot_testbot::{TestNode, World};
use serde_json::{Value, json};

fn has(node: &TestNode, id: &BlobId) -> bool {
    node.context().blobs.store().has(id).unwrap_or_default()
}

async fn until_has(node: &TestNode, id: &BlobId) -> Result<()> {
    node.until("a blob comes", |node| node.context().blobs.store().has(id).unwrap_or_default()).await
}

#[tokio::test]
async fn wanted_blobs_come_over_any_connection_whoever_opened_it() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    let bytes = blobs::bytes(3_000_000, 1);
    let id = blobs::add(&a, &bytes).await?;
    // In memory, without sockets and handshake.
    b.join(&a);
    blobs::want(&b, &id).await?;
    assert_eq!(blobs::get(&b, "blobs.get", &json!([id])).await?, bytes);
    let other = blobs::add(&b, &blobs::bytes(70_000, 2)).await?;
    blobs::want(&a, &other).await?;
    let (c, none) = (world.node("c").await?, blobs::id(b""));
    c.connect(&a).await?;
    blobs::want(&c, &other).await?;
    blobs::want(&c, &none).await?;
    c.is_well().await
}

#[tokio::test]
async fn clients_that_wait_for_one_blob_share_one_transfer() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let (server, bytes) = (Server::new(), blobs::bytes(500_000, 3));
    let id = blobs::id(&bytes);
    let _peer = world.raw("peer", &node).await?.session_with(server.registry());
    let waiting = async { tokio::try_join!(blobs::want(&node, &id), blobs::want(&node, &id), blobs::want(&node, &id)) };
    server.has(id, json!(bytes.len()), Reply::Pieces(blobs::pieces(&bytes, 40_000)));
    waiting.await?;
    assert_eq!(server.calls().len(), 1, "{:?}", server.calls());
    Ok(())
}

#[tokio::test]
async fn a_blob_goes_through_two_that_lack_it_and_a_push_reaches_all_in_between() -> Result<()> {
    let world = World::new()?;
    let nodes = [world.node("a").await?, world.node("b").await?, world.node("c").await?, world.node("d").await?];
    for pair in nodes.windows(2) {
        pair[0].connect(&pair[1]).await?;
    }
    let id = blobs::add(&nodes[3], &blobs::bytes(100_000, 4)).await?;
    blobs::want(&nodes[0], &id).await?;
    assert!(has(&nodes[1], &id) && has(&nodes[2], &id));
    let pushed = blobs::add(&nodes[0], &blobs::bytes(100_000, 5)).await?;
    nodes[0].call("blobs.push", &[pushed]).await?;
    until_has(&nodes[1], &pushed).await?;
    until_has(&nodes[2], &pushed).await
}

#[tokio::test]
async fn what_was_wanted_and_pushed_before_a_restart_still_is() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    let (early, pushed) = (blobs::bytes(9_000, 6), blobs::bytes(9_000, 7));
    let id = blobs::id(&early);
    let client = a.client().clone();
    tokio::spawn(async move { client.call("blobs.want", &[id]).await });
    let pushed = blobs::add(&a, &pushed).await?;
    a.call("blobs.push", &[pushed]).await?;
    a.until("the blob is looked for", |node| node.context().blobs.counts().wants == 1).await?;
    let a = a.restart().await?;
    a.connect(&b).await?;
    blobs::add(&b, &early).await?;
    until_has(&a, &id).await?;
    until_has(&b, &pushed).await
}

#[tokio::test]
async fn old_peers_are_asked_in_the_older_way_and_their_questions_are_wants() -> Result<()> {
    let world = World::new()?;
    let (node, other) = (world.node("a").await?, world.node("other").await?);
    let (server, bytes) = (Server::new(), blobs::bytes(90_000, 8));
    let id = blobs::id(&bytes);
    server.has(id, json!(bytes.len()), Reply::Pieces(blobs::pieces(&bytes, 40_000)));
    // One that has this blob since before, and another one from now on.
    let late = blobs::bytes(50_000, 9);
    let late_id = blobs::id(&late);
    let serve = |bytes: Vec<u8>, mut out: Outlet| async move {
        let _ = out.send_many(blobs::pieces(&bytes, 40_000)).await;
        Ok::<(), RpcError>(())
    };
    let has = move |call: Call<()>| async move {
        let asked: Vec<Vec<String>> = serde_json::from_slice(&call.args)?;
        let has: Vec<bool> = asked.iter().flatten().map(|asked| *asked == id.to_string()).collect();
        Ok(Body::json(&has)?)
    };
    let registry = Registry::new()
        .asynchronous("blobs.has", has)
        .source("blobs.changes", move |_: Call<()>, mut out: Outlet| async move {
            let _ = out.send(Body::json(&late_id.to_string())?).await;
            out.closed().await;
            Ok(())
        })
        .source("blobs.get", move |call: Call<()>, out: Outlet| {
            let asked: Value = serde_json::from_slice(&call.args).unwrap_or_default();
            serve(if asked[0]["key"] == id.to_string() { bytes.clone() } else { late.clone() }, out)
        });
    let peer = world.raw("old", &node).await?.session_with(registry);
    blobs::want(&node, &id).await?;
    blobs::want(&node, &late_id).await?;
    // What it asks for is looked for elsewhere.
    let wanted = blobs::bytes(1_000, 10);
    let wanted_id = blobs::id(&wanted);
    let answer = peer.call("blobs.has", &json!([[id, wanted_id]])).await?;
    assert_eq!(serde_json::from_slice::<Value>(answer.bytes())?, json!([true, false]));
    blobs::add(&other, &wanted).await?;
    other.connect(&node).await?;
    until_has(&node, &wanted_id).await
}

#[tokio::test]
async fn encrypted_blobs_are_decrypted_for_local_clients_and_nobody_else() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let plain = blobs::bytes(700_000, 11);
    let mut boxed = BytesMut::new();
    let mut sealer = Sealer::new(&BoxKey { key: [5; 32], nonce: [0; 24] });
    sealer.seal(&plain, &mut boxed);
    boxed.extend_from_slice(&sealer.goodbye());
    let id = blobs::add(&node, &boxed).await?;
    let key = STANDARD.encode([5; 32]);
    for args in [
        json!([format!("{id}?unbox={key}")]),
        json!([{"hash": id, "unbox": key}]),
        json!([{"id": format!("{id}?unbox={key}")}]),
    ] {
        assert!(blobs::get(&node, "blobs.get", &args).await? == plain, "{args}");
    }
    assert!(blobs::get(&node, "blobs.get", &json!([id])).await? == boxed);
    let wrong = blobs::get(&node, "blobs.get", &json!([{"hash": id, "unbox": STANDARD.encode([6; 32])}])).await;
    assert!(wrong.unwrap_err().to_string().contains("can't be decrypted with this key"));
    let none = blobs::get(&node, "blobs.get", &json!([{"hash": id, "unbox": "x"}])).await;
    assert!(none.unwrap_err().to_string().contains("32 bytes in base64"));
    let peer = world.raw("peer", &node).await?.session();
    let mut source = peer.source("blobs.get", &json!([{"hash": id, "unbox": key}])).await?;
    let first = source.recv().await.context("nothing")??;
    assert!(boxed.starts_with(first.bytes()));
    Ok(())
}

#[tokio::test]
async fn a_damaged_file_is_not_served_and_comes_again_from_a_peer() -> Result<()> {
    let world = World::new()?;
    let (node, good) = (world.node("a").await?, world.node("good").await?);
    let bytes = blobs::bytes(300_000, 12);
    let id = blobs::add(&node, &bytes).await?;
    blobs::add(&good, &bytes).await?;
    let mut damaged = bytes.clone();
    damaged[200_000] ^= 1;
    std::fs::write(blobs::file(&node, &id), &damaged)?;
    let asker = world.node("asker").await?;
    asker.connect(&node).await?;
    let waiting = async {
        blobs::want(&asker, &id).await?;
        anyhow::Ok(blobs::get(&asker, "blobs.get", &json!([id])).await?)
    };
    let mending = async {
        node.until("the damage is noticed", |node| node.context().blobs.counts().wants == 1).await?;
        assert!(!has(&node, &id), "the damaged file is still there");
        good.connect(&node).await
    };
    let (got, _) = tokio::try_join!(waiting, mending)?;
    assert!(got == bytes && std::fs::read(blobs::file(&node, &id))? == bytes);
    Ok(())
}

#[tokio::test]
async fn blobs_in_new_messages_of_friends_come_by_themselves_if_the_config_says_so() -> Result<()> {
    let world = World::new()?;
    let setup = world.setup("a").change(|config| {
        config.blobs.mentions.hops = Some(1);
        config.blobs.mentions.types = vec!["post".into()];
        config.blobs.mentions.max = Some(50_000);
    });
    let (node, friend) = (setup.start().await?, world.node("friend").await?);
    node.follow(&friend).await?;
    node.connect(&friend).await?;
    let small = blobs::add(&friend, &blobs::bytes(50_000, 13)).await?;
    let image = blobs::add(&friend, &blobs::bytes(40_000, 14)).await?;
    let large = blobs::add(&friend, &blobs::bytes(50_001, 15)).await?;
    let other = blobs::add(&friend, &blobs::bytes(100, 16)).await?;
    let last = blobs::add(&friend, &blobs::bytes(200, 17)).await?;
    friend.publish(json!({"type": "about", "about": friend.id(), "image": other})).await?;
    friend
        .publish(
            json!({"type": "post", "text": format!("![x]({image})"), "mentions": [{"link": small}, {"link": large}]}),
        )
        .await?;
    friend.publish(json!({"type": "post", "text": "", "mentions": [{"link": format!("{last}?unbox=x")}]})).await?;
    for id in [small, image, last] {
        until_has(&node, &id).await?;
    }
    assert!(!has(&node, &large), "too large");
    assert!(!has(&node, &other), "of another type");
    // Asked for, it comes.
    blobs::want(&node, &large).await
}

/// Refuses one peer everything.
struct NotFor(FeedId);

impl BlobGate for NotFor {
    fn may_have(&self, peer: &FeedId, _: &BlobId, _: u64) -> bool {
        *peer != self.0
    }

    fn may_pass_on(&self, peer: &FeedId, _: &BlobId, _: u32) -> bool {
        *peer != self.0
    }

    fn may_be_asked(&self, peer: &FeedId, _: &BlobId, _: bool) -> bool {
        *peer != self.0
    }
}

#[tokio::test]
async fn who_may_not_have_a_blob_cant_tell_it_from_one_that_isnt_here() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let here = blobs::add(&node, &blobs::bytes(1_000, 18)).await?;
    let absent = blobs::id(b"absent");
    let peer = world.raw("peer", &node).await?;
    node.context().blobs.decide_by(Arc::new(NotFor(peer.id())));
    let peer = peer.session();
    let answer = peer.call("blobs.has", &json!([[here, absent]])).await?;
    assert_eq!(serde_json::from_slice::<Value>(answer.bytes())?, json!([false, false]));
    let mut told = Vec::new();
    for id in [here, absent] {
        for args in [json!([id]), json!([{"key": id}]), json!([{"key": id, "size": 1}])] {
            let error = peer.source("blobs.get", &args).await?.recv().await.context("nothing")?.unwrap_err();
            told.push(error.to_string());
        }
        let slice = json!([{"id": id, "start": 2000, "end": 3000}]);
        let error = peer.source("blobs.getSlice", &slice).await?.recv().await.context("nothing")?.unwrap_err();
        told.push(error.to_string());
    }
    assert_eq!(told[..4], told[4..]);
    let mut wants = peer.source("blobs.createWants", &json!([])).await?;
    assert_eq!(wants.recv().await.context("nothing")??, Body::Json("{}".into()));
    assert_eq!(node.context().blobs.counts().wants_of_others, 0);
    Ok(())
}

/// Gives one peer no blobs, and looks for those that it wants.
struct NoneGivenTo(FeedId);

impl BlobGate for NoneGivenTo {
    fn may_have(&self, peer: &FeedId, _: &BlobId, _: u64) -> bool {
        *peer != self.0
    }

    fn may_pass_on(&self, _: &FeedId, _: &BlobId, _: u32) -> bool {
        true
    }

    fn may_be_asked(&self, _: &FeedId, _: &BlobId, _: bool) -> bool {
        true
    }
}

#[tokio::test]
async fn nor_can_a_third_peer_that_works_with_it() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let (one, other) = (blobs::bytes(1_000, 31), blobs::bytes(1_000, 32));
    let (here, absent) = (blobs::add(&node, &one).await?, blobs::id(&other));
    let (asker, helper) = (Server::new(), Server::new());
    let first = world.raw("asker", &node).await?;
    node.context().blobs.decide_by(Arc::new(NoneGivenTo(first.id())));
    let _first = first.session_with(asker.registry());
    let _second = world.raw("helper", &node).await?.session_with(helper.registry());
    asker.say(json!({ here.to_string(): -1, absent.to_string(): -1 }));
    for (id, bytes) in [(here, &one), (absent, &other)] {
        helper.has(id, json!(1_000), Reply::Pieces(blobs::pieces(bytes, 300)));
    }
    helper.until_asked(2).await?;
    until_has(&node, &absent).await?;
    let is_quiet = |node: &sbot::Node| {
        let counts = node.context().blobs.counts();
        (counts.fetches, counts.wants_of_others) == (0, 0)
    };
    node.until("nothing is looked for any more", is_quiet).await?;
    assert_eq!(blobs::get(&node, "blobs.get", &json!([here])).await?, one);
    let status = node.call("blobs.status", &json!([])).await?;
    assert_eq!(
        (&status["bytes"], &status["own"]),
        (&json!(2_000), &json!(1)),
        "what was here came twice, and counts once"
    );
    Ok(())
}

#[tokio::test]
async fn what_nobody_mentions_goes_and_what_is_ours_or_pinned_or_mentioned_stays() -> Result<()> {
    let world = World::new()?;
    let (node, friend) = (world.node("a").await?, world.node("friend").await?);
    let mut ids = Vec::new();
    for seed in 20..25 {
        ids.push(blobs::add(&friend, &blobs::bytes(10_000, seed)).await?);
    }
    node.follow(&friend).await?;
    node.connect(&friend).await?;
    for id in &ids {
        blobs::want(&node, id).await?;
    }
    let added = blobs::add(&node, &blobs::bytes(10_000, 30)).await?;
    let [alone, pinned, by_friend, by_us, unpinned] = ids[..] else { anyhow::bail!("five") };
    node.call("blobs.pin", &[pinned]).await?;
    node.call("blobs.pin", &[unpinned]).await?;
    node.call("blobs.unpin", &[unpinned]).await?;
    friend.publish(json!({"type": "post", "text": format!("[x]({by_friend})")})).await?;
    node.publish(json!({"type": "post", "text": "", "mentions": [{"link": by_us}]})).await?;
    node.until_has(friend.id(), 1).await?;
    let gc = async |options: Value| -> Result<Vec<String>> {
        let mut source = node.client().source("blobs.gc", &[options]).await?;
        let mut found = Vec::new();
        while let Some(item) = source.recv().await {
            let item: Value = serde_json::from_slice(item?.bytes())?;
            assert_eq!(item["why"], "no message mentions it");
            found.push(item["id"].as_str().context("no id")?.to_owned());
        }
        found.sort();
        Ok(found)
    };
    let mut expected = vec![alone.to_string(), unpinned.to_string()];
    expected.sort();
    assert_eq!(gc(json!({})).await?, Vec::<String>::new(), "a day of grace");
    // What came in this very millisecond is not older than no time at all.
    let found = async {
        loop {
            let found = gc(json!({"grace": 0})).await?;
            if found.len() >= expected.len() {
                return anyhow::Ok(found);
            }
        }
    };
    assert_eq!(tokio::time::timeout(sbot_testbot::PATIENCE, found).await??, expected);
    assert!(has(&node, &alone), "only shown so far");
    assert_eq!(gc(json!({"grace": 0, "delete": true})).await?, expected);
    assert!(!has(&node, &alone) && !has(&node, &unpinned));
    for id in [pinned, by_friend, by_us, added] {
        assert!(has(&node, &id));
    }
    let status = node.call("blobs.status", &json!([])).await?;
    assert_eq!(
        (&status["blobs"], &status["bytes"], &status["own"], &status["pinned"]),
        (&json!(4), &json!(40_000), &json!(1), &json!(1))
    );
    Ok(())
}

#[tokio::test]
async fn over_its_quota_a_node_fetches_nothing_for_others() -> Result<()> {
    let world = World::new()?;
    let node = world.setup("a").change(|config| config.blobs.quota = Some(10_000)).start().await?;
    let (asker, other) = (world.node("asker").await?, world.node("other").await?);
    blobs::add(&node, &blobs::bytes(10_000, 40)).await?;
    asker.connect(&node).await?;
    other.connect(&node).await?;
    let id = blobs::add(&other, &blobs::bytes(1_000, 41)).await?;
    let client = asker.client().clone();
    tokio::spawn(async move { client.call("blobs.want", &[id]).await });
    let own = blobs::add(&other, &blobs::bytes(1_000, 42)).await?;
    blobs::want(&node, &own).await?;
    blobs::want(&asker, &own).await?;
    assert!(!has(&node, &id) && node.context().blobs.counts().wants_of_others == 0);
    Ok(())
}
