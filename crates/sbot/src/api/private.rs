//! `private.*`: private messages by hand, as the plugin ssb-private offers them.
//!
//! Source: `ssb-private/index.js` 1.1.

use std::sync::Arc;

use sbot_feed::FeedId;
use sbot_rpc::{Body, Outlet, Registry};
use serde_json::Value;

use super::args::{Args, feed_id, field, truthy};
use super::cursor::{Cursor, Keep, Walk};
use super::failure::Failure;
use super::options::{Options, Range};
use super::paint::{Painter, message};
use super::register::{answer as method, source};
use super::streams::{send_live, send_old};
use super::{Caller, Context, Stop, blocking, nothing};

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = method!(registry, ctx, asynchronous, "private.publish", |ctx, args| publish(ctx, args).await);
    registry = method!(registry, ctx, sync, "private.unbox", |ctx, args| unbox(ctx, args));
    source!(registry, ctx, "private.read", |ctx, _, args, out| read(ctx, args, out).await)
}

/// `private.publish(content, readers)`.
pub(super) async fn publish(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let content = args.required_text(0)?;
    let readers = args.value(1)?;
    let failed = |name| Failure { name, message: "failed to encrypt".into() };
    let readers = readers.as_array().ok_or_else(|| failed("TypeError"))?;
    let readers: Option<Vec<FeedId>> = readers.iter().map(reader).collect();
    let readers = readers.ok_or_else(|| failed("TypeError"))?;
    if readers.len() > crate::publish::MAX_RECIPIENTS {
        return Err(failed("Error"));
    }
    let record = ctx.publisher.publish_private(content.as_bytes(), &readers).await?;
    Ok(Body::Json(message(&record)))
}

/// A reader: an id, or an object with the id in `public` or `link`.
fn reader(value: &Value) -> Option<FeedId> {
    feed_id(value).or_else(|| feed_id(field(value, "link"))).or_else(|| {
        let key = field(value, "public").as_str()?;
        format!("@{}", key.trim_start_matches('@')).parse().ok()
    })
}

/// `private.unbox(cyphertext)`: the content, or `private.unbox({key, value, timestamp})`: the message with its content.
/// `false` if we can't read it.
pub(super) fn unbox(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let value = args.value(0)?;
    if let Some(cyphertext) = value.as_str() {
        let opened = ctx.boxes.open(cyphertext);
        return Ok(opened.map_or_else(nothing, |opened| Body::Json(opened.content.into())));
    }
    let inner = field(&value, "value");
    let Some(opened) = field(inner, "content").as_str().and_then(|cyphertext| ctx.boxes.open(cyphertext)) else {
        return Ok(nothing());
    };
    // written out by hand: the plain content may hold what a tree of Rust strings can't
    let member = |value: &Value| value.to_string();
    let mut text = String::from("{");
    let mut put = |name: &str, json: &str| {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&format!("\"{name}\":{json}"));
    };
    if value.get("key").is_some() {
        put("key", &member(field(&value, "key")));
    }
    let mut plain = String::from("{");
    for name in ["previous", "author", "sequence", "timestamp", "hash"] {
        if let Some(found) = inner.get(name) {
            plain.push_str(&format!("\"{name}\":{},", number_or_json(found)));
        }
    }
    plain.push_str(&format!("\"content\":{},\"private\":true}}", String::from_utf8_lossy(&opened.content)));
    put("value", &plain);
    if let Some(timestamp) = value.get("timestamp") {
        put("timestamp", &number_or_json(timestamp));
    }
    text.push('}');
    Ok(Body::Json(text.into()))
}

/// JSON, with numbers printed as JavaScript prints them.
fn number_or_json(value: &Value) -> String {
    value.as_f64().map_or_else(|| value.to_string(), |number| ryu_js::Buffer::new().format(number).to_owned())
}

