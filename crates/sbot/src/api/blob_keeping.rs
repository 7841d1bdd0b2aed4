//! `blobs.pin`, `unpin`, `status` and `gc`: what stays and what goes. They are this server's own.

use std::sync::Arc;

use sbot_rpc::{Body, Outlet, Registry};
use serde_json::{Value, json};

use super::args::{Args, field};
use super::failure::Failure;
use super::register::{answer as method, source};
use super::{Caller, Context, Stop, blocking, json as answer, nothing};
use crate::blobbing::{GRACE, why};

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = method!(registry, ctx, asynchronous, "blobs.pin", |ctx, args| pin(ctx, args, true).await);
    registry = method!(registry, ctx, asynchronous, "blobs.unpin", |ctx, args| pin(ctx, args, false).await);
    registry = method!(registry, ctx, asynchronous, "blobs.status", |ctx, _| status(ctx).await);
    source!(registry, ctx, "blobs.gc", |ctx, _, args, out| gc(ctx, args, out).await)
}

async fn pin(ctx: &Context, args: &Args<'_>, pinned: bool) -> Result<Body, Failure> {
    let id = super::blobs::required_id(args)?;
    let blobs = Arc::clone(&ctx.blobs);
    if !blocking(move || blobs.pin(id, pinned)).await? {
        return Err(Failure::new(format!("there is no blob {id} here")));
    }
    Ok(nothing())
}

async fn status(ctx: &Context) -> Result<Body, Failure> {
    let (blobs, counts) = (Arc::clone(&ctx.blobs), ctx.blobs.counts());
    let stored = blocking(move || {
        let all = blobs.store().ls()?;
        let kept = all.iter().map(|meta| blobs.kept(&meta.id));
        let (mut own, mut pinned) = (0, 0);
        for kept in kept {
            own += u64::from(kept.own);
            pinned += u64::from(kept.pinned);
        }
        let bytes: u64 = all.iter().map(|meta| meta.size).sum();
        Ok::<_, Failure>(json!({"blobs": all.len(), "bytes": bytes, "own": own, "pinned": pinned}))
    });
    let mut status = stored.await?;
    for (name, value) in [
        ("quota", json!(ctx.blobs.quotas().total)),
        ("wants", json!(counts.wants)),
        ("wantsOfOthers", json!(counts.wants_of_others)),
        ("wantsRefused", json!(counts.refused)),
        ("pushes", json!(counts.pushes)),
        ("fetching", json!(counts.fetches)),
        ("peers", json!(counts.peers)),
    ] {
        status[name] = value;
    }
    answer(&status)
}

/// `blobs.gc({delete, grace})`: each blob that can go, as `{id, size, used, why, author}`; with `delete` those that went.
async fn gc(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let options = args.value(0)?;
    let delete = field(&options, "delete") == &Value::Bool(true);
    let grace = match field(&options, "grace") {
        Value::Null => GRACE,
        other => other
            .as_f64()
            .filter(|grace| *grace >= 0.0)
            .ok_or_else(|| Failure::usage("grace must be a number of ms"))? as u64,
    };
    let (blobs, store, boxes) = (Arc::clone(&ctx.blobs), ctx.store.clone(), Arc::clone(&ctx.boxes));
    let garbage = blocking(move || blobs.garbage(&store, &boxes, grace)).await?;
    for (blob, reason) in garbage {
        if delete {
            let blobs = Arc::clone(&ctx.blobs);
            if !blocking(move || blobs.clear(&blob.id)).await? {
                continue;
            }
        }
        let (why, author) = why(&reason);
        let (id, author) = (blob.id.to_string(), author.or(blob.author).map(|author| author.to_string()));
        out.send(answer(&json!({"id": id, "size": blob.size, "used": blob.used, "why": why, "author": author}))?)
            .await?;
    }
    Ok(())
}
