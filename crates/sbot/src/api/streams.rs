//! The message streams: `createLogStream`, `createFeedStream`, `createHistoryStream`, `createUserStream`,
//! `messagesByType`, `createRawLogStream`, `createSequenceStream`.
//!
//! Each is an old part, a walk over records that are there, and a live part, a filter over those that come. The border
//! between the two is the log's length when the call came: nothing is sent twice, nothing is missed.
//!
//! Sources: `ssb-db/{extras,minimal,util}.js`, `ssb-db/indexes/{time,feed,clock,links}.js`, `ssb-replicate/legacy.js`
//! (which stands before `createHistoryStream` in ssb-server).

use std::sync::Arc;

use sbot_feed::FeedId;
use sbot_rpc::{Body, Outlet, Registry};
use sbot_store::{Direction, Record};
use serde_json::Value;

use super::args::{Args, feed_id, field, truthy};
use super::cursor::{CHUNK, CHUNK_BYTES, Cursor, Keep, Walk, first_received};
use super::failure::Failure;
use super::options::{Options, Range, check, flag, number};
use super::paint::{Painter, put_message, resolved_time};
use super::register::source;
use super::{Caller, Context, Stop, blocking};
use crate::content::{kind, may_be_of_type, raw_content};
use crate::private::Boxes;

/// The end of the old part.
pub(super) const SYNC: &[u8] = b"{\"sync\":true}";

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = source!(registry, ctx, "createLogStream", |ctx, _, args, out| log(ctx, args, out).await);
    registry = source!(registry, ctx, "createFeedStream", |ctx, _, args, out| feed(ctx, args, out).await);
    registry =
        source!(registry, ctx, "createHistoryStream", |ctx, caller, args, out| history(ctx, caller, args, out).await);
    registry = source!(registry, ctx, "createUserStream", |ctx, _, args, out| user(ctx, args, out).await);
    registry = source!(registry, ctx, "messagesByType", |ctx, _, args, out| by_type(ctx, args, out).await);
    registry = source!(registry, ctx, "createRawLogStream", |ctx, _, args, out| raw_log(ctx, args, out).await);
    source!(registry, ctx, "createSequenceStream", |ctx, _, _, out| sequence(ctx, out).await)
}

/// `createLogStream`: everything in the order in which it came.
pub(super) async fn log(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let value = options_or_none(args)?;
    if truthy(field(&value, "raw")) {
        return raw(ctx, &value, out, true).await;
    }
    let options = Options::read(&value);
    let range = Range::read_log(&value);
    let painter = Painter::new(&options, &ctx.boxes);
    let end = ctx.store.len();
    if options.old {
        let (first, last) = received_between(ctx, range).await?;
        let walk = Walk::Log { next: first, end: last.min(end), reverse: options.reverse };
        send_old(ctx, Cursor { walk, left: options.limit, keep: None }, painter.clone(), out).await?;
    }
    let keep: Keep = Arc::new(move |record| range.contains(record.received));
    send_live(ctx, &options, end, keep, painter, out).await
}

/// `createFeedStream`: everything by the time that the authors claim.
pub(super) async fn feed(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let value = options_or_none(args)?;
    let options = Options::read(&value);
    let range = Range::read_feed(&value);
    let painter = Painter::new(&options, &ctx.boxes).with_resolved_time();
    let end = ctx.store.len();
    if options.old {
        let reverse = options.reverse;
        let store = ctx.store.clone();
        let numbers = blocking(move || {
            let mut numbers = store.by_claimed_time(range.bounds())?;
            numbers.retain(|&number| u64::from(number) < end);
            if reverse {
                numbers.reverse();
            }
            Ok::<_, Failure>(numbers)
        })
        .await?;
        let cursor = Cursor { walk: Walk::Numbers(numbers.into()), left: options.limit, keep: None };
        send_old(ctx, cursor, painter.clone(), out).await?;
    }
    let keep: Keep = Arc::new(move |record| range.contains(resolved_time(record)));
    send_live(ctx, &options, end, keep, painter, out).await
}

