//! About this server: `whoami`, `version`, `address`, `getAddress`, `auth`, `status`, `progress`, `help`.
//!
//! Sources: `secret-stack/lib/core.js`, `ssb-db/index.js`, `ssb-master/index.js`, `ssb-friends/index.js`.

use std::sync::Arc;

use sbot_authorisation::Came;
use sbot_rpc::{Body, Registry};
use serde_json::{Map, Value, json};

use super::args::Args;
use super::failure::Failure;
use super::register::answer as method;
use super::{Caller, Context, gossip, json as answer, nothing};
use crate::config::Scope;

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = method!(registry, ctx, sync, "whoami", |ctx, _| whoami(ctx));
    registry = method!(registry, ctx, sync, "version", |_, _| Ok(version()));
    registry = method!(registry, ctx, sync, "address", |ctx, args| address(ctx, args));
    registry = method!(registry, ctx, sync, "getAddress", |ctx, args| address(ctx, args));
    registry = method!(registry, ctx, sync, "multiserver.address", |ctx, args| address(ctx, args));
    registry = method!(registry, ctx, asynchronous, "auth", |ctx, args| auth(ctx, args));
    registry = method!(registry, ctx, sync, "status", |ctx, _| status(ctx));
    registry = method!(registry, ctx, sync, "progress", |ctx, _| progress(ctx));
    method!(registry, ctx, sync, "help", |_, _| help())
}

/// Where this server listens.
pub trait Addresses: Send + Sync {
    /// All addresses of a scope (`device`, `local`, `public`, or any), joined by `;`. `None` if there are none.
    fn addresses(&self, scope: Option<&str>) -> Option<String>;

    /// The TCP port at which this node is reached on every interface in a scope, if there is one.
    fn port_everywhere(&self, scope: Scope) -> Option<u16>;
}

/// `whoami`: `{id}`.
pub(super) fn whoami(ctx: &Context) -> Result<Body, Failure> {
    answer(&json!({"id": ctx.id.to_string()}))
}

/// `version`.
pub(super) fn version() -> Body {
    super::paint::text(&env!("CARGO_PKG_VERSION"))
}

/// `address(scope)`, `getAddress(scope)`, `multiserver.address(scope)`: `null` if there is none.
pub(super) fn address(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let scope = args.value(0)?;
    match ctx.addresses.addresses(scope.as_str()) {
        Some(address) => Ok(super::paint::text(&address)),
        None => answer(&Value::Null),
    }
}

/// `auth(id)`: what a caller with this key may do. `{allow: null, deny: null}` is everything, `false` what strangers may.
pub(super) fn auth(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let id = args.required_feed(0)?;
    if ctx.gate.caller(id, Came::Unknown).is_owner() {
        return answer(&json!({"allow": null, "deny": null}));
    }
    if ctx.gate.is_blocked(&id) {
        return Err(Failure::new("client is blocked"));
    }
    ctx.gate.may_connect(&id, Came::Unknown).map(|()| nothing()).map_err(Failure::new)
}

/// `progress`: how far indexing and replication are.
pub(super) fn progress(ctx: &Context) -> Result<Body, Failure> {
    answer(&progress_json(ctx))
}

fn progress_json(ctx: &Context) -> Map<String, Value> {
    let newest = newest(ctx);
    let mut progress = Map::new();
    // the indexes take in what is appended before it can be seen
    progress.insert("indexes".into(), json!({"start": newest, "current": newest, "target": newest}));
    if let Some(replication) = ctx.replication.progress() {
        progress.insert("ebt".into(), replication.json());
    }
    progress
}

/// The number of the newest record, −1 for none.
fn newest(ctx: &Context) -> i64 {
    i64::try_from(ctx.store.len()).unwrap_or(i64::MAX) - 1
}

/// `status`: progress, how far the indexes are, connected peers.
pub(super) fn status(ctx: &Context) -> Result<Body, Failure> {
    let forks: Map<String, Value> =
        ctx.store.forks().into_iter().map(|fork| (fork.author.to_string(), fork.sequence.into())).collect();
    let mut status = json!({
        "progress": progress_json(ctx),
        "sync": {"since": newest(ctx), "plugins": {}, "sync": true},
        "gossip": gossip::status(ctx),
    });
    if !forks.is_empty() {
        status["forks"] = Value::Object(forks);
    }
    answer(&status)
}

/// `help`.
pub(super) fn help() -> Result<Body, Failure> {
    answer(&super::help::server())
}
