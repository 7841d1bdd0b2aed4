//! `sbot hub`: a signalling hub until someone stops it.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use clap::Args;
use sbot_hub::{Limits, Server, Settings};
use serde_json::json;

use super::failure::{Code, Failure};
use super::output::Output;
use super::server::{SHUTDOWN, Signals, allow_many_files, runtime, start_logging};
use crate::config::LogLevel;

/// Where it listens if nothing is said.
const PORT: u16 = 8080;

/// Options of `sbot hub`.
#[derive(Debug, Args)]
pub(super) struct HubOptions {
    /// Open subscriptions, in all; a peer has two
    #[arg(long, value_name = "N", default_value_t = Limits::default().subscribers)]
    max_subscribers: usize,
    /// Open subscriptions from one address (one of IPv4, or a /64 of IPv6)
    #[arg(long, value_name = "N", default_value_t = Limits::default().subscribers_per_address)]
    max_per_address: usize,
    /// Open connections, in all
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections)]
    max_connections: usize,
    /// Open connections from one address
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections_per_address)]
    max_connections_per_address: usize,
    /// Channels of one subscription
    #[arg(long, value_name = "N", default_value_t = Limits::default().channels)]
    max_channels: usize,
    /// Bytes of a channel's name
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().name)]
    max_name: usize,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().body)]
    max_body: usize,
    /// Requests a second from one address, over ten seconds
    #[arg(long, value_name = "N", default_value_t = Limits::default().requests)]
    max_requests: u32,
    /// Bytes of messages a second from one address, over ten seconds
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().bytes)]
    max_bytes: u32,
    /// Bytes that may wait for one subscriber; who falls further behind is dropped
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().waiting)]
    max_waiting: usize,
    /// Address of a proxy before the hub, which names who asks in X-Forwarded-For; may be given more than once
    #[arg(long, value_name = "IP")]
    behind_proxy: Vec<IpAddr>,
    /// Don't answer GET /metrics
    #[arg(long)]
    no_metrics: bool,
}

impl HubOptions {
    fn settings(self) -> Settings {
        let limits = Limits {
            subscribers: self.max_subscribers,
            subscribers_per_address: self.max_per_address,
            connections: self.max_connections,
            connections_per_address: self.max_connections_per_address,
            channels: self.max_channels,
            name: self.max_name,
            body: self.max_body,
            requests: self.max_requests,
            bytes: self.max_bytes,
            waiting: self.max_waiting,
            ..Limits::default()
        };
        Settings { limits, proxies: self.behind_proxy, hide_metrics: self.no_metrics }
    }
}

/// What `sbot hub` takes of the options of every command.
pub(super) struct Place {
    pub(super) host: Option<String>,
    pub(super) port: Option<String>,
    pub(super) logging_level: Option<String>,
    pub(super) json: bool,
}

/// Runs a hub until SIGINT or SIGTERM.
pub(super) fn run(options: HubOptions, place: Place, output: Output) -> Result<(), Failure> {
    let level = match &place.logging_level {
        None => LogLevel::default(),
        Some(name) => LogLevel::from_name(name).ok_or_else(|| {
            Failure::usage(format!("{name:?} is no level of logging: error, warning, notice, info, trace"))
        })?,
    };
    let port = match &place.port {
        None => PORT,
        Some(port) => port.parse().map_err(|_| Failure::usage(format!("{port:?} is no port: 0 to 65535")))?,
    };
    start_logging(level);
    allow_many_files();
    let runtime = runtime("sbot-hub", 1)?;
    let ended = runtime.block_on(serve(options.settings(), place.host.as_deref(), port, place.json, output));
    runtime.shutdown_timeout(SHUTDOWN);
    ended
}

async fn serve(
    settings: Settings,
    host: Option<&str>,
    port: u16,
    json: bool,
    mut output: Output,
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let server = bind(host, port, settings).await?;
    let (address, watch) = (server.address()?, server.watch());
    let url = format!("http://{address}");
    if json {
        output.line(&json!({ "address": address.ip(), "port": address.port(), "url": url }).to_string())?;
    } else {
        output.line(&format!("listening on {url}"))?;
    }
    output.flush()?;
    let stop = async {
        let name = signals.next().await;
        tracing::info!("stopping because of {name}");
    };
    server.run(stop).await;
    let counts = watch.counts();
    tracing::info!(messages = counts.messages, deliveries = counts.deliveries, slow = counts.slow, "stopped");
    Ok(())
}

/// Listens at `host`, or on every interface: with IPv6 if the system has it.
async fn bind(host: Option<&str>, port: u16, settings: Settings) -> Result<Server, Failure> {
    let bound = match host {
        Some(host) => Server::bind((host, port), settings).await,
        None => {
            let any = |ip: &str| ip.parse().map(|ip: IpAddr| SocketAddr::new(ip, port)).into_iter();
            let every: Vec<_> = any("::").chain(any("0.0.0.0")).collect();
            Server::bind(&every[..], settings).await
        }
    };
    bound.map_err(|error| {
        let place = host.map_or_else(|| format!("port {port}"), |host| format!("{host}:{port}"));
        let failure = Failure::new(Code::Failed, format!("can't listen on {place}: {error}"));
        match error.kind() {
            ErrorKind::AddrInUse => failure.hint("choose another with --port"),
            ErrorKind::PermissionDenied => {
                failure.hint("ports below 1024 need a privilege: choose another with --port")
            }
            _ => failure,
        }
    })
}
