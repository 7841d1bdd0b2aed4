//! Blobs in tests: making them, adding and getting them, and peers that serve what a test says.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use parking_lot::Mutex;
use sbot_feed::BlobId;
use sbot_rpc::{Body, Call, Outlet, Registry, RpcError};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::feeds::Draws;
use crate::node::TestNode;
use crate::world::PATIENCE;

/// So many bytes that look random; the same for the same seed.
pub fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut draws = Draws::new(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&draws.bits().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The id of a blob.
pub fn id(bytes: &[u8]) -> BlobId {
    BlobId(Sha256::digest(bytes).into())
}

/// Where a node keeps a blob's file.
pub fn file(node: &TestNode, id: &BlobId) -> PathBuf {
    file_in(node.setup().path(), id)
}

/// Where the node with this data directory keeps a blob's file.
pub fn file_in(dir: &Path, id: &BlobId) -> PathBuf {
    let hex: String = id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    dir.join("blobs/sha256").join(&hex[..2]).join(&hex[2..])
}

/// Adds a blob as a client of the node does.
///
/// # Errors
/// What the node answers.
pub async fn add(node: &TestNode, bytes: &[u8]) -> Result<BlobId> {
    let id = id(bytes);
    let mut sink = node.client().sink("blobs.add", &json!([id])).await?;
    for piece in bytes.chunks(1 << 16) {
        // What went wrong is told by the end.
        if sink.send(Body::Binary(piece.to_vec().into())).await.is_err() {
            break;
        }
    }
    timeout(PATIENCE, sink.end()).await.context("blobs.add takes too long")??;
    Ok(id)
}

/// The bytes that a node's source of them gives to its owner.
///
/// # Errors
/// What the node answers.
pub async fn get(node: &TestNode, method: &str, args: &Value) -> Result<Vec<u8>> {
    let mut source = node.client().source(method, args).await?;
    let mut bytes = Vec::new();
    while let Some(body) = timeout(PATIENCE, source.recv()).await.context("the blob takes too long")? {
        bytes.extend_from_slice(body?.bytes());
    }
    Ok(bytes)
}

/// Waits until a node has a blob that it was told to look for.
///
/// # Errors
/// What the node answers, or after [`PATIENCE`].
pub async fn want(node: &TestNode, id: &BlobId) -> Result<()> {
    let answer = node.call("blobs.want", &[id]).await?;
    ensure!(answer == json!(true), "{} answers {answer}", node.name());
    Ok(())
}

/// What a peer of a test sends for a blob: a list of pieces, and how it ends.
#[derive(Debug, Clone)]
pub enum Reply {
    /// These pieces, and the end.
    Pieces(Vec<Body>),
    /// These pieces, and then nothing.
    Stalls(Vec<Body>),
    /// These pieces, and an error.
    Fails(Vec<Body>, &'static str),
    /// This piece again and again.
    Endless(Body),
}

/// A peer that has whatever blobs a test says, and serves them as it says. Its calls are counted.
#[derive(Clone, Default)]
pub struct Server {
    replies: Arc<Mutex<HashMap<BlobId, Reply>>>,
    calls: Arc<Mutex<Vec<Value>>>,
    notes: Arc<watch::Sender<Vec<Value>>>,
}

impl Server {
    /// One that has nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has a blob of `size` bytes, it says, and sends this when asked for it.
    pub fn has(&self, id: BlobId, size: Value, reply: Reply) {
        self.replies.lock().insert(id, reply);
        self.say(json!({ id.to_string(): size }));
    }

    /// Says this over `blobs.createWants`.
    pub fn say(&self, note: Value) {
        self.notes.send_modify(|notes| notes.push(note));
    }

    /// The arguments of the calls for blobs so far.
    pub fn calls(&self) -> Vec<Value> {
        self.calls.lock().clone()
    }

    /// What it offers to the node that it connects to.
    pub fn registry(&self) -> Registry<()> {
        let notes = self.notes.subscribe();
        let mut registry = Registry::new().source("blobs.createWants", move |_: Call<()>, mut out: Outlet| {
            let mut notes = notes.clone();
            async move {
                let mut told = 0;
                loop {
                    let new: Vec<Value> = notes.borrow_and_update().get(told..).unwrap_or_default().to_vec();
                    told += new.len();
                    for note in new {
                        if out.send(Body::json(&note)?).await.is_err() {
                            return Ok(());
                        }
                    }
                    tokio::select! {
                        changed = notes.changed() => if changed.is_err() { return Ok(()) },
                        () = out.closed() => return Ok(()),
                    }
                }
            }
        });
        for method in ["blobs.get", "blobs.getSlice"] {
            let server = self.clone();
            registry = registry.source(method, move |call: Call<()>, out: Outlet| {
                let server = server.clone();
                async move { server.serve(&call.args, out).await }
            });
        }
        registry
    }

    async fn serve(&self, args: &[u8], mut out: Outlet) -> Result<(), RpcError> {
        let args: Value = serde_json::from_slice(args)?;
        self.calls.lock().push(args[0].clone());
        let id = args[0]["key"].as_str().and_then(|id| id.parse().ok());
        let reply = id.and_then(|id: BlobId| self.replies.lock().get(&id).cloned());
        let (pieces, end) = match reply {
            None => return Err(RpcError::new("stat failed")),
            Some(Reply::Pieces(pieces)) => (pieces, None),
            Some(Reply::Fails(pieces, why)) => (pieces, Some(why)),
            Some(Reply::Stalls(pieces)) => {
                let _ = out.send_many(pieces).await;
                out.closed().await;
                return Ok(());
            }
            Some(Reply::Endless(piece)) => {
                while out.send(piece.clone()).await.is_ok() {}
                return Ok(());
            }
        };
        // A node that has enough hangs up.
        let _ = out.send_many(pieces).await;
        end.map_or(Ok(()), |why| Err(RpcError::new(why)))
    }

    /// Waits until it was asked for blobs so often.
    ///
    /// # Errors
    /// After [`PATIENCE`].
    pub async fn until_asked(&self, count: usize) -> Result<()> {
        let waiting = async {
            while self.calls.lock().len() < count {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            bail!("asked for {:?} only", self.calls());
        }
        Ok(())
    }
}

/// Bytes as pieces of this length.
pub fn pieces(bytes: &[u8], length: usize) -> Vec<Body> {
    bytes.chunks(length).map(|piece| Body::Binary(piece.to_vec().into())).collect()
}
