//! `hubs.*`: signalling hubs, where peers are met that can't be dialed. ssb-server has none.

use std::sync::Arc;

use sbot_feed::FeedId;
use sbot_multiserver::HubAddress;
use sbot_peer_manager::Status;
use sbot_rpc::{Body, Registry};
use serde::Serialize;

use super::args::Args;
use super::failure::Failure;
use super::peers::as_text;
use super::register::answer as method;
use super::{Caller, Context, json as answer};

/// What the API needs of the signalling hubs.
pub trait Hubs: Send + Sync {
    /// All hubs, by address.
    fn list(&self) -> Vec<HubEntry>;
    /// Uses a hub from now on; answers whether it wasn't used before.
    ///
    /// # Errors
    /// If there are too many.
    fn add(&self, hub: &HubAddress) -> Result<bool, Failure>;
    /// Uses a hub no longer; answers whether it was used. One of the settings is used again from the next start on.
    fn remove(&self, hub: &HubAddress) -> bool;
}

/// A signalling hub.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HubEntry {
    /// Its address, `https://HOST[:PORT]`.
    pub hub: String,
    /// `disconnected`, `connecting` or `connected`.
    pub state: &'static str,
    /// Since when, in milliseconds since 1970.
    pub state_change: u64,
    /// `config` or `manual`.
    pub source: &'static str,
    /// Who says that it is there.
    pub peers: Vec<HubPeer>,
    /// How often it was tried, in all.
    pub attempts: u32,
    /// How often in a row it has failed.
    pub failures: u32,
    /// What went wrong last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it was connected last, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<u64>,
    /// When it is tried next, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try: Option<u64>,
    /// Messages that were listened to since it is connected.
    pub heard: u64,
    /// Messages that were not: too many, too long or malformed.
    pub passed_over: u64,
    /// Messages of ours that went there.
    pub sent: u64,
    /// Messages of ours that could not be sent.
    pub unsent: u64,
}

/// A peer at a hub, as it says.
#[derive(Debug, Clone, Serialize)]
pub struct HubPeer {
    /// Its key.
    #[serde(serialize_with = "as_text")]
    pub key: FeedId,
    /// Where it can be dialed.
    pub address: String,
    /// What is going on with it by this hub.
    pub state: Status,
}

/// Offers these methods.
pub(super) fn register(mut registry: Registry<Caller>, ctx: &Arc<Context>) -> Registry<Caller> {
    registry = method!(registry, ctx, sync, "hubs.ls", |ctx, _| answer(&ctx.hubs.list()));
    registry = method!(registry, ctx, sync, "hubs.add", |ctx, args| add(ctx, args));
    registry = method!(registry, ctx, sync, "hubs.remove", |ctx, args| remove(ctx, args));
    method!(registry, ctx, sync, "hubs.help", |_, _| answer(&super::help::hubs()))
}

fn address(args: &Args<'_>) -> Result<HubAddress, Failure> {
    let value = args.required(0)?;
    let text =
        value.as_str().ok_or_else(|| Failure::new(format!("{value} is no address of a hub: expected a text")))?;
    HubAddress::parse(text).map_err(|error| Failure::new(error.to_string()))
}

fn add(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    answer(&ctx.hubs.add(&address(args)?)?)
}

fn remove(ctx: &Context, args: &Args<'_>) -> Result<Body, Failure> {
    answer(&ctx.hubs.remove(&address(args)?))
}
