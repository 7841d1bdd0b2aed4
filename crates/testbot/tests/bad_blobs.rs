//! Peers that send the wrong blobs, or ask for impossible ones: nothing of it is ever seen, and the node goes on.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use sbot_authorisation::Budgets;
use sbot_blobs::{MAX_PUSHES, MAX_WANTS_OF_PEER};
use sbot_feed::BlobId;
use sbot_rpc::{Body, Peer};
use sbot_testbot::blobs::{self, Reply, Server};
use sbot_testbot::{PATIENCE, TestNode, World};
use serde_json::{Value, json};
use tokio::time::timeout;

fn left_over(node: &TestNode) -> Result<usize> {
    Ok(std::fs::read_dir(node.setup().path().join("blobs/tmp"))?.count())
}

fn piece(bytes: &[u8]) -> Body {
    Body::Binary(bytes.to_vec().into())
}

#[tokio::test]
async fn whatever_wrong_bytes_a_peer_sends_the_blob_comes_from_an_honest_one() -> Result<()> {
    let right = blobs::bytes(200_000, 1);
    let id = blobs::id(&right);
    let (mut changed, longer) = (right.clone(), [&right[..], b"x"].concat());
    changed[100_000] ^= 1;
    let size = json!(right.len());
    let mut gaps = vec![piece(b""); 1000];
    gaps.extend(blobs::pieces(&changed, 1000).into_iter().flat_map(|body| [piece(b""), body]));
    let replies = [
        ("another blob", size.clone(), Reply::Pieces(blobs::pieces(&changed, 40_000))),
        ("a longer one", size.clone(), Reply::Pieces(blobs::pieces(&longer, 40_000))),
        ("a longer one, as it says", json!(longer.len()), Reply::Pieces(blobs::pieces(&longer, 40_000))),
        ("a shorter one", size.clone(), Reply::Pieces(blobs::pieces(&right[..199_999], 40_000))),
        ("a shorter one, as it says", json!(7), Reply::Pieces(blobs::pieces(&right[..7], 40_000))),
        ("nothing", size.clone(), Reply::Pieces(Vec::new())),
        ("without end", size.clone(), Reply::Endless(piece(&right[..65_536]))),
        ("without end, of unlimited size", json!(5_242_880), Reply::Endless(piece(&right[..65_536]))),
        ("pieces of no length", size.clone(), Reply::Pieces(gaps)),
        ("JSON", size.clone(), Reply::Pieces(vec![Body::Json(Bytes::from_static(b"{\"a\":1}"))])),
        ("no bytes but an error", size.clone(), Reply::Fails(Vec::new(), "no")),
        ("some bytes and an error", size.clone(), Reply::Fails(blobs::pieces(&changed[..150_000], 40_000), "no")),
    ];
    let world = World::new()?;
    let honest = world.node("honest").await?;
    blobs::add(&honest, &right).await?;
    for (at, (what, size, reply)) in replies.into_iter().enumerate() {
        let node = world.node(&format!("node {at}")).await?;
        let server = Server::new();
        server.has(id, size, reply);
        let peer = world.raw("liar", &node).await?.session_with(server.registry());
        let waiting = blobs::want(&node, &id);
        let going_on = async {
            server.until_asked(1).await?;
            node.connect(&honest).await
        };
        let (waited, connected) = tokio::join!(waiting, going_on);
        connected.context(what)?;
        waited.context(what)?;
        let got = blobs::get(&node, "blobs.get", &json!([id])).await.context(what)?;
        ensure!(got == right, "{what}");
        node.until(&format!("nothing is left over of {what}"), |_| left_over(&node).is_ok_and(|count| count == 0))
            .await?;
        peer.close("done");
        node.is_well().await?;
        drop(node.stop().await);
    }
    Ok(())
}

