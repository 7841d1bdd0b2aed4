//! `authorisation.*`: what the policy says, and why. Not in ssb-server.
//!
//! Beside `auth`, which is a method of ssb-server's: a manifest has no room for a method and a group of one name.

use std::collections::BTreeMap;
use std::sync::Arc;

use sbot_authorisation::{About, COLUMNS, Came, Decision, Question, RULES, Role};
use sbot_feed::FeedId;
use sbot_rpc::{Body, Registry};
use serde::Serialize;
use serde_json::Value;

use super::args::{Args, blob_id, feed_id, field};
use super::failure::Failure;
use super::peers::PeerState;
use super::register::answer as method;
use super::{Caller, Context, blocking, json as answer};
use crate::gate;

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = method!(registry, ctx, asynchronous, "authorisation.explain", |ctx, args| explain(ctx, args).await);
    method!(registry, ctx, sync, "authorisation.table", |ctx, _| table(ctx))
}

/// A decision as it is told.
#[derive(Serialize)]
struct Told {
    question: String,
    allowed: bool,
    role: &'static str,
    rule: &'static str,
    why: &'static str,
    /// Who may by that rule, if it goes by roles.
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<String>,
    facts: Vec<String>,
    /// All of it, for people.
    trace: String,
}

#[derive(Serialize)]
struct Explained {
    id: String,
    /// How it came, if it is connected.
    came: &'static str,
    decisions: Vec<Told>,
}

/// `authorisation.explain(peer)`, `(peer, method)` or `(peer, method, arguments)`: the decisions about a peer, about whatever
/// isn't a method if none is named. `method` may be the name of any rule.
async fn explain(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let peer = args.required_feed(0)?;
    let named = args.value(1)?;
    let came = came_now(ctx, &peer);
    let names: Vec<&str> = match named.as_str() {
        Some(name) => vec![name],
        None if named.is_null() => RULES.iter().filter(|rule| !rule.is_method).map(|rule| rule.name).collect(),
        None => return Err(Failure::argument_type(1, "string")),
    };
    let arguments = match args.value(2)? {
        Value::Array(list) => list,
        Value::Null => Vec::new(),
        _ => return Err(Failure::argument_type(2, "array")),
    };
    let mut decisions = Vec::new();
    for name in names {
        let about = about(ctx, &peer, name, arguments.first().unwrap_or(&Value::Null)).await?;
        let (question, way) = Question::of_rule(name, about);
        // For whom has come in no way yet, each way is its own case.
        let came = if came == Came::Socket { came } else { way.unwrap_or(came) };
        decisions.push(told(name, &ctx.gate.decide_in_full(&peer, came, &question)));
    }
    answer(&Explained { id: peer.to_string(), came: came.name(), decisions })
}

fn told(question: &str, decision: &Decision) -> Told {
    Told {
        question: question.to_owned(),
        allowed: decision.is_allowed(),
        role: decision.role().name(),
        rule: decision.rule(),
        why: decision.why(),
        who: decision.access().map(|access| access.to_string()),
        facts: decision.facts().map(|fact| fact.to_string()).collect(),
        trace: decision.to_string(),
    }
}

/// How a connected peer came.
fn came_now(ctx: &Context, peer: &FeedId) -> Came {
    let known = ctx.peers.find(peer).filter(|known| known.state == Some(PeerState::Connected));
    known.map_or(Came::Unknown, |known| gate::came(&known.address))
}

/// What the arguments of a call name, as far as it matters for this rule.
async fn about(ctx: &Context, peer: &FeedId, rule: &str, first: &Value) -> Result<About, Failure> {
    let id = |name| if first.is_string() { first } else { field(first, name) };
    match rule {
        "createHistoryStream" | "feeds.exchange" => {
            let feed = feed_id(id("id")).map(|feed| ctx.gate.feed(&feed, peer));
            Ok(About { feed, blob: None })
        }
        "blobs.get" | "blobs.getSlice" | "blobs.serve" | "blobs.large" => {
            let names = ["id", "key", "hash"];
            let Some(blob) = names.iter().find_map(|name| blob_id(id(name))) else { return Ok(About::NOTHING) };
            let store = ctx.blobs.store().clone();
            Ok(About { feed: None, blob: blocking(move || store.size(&blob)).await? })
        }
        _ => Ok(About::NOTHING),
    }
}

#[derive(Serialize)]
struct Table {
    preset: &'static str,
    /// How far friends reach, and how far from us feeds are exchanged, in hops.
    friends: i32,
    reach: i32,
    rules: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    rule: &'static str,
    method: bool,
    who: String,
    why: &'static str,
    /// For each role whether it may.
    allowed: BTreeMap<&'static str, bool>,
}

/// `authorisation.table`: the whole policy as it is now.
fn table(ctx: &Context) -> Result<Body, Failure> {
    let policy = ctx.gate.policy();
    let lines = policy.rules().zip(policy.matrix().rows).map(|((rule, access), row)| Line {
        rule: rule.name,
        method: rule.is_method,
        who: access.to_string(),
        why: rule.why,
        allowed: COLUMNS.map(Role::name).into_iter().zip(row.allowed).collect(),
    });
    let (friends, reach) = (policy.friends(), policy.reach());
    answer(&Table { preset: policy.preset().name(), friends, reach, rules: lines.collect() })
}
