//! Bad input after the handshake: packets, calls and bodies.

use anyhow::Result;
use bytes::Bytes;
use sbot_rpc::codec::{HEADER, Packet};
use sbot_rpc::{Body, RpcError};
use sbot_testbot::World;
use serde_json::json;

/// Flags of a JSON request.
const JSON: u8 = 2;
/// Flags of a stream's JSON.
const STREAM: u8 = 8;

fn header(flags: u8, length: u32, request: i32) -> [u8; HEADER] {
    let mut header = [flags; HEADER];
    header[1..5].copy_from_slice(&length.to_be_bytes());
    header[5..].copy_from_slice(&request.to_be_bytes());
    header
}

fn request(number: i32, stream: bool, body: impl Into<Bytes>) -> Packet {
    Packet { request: number, stream, end: false, body: Body::Json(body.into()) }
}

fn refusal(packet: &Packet) -> RpcError {
    assert!(packet.end, "no error: {packet:?}");
    RpcError::from_body(&packet.body)
}

#[tokio::test]
async fn a_packet_of_four_gibibytes_is_hung_up_on_at_its_header() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    for flags in [JSON, STREAM | JSON, STREAM, 1] {
        let mut peer = world.raw("giant", &node).await?;
        peer.send(&header(flags, u32::MAX, 1)).await?;
        peer.until_hung_up().await?;
    }
    node.is_well().await
}

#[tokio::test]
async fn a_packet_of_an_unknown_type_is_hung_up_on() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let mut peer = world.raw("odd", &node).await?;
    peer.send(&header(3, 5, 1)).await?;
    peer.until_hung_up().await?;
    node.is_well().await
}

#[tokio::test]
async fn a_peer_that_goes_in_the_middle_of_a_packet_leaves_nothing_behind() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    for sent in [1, HEADER - 1, HEADER, HEADER + 10] {
        let mut peer = world.raw("hasty", &node).await?;
        let id = peer.id();
        let mut bytes = header(JSON, 1000, 1).to_vec();
        bytes.extend([b'['; 10]);
        peer.send(&bytes[..sent]).await?;
        drop(peer);
        node.until_disconnected(id).await?;
    }
    node.is_well().await
}

#[tokio::test]
async fn an_unknown_method_is_refused_and_the_connection_stays() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let mut peer = world.raw("curious", &node).await?;
    for (number, method) in (1..).zip(["nonsense", "ebt.nonsense", "constructor", "blobs", "", "__proto__.x"]) {
        peer.ask(number, method, &json!([])).await?;
        let error = refusal(&peer.answer(number).await?).message;
        assert!(error.contains("not in list of allowed methods"), "{method}: {error}");
        assert!(error.contains("rule *"), "{method}: {error}");
    }
    peer.ask(99, "manifest", &json!([])).await?;
    assert!(!peer.answer(99).await?.end);
    node.is_well().await
}

#[tokio::test]
async fn the_owners_methods_are_refused_to_peers_by_a_named_rule() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let mut peer = world.raw("greedy", &node).await?;
    let calls = [
        ("publish", json!([{"type": "post", "text": "not mine"}])),
        ("whoami", json!([])),
        ("get", json!(["%AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256"])),
        ("gossip.connect", json!(["net:127.0.0.1:1~shs:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="])),
        ("replicate.request", json!([peer.id(), true])),
        ("private.publish", json!([{"type": "post"}, [peer.id()]])),
        ("blobs.rm", json!(["&AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256"])),
    ];
    for (number, (method, args)) in (1..).zip(&calls) {
        peer.ask(number, method, args).await?;
        let error = refusal(&peer.answer(number).await?).message;
        assert!(error.contains(&format!("rule {method}: master")), "{method}: {error}");
    }
    let body = serde_json::to_vec(&json!({"name": ["createLogStream"], "args": [{}], "type": "source"}))?;
    peer.packet(&request(50, true, body)).await?;
    let error = refusal(&peer.answer(50).await?).message;
    assert!(error.contains("rule createLogStream: master"), "{error}");

    peer.ask(99, "manifest", &json!([])).await?;
    assert!(!peer.answer(99).await?.end);
    assert_eq!(node.has(node.id()), 0);
    assert!(node.store().is_empty());
    node.is_well().await
}

#[tokio::test]
async fn a_request_of_garbage_is_answered_with_an_error() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let mut peer = world.raw("garbled", &node).await?;
    let deep = "[".repeat(100_000);
    let garbage: [&[u8]; 9] = [
        b"{",
        b"\xff\xfe\x00",
        b"null",
        b"[1,2]",
        b"{\"name\":5,\"args\":[]}",
        b"{\"name\":[\"manifest\"],\"args\":5,\"type\":\"async\"}",
        b"{\"name\":[],\"args\":[]}",
        b"{\"name\":[\"manifest\"],\"args\":[}",
        deep.as_bytes(),
    ];
    for (number, body) in (1..).zip(garbage) {
        for (stream, number) in [(false, number), (true, number + 100)] {
            peer.packet(&request(number, stream, body.to_vec())).await?;
            let answer = peer.answer(number).await?;
            assert!(!refusal(&answer).message.is_empty(), "{}", String::from_utf8_lossy(body));
        }
    }
    peer.ask(999, "manifest", &json!([])).await?;
    assert!(!peer.answer(999).await?.end);
    node.is_well().await
}

#[tokio::test]
async fn wrong_arguments_are_refused_and_the_connection_stays() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let mut peer = world.raw("careless", &node).await?;
    let calls = [
        ("createHistoryStream", "source", json!([{"id": "nobody"}])),
        ("createHistoryStream", "source", json!([])),
        ("ebt.replicate", "duplex", json!([])),
        ("ebt.replicate", "duplex", json!([{"version": 2}])),
        ("ebt.replicate", "duplex", json!([{"version": 3, "format": "bendybutt-v1"}])),
        ("blobs.get", "source", json!([5])),
    ];
    for (number, (method, kind, args)) in (1..).zip(&calls) {
        let name: Vec<_> = method.split('.').collect();
        let body = serde_json::to_vec(&json!({"name": name, "args": args, "type": kind}))?;
        peer.packet(&request(number, true, body)).await?;
        let answer = peer.answer(number).await?;
        assert!(answer.end, "{method} {args}: {answer:?}");
        assert!(!refusal(&answer).message.is_empty());
    }
    peer.ask(999, "manifest", &json!([])).await?;
    assert!(!peer.answer(999).await?.end);
    node.is_well().await
}

#[tokio::test]
async fn answers_that_nobody_asked_for_are_passed_over() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let mut peer = world.raw("confused", &node).await?;
    for number in [-1, -2, -1000, i32::MIN, i32::MAX] {
        for stream in [false, true] {
            peer.packet(&Packet { request: number, stream, end: true, body: Body::Json("true".into()) }).await?;
        }
    }
    peer.ask(7, "manifest", &json!([])).await?;
    assert!(!peer.answer(7).await?.end);
    node.is_well().await
}
