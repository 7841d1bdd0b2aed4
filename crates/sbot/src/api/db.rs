//! Single messages and the state of feeds: `get`, `add`, `publish`, `getLatest`, `latestSequence`, `getFeedState`,
//! `getVectorClock`, `latest`, `del`, `createWriteStream`.
//!
//! Sources: `ssb-db/{index,minimal,extras}.js`, `ssb-db/lib/validators.js`, `ssb-db/indexes/last.js`.

use std::sync::Arc;

use bytes::Bytes;
use sbot_feed::{FeedId, FeedTip, MsgId};
use sbot_rpc::{Body, Call, Inlet, Outlet, Registry};
use sbot_store::{Ingested, Record};
use serde::Serialize;
use serde_json::{Map, Value};

use super::args::{Args, feed_id, field, is_object, msg_id, truthy};
use super::cursor::CHUNK;
use super::failure::Failure;
use super::paint::{message, message_with};
use super::register::{answer as method, source};
use super::{Caller, Context, Stop, blocking, ended, json as answer, outlive};
use crate::content::is_link;

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = method!(registry, ctx, asynchronous, "get", |ctx, args| get(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "publish", |ctx, args| publish(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "add", |ctx, args| add(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "getLatest", |ctx, args| latest_message(ctx, args).await);
    registry = method!(registry, ctx, asynchronous, "latestSequence", |ctx, args| latest_sequence(ctx, args));
    registry = method!(registry, ctx, asynchronous, "getFeedState", |ctx, args| feed_state(ctx, args));
    registry = method!(registry, ctx, asynchronous, "getVectorClock", |ctx, _| vector_clock(ctx));
    registry = method!(registry, ctx, asynchronous, "del", |_, args| del(args));
    registry = source!(registry, ctx, "latest", |ctx, _, _, out| latest(ctx, out).await);
    let ctx = Arc::clone(ctx);
    registry.sink("createWriteStream", move |_: Call<Caller>, mut input| {
        let ctx = Arc::clone(&ctx);
        outlive(async move { ended(write(&ctx, &mut input).await) })
    })
}

/// `get`: an id, a record's number, or `{id, private, unbox, meta}`; an id may carry `?unbox=KEY`.
pub(super) async fn get(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let value = args.required(0)?;
    let wanted = Wanted::read(&value)?;
    let record = match wanted.what {
        What::Number(number) => {
            let store = ctx.store.clone();
            let found = blocking(move || store.record(number)).await?;
            let record = found.ok_or_else(|| Failure::not_found(number))?;
            return Ok(Body::Json(message(&record)));
        }
        What::Message(id) => {
            let store = ctx.store.clone();
            blocking(move || store.get(&id)).await?.ok_or_else(|| Failure::not_found(id))?
        }
    };
    let revealed = match (&wanted.unbox, wanted.private) {
        (Some(key), true) => ctx.boxes.reveal_with_key(&record.value, key),
        (None, true) => ctx.boxes.reveal(&record.value),
        (_, false) => None,
    };
    let value = revealed.unwrap_or_else(|| record.value.clone());
    if !wanted.meta {
        return Ok(Body::Json(value));
    }
    Ok(Body::Json(message_with(&record, &value)))
}

enum What {
    Message(MsgId),
    Number(u64),
}

struct Wanted {
    what: What,
    private: bool,
    unbox: Option<String>,
    meta: bool,
}

impl Wanted {
    fn read(value: &Value) -> Result<Self, Failure> {
        let no_key = || Failure::new("ssb-db.get: key *must* be a ssb message id or a flume offset");
        let (key, private, unbox, meta) = if value.is_object() {
            let unbox = field(value, "unbox").as_str().map(str::to_owned);
            (field(value, "id"), field(value, "private") == &Value::Bool(true), unbox, truthy(field(value, "meta")))
        } else {
            (value, false, None, false)
        };
        if let Some(number) = key.as_u64() {
            return Ok(Self { what: What::Number(number), private, unbox, meta });
        }
        let Some(text) = key.as_str() else { return Err(no_key()) };
        if let Some(id) = msg_id(key) {
            return Ok(Self { what: What::Message(id), private, unbox, meta });
        }
        if let Some((id, query)) = text.split_once('?')
            && let Ok(id) = id.parse()
        {
            let parameter = |name| query_parameter(query, name);
            let unbox = parameter("unbox").map(|key| key.replace(' ', "+"));
            let meta = parameter("meta").is_some_and(|meta| !meta.is_empty());
            return Ok(Self { what: What::Message(id), private: true, unbox, meta });
        }
        // a bare string has passed for a link or a number before it gets this far
        if value.is_string() && !(text.starts_with('%') && is_link(text)) && text.trim().parse::<f64>().is_err() {
            return Err(Failure::argument_type(0, "object"));
        }
        Err(no_key())
    }
}

/// One parameter of a query string, decoded.
fn query_parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode =
            |text: &str| percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        (decode(key) == name).then(|| decode(value))
    })
}

