//! `invite.*`: being let in by a pub, and letting others in as one.
//!
//! Source: `ssb-invite/index.js` 2.1, `muxrpc-validation/index.js`.

use std::sync::Arc;

use sbot_feed::FeedId;
use sbot_multiserver::InviteCode;
use sbot_rpc::{Body, Call, Registry};
use sbot_store::Record;
use serde_json::Value;

use super::args::{Args, feed_id, field, is_object, truthy};
use super::failure::Failure;
use super::paint::{message, text};
use super::peers::Pending;
use super::register::answer as method;
use super::{Caller, Context, json as answer};

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = method!(registry, ctx, asynchronous, "invite.create", |ctx, args| create(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "invite.accept", |ctx, args| accept(ctx, args).await);
    registry = method!(registry, ctx, sync, "invite.help", |_, _| answer(&super::help::invite()));
    let ctx = Arc::clone(ctx);
    registry.asynchronous("invite.use", move |call: Call<Caller>| {
        let ctx = Arc::clone(&ctx);
        async move { Ok(redeem(&ctx, &call.caller, &Args::parse(&call.args)?).await?) }
    })
}

/// What the API needs of whoever keeps the invites. What has begun goes on to its end, whether the caller waits or not.
pub trait Invites: Send + Sync {
    /// Makes an invite and answers its code.
    ///
    /// # Errors
    /// If nobody could reach us by it, or it can't be saved.
    fn create(self: Arc<Self>, wish: Wish) -> Pending<'static, String>;
    /// Redeems the invite whose guest's key is `guest`: follows `feed`. Answers the follow.
    ///
    /// # Errors
    /// If there is no such invite, it can't be used any more, or `feed` isn't to be followed.
    fn redeem(self: Arc<Self>, guest: FeedId, feed: FeedId) -> Pending<'static, Record>;
    /// Has the pub of a code follow us, and follows it. Answers what was published.
    ///
    /// # Errors
    /// If the pub can't be reached or refuses, or nothing can be published.
    fn accept(self: Arc<Self>, code: InviteCode) -> Pending<'static, Vec<Record>>;
    /// Whether this is the key of a guest with an invite of ours, used up or not.
    fn knows(&self, guest: &FeedId) -> bool;
}

/// What an invite shall be.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// How often it may be used.
    pub uses: u64,
    /// What to say in the follow of whoever uses it.
    pub note: Option<Value>,
    /// The host to name in place of our own.
    pub external: Option<String>,
    /// Whether it shall be a multiserver address with a websocket.
    pub modern: bool,
    /// From when on it can't be used any more, in ms since 1970.
    pub expires: Option<u64>,
}

impl Wish {
    /// What the argument of `invite.create` means: a number of uses, or an object of options.
    ///
    /// # Errors
    /// `TypeError` for an argument that is neither, and for options of the wrong type, which ssb-invite doesn't look at.
    fn read(options: &Value) -> Result<Self, Failure> {
        if number(options).is_none() && !is_object(options) {
            return Err(Failure::argument_type(0, "object"));
        }
        let modern = truthy(field(options, "modern"));
        let uses = match options {
            Value::Number(uses) => uses.as_f64(),
            _ if modern => Some(1.0),
            options => number(field(options, "uses")),
        };
        // As JavaScript's `+uses || 1`: 0 and what is no number are 1. One and a half uses are two, negative ones none.
        let uses = uses.filter(|uses| *uses != 0.0).unwrap_or(1.0).ceil().max(0.0) as u64;
        let wrong =
            |name: &str, wanted: &str| Failure { name: "TypeError", message: format!("{name} must be {wanted}") };
        let external = match field(options, "external") {
            Value::String(host) if !host.is_empty() => Some(host.clone()),
            other if truthy(other) => return Err(wrong("external", "a host")),
            _ => None,
        };
        let expires = match field(options, "expires") {
            Value::Null => None,
            other => {
                Some(other.as_f64().ok_or_else(|| wrong("expires", "a time in milliseconds since 1970"))?.max(0.0)
                    as u64)
            }
        };
        let note = Some(field(options, "note")).filter(|note| truthy(note)).cloned();
        Ok(Self { uses, note, external, modern, expires })
    }
}