/// `createHistoryStream`: a feed from a sequence number on, `{id, seq, limit, live, old, keys, values}` or `id, seq, live`.
///
/// Never decrypts and never marks the end of the old part. A caller who isn't the owner gets nothing of a feed whose
/// author blocks him, and nothing from the message on that says so.
pub(super) async fn history(ctx: &Context, caller: &Caller, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let value = history_options(args)?;
    ctx.replication.history_requested(&caller.id);
    let known = feed_id(field(&value, "id"));
    let options = Options { sync: false, reverse: false, private: false, ..Options::read(&value) };
    let sequence = [field(&value, "sequence"), field(&value, "seq")].into_iter().find(|value| truthy(value));
    // `as` saturates, so that a negative number is the feed's beginning
    let from = sequence.and_then(Value::as_f64).map_or(0, |number| number.ceil() as u64).max(1);
    let Some(author) = known else {
        // nobody's feed: nothing ever comes
        if options.live {
            out.closed().await;
        }
        return Ok(());
    };
    let guarded = (!caller.is_owner()).then_some(caller.id);
    if !ctx.gate.gives_feed(caller, &author) {
        return Ok(());
    }
    let painter = Painter::new(&options, &ctx.boxes).sealed();
    let last = ctx.store.tip(&author).map_or(0, |tip| tip.sequence);
    if options.old {
        let walk = Walk::Feed { author, next: from, last, reverse: false };
        let cursor = Cursor { walk, left: options.limit, keep: None };
        if send_until_blocked(ctx, cursor, guarded, &painter, out).await? {
            return Ok(());
        }
    }
    if !options.live {
        return Ok(());
    }
    let mut length = ctx.store.watch();
    let mut next = from.max(last + 1);
    loop {
        length.mark_unchanged();
        // Looking up the tip costs next to nothing: a peer without EBT has a stream open for each feed.
        while ctx.store.tip(&author).is_some_and(|tip| tip.sequence >= next) {
            let _turn = out.turn().await?;
            let store = ctx.store.clone();
            let mut records = blocking(move || store.read_feed_within(&author, next, CHUNK, CHUNK_BYTES)).await?;
            let Some(newest) = records.last() else { break };
            next = newest.sequence + 1;
            if !ctx.gate.gives_feed(caller, &author) {
                return Ok(());
            }
            let blocked = cut_where_blocked(&mut records, guarded);
            let bodies = painter.paint(&records);
            drop(records);
            out.send_many(bodies).await?;
            if blocked {
                return Ok(());
            }
        }
        tokio::select! {
            changed = length.changed() => if changed.is_err() { return Ok(()) },
            () = out.closed() => return Ok(()),
        }
    }
}

/// `createUserStream`: a feed within bounds.
pub(super) async fn user(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let value = args.required(0)?;
    check(0, &value, "createUserStreamOpts")?;
    let author = feed_id(field(&value, "id")).ok_or_else(|| Failure::field_missing(0, "id", "feedId"))?;
    let options = Options::read(&value);
    let range = Range::read(&value);
    let painter = Painter::new(&options, &ctx.boxes);
    let end = ctx.store.len();
    let last = ctx.store.tip(&author).map_or(0, |tip| tip.sequence);
    if options.old {
        let walk = Walk::Feed {
            author,
            next: first_where(1, last + 1, |sequence| range.is_below(sequence)),
            last: first_where(1, last + 1, |sequence| !range.is_above(sequence)) - 1,
            reverse: options.reverse,
        };
        send_old(ctx, Cursor { walk, left: options.limit, keep: None }, painter.clone(), out).await?;
    }
    let sent = if options.old { last } else { 0 };
    let keep: Keep = Arc::new(move |record| {
        record.author == author && record.sequence > sent && range.contains(record.sequence as f64)
    });
    send_live(ctx, &options, end, keep, painter, out).await
}