#[tokio::test]
async fn the_rest_of_a_blob_is_asked_of_the_next_peer_when_one_goes_in_the_middle() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let bytes = blobs::bytes(1_000_000, 2);
    let id = blobs::id(&bytes);
    let (first, second) = (Server::new(), Server::new());
    first.has(id, json!(bytes.len()), Reply::Stalls(blobs::pieces(&bytes[..600_000], 40_000)));
    let peer = world.raw("first", &node).await?.session_with(first.registry());
    let going_on = async {
        let written = |_: &sbot::Node| {
            let files = std::fs::read_dir(node.setup().path().join("blobs/tmp")).into_iter().flatten().flatten();
            files.filter_map(|file| file.metadata().ok()).any(|meta| meta.len() >= 600_000)
        };
        node.until("the first part is written", written).await?;
        ensure!(node.context().blobs.store().size(&id)?.is_none(), "a part is seen as the whole");
        peer.close("gone");
        second.has(id, json!(bytes.len()), Reply::Pieces(blobs::pieces(&bytes[600_000..], 40_000)));
        Ok(world.raw("second", &node).await?.session_with(second.registry()))
    };
    let (waited, _second_peer) = tokio::try_join!(blobs::want(&node, &id), going_on)?;
    let () = waited;
    assert_eq!(second.calls().len(), 1, "{:?}", second.calls());
    assert_eq!(second.calls()[0]["start"], 600_000);
    assert_eq!(left_over(&node)?, 0);
    Ok(())
}

/// Wants of blobs that nobody has.
fn wants(numbers: Range<u64>) -> Value {
    let want = |number: u64| {
        let mut id = [7; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        (BlobId(id).to_string(), json!(-1))
    };
    Value::Object(numbers.map(want).collect())
}

#[tokio::test]
async fn who_wants_more_than_its_budget_is_slowed_down_and_then_hung_up_on() -> Result<()> {
    let world = World::new()?;
    let setup = world.setup("a").change(|config| {
        config.auth.budgets = Budgets { wants: Some(Budgets::an_hour(1_000)), patience: 1_000, ..Budgets::default() };
    });
    let node = setup.start().await?;
    let server = Server::new();
    let peer = world.raw("peer", &node).await?.session_with(server.registry());
    for start in [0, 1_000, 2_000, 3_000] {
        server.say(wants(start..start + 1_000));
    }
    timeout(PATIENCE, peer.closed()).await?;
    let counts = node.context().blobs.counts();
    ensure!(counts.refused <= 2_000, "{} wants were looked at", counts.refused);
    node.is_well().await
}

#[tokio::test]
async fn a_million_wants_of_one_peer_are_borne() -> Result<()> {
    let world = World::new()?;
    let setup = world.setup("a").change(|config| {
        config.auth.budgets = Budgets { wants: None, ..Budgets::default() };
    });
    let node = setup.start().await?;
    let server = Server::new();
    let peer = world.raw("peer", &node).await?.session_with(server.registry());
    for start in (0..1_000_000).step_by(10_000) {
        server.say(wants(start..start + 10_000));
    }
    let all = 1_000_000 - MAX_WANTS_OF_PEER as u64;
    node.until("all wants are heard", |node| node.context().blobs.counts().refused == all).await?;
    assert_eq!(node.context().blobs.counts().wants_of_others, MAX_WANTS_OF_PEER);
    // The node still finds what its own clients want, at this very peer too.
    let bytes = blobs::bytes(1_000, 3);
    server.has(blobs::id(&bytes), json!(1_000), Reply::Pieces(blobs::pieces(&bytes, 500)));
    blobs::want(&node, &blobs::id(&bytes)).await?;
    peer.close("done");
    node.until("its wants leave with it", |node| node.context().blobs.counts().wants_of_others == 0).await?;
    assert!(node.context().blobs.counts().pushes < MAX_PUSHES);
    node.is_well().await
}

#[tokio::test]
async fn nonsense_over_create_wants_says_nothing() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let server = Server::new();
    let id = blobs::id(b"x");
    for nonsense in [
        json!(null),
        json!([]),
        json!("text"),
        json!(-1),
        json!({"../../../etc/passwd": -1, "&../../../../../../../../../../../../../../../etc/x=.sha256": -1}),
        json!({"&x.sha256": -1, "": -1, "@AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.ed25519": -1}),
        json!({ id.to_string(): -0.0 }),
        json!({ id.to_string(): 0 }),
        json!({ id.to_string(): -1.5 }),
        json!({ id.to_string(): "-1" }),
        json!({ id.to_string(): null }),
        json!({ id.to_string(): {"-1": -1} }),
        json!({ id.to_string(): -4 }),
        json!({ id.to_string(): i64::MIN }),
        json!({ id.to_string(): -1e300 }),
        json!({ id.to_string(): 1e300 }),
        json!({ id.to_string(): u64::MAX }),
        json!({"__proto__": {"x": -1}, "constructor": -1}),
        json!({ sbot_blobs::EMPTY: -1 }),
    ] {
        server.say(nonsense);
    }
    let peer = world.raw("peer", &node).await?.session_with(server.registry());
    let bytes = blobs::bytes(1_000, 4);
    server.has(blobs::id(&bytes), json!(1_000), Reply::Pieces(blobs::pieces(&bytes, 500)));
    blobs::want(&node, &blobs::id(&bytes)).await?;
    assert_eq!(node.context().blobs.counts().wants_of_others, 0);
    peer.close("done");
    node.is_well().await
}

