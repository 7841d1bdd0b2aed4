//! Invites between nodes of ours: what a pub gives out and who gets in by it.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use sbot_feed::FeedId;
use sbot_multiserver::{DialSettings, Dialer, InviteCode};
use sbot_rpc::{Limits, Peer, Registry, Session};
use sbot_testbot::{PATIENCE, TestNode, World};
use serde_json::{Value, json};

/// A pub: one whose invites may lead to loopback.
async fn pub_node(world: &World) -> Result<TestNode> {
    world.setup("pub").change(|config| config.allow_private_invites = true).start().await
}

async fn invite(host: &TestNode, options: Value) -> Result<String> {
    let code = host.call("invite.create", &[options]).await?;
    Ok(code.as_str().context("no code")?.to_owned())
}

async fn accept(guest: &TestNode, code: &str) -> Result<Value> {
    guest.call("invite.accept", &[code]).await
}

/// What a call that should fail says.
async fn refusal(work: impl Future<Output = Result<Value>>) -> String {
    work.await.map_or_else(|error| error.to_string(), |value| format!("no refusal: {value}"))
}

/// Dials with the key of a code, and does nothing yet.
async fn guest(world: &World, code: &str) -> Result<Peer> {
    let code: InviteCode = code.parse()?;
    let settings = DialSettings { connect_timeout: PATIENCE, handshake_timeout: PATIENCE };
    let connection = Dialer::new(world.network(), world.keypair("nobody"), settings).dial(code.dial()).await?;
    let registry = Arc::new(Registry::<()>::new());
    Ok(Session::spawn(connection.read, connection.write, registry, (), Limits::REMOTE))
}

async fn redeem(guest: &Peer, feed: FeedId) -> Result<Value> {
    let answer = tokio::time::timeout(PATIENCE, guest.call("invite.use", &[json!({"feed": feed})])).await??;
    Ok(serde_json::from_slice(answer.bytes())?)
}

/// The contents of a feed, in order.
fn contents(node: &TestNode, feed: FeedId) -> Result<Vec<Value>> {
    let content = |record: &sbot_store::Record| -> Result<Value> {
        Ok(serde_json::from_slice::<Value>(&record.value)?["content"].take())
    };
    node.feed(feed)?.iter().map(content).collect()
}

#[tokio::test]
async fn an_accepted_invite_makes_friends_who_replicate() -> Result<()> {
    let world = World::new()?;
    let (host, guest) = (pub_node(&world).await?, world.node("guest").await?);
    host.posts(1).await?;
    let code = invite(&host, json!({"note": {"from": "a friend"}})).await?;
    let published = accept(&guest, &code).await?;
    assert_eq!(published.as_array().map(Vec::len), Some(2), "{published}");

    // what ssb-invite publishes on either side
    let welcome = json!({"type": "contact", "contact": host.id(), "following": true, "autofollow": true});
    let place = json!({"host": "127.0.0.1", "port": host.port()?, "key": host.id()});
    assert_eq!(contents(&guest, guest.id())?, [welcome, json!({"type": "pub", "address": place})]);
    let follow = json!({
        "type": "contact", "contact": guest.id(), "following": true, "pub": true, "note": {"from": "a friend"},
    });
    assert_eq!(contents(&host, host.id())?.last(), Some(&follow));

    // without a word more they are connected and have each other's feeds
    guest.until_has(host.id(), 2).await?;
    host.until_has(guest.id(), 2).await?;
    let peers = guest.call("gossip.peers", &json!([])).await?;
    assert_eq!((&peers[0]["source"], &peers[0]["address"]), (&json!("invite"), &json!(host.address()?)), "{peers}");
    let peers = host.call("gossip.peers", &json!([])).await?;
    assert_eq!(peers.as_array().map(Vec::len), Some(1), "the guest's other key is no peer: {peers}");
    Ok(())
}

#[tokio::test]
async fn an_invite_is_good_for_as_many_guests_as_it_says() -> Result<()> {
    let world = World::new()?;
    let host = pub_node(&world).await?;
    let code = invite(&host, json!(2)).await?;
    for name in ["one", "two"] {
        let guest = world.node(name).await?;
        accept(&guest, &code).await?;
        assert!(host.inner().context().social.is_following(&host.id(), &guest.id()));
    }
    let late = world.node("late").await?;
    assert_eq!(refusal(accept(&late, &code)).await, "invite not accepted: invite has expired");
    assert_eq!((late.has(late.id()), host.has(host.id())), (0, 2), "nobody publishes anything for a refused invite");
    Ok(())
}

#[tokio::test]
async fn an_invite_ends_at_its_time() -> Result<()> {
    let world = World::new()?;
    let (host, guest) = (pub_node(&world).await?, world.node("guest").await?);
    let code = invite(&host, json!({"expires": 1_600_000_000_000_u64})).await?;
    assert_eq!(refusal(accept(&guest, &code)).await, "invite not accepted: invite has expired");
    let code = invite(&host, json!({"expires": 9_600_000_000_000_u64})).await?;
    accept(&guest, &code).await?;
    Ok(())
}

