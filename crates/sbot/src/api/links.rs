//! `links`: who links to what.
//!
//! `source` and `dest` are ids, or `@ % &` (also `feed msg blob`) for any of a kind; `rel` is the field that holds the
//! link. Answers come in the order of the index that would have been read: by source, field and target, or by target
//! first if only a target is given. `limit` has no effect, as in ssb-db.
//!
//! Sources: `ssb-db/indexes/links.js`, `ssb-db/lib/validators.js`.

use std::sync::Arc;

use bytes::Bytes;
use sbot_feed::FeedId;
use sbot_rpc::{Body, Outlet, Registry};
use sbot_store::{Record, Store};
use serde_json::Value;

use super::args::{Args, field, is_object, truthy};
use super::cursor::{CHUNK, Keep, Walk};
use super::failure::Failure;
use super::options::{Options, flag};
use super::register::source;
use super::streams::{SYNC, Tail};
use super::{Caller, Context, Stop, blocking};
use crate::content::{boxed, is_link, links, raw_content};
use crate::private::Boxes;

/// Offers this method.
pub(super) fn register(registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    source!(registry, ctx, "links", |ctx, _, args, out| stream(ctx, args, out).await)
}

/// One side of a link: nothing, a kind, or an id.
#[derive(Debug, Clone, PartialEq)]
enum End {
    Any,
    Kind(u8),
    Id(String),
}

impl End {
    fn read(value: &Value, name: &str) -> Result<Self, Failure> {
        let wrong = || Failure::field_type(0, name, "id|filter");
        let found = field(value, name);
        if !truthy(found) {
            return Ok(Self::Any);
        }
        let text = found.as_str().ok_or_else(wrong)?;
        match text {
            "@" | "feed" => Ok(Self::Kind(b'@')),
            "%" | "msg" => Ok(Self::Kind(b'%')),
            "&" | "blob" => Ok(Self::Kind(b'&')),
            id if is_link(id) => Ok(Self::Id(id.to_owned())),
            _ => Err(wrong()),
        }
    }

