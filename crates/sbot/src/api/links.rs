//! `links`: who links to what.
//!
//! `source` and `dest` are ids, or `@ % &` (also `feed msg blob`) for any of a kind; `rel` is the field that holds the
//! link. Answers come in the order of the index that would have been read: by source, field and target, or by target
//! first if only a target is given. `limit` has no effect, as in ssb-db. Links in private messages that we can read count.
//!
//! Sources: `ssb-db/indexes/links.js`, `ssb-db/lib/validators.js`.

use std::sync::Arc;

use bytes::Bytes;
use sbot_rpc::{Body, Outlet, Registry};
use sbot_store::{Link, LinkEnd, LinkQuery, Record, Store, links_of};
use serde_json::Value;

use super::args::{Args, field, is_object, truthy};
use super::cursor::{CHUNK, Keep};
use super::failure::Failure;
use super::options::{Options, flag};
use super::register::source;
use super::streams::{SYNC, Tail};
use super::{Caller, Context, Stop, blocking};
use crate::content::{boxed, is_link, raw_content};
use crate::private::Boxes;

/// Offers this method.
pub(super) fn register(registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    source!(registry, ctx, "links", |ctx, _, args, out| stream(ctx, args, out).await)
}

/// What is asked for.
#[derive(Debug, Clone)]
struct Query {
    links: LinkQuery,
    meta: bool,
    keys: bool,
    values: bool,
}

fn end(value: &Value, name: &str) -> Result<LinkEnd, Failure> {
    let wrong = || Failure::field_type(0, name, "id|filter");
    let found = field(value, name);
    if !truthy(found) {
        return Ok(LinkEnd::Any);
    }
    match found.as_str().ok_or_else(wrong)? {
        "@" | "feed" => Ok(LinkEnd::Kind(b'@')),
        "%" | "msg" => Ok(LinkEnd::Kind(b'%')),
        "&" | "blob" => Ok(LinkEnd::Kind(b'&')),
        id if is_link(id) => Ok(LinkEnd::Id(id.to_owned())),
        _ => Err(wrong()),
    }
}

impl Query {
    fn read(value: &Value) -> Result<Self, Failure> {
        if !is_object(value) {
            return Err(Failure::argument_type(0, "linksOpts"));
        }
        let (source, dest) = (end(value, "source")?, end(value, "dest")?);
        let rel = field(value, "rel");
        if truthy(rel) && !rel.is_string() {
            return Err(Failure::field_type(0, "rel", "string"));
        }
        for name in ["live", "reverse", "keys", "values"] {
            flag(0, value, name)?;
        }
        let off = |name| field(value, name) == &Value::Bool(false);
        let rel = rel.as_str().filter(|rel| !rel.is_empty()).map(str::to_owned);
        let query = Self {
            links: LinkQuery { source, dest, rel },
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

    /// The links in one message that match; those of a private one if we can read it.
    fn links(&self, record: &Record, boxes: &Boxes) -> Vec<Link> {
        let content = raw_content(&record.value);
        self.links.select(record, || match boxed(content) {
            Some(_) => boxes.find(record.number).map(|message| message.links).unwrap_or_default(),
            None => links_of(content),
        })
    }

    /// All links among the first `end` records that match. Blocks.
    fn all(&self, store: &Store, boxes: &Boxes, end: u64, reverse: bool) -> Result<Vec<Link>, Failure> {
        let mut found = store.links(&self.links)?;
        let public = found.len();
        let readable = boxes.readable()?;
        let private =
            readable.iter().filter(|message| message.links.iter().any(|(rel, dest)| self.links.fits(rel, dest)));
        for message in private {
            let record = store.record(message.number.into())?;
            found.extend(record.iter().flat_map(|record| self.links(record, boxes)));
        }
        found.retain(|link| link.number < end);
        if found.len() != public {
            self.sort(&mut found);
        }
        if reverse {
            found.reverse();
        }
        Ok(found)
    }

    fn sort(&self, links: &mut [Link]) {
        let backwards = self.links.source == LinkEnd::Any && self.links.dest != LinkEnd::Any;
        links.sort_by_cached_key(|link| {
            let (source, dest) = (link.source.to_string(), link.dest.clone());
            let (from, to) = if backwards { (dest, source) } else { (source, dest) };
            (from, link.rel.clone(), to, link.sequence, link.key)
        });
    }

    /// What to show of links; reads their messages if those are asked for. Blocks.
    fn show_all(&self, links: &[Link], store: &Store, boxes: &Boxes) -> Result<Vec<Body>, Failure> {
        links
            .iter()
            .map(|link| {
                let record = if self.values { store.record(link.number)? } else { None };
                Ok(self.show(link, record.map(|record| self.value(&record, boxes))))
            })
            .collect()
    }

    /// A message's value: without `meta` decrypted if we can, as in ssb-db, whose `format` takes the cyphertext back for
    /// links with `meta` alone.
    fn value(&self, record: &Record, boxes: &Boxes) -> Bytes {
        let plain = if self.meta { None } else { boxes.reveal_record(record) };
        plain.unwrap_or_else(|| record.value.clone())
    }

    fn show(&self, link: &Link, value: Option<Bytes>) -> Body {
        // a message that can't be read any more is shown as null
        let value = value.unwrap_or_else(|| Bytes::from_static(b"null"));
        if !self.meta && !self.keys {
            return Body::Json(value);
        }
        if !self.meta && !self.values {
            return super::paint::text(&link.key);
        }
        let mut body = b"{".to_vec();
        let mut put = |name: &str, json: &[u8]| {
            if body.len() > 1 {
                body.push(b',');
            }
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(json);
        };
        if self.meta {
            put("\"source\":", format!("\"{}\"", link.source).as_bytes());
            put("\"rel\":", Value::from(link.rel.as_str()).to_string().as_bytes());
            put("\"dest\":", Value::from(link.dest.as_str()).to_string().as_bytes());
        }
        if self.keys {
            put("\"key\":", format!("\"{}\"", link.key).as_bytes());
        }
        if self.values {
            put("\"value\":", &value);
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
        let (wanted, store, boxes) = (Arc::clone(&query), ctx.store.clone(), Arc::clone(&ctx.boxes));
        let mut links = blocking(move || wanted.all(&store, &boxes, end, options.reverse)).await?;
        while !links.is_empty() {
            let rest = links.split_off(links.len().min(CHUNK));
            let (query, store, boxes) = (Arc::clone(&query), ctx.store.clone(), Arc::clone(&ctx.boxes));
            out.send_many(blocking(move || query.show_all(&links, &store, &boxes)).await?).await?;
            links = rest;
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
        let links = records
            .iter()
            .flat_map(|record| query.links(record, &ctx.boxes).into_iter().map(move |link| (link, record)));
        let shown = links.map(|(link, record)| query.show(&link, Some(query.value(record, &ctx.boxes))));
        out.send_many(shown.collect()).await?;
    }
    Ok(())
}