/// `messagesByType`: a type's name, or `{type}` with options. Private messages that we can read count by their type.
pub(super) async fn by_type(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let mut value = args.required(0)?;
    if let Value::String(name) = value {
        value = serde_json::json!({ "type": name });
    }
    check(0, &value, "messagesByTypeOpts")?;
    let options = Options::read(&value);
    let range = Range::read(&value);
    let Some(wanted) = field(&value, "type").as_str().map(str::to_owned) else {
        // ssb-db looks up whatever it is given and finds nothing
        return send_live(ctx, &options, ctx.store.len(), Arc::new(|_| false), Painter::new(&options, &ctx.boxes), out)
            .await;
    };
    let painter = Painter::new(&options, &ctx.boxes);
    let end = ctx.store.len();
    if options.old {
        let (first, last) = received_between(ctx, range).await?;
        let (boxes, name, reverse) = (Arc::clone(&ctx.boxes), wanted.clone(), options.reverse);
        let store = ctx.store.clone();
        let numbers = blocking(move || {
            let mut numbers = store.by_type(&name);
            let of_kind = |found: &&crate::private::Readable| found.kind.as_deref() == Some(name.as_str());
            numbers.extend(boxes.readable()?.iter().filter(of_kind).map(|found| found.number));
            numbers.retain(|number| (first..last.min(end)).contains(&u64::from(*number)));
            numbers.sort_unstable();
            if reverse {
                numbers.reverse();
            }
            Ok::<_, Failure>(numbers)
        })
        .await?;
        let cursor = Cursor { walk: Walk::Numbers(numbers.into()), left: options.limit, keep: None };
        send_old(ctx, cursor, painter.clone(), out).await?;
    }
    let boxes = Arc::clone(&ctx.boxes);
    let quoted = serde_json::to_vec(&wanted).map_err(|error| Failure::new(error.to_string()))?;
    let keep: Keep =
        Arc::new(move |record| range.contains(record.received) && is_of_type(record, &wanted, &quoted, &boxes));
    send_live(ctx, &options, end, keep, painter, out).await
}

fn is_of_type(record: &Record, wanted: &str, quoted: &[u8], boxes: &Boxes) -> bool {
    let content = raw_content(&record.value);
    if content.starts_with(b"\"") {
        return boxes.find(record.number).is_some_and(|message| message.kind.as_deref() == Some(wanted));
    }
    may_be_of_type(content, quoted) && kind(content).as_deref() == Some(wanted)
}

/// `createRawLogStream`: records with their numbers, as `{seq, value}`; here a number counts messages and not bytes.
pub(super) async fn raw_log(ctx: &Context, args: &Args<'_>, out: &mut Outlet) -> Result<(), Stop> {
    let value = options_or_none(args)?;
    raw(ctx, &value, out, false).await
}

async fn raw(ctx: &Context, value: &Value, out: &mut Outlet, value_first: bool) -> Result<(), Stop> {
    let options = Options::read(value);
    let range = Range::read(value);
    let end = ctx.store.len();
    let keep: Keep = Arc::new(move |record| range.contains(record.number as f64));
    let mut left = options.limit;
    if options.old {
        let walk = Walk::Log { next: 0, end, reverse: options.reverse };
        let mut cursor = Cursor { walk, left, keep: Some(Arc::clone(&keep)) };
        loop {
            let store = ctx.store.clone();
            let (records, back) = blocking(move || cursor.next(&store).map(|records| (records, cursor))).await?;
            if records.is_empty() {
                left = back.left;
                break;
            }
            cursor = back;
            out.send_many(paint_raw(&records, value_first)).await?;
        }
    }
    // here the limit counts the live part too
    if !options.live {
        return Ok(());
    }
    let mut tail = Tail::new(ctx, end, keep);
    while left > 0 {
        let Some(mut records) = tail.next(out).await? else { break };
        records.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= records.len() as u64;
        out.send_many(paint_raw(&records, value_first)).await?;
    }
    Ok(())
}