/// What JavaScript's `+value` makes of what muxrpc-validation lets through as a number; `None` for what it doesn't.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// `invite.create(uses)` or `({uses, note, external, modern, expires})`: the code.
pub(super) async fn create(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let wish = Wish::read(&args.required(0)?)?;
    Ok(text(&Arc::clone(&ctx.invites).create(wish).await?))
}

/// `invite.use({feed})`: the follow, as `{key, value, timestamp}`.
pub(super) async fn redeem(ctx: &Context, caller: &Caller, args: &Args<'_>) -> Result<Body, Failure> {
    let request = args.required(0)?;
    if !is_object(&request) {
        return Err(Failure::argument_type(0, "object"));
    }
    if !ctx.invites.knows(&caller.id) {
        return Err(Failure::not_found(caller.id));
    }
    let feed = field(&request, "feed");
    if !truthy(feed) {
        return Err(Failure::new("feed to follow is missing"));
    }
    // ssb-invite follows whatever it is told
    let feed = feed_id(feed).ok_or_else(|| Failure::new("feed to follow is not a feed id"))?;
    Ok(Body::Json(message(&Arc::clone(&ctx.invites).redeem(caller.id, feed).await?)))
}

/// `invite.accept(code)` or `({invite: code})`: what was published, a list of `{key, value, timestamp}`.
pub(super) async fn accept(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let value = args.required(0)?;
    let code = if is_object(&value) { field(&value, "invite") } else { &value };
    let Some(code) = code.as_str() else { return Err(Failure::argument_type(0, "string")) };
    // as it comes out of a JSON file
    let code = code.strip_prefix('"').and_then(|code| code.strip_suffix('"')).unwrap_or(code);
    let parsed = code.parse::<InviteCode>();
    let parsed = parsed.map_err(|_| Failure::new(format!("ssb-invite failed to parse invite {code}")))?;
    let published = Arc::clone(&ctx.invites).accept(parsed).await?;
    let mut list = b"[".to_vec();
    for (at, record) in published.iter().enumerate() {
        if at > 0 {
            list.push(b',');
        }
        list.extend_from_slice(&message(record));
    }
    list.push(b']');
    Ok(Body::Json(list.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn uses_are_counted_as_javascript_counts_them() {
        for (options, uses) in [
            (json!(3), 3),
            (json!({"uses": 3}), 3),
            (json!({"uses": "4"}), 4),
            (json!({}), 1),
            (json!([]), 1),
            (json!("5"), 1),
            (json!(true), 1),
            (json!({"uses": 0}), 1),
            (json!({"uses": "many"}), 1),
            (json!({"uses": 1.5}), 2),
            (json!(-2), 0),
            (json!(1e300), u64::MAX),
            (json!({"uses": 7, "modern": true}), 1),
        ] {
            assert_eq!(Wish::read(&options).unwrap().uses, uses, "{options}");
        }
    }

    #[test]
    fn options_of_the_wrong_type_are_refused_and_false_ones_are_left_out() {
        for options in [json!("x"), json!({"external": 5}), json!({"expires": "soon"})] {
            assert_eq!(Wish::read(&options).unwrap_err().name, "TypeError", "{options}");
        }
        let wish = Wish::read(&json!({"note": "", "external": "", "expires": null, "modern": 0})).unwrap();
        assert_eq!(wish, Wish { uses: 1, note: None, external: None, modern: false, expires: None });
        let wish = Wish::read(&json!({"note": {"a": 1}, "external": "h.com", "expires": 5.5})).unwrap();
        assert_eq!(
            (wish.note, wish.external.as_deref(), wish.expires),
            (Some(json!({"a": 1})), Some("h.com"), Some(5))
        );
    }
}