    fn matches(&self, id: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Kind(sigil) => id.as_bytes().first() == Some(sigil),
            Self::Id(wanted) => wanted == id,
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
struct Query {
    source: End,
    dest: End,
    rel: Option<String>,
    /// `rel` as it stands in JSON, unless it would have to be escaped.
    field: Option<Vec<u8>>,
    meta: bool,
    keys: bool,
    values: bool,
}

/// One link, with what is needed to sort and show it.
struct Link {
    source: String,
    rel: String,
    dest: String,
    sequence: u64,
    key: String,
    value: Bytes,
}

impl Query {
    fn read(value: &Value) -> Result<Self, Failure> {
        if !is_object(value) {
            return Err(Failure::argument_type(0, "linksOpts"));
        }
        let (source, dest) = (End::read(value, "source")?, End::read(value, "dest")?);
        let rel = field(value, "rel");
        if truthy(rel) && !rel.is_string() {
            return Err(Failure::field_type(0, "rel", "string"));
        }
        for name in ["live", "reverse", "keys", "values"] {
            flag(0, value, name)?;
        }
        let off = |name| field(value, name) == &Value::Bool(false);
        let rel = rel.as_str().filter(|rel| !rel.is_empty());
        let plain = rel.filter(|rel| rel.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let query = Self {
            source,
            dest,
            rel: rel.map(str::to_owned),
            field: plain.map(|rel| format!("\"{rel}\":").into_bytes()),
            meta: !off("meta"),
            keys: !off("keys"),
            values: field(value, "values") == &Value::Bool(true),
        };
        if !query.meta && !query.keys && !query.values {
            return Err(Failure::new(
                "a stream of links needs something to show: set at least one of keys, values and meta",
            ));
        }
        Ok(query)
    }

    fn matches(&self, rel: &str, dest: &str) -> bool {
        self.rel.as_deref().is_none_or(|wanted| wanted == rel) && self.dest.matches(dest)
    }

    /// A quick look whether there can be such a link: ids need no escapes, so they stand in the JSON as they are.
    fn may_match(&self, content: &[u8]) -> bool {
        if self.field.as_ref().is_some_and(|field| memchr::memmem::find(content, field).is_none()) {
            return false;
        }
        match &self.dest {
            End::Id(id) => memchr::memmem::find(content, id.as_bytes()).is_some(),
            End::Kind(sigil) => memchr::memmem::find(content, &[b'"', *sigil]).is_some(),
            End::Any => true,
        }
    }

    /// Whether the index by target is read.
    fn backwards(&self) -> bool {
        self.source == End::Any && self.dest != End::Any
    }

    fn links(&self, record: &Record, boxes: &Boxes) -> Vec<Link> {
        let source = record.author.to_string();
        if !self.source.matches(&source) {
            return Vec::new();
        }
        let content = raw_content(&record.value);
        let found = match boxed(content) {
            Some(_) => boxes.find(record.number).map(|message| message.links).unwrap_or_default(),
            None => links(content),
        };
        found
            .into_iter()
            .filter(|(rel, dest)| self.matches(rel, dest))
            .map(|(rel, dest)| Link {
                source: source.clone(),
                rel,
                dest,
                sequence: record.sequence,
                key: record.key.to_string(),
                value: record.value.clone(),
            })
            .collect()
    }

    fn sort(&self, links: &mut [Link], reverse: bool) {
        let backwards = self.backwards();
        links.sort_by(|a, b| {
            let (from_a, to_a) = if backwards { (&a.dest, &a.source) } else { (&a.source, &a.dest) };
            let (from_b, to_b) = if backwards { (&b.dest, &b.source) } else { (&b.source, &b.dest) };
            (from_a, &a.rel, to_a, a.sequence, &a.key).cmp(&(from_b, &b.rel, to_b, b.sequence, &b.key))
        });
        if reverse {
            links.reverse();
        }
    }

    fn show(&self, link: &Link) -> Body {
        if !self.meta {
            return match (self.keys, self.values) {
                (true, false) => Body::String(Bytes::from(link.key.clone())),
                (false, _) => Body::Json(link.value.clone()),
                (true, true) => {
                    let mut body = b"{\"key\":\"".to_vec();
                    body.extend_from_slice(link.key.as_bytes());
                    body.extend_from_slice(b"\",\"value\":");
                    body.extend_from_slice(&link.value);
                    body.push(b'}');
                    Body::Json(body.into())
                }
            };
        }
        let mut body = Vec::new();
        for (name, text) in [("{\"source\":", &link.source), (",\"rel\":", &link.rel), (",\"dest\":", &link.dest)] {
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(Value::from(text.as_str()).to_string().as_bytes());
        }
        if self.keys {
            body.extend_from_slice(b",\"key\":\"");
            body.extend_from_slice(link.key.as_bytes());
            body.push(b'"');
        }
        if self.values {
            body.extend_from_slice(b",\"value\":");
            body.extend_from_slice(&link.value);
        }
        body.push(b'}');
        Body::Json(body.into())
    }
}

/// `links`.
pub(super) async fn stream(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let value = args.required(0)?;
    let query = Arc::new(Query::read(&value)?);
    let options = Options::read(&value);
    let end = ctx.store.len();
    if options.old {
        let (query, store, boxes) = (Arc::clone(&query), ctx.store.clone(), Arc::clone(&ctx.boxes));
        let reverse = options.reverse;
        let bodies = blocking(move || {
            let mut links = collect(&store, &boxes, &query, end)?;
            query.sort(&mut links, reverse);
            Ok::<_, Failure>(links.iter().map(|link| query.show(link)).collect::<Vec<_>>())
        })
        .await?;
        let mut bodies = bodies.into_iter().peekable();
        while bodies.peek().is_some() {
            out.send_many(bodies.by_ref().take(CHUNK).collect()).await?;
        }
    }
    if !options.live {
        return Ok(());
    }
    if options.marks() {
        out.send(Body::Json(SYNC.into())).await?;
    }
    let keep: Keep = {
        let (query, boxes) = (Arc::clone(&query), Arc::clone(&ctx.boxes));
        Arc::new(move |record| !query.links(record, &boxes).is_empty())
    };
    let mut tail = Tail::new(ctx, end, keep);
    while let Some(records) = tail.next(out).await? {
        let links = records.iter().flat_map(|record| query.links(record, &ctx.boxes));
        out.send_many(links.map(|link| query.show(&link)).collect()).await?;
    }
    Ok(())
}

/// All links among the first `end` records that match. Blocks: unless the source is one feed, it looks at every message.
fn collect(store: &Store, boxes: &Boxes, query: &Query, end: u64) -> Result<Vec<Link>, Failure> {
    let mut walk = match &query.source {
        End::Id(id) => match id.parse::<FeedId>() {
            Ok(author) => {
                let last = store.tip(&author).map_or(0, |tip| tip.sequence);
                Walk::Feed { author, next: 1, last, reverse: false }
            }
            // only feeds link
            Err(_) => return Ok(Vec::new()),
        },
        _ => Walk::Log { next: 0, end, reverse: false },
    };
    let mut found = Vec::new();
    loop {
        let records = walk.read(store, CHUNK)?;
        if records.is_empty() {
            break;
        }
        let public = |record: &&Record| {
            let content = raw_content(&record.value);
            record.number < end && boxed(content).is_none() && query.may_match(content)
        };
        found.extend(records.iter().filter(public).flat_map(|record| query.links(record, boxes)));
    }
    let private: Vec<u32> = {
        let readable = boxes.readable()?;
        let matching = readable.iter().filter(|message| u64::from(message.number) < end);
        let matching = matching.filter(|message| message.links.iter().any(|(rel, dest)| query.matches(rel, dest)));
        matching.map(|message| message.number).collect()
    };
    for numbers in private.chunks(CHUNK) {
        found.extend(store.records(numbers)?.iter().flat_map(|record| query.links(record, boxes)));
    }
    Ok(found)
}
