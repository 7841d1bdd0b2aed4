//! `blobs.*`: files by their hash.
//!
//! Blobs are added, read and deleted here; `blobs.want` waits until a blob has come, from a peer or a client, and
//! `blobs.createWants` tells peers what is looked for and what has come. The exchange itself is [`crate::blobbing`]'s.
//!
//! Sources: `ssb-blobs/inject.js`, `multiblob/index.js`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sbot_blobs::{Found, Request, is_empty_blob};
use sbot_feed::BlobId;
use sbot_rpc::{Body, Call, Inlet, Outlet, Registry};
use sbot_store::BlobMeta;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::args::{Args, blob_id, field, truthy};
use super::failure::Failure;
use super::register::{answer as method, source};
use super::streams::SYNC;
use super::{Caller, Context, Stop, blocking, json as answer, nothing, outlive};
use crate::blobbing::{Blobs, Fault, UnboxError, UnboxKey, UnderWay};

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = source!(registry, ctx, "blobs.get", |ctx, caller, args, out| get(ctx, caller, args, out).await);
    registry =
        source!(registry, ctx, "blobs.getSlice", |ctx, caller, args, out| get_slice(ctx, caller, args, out).await);
    registry = method!(registry, ctx, asynchronous, "blobs.rm", |ctx, args| rm(ctx, args).await);
    registry = source!(registry, ctx, "blobs.ls", |ctx, _, args, out| ls(ctx, args, out).await);
    registry = {
        let ctx = Arc::clone(ctx);
        registry.asynchronous("blobs.has", move |call: Call<Caller>| {
            let ctx = Arc::clone(&ctx);
            async move { Ok(has(&ctx, &call.caller, &Args::parse(&call.args)?).await?) }
        })
    };
    registry = method!(registry, ctx, asynchronous, "blobs.size", |ctx, args| size(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "blobs.meta", |ctx, args| meta(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "blobs.want", |ctx, args| want(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "blobs.push", |ctx, args| push(ctx, args).await);
    registry = source!(registry, ctx, "blobs.changes", |ctx, caller, _, out| changes(ctx, caller, out).await);
    registry = source!(registry, ctx, "blobs.createWants", |ctx, caller, _, out| create_wants(ctx, caller, out).await);
    registry = super::blob_keeping::register(registry, ctx);
    registry = method!(registry, ctx, sync, "blobs.help", |_, _| answer(&super::help::blobs()));
    let ctx = Arc::clone(ctx);
    registry.sink("blobs.add", move |call: Call<Caller>, mut input| {
        let ctx = Arc::clone(&ctx);
        let under_way = UnderWay::new(&ctx.blobs);
        outlive(async move {
            let added = add(&ctx, &Args::parse(&call.args)?, &mut input).await;
            drop(under_way);
            Ok(added?)
        })
    })
}

/// How long a question about a blob that isn't here waits for blobs that are being added. A client goes on as soon as it
/// has sent a blob, since its sink tells it nothing; what it asks next should find the blob there.
const SETTLE: Duration = Duration::from_secs(2);

/// Waits until blobs that are being added are there, unless all of `ids` are anyway. No ids are all blobs.
async fn settle(blobs: &Arc<Blobs>, ids: &[BlobId]) -> Result<(), Failure> {
    let mut under_way = blobs.being_added();
    if *under_way.borrow_and_update() == 0 {
        return Ok(());
    }
    let (looking, asked) = (Arc::clone(blobs), ids.to_vec());
    let missing = blocking(move || {
        let sizes: Result<Vec<_>, Failure> = asked.iter().map(|id| size_of(&looking, id)).collect();
        Ok::<_, Failure>(asked.is_empty() || sizes?.contains(&None))
    });
    if missing.await? {
        // too slow, or the server is stopping: the answer is what is there by then
        let _ = tokio::time::timeout(SETTLE, under_way.wait_for(|count| *count == 0)).await;
    }
    Ok(())
}

/// A blob's id, from a string or from an object's `id`.
fn id_of(value: &Value) -> Option<BlobId> {
    blob_id(value).or_else(|| blob_id(field(value, "id")))
}

fn invalid(what: &str) -> Failure {
    Failure::new(format!("invalid id:{what}"))
}

pub(super) fn required_id(args: &Args<'_>) -> Result<BlobId, Failure> {
    id_of(&args.value(0)?).ok_or_else(|| invalid("null"))
}

/// One blob or a list of them.
enum Asked {
    One(BlobId),
    Many(Vec<BlobId>),
}

fn asked(args: &Args<'_>) -> Result<Asked, Failure> {
    let value = args.value(0)?;
    let Some(list) = value.as_array() else {
        return Ok(Asked::One(id_of(&value).ok_or_else(|| invalid("null"))?));
    };
    let one = |value: &Value| {
        blob_id(value).ok_or_else(|| invalid(&value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
    };
    list.iter().map(one).collect::<Result<_, _>>().map(Asked::Many)
}

fn size_of(blobs: &Blobs, id: &BlobId) -> Result<Option<u64>, Failure> {
    Ok(blobs.size_of(id)?)
}

impl Asked {
    fn ids(&self) -> &[BlobId] {
        match self {
            Asked::One(id) => std::slice::from_ref(id),
            Asked::Many(ids) => ids,
        }
    }

    /// One answer, or a list of them.
    fn answer(&self, answers: &[impl serde::Serialize]) -> Result<Body, Failure> {
        match self {
            Asked::One(_) => answer(&answers.first()),
            Asked::Many(_) => answer(&answers),
        }
    }
}

async fn sizes_of(ctx: &Context, asked: &Asked) -> Result<Vec<Option<u64>>, Failure> {
    settle(&ctx.blobs, asked.ids()).await?;
    let (blobs, ids) = (Arc::clone(&ctx.blobs), asked.ids().to_vec());
    blocking(move || ids.iter().map(|id| size_of(&blobs, id)).collect::<Result<_, _>>()).await
}

/// `blobs.has(id or list)`. What a peer asks for and isn't here counts as a want of the peer's: so peers without
/// `createWants` say what they look for.
pub(super) async fn has(ctx: &Context, caller: &Caller, args: &Args<'_>) -> Result<Body, Failure> {
    let asked = asked(args)?;
    let sizes = sizes_of(ctx, &asked).await?;
    if caller.is_owner() {
        let has: Vec<bool> = sizes.iter().map(Option::is_some).collect();
        return asked.answer(&has);
    }
    let found = asked.ids().iter().zip(sizes);
    let (mut has, mut absent) = (Vec::with_capacity(asked.ids().len()), Vec::new());
    for (id, size) in found {
        has.push(size.is_some_and(|size| ctx.blobs.may_tell(&caller.id, id, size)));
        absent.extend(size.is_none().then_some(*id));
    }
    ctx.blobs.asked(caller.id, &absent).await;
    asked.answer(&has)
}

/// `blobs.size(id or list)`: `null` for what isn't here.
pub(super) async fn size(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let asked = asked(args)?;
    let sizes = sizes_of(ctx, &asked).await?;
    asked.answer(&sizes)
}

fn shown(meta: &BlobMeta) -> Value {
    // whole milliseconds
    json!({"id": meta.id.to_string(), "size": meta.size, "ts": meta.modified.trunc() as i64})
}

/// `blobs.meta(id)`: `{id, size, ts}`.
pub(super) async fn meta(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let id = required_id(args)?;
    if is_empty_blob(&id) {
        return answer(&json!({"id": id.to_string(), "size": 0, "ts": 0}));
    }
    settle(&ctx.blobs, &[id]).await?;
    let store = ctx.blobs.store().clone();
    let meta = blocking(move || store.meta(&id)).await?;
    answer(&shown(&meta.ok_or_else(|| Failure::new(format!("there is no blob {id} here")))?))
}

/// `blobs.rm(id)`.
pub(super) async fn rm(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let id = required_id(args)?;
    settle(&ctx.blobs, &[id]).await?;
    let blobs = Arc::clone(&ctx.blobs);
    if !blocking(move || blobs.rm(&id)).await? {
        return Err(Failure::new(format!("there is no blob {id} here to delete")));
    }
    Ok(nothing())
}

/// `blobs.add(id)`: stores what is sent. Given an id, anything else is refused. A sink has no answer: callers compute the
/// id themselves.
pub(super) async fn add(ctx: &Context, args: &Args<'_>, input: &mut Inlet) -> Result<(), Failure> {
    let expected = args.value(0)?;
    let expected = match truthy(&expected) {
        true => {
            let wrong = || Failure::new(format!("not a valid hash: {}", expected.as_str().unwrap_or_default()));
            Some(id_of(&expected).ok_or_else(wrong)?)
        }
        false => None,
    };
    let store = ctx.blobs.store().clone();
    let mut adding = blocking(move || store.start()).await?;
    while let Some(bytes) = input.recv().await {
        let bytes = match bytes.map_err(|error| Failure::new(error.to_string()))? {
            Body::Binary(bytes) | Body::String(bytes) => bytes,
            Body::Json(_) => return Err(Failure::usage("blobs.add takes bytes, and not JSON")),
        };
        adding = blocking(move || adding.write(&bytes).map(|()| adding)).await?;
    }
    let blobs = Arc::clone(&ctx.blobs);
    blocking(move || {
        let size = adding.size();
        let known = expected.map(|id| size_of(&blobs, &id)).transpose()?.flatten();
        let id = adding.finish(expected.as_ref())?;
        blobs.added(&id, size, known.is_none());
        Ok::<_, Failure>(())
    })
    .await
}

/// `blobs.get(id)` or `({id or key or hash, size, max})`: the blob's bytes. For clients of our own decrypted, if `unbox` or
/// the query in the id has a key.
pub(super) async fn get(ctx: &Context, caller: &Caller, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let mut value = args.value(0)?;
    let key =
        if caller.is_owner() { take_key(&mut value).map_err(|error| Failure::new(error.to_string()))? } else { None };
    let request = Request::get(&value).map_err(|error| Failure::new(error.to_string()))?;
    let absent = if value.is_string() { "could not get blob" } else { STAT_FAILED };
    send(ctx, caller, &request, key, absent, out).await
}

/// Takes the key out of a request, so that an id is left.
fn take_key(value: &mut Value) -> Result<Option<UnboxKey>, UnboxError> {
    if let Some(link) = value.as_str() {
        let (id, key) = UnboxKey::from_link(link)?;
        *value = id.into();
        return Ok(key);
    }
    let mut found = match field(value, "unbox").as_str() {
        Some(key) => Some(UnboxKey::parse(key)?),
        None => None,
    };
    for name in ["id", "key", "hash"] {
        if let Some(link) = value.get_mut(name)
            && let Some((id, key)) = link.as_str().map(UnboxKey::from_link).transpose()?
        {
            found = found.or(key);
            *link = id.into();
        }
    }
    Ok(found)
}

/// `blobs.getSlice({id, start, end, size, max})`: some of the blob's bytes.
pub(super) async fn get_slice(ctx: &Context, caller: &Caller, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let request = Request::slice(&args.value(0)?).map_err(|error| Failure::new(error.to_string()))?;
    send(ctx, caller, &request, None, STAT_FAILED, out).await
}

/// What multiblob says when it has looked for a blob's size in vain.
const STAT_FAILED: &str = "stat failed";

async fn send(
    ctx: &Context,
    caller: &Caller,
    request: &Request,
    key: Option<UnboxKey>,
    absent: &str,
    out: &mut Outlet,
) -> Result<(), Stop> {
    settle(&ctx.blobs, &[request.id]).await?;
    let peer = (!caller.is_owner()).then_some(&caller.id);
    match ctx.blobs.send(peer, request, key, out).await {
        Ok(()) => Ok(()),
        Err(Fault::Gone(_)) => Err(Stop::Gone),
        Err(Fault::Absent) => Err(Failure::new(absent).into()),
        Err(error) => Err(Failure::new(error.to_string()).into()),
    }
}

/// `blobs.ls({live, old, meta, sync})`: ids, or `{id, size, ts}` with `meta` (also `long`, `size`).
pub(super) async fn ls(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let value = args.value(0)?;
    let long = ["meta", "long", "size"].iter().any(|name| truthy(field(&value, name)));
    let old = field(&value, "old") != &Value::Bool(false);
    let live = field(&value, "live") == &Value::Bool(true) || !old;
    let show = |meta: &BlobMeta| if long { answer(&shown(meta)) } else { Ok(super::paint::text(&meta.id)) };
    let mut additions = ctx.blobs.store().subscribe();
    if old {
        settle(&ctx.blobs, &[]).await?;
        let store = ctx.blobs.store().clone();
        let all = blocking(move || store.ls()).await?;
        out.send_many(all.iter().map(show).collect::<Result<_, _>>()?).await?;
    }
    if live && old && field(&value, "sync") != &Value::Bool(false) {
        out.send(Body::Json(SYNC.into())).await?;
    }
    if !live {
        return Ok(());
    }
    loop {
        tokio::select! {
            added = additions.recv() => match added {
                Ok(meta) => out.send(show(&meta)?).await?,
                Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "a reader of blobs.ls is too slow"),
                Err(RecvError::Closed) => return Ok(()),
            },
            () = out.closed() => return Ok(()),
        }
    }
}

/// `blobs.changes`: the ids of blobs as they come.
pub(super) async fn changes(ctx: &Context, caller: &Caller, out: &mut Outlet) -> Result<(), Stop> {
    let mut additions = ctx.blobs.store().subscribe();
    loop {
        let blob = tokio::select! {
            added = additions.recv() => match added {
                Ok(meta) => meta,
                Err(RecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "a reader of blobs.changes is too slow");
                    continue;
                }
                Err(RecvError::Closed) => return Ok(()),
            },
            () = out.closed() => return Ok(()),
        };
        if caller.is_owner() || ctx.blobs.may_tell(&caller.id, &blob.id, blob.size) {
            out.send(super::paint::text(&blob.id)).await?;
        }
    }
}

/// `blobs.want(id)`: answers `true` when the blob is here.
pub(super) async fn want(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let id = required_id(args)?;
    let blobs = Arc::clone(&ctx.blobs);
    let coming = blocking(move || blobs.want(id).map_err(|error| Failure::new(error.to_string()))).await?;
    if let Some(coming) = coming {
        match coming.await {
            Ok(Found::Here) => {}
            Ok(Found::Expired) => {
                return Err(Failure::new(format!("nobody had the blob {id}: it is no longer looked for")));
            }
            Err(_) => return Err(Failure::new("the server is stopping")),
        }
    }
    answer(&true)
}

/// `blobs.push(id)`: asks peers to take a blob.
pub(super) async fn push(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let id = id_of(&args.value(0)?).ok_or_else(|| Failure::new("invalid hash:null"))?;
    let blobs = Arc::clone(&ctx.blobs);
    blocking(move || blobs.push(id).map_err(|error| Failure::new(error.to_string()))).await?;
    Ok(nothing())
}

/// `blobs.createWants`: what is looked for, as negative numbers, and what is here, as sizes. A client of our own hears of
/// what we ourselves look for and of all that comes; a peer hears what the exchange has for it.
pub(super) async fn create_wants(ctx: &Context, caller: &Caller, out: &mut Outlet) -> Result<(), Stop> {
    if !caller.is_owner() {
        return Ok(ctx.blobs.tell(caller.id, out).await?);
    }
    let all = || {
        let notes = ctx.blobs.own_notes().into_iter();
        answer(&notes.map(|(id, note)| (id.to_string(), note)).collect::<BTreeMap<_, _>>())
    };
    let mut news = ctx.blobs.news();
    out.send(all()?).await?;
    loop {
        let body = tokio::select! {
            told = news.recv() => match told {
                Ok((id, note)) => answer(&BTreeMap::from([(id.to_string(), note)]))?,
                Err(RecvError::Lagged(_)) => all()?,
                Err(RecvError::Closed) => return Ok(()),
            },
            () = out.closed() => return Ok(()),
        };
        out.send(body).await?;
    }
}
