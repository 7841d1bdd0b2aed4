//! `gossip.*`: known peers, and dialing by hand.
//!
//! Sources: `ssb-gossip/index.js` 1.1, `pull-ping/index.js`.

use std::sync::Arc;
use std::time::Duration;

use sbot_feed::FeedId;
use sbot_multiserver::Address;
use sbot_rpc::{Body, Call, Inlet, Outlet, Registry};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::args::{Args, feed_id, field, truthy};
use super::failure::Failure;
use super::peers::{Peer, PeerChange, PeerChangeKind, PeerState, as_text};
use super::register::{answer as method, source};
use super::{Caller, Context, Stop, ended, json as answer, nothing};

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = method!(registry, ctx, sync, "gossip.peers", |ctx, _| peers(ctx));
    registry = method!(registry, ctx, sync, "gossip.get", |ctx, args| get(ctx, args));
    registry = method!(registry, ctx, sync, "gossip.add", |ctx, args| add(ctx, args));
    registry = method!(registry, ctx, sync, "gossip.remove", |ctx, args| remove(ctx, args));
    registry = method!(registry, ctx, asynchronous, "gossip.connect", |ctx, args| connect(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "gossip.disconnect", |ctx, args| disconnect(ctx, args).await);
    registry = method!(registry, ctx, sync, "gossip.reconnect", |ctx, _| reconnect(ctx));
    registry = method!(registry, ctx, sync, "gossip.enable", |ctx, args| enable(ctx, args, true));
    registry = method!(registry, ctx, sync, "gossip.disable", |ctx, args| enable(ctx, args, false));
    registry = method!(registry, ctx, sync, "gossip.help", |_, _| help());
    registry = source!(registry, ctx, "gossip.changes", |ctx, _, _, out| changes(ctx, out).await);
    register_ping(registry, ctx, "gossip.ping")
}

/// Offers [`ping`] under a name.
pub(super) fn register_ping(registry: Registry<Caller>, ctx: &Arc<Context>, name: &str) -> Registry<Caller> {
    let ctx = Arc::clone(ctx);
    registry.duplex(name, move |call: Call<Caller>, mut input, mut out| {
        let ctx = Arc::clone(&ctx);
        async move { ended(ping(&ctx, &Args::parse(&call.args)?, &mut input, &mut out).await) }
    })
}

/// `gossip.peers`.
pub(super) fn peers(ctx: &Context) -> Result<Body, Failure> {
    answer(&ctx.peers.list())
}

/// A peer's key, from an id or from what has one in `key`.
fn key_of(value: &Value) -> Result<FeedId, Failure> {
    feed_id(value)
        .or_else(|| feed_id(field(value, "key")))
        .ok_or_else(|| Failure::new(format!("must provide id:{value}")))
}

/// `gossip.get(id)`: one known peer, `false` if it isn't known.
pub(super) fn get(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    match ctx.peers.find(&key_of(&args.value(0)?)?) {
        Some(peer) => answer(&peer),
        None => Ok(nothing()),
    }
}

/// An address and the key in it, from what clients send: a multiserver address, `host:port:@key`, or an object with
/// `address` or with `host`, `port` and `key`.
fn address_of(value: &Value) -> Result<(Address, FeedId), Failure> {
    let invalid = || Failure::new(format!("not a valid address:{value}"));
    if let Some(text) = value.as_str().or_else(|| field(value, "address").as_str()) {
        return parse_address(text).ok_or_else(invalid);
    }
    let host = field(value, "host").as_str().ok_or_else(invalid)?;
    let port = field(value, "port").as_u64().and_then(|port| u16::try_from(port).ok()).ok_or_else(invalid)?;
    let key = feed_id(field(value, "key")).ok_or_else(|| Failure::new("address must have ed25519 key"))?;
    Ok((Address::from_parts(host, port, &key).map_err(|_| invalid())?, key))
}

/// An address in either form, and the key in it.
pub(super) fn parse_address(text: &str) -> Option<(Address, FeedId)> {
    let address = Address::from_any(text).ok()?;
    let key = address.key()?;
    Some((address, key))
}

/// `gossip.add(address, source)`: answers the peer, `false` if the address is ours.
pub(super) fn add(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let (address, key) = address_of(&args.required(0)?)?;
    if key == ctx.id {
        return Ok(nothing());
    }
    let source = args.value(1)?;
    match ctx.peers.add(&address, &key, source.as_str())? {
        Some(peer) => answer(&peer),
        None => Ok(nothing()),
    }
}

/// `gossip.remove(id)`.
pub(super) fn remove(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let value = args.value(0)?;
    let key = key_of(&value).or_else(|error| address_of(&value).map(|(_, key)| key).map_err(|_| error))?;
    ctx.peers.remove(&key);
    Ok(nothing())
}

/// What dialing answers: the peer, and of the end of the connection that ssb-server answers what means something to
/// others.
#[derive(Serialize)]
pub(super) struct Connected {
    #[serde(serialize_with = "as_text")]
    id: FeedId,
    closed: bool,
    stream: ConnectedStream,
    #[serde(flatten)]
    peer: Peer,
}

