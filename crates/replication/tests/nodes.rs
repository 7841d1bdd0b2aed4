//! Replicators over real logs and in-memory connections.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use common::{Node, author, connect, eventually, messages};
use sbot_replication::{Event, Options};
use sbot_rpc::{Body, Limits, Registry, Session};

fn node(number: u8) -> Node {
    Node::new(number, Options::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn feeds_that_both_want_are_exchanged_both_ways_and_others_are_not() {
    let (one, two) = (node(0), node(1));
    for number in 2..30 {
        let source = if number % 2 == 0 { &one } else { &two };
        source.import(&messages(&author(number), 40, "")).await;
    }
    one.import(&messages(&author(40), 3, "")).await;
    let shared: Vec<u8> = (0..30).collect();
    one.want(&shared);
    two.want(&shared);
    one.want(&[40]);
    let _wire = connect(&one, &two, true);
    for number in 2..30 {
        one.until(number, 40).await;
        two.until(number, 40).await;
    }
    assert_eq!(two.have(40), 0);
    assert_eq!((one.store.len(), two.store.len()), (28 * 40 + 3, 28 * 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_goes_on_at_once_over_several_nodes() {
    let nodes: Vec<Node> = (0..4).map(node).collect();
    let written = messages(&author(0), 30, "");
    let mut wires = Vec::new();
    for node in &nodes {
        node.want(&[0, 1, 2, 3]);
    }
    for pair in nodes.windows(2) {
        wires.push(connect(&pair[0], &pair[1], true));
    }
    for message in &written {
        nodes[0].store.append_own(message.clone()).await.unwrap();
        nodes[3].until(0, message.sequence).await;
    }
    let live = std::time::Instant::now();
    nodes[2].store.append_own(messages(&author(2), 1, "").remove(0)).await.unwrap();
    nodes[0].until(2, 1).await;
    assert!(live.elapsed() < std::time::Duration::from_secs(2), "{:?} for one message", live.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_connection_brings_only_what_is_new() {
    let (one, two) = (node(0), node(1));
    let written = messages(&author(5), 20, "");
    one.import(&written[..10]).await;
    one.want(&[5]);
    two.want(&[5]);
    let wire = connect(&one, &two, true);
    two.until(5, 10).await;
    wire.close().await;
    eventually("clocks are saved", || one.clocks.knows(&two.id) && two.clocks.knows(&one.id)).await;
    one.import(&written[10..]).await;
    let _wire = connect(&two, &one, true);
    two.until(5, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_becomes_wanted_on_an_open_connection_comes() {
    let (one, two) = (node(0), node(1));
    one.import(&messages(&author(5), 7, "")).await;
    let _wire = connect(&one, &two, true);
    one.want(&[5]);
    let mut changes = two.replicator.wanted_changes();
    two.want(&[5]);
    two.until(5, 7).await;
    assert_eq!(changes.recv().await.unwrap(), (author(5).id(), true));
    let status = two.replicator.peer_status(&author(5).id());
    assert_eq!(status.iter().map(|(peer, status)| (*peer, status.sequence)).collect::<Vec<_>>(), [(one.id, Some(7))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forked_feed_is_told_and_stops_alone() {
    let (one, two) = (node(0), node(1));
    one.import(&messages(&author(5), 9, "this")).await;
    two.import(&messages(&author(5), 4, "other")).await;
    one.import(&messages(&author(6), 50, "")).await;
    one.want(&[5, 6]);
    two.want(&[5, 6]);
    let mut events = two.replicator.events();
    let wire = connect(&one, &two, true);
    let event = events.recv().await.unwrap();
    assert_eq!(event, Event::Forked { feed: author(5).id(), peer: one.id, sequence: 5 });
    two.until(6, 50).await;
    assert_eq!(two.have(5), 4);
    assert_eq!(two.store.forks().len(), 1);
    one.store.append_own(messages(&author(0), 1, "").remove(0)).await.unwrap();
    two.want(&[0]);
    one.want(&[0]);
    two.until(0, 1).await;
    wire.close().await;
}

/// Speaks EBT by hand: notes first, then these items.
async fn speak(node: &Node, number: u8, notes: String, items: Vec<Body>) -> sbot_rpc::Peer {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let id = author(number).id();
    let (replicator, caller) = (node.replicator.clone(), id);
    let registry = Registry::new().duplex("ebt.replicate", move |call: sbot_rpc::Call<()>, inlet, outlet| {
        let replicator = replicator.clone();
        async move { replicator.serve(caller, &call.args, inlet, outlet).await }
    });
    let (read, write) = tokio::io::split(ours);
    let served = Session::spawn(read, write, registry.into(), (), Limits::REMOTE);
    let (replicator, handle) = (node.replicator.clone(), served.clone());
    tokio::spawn(async move { replicator.connected(id, handle, false).await });
    let (read, write) = tokio::io::split(theirs);
    let peer = Session::spawn(read, write, Registry::<()>::new().into(), (), Limits::REMOTE);
    let (mut sink, mut source) =
        peer.duplex("ebt.replicate", &serde_json::json!([{"version": 3, "format": "classic"}])).await.unwrap();
    source.recv().await.unwrap().unwrap();
    sink.send(Body::Json(notes.into())).await.unwrap();
    sink.send_many(items).await.unwrap();
    tokio::spawn(async move { while let Some(Ok(_)) = source.recv().await {} });
    // the stream stays open
    std::mem::forget(sink);
    peer
}

fn bodies(messages: &[sbot_feed::Message]) -> Vec<Body> {
    messages.iter().map(|message| Body::Json(message.value.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_signature_in_the_middle_stops_the_feed_there_and_nothing_else() {
    let two = node(1);
    two.want(&[5, 6]);
    let mut written = bodies(&messages(&author(5), 20, ""));
    let text = String::from_utf8(written[9].bytes().to_vec()).unwrap();
    written[9] = Body::Json(text.replace(" 10\"", " ten\"").into());
    written.extend(bodies(&messages(&author(6), 30, "")));
    let mut events = two.replicator.events();
    let notes = format!("{{\"{}\":40,\"{}\":60}}", author(5).id(), author(6).id());
    let peer = speak(&two, 0, notes, written).await;
    two.until(6, 30).await;
    assert_eq!(two.have(5), 9);
    let event = events.recv().await.unwrap();
    assert!(matches!(event, Event::Invalid { sequence: 10, .. }), "{event:?}");
    assert!(!peer.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_messages_in_disorder_do_no_harm() {
    let two = node(1);
    two.want(&[5]);
    let written = bodies(&messages(&author(5), 6, ""));
    let mut items = vec![
        Body::Json("{\"@x\":".into()),
        Body::Binary("????".into()),
        Body::Json("{\"previous\":null}".into()),
        Body::Json("[1,2]".into()),
        Body::String("hello".into()),
    ];
    items.extend([3, 0, 0, 1, 5, 2, 3, 4, 5].map(|at: usize| written[at].clone()));
    items.extend(bodies(&messages(&author(9), 3, "")));
    let notes = format!("{{\"{}\":12,\"@nobody\":4,\"{}\":\"7\"}}", author(5).id(), author(6).id());
    let peer = speak(&two, 0, notes, items).await;
    two.until(5, 6).await;
    assert_eq!(two.have(9), 0, "nobody asked for it");
    assert!(!peer.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_strange_items_end_the_stream_but_not_the_connection() {
    let two = node(1);
    let flood = vec![Body::Json("[]".into()); 20_000];
    let peer = speak(&two, 0, "{}".into(), flood).await;
    eventually("the stream ends", || two.replicator.peers().is_empty()).await;
    assert!(!peer.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_versions_and_formats_are_refused() {
    let two = node(1);
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (replicator, caller) = (two.replicator.clone(), author(0).id());
    let registry = Registry::new().duplex("ebt.replicate", move |call: sbot_rpc::Call<()>, inlet, outlet| {
        let replicator = replicator.clone();
        async move { replicator.serve(caller, &call.args, inlet, outlet).await }
    });
    let (read, write) = tokio::io::split(ours);
    Session::spawn(read, write, registry.into(), (), Limits::REMOTE);
    let (read, write) = tokio::io::split(theirs);
    let peer = Session::spawn(read, write, Registry::<()>::new().into(), (), Limits::REMOTE);
    for args in ["[]", "[{}]", "[{\"version\":2}]", "[3]", "[{\"version\":3,\"format\":\"bendybutt-v1\"}]"] {
        let args: serde_json::Value = serde_json::from_str(args).unwrap();
        let (_sink, mut source) = peer.duplex("ebt.replicate", &args).await.unwrap();
        let error = source.recv().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("ebt.replicate"), "{args}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_ebt_is_asked_for_histories_and_so_are_we() {
    let legacy = Options { ebt: false, ..Options::default() };
    for (here, there) in [(Options::default(), legacy), (legacy, Options::default()), (legacy, legacy)] {
        let (one, two) = (Node::new(0, here), Node::new(1, there));
        let written = messages(&author(30), 3, "");
        for number in 2..30 {
            let source = if number % 2 == 0 { &one } else { &two };
            source.import(&messages(&author(number), 40, "")).await;
        }
        let shared: Vec<u8> = (0..31).collect();
        one.want(&shared);
        two.want(&shared);
        let _wire = connect(&one, &two, false);
        for number in 2..30 {
            one.until(number, 40).await;
            two.until(number, 40).await;
        }
        // and live
        one.import(&written[..1]).await;
        two.until(30, 1).await;
        two.import(&written[1..]).await;
        one.until(30, 3).await;
        one.store.append_own(messages(&author(0), 1, "").remove(0)).await.unwrap();
        two.until(0, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_before_our_own_feed_is_complete() {
    let (one, two) = (node(0), node(1));
    let written = messages(&author(1), 12, "");
    one.import(&written).await;
    two.import(&written[..5]).await;
    one.want(&[1]);
    assert_eq!(two.replicator.may_publish(), Ok(()));
    let mut events = two.replicator.events();
    let _wire = connect(&one, &two, true);
    assert_eq!(events.recv().await.unwrap(), Event::OwnFeedAhead { peer: one.id, claimed: 12, have: 5 });
    assert_eq!(events.recv().await.unwrap(), Event::OwnFeedTakenIn { have: 12 });
    assert_eq!(two.replicator.may_publish(), Ok(()));
    assert_eq!(two.have(1), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_we_block_is_disconnected_and_one_that_an_author_blocks_gets_nothing_of_it() {
    let (one, two) = (node(0), node(1));
    one.import(&messages(&author(5), 4, "")).await;
    one.import(&messages(&author(6), 4, "")).await;
    one.want(&[5, 6]);
    two.want(&[5, 6]);
    one.replicator.block(&author(5).id(), &two.id, true);
    let wire = connect(&one, &two, true);
    two.until(6, 4).await;
    assert_eq!(two.have(5), 0);
    one.replicator.block(&one.id, &two.id, true);
    wire.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_connection_with_the_same_peer_takes_over() {
    let (one, two) = (node(0), node(1));
    one.want(&[5]);
    two.want(&[5]);
    let _old = connect(&one, &two, true);
    eventually("the first one speaks", || two.replicator.peers() == [one.id]).await;
    let _new = connect(&one, &two, true);
    one.import(&messages(&author(5), 9, "")).await;
    two.until(5, 9).await;
    assert_eq!(two.replicator.peers(), [one.id]);
}