/// What a call for a blob brings: its bytes, or the error.
async fn ask(peer: &Peer, method: &str, args: &Value) -> Result<std::result::Result<Vec<u8>, String>> {
    let mut source = peer.source(method, args).await?;
    let mut bytes = Vec::new();
    loop {
        match timeout(PATIENCE, source.recv()).await? {
            Some(Ok(body)) => bytes.extend_from_slice(body.bytes()),
            Some(Err(error)) => return Ok(Err(error.to_string())),
            None => return Ok(Ok(bytes)),
        }
    }
}

#[tokio::test]
async fn impossible_slices_and_names_get_clear_answers() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let bytes = blobs::bytes(1_000, 5);
    let id = blobs::add(&node, &bytes).await?;
    let peer = world.raw("peer", &node).await?.session();
    let slice = |start: Value, end: Value| json!([{"id": id, "start": start, "end": end}]);
    let is = |got: std::result::Result<Vec<u8>, String>, range: std::ops::Range<usize>| {
        got.is_ok_and(|got| got == bytes[range])
    };
    for (start, end, range) in [
        (json!(990), json!(5000), 990..1000),
        (json!(-5), json!(10), 0..10),
        (json!(10), json!(-5), 10..10),
        (json!(1000), json!(2000), 1000..1000),
        (json!(0), json!(1e300), 0..1000),
        (json!("3"), json!(" 5 "), 3..5),
    ] {
        let args = slice(start, end);
        ensure!(is(ask(&peer, "blobs.getSlice", &args).await?, range), "{args}");
    }
    let outside = ask(&peer, "blobs.getSlice", &slice(json!(1001), json!(2000))).await?.unwrap_err();
    ensure!(outside.contains("has only 1000 bytes"), "{outside}");
    for args in
        [slice(json!(null), json!(5)), slice(json!([1]), json!(5)), slice(json!("x"), json!(5)), json!([{"id": id}])]
    {
        let error = ask(&peer, "blobs.getSlice", &args).await?.unwrap_err();
        ensure!(error.contains("must be a number"), "{args}: {error}");
    }
    for name in
        ["../../../etc/passwd", "&../../../../etc/passwd.sha256", "/etc/passwd", "", "&", "&AAAA.sha256", "\u{0}"]
    {
        for args in [json!([name]), json!([{"id": name}]), json!([{"key": name}]), json!([{"hash": name}])] {
            for method in ["blobs.get", "blobs.getSlice"] {
                let error = ask(&peer, method, &args).await?.unwrap_err();
                ensure!(error.contains("{id} is mandatory"), "{method} {args}: {error}");
            }
        }
        let error = peer.call("blobs.has", &json!([name])).await.unwrap_err().to_string();
        ensure!(error.contains("invalid id"), "{error}");
        let error = node.call("blobs.want", &json!([name])).await.unwrap_err().to_string();
        ensure!(error.contains("invalid id"), "{error}");
    }
    for args in [json!([]), json!([null]), json!([5]), json!([[id]]), json!([{"id": {"id": id}}])] {
        ensure!(ask(&peer, "blobs.get", &args).await?.is_err(), "{args}");
    }
    node.is_well().await
}