/// The transport of that end.
#[derive(Serialize)]
struct ConnectedStream {
    address: String,
    closed: bool,
}

impl Connected {
    /// A peer that is connected.
    pub(super) fn of(peer: Peer) -> Self {
        let stream = ConnectedStream { address: peer.address.clone(), closed: false };
        Self { id: peer.key, closed: false, stream, peer }
    }
}

/// `gossip.connect(id or address)`: remembers the peer and dials it; answers it when the connection is up.
pub(super) async fn connect(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let value = args.value(0)?;
    if !truthy(&value) {
        return Err(Failure::new("gossip.connect: an address or the id of a known peer must be given"));
    }
    let connected = match feed_id(&value) {
        Some(key) if ctx.peers.find(&key).is_some() => ctx.peers.connect(key).await?,
        Some(key) => return Err(Failure::new(format!("no known address for peer:{key}"))),
        None => {
            let (address, key) = address_of(&value)?;
            if key == ctx.id {
                return Err(Failure::new(format!("{address} is our own address")));
            }
            ctx.peers.connect_at(&address, key).await?
        }
    };
    answer(&Connected::of(connected))
}

/// `gossip.disconnect(id)`.
pub(super) async fn disconnect(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let value = args.value(0)?;
    let key = key_of(&value).or_else(|error| address_of(&value).map(|(_, key)| key).map_err(|_| error))?;
    ctx.peers.disconnect(key).await?;
    Ok(nothing())
}

/// `gossip.reconnect`: answers the time.
pub(super) fn reconnect(ctx: &Context) -> Result<Body, Failure> {
    ctx.peers.reconnect();
    answer(&milliseconds(ctx))
}

fn milliseconds(ctx: &Context) -> i64 {
    // whole milliseconds fit for the next 280,000 years
    (ctx.clock)() as i64
}

/// `gossip.enable(kind)` and `gossip.disable(kind)`.
pub(super) fn enable(ctx: &Context, args: &Args<'_>, on: bool) -> Result<Body, Failure> {
    let kind = args.value(0)?;
    let kind =
        if truthy(&kind) { kind.as_str().map_or_else(|| kind.to_string(), str::to_owned) } else { "global".into() };
    ctx.peers.enable(&kind, on)?;
    let what = if on { "enabled" } else { "disabled" };
    Ok(super::paint::text(&format!("{what} gossip type {kind}")))
}

/// What `gossip.changes` tells of a change; with the source of what was discovered.
fn shown(change: &PeerChange) -> Option<Value> {
    match change.kind {
        PeerChangeKind::Connecting | PeerChangeKind::Disconnecting => None,
        PeerChangeKind::Discover => {
            Some(json!({"type": change.kind, "peer": change.peer, "source": change.peer.source}))
        }
        kind => Some(json!({"type": kind, "peer": change.peer})),
    }
}

/// `gossip.changes`: `{type, peer}`.
pub(super) async fn changes(ctx: &Context, out: &mut Outlet) -> Result<(), Stop> {
    let mut changes = ctx.peers.changes();
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => {
                    if let Some(shown) = shown(&change) {
                        out.send(answer(&shown)?).await?;
                    }
                }
                Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "a reader of gossip.changes is too slow"),
                Err(RecvError::Closed) => return Ok(()),
            },
            () = out.closed() => return Ok(()),
        }
    }
}

/// What `status` says of peers: those that are connected.
pub(super) fn status(ctx: &Context) -> Map<String, Value> {
    let connected = ctx.peers.list().into_iter().filter(|peer| peer.state == Some(PeerState::Connected));
    connected
        .map(|peer| {
            let shown = json!({
                "address": peer.address, "source": peer.source, "state": peer.state, "stateChange": peer.state_change,
                "failure": peer.failure, "client": peer.client, "stats": {"duration": peer.duration},
            });
            (peer.key.to_string(), shown)
        })
        .collect()
}

/// The shortest and the longest time between two pings, and the one taken if none is asked for.
const PING: (Duration, Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(30 * 60), Duration::from_secs(5 * 60));

/// `gossip.ping({timeout})`: answers every clock reading with ours; `timeout` milliseconds later it is our turn to begin.
///
/// Whoever reads nothing for long is found out by the readings that don't come.
pub(super) async fn ping(ctx: &Context, args: &Args<'_>, input: &mut Inlet, out: &mut Outlet) -> Result<(), Stop> {
    let asked = field(&args.value(0)?, "timeout").as_f64();
    let pause = asked.map_or(PING.2, |millis| Duration::from_millis(millis.max(0.0) as u64)).clamp(PING.0, PING.1);
    let (mut ours, mut turn) = (false, None);
    loop {
        let wait = async {
            match turn {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reading = input.recv() => {
                let Some(reading) = reading else { return Ok(()) };
                reading?;
                if ours {
                    // the answer to our reading
                    ours = false;
                    continue;
                }
                turn = Some(tokio::time::Instant::now() + pause);
            }
            () = wait => {
                ours = true;
                turn = None;
            }
        }
        out.send(answer(&milliseconds(ctx))?).await?;
    }
}

/// `gossip.help`.
pub(super) fn help() -> Result<Body, Failure> {
    answer(&super::help::gossip())
}
