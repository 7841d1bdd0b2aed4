//! `replicate.*` and `ebt.*`: which feeds are fetched and served, and how far that is.
//!
//! Sources: `ssb-replicate/legacy.js`, `ssb-ebt/index.js` 5.6.

use std::collections::BTreeMap;
use std::sync::Arc;

use sbot_feed::FeedId;
use sbot_rpc::{Body, Outlet, Registry};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::args::{Args, feed_id, field, is_object, truthy};
use super::failure::Failure;
use super::register::{answer as method, source};
use super::streams::SYNC;
use super::{Caller, Context, Stop, json as answer, nothing};

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = method!(registry, ctx, sync, "replicate.request", |ctx, args| request(ctx, args));
    registry = method!(registry, ctx, sync, "replicate.block", |ctx, args| block(ctx, args));
    registry = method!(registry, ctx, sync, "replicate.help", |_, _| answer(&super::help::replicate()));
    registry = method!(registry, ctx, sync, "ebt.request", |ctx, args| request(ctx, args));
    registry = method!(registry, ctx, sync, "ebt.block", |ctx, args| block(ctx, args));
    registry = method!(registry, ctx, sync, "ebt.peerStatus", |ctx, args| peer_status(ctx, args));
    registry = source!(registry, ctx, "replicate.upto", |ctx, _, args, out| upto(ctx, args, out).await);
    source!(registry, ctx, "replicate.changes", |ctx, _, _, out| changes(ctx, out).await)
}

/// What the API needs of replication.
pub trait Replication: Send + Sync {
    /// Fetches and serves a feed whatever the graph says, or stops doing so.
    fn request(&self, feed: &FeedId, wanted: bool);
    /// Keeps a feed's messages from a peer, or stops doing so.
    fn block(&self, feed: &FeedId, peer: &FeedId, blocking: bool);
    /// The feeds that are fetched and served.
    fn wanted(&self) -> Vec<FeedId>;
    /// Feeds as they become wanted (`true`) or cease to be (`false`).
    fn wanted_changes(&self) -> broadcast::Receiver<(FeedId, bool)>;
    /// How far peers are with a feed: what each told us last, and how it is exchanged.
    fn peer_status(&self, feed: &FeedId) -> BTreeMap<FeedId, PeerStatus>;
    /// How far replication is. `None` while there is nothing to do.
    fn progress(&self) -> Option<Progress>;
    /// How far replication is, whenever that changes.
    fn progress_changes(&self) -> tokio::sync::watch::Receiver<Progress>;
    /// A peer asked for a feed's history: it may be one that knows no other way to replicate.
    fn history_requested(&self, peer: &FeedId);
}

/// How far a peer is with a feed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PeerStatus {
    /// The newest sequence number that it told us of; −1 if it doesn't replicate the feed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// How the feed is exchanged on the open connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicating: Option<Replicating>,
}

/// How a feed is exchanged on an open connection.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Replicating {
    /// Whether we send its messages.
    pub tx: bool,
    /// Whether the peer sends them.
    pub rx: bool,
    /// How far we have sent.
    pub sent: i64,
    /// What the peer last asked for.
    pub requested: i64,
}

/// How far replication is, in messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Where this round began.
    pub start: u64,
    /// How far it is.
    pub current: u64,
    /// Where it ends, as far as peers have told.
    pub target: u64,
}

impl Progress {
    pub(super) fn json(self) -> Value {
        json!({"start": self.start, "current": self.current, "target": self.target})
    }
}

/// `replicate.request(id, replicate)` or `({id, replicate})`; what is no feed is ignored.
pub(super) fn request(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let (mut id, mut wanted) = (args.value(0)?, args.value(1)?);
    if is_object(&id) {
        (id, wanted) = (field(&id, "id").clone(), field(&id, "replicate").clone());
    }
    if let Some(feed) = feed_id(&id) {
        ctx.replication.request(&feed, wanted != Value::Bool(false));
    }
    Ok(nothing())
}

/// `replicate.block(from, to, blocking)` or `({from, to, blocking})`; what are no feeds is ignored.
pub(super) fn block(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let (mut from, mut to, mut blocking) = (args.value(0)?, args.value(1)?, args.value(2)?);
    if is_object(&from) {
        (to, blocking) = (field(&from, "to").clone(), field(&from, "blocking").clone());
        from = field(&from, "from").clone();
    }
    if let (Some(from), Some(to)) = (feed_id(&from), feed_id(&to)) {
        ctx.replication.block(&from, &to, truthy(&blocking));
    }
    Ok(nothing())
}

/// `replicate.upto({live})`: every wanted feed and how far we have it; −1 when it is no longer wanted.
pub(super) async fn upto(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let live = truthy(field(&args.value(0)?, "live"));
    let mut changes = ctx.replication.wanted_changes();
    let all = || {
        let wanted = ctx.replication.wanted();
        wanted.into_iter().map(|feed| line(ctx, feed, true)).collect::<Result<Vec<_>, _>>()
    };
    out.send_many(all()?).await?;
    if !live {
        return Ok(());
    }
    out.send(Body::Json(SYNC.into())).await?;
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok((feed, wanted)) => out.send(line(ctx, feed, wanted)?).await?,
                Err(RecvError::Lagged(_)) => out.send_many(all()?).await?,
                Err(RecvError::Closed) => return Ok(()),
            },
            () = out.closed() => return Ok(()),
        }
    }
}

fn line(ctx: &Context, feed: FeedId, wanted: bool) -> Result<Body, Failure> {
    let known = || ctx.store.tip(&feed).map_or(0, |tip| i64::try_from(tip.sequence).unwrap_or(i64::MAX));
    answer(&json!({"id": feed.to_string(), "sequence": if wanted { known() } else { -1 }}))
}

/// `replicate.changes`: how far replication is, whenever that changes.
pub(super) async fn changes(ctx: &Context, out: &mut Outlet) -> Result<(), Stop> {
    let mut progress = ctx.replication.progress_changes();
    loop {
        tokio::select! {
            changed = progress.changed() => if changed.is_err() { return Ok(()) },
            () = out.closed() => return Ok(()),
        }
        let now = *progress.borrow_and_update();
        let missing = now.target.saturating_sub(now.current);
        out.send(answer(&json!({
            "id": ctx.id.to_string(),
            "feeds": ctx.replication.wanted().len(),
            "incompleteFeeds": missing,
            "progress": now.current,
            "total": now.target,
        }))?)
        .await?;
    }
}

/// `ebt.peerStatus(id)`: how far we and every connected peer are with a feed, with our own if none is given.
pub(super) fn peer_status(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let asked = args.value(0)?;
    let feed = if truthy(&asked) { feed_id(&asked) } else { Some(ctx.id) };
    let mut status = serde_json::Map::new();
    status.insert("id".into(), feed.map_or(asked, |feed| feed.to_string().into()));
    if let Some(tip) = feed.and_then(|feed| ctx.store.tip(&feed)) {
        status.insert("seq".into(), tip.sequence.into());
    }
    let peers = feed.map(|feed| ctx.replication.peer_status(&feed)).unwrap_or_default();
    let peers: BTreeMap<String, PeerStatus> = peers.into_iter().map(|(peer, how)| (peer.to_string(), how)).collect();
    status.insert("peers".into(), serde_json::to_value(peers).map_err(|error| Failure::new(error.to_string()))?);
    answer(&status)
}
