//! `conn.*`: the same peers as `gossip.*`, the way ssb-conn shows them: pairs of address and data.
//!
//! What ssb-conn hands to plugins in its own process (`db`, `hub`, `staging`, `query`) says nothing over a wire and is
//! not offered.
//!
//! Source: `ssb-conn/lib/conn.js` 6.0, ssb-conn-db 1.0, ssb-conn-hub 1.2, ssb-conn-staging 1.0.

use std::sync::Arc;

use sbot_feed::FeedId;
use sbot_multiserver::Address;
use sbot_rpc::{Body, Outlet, Registry};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::args::{Args, is_object};
use super::failure::Failure;
use super::gossip::{self, Connected};
use super::peers::{Entry, Pool};
use super::register::{answer as method, source};
use super::{Caller, Context, Stop, json as answer, nothing};

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = method!(registry, ctx, sync, "conn.remember", |ctx, args| remember(ctx, args));
    registry = method!(registry, ctx, sync, "conn.forget", |ctx, args| forget(ctx, args));
    registry = method!(registry, ctx, sync, "conn.dbPeers", |ctx, _| answer(&ctx.peers.entries(Pool::Db)));
    registry = method!(registry, ctx, asynchronous, "conn.connect", |ctx, args| connect(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "conn.disconnect", |ctx, args| disconnect(ctx, args).await);
    registry = method!(registry, ctx, sync, "conn.stage", |ctx, args| stage(ctx, args));
    registry = method!(registry, ctx, sync, "conn.unstage", |ctx, args| unstage(ctx, args));
    registry = method!(registry, ctx, sync, "conn.start", |ctx, _| start(ctx));
    registry = method!(registry, ctx, sync, "conn.stop", |ctx, _| stop(ctx));
    registry = source!(registry, ctx, "conn.peers", |ctx, _, _, out| peers(ctx, out).await);
    registry = source!(registry, ctx, "conn.stagedPeers", |ctx, _, _, out| staged_peers(ctx, out).await);
    gossip::register_ping(registry, ctx, "conn.ping")
}

/// Argument 0, which has to be a multiserver address with a key in it: a peer is a key here.
fn address(args: &Args<'_>) -> Result<(Address, FeedId), Failure> {
    let value = args.value(0)?;
    let address: Address = value
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Failure::new("The given address is not a valid multiserver-address"))?;
    let key = address
        .key()
        .ok_or_else(|| Failure::new(format!("{address} doesn't say whose address it is: expected ~shs:KEY")))?;
    Ok((address, key))
}

/// Argument 1, the data of the address: an object, `None` if there is none. A list has no fields.
fn data(args: &Args<'_>) -> Result<Option<Map<String, Value>>, Failure> {
    if !args.has(1) {
        return Ok(None);
    }
    match args.value(1)? {
        Value::Object(data) => Ok(Some(data)),
        Value::Array(_) => Ok(Some(Map::new())),
        _ => Err(Failure::new("The given connection data should have been an object")),
    }
}

/// `conn.remember(address, data)`.
fn remember(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let (address, key) = address(args)?;
    ctx.peers.remember(&address, &key, data(args)?.unwrap_or_default())?;
    Ok(nothing())
}

/// `conn.forget(address)`. What is no address was never remembered: that is no error.
fn forget(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    if let Ok((address, key)) = address(args) {
        ctx.peers.forget(&address, &key);
    }
    Ok(nothing())
}

/// `conn.connect(address, data)`: dials, and answers the peer when the connection is up.
async fn connect(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    if args.has(1) && args.text(1).is_none() {
        return Err(Failure::new("CONN.connect() received incorrect arguments"));
    }
    let (address, key) = address(args)?;
    if key == ctx.id {
        return Err(Failure::new(format!("{address} is our own address")));
    }
    let data = args.value(1).ok().filter(is_object).and_then(|data| data.as_object().cloned());
    answer(&Connected::of(ctx.peers.dial(&address, key, data.unwrap_or_default()).await?))
}

