//! The methods that clients and peers call.
//!
//! One file a namespace; [`registry`] puts them all together. A method gets the [`Context`], which is the node's handles,
//! the [`Caller`] and its arguments. Who may call what isn't decided here but by `sbot-authorisation`, which the registry
//! asks before every call. `docs/rpc.md` lists all methods.
//!
//! Answers, option defaults and texts of errors follow ssb-server 16 (ssb-db 20, ssb-friends 4, ssb-replicate 1.3,
//! ssb-ebt 5, ssb-gossip 1.1, ssb-blobs 1.2, ssb-invite 2.1) and for `private.*` ssb-private 1.1, for `conn.*` ssb-conn 6.

mod args;
mod blobs;
mod conn;
mod cursor;
mod db;
mod failure;
mod friends;
mod gossip;
mod help;
mod hubs;
mod import;
mod info;
mod invite;
mod links;
mod options;
mod paint;
mod peers;
mod private;
mod register;
mod replicate;
mod streams;

use std::sync::Arc;

use bytes::Bytes;
use sbot_authorisation::{Decision, Role, decide};
use sbot_feed::FeedId;
use sbot_rpc::{Body, CallError, Registry, RpcError};
use sbot_store::{Store, StoreError};
use serde::Serialize;

pub use blobs::Blobs;
pub use failure::Failure;
pub use hubs::{HubEntry, HubPeer, Hubs};
pub use info::Addresses;
pub use invite::{Invites, Wish};
pub use peers::{Durations, Entry, Peer, PeerChange, PeerChangeKind, PeerState, Peers, Pending, Pool};
pub use replicate::{PeerStatus, Progress, Replicating, Replication};

use crate::private::Boxes;
use crate::publish::{Clock, Publisher};
use crate::social::Social;

/// What the methods work with.
pub struct Context {
    /// Who we are.
    pub id: FeedId,
    /// Keys beside our own whose owners may do all that we may (`master` in the config).
    pub masters: Vec<FeedId>,
    /// The log.
    pub store: Store,
    /// Private messages.
    pub boxes: Arc<Boxes>,
    /// Where our own messages are made.
    pub publisher: Arc<Publisher>,
    /// The social graph.
    pub social: Arc<Social>,
    /// The blobs.
    pub blobs: Arc<Blobs>,
    /// What is fetched and served.
    pub replication: Arc<dyn Replication>,
    /// Known peers.
    pub peers: Arc<dyn Peers>,
    /// Signalling hubs.
    pub hubs: Arc<dyn Hubs>,
    /// Invites, given out and accepted.
    pub invites: Arc<dyn Invites>,
    /// Where we listen.
    pub addresses: Arc<dyn Addresses>,
    /// What time it is.
    pub clock: Clock,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The key with which the caller came; ours for a client on the unix socket.
    pub id: FeedId,
    /// What the caller is to us.
    pub role: Role,
}

impl Caller {
    /// Whether the caller may do all that we may.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.role == Role::Owner
    }
}

/// Why a stream ends before its end.
#[derive(Debug)]
enum Stop {
    /// The caller has gone, or wants no more.
    Gone,
    /// It can't go on.
    Failed(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<CallError> for Stop {
    fn from(_: CallError) -> Self {
        Self::Gone
    }
}

impl From<Failure> for RpcError {
    fn from(failure: Failure) -> Self {
        Self { name: failure.name.to_owned(), message: failure.message }
    }
}

/// How a stream's end is told. That the caller has gone needs no telling.
fn ended(result: Result<(), Stop>) -> Result<(), RpcError> {
    match result {
        Ok(()) | Err(Stop::Gone) => Ok(()),
        Err(Stop::Failed(failure)) => Err(failure.into()),
    }
}

/// All methods. `more` adds those that need more than the context (`ebt.replicate`); the policy table decides who may call
/// what, and its refusal names the rule.
pub fn registry(ctx: &Arc<Context>, more: impl FnOnce(Registry<Caller>) -> Registry<Caller>) -> Registry<Caller> {
    let mut registry = Registry::new().authorise(|caller: &Caller, method, _| match decide(caller.role, method) {
        Decision::Allowed(_) => Ok(()),
        Decision::Refused { reason, .. } => Err(reason),
    });
    // holds the first place in the manifest until the manifest is known
    registry = registry.sync("manifest", |_| async { Ok(nothing()) });
    let namespaces = [
        info::register,
        streams::register,
        links::register,
        db::register,
        private::register,
        friends::register,
        replicate::register,
        gossip::register,
        conn::register,
        hubs::register,
        invite::register,
        blobs::register,
        import::register,
    ];
    for register in namespaces {
        registry = register(registry, ctx);
    }
    registry = more(registry);
    let manifest = Body::Json(registry.manifest().into());
    registry.sync("manifest", move |_| std::future::ready(Ok(manifest.clone())))
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(error.to_string())
    }
}

/// A JSON answer.
fn json(value: &impl Serialize) -> Result<Body, Failure> {
    serde_json::to_vec(value).map(|text| Body::Json(text.into())).map_err(|error| Failure::new(error.to_string()))
}

/// What a method answers that has nothing to say, or found nothing (`undefined` travels as `false`).
fn nothing() -> Body {
    Body::Json(Bytes::from_static(b"false"))
}

/// Runs work to its end even if the caller hangs up meanwhile: what was sent whole is kept. Clients that end a sink and
/// leave at once count on that, since a sink has no answer to wait for.
///
/// The work starts here and not when the answer is polled: a connection that is done at once drops its calls unpolled.
fn outlive(
    work: impl Future<Output = Result<(), RpcError>> + Send + 'static,
) -> impl Future<Output = Result<(), RpcError>> + Send {
    let work = tokio::spawn(work);
    async move {
        match work.await {
            Ok(result) => result,
            Err(error) => Err(RpcError::new(format!("the server failed to answer: {error}"))),
        }
    }
}

/// Runs what reads the disk or computes for long where it holds nobody up.
async fn blocking<T, E, F>(work: F) -> Result<T, Failure>
where
    T: Send + 'static,
    E: Into<Failure> + Send + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => Err(Failure::new(format!("the server failed to answer: {error}"))),
    }
}
