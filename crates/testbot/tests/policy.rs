//! What the policy does to connections, feeds and messages, over real sockets.
#![allow(clippy::unwrap_used)]

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use sbot_authorisation::{Access, Budgets, Preset, RULES};
use sbot_feed::{FeedId, Keypair};
use sbot_rpc::{Body, CallError, Peer, Source};
use sbot_testbot::feeds::Author;
use sbot_testbot::{PATIENCE, RawPeer, TestNode, World, blobs, post};
use serde_json::{Value, json};
use tokio::time::timeout;

/// The words that nobody but the reader may see.
const SECRET: &str = "meet me at the old mill";

/// Dials as `keys` and speaks mux-rpc.
async fn dial(world: &World, keys: &Keypair, node: &TestNode) -> Result<Peer> {
    Ok(RawPeer::dial(&world.network(), keys, node).await?.session())
}

/// Whether somebody with these keys is let in, and not hung up on at once.
async fn is_let_in(world: &World, keys: &Keypair, node: &TestNode) -> bool {
    let Ok(peer) = dial(world, keys, node).await else { return false };
    let answered = timeout(PATIENCE, peer.call("manifest", &json!([]))).await;
    peer.close("done");
    matches!(answered, Ok(Ok(_)))
}

/// All that a stream brings, and the error that it ends with.
async fn all_of(peer: &Peer, method: &str, args: &Value) -> Result<(Vec<u8>, Option<CallError>)> {
    let mut source = peer.source(method, args).await?;
    let mut all = Vec::new();
    loop {
        match timeout(PATIENCE, source.recv()).await.with_context(|| format!("{method} doesn't end"))? {
            Some(Ok(item)) => all.extend_from_slice(item.bytes()),
            Some(Err(error)) => return Ok((all, Some(error))),
            None => return Ok((all, None)),
        }
    }
}

/// The beginning of a feed.
fn feed(keys: &Keypair, contents: &[Value]) -> Result<Vec<Bytes>> {
    let mut author = Author { keys: keys.clone(), tip: None };
    let message = |(at, content): (u32, &Value)| Ok(author.publish(content, None, 1.5e12 + f64::from(at))?.value);
    (0..).zip(contents).map(message).collect()
}

/// How a live stream ends, passing over what it brings.
async fn end_of(live: &mut Source) -> Result<String> {
    loop {
        match timeout(PATIENCE, live.recv()).await.context("the stream goes on")? {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Ok(error.to_string()),
            None => bail!("the stream ended well"),
        }
    }
}

async fn history(peer: &Peer, feed: &FeedId) -> Result<usize> {
    let (all, error) = all_of(peer, "createHistoryStream", &json!([{"id": feed, "keys": false}])).await?;
    ensure!(error.is_none(), "{error:?}");
    Ok(String::from_utf8(all)?.matches("\"signature\"").count())
}

#[tokio::test]
async fn whoever_is_blocked_is_hung_up_on_and_told_so_and_gets_nothing_any_more() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    node.posts(2).await?;
    let keys = world.keypair("b");
    let peer = dial(&world, &keys, &node).await?;
    // The one ends when the block comes along, the other with the connection.
    let mut waiting = peer.source("blobs.changes", &json!([])).await?;
    let mut live = peer.source("createHistoryStream", &json!([{"id": node.id(), "live": true}])).await?;
    for _ in 0..2 {
        timeout(PATIENCE, live.recv()).await?.context("no message")??;
    }
    node.block(keys.id()).await?;
    let told = end_of(&mut waiting).await?;
    if let Some(Ok(item)) = timeout(PATIENCE, live.recv()).await? {
        bail!("something is sent still: {}", String::from_utf8_lossy(item.bytes()));
    }
    ensure!(told.contains("blocked") || told.contains("banned"), "{told}");
    timeout(PATIENCE, peer.closed()).await?;
    node.until_disconnected(keys.id()).await?;
    assert!(!is_let_in(&world, &keys, &node).await);
    node.publish(json!({"type": "contact", "contact": keys.id(), "blocking": false})).await?;
    node.until("the block is taken back", |node| !node.context().gate.is_blocked(&keys.id())).await?;
    assert!(is_let_in(&world, &keys, &node).await);
    Ok(())
}