#[tokio::test]
async fn of_guests_who_race_for_the_last_use_one_gets_in() -> Result<()> {
    let world = World::new()?;
    let host = pub_node(&world).await?;
    let code = invite(&host, json!(1)).await?;
    let guests = [guest(&world, &code).await?, guest(&world, &code).await?, guest(&world, &code).await?];
    let feeds = ["a", "b", "c"].map(|name| world.keypair(name).id());
    let (a, b, c) =
        tokio::join!(redeem(&guests[0], feeds[0]), redeem(&guests[1], feeds[1]), redeem(&guests[2], feeds[2]));
    let answers = [a, b, c];
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    for answer in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(answer.to_string(), "invite has expired");
    }
    assert_eq!(host.has(host.id()), 1);
    Ok(())
}

#[tokio::test]
async fn one_guest_who_asks_twice_at_once_is_followed_and_counted_once() -> Result<()> {
    let world = World::new()?;
    let host = pub_node(&world).await?;
    let code = invite(&host, json!(2)).await?;
    let first = guest(&world, &code).await?;
    let feed = world.keypair("a").id();
    let (one, two) = tokio::join!(redeem(&first, feed), redeem(&first, feed));
    let refused = [one, two].into_iter().find_map(Result::err).context("followed twice")?;
    assert_eq!(refused.to_string(), "already following");
    redeem(&first, world.keypair("b").id()).await?;
    assert_eq!(host.has(host.id()), 2);
    Ok(())
}

#[tokio::test]
async fn uses_are_counted_across_restarts() -> Result<()> {
    let world = World::new()?;
    let host = pub_node(&world).await?;
    let code = invite(&host, json!({"uses": 2, "note": "hi"})).await?;
    accept(&world.node("one").await?, &code).await?;
    let host = host.restart().await?;
    // it has another port now
    let old: InviteCode = code.parse()?;
    let code = InviteCode::new(old.host(), host.port()?, old.key(), *old.seed())?.to_string();
    accept(&world.node("two").await?, &code).await?;
    assert_eq!(contents(&host, host.id())?.last().context("no follow")?["note"], "hi");
    let refused = refusal(accept(&world.node("three").await?, &code)).await;
    assert_eq!(refused, "invite not accepted: invite has expired");
    Ok(())
}