fn paint_raw(records: &[Record], value_first: bool) -> Vec<Body> {
    let paint = |record: &Record| {
        let mut body = Vec::with_capacity(record.value.len() + 200);
        let seq = format!("\"seq\":{}", record.number);
        body.push(b'{');
        if !value_first {
            body.extend_from_slice(seq.as_bytes());
            body.push(b',');
        }
        body.extend_from_slice(b"\"value\":");
        put_message(&mut body, record, &record.value);
        if value_first {
            body.push(b',');
            body.extend_from_slice(seq.as_bytes());
        }
        body.push(b'}');
        Body::Json(body.into())
    };
    records.iter().map(paint).collect()
}

/// `createSequenceStream`: the number of the newest record, now and whenever there is a newer one; −1 for none.
pub(super) async fn sequence(ctx: &Context, out: &mut Outlet) -> Result<(), Stop> {
    let mut length = ctx.store.watch();
    loop {
        let newest = i64::try_from(*length.borrow_and_update()).unwrap_or(i64::MAX) - 1;
        out.send(super::json(&newest)?).await?;
        tokio::select! {
            changed = length.changed() => if changed.is_err() { return Ok(()) },
            () = out.closed() => return Ok(()),
        }
    }
}

/// Options that may be left out.
fn options_or_none(args: &Args<'_>) -> Result<Value, Failure> {
    if args.text(0).is_none() {
        return Ok(Value::Null);
    }
    let value = args.value(0)?;
    check(0, &value, "readStreamOpts")?;
    Ok(value)
}

/// The options of `createHistoryStream` in either form. Without a usable id there is nothing to check, nor to send.
fn history_options(args: &Args<'_>) -> Result<Value, Failure> {
    let value = args.value(0)?;
    if feed_id(&value).is_some() {
        let mut options = serde_json::json!({ "id": value });
        for (at, name) in [(1, "seq"), (2, "live")] {
            let value = args.value(at)?;
            options[name] = value;
        }
        return Ok(options);
    }
    if feed_id(field(&value, "id")).is_some() {
        // the last form that was tried names the error
        let wrong = |_| Failure::argument_type(0, "feedId");
        number(0, &value, "seq").map_err(wrong)?;
        number(0, &value, "limit").map_err(wrong)?;
        for name in ["live", "keys", "values"] {
            flag(0, &value, name).map_err(wrong)?;
        }
    }
    Ok(value)
}

/// The numbers of the records received within `range`: the first, and the one behind the last.
async fn received_between(ctx: &Context, range: Range) -> Result<(u64, u64), Failure> {
    let store = ctx.store.clone();
    blocking(move || {
        let first = first_received(&store, |received| range.is_below(received))?;
        let last = first_received(&store, |received| !range.is_above(received))?;
        Ok::<_, Failure>((first, last))
    })
    .await
}

