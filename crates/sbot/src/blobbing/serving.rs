//! Blobs from the disk to whoever asks, a piece at a time.

use std::sync::Arc;

use bytes::BytesMut;
use sbot_blobs::{CHUNK, Request, RequestError, is_empty_blob};
use sbot_feed::{BlobId, FeedId};
use sbot_rpc::{Body, CallError, Outlet};
use sbot_store::{BlobFile, StoreError};
use tokio::sync::Semaphore;

use super::Blobs;
use super::unboxing::{UnboxError, UnboxKey, Unboxer};

/// Bytes read at a time: what one reader has in memory.
pub(super) const PIECE: u64 = 6 * CHUNK as u64;

/// Why a blob isn't sent, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// It isn't here, or the caller may not have it.
    #[error("the blob isn't here")]
    Absent,
    /// The blob isn't as asked for.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It can't be decrypted.
    #[error(transparent)]
    Unbox(#[from] UnboxError),
    /// The caller has gone or wants no more.
    #[error(transparent)]
    Gone(#[from] CallError),
    /// A task of ours failed.
    #[error("the server failed to answer: {0}")]
    Broken(#[from] tokio::task::JoinError),
}

impl Blobs {
    /// Sends what is asked for, decrypted if there is a key. `peer` is who asks, `None` for a client of our own.
    pub(crate) async fn send(
        self: &Arc<Self>,
        peer: Option<&FeedId>,
        request: &Request,
        key: Option<UnboxKey>,
        out: &mut Outlet,
    ) -> Result<(), Fault> {
        let id = request.id;
        if is_empty_blob(&id) {
            return Ok(());
        }
        // closed only when the node is dropped
        let _reading = self.readers_of(peer).acquire_owned().await;
        let file = self.file(peer.copied(), id).await?.ok_or(Fault::Absent)?;
        let now = self.now();
        self.keeping.change(id, |kept| kept.used = now);
        let range = request.range(file.size())?;
        let (mut at, mut unboxer) = (range.start, key.map(|key| Unboxer::new(&key)));
        let mut room = BytesMut::new();
        while at < range.end {
            let (end, reader) = (range.end.min(at + PIECE), Arc::clone(&file));
            let read = tokio::task::spawn_blocking(move || reader.read(at..end, room)).await??;
            at = end;
            let bytes = match &mut unboxer {
                Some(unboxer) => unboxer.open(&read)?,
                None => read.clone(),
            };
            let chunks = (0..bytes.len()).step_by(CHUNK);
            let bodies = chunks.map(|from| Body::Binary(bytes.slice(from..bytes.len().min(from + CHUNK))));
            let bodies = bodies.collect();
            drop(bytes);
            out.send_many(bodies).await?;
            // What was sent has been copied, so that the next piece can be read into the same memory.
            room = read.try_into_mut().unwrap_or_default();
        }
        if let Some(unboxer) = unboxer {
            unboxer.finish()?;
        }
        Ok(())
    }

    fn readers_of(&self, peer: Option<&FeedId>) -> Arc<Semaphore> {
        let peers = self.peers.lock();
        let remote = peer.and_then(|peer| peers.get(peer));
        Arc::clone(remote.map_or(&self.readers, |remote| &remote.readers))
    }

    /// A blob's file, if it is here and `peer` may have it. One that is damaged isn't here, and is looked for again.
    async fn file(self: &Arc<Self>, peer: Option<FeedId>, id: BlobId) -> Result<Option<Arc<BlobFile>>, Fault> {
        let blobs = Arc::clone(self);
        let opened = tokio::task::spawn_blocking(move || {
            if let Some(peer) = peer {
                let size = blobs.store.size(&id)?;
                if !size.is_some_and(|size| blobs.may_have(&peer, &id, size)) {
                    return Ok(None);
                }
            }
            let opened = blobs.store.open_blob(&id);
            if let Err(StoreError::BlobDamaged(id)) = &opened {
                blobs.lost(*id);
            }
            opened
        });
        match opened.await? {
            Ok(file) => Ok(file.map(Arc::new)),
            Err(StoreError::BlobDamaged(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