/// `conn.disconnect(address)`: answers whether there was a connection.
async fn disconnect(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let (_, key) = address(args)?;
    answer(&ctx.peers.disconnect(key).await?)
}

/// `conn.stage(address, data)`: answers whether the address wasn't staged before.
fn stage(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let (address, key) = address(args)?;
    let unsaid = || Map::from_iter([("type".to_owned(), json!("internet"))]);
    answer(&ctx.peers.stage(&address, &key, data(args)?.unwrap_or_else(unsaid))?)
}

/// `conn.unstage(address)`: answers whether the address was staged.
fn unstage(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let (address, key) = address(args)?;
    answer(&ctx.peers.unstage(&address, &key))
}

/// `conn.start`: dialing of itself. ssb-conn answers a promise, which travels as an empty object.
fn start(ctx: &Context) -> Result<Body, Failure> {
    ctx.peers.schedule(true);
    answer(&json!({}))
}

/// `conn.stop`.
fn stop(ctx: &Context) -> Result<Body, Failure> {
    ctx.peers.schedule(false);
    Ok(nothing())
}

/// `conn.peers`: the whole list, now and whenever the state of a peer in it changes.
async fn peers(ctx: &Context, out: &mut Outlet) -> Result<(), Stop> {
    let mut changes = ctx.peers.changes();
    let mut list = ctx.peers.entries(Pool::Hub);
    out.send(answer(&list)?).await?;
    loop {
        let change = tokio::select! {
            change = changes.recv() => change,
            () = out.closed() => return Ok(()),
        };
        let before = list.clone();
        match change {
            Ok(change) => place(&mut list, &change.peer.key, change.entry),
            Err(RecvError::Lagged(_)) => list = ctx.peers.entries(Pool::Hub),
            Err(RecvError::Closed) => return Ok(()),
        }
        if list != before {
            out.send(answer(&list)?).await?;
        }
    }
}

/// Puts what is new of a peer into the list: a peer has one entry at most, and keeps its place.
fn place(list: &mut Vec<Entry>, key: &FeedId, entry: Option<Entry>) {
    let key = json!(key.to_string());
    let at = list.iter().position(|(_, data)| data.get("key") == Some(&key));
    match (at, entry) {
        (Some(at), Some(entry)) => list[at] = entry,
        (Some(at), None) => {
            list.remove(at);
        }
        (None, Some(entry)) => list.push(entry),
        (None, None) => {}
    }
}

/// `conn.stagedPeers`: the whole list, now and whenever it changes.
async fn staged_peers(ctx: &Context, out: &mut Outlet) -> Result<(), Stop> {
    let mut restaged = ctx.peers.restaged();
    let mut sent = None;
    loop {
        restaged.mark_unchanged();
        let list = ctx.peers.entries(Pool::Staging);
        if sent.as_ref() != Some(&list) {
            out.send(answer(&list)?).await?;
            sent = Some(list);
        }
        tokio::select! {
            changed = restaged.changed() => if changed.is_err() { return Ok(()) },
            () = out.closed() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(letter: u8, state: &str) -> (FeedId, Entry) {
        let key = FeedId([letter; 32]);
        let data = json!({"key": key.to_string(), "state": state});
        (key, (format!("net:10.0.0.{letter}:8008~shs:x"), data.as_object().unwrap().clone()))
    }

    #[test]
    fn the_list_of_peers_follows_their_states_and_holds_each_once() {
        let mut list = Vec::new();
        let (one, connecting) = entry(1, "connecting");
        let (two, other) = entry(2, "connected");
        place(&mut list, &one, Some(connecting.clone()));
        place(&mut list, &two, Some(other.clone()));
        assert_eq!(list, [connecting, other.clone()]);
        let (_, connected) = entry(1, "connected");
        place(&mut list, &one, Some(connected.clone()));
        assert_eq!(list, [connected, other.clone()]);
        place(&mut list, &one, None);
        place(&mut list, &one, None);
        assert_eq!(list, [other]);
    }
}
