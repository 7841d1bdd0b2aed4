//! Two sessions, one pipe.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use sbot_rpc::codec::{self, Decoded, Packet};
use sbot_rpc::{Body, CallError, Limits, Peer, Registry, RpcError, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

fn json(text: &str) -> Body {
    Body::Json(text.to_owned().into())
}

fn registry() -> Arc<Registry<()>> {
    let registry = Registry::new()
        .sync("whoami", |_| async { Ok(json("{\"id\":\"me\"}")) })
        .asynchronous("fail", |_| async { Err(RpcError::new("it failed")) })
        .asynchronous("panic", |call: sbot_rpc::Call<()>| async move {
            assert!(call.args.is_empty(), "on purpose");
            Ok(json("1"))
        })
        .asynchronous("space.add", |call| async move {
            let (a, b): (i64, i64) = call.args()?;
            Ok(json(&(a + b).to_string()))
        })
        .source("space.count", |call, mut out| async move {
            let to: u64 = call.arg(0)?.ok_or_else(|| RpcError::new("count to what?"))?;
            for at in 0..to {
                if out.send(json(&at.to_string())).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
        .sink("swallow", |_, mut input| async move {
            while let Some(item) = input.recv().await {
                item.map_err(|error| RpcError::new(error.to_string()))?;
            }
            Err(RpcError::new("swallowed all, and still unhappy"))
        })
        .duplex("echo", |_, mut input, mut out| async move {
            while let Some(Ok(item)) = input.recv().await {
                if out.send(item).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
        .authorise(|(), method, _| match method {
            "secret" => Err("method:secret is not in list of allowed methods".into()),
            _ => Ok(()),
        });
    Arc::new(registry)
}

fn spawn(stream: DuplexStream, registry: Arc<Registry<()>>, limits: Limits) -> Peer {
    let (read, write) = tokio::io::split(stream);
    Session::spawn(read, write, registry, (), limits)
}

fn pair() -> (Peer, Peer) {
    let (here, there) = tokio::io::duplex(8192);
    (spawn(here, registry(), Limits::REMOTE), spawn(there, registry(), Limits::REMOTE))
}

/// A peer whose bytes the test writes itself.
fn raw() -> (Peer, DuplexStream) {
    let (here, there) = tokio::io::duplex(1 << 20);
    (spawn(here, registry(), Limits::REMOTE), there)
}

async fn next_packet(stream: &mut DuplexStream, input: &mut BytesMut) -> Decoded {
    loop {
        match codec::decode(input, 1 << 20).unwrap() {
            Decoded::Incomplete => assert!(stream.read_buf(input).await.unwrap() > 0, "hung up"),
            decoded => return decoded,
        }
    }
}

#[tokio::test]
async fn both_sides_call_each_other() {
    let (a, b) = pair();
    for peer in [a, b] {
        assert_eq!(peer.call("whoami", &[(); 0]).await.unwrap(), json("{\"id\":\"me\"}"));
        assert_eq!(peer.call("space.add", &(2, 3)).await.unwrap(), json("5"));
    }
}

#[tokio::test]
async fn errors_say_what_went_wrong_and_the_connection_stays() {
    let (a, _b) = pair();
    let message = |result: Result<Body, CallError>| result.unwrap_err().to_string();
    assert_eq!(message(a.call("fail", &[(); 0]).await), "it failed");
    assert_eq!(message(a.call("panic", &[(); 0]).await), "panic: internal error");
    assert_eq!(message(a.call("nothing.here", &[(); 0]).await), "no async:nothing,here");
    assert_eq!(message(a.call("space.count", &[1]).await), "no async:space,count");
    assert_eq!(message(a.call("secret", &[1]).await), "method:secret is not in list of allowed methods");
    assert!(message(a.call("space.add", &("x", 1)).await).starts_with("space.add: wrong arguments"));
    let mut source = a.source("nothing", &[1]).await.unwrap();
    assert_eq!(source.recv().await.unwrap().unwrap_err().to_string(), "no source:nothing");
    assert_eq!(a.call("space.add", &(2, 3)).await.unwrap(), json("5"));
}

#[tokio::test]
async fn a_long_source_arrives_whole_and_in_order() {
    let (a, _b) = pair();
    let mut source = a.source("space.count", &[20_000]).await.unwrap();
    let mut items = Vec::new();
    while source.recv_many(&mut items).await.unwrap() > 0 {}
    assert_eq!(items.len(), 20_000);
    assert!(items.iter().enumerate().all(|(at, item)| *item == json(&at.to_string())));
    assert_eq!(a.counters().open, 0);
}

#[tokio::test]
async fn a_dropped_source_stops_the_other_side() {
    let (a, b) = pair();
    let mut source = a.source("space.count", &[u64::MAX]).await.unwrap();
    source.recv().await.unwrap().unwrap();
    drop(source);
    while b.counters().open > 0 || a.counters().open > 0 {
        a.call("whoami", &[(); 0]).await.unwrap();
    }
}

// With time paused, a sleep ends when nothing else is left to do.
#[tokio::test(start_paused = true)]
async fn a_source_that_nobody_reads_holds_little() {
    let (a, _b) = pair();
    let _unread = a.source("space.count", &[u64::MAX]).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    // The reader of `a` waits for the unread stream, so `b` is stopped by its socket.
    let came = a.counters().bytes_in;
    assert!((1..1 << 20).contains(&came), "{came} bytes came in");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(a.counters().bytes_in, came);
}

#[tokio::test]
async fn a_duplex_echoes_and_a_sink_reports_its_end() {
    let (a, _b) = pair();
    let (mut sink, mut source) = a.duplex("echo", &[(); 0]).await.unwrap();
    for at in 0..100 {
        sink.send(json(&at.to_string())).await.unwrap();
        assert_eq!(source.recv().await.unwrap().unwrap(), json(&at.to_string()));
    }
    drop(sink);
    assert!(source.recv().await.is_none());
    let mut sink = a.sink("swallow", &[(); 0]).await.unwrap();
    sink.send_many(vec![json("1"), Body::Binary("x".into())]).await.unwrap();
    assert_eq!(sink.end().await.unwrap_err().to_string(), "swallowed all, and still unhappy");
}

#[tokio::test]
async fn a_handler_is_called_though_the_caller_leaves_at_once() {
    let (called, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let registry = Registry::new().sink("take", move |_, _| {
        let _ = called.send(());
        async { Ok(()) }
    });
    let (mut wire, ours) = tokio::io::duplex(1 << 16);
    let _peer = spawn(ours, Arc::new(registry), Limits::default());
    let mut bytes = BytesMut::new();
    let body = json("{\"name\":[\"take\"],\"args\":[],\"type\":\"sink\"}");
    codec::encode(&Packet { request: 1, stream: true, end: false, body }, &mut bytes);
    codec::encode_goodbye(&mut bytes);
    wire.write_all(&bytes).await.unwrap();
    drop(wire);
    assert_eq!(calls.recv().await, Some(()));
}

#[tokio::test]
async fn closing_fails_what_is_open_and_says_goodbye() {
    let (a, b) = pair();
    let mut source = a.source("echo", &[1]).await.unwrap();
    drop(source.recv().await);
    b.close("enough");
    assert_eq!(a.closed().await, "the other side said goodbye");
    assert!(matches!(a.call("whoami", &[(); 0]).await, Err(CallError::Closed(_))));
}

#[tokio::test]
async fn a_frame_of_four_gibibytes_closes_the_connection_at_once() {
    let (peer, mut wire) = raw();
    let mut bytes = BytesMut::new();
    bytes.put_slice(&[2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1]);
    wire.write_all(&bytes).await.unwrap();
    assert!(peer.closed().await.starts_with("a packet of 4294967295 bytes for request 1"));
}

#[tokio::test]
async fn hanging_up_within_a_frame_is_told_apart() {
    let (peer, mut wire) = raw();
    wire.write_all(&[2, 0, 0, 0, 9, 0, 0, 0, 1, b'{']).await.unwrap();
    drop(wire);
    assert_eq!(peer.closed().await, "the other side hung up in the middle of a packet");
}

#[tokio::test]
async fn garbage_in_a_request_is_answered_and_the_connection_stays() {
    let (_peer, mut wire) = raw();
    let bodies =
        ["{", "[]", "{\"name\":[1],\"args\":[]}", "{\"name\":[\"whoami\"],\"args\":{}}", "\"hello\"", "{\"args\":[]}"];
    let mut input = BytesMut::new();
    for (at, body) in bodies.into_iter().enumerate() {
        let mut out = BytesMut::new();
        let request = at as i32 + 1;
        codec::encode(&Packet { request, stream: false, end: false, body: json(body) }, &mut out);
        wire.write_all(&out).await.unwrap();
        let Decoded::Packet(answer) = next_packet(&mut wire, &mut input).await else { panic!("no answer to {body}") };
        assert_eq!((answer.request, answer.end), (-request, true), "{body}");
    }
    let mut out = BytesMut::new();
    let body = json("{\"name\":\"whoami\",\"args\":[]}");
    codec::encode(&Packet { request: 9, stream: false, end: false, body }, &mut out);
    wire.write_all(&out).await.unwrap();
    let Decoded::Packet(answer) = next_packet(&mut wire, &mut input).await else { panic!("no answer") };
    assert_eq!((answer.request, answer.end), (-9, false));
}

#[tokio::test]
async fn the_manifest_nests_namespaces_in_order() {
    assert_eq!(
        registry().manifest(),
        "{\"whoami\":\"sync\",\"fail\":\"async\",\"panic\":\"async\",\"space\":{\"add\":\"async\",\"count\":\"source\"},\
         \"swallow\":\"sink\",\"echo\":\"duplex\"}"
    );
}
