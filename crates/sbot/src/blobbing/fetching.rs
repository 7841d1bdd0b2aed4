//! One blob from one peer: streamed into a temporary file while it is hashed, and moved into place if it is the right one.

use std::sync::Arc;
use std::time::Duration;

use sbot_blobs::Ended;
use sbot_feed::{BlobId, FeedId};
use sbot_rpc::{Body, CallError, Peer, Source};
use sbot_store::{Adding, StoreError};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::Blobs;
use super::serving::PIECE;

/// A transfer that brings fewer than [`LEAST`] bytes in this time is given up: somebody else may be faster.
const STALLED: Duration = Duration::from_secs(30);

/// Bytes that a transfer must bring within [`STALLED`], or else end.
const LEAST: u64 = 4 * 1024;

/// Bytes that are written at once, where they come fast: what one of ours sends at a time.
const BATCH: u64 = PIECE;

/// How long [`LEAST`] bytes wait for a [`BATCH`] of them.
const LINGER: Duration = Duration::from_millis(2);

impl Blobs {
    /// Begins a transfer; the exchange hears of its end.
    pub(super) fn begin_fetch(self: &Arc<Self>, blob: BlobId, peer: FeedId, limit: u64) {
        let rpc = self.peers.lock().get(&peer).and_then(|remote| remote.rpc.clone());
        let stop = Arc::new(Notify::new());
        self.stops.lock().insert(blob, Arc::clone(&stop));
        let partial = self.partials.lock().remove(&blob);
        let blobs = Arc::clone(self);
        self.runtime.spawn(async move {
            let ended = match rpc {
                Some(rpc) => blobs.fetch(blob, &rpc, partial, limit, &stop).await,
                None => Ended::Broken(0),
            };
            tracing::debug!(%blob, %peer, ?ended, "a transfer has ended");
            blobs.stops.lock().remove(&blob);
            blobs.with(|exchange, now| exchange.fetched(&blob, ended, now));
        });
    }

    async fn fetch(
        self: &Arc<Self>,
        blob: BlobId,
        rpc: &Peer,
        partial: Option<Adding>,
        limit: u64,
        stop: &Notify,
    ) -> Ended {
        let mut adding = match partial {
            Some(partial) => partial,
            None => {
                let blobs = Arc::clone(self);
                match in_background(move || blobs.store.start_with_limit(limit)).await {
                    Ok(adding) => adding,
                    Err(ended) => return ended,
                }
            }
        };
        let from = adding.size();
        let id = blob.to_string();
        // `max` is what the peer must not send more than; both names of the id are known to ssb-blobs of all ages
        let opened = match from {
            0 => rpc.source("blobs.get", &json!([{"key": id, "hash": id, "max": limit}])).await,
            _ => {
                let slice = json!([{"key": id, "hash": id, "start": from, "end": limit, "max": limit}]);
                rpc.source("blobs.getSlice", &slice).await
            }
        };
        let Ok(mut source) = opened else { return self.keep(blob, adding) };
        loop {
            let (bodies, next) = tokio::select! {
                next = next_bytes(&mut source) => next,
                () = stop.notified() => return self.keep(blob, adding),
            };
            if !bodies.is_empty() {
                let written = in_background(move || {
                    adding.write_many(bodies.iter().map(|body| &body.bytes()[..]))?;
                    Ok(adding)
                });
                match written.await {
                    Ok(written) => adding = written,
                    Err(ended) => return ended,
                }
            }
            match next {
                Next::More => {}
                Next::End => {
                    let size = adding.size();
                    let blobs = Arc::clone(self);
                    let stored = in_background(move || {
                        let is_new = blobs.store.size(&blob)?.is_none();
                        adding.finish_fetched(&blob)?;
                        blobs.came(blob, size, is_new);
                        Ok(())
                    });
                    return stored.await.map_or_else(|ended| ended, |()| Ended::Here(size));
                }
                Next::Refused if adding.size() == from => {
                    // It doesn't have it, though it said so: what came from others stays.
                    return if from == 0 { Ended::Absent } else { self.keep(blob, adding) };
                }
                Next::Refused | Next::Gone => return self.keep(blob, adding),
                Next::Nonsense => return Ended::Wrong,
            }
        }
    }

    /// Keeps the bytes that have come, for the next peer.
    fn keep(&self, blob: BlobId, adding: Adding) -> Ended {
        let size = adding.size();
        self.partials.lock().insert(blob, adding);
        Ended::Broken(size)
    }
}

/// What comes behind the bytes of a blob that have come.
enum Next {
    More,
    End,
    /// The peer says no.
    Refused,
    /// The peer has gone, or sends nothing.
    Gone,
    /// No bytes, but something else.
    Nonsense,
}

/// Waits for enough bytes, or what ends them.
async fn next_bytes(source: &mut Source) -> (Vec<Body>, Next) {
    let (mut deadline, mut bodies, mut bytes) = (Instant::now() + STALLED, Vec::new(), 0);
    loop {
        let mut fresh = Vec::new();
        match timeout_at(deadline, source.recv_many(&mut fresh)).await {
            Ok(Ok(0)) => return (bodies, Next::End),
            Ok(Ok(_)) => {}
            Ok(Err(CallError::Remote(_))) => return (bodies, Next::Refused),
            Err(_) if bytes >= LEAST => return (bodies, Next::More),
            Ok(Err(_)) | Err(_) => return (bodies, Next::Gone),
        }
        for body in fresh {
            match body {
                Body::Json(_) => return (Vec::new(), Next::Nonsense),
                // what is empty costs no place
                body if body.is_empty() => {}
                body => {
                    bytes += body.len() as u64;
                    bodies.push(body);
                }
            }
        }
        if bytes >= BATCH {
            return (bodies, Next::More);
        }
        if bytes >= LEAST {
            deadline = deadline.min(Instant::now() + LINGER);
        }
    }
}

/// Runs what writes to the disk where it holds nobody up.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Ended> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(StoreError::BlobMismatch { .. } | StoreError::BlobTooLong { .. })) => Err(Ended::Wrong),
        Ok(Err(error)) => {
            tracing::error!(%error, "a blob from a peer can't be stored");
            Err(Ended::Unstored)
        }
        Err(error) => {
            tracing::error!(%error, "storing a blob from a peer failed");
            Err(Ended::Unstored)
        }
    }
}