/// The first sequence number from `low` below `high` for which `skip` doesn't hold; `skip` holds up to some number.
fn first_where(mut low: u64, mut high: u64, skip: impl Fn(f64) -> bool) -> u64 {
    while low < high {
        let middle = low + (high - low) / 2;
        if skip(middle as f64) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Sends what a cursor finds; the next chunk is read while one is sent.
pub(super) async fn send_old(ctx: &Context, cursor: Cursor, painter: Painter, out: &mut Outlet) -> Result<(), Stop> {
    let read = |mut cursor: Cursor, painter: Painter| {
        let store = ctx.store.clone();
        blocking(move || {
            let records = cursor.next(&store)?;
            Ok::<_, Failure>((painter.paint(&records), cursor, painter))
        })
    };
    let (mut bodies, mut cursor, mut painter) = read(cursor, painter).await?;
    while !bodies.is_empty() {
        let ahead = tokio::spawn(read(cursor, painter));
        out.send_many(bodies).await?;
        (bodies, cursor, painter) = ahead.await.map_err(|error| Failure::new(error.to_string()))??;
    }
    Ok(())
}

/// Marks the end of the old part if that is asked for, and goes on with what comes.
pub(super) async fn send_live(
    ctx: &Context,
    options: &Options,
    from: u64,
    keep: Keep,
    painter: Painter,
    out: &mut Outlet,
) -> Result<(), Stop> {
    if !options.live {
        return Ok(());
    }
    if options.marks() {
        out.send(Body::Json(SYNC.into())).await?;
    }
    let mut tail = Tail::new(ctx, from, keep);
    while let Some(records) = tail.next(out).await? {
        let bodies = if painter.opens() {
            let painter = painter.clone();
            blocking(move || Ok::<_, Failure>(painter.paint(&records))).await?
        } else {
            painter.paint(&records)
        };
        out.send_many(bodies).await?;
    }
    Ok(())
}

/// Sends a feed's messages; stops before the one with which its author blocks `remote`, and says whether it did.
async fn send_until_blocked(
    ctx: &Context,
    mut cursor: Cursor,
    remote: Option<FeedId>,
    painter: &Painter,
    out: &mut Outlet,
) -> Result<bool, Stop> {
    loop {
        let _turn = out.turn().await?;
        let store = ctx.store.clone();
        let (mut records, back) = blocking(move || cursor.next(&store).map(|records| (records, cursor))).await?;
        cursor = back;
        if records.is_empty() {
            return Ok(false);
        }
        let blocked = cut_where_blocked(&mut records, remote);
        let bodies = painter.paint(&records);
        drop(records);
        out.send_many(bodies).await?;
        if blocked {
            return Ok(true);
        }
    }
}

/// Drops the message by which its author blocks `remote`, and what follows it.
fn cut_where_blocked(records: &mut Vec<Record>, remote: Option<FeedId>) -> bool {
    let Some(remote) = remote else { return false };
    let needle = remote.to_string();
    let blocks = |record: &Record| {
        let content = raw_content(&record.value);
        memchr::memmem::find(content, needle.as_bytes()).is_some()
            && sbot_graph::contact_from_content(content) == Some((remote, sbot_graph::Relation::Block))
    };
    match records.iter().position(blocks) {
        Some(at) => {
            records.truncate(at);
            true
        }
        None => false,
    }
}

/// The records that come after some number, as they come.
pub(super) struct Tail<'a> {
    ctx: &'a Context,
    next: u64,
    keep: Keep,
    length: tokio::sync::watch::Receiver<u64>,
}

impl<'a> Tail<'a> {
    pub(super) fn new(ctx: &'a Context, next: u64, keep: Keep) -> Self {
        Self { ctx, next, keep, length: ctx.store.watch() }
    }

    /// Waits for records that belong into the stream. `None` when the caller has gone or the store is closed.
    pub(super) async fn next(&mut self, out: &Outlet) -> Result<Option<Vec<Record>>, Stop> {
        loop {
            let end = *self.length.borrow_and_update();
            while self.next < end {
                let (store, from, keep) = (self.ctx.store.clone(), self.next, Arc::clone(&self.keep));
                let (records, next) = blocking(move || {
                    let mut records = store.read_log(from, CHUNK, Direction::Forward)?;
                    let next = records.last().map_or(end, |record| record.number + 1);
                    records.retain(|record| keep(record));
                    Ok::<_, Failure>((records, next))
                })
                .await?;
                self.next = next;
                if !records.is_empty() {
                    return Ok(Some(records));
                }
            }
            tokio::select! {
                changed = self.length.changed() => if changed.is_err() { return Ok(None) },
                () = out.closed() => return Ok(None),
            }
        }
    }
}
