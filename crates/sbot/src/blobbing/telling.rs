//! What peers and we tell each other while they are connected.
//!
//! Each side calls `blobs.createWants` of the other's, whoever dialed. Peers that lack it are asked in the older way: they
//! tell what comes by `blobs.changes`, and whether they have what we look for by `blobs.has`.

use std::sync::Arc;

use sbot_blobs::{Note, read_notes};
use sbot_feed::{BlobId, FeedId};
use sbot_rpc::{Body, CallError, Outlet, Pace, Peer};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore, watch};

use super::{Blobs, MAX_READERS, Remote};

/// Notes in one object, some 60 bytes each.
const NOTES_AT_ONCE: usize = 500;

/// Notes of a peer's that are taken at once; each may cost a look at the disk, under the exchange's lock.
const HEARD_AT_ONCE: usize = 256;

/// A peer's stay. The exchange forgets the peer when it is dropped.
pub(crate) struct Visit {
    blobs: Arc<Blobs>,
    peer: FeedId,
    number: u64,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut peers = self.blobs.peers.lock();
        if peers.get(&self.peer).is_none_or(|remote| remote.number != self.number) {
            // it came again meanwhile
            return;
        }
        peers.remove(&self.peer);
        drop(peers);
        self.blobs.with(|exchange, now| exchange.disconnected(&self.peer, now));
    }
}

/// A peer reads our notes. It doesn't any more when this is dropped.
struct Listening<'b> {
    blobs: &'b Arc<Blobs>,
    peer: FeedId,
    remote: Remote,
    call: u64,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        let same = |remote: &Remote| remote.number == self.remote.number && *remote.calls.borrow() == self.call;
        if self.blobs.peers.lock().get(&self.peer).is_some_and(same) {
            self.blobs.with(|exchange, _| {
                exchange.is_deaf(&self.peer);
                Vec::new()
            });
        }
    }
}

impl Blobs {
    /// A peer has come. To be called before it can call anything.
    pub(crate) fn arrived(self: &Arc<Self>, peer: FeedId) -> Visit {
        let mut number = 0;
        self.with(|exchange, now| {
            let mut peers = self.peers.lock();
            number = peers.get(&peer).map_or(0, |remote| remote.number) + 1;
            let readers = Arc::new(Semaphore::new(MAX_READERS));
            let (wake, calls) = (Arc::new(Notify::new()), Arc::new(watch::Sender::new(0)));
            peers.insert(peer, Remote { number, rpc: None, wake, calls, readers });
            drop(peers);
            exchange.connected(peer, now)
        });
        Visit { blobs: Arc::clone(self), peer, number }
    }

    /// Takes what a peer says.
    async fn take(self: &Arc<Self>, peer: FeedId, notes: Vec<(BlobId, Note)>) {
        if notes.is_empty() || !self.affords(&peer, &notes).await {
            return;
        }
        let blobs = Arc::clone(self);
        let taken = tokio::task::spawn_blocking(move || {
            for some in notes.chunks(HEARD_AT_ONCE) {
                blobs.with(|exchange, now| exchange.heard(&peer, some, now, |id| blobs.seen(id)));
            }
        });
        if let Err(error) = taken.await {
            tracing::error!(%error, "hearing what a peer says of blobs failed");
        }
    }

    /// Waits until a peer may want so much; false if it may not at all, and is hung up on.
    async fn affords(&self, peer: &FeedId, notes: &[(BlobId, Note)]) -> bool {
        let Some(gate) = self.budgets.get() else { return true };
        let mut wants = notes.iter().filter(|(_, note)| matches!(note, Note::Want(_))).count() as u64;
        loop {
            match gate.wanted_by(peer, wants) {
                Pace::Go => return true,
                Pace::Wait(pause) => tokio::time::sleep(pause).await,
                Pace::Stop(why) => {
                    let rpc = self.peers.lock().get(peer).and_then(|remote| remote.rpc.clone());
                    rpc.inspect(|rpc| rpc.dismiss(&why));
                    return false;
                }
            }
            wants = 0;
        }
    }

    /// Takes what a peer asks by `blobs.has` as wants of its: so old peers say what they look for.
    pub(crate) async fn asked(self: &Arc<Self>, peer: FeedId, ids: &[BlobId]) {
        self.take(peer, ids.iter().map(|id| (*id, Note::Want(1))).collect()).await;
    }

    /// Whether a peer may learn that a blob of `size` bytes is here.
    pub(crate) fn may_have(&self, peer: &FeedId, id: &BlobId, size: u64) -> bool {
        self.exchange.lock().may_have(peer, id, size)
    }

    /// Whether peers are told that a blob has come: a stingy node tells of its pushes alone.
    pub(crate) fn may_tell(&self, peer: &FeedId, id: &BlobId, size: u64) -> bool {
        self.exchange.lock().may_hear_of(peer, id, size)
    }

