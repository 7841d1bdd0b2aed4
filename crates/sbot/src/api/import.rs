//! `sbot.import`: messages from a file, with an account of what became of them. Our own addition to ssb-server's methods.
//!
//! Items in are messages, as the value or as `{key, value, timestamp}`. After each batch an account of it comes back:
//! `{stored, duplicate, refused: [{item, reason}]}`, items counted from 0 over the whole stream. The accounts end when the
//! items have ended and all is on disk.

use std::sync::Arc;

use sbot_rpc::{Body, Call, Inlet, Outlet, Registry};
use sbot_store::Ingested;
use serde::Serialize;

use super::failure::Failure;
use super::{Caller, Context, Stop, blocking, ended, json};

/// Offers this method.
pub(super) fn register(registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    let ctx = Arc::clone(ctx);
    registry.duplex("sbot.import", move |_: Call<Caller>, mut input, mut out| {
        let ctx = Arc::clone(&ctx);
        async move { ended(stream(&ctx, &mut input, &mut out).await) }
    })
}

/// What became of a batch.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Account {
    stored: u64,
    duplicate: u64,
    refused: Vec<Refusal>,
}

/// A message that wasn't taken.
#[derive(Debug, PartialEq, Serialize)]
struct Refusal {
    item: u64,
    reason: String,
}

/// `sbot.import`.
pub(super) async fn stream(ctx: &Context, input: &mut Inlet, out: &mut Outlet) -> Result<(), Stop> {
    let mut first = 0;
    let mut items = Vec::new();
    while input.recv_many(&mut items).await? > 0 {
        let count = items.len() as u64;
        let outcomes = ctx.store.ingest(items.drain(..).map(Body::into_bytes).collect()).await;
        let mut account = Account::default();
        for (item, outcome) in (first..).zip(outcomes) {
            account.note(item, &outcome);
        }
        first += count;
        out.send(json(&account)?).await?;
    }
    let store = ctx.store.clone();
    blocking(move || store.flush().map_err(Failure::from)).await?;
    Ok(())
}

impl Account {
    fn note(&mut self, item: u64, outcome: &Ingested) {
        let reason = match outcome {
            Ingested::Stored { .. } => {
                self.stored += 1;
                return;
            }
            Ingested::Duplicate { .. } => {
                self.duplicate += 1;
                return;
            }
            Ingested::Gap { author, sequence, .. } => {
                format!("a message is missing before sequence {sequence} of {author}")
            }
            Ingested::Fork { author, sequence, .. } => {
                format!("sequence {sequence} of {author} forks the feed: another message has that place")
            }
            Ingested::Invalid { error, .. } => error.to_string(),
        };
        self.refused.push(Refusal { item, reason });
    }
}
