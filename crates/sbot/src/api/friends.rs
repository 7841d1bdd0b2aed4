//! `friends.*`: the social graph.
//!
//! A relation is told as the old API does: `true` follows, `false` blocks, `null` did once and does neither now.
//!
//! Sources: `ssb-friends/{index,legacy}.js` 4.1.4, `layered-graph/index.js`.

use std::sync::Arc;

use sbot_feed::FeedId;
use sbot_graph::Relation;
use sbot_rpc::{Body, Outlet, Registry};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::args::{Args, feed_id, field, is_object, truthy};
use super::failure::Failure;
use super::register::{answer as method, source};
use super::{Caller, Context, Stop, blocking, json as answer};
use crate::social::Hops;

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = method!(registry, ctx, asynchronous, "friends.isFollowing", |ctx, args| is_following(ctx, args));
    registry = method!(registry, ctx, asynchronous, "friends.isBlocking", |ctx, args| is_blocking(ctx, args));
    registry = method!(registry, ctx, asynchronous, "friends.hops", |ctx, args| hops(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "friends.get", |ctx, args| get(ctx, args).await);
    registry = method!(registry, ctx, sync, "friends.onEdge", |_, _| on_edge());
    registry = method!(registry, ctx, sync, "friends.help", |_, _| help());
    registry = source!(registry, ctx, "friends.hopStream", |ctx, _, args, out| hop_stream(ctx, args, out).await);
    registry =
        source!(registry, ctx, "friends.createFriendStream", |ctx, _, args, out| friend_stream(ctx, args, out).await);
    source!(registry, ctx, "friends.stream", |ctx, _, _, out| stream(ctx, out).await)
}

/// How a relation is told.
fn told(relation: Relation) -> Value {
    match relation {
        Relation::Follow => Value::Bool(true),
        Relation::Block => Value::Bool(false),
        Relation::None => Value::Null,
    }
}

fn map<T>(entries: impl IntoIterator<Item = (FeedId, T)>, tell: impl Fn(T) -> Value) -> Map<String, Value> {
    entries.into_iter().map(|(feed, value)| (feed.to_string(), tell(value))).collect()
}

/// The two ends that `isFollowing`, `isBlocking` and `get` take.
fn ends(args: &Args<'_>) -> Result<(Option<FeedId>, Option<FeedId>), Failure> {
    let value = args.value(0)?;
    if !is_object(&value) {
        return Err(Failure::argument_type(0, "object"));
    }
    Ok((feed_id(field(&value, "source")), feed_id(field(&value, "dest"))))
}

/// `friends.isFollowing({source, dest})`.
pub(super) fn is_following(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let (source, dest) = ends(args)?;
    answer(&source.zip(dest).is_some_and(|(source, dest)| ctx.social.is_following(&source, &dest)))
}

/// `friends.isBlocking({source, dest})`.
pub(super) fn is_blocking(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let (source, dest) = ends(args)?;
    answer(&source.zip(dest).is_some_and(|(source, dest)| ctx.social.is_blocking(&source, &dest)))
}

/// `friends.hops({start, max, reverse})`, all optional.
pub(super) async fn hops(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let value = args.value(0)?;
    let start = field(&value, "start");
    let max = field(&value, "max").as_f64().filter(|max| *max != 0.0);
    // `as` saturates
    let max = max.map_or(ctx.social.max_hops(), |max| max as i32);
    let reverse = field(&value, "reverse") == &Value::Bool(true);
    let start = match feed_id(start) {
        Some(start) => start,
        None if !truthy(start) => ctx.id,
        // nobody ever said anything of what is no feed
        None => {
            let name = start.as_str().map_or_else(|| start.to_string(), str::to_owned);
            return answer(&json!({ name: 0 }));
        }
    };
    let social = ctx.social.clone();
    let hops = blocking(move || Ok::<_, Failure>(social.hops_from(&start, max, reverse))).await?;
    answer(&hops_json(&hops))
}

fn hops_json(hops: &Hops) -> Map<String, Value> {
    map(hops.iter().map(|(feed, hops)| (*feed, *hops)), Value::from)
}