#[tokio::test]
async fn a_new_follow_is_replicated_over_the_connection_that_there_is() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    a.posts(3).await?;
    b.connect(&a).await?;
    let since = |node: &TestNode| {
        let known = node.inner().context().peers.find(&a.id());
        known.and_then(|peer| peer.state_change).context("not connected")
    };
    let before = since(&b)?;
    b.follow(&a).await?;
    b.until_has(a.id(), 3).await?;
    assert_eq!(before.to_bits(), since(&b)?.to_bits(), "it was connected anew");
    Ok(())
}

#[tokio::test]
async fn feeds_are_kept_from_whom_their_authors_block_by_every_way_there_is() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let (author, blocked) = (world.keypair("author"), world.keypair("blocked"));
    let block = json!({"type": "contact", "contact": blocked.id(), "blocking": true});
    node.take_in(feed(&author, &[post("one"), block, post("two")])?).await?;
    node.follow(author.id()).await?;
    let (peer, other) = (dial(&world, &blocked, &node).await?, dial(&world, &world.keypair("other"), &node).await?);
    node.until("the block is known", |node| node.context().social.is_blocking(&author.id(), &blocked.id())).await?;
    assert_eq!((history(&peer, &author.id()).await?, history(&other, &author.id()).await?), (0, 3));
    assert_eq!(history(&peer, &node.id()).await?, 1, "ours isn't kept");

    // By EBT: it says that it has nothing of either feed and wants both.
    for (peer, expected) in [(&peer, false), (&other, true)] {
        let (mut sink, mut source) =
            peer.duplex("ebt.replicate", &json!([{"version": 3, "format": "classic"}])).await?;
        sink.send(Body::json(&json!({ author.id().to_string(): 0, node.id().to_string(): 0 }))?).await?;
        let (mut ours, mut theirs) = (0, 0);
        while ours == 0 || (expected && theirs < 3) {
            let item = timeout(PATIENCE, source.recv()).await?.context("EBT ended")??;
            let item: Value = serde_json::from_slice(item.bytes())?;
            if item["author"] == author.id().to_string() {
                theirs += 1;
            } else if item["author"] == node.id().to_string() {
                ours += 1;
            } else if let Some(note) = item[author.id().to_string()].as_i64() {
                assert_eq!(note >= 0, expected, "whether we say that we have it: {item}");
            }
        }
        assert_eq!(theirs, if expected { 3 } else { 0 });
    }
    Ok(())
}

