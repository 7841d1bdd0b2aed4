//! A disk that takes no more blobs.

mod limited;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use sbot_blobs::DISK_PAUSE;
use sbot_testbot::World;
use sbot_testbot::blobs::{self, Reply, Server};
use serde_json::json;

/// Longest file, in bytes: what the node writes beside the blob is shorter, and the blob longer.
const ROOM: u64 = 4 << 20;

#[test]
fn a_blob_that_the_disk_doesnt_take_is_not_seen_and_comes_once_there_is_room() -> Result<()> {
    limited::alone("a_blob_that_the_disk_doesnt_take_is_not_seen_and_comes_once_there_is_room", inside())
}

async fn inside() -> Result<()> {
    let world = World::new()?;
    let now = Arc::new(AtomicU64::new(1_700_000_000_000));
    let shown = Arc::clone(&now);
    let node = world.setup("a").clock(Arc::new(move || shown.load(Ordering::Relaxed) as f64)).start().await?;
    let bytes = blobs::bytes(5_000_000, 1);
    let id = blobs::id(&bytes);
    let server = Server::new();
    server.has(id, json!(bytes.len()), Reply::Pieces(blobs::pieces(&bytes, 40_000)));
    limited::limit(Some(ROOM))?;
    let error = blobs::add(&node, &bytes).await.err().context("added without room")?;
    ensure!(format!("{error:#}").contains("can't write"), "{error:#}");
    let _peer = world.raw("peer", &node).await?.session_with(server.registry());
    let client = node.client().clone();
    let waiting = tokio::spawn(async move { client.call("blobs.want", &[id]).await });
    server.until_asked(1).await?;
    node.until("the transfer ends", |node| node.context().blobs.counts().fetches == 0).await?;
    ensure!(node.context().blobs.store().size(&id)?.is_none(), "a part is seen as the whole");
    ensure!(std::fs::read_dir(node.setup().path().join("blobs/tmp"))?.count() == 0, "something is left over");
    node.is_well().await?;
    limited::limit(None)?;
    assert_eq!(server.calls().len(), 1, "a full disk is not written to again at once");
    now.fetch_add(DISK_PAUSE, Ordering::Relaxed);
    waiting.await??;
    assert_eq!(blobs::get(&node, "blobs.get", &json!([id])).await?, bytes);
    Ok(())
}
