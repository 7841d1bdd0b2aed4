//! `blobs.*`: files by their hash.
//!
//! Blobs are added, read and deleted here; `blobs.want` waits until a blob has come, and `blobs.createWants` tells peers
//! what is looked for and what has come.
//!
//! Sources: `ssb-blobs/inject.js`, `multiblob/index.js`.

use std::sync::Arc;
use std::time::Duration;

use sbot_blobs::{CHUNK, Request, TooMany, Wants, is_empty_blob};
use sbot_feed::BlobId;
use sbot_rpc::{Body, Call, Inlet, Outlet, Registry};
use sbot_store::{BlobMeta, BlobStore};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use super::args::{Args, blob_id, field, truthy};
use super::failure::Failure;
use super::register::{answer as method, source};
use super::streams::SYNC;
use super::{Caller, Context, Stop, blocking, json as answer, nothing, outlive};

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = source!(registry, ctx, "blobs.get", |ctx, _, args, out| get(ctx, args, out).await);
    registry = source!(registry, ctx, "blobs.getSlice", |ctx, _, args, out| get_slice(ctx, args, out).await);
    registry = method!(registry, ctx, asynchronous, "blobs.rm", |ctx, args| rm(ctx, args).await);
    registry = source!(registry, ctx, "blobs.ls", |ctx, _, args, out| ls(ctx, args, out).await);
    registry = method!(registry, ctx, asynchronous, "blobs.has", |ctx, args| has(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "blobs.size", |ctx, args| size(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "blobs.meta", |ctx, args| meta(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "blobs.want", |ctx, args| want(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "blobs.push", |ctx, args| push(ctx, args));
    registry = source!(registry, ctx, "blobs.changes", |ctx, _, _, out| changes(ctx, out).await);
    registry = source!(registry, ctx, "blobs.createWants", |ctx, caller, _, out| create_wants(ctx, caller, out).await);
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

/// News that a slow reader of wants may be behind.
const BACKLOG: usize = 1024;

/// How long a question about a blob that isn't here waits for blobs that are being added. A client goes on as soon as it
/// has sent a blob, since its sink tells it nothing; what it asks next should find the blob there.
const SETTLE: Duration = Duration::from_secs(2);

/// The blobs, and what is looked for.
pub struct Blobs {
    store: BlobStore,
    wants: parking_lot::Mutex<Wants>,
    news: broadcast::Sender<BlobId>,
    under_way: watch::Sender<usize>,
}

/// Counts one blob that is being added.
struct UnderWay(Arc<Blobs>);

impl UnderWay {
    fn new(blobs: &Arc<Blobs>) -> Self {
        blobs.under_way.send_modify(|count| *count += 1);
        Self(Arc::clone(blobs))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|count| *count -= 1);
    }
}

impl Blobs {
    /// Serves what `store` holds.
    #[must_use]
    pub fn new(store: BlobStore) -> Self {
        let (news, under_way) = (broadcast::Sender::new(BACKLOG), watch::Sender::new(0));
        Self { store, wants: parking_lot::Mutex::default(), news, under_way }
    }

    /// The blobs' bytes.
    #[must_use]
    pub fn store(&self) -> &BlobStore {
        &self.store
    }

    /// What is looked for, as `blobs.createWants` tells it.
    #[must_use]
    pub fn notes(&self) -> Map<String, Value> {
        self.wants.lock().notes()
    }

    /// Waits until blobs that are being added are there, unless all of `ids` are anyway. No ids are all blobs.
    async fn settle(&self, ids: &[BlobId]) -> Result<(), Failure> {
        let mut under_way = self.under_way.subscribe();
        if *under_way.borrow_and_update() == 0 {
            return Ok(());
        }
        let (store, asked) = (self.store.clone(), ids.to_vec());
        let missing = blocking(move || {
            let sizes: Result<Vec<_>, Failure> = asked.iter().map(|id| size_of(&store, id)).collect();
            Ok::<_, Failure>(asked.is_empty() || sizes?.contains(&None))
        });
        if missing.await? {
            // too slow, or the server is stopping: the answer is what is there by then
            let _ = tokio::time::timeout(SETTLE, under_way.wait_for(|count| *count == 0)).await;
        }
        Ok(())
    }

    fn wish(&self, id: BlobId, note: impl Fn(&mut Wants, BlobId) -> Result<bool, TooMany>) -> Result<(), Failure> {
        note(&mut self.wants.lock(), id).map_err(|error| Failure::new(error.to_string()))?;
        // nobody listening is no error
        let _ = self.news.send(id);
        Ok(())
    }
}

/// A blob's id, from a string or from an object's `id`.
fn id_of(value: &Value) -> Option<BlobId> {
    blob_id(value).or_else(|| blob_id(field(value, "id")))
}

fn invalid(what: &str) -> Failure {
    Failure::new(format!("invalid id:{what}"))
}

fn required_id(args: &Args<'_>) -> Result<BlobId, Failure> {
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

/// The size of a blob, `None` if it isn't here. The empty one always is.
fn size_of(store: &BlobStore, id: &BlobId) -> Result<Option<u64>, Failure> {
    if is_empty_blob(id) {
        return Ok(Some(0));
    }
    store.size(id).map_err(|error| Failure::new(error.to_string()))
}

async fn sizes<T: serde::Serialize + Send + 'static>(
    ctx: &Context,
    args: &Args<'_>,
    tell: fn(Option<u64>) -> T,
) -> Result<Body, Failure> {
    let asked = asked(args)?;
    match &asked {
        Asked::One(id) => ctx.blobs.settle(&[*id]).await?,
        Asked::Many(ids) => ctx.blobs.settle(ids).await?,
    }
    let store = ctx.blobs.store.clone();
    blocking(move || match asked {
        Asked::One(id) => answer(&tell(size_of(&store, &id)?)),
        Asked::Many(ids) => {
            let sizes: Result<Vec<T>, Failure> = ids.iter().map(|id| size_of(&store, id).map(tell)).collect();
            answer(&sizes?)
        }
    })
    .await
}

/// `blobs.has(id or list)`.
pub(super) async fn has(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    sizes(ctx, args, |size| size.is_some()).await
}

/// `blobs.size(id or list)`: `null` for what isn't here.
pub(super) async fn size(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    sizes(ctx, args, |size| size).await
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
    ctx.blobs.settle(&[id]).await?;
    let store = ctx.blobs.store.clone();
    let meta = blocking(move || store.meta(&id)).await?;
    answer(&shown(&meta.ok_or_else(|| Failure::new(format!("there is no blob {id} here")))?))
}

/// `blobs.rm(id)`.
pub(super) async fn rm(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let id = required_id(args)?;
    ctx.blobs.settle(&[id]).await?;
    let store = ctx.blobs.store.clone();
    if !blocking(move || store.rm(&id)).await? {
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
    let store = ctx.blobs.store.clone();
    let mut adding = blocking(move || store.start()).await?;
    while let Some(bytes) = input.recv().await {
        let bytes = match bytes.map_err(|error| Failure::new(error.to_string()))? {
            Body::Binary(bytes) | Body::String(bytes) => bytes,
            Body::Json(_) => return Err(Failure::usage("blobs.add takes bytes, and not JSON")),
        };
        adding = blocking(move || adding.write(&bytes).map(|()| adding)).await?;
    }
    let id = blocking(move || adding.finish(expected.as_ref())).await?;
    ctx.blobs.wants.lock().added(&id);
    Ok(())
}

/// `blobs.get(id)` or `({id or key or hash, size, max})`: the blob's bytes.
pub(super) async fn get(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let value = args.value(0)?;
    let request = Request::get(&value).map_err(|error| Failure::new(error.to_string()))?;
    let absent = if value.is_string() { "could not get blob" } else { STAT_FAILED };
    send(ctx, request, absent, out).await
}

/// `blobs.getSlice({id, start, end, size, max})`: some of the blob's bytes.
pub(super) async fn get_slice(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let request = Request::slice(&args.value(0)?).map_err(|error| Failure::new(error.to_string()))?;
    send(ctx, request, STAT_FAILED, out).await
}

/// What multiblob says when it has looked for a blob's size in vain.
const STAT_FAILED: &str = "stat failed";

async fn send(ctx: &Context, request: Request, absent: &str, out: &mut Outlet) -> Result<(), Stop> {
    let id = request.id;
    if is_empty_blob(&id) {
        return Ok(());
    }
    ctx.blobs.settle(&[id]).await?;
    let store = ctx.blobs.store.clone();
    let size = blocking(move || size_of(&store, &id)).await?;
    let size = size.ok_or_else(|| Failure::new(absent))?;
    let range = request.range(size).map_err(|error| Failure::new(error.to_string()))?;
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at + CHUNK as u64);
        let store = ctx.blobs.store.clone();
        let bytes = blocking(move || store.get(&id, at..end)).await?;
        let bytes = bytes.ok_or_else(|| Failure::new("could not get blob"))?;
        if bytes.is_empty() {
            return Err(Failure::new("could not get blob").into());
        }
        at += bytes.len() as u64;
        out.send(Body::Binary(bytes)).await?;
    }
    Ok(())
}

/// `blobs.ls({live, old, meta, sync})`: ids, or `{id, size, ts}` with `meta` (also `long`, `size`).
pub(super) async fn ls(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let value = args.value(0)?;
    let long = ["meta", "long", "size"].iter().any(|name| truthy(field(&value, name)));
    let old = field(&value, "old") != &Value::Bool(false);
    let live = field(&value, "live") == &Value::Bool(true) || !old;
    let show = |meta: &BlobMeta| if long { answer(&shown(meta)) } else { Ok(super::paint::text(&meta.id)) };
    let mut additions = ctx.blobs.store.subscribe();
    if old {
        ctx.blobs.settle(&[]).await?;
        let store = ctx.blobs.store.clone();
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
pub(super) async fn changes(ctx: &Context, out: &mut Outlet) -> Result<(), Stop> {
    ls(ctx, &Args::parse(br#"[{"old":false}]"#)?, out).await
}

/// `blobs.want(id)`: answers `true` when the blob is here.
pub(super) async fn want(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let id = required_id(args)?;
    let mut additions = ctx.blobs.store.subscribe();
    let is_here = || {
        let store = ctx.blobs.store.clone();
        blocking(move || size_of(&store, &id).map(|size| size.is_some()))
    };
    if is_here().await? {
        return answer(&true);
    }
    ctx.blobs.wish(id, Wants::want)?;
    loop {
        match additions.recv().await {
            Ok(meta) if meta.id == id => break,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) if is_here().await? => break,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return Err(Failure::new("the server is stopping")),
        }
    }
    ctx.blobs.wants.lock().added(&id);
    answer(&true)
}

/// `blobs.push(id)`: asks peers to take a blob.
pub(super) fn push(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let id = id_of(&args.value(0)?).ok_or_else(|| Failure::new("invalid hash:null"))?;
    ctx.blobs.wish(id, Wants::push)?;
    Ok(nothing())
}

/// `blobs.createWants`: what is looked for, as negative numbers, and what has come, as sizes.
///
/// Peers get an empty object and nothing more: nothing is fetched from peers or served to them unasked yet, so there is
/// nothing to tell them.
pub(super) async fn create_wants(ctx: &Context, caller: &Caller, out: &mut Outlet) -> Result<(), Stop> {
    if !caller.is_owner() {
        out.send(Body::Json(b"{}"[..].into())).await?;
        out.closed().await;
        return Ok(());
    }
    let (mut news, mut additions) = (ctx.blobs.news.subscribe(), ctx.blobs.store.subscribe());
    out.send(answer(&ctx.blobs.notes())?).await?;
    loop {
        let body = tokio::select! {
            id = news.recv() => match id {
                Ok(id) => answer(&Wants::note(&id))?,
                Err(RecvError::Lagged(_)) => answer(&ctx.blobs.notes())?,
                Err(RecvError::Closed) => return Ok(()),
            },
            added = additions.recv() => match added {
                Ok(meta) => answer(&json!({ meta.id.to_string(): meta.size }))?,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return Ok(()),
            },
            () = out.closed() => return Ok(()),
        };
        out.send(body).await?;
    }
}