#[tokio::test]
async fn a_use_whose_follow_can_not_be_published_is_given_back() -> Result<()> {
    let world = World::new()?;
    let host = pub_node(&world).await?;
    host.posts(2).await?;
    let before = host.feed(host.id())?;
    let host = host.stop().await.wiped()?.start().await?;
    let code = invite(&host, json!(1)).await?;
    // a peer has more of our feed than we do: nothing may be published yet
    let mut backup = world.raw("backup", &host).await?.ebt().await?;
    backup.note(host.id(), 2, true).await?;
    backup.until_asked(host.id(), 1).await?;
    let guest = guest(&world, &code).await?;
    let refused = redeem(&guest, world.keypair("a").id()).await.unwrap_err().to_string();
    assert!(refused.contains("not published"), "{refused}");
    for message in &before {
        backup.message(&message.value).await?;
    }
    host.until_has(host.id(), 2).await?;
    // it hears of the last message a moment after the log
    let followed = async {
        while let Err(error) = redeem(&guest, world.keypair("b").id()).await {
            anyhow::ensure!(error.to_string().contains("not published"), "{error}");
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, followed).await??;
    let refused = redeem(&guest, world.keypair("a").id()).await.unwrap_err().to_string();
    assert_eq!(refused, "invite has expired");
    Ok(())
}

#[tokio::test]
async fn a_guest_may_redeem_its_invite_and_nothing_else() -> Result<()> {
    let world = World::new()?;
    let host = pub_node(&world).await?;
    let first = host.publish(sbot_testbot::post("secret")).await?["key"].clone();
    let guest = guest(&world, &invite(&host, json!(1)).await?).await?;
    for (method, args) in [
        ("get", json!([first])),
        ("manifest", json!([])),
        ("whoami", json!([])),
        ("getAddress", json!([])),
        ("invite.create", json!([1])),
        ("publish", json!([{"type": "post", "text": "x"}])),
    ] {
        let refused = tokio::time::timeout(PATIENCE, guest.call(method, &args)).await?.unwrap_err().to_string();
        let name = method.replace('.', ",");
        assert!(refused.starts_with(&format!("method:{name} is not in list of allowed methods")), "{refused}");
        assert!(refused.contains("you are guest"), "{refused}");
    }
    for method in ["createHistoryStream", "ebt.replicate"] {
        let mut stream = guest.source(method, &json!([{"id": host.id()}])).await?;
        let item = tokio::time::timeout(PATIENCE, stream.recv()).await?;
        assert!(item.is_some_and(|item| item.is_err()), "{method}");
    }
    redeem(&guest, world.keypair("a").id()).await?;
    Ok(())
}

#[tokio::test]
async fn what_a_guest_asks_for_wrongly_costs_no_use() -> Result<()> {
    let world = World::new()?;
    let host = pub_node(&world).await?;
    let guest = guest(&world, &invite(&host, json!(1)).await?).await?;
    for (args, says) in [
        (json!([]), "Param 0 is required"),
        (json!(["x"]), "Param 0 must by of type object"),
        (json!([{}]), "feed to follow is missing"),
        (json!([{"feed": ""}]), "feed to follow is missing"),
        (json!([{"feed": "x"}]), "feed to follow is not a feed id"),
        (json!([{"feed": {"a": [1]}}]), "feed to follow is not a feed id"),
        (json!([{"feed": host.id()}]), "this feed can't be followed by an invite"),
    ] {
        let answer = tokio::time::timeout(PATIENCE, guest.call("invite.use", &args)).await?;
        assert_eq!(answer.unwrap_err().to_string(), says, "{args}");
    }
    redeem(&guest, world.keypair("a").id()).await?;
    Ok(())
}

#[tokio::test]
async fn whom_the_pub_blocks_gets_in_by_no_invite() -> Result<()> {
    let world = World::new()?;
    let (host, enemy) = (pub_node(&world).await?, world.node("enemy").await?);
    host.block(&enemy).await?;
    let code = invite(&host, json!(1)).await?;
    let says = refusal(accept(&enemy, &code)).await;
    assert_eq!(says, "invite not accepted: this feed can't be followed by an invite");
    assert!(host.inner().context().social.is_blocking(&host.id(), &enemy.id()));
    accept(&world.node("friend").await?, &code).await?;
    Ok(())
}

#[tokio::test]
async fn strangers_without_an_invite_can_redeem_nothing() -> Result<()> {
    let world = World::new()?;
    let host = pub_node(&world).await?;
    let stranger = world.raw("stranger", &host).await?.session();
    let says = redeem(&stranger, world.keypair("stranger").id()).await.unwrap_err().to_string();
    assert!(says.starts_with("method:invite,use is not in list of allowed methods"), "{says}");
    let says = refusal(host.call("invite.use", &json!([{"feed": world.keypair("a").id()}]))).await;
    assert_eq!(says, format!("Key not found in database [{}]", host.id()));
    Ok(())
}

#[tokio::test]
async fn an_acceptance_that_failed_half_way_is_made_up_for_by_repeating_it() -> Result<()> {
    let world = World::new()?;
    let (host, guest_node) = (pub_node(&world).await?, world.node("guest").await?);
    let code = invite(&host, json!(1)).await?;
    // the pub has followed, and the guest heard nothing of it
    redeem(&guest(&world, &code).await?, guest_node.id()).await?;
    assert_eq!(accept(&guest_node, &code).await?.as_array().map(Vec::len), Some(2));
    // now nothing is missing
    assert_eq!(refusal(accept(&guest_node, &code)).await, "invite not accepted: already following");
    assert_eq!((guest_node.has(guest_node.id()), host.has(host.id())), (2, 1));

    // the guest had published its follow, and not yet where the pub is
    let other = world.node("other").await?;
    let code = invite(&host, json!(1)).await?;
    redeem(&guest(&world, &code).await?, other.id()).await?;
    other.follow(&host).await?;
    assert_eq!(accept(&other, &code).await?.as_array().map(Vec::len), Some(1));
    assert_eq!(contents(&other, other.id())?.last().context("nothing")?["type"], "pub");
    Ok(())
}

#[tokio::test]
async fn a_pub_that_is_not_there_or_that_is_ourselves_is_no_pub() -> Result<()> {
    let world = World::new()?;
    let (host, guest) = (pub_node(&world).await?, world.node("guest").await?);
    let code = invite(&host, json!(1)).await?;
    assert_eq!(refusal(accept(&host, &code)).await, "this invite leads to this very node");
    host.stop().await;
    let says = refusal(accept(&guest, &code)).await;
    assert!(says.starts_with("could not connect to server: "), "{says}");
    let seed = code.rsplit('~').next().context("no seed")?;
    assert!(!says.contains(seed), "the seed is a secret: {says}");
    Ok(())
}

#[tokio::test]
async fn without_an_address_that_others_can_reach_there_are_no_invites() -> Result<()> {
    let world = World::new()?;
    let host = world.node("host").await?;
    let says = refusal(host.call("invite.create", &json!([1]))).await;
    assert_eq!(says, "Server has no public ip address, cannot create useable invitation");
    let code = invite(&host, json!({"external": "pub.example.org"})).await?;
    assert!(code.starts_with(&format!("pub.example.org:{}:{}~", host.port()?, host.id())), "{code}");
    let says = refusal(host.call("invite.create", &json!([{"external": "h.com", "note": "x".repeat(5000)}]))).await;
    assert!(says.starts_with("the note is too long"), "{says}");

    let inside = world.setup("inside").change(|config| config.connections.net.clear()).start().await?;
    let says = refusal(inside.call("invite.create", &json!([{"external": "h.com"}]))).await;
    assert!(says.starts_with("no address available for creating an invite"), "{says}");
    Ok(())
}
