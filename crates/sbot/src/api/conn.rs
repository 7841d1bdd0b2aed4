//! `conn.*`: the same peers as `gossip.*`, the way ssb-conn shows them: pairs of address and data.
//!
//! Source: `ssb-conn/lib/conn.js` 6.0, `ssb-conn-{db,hub,staging}`.

use std::sync::Arc;

use sbot_rpc::{Body, Outlet, Registry};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::args::{Args, field};
use super::failure::Failure;
use super::gossip::{self, Peer};
use super::register::{answer as method, source};
use super::{Caller, Context, Stop, json as answer, nothing};

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = method!(registry, ctx, sync, "conn.remember", |ctx, args| remember(ctx, args));
    registry = method!(registry, ctx, sync, "conn.forget", |ctx, args| forget(ctx, args));
    registry = method!(registry, ctx, sync, "conn.dbPeers", |ctx, _| db_peers(ctx));
    registry = method!(registry, ctx, asynchronous, "conn.connect", |ctx, args| connect(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "conn.disconnect", |ctx, args| disconnect(ctx, args).await);
    registry = method!(registry, ctx, sync, "conn.start", |ctx, _| schedule(ctx, true));
    registry = method!(registry, ctx, sync, "conn.stop", |ctx, _| schedule(ctx, false));
    registry = source!(registry, ctx, "conn.peers", |ctx, _, _, out| stream(ctx, Shown::Connected, out).await);
    registry = source!(registry, ctx, "conn.stagedPeers", |ctx, _, _, out| stream(ctx, Shown::Staged, out).await);
    gossip::register_ping(registry, ctx, "conn.ping")
}

/// One peer as `[address, data]`.
fn entry(peer: &Peer) -> Value {
    let mut data = json!({
        "key": peer.key.to_string(),
        "source": peer.source,
        "announcers": peer.announcers,
        "failure": peer.failure.unwrap_or(0),
        "duration": peer.duration,
        "stateChange": peer.state_change,
    });
    if let (Some(state), Some(data)) = (peer.state, data.as_object_mut()) {
        data.insert("state".into(), json!(state));
        data.insert(
            "inferredType".into(),
            if peer.source.as_deref() == Some("local") { "lan" } else { "internet" }.into(),
        );
    }
    json!([peer.address, data])
}

/// `conn.dbPeers`: the remembered ones.
pub(super) fn db_peers(ctx: &Context) -> Result<Body, Failure> {
    answer(&ctx.peers.list().iter().map(entry).collect::<Vec<_>>())
}

/// Which peers a stream shows.
#[derive(Clone, Copy)]
pub(super) enum Shown {
    /// Those that are being dialed, are connected or hang up.
    Connected,
    /// Those that were seen and aren't connected.
    Staged,
}

/// `conn.peers` and `conn.stagedPeers`: the whole list, now and whenever something happens to a peer.
pub(super) async fn stream(ctx: &Context, shown: Shown, out: &mut Outlet) -> Result<(), Stop> {
    let mut changes = ctx.peers.changes();
    let list = || {
        let peers = ctx.peers.list();
        let shown = |peer: &&Peer| match shown {
            Shown::Connected => peer.state.is_some(),
            Shown::Staged => peer.state.is_none() && peer.source.as_deref() == Some("local"),
        };
        answer(&peers.iter().filter(shown).map(entry).collect::<Vec<_>>())
    };
    out.send(list()?).await?;
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Ok(_) | Err(RecvError::Lagged(_)) => out.send(list()?).await?,
                Err(RecvError::Closed) => return Ok(()),
            },
            () = out.closed() => return Ok(()),
        }
    }
}

/// The address that a method of ssb-conn takes, which has to be one.
fn address<'a>(args: &Args<'_>, value: &'a Value) -> Result<&'a str, Failure> {
    args.required_text(0)?;
    value.as_str().ok_or_else(|| Failure::argument_type(0, "string"))
}

/// The key of the peer that is known under an address.
fn key_at(ctx: &Context, address: &str) -> Option<sbot_feed::FeedId> {
    let (_, key) = gossip::parse_address(address)?;
    ctx.peers.list().into_iter().find(|peer| peer.key == key).map(|peer| peer.key)
}

/// `conn.remember(address, data)`.
pub(super) fn remember(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let value = args.value(0)?;
    let (address, key) = gossip::parse_address(address(args, &value)?)
        .ok_or_else(|| Failure::new(format!("not a valid address:{value}")))?;
    let data = args.value(1)?;
    let source = field(&data, "source").as_str().or_else(|| field(&data, "type").as_str());
    ctx.peers.add(&address, &key, source)?;
    Ok(nothing())
}

/// `conn.forget(address)`.
pub(super) fn forget(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let value = args.value(0)?;
    if let Some(key) = key_at(ctx, address(args, &value)?) {
        ctx.peers.remove(&key);
    }
    Ok(nothing())
}

/// `conn.connect(address, data)`: dials, and answers the peer when the connection is up.
pub(super) async fn connect(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    gossip::connect(ctx, args).await
}

/// `conn.disconnect(address)`: answers whether there was a connection.
pub(super) async fn disconnect(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let value = args.value(0)?;
    match key_at(ctx, address(args, &value)?) {
        Some(key) => answer(&ctx.peers.disconnect(key).await?),
        None => answer(&false),
    }
}

/// `conn.start` and `conn.stop`: dialing of itself.
pub(super) fn schedule(ctx: &Context, on: bool) -> Result<Body, Failure> {
    ctx.peers.schedule(on);
    Ok(nothing())
}