/// `publish`: a content, or an already encrypted one as a string.
pub(super) async fn publish(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let content = args.required_text(0)?;
    let record = ctx.publisher.publish(content.as_bytes()).await?;
    Ok(Body::Json(message(&record)))
}

/// `add`: a signed message, checked and appended.
pub(super) async fn add(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let text = args.required_text(0)?;
    let value = args.required(0)?;
    check_message(&value)?;
    let author = feed_id(field(&value, "author")).ok_or_else(|| Failure::field_missing(0, "author", "feedId"))?;
    let tip = ctx.store.tip(&author);
    // the place is checked before the signature, so that the caller hears what ssb-validate would say
    if !follows(tip.as_ref(), &value) {
        return Err(refusal(&author, tip.as_ref(), &value));
    }
    let ingested = ctx.store.ingest(vec![Bytes::copy_from_slice(text.as_bytes())]).await;
    let record = match ingested.into_iter().next() {
        Some(Ingested::Stored { number, .. }) => {
            let store = ctx.store.clone();
            blocking(move || store.record(number)).await?
        }
        Some(Ingested::Invalid { error, .. }) => return Err(Failure::new(error.to_string())),
        _ => return Err(refusal(&author, ctx.store.tip(&author).as_ref(), &value)),
    };
    let record = record.ok_or_else(|| Failure::new("the message was stored, but can't be read back"))?;
    Ok(Body::Json(message(&record)))
}

/// Whether a message is the next one of its feed.
fn follows(tip: Option<&FeedTip>, value: &Value) -> bool {
    let expected = tip.map_or(1, |tip| tip.sequence + 1);
    let sequence = field(value, "sequence").as_f64() == Some(expected as f64);
    sequence && msg_id(field(value, "previous")) == tip.map(|tip| tip.key)
}

/// Why a message doesn't follow on its feed, in the words of `ssb-validate`.
fn refusal(author: &FeedId, tip: Option<&FeedTip>, value: &Value) -> Failure {
    let Some(tip) = tip else {
        let what = if field(value, "previous").is_null() { "sequence: 1" } else { "previous: null" };
        return Failure::new(format!("initial message must have {what}, on feed:{author}"));
    };
    let found = field(value, "sequence");
    if found.as_u64() == Some(tip.sequence + 1) {
        return Failure::new(format!("invalid message: expected different previous message, on feed:{author}"));
    }
    let mut number = ryu_js::Buffer::new();
    Failure::new(format!(
        "invalid message: expected sequence {} but got:{found}in state:{{\"id\":\"{}\",\"sequence\":{},\"timestamp\":{},\"queue\":[]}}, on feed:{author}",
        tip.sequence + 1,
        tip.key,
        tip.sequence,
        number.format(tip.timestamp),
    ))
}

/// The shape of a message, as `ssb-db/lib/validators.js` checks it before anything else.
fn check_message(value: &Value) -> Result<(), Failure> {
    let missing = |name, kind| Err(Failure::field_missing(0, name, kind));
    if !is_object(value) {
        return Err(Failure::argument_type(0, "msg"));
    }
    let content = field(value, "content");
    if !truthy(content) || !(content.is_string() || is_object(content)) {
        return missing("content", "object|string");
    }
    if is_object(content) && field(content, "type").as_str().is_none_or(str::is_empty) {
        return missing("content.type", "string");
    }
    if feed_id(field(value, "author")).is_none() {
        return missing("author", "feedId");
    }
    let Some(sequence) = field(value, "sequence").as_f64() else { return missing("sequence", "number") };
    let previous = field(value, "previous");
    if sequence > 1.0 && msg_id(previous).is_none() {
        return missing("previous", "msgId");
    }
    if sequence == 1.0 && !previous.is_null() {
        return missing("previous", "null");
    }
    if !field(value, "timestamp").is_number() {
        return missing("timestamp", "number");
    }
    if field(value, "hash") != "sha256" {
        return Err(Failure::usage("Param 0 must have .hash set to \"sha256\""));
    }
    if !field(value, "signature").is_string() {
        return missing("signature", "string");
    }
    Ok(())
}