    /// Tells a peer what we look for and have, from the beginning, until it wants no more, has gone or calls again.
    pub(crate) async fn tell(self: &Arc<Self>, peer: FeedId, out: &mut Outlet) -> Result<(), CallError> {
        let Some(remote) = self.peers.lock().get(&peer).cloned() else {
            // whoever comes as no peer is told nothing
            out.send(Body::Json(b"{}"[..].into())).await?;
            out.closed().await;
            return Ok(());
        };
        remote.calls.send_modify(|call| *call += 1);
        let mut calls = remote.calls.subscribe();
        let call = *calls.borrow_and_update();
        let listening = Listening { blobs: self, peer, remote, call };
        self.with(|exchange, _| exchange.listens(&peer));
        let mut first = true;
        loop {
            let notes = self.exchange.lock().notes_for(&peer, NOTES_AT_ONCE);
            // an empty object tells at once that we know this way of talking
            if first || !notes.is_empty() {
                first = false;
                let named: serde_json::Map<String, Value> =
                    notes.iter().map(|(id, note)| (id.to_string(), (*note).into())).collect();
                out.send(Body::Json(Value::from(named).to_string().into())).await?;
                continue;
            }
            tokio::select! {
                () = listening.remote.wake.notified() => {}
                _ = calls.changed() => return Ok(()),
                () = out.closed() => return Ok(()),
            }
        }
    }
}

impl Visit {
    /// Listens to the peer until the connection is done.
    pub(crate) async fn listen(self, rpc: Peer) {
        if let Some(remote) = self.blobs.peers.lock().get_mut(&self.peer).filter(|remote| remote.number == self.number)
        {
            remote.rpc = Some(rpc.clone());
        }
        let nothing: [Value; 0] = [];
        let mut heard = false;
        let ended = match rpc.source("blobs.createWants", &nothing).await {
            Ok(mut source) => loop {
                match source.recv().await {
                    Some(Ok(body)) => {
                        heard = true;
                        self.blobs.take(self.peer, read_notes(body.bytes())).await;
                    }
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                }
            },
            Err(error) => Err(error),
        };
        match ended {
            Err(CallError::Remote(error)) if !heard && self.blobs.legacy => {
                tracing::debug!(peer = %self.peer, %error, "a peer without createWants: it is asked in the older way");
                self.listen_as_before(&rpc).await;
            }
            Err(error) => tracing::debug!(peer = %self.peer, %error, "a peer tells no more of blobs"),
            Ok(()) => {}
        }
        // It may still be told and served.
        rpc.closed().await;
    }

    /// As ssb-blobs with peers that lack `createWants` (`legacySync`).
    async fn listen_as_before(&self, rpc: &Peer) {
        let nothing: [Value; 0] = [];
        let (asking, hearing) = (self.ask_as_before(rpc), async {
            let mut changes = rpc.source("blobs.changes", &nothing).await?;
            while let Some(item) = changes.recv().await {
                let id = match item? {
                    Body::Json(json) => serde_json::from_slice::<String>(&json).unwrap_or_default(),
                    text => String::from_utf8_lossy(text.bytes()).into_owned(),
                };
                if let Ok(id) = id.parse() {
                    self.blobs.take(self.peer, vec![(id, Note::Has(None))]).await;
                }
            }
            Ok::<_, CallError>(())
        });
        // One that knows neither has no blobs to speak of.
        let done = tokio::select! {
            asked = asking => asked,
            heard = async { match hearing.await {
                // nothing comes any more; it may still be asked
                Ok(()) => std::future::pending().await,
                Err(error) => Err(error),
            } } => heard,
        };
        if let Err(error) = done {
            tracing::debug!(peer = %self.peer, %error, "an old peer tells no more of blobs");
        }
    }

    async fn ask_as_before(&self, rpc: &Peer) -> Result<(), CallError> {
        let Some(remote) = self.blobs.peers.lock().get(&self.peer).cloned() else { return Ok(()) };
        self.blobs.with(|exchange, _| exchange.listens(&self.peer));
        loop {
            let notes = self.blobs.exchange.lock().notes_for(&self.peer, NOTES_AT_ONCE);
            if notes.is_empty() {
                remote.wake.notified().await;
                continue;
            }
            let wanted: Vec<BlobId> = notes.iter().filter(|(_, note)| **note < 0).map(|(id, _)| *id).collect();
            if wanted.is_empty() {
                continue;
            }
            let ids: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            let answer = rpc.call("blobs.has", &json!([ids])).await?;
            let has: Vec<Value> = serde_json::from_slice(answer.bytes()).unwrap_or_default();
            let found = wanted.into_iter().zip(has).filter(|(_, has)| crate::api::is_truthy(has));
            self.blobs.take(self.peer, found.map(|(id, _)| (id, Note::Has(None))).collect()).await;
        }
    }
}