#[tokio::test]
async fn with_friends_only_strangers_are_not_let_in_and_unfollowed_ones_are_hung_up_on() -> Result<()> {
    let world = World::new()?;
    let node = world.setup("a").change(|config| config.auth.preset = Preset::FriendsOnly).start().await?;
    let friend = world.keypair("friend");
    assert!(!is_let_in(&world, &friend, &node).await);
    node.follow(friend.id()).await?;
    let peer = dial(&world, &friend, &node).await?;
    assert_eq!(history(&peer, &node.id()).await?, 1);
    // It ends with the connection. A feed's stream ends, and well, as soon as the feed is no longer for the peer.
    let mut waiting = peer.source("blobs.changes", &json!([])).await?;
    node.publish(json!({"type": "contact", "contact": friend.id(), "following": false})).await?;
    let told = end_of(&mut waiting).await?;
    ensure!(told.contains("you are stranger, rule "), "{told}");
    timeout(PATIENCE, peer.closed()).await?;
    assert!(!is_let_in(&world, &friend, &node).await);
    // Nor is it dialed, even when the owner says so: the rule does.
    let other = world.node("b").await?;
    let refused = node.connect(&other).await.unwrap_err().to_string();
    ensure!(refused.contains("you are stranger, rule dial: friend and room"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn whom_a_friend_follows_and_rooms_of_the_settings_are_let_in_as_the_rules_say_and_masters_always() -> Result<()>
{
    let world = World::new()?;
    let (friend, vouched, room, master) =
        (world.keypair("friend"), world.keypair("vouched"), world.keypair("room"), world.keypair("master"));
    let setup = world.setup("a").hops(1).change(|config| {
        config.auth.preset = Preset::FriendsOnly;
        config.auth.rooms = vec![room.id()];
        config.masters = vec![master.id()];
        let vouched = Access::from_names(["followed-by-friend", "room"]).unwrap();
        config.auth.rules = ["connect", "manifest"].map(|rule| (rule.to_owned(), vouched)).to_vec();
    });
    let node = setup.start().await?;
    assert!(!is_let_in(&world, &vouched, &node).await);
    node.take_in(feed(&friend, &[json!({"type": "contact", "contact": vouched.id(), "following": true})])?).await?;
    node.follow(friend.id()).await?;
    node.until("a friend follows it", |node| node.context().social.is_followed_by_friend(&vouched.id())).await?;
    assert!(is_let_in(&world, &vouched, &node).await);
    let peer = dial(&world, &vouched, &node).await?;
    assert!(history(&peer, &node.id()).await.is_err(), "it may connect, and not replicate");
    let peer = dial(&world, &room, &node).await?;
    timeout(PATIENCE, peer.call("manifest", &json!([]))).await??;
    assert!(history(&peer, &node.id()).await.is_err());
    assert!(!is_let_in(&world, &world.keypair("stranger"), &node).await);
    // Even one that is blocked: it is the owner's other device.
    node.block(master.id()).await?;
    let peer = dial(&world, &master, &node).await?;
    timeout(PATIENCE, peer.call("whoami", &json!([]))).await??;
    Ok(())
}

#[tokio::test]
async fn in_private_only_our_feed_and_those_that_we_follow_are_given_away() -> Result<()> {
    let world = World::new()?;
    let node = world.setup("a").change(|config| config.auth.preset = Preset::Private).start().await?;
    let (friend, far, asked) = (world.keypair("friend"), world.keypair("far"), world.keypair("asked"));
    let follow = |whom: &Keypair| json!({"type": "contact", "contact": whom.id(), "following": true});
    node.take_in(feed(&friend, &[follow(&far), follow(&asked)])?).await?;
    for keys in [&far, &asked] {
        node.take_in(feed(keys, &[post("from far away")])?).await?;
    }
    node.follow(friend.id()).await?;
    node.until("both are friends", |node| node.context().social.distance(&asked.id()) == Some(2)).await?;
    assert!(!is_let_in(&world, &far, &node).await, "a friend that we don't follow ourselves");
    let peer = dial(&world, &friend, &node).await?;
    node.call("replicate.request", &json!([asked.id(), true])).await?;
    let mut given = Vec::new();
    for keys in [node.id(), friend.id(), far.id(), asked.id()] {
        given.push(history(&peer, &keys).await?);
    }
    assert_eq!(given, [1, 2, 0, 1]);
    let wanted = node.inner().context().replication.wanted();
    assert!(wanted.contains(&asked.id()) && !wanted.contains(&far.id()));
    Ok(())
}

#[tokio::test]
async fn private_messages_are_decrypted_for_no_peer_whatever_it_asks_of_whatever_method() -> Result<()> {
    let world = World::new()?;
    let friend = world.keypair("friend");
    // The most that a config can give away.
    let setup = world.setup("a").change(|config| {
        config.auth.preset = Preset::OpenPub;
        let everyone = Access::from_names(["stranger", "guest", "room"]).unwrap();
        for rule in RULES {
            let mut tried = config.clone();
            tried.auth.rules.push((rule.name.to_owned(), everyone));
            if tried.policy().is_ok() {
                *config = tried;
            }
        }
    });
    let node = setup.start().await?;
    node.follow(friend.id()).await?;
    let published = node.call("private.publish", &json!([post(SECRET), [node.id(), friend.id()]])).await?;
    let opened = node.call("get", &json!([{"id": published["key"], "private": true, "meta": true}])).await?;
    ensure!(opened.to_string().contains(SECRET), "the owner reads it: {opened}");
    let key = opened["value"]["unbox"].as_str().context("no key to this message")?.to_owned();
    let (id, cyphertext) = (published["key"].clone(), published["value"]["content"].clone());
    let all = [
        json!([{"private": true, "old": true, "id": node.id(), "type": "post", "values": true, "limit": 100}]),
        json!([{"private": true, "meta": true, "id": id, "unbox": key}]),
        json!([format!("{}?unbox={key}", id.as_str().unwrap_or_default())]),
        json!([{"source": node.id(), "values": true, "private": true}]),
        json!([cyphertext]),
        json!([published]),
        json!([node.id()]),
    ];
    for keys in [world.keypair("stranger"), friend] {
        let peer = dial(&world, &keys, &node).await?;
        let mut asked = 0;
        for rule in RULES.iter().filter(|rule| rule.is_method && !is_left_out(rule.name)) {
            for args in &all {
                let one = timeout(PATIENCE, peer.call(rule.name, args)).await;
                let told = match one.with_context(|| format!("{} doesn't answer", rule.name))? {
                    Ok(body) => String::from_utf8_lossy(body.bytes()).into_owned(),
                    Err(error) => error.to_string(),
                };
                ensure!(!told.contains(SECRET), "{}: {told}", rule.name);
                if is_ending_stream(rule.name) {
                    let (told, _) = all_of(&peer, rule.name, args).await?;
                    let told = String::from_utf8_lossy(&told);
                    ensure!(!told.contains(SECRET), "{}: {told}", rule.name);
                }
                asked += 1;
            }
        }
        assert!(asked > 300, "{asked} calls");
    }
    Ok(())
}

/// What would take us away, and what answers only when something happens.
fn is_left_out(method: &str) -> bool {
    matches!(
        method,
        "gossip.reconnect"
            | "gossip.disconnect"
            | "conn.disconnect"
            | "gossip.connect"
            | "conn.connect"
            | "blobs.want"
            | "invite.accept"
            | "conn.stop"
            | "gossip.disable"
            | "replicate.block"
            | "ebt.block"
    )
}

fn is_ending_stream(method: &str) -> bool {
    matches!(
        method,
        "createLogStream"
            | "createFeedStream"
            | "createUserStream"
            | "createHistoryStream"
            | "createRawLogStream"
            | "messagesByType"
            | "links"
            | "private.read"
            | "latest"
    )
}

#[tokio::test]
async fn who_calls_without_end_is_slowed_down_and_then_hung_up_on_with_the_budget_as_reason_and_the_owner_never()
-> Result<()> {
    let world = World::new()?;
    let setup = world.setup("a").change(|config| {
        config.auth.budgets =
            Budgets { calls: Some(Budgets::calls_a_second(5)), patience: 1_500, ..Budgets::default() };
    });
    let node = setup.start().await?;
    let peer = dial(&world, &world.keypair("flood"), &node).await?;
    let mut live = peer.source("createHistoryStream", &json!([{"id": node.id(), "live": true}])).await?;
    let mut answered = 0;
    while timeout(PATIENCE, peer.call("manifest", &json!([]))).await?.is_ok() {
        answered += 1;
    }
    let told = end_of(&mut live).await?;
    ensure!(answered >= 499, "{answered} calls were within the budget");
    ensure!(told.contains("over budget: more than 18000 calls an hour, 500 at once"), "{told}");
    timeout(PATIENCE, peer.closed()).await?;
    for _ in 0..answered + 100 {
        node.call("whoami", &json!([])).await?;
    }
    let peer = dial(&world, &world.keypair("another"), &node).await?;
    timeout(PATIENCE, peer.call("manifest", &json!([]))).await??;
    Ok(())
}

#[tokio::test]
async fn an_explanation_says_what_happens() -> Result<()> {
    let world = World::new()?;
    let setup = world.setup("a").change(|config| {
        config.auth.preset = Preset::FriendsOnly;
        let open = Access::from_names(["stranger"]).unwrap();
        for rule in ["connect", "manifest"] {
            config.auth.rules.push((rule.to_owned(), open));
        }
    });
    let node = setup.start().await?;
    let (friend, stranger) = (world.keypair("friend"), world.keypair("stranger"));
    node.follow(friend.id()).await?;
    for keys in [&friend, &stranger] {
        let peer = dial(&world, keys, &node).await?;
        for rule in RULES.iter().filter(|rule| rule.is_method && !is_left_out(rule.name)) {
            let explained = node.call("authorisation.explain", &json!([keys.id(), rule.name])).await?;
            let decision = &explained["decisions"][0];
            let happens = match timeout(PATIENCE, peer.call(rule.name, &json!([]))).await? {
                Err(CallError::Remote(error)) => !error.message.contains("is not in list of allowed methods"),
                _ => true,
            };
            assert_eq!(decision["allowed"], happens, "{decision}");
            let verdict = if happens { "allowed" } else { "refused" };
            ensure!(decision["trace"].as_str().unwrap_or_default().starts_with(verdict), "{decision}");
        }
    }
    let explained = node.call("authorisation.explain", &json!([stranger.id()])).await?;
    let said: Vec<_> =
        explained["decisions"].as_array().context("no list")?.iter().map(|one| &one["question"]).collect();
    assert_eq!(said.len(), RULES.iter().filter(|rule| !rule.is_method).count());
    let hidden = node
        .call("authorisation.explain", &json!([stranger.id(), "createHistoryStream", [{"id": friend.id()}]]))
        .await?;
    assert_eq!(hidden["decisions"][0]["rule"], "createHistoryStream");
    let table = node.call("authorisation.table", &json!([])).await?;
    assert_eq!(table["preset"], "friends only");
    assert_eq!(table["rules"].as_array().map(Vec::len), Some(RULES.len()));
    Ok(())
}

#[tokio::test]
async fn a_blob_that_is_not_for_a_peer_looks_like_one_that_isnt_here() -> Result<()> {
    let world = World::new()?;
    let setup = world.setup("a").change(|config| {
        let friends = Access::from_names(["friend"]).unwrap();
        config.auth.rules = ["blobs.serve", "blobs.large"].map(|rule| (rule.to_owned(), friends)).to_vec();
    });
    let node = setup.start().await?;
    let here = blobs::add(&node, &blobs::bytes(1_000, 1)).await?;
    let absent = blobs::id(&blobs::bytes(1_000, 2));
    let keys = world.keypair("b");
    let server = blobs::Server::new();
    let peer = RawPeer::dial(&world.network(), &keys, &node).await?.session_with(server.registry());
    let mut told = Vec::new();
    for id in [here, absent] {
        let mut answers = Vec::new();
        for args in [json!([id]), json!([[id]])] {
            let answer = timeout(PATIENCE, peer.call("blobs.has", &args)).await??;
            answers.push(String::from_utf8(answer.bytes().to_vec())?);
        }
        for (method, args) in [
            ("blobs.get", json!([id])),
            ("blobs.get", json!([{"key": id}])),
            ("blobs.get", json!([{"key": id, "size": 1_000}])),
            ("blobs.get", json!([{"key": id, "size": 7, "max": 1}])),
            ("blobs.getSlice", json!([{"key": id, "start": 1, "end": 7}])),
            ("blobs.getSlice", json!([{"key": id, "start": 5_000, "end": 7_000}])),
        ] {
            let (bytes, error) = all_of(&peer, method, &args).await?;
            ensure!(bytes.is_empty(), "{method} gives {} bytes", bytes.len());
            answers.push(format!("{error:?}"));
        }
        told.push(answers);
    }
    assert_eq!(told[0], told[1]);
    ensure!(told[0][0] == "false", "{told:?}");

    // Nor do notes tell, whichever of them it wants.
    server.say(json!({here.to_string(): -1, absent.to_string(): -1}));
    let mut notes = peer.source("blobs.createWants", &json!([])).await?;
    let bytes = blobs::bytes(10, 3);
    let third = blobs::id(&bytes);
    server.has(third, json!(10), blobs::Reply::Pieces(blobs::pieces(&bytes, 10)));
    let (wanted, heard) = tokio::join!(blobs::want(&node, &third), async {
        let mut heard = String::new();
        while ![here, absent, third].iter().all(|id| heard.contains(&id.to_string())) {
            let note = timeout(PATIENCE, notes.recv()).await?.context("the notes end")??;
            heard.push_str(&String::from_utf8_lossy(note.bytes()));
        }
        anyhow::Ok(heard)
    });
    wanted?;
    let heard = heard?;
    // Both are looked for on its behalf, and nothing else is said of either.
    for id in [here, absent] {
        ensure!(heard.contains(&format!("\"{id}\":-2")) && heard.matches(&id.to_string()).count() == 1, "{heard}");
    }

    node.follow(keys.id()).await?;
    let (bytes, error) = all_of(&peer, "blobs.get", &json!([here])).await?;
    ensure!(bytes.len() == 1_000 && error.is_none(), "a friend gets it: {error:?}");
    Ok(())
}