/// `friends.get({source, dest})`, all optional.
pub(super) async fn get(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let value = args.value(0)?;
    let (asked_source, asked_dest) = (field(&value, "source"), field(&value, "dest"));
    let (source, dest) = (feed_id(asked_source), feed_id(asked_dest));
    let social = ctx.social.clone();
    if truthy(asked_source) {
        let said = source.map(|source| social.said_by(&source)).unwrap_or_default();
        if said.is_empty() || !truthy(asked_dest) {
            return answer(&map(said, told));
        }
        return answer(&dest.and_then(|dest| said.get(&dest).copied()).map_or(Value::Null, told));
    }
    if truthy(asked_dest) {
        let said = dest.map(|dest| social.said_of(&dest)).unwrap_or_default();
        return answer(&map(said, told));
    }
    blocking(move || answer(&everything(&social))).await
}

fn everything(social: &crate::social::Social) -> Map<String, Value> {
    map(social.everything(), |said| Value::Object(map(said, told)))
}

/// `friends.hopStream({live, old})`: the map of hops, then what changes in it.
pub(super) async fn hop_stream(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    follow_hops(ctx, args, out, |hops, _| Ok(vec![answer(&hops_json(hops))?])).await
}

/// `friends.createFriendStream({live, old, meta})`: the same, one by one.
pub(super) async fn friend_stream(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let meta = truthy(field(&args.value(0)?, "meta"));
    follow_hops(ctx, args, out, move |hops, first| {
        let shown = hops.iter().filter(|(_, hops)| !first || **hops >= 0);
        shown
            .map(|(feed, hops)| {
                if meta { answer(&json!({"id": feed.to_string(), "hops": hops})) } else { Ok(super::paint::text(feed)) }
            })
            .collect()
    })
    .await
}

async fn follow_hops(
    ctx: &Context,
    args: &Args<'_>,
    out: &mut Outlet,
    show: impl Fn(&Hops, bool) -> Result<Vec<Body>, Failure>,
) -> Result<(), Stop> {
    let value = args.value(0)?;
    let live = field(&value, "live") == &Value::Bool(true);
    let old = field(&value, "old") != &Value::Bool(false);
    let mut changes = ctx.social.hops_changes();
    let mut first = true;
    if old || !live {
        out.send_many(show(&ctx.social.hops(), first)?).await?;
        first = false;
    }
    if !live {
        return Ok(());
    }
    loop {
        let hops = tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => change,
                // whoever was too slow for single changes gets all of it again
                Err(RecvError::Lagged(_)) => ctx.social.hops(),
                Err(RecvError::Closed) => return Ok(()),
            },
            () = out.closed() => return Ok(()),
        };
        out.send_many(show(&hops, first)?).await?;
        first = false;
    }
}

/// `friends.stream`: the whole graph, then every change as `{from, to, value}`.
pub(super) async fn stream(ctx: &Context, out: &mut Outlet) -> Result<(), Stop> {
    let mut edges = ctx.social.edges();
    let whole = || {
        let social = ctx.social.clone();
        blocking(move || answer(&everything(&social)))
    };
    out.send(whole().await?).await?;
    loop {
        let body = tokio::select! {
            edge = edges.recv() => match edge {
                Ok(edge) => answer(&json!({
                    "from": edge.from.to_string(), "to": edge.to.to_string(), "value": told(edge.relation),
                }))?,
                Err(RecvError::Lagged(_)) => whole().await?,
                Err(RecvError::Closed) => return Ok(()),
            },
            () = out.closed() => return Ok(()),
        };
        out.send(body).await?;
    }
}

/// `friends.onEdge`: takes a function, which can't be sent.
pub(super) fn on_edge() -> Result<Body, Failure> {
    Err(Failure::usage("friends.onEdge takes a function and so can't be called from outside; use friends.stream"))
}

/// `friends.help`.
pub(super) fn help() -> Result<Body, Failure> {
    answer(&super::help::friends())
}
