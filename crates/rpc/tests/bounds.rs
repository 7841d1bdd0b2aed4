//! What a session does when somebody doesn't read, asks for too much, or leaves.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::BytesMut;
use sbot_rpc::codec::{self, Decoded, Packet};
use sbot_rpc::{Body, CallError, Client, Kind, Limits, Manifest, Peer, Registry, RpcError, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

fn json(text: &str) -> Body {
    Body::Json(text.to_owned().into())
}

const NONE: &[(); 0] = &[];

fn registry() -> Registry<()> {
    Registry::new()
        .sync("whoami", |_| async { Ok(json("1")) })
        .asynchronous("never", |_| std::future::pending())
        .asynchronous("large", |_| async { Ok(Body::Binary(vec![7; 3 << 20].into())) })
        .asynchronous("panics", |_| -> std::future::Ready<Result<Body, RpcError>> { panic!("on purpose") })
        .source("count", |call, mut out| async move {
            let to: u64 = call.arg(0)?.unwrap_or(u64::MAX);
            for at in 0..to {
                if out.send(json(&at.to_string())).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
        .sink("ignore", |_, input| async move {
            let _input = input;
            std::future::pending().await
        })
        // answers when all has come, as `sbot.import` does
        .duplex("sum", |_, mut input, mut out| async move {
            let mut count = 0;
            while let Some(Ok(_)) = input.recv().await {
                count += 1;
            }
            tokio::task::yield_now().await;
            out.send(json(&count.to_string())).await.map_err(|error| RpcError::new(error.to_string()))
        })
        // never looks at what comes
        .duplex("shout", |_, input, mut out| async move {
            drop(input);
            while out.send(json("1")).await.is_ok() {}
            Ok(())
        })
}

fn spawn(stream: DuplexStream, registry: Registry<()>, limits: Limits) -> Peer {
    let (read, write) = tokio::io::split(stream);
    Session::spawn(read, write, Arc::new(registry), (), limits)
}

fn pair() -> (Peer, Peer) {
    let (here, there) = tokio::io::duplex(8192);
    (spawn(here, registry(), Limits::REMOTE), spawn(there, registry(), Limits::REMOTE))
}

/// A peer whose bytes the test writes itself.
fn raw(limits: Limits) -> (Peer, DuplexStream) {
    let (here, there) = tokio::io::duplex(1 << 16);
    (spawn(here, registry(), limits), there)
}

fn request(number: i32, stream: bool, body: &str) -> Packet {
    Packet { request: number, stream, end: false, body: json(body) }
}

async fn write(wire: &mut DuplexStream, packet: &Packet) {
    let mut out = BytesMut::new();
    codec::encode(packet, &mut out);
    wire.write_all(&out).await.unwrap();
}

async fn read(wire: &mut DuplexStream, input: &mut BytesMut) -> Packet {
    loop {
        match codec::decode(input, 1 << 22).unwrap() {
            Decoded::Packet(packet) => return packet,
            Decoded::Goodbye => panic!("goodbye"),
            Decoded::Incomplete => assert!(wire.read_buf(input).await.unwrap() > 0, "hung up"),
        }
    }
}

async fn all_calls_end(peers: [&Peer; 2]) {
    while peers.iter().any(|peer| peer.counters().open > 0) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_duplex_can_answer_after_the_caller_has_said_all() {
    let (a, b) = pair();
    let (mut sink, mut source) = a.duplex("sum", NONE).await.unwrap();
    sink.send_many(vec![json("0"); 5000]).await.unwrap();
    drop(sink);
    assert_eq!(source.recv().await, Some(Ok(json("5000"))));
    assert_eq!(source.recv().await, None);
    drop(source);
    all_calls_end([&a, &b]).await;
}

#[tokio::test]
async fn a_duplex_that_does_not_listen_stops_when_the_caller_ends() {
    let (a, b) = pair();
    let (sink, mut source) = a.duplex("shout", NONE).await.unwrap();
    assert_eq!(source.recv().await, Some(Ok(json("1"))));
    drop(sink);
    while source.recv().await.is_some() {}
    drop(source);
    all_calls_end([&a, &b]).await;
}

#[tokio::test]
async fn a_call_for_each_item_of_a_long_stream_goes_through() {
    let (a, _b) = pair();
    let mut source = a.source("count", &[20_000]).await.unwrap();
    let mut count = 0;
    while let Some(item) = source.recv().await {
        item.unwrap();
        a.call("whoami", NONE).await.unwrap();
        count += 1;
    }
    assert_eq!(count, 20_000);
}

// With time paused, a sleep ends when nothing else is left to do.
#[tokio::test(start_paused = true)]
async fn a_stream_that_holds_up_an_answer_for_good_is_given_up() {
    let (a, b) = pair();
    let mut source = a.source("count", NONE).await.unwrap();
    // The answer is behind more than there is room for, as the stream never ends.
    source.recv().await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(a.call("whoami", NONE).await, Ok(json("1")));
    let (mut sink, mut other) = a.duplex("sum", NONE).await.unwrap();
    sink.send(json("1")).await.unwrap();
    drop(sink);
    assert_eq!(other.recv().await, Some(Ok(json("1"))));
    assert!(matches!(source.recv().await, Some(Err(CallError::Ended(_)))));
    assert_eq!(source.recv().await, None);
    drop((source, other));
    while a.counters().open > 0 || b.counters().open > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_not_read_stops_its_sender_and_not_for_ever_the_others() {
    let (a, _b) = pair();
    let mut sink = a.sink("ignore", NONE).await.unwrap();
    let full = async { while sink.send(Body::Binary(vec![0; 10_000].into())).await.is_ok() {} };
    assert!(tokio::time::timeout(Duration::from_secs(1), full).await.is_err());
    assert!(a.counters().bytes_out < 2 << 20);
    assert_eq!(a.call("whoami", NONE).await, Ok(json("1")));
    assert!(matches!(sink.end().await, Err(CallError::Remote(_))));
}

#[tokio::test]
async fn large_answers_both_ways_pass_each_other() {
    let (a, b) = pair();
    let ask = |peer: Peer| async move {
        for _ in 0..5 {
            assert_eq!(peer.call("large", NONE).await.unwrap().len(), 3 << 20);
        }
    };
    tokio::join!(ask(a.clone()), ask(a.clone()), ask(b.clone()), ask(b.clone()));
}

#[tokio::test]
async fn a_caller_that_stops_waiting_leaves_nothing_behind() {
    let (a, b) = pair();
    let waited = tokio::time::timeout(Duration::from_millis(10), a.call("never", NONE)).await;
    assert!(waited.is_err());
    assert_eq!(a.counters().open, 0);
    assert_eq!(a.call("whoami", NONE).await, Ok(json("1")));
    b.close("enough");
    a.gone().await;
    b.gone().await;
}

#[tokio::test]
async fn a_handler_that_panics_before_it_starts_is_one_failed_call() {
    let (a, _b) = pair();
    assert_eq!(a.call("panics", NONE).await.unwrap_err().to_string(), "panics: internal error");
    assert_eq!(a.call("whoami", NONE).await, Ok(json("1")));
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_and_the_connection_stays() {
    let limits = Limits { max_requests: 2, ..Limits::REMOTE };
    let (here, there) = tokio::io::duplex(8192);
    let (a, _b) = (spawn(here, registry(), limits), spawn(there, registry(), limits));
    let (never, also) = (a.call("never", NONE), a.source("count", NONE));
    let mut source = also.await.unwrap();
    source.recv().await.unwrap().unwrap();
    let second = async {
        tokio::task::yield_now().await;
        let error = a.call("whoami", NONE).await.unwrap_err();
        assert!(error.to_string().starts_with("too many requests"), "{error}");
        drop(source);
        while a.call("whoami", NONE).await.is_err() {}
    };
    tokio::select! {
        biased;
        _ = never => panic!("it never answers"),
        () = second => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_asks_and_never_reads_is_cut_off() {
    let (peer, mut wire) = raw(Limits { max_requests: 1, ..Limits::REMOTE });
    let flood = async {
        let mut number = 0;
        loop {
            number += 1;
            let mut out = BytesMut::new();
            codec::encode(&request(number, false, "{\"name\":[\"never\"],\"args\":[]}"), &mut out);
            if wire.write_all(&out).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(flood, async {
        assert_eq!(peer.closed().await, "the other side asks for too much and doesn't read the answers");
    });
}

#[tokio::test]
async fn items_sent_to_a_source_are_dropped() {
    let (peer, mut wire) = raw(Limits::REMOTE);
    write(&mut wire, &request(1, true, "{\"name\":[\"count\"],\"args\":[1],\"type\":\"source\"}")).await;
    for _ in 0..5000 {
        write(&mut wire, &request(1, true, "\"what nobody asked for\"")).await;
    }
    let mut input = BytesMut::new();
    assert_eq!(read(&mut wire, &mut input).await.body, json("0"));
    let end = read(&mut wire, &mut input).await;
    assert_eq!((end.request, end.end, end.body), (-1, true, json("true")));
    assert_eq!(peer.counters().open, 1);
    write(&mut wire, &Packet { end: true, ..request(1, true, "true") }).await;
    while peer.counters().open > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn few_streams_that_nobody_reads_prepare_something_large() {
    let (in_turn, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, at_most) = (Arc::clone(&in_turn), Arc::clone(&most));
    let registry = Registry::new().source("pieces", move |_, mut out| {
        let (now, at_most) = (Arc::clone(&now), Arc::clone(&at_most));
        async move {
            for _ in 0..3 {
                let Ok(_turn) = out.turn().await else { break };
                at_most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
                let sent = out.send_many(vec![Body::Binary(vec![7; 100_000].into()); 5]).await;
                now.fetch_sub(1, Relaxed);
                if sent.is_err() {
                    break;
                }
            }
            Ok(())
        }
    });
    let (here, mut wire) = tokio::io::duplex(1 << 16);
    let _peer = spawn(here, registry, Limits::REMOTE);
    for number in 1..=40 {
        write(&mut wire, &request(number, true, "{\"name\":[\"pieces\"],\"args\":[],\"type\":\"source\"}")).await;
    }
    // One that waits for its turn is wanted no more: it ends, and takes nobody's turn with it.
    write(&mut wire, &Packet { end: true, ..request(40, true, "true") }).await;
    while in_turn.load(Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    let (mut input, mut ended, mut pieces) = (BytesMut::new(), Vec::new(), 0);
    while ended.len() < 40 {
        let packet = read(&mut wire, &mut input).await;
        match packet.end {
            true => ended.push(-packet.request),
            false => pieces += 1,
        }
    }
    assert_eq!((pieces, most.load(Relaxed)), (39 * 3 * 5, 2));
    ended.sort_unstable();
    assert_eq!(ended, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn nothing_follows_our_end() {
    let (peer, mut wire) = raw(Limits::REMOTE);
    let (mut sink, source) = peer.duplex("echo", NONE).await.unwrap();
    sink.send(json("1")).await.unwrap();
    drop(source);
    assert!(matches!(sink.send(json("2")).await, Err(CallError::Ended(_))));
    drop(sink);
    let mut input = BytesMut::new();
    let packets =
        [read(&mut wire, &mut input).await, read(&mut wire, &mut input).await, read(&mut wire, &mut input).await];
    assert_eq!(packets.map(|packet| (packet.request, packet.end)), [(1, false), (1, false), (1, true)]);
    // What belongs to nothing: items after both ends, answers to nothing, messages to nobody.
    for (number, stream, end) in
        [(-1, true, true), (-1, true, false), (-9, false, false), (-9, true, true), (0, false, false)]
    {
        write(&mut wire, &Packet { end, ..request(number, stream, "true") }).await;
    }
    write(&mut wire, &request(5, false, "{\"name\":[\"whoami\"],\"args\":[]}")).await;
    assert_eq!(read(&mut wire, &mut input).await.request, -5);
    assert_eq!(peer.counters().open, 0);
}

#[tokio::test]
async fn a_client_looks_before_it_asks() {
    let json_of = |registry: &Registry<()>| json(&registry.manifest());
    let manifest = json_of(&registry());
    let (here, there) = tokio::io::duplex(8192);
    let offered = registry().sync("manifest", move |_| std::future::ready(Ok(manifest.clone())));
    let (a, _b) = (spawn(here, registry(), Limits::REMOTE), spawn(there, offered, Limits::REMOTE));
    let client = Client::new(a.clone()).await.unwrap();
    assert_eq!(client.manifest(), &Manifest::new(registry().methods().map(|(name, kind)| (name.to_owned(), kind))));
    assert_eq!(client.manifest().kind("sum"), Some(Kind::Duplex));
    assert_eq!(client.call("whoami", NONE).await, Ok(json("1")));
    let before = a.counters().packets_out;
    let error = |result: Result<Body, CallError>| result.unwrap_err().to_string();
    assert_eq!(error(client.call("count", NONE).await), "count is of type source");
    assert_eq!(error(client.call("nothing", NONE).await), "the other side has no method nothing");
    assert_eq!(a.counters().packets_out, before);
}