/// `private.read({query, gt, lt, reverse, limit, live, old, sync})`: the private messages that we can read, decrypted.
///
/// Of a query its `$filter`s are obeyed (values, and `$eq $ne $gt $gte $lt $lte $prefix $in $is`); other steps are refused.
pub(super) async fn read(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let value = args.value(0)?;
    let options = Options { private: true, keys: true, values: true, ..Options::read(&value) };
    let range = Range::read(&value);
    let filters = filters(field(&value, "query"))?;
    let painter = Painter::new(&options, &ctx.boxes);
    let end = ctx.store.len();
    let boxes = Arc::clone(&ctx.boxes);
    let keep: Keep = Arc::new(move |record| {
        if !range.contains(record.received) {
            return false;
        }
        let Some(value) = boxes.reveal_record(record) else { return false };
        filters.is_empty() || {
            let message = serde_json::from_slice::<Value>(&value).map(|value| {
                serde_json::json!({"key": record.key.to_string(), "value": value, "timestamp": record.received})
            });
            message.is_ok_and(|message| filters.iter().all(|filter| matches(filter, Some(&message))))
        }
    });
    if options.old {
        let (boxes, reverse) = (Arc::clone(&ctx.boxes), options.reverse);
        let numbers = blocking(move || {
            let readable = boxes.readable()?;
            let mut numbers: Vec<u32> =
                readable.iter().map(|found| found.number).filter(|number| u64::from(*number) < end).collect();
            if reverse {
                numbers.reverse();
            }
            Ok::<_, Failure>(numbers)
        })
        .await?;
        let walk = Walk::Numbers(numbers.into());
        let cursor = Cursor { walk, left: options.limit, keep: Some(Arc::clone(&keep)) };
        send_old(ctx, cursor, painter.clone(), out).await?;
    }
    send_live(ctx, &options, end, keep, painter, out).await
}

/// The filters of a query.
fn filters(query: &Value) -> Result<Vec<Value>, Failure> {
    if !truthy(query) {
        return Ok(Vec::new());
    }
    let steps = query.as_array().ok_or_else(|| Failure::usage("a query is a list of steps"))?;
    let filter = |step: &Value| match step.as_object() {
        Some(step) if step.len() == 1 && step.contains_key("$filter") => Ok(step["$filter"].clone()),
        _ => Err(Failure::usage(format!("private.read understands only $filter steps, and not {step}"))),
    };
    steps.iter().map(filter).collect()
}

/// Whether a value passes a filter, as `map-filter-reduce` has it.
fn matches(filter: &Value, found: Option<&Value>) -> bool {
    let Some(fields) = filter.as_object() else { return found == Some(filter) };
    if fields.keys().any(|name| name.starts_with('$')) {
        return fields.iter().all(|(operator, wanted)| passes(operator, wanted, found));
    }
    fields.iter().all(|(name, filter)| matches(filter, found.and_then(|found| found.get(name))))
}

fn passes(operator: &str, wanted: &Value, found: Option<&Value>) -> bool {
    let compare = || compare(found?, wanted);
    match operator {
        "$eq" => found == Some(wanted),
        "$ne" => found != Some(wanted),
        "$gt" => compare().is_some_and(std::cmp::Ordering::is_gt),
        "$gte" => compare().is_some_and(std::cmp::Ordering::is_ge),
        "$lt" => compare().is_some_and(std::cmp::Ordering::is_lt),
        "$lte" => compare().is_some_and(std::cmp::Ordering::is_le),
        "$prefix" => {
            found.and_then(Value::as_str).zip(wanted.as_str()).is_some_and(|(found, wanted)| found.starts_with(wanted))
        }
        "$in" => found.zip(wanted.as_array()).is_some_and(|(found, wanted)| wanted.contains(found)),
        "$is" => kind(found) == wanted.as_str(),
        _ => false,
    }
}

fn compare(a: &Value, b: &Value) -> Option<std::cmp::Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn kind(value: Option<&Value>) -> Option<&'static str> {
    Some(match value {
        None => "undefined",
        Some(Value::Null | Value::Object(_)) => "object",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(_)) => "number",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "array",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn filters_look_into_the_message() {
        let message = json!({"value": {"content": {"type": "post", "text": "hello"}}, "timestamp": 5});
        let passes = |filter: Value| matches(&filter, Some(&message));
        assert!(passes(json!({"value": {"content": {"type": "post"}}})));
        assert!(!passes(json!({"value": {"content": {"type": "vote"}}})));
        assert!(passes(json!({"timestamp": {"$gt": 4, "$lte": 5}})));
        assert!(passes(json!({"value": {"content": {"text": {"$prefix": "hel"}}}})));
        assert!(passes(json!({"value": {"content": {"type": {"$in": ["post", "vote"]}}}})));
        assert!(passes(json!({"value": {"content": {"root": {"$is": "undefined"}}}})));
    }

    #[test]
    fn steps_other_than_filters_are_refused() {
        assert!(filters(&json!([{"$filter": {}}, {"$map": "value"}])).is_err());
        assert_eq!(filters(&json!(null)).unwrap(), Vec::<Value>::new());
    }

    #[test]
    fn readers_may_be_given_as_ids_or_links() {
        let id = "@HsKUZVEeFbiPTzWtaaDSKdwplQ/toWK/xUDqM9fq6ao=.ed25519";
        for value in [json!(id), json!({"link": id}), json!({"public": &id[1..]})] {
            assert_eq!(reader(&value).unwrap().to_string(), id);
        }
        assert!(reader(&json!("y")).is_none());
    }
}