/// `createWriteStream`: messages, each as its value; those that don't fit are passed over.
pub(super) async fn write(ctx: &Context, input: &mut Inlet) -> Result<(), Stop> {
    let mut items = Vec::new();
    while input.recv_many(&mut items).await? > 0 {
        let messages = items.drain(..).map(Body::into_bytes).collect();
        for outcome in ctx.store.ingest(messages).await {
            if let Ingested::Invalid { error, author, .. } = outcome {
                tracing::debug!(?author, %error, "a message on a write stream isn't valid");
            }
        }
    }
    let store = ctx.store.clone();
    blocking(move || store.flush()).await?;
    Ok(())
}

/// `getLatest`: a feed's newest message as `{key, value}`; `false` if there is none.
pub(super) async fn latest_message(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let author = args.required_feed(0)?;
    let Some(tip) = ctx.store.tip(&author) else { return Ok(super::nothing()) };
    let store = ctx.store.clone();
    let record: Option<Record> = blocking(move || store.get(&tip.key)).await?;
    let record = record.ok_or_else(|| Failure::not_found(tip.key))?;
    let mut body = format!("{{\"key\":\"{}\",\"value\":", record.key).into_bytes();
    body.extend_from_slice(&record.value);
    body.push(b'}');
    Ok(Body::Json(body.into()))
}

/// `latestSequence`: a feed's newest sequence number.
pub(super) fn latest_sequence(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    let author = args.required_feed(0)?;
    let tip = ctx.store.tip(&author).ok_or_else(|| Failure::new(format!("not found:{author}")))?;
    answer(&tip.sequence)
}

/// `getFeedState`: id and sequence number of a feed's newest message; `null` and 0 if there is none.
pub(super) fn feed_state(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    #[derive(Serialize)]
    struct State {
        id: Option<String>,
        sequence: u64,
    }
    let tip = ctx.store.tip(&args.required_feed(0)?);
    answer(&State { id: tip.as_ref().map(|tip| tip.key.to_string()), sequence: tip.map_or(0, |tip| tip.sequence) })
}

/// `getVectorClock`: the newest sequence number of every feed.
pub(super) fn vector_clock(ctx: &Context) -> Result<Body, Failure> {
    let clock: Map<String, Value> =
        ctx.store.clock().into_iter().map(|(feed, sequence)| (feed.to_string(), sequence.into())).collect();
    answer(&clock)
}

/// `latest`: every feed as `{id, sequence, ts}`, `ts` being what its newest message claims.
pub(super) async fn latest(ctx: &Context, out: &mut Outlet) -> Result<(), Stop> {
    let feeds: Vec<FeedId> = ctx.store.clock().into_iter().map(|(feed, _)| feed).collect();
    for feeds in feeds.chunks(CHUNK) {
        let bodies = feeds
            .iter()
            .filter_map(|feed| Some((feed, ctx.store.tip(feed)?)))
            .map(|(feed, tip)| {
                let time = ryu_js::Buffer::new().format(tip.timestamp).to_owned();
                Body::Json(format!("{{\"id\":\"{feed}\",\"sequence\":{},\"ts\":{time}}}", tip.sequence).into())
            })
            .collect();
        out.send_many(bodies).await?;
    }
    Ok(())
}

/// `del`: refused. What was checked and stored stays, since peers count on a feed without gaps.
pub(super) fn del(args: &Args<'_>) -> Result<Body, Failure> {
    let target = args.required(0)?;
    if !target.as_str().is_some_and(|text| text.starts_with('%') && is_link(text)) && feed_id(&target).is_none() {
        return Err(Failure::argument_type(0, "feedId"));
    }
    Err(Failure::new(
        "del is refused: the log is append-only, and a feed with a gap could be neither checked nor served; \
         block the author instead, so that nothing more of the feed is fetched",
    ))
}
