//! What clients and peers get from the methods, over a real log.

#![allow(clippy::unwrap_used)]

mod world;

use bytes::Bytes;
use sbot_feed::{FeedId, Keypair, create_message};
use sbot_rpc::Body;
use serde_json::{Value, json};
use world::{World, next};

fn other() -> Keypair {
    Keypair::from_seed([2; 32])
}

/// Messages of somebody else's, as bytes.
fn feed(keys: &Keypair, contents: &[Value]) -> Vec<Bytes> {
    let mut tip = None;
    let sign = |(n, content): (usize, &Value)| {
        let text = content.to_string();
        let message =
            create_message(keys, None, tip.as_ref(), text.as_bytes(), 1_600_000_000_000.0 + n as f64).unwrap();
        tip = Some((&message).into());
        message.value
    };
    contents.iter().enumerate().map(sign).collect()
}

fn posts(count: usize) -> Vec<Value> {
    (0..count).map(|n| json!({"type": "post", "text": n.to_string()})).collect()
}

fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["value"]["content"]["text"].as_str().unwrap_or("?")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_stream_obeys_its_options() {
    let world = World::new();
    world.ctx.store.ingest(feed(&other(), &posts(5))).await;
    let client = world.owner();
    let all = client.collect("createLogStream", json!([{}])).await.unwrap();
    assert_eq!(texts(&all), ["0", "1", "2", "3", "4"]);
    let log = async |options: Value| client.collect("createLogStream", json!([options])).await.unwrap();
    assert_eq!(texts(&log(json!({"reverse": true, "limit": 2})).await), ["4", "3"]);
    assert_eq!(log(json!({"values": false, "limit": 1})).await, [all[0]["key"].clone()]);
    assert_eq!(log(json!({"keys": false, "limit": 1})).await, [all[0]["value"].clone()]);
    assert_eq!(log(json!({"keys": false, "values": false, "limit": 1})).await, [all[0]["value"].clone()]);
    let third = &all[2]["timestamp"];
    assert_eq!(texts(&log(json!({"gt": third})).await), ["3", "4"]);
    assert_eq!(texts(&log(json!({"gte": third, "lt": all[4]["timestamp"]})).await), ["2", "3"]);
    assert_eq!(texts(&log(json!({"lte": third, "reverse": true})).await), ["2", "1", "0"]);
    assert_eq!(log(json!({"limit": 0})).await, Vec::<Value>::new());
    assert_eq!(
        client.collect("createLogStream", json!([{"limit": "x"}])).await.unwrap_err(),
        "UsageError: .0 of param limit must be of type \"number\""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_stream_marks_where_the_old_part_ends_and_goes_on_without_a_gap() {
    let world = World::new();
    let messages = feed(&other(), &posts(40));
    world.ctx.store.ingest(messages[..10].to_vec()).await;
    let client = world.owner();
    let mut live = client.open("createLogStream", json!([{"live": true, "keys": false}])).await;
    let mut quiet =
        client.open("createUserStream", json!([{"id": other().id(), "live": true, "sync": false, "gt": 8}])).await;
    let mut history = client.open("createHistoryStream", json!([{"id": other().id(), "live": true, "seq": 10}])).await;
    for expected in 0..10 {
        assert_eq!(next(&mut live).await["content"]["text"], expected.to_string());
    }
    assert_eq!(next(&mut live).await, json!({"sync": true}));
    for part in messages[10..].chunks(7) {
        world.ctx.store.ingest(part.to_vec()).await;
    }
    for expected in 10..40 {
        assert_eq!(next(&mut live).await["content"]["text"], expected.to_string());
    }
    for expected in 8..40 {
        assert_eq!(next(&mut quiet).await["value"]["content"]["text"], expected.to_string());
    }
    for expected in 9..40 {
        assert_eq!(next(&mut history).await["value"]["content"]["text"], expected.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_stream_sorts_by_claimed_time_and_shows_it() {
    let world = World::new();
    let (a, b) = (Keypair::from_seed([3; 32]), Keypair::from_seed([4; 32]));
    let sign = |keys, text: &str, time| {
        create_message(keys, None, None, json!({"type": "post", "text": text}).to_string().as_bytes(), time)
            .unwrap()
            .value
    };
    world.ctx.store.ingest(vec![sign(&a, "later", 2000.0), sign(&b, "earlier", 1000.5)]).await;
    world.ctx.store.ingest(vec![sign(&other(), "future", 9e15)]).await;
    let client = world.owner();
    let feed = async |options: Value| client.collect("createFeedStream", json!([options])).await.unwrap();
    let all = feed(json!({})).await;
    assert_eq!(texts(&all), ["earlier", "later", "future"]);
    assert_eq!(all[0]["rts"], 1000.5);
    assert_eq!(all[2]["rts"], all[2]["timestamp"]);
    assert_eq!(texts(&feed(json!({"gt": 2000})).await), ["later", "future"]);
    assert_eq!(texts(&feed(json!({"lte": 2000})).await), ["earlier"]);
    assert_eq!(texts(&feed(json!({"reverse": true, "limit": 1})).await), ["future"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_history_streams_show_one_feed() {
    let world = World::new();
    world.ctx.store.ingest(feed(&other(), &posts(5))).await;
    world.owner().publish(json!({"type": "post", "text": "mine"})).await;
    let client = world.owner();
    let id = other().id().to_string();
    let user = async |mut options: Value| {
        options["id"] = json!(id);
        client.collect("createUserStream", json!([options])).await.unwrap()
    };
    assert_eq!(texts(&user(json!({"gt": 1, "lte": 3})).await), ["1", "2"]);
    assert_eq!(texts(&user(json!({"reverse": true, "lt": 3})).await), ["1", "0"]);
    let history = async |args: Value| client.collect("createHistoryStream", args).await.unwrap();
    assert_eq!(texts(&history(json!([{"id": id, "seq": 4}])).await), ["3", "4"]);
    assert_eq!(texts(&history(json!([{"id": id, "sequence": 2, "limit": 1}])).await), ["1"]);
    assert_eq!(texts(&history(json!([id, 5])).await), ["4"]);
    assert_eq!(history(json!([{"id": id, "seq": 99}])).await, Vec::<Value>::new());
    assert_eq!(history(json!([{"id": "x"}])).await, Vec::<Value>::new());
    assert_eq!(
        client.collect("createUserStream", json!([{}])).await.unwrap_err(),
        "UsageError: Param 0 must have a .id of type \"feedId\""
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn private_messages_show_their_content_only_when_asked_and_count_by_it() {
    let world = World::new();
    let client = world.owner();
    let me = world.keys.id().to_string();
    let sent = client.publish(json!({"type": "secret", "text": "hush", "recps": me, "root": sent_root()})).await;
    let cyphertext = sent["value"]["content"].as_str().unwrap().to_owned();
    assert!(cyphertext.ends_with(".box"));
    let log = async |options: Value| client.collect("createLogStream", json!([options])).await.unwrap();
    assert_eq!(log(json!({})).await, std::slice::from_ref(&sent));

    let shown = &log(json!({"private": true})).await[0]["value"];
    let plain = json!({"type": "secret", "text": "hush", "recps": [me], "root": sent_root()});
    assert_eq!(shown["content"], plain);
    assert_eq!(shown["meta"]["original"]["content"], json!(cyphertext));
    assert_eq!((&shown["cyphertext"], &shown["private"]), (&json!(cyphertext), &json!(true)));
    assert_eq!(shown["unbox"], shown["meta"]["unbox"]);
    let keys: Vec<_> = order_of_keys(&client.text("get", json!([{"id": sent["key"], "private": true}])).await);
    let expected = "previous sequence author timestamp hash content signature meta cyphertext private unbox";
    assert_eq!(keys.join(" "), expected);

    let key = &sent["key"];
    assert_eq!(client.call("get", json!([key])).await.unwrap()["content"], json!(cyphertext));
    let link = format!("{}?unbox={}", key.as_str().unwrap(), shown["unbox"].as_str().unwrap().replace('+', "%2B"));
    assert_eq!(client.call("get", json!([link])).await.unwrap()["content"], plain);
    assert_eq!(client.collect("messagesByType", json!(["secret"])).await.unwrap(), std::slice::from_ref(&sent));
    assert_eq!(client.collect("links", json!([{"rel": "root"}])).await.unwrap().len(), 1);
    assert_eq!(client.collect("private.read", json!([{}])).await.unwrap()[0]["value"]["content"], plain);
    assert_eq!(client.call("private.unbox", json!([cyphertext])).await.unwrap(), plain);
    assert_eq!(client.call("private.unbox", json!([sent])).await.unwrap()["value"]["private"], true);
    assert_eq!(client.call("private.unbox", json!(["x"])).await.unwrap(), false);
}

fn sent_root() -> &'static str {
    "%yJslVqIaRU7jTybjkjyT6Aw776WJjp3r5PXw4AzM2NA=.sha256"
}

fn order_of_keys(text: &str) -> Vec<String> {
    let document = sbot_feed::json::parse(text.as_bytes()).unwrap();
    document.root().entries().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_answers_the_message_and_refuses_what_is_none() {
    let world = World::new();
    let client = world.owner();
    let first = client.publish(json!({"type": "post", "text": "one"})).await;
    let second = client.publish(json!({"type": "post", "text": "two"})).await;
    assert_eq!(second["value"]["previous"], first["key"]);
    assert_eq!(second["value"]["sequence"], 2);
    for (content, refusal) in [
        (json!({}), "Error: type must be a string3 <= type.length < 52, was:undefined"),
        (json!(5), "Error: invalid message content, must be object or encrypted string"),
        (json!("x"), "Error: invalid message content, must be object or encrypted string"),
        (json!(null), "UsageError: Param 0 is required"),
        (
            json!({"type": "post", "text": "x".repeat(9000)}),
            "Error: Encoded message must not be larger than 8192 bytes. Current size is 9",
        ),
    ] {
        let error = client.call("publish", json!([content])).await.unwrap_err();
        assert!(error.starts_with(refusal), "{error}");
    }
    assert_eq!(client.call("latestSequence", json!([world.keys.id()])).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn add_takes_what_follows_and_says_why_not_otherwise() {
    let world = World::new();
    let client = world.owner();
    let messages = feed(&other(), &posts(3));
    let add = async |message: &[u8]| client.call_text("add", message).await;
    assert_eq!(
        add(&messages[1]).await.unwrap_err(),
        format!("initial message must have previous: null, on feed:{}", other().id())
    );
    let added = add(&messages[0]).await.unwrap();
    assert_eq!(added["value"], serde_json::from_slice::<Value>(&messages[0]).unwrap());
    let error = add(&messages[0]).await.unwrap_err();
    assert!(error.starts_with("invalid message: expected sequence 2 but got:1in state:{\"id\":\"%"), "{error}");
    assert!(error.ends_with(&format!("\"queue\":[]}}, on feed:{}", other().id())), "{error}");
    assert_eq!(add(b"{}").await.unwrap_err(), "Param 0 must have a .content of type \"object|string\"");
    let forged = String::from_utf8(messages[1].to_vec()).unwrap().replace("\"text\":\"1\"", "\"text\":\"2\"");
    assert!(add(forged.as_bytes()).await.unwrap_err().contains("signature"));
    add(&messages[1]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_found_from_either_end_in_the_order_of_their_index() {
    let world = World::new();
    let client = world.owner();
    let (me, id) = (world.keys.id().to_string(), other().id().to_string());
    let one = client.publish(json!({"type": "contact", "contact": id, "following": true})).await;
    let two =
        client.publish(json!({"type": "post", "text": "x", "root": one["key"], "mentions": [{"link": id}, id]})).await;
    let links = async |options: Value| client.collect("links", json!([options])).await.unwrap();
    let contact = json!({"source": me, "rel": "contact", "dest": id, "key": one["key"]});
    let mention = json!({"source": me, "rel": "mentions", "dest": id, "key": two["key"]});
    let root = json!({"source": me, "rel": "root", "dest": one["key"], "key": two["key"]});
    assert_eq!(links(json!({})).await, [contact.clone(), mention.clone(), root.clone()]);
    assert_eq!(links(json!({"reverse": true, "source": me})).await, [root.clone(), mention.clone(), contact.clone()]);
    assert_eq!(links(json!({"dest": id})).await, [contact.clone(), mention.clone()]);
    assert_eq!(links(json!({"dest": "%"})).await, std::slice::from_ref(&root));
    assert_eq!(links(json!({"source": "@", "rel": "root", "meta": false})).await, [two["key"].clone()]);
    assert_eq!(
        links(json!({"rel": "root", "meta": false, "keys": false, "values": true})).await,
        [two["value"].clone()]
    );
    assert_eq!(
        client.collect("links", json!([{"source": "x"}])).await.unwrap_err(),
        "UsageError: .0 of param source must be of type \"id|filter\""
    );
    let mut live = client.open("links", json!([{"dest": me, "live": true}])).await;
    assert_eq!(next(&mut live).await, json!({"sync": true}));
    let three = client.publish(json!({"type": "about", "about": me, "name": "n"})).await;
    assert_eq!(next(&mut live).await, json!({"source": me, "rel": "about", "dest": me, "key": three["key"]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_gets_nothing_from_the_message_on_that_blocks_it() {
    let world = World::new();
    let blocked = Keypair::from_seed([9; 32]).id();
    let mut contents = posts(2);
    contents.push(json!({"type": "contact", "contact": blocked, "blocking": true}));
    contents.extend(posts(1));
    let messages = feed(&other(), &contents);
    world.ctx.store.ingest(messages[..2].to_vec()).await;
    let peer = world.stranger(blocked);
    let mut live = peer.open("createHistoryStream", json!([{"id": other().id(), "live": true, "keys": false}])).await;
    assert_eq!(next(&mut live).await["sequence"], 1);
    assert_eq!(next(&mut live).await["sequence"], 2);
    world.ctx.store.ingest(messages[2..].to_vec()).await;
    assert!(live.recv().await.is_none());
    assert_eq!(world.owner().collect("createHistoryStream", json!([{"id": other().id()}])).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_may_ask_for_histories_and_little_else() {
    let world = World::new();
    let peer = world.stranger(other().id());
    assert_eq!(peer.collect("createHistoryStream", json!([{"id": other().id()}])).await.unwrap(), Vec::<Value>::new());
    for method in ["whoami", "publish", "get", "gossip.peers", "blobs.rm"] {
        assert!(peer.call(method, json!([])).await.is_err(), "{method}");
    }
    assert!(peer.collect("createLogStream", json!([])).await.is_err());
    assert!(peer.call("manifest", json!([])).await.unwrap()["createHistoryStream"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_has_a_rule_and_a_line_in_the_docs() {
    let docs = include_str!("../../../../docs/rpc.md");
    let world = World::new();
    for (method, _) in sbot::api::registry(&world.ctx, |methods| methods).methods() {
        assert!(sbot_authorisation::rule_of(method).is_some(), "{method}");
        let documented = [format!("`{method}`"), format!("`{method}(")];
        assert!(documented.iter().any(|name| docs.contains(name)), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_are_added_and_removed_by_their_addresses() {
    let world = World::new();
    let client = world.owner();
    assert_eq!(client.call("hubs.ls", json!([])).await, Ok(json!([])));
    assert_eq!(client.call("hubs.add", json!(["https://HUB.example:443/"])).await, Ok(json!(true)));
    assert_eq!(client.call("hubs.remove", json!(["hub.example"])).await, Ok(json!(true)));
    for (wrong, why) in [
        (json!(["https://full.example"]), "one too many"),
        (json!([]), "Param 0 is required"),
        (json!([5]), "5 is no address of a hub"),
        (json!(["https://me@hub.example"]), "a user or password has no place in it"),
        (json!(["ftp://hub.example"]), "expected http or https"),
    ] {
        let error = client.call("hubs.add", wrong).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    assert!(world.stranger(other().id()).call("hubs.ls", json!([])).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_graph_follows_what_is_published() {
    let world = World::new();
    let client = world.owner();
    let (me, friend) = (world.keys.id().to_string(), other().id().to_string());
    let far = FeedId([5; 32]).to_string();
    world.ctx.store.ingest(feed(&other(), &[json!({"type": "contact", "contact": far, "following": true})])).await;
    let mut hops = client.open("friends.hopStream", json!([{"live": true}])).await;
    assert_eq!(next(&mut hops).await, json!({ me.clone(): 0 }));
    client.publish(json!({"type": "contact", "contact": friend, "following": true})).await;
    let mut seen = serde_json::Map::new();
    while seen.len() < 2 {
        seen.extend(next(&mut hops).await.as_object().unwrap().clone());
    }
    assert_eq!(Value::Object(seen), json!({ friend.clone(): 1, far.clone(): 2 }));
    let ends = json!([{"source": me, "dest": friend}]);
    assert_eq!(client.call("friends.isFollowing", ends.clone()).await.unwrap(), true);
    assert_eq!(client.call("friends.get", ends.clone()).await.unwrap(), true);
    assert_eq!(
        client.call("friends.hops", json!([{"max": 1}])).await.unwrap(),
        json!({ me.clone(): 0, friend.clone(): 1 })
    );
    assert_eq!(
        client.call("friends.hops", json!([{"start": far, "reverse": true, "max": 1}])).await.unwrap(),
        json!({ far.clone(): 0, friend.clone(): 1 })
    );
    client.publish(json!({"type": "contact", "contact": friend, "blocking": true})).await;
    assert_eq!(next(&mut hops).await, json!({ friend.clone(): -1 }));
    assert_eq!(client.call("friends.isBlocking", ends).await.unwrap(), true);
    assert_eq!(client.call("auth", json!([friend])).await.unwrap_err(), "Error: client is blocked");
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_stored_sliced_listed_and_waited_for() {
    let world = World::new();
    let client = world.owner();
    let id = "&pQazhWBAfFoj+J7SrJu2D6N3BeGnnSVdz1oqE52AYdo=.sha256";
    let pieces = ["hello ".repeat(10), "world".into()].map(|text| Body::Binary(Bytes::from(text)));
    let mut wants = client.open("blobs.createWants", json!([])).await;
    assert_eq!(next(&mut wants).await, json!({}));
    let want = async { client.call("blobs.want", json!([id])).await.unwrap() };
    let add = async {
        assert_eq!(next(&mut wants).await, json!({ id: -1 }));
        client.pour("blobs.add", json!([]), &pieces).await.unwrap();
        assert_eq!(next(&mut wants).await, json!({ id: 65 }));
    };
    assert_eq!(tokio::join!(want, add).0, true);
    assert_eq!(
        client.call("blobs.has", json!([[id, "&AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256"]])).await.unwrap(),
        json!([true, false])
    );
    assert_eq!(client.call("blobs.size", json!([id])).await.unwrap(), 65);
    assert_eq!(client.collect("blobs.ls", json!([])).await.unwrap(), [json!(id)]);
    assert_eq!(
        client.collect("blobs.getSlice", json!([{"id": id, "start": 60, "end": 99}])).await.unwrap(),
        [json!("world")]
    );
    assert_eq!(client.collect("blobs.get", json!([id])).await.unwrap().len(), 1);
    let wrong =
        client.pour("blobs.add", json!(["&AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256"]), &pieces).await;
    assert!(wrong.is_err());
    assert_eq!(client.call("blobs.rm", json!([id])).await.unwrap(), false);
    assert_eq!(client.call("blobs.has", json!([id])).await.unwrap(), false);
    assert_eq!(client.collect("blobs.get", json!([id])).await.unwrap_err(), "Error: could not get blob");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_was_sent_whole_is_kept_though_the_client_leaves_at_once() {
    let world = World::new();
    let id = "&pQazhWBAfFoj+J7SrJu2D6N3BeGnnSVdz1oqE52AYdo=.sha256";
    let owner = world.owner();
    let want = async { owner.call("blobs.want", json!([id])).await.unwrap() };
    let pieces = ["hello ".repeat(10), "world".into()].map(|text| Body::Binary(Bytes::from(text)));
    let add = async {
        let client = world.owner();
        client.pour_and_leave("blobs.add", &pieces).await;
        client.closed().await;
    };
    assert_eq!(tokio::join!(want, add).0, true);
    owner.call("blobs.rm", json!([id])).await.unwrap();
    // asked on the same connection, before the sink has ended
    let mut sink = owner.sink("blobs.add", json!([])).await;
    sink.send_many(pieces.to_vec()).await.unwrap();
    drop(sink);
    assert_eq!(owner.call("blobs.has", json!([id])).await.unwrap(), true);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_gives_an_account_of_every_message() {
    let world = World::new();
    let messages = feed(&other(), &posts(3));
    let items = [&messages[0], &messages[0], &messages[2], &messages[1]].map(|message| Body::Json(message.clone()));
    let (mut sink, mut source) = world.owner().duplex("sbot.import", json!([])).await;
    sink.send_many(items.to_vec()).await.unwrap();
    drop(sink);
    let (mut stored, mut duplicate, mut refused) = (0, 0, 0);
    while let Some(account) = source.recv().await {
        let account: Value = serde_json::from_slice(account.unwrap().bytes()).unwrap();
        stored += account["stored"].as_u64().unwrap();
        duplicate += account["duplicate"].as_u64().unwrap();
        for refusal in account["refused"].as_array().unwrap() {
            refused += 1;
            assert_eq!(refusal["item"], 2);
        }
    }
    assert_eq!((stored, duplicate, refused), (2, 1, 1));
}
