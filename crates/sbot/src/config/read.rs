//! From files, environment and options to a [`Config`].

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::auth::read_auth;
use super::layers::{Layer, Section, file_layer, merge, text_layer};
use super::{
    ALL_SCOPES, Config, ConfigError, Connections, DEFAULT_PORT, DEFAULT_WS_PORT, LogLevel, MAX_HOPS, NetIncoming,
    Place, Scope, UnixIncoming, Warning,
};

/// Largest config file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// Longest waiting time that can be set, in milliseconds: 24 days, what a JavaScript timer can hold.
const MAX_MS: u64 = 0x7fff_ffff;
/// Why websocket addresses are read and not listened on.
const NO_WS: &str = "there is no websocket transport yet";

/// Where settings are read from. [`Sources::from_process`] fills it as the command line does; tests fill it by hand.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Data directory named on the command line.
    pub path: Option<PathBuf>,
    /// Config file named on the command line.
    pub config_file: Option<PathBuf>,
    /// Settings on the command line: dotted key and text.
    pub options: Vec<(String, String)>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// The user's home directory.
    pub home: Option<PathBuf>,
}

/// Settings, and what was noticed while reading them.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Keys that do nothing.
    pub warnings: Vec<Warning>,
    /// The config files that were there, in the order of reading.
    pub files: Vec<PathBuf>,
    /// `remote`: the multiserver address of the server that clients should use.
    pub remote: Option<String>,
}

impl Sources {
    /// This process' environment and home directory, nothing else. Variables that are no Unicode are left out.
    pub fn from_process() -> Self {
        let text = |value: OsString| value.into_string().ok();
        Self {
            environment: std::env::vars_os().filter_map(|(key, value)| Some((text(key)?, text(value)?))).collect(),
            home: std::env::home_dir().filter(|home| !home.as_os_str().is_empty()),
            ..Self::default()
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let (_, value) = self.environment.iter().find(|(key, _)| key == name)?;
        (!value.is_empty()).then_some(value)
    }

    /// The application's name: `ssb_appname`, else `ssb`.
    pub fn app_name(&self) -> &str {
        self.variable("ssb_appname").unwrap_or("ssb")
    }

    fn directory_outside_files(&self) -> Option<PathBuf> {
        let named = || self.variable(&format!("{}_path", self.app_name())).or_else(|| self.variable("ssb_path"));
        self.path.clone().or_else(|| named().map(PathBuf::from))
    }

    fn home_directory(&self) -> Option<PathBuf> {
        Some(self.home.as_ref()?.join(format!(".{}", self.app_name())))
    }

    fn environment_layer(&self) -> Layer {
        let prefix = format!("{}_", self.app_name());
        text_layer(self.environment.iter().filter_map(|(name, value)| {
            let key = name.strip_prefix(&prefix)?;
            let path: Vec<String> = key.split("__").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            (!path.is_empty()).then(|| (path, value.clone(), Place::Environment(name.clone())))
        }))
    }

    fn option_layer(&self) -> Layer {
        text_layer(self.options.iter().map(|(key, value)| {
            let path = key.split('.').map(str::to_owned).collect();
            (path, value.clone(), Place::Option(format!("--{key}")))
        }))
    }
}

impl Config {
    /// Reads the settings from `sources`, in the order that the module's page gives.
    ///
    /// # Errors
    /// If a file can't be read or is no JSON, a value has the wrong type, two settings contradict one another, or
    /// nothing says where the data directory is.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        let outside = sources.directory_outside_files();
        let start = outside.clone().or_else(|| sources.home_directory());
        let app_config = format!("{}_config", sources.app_name());
        let extra = sources.config_file.clone().or_else(|| sources.variable(&app_config).map(PathBuf::from));

        let mut files = Vec::new();
        let mut layer = text_layer([]);
        let own = start.as_ref().map(|directory| directory.join("config"));
        if let Some(file) = own.filter(|own| Some(own) != extra.as_ref())
            && let Some(text) = read_text(&file, false)?
        {
            layer = merge(layer, file_layer(&file, &text)?);
            files.push(file);
        }
        if let Some(file) = extra
            && let Some(text) = read_text(&file, true)?
        {
            layer = merge(layer, file_layer(&file, &text)?);
            files.push(file);
        }
        layer = merge(layer, sources.environment_layer());
        layer = merge(layer, sources.option_layer());

        let root = Section::root(&layer);
        let in_file = root.text("path")?.map(PathBuf::from);
        let path = outside.or(in_file).or(start).ok_or(ConfigError::NoDirectory)?;
        let mut config = Config::new(path);
        let mut warnings = Vec::new();
        let remote = root.text("remote")?;
        read_into(&mut config, root, &mut warnings)?;
        Ok(Loaded { config, warnings, files, remote })
    }
}

/// The text of `file`; `None` if there is no such file and it need not be there.
fn read_text(file: &Path, must_be: bool) -> Result<Option<String>, ConfigError> {
    let failed = |source| ConfigError::Read { file: file.to_path_buf(), source };
    let handle = match std::fs::File::open(file) {
        Ok(handle) => handle,
        Err(error) if !must_be && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    let length = handle.take(MAX_FILE + 1).read_to_string(&mut text).map_err(failed)?;
    if length as u64 > MAX_FILE {
        return Err(failed(std::io::Error::new(ErrorKind::FileTooLarge, format!("more than {MAX_FILE} bytes"))));
    }
    Ok(Some(text))
}

fn read_into(config: &mut Config, root: Section<'_>, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
    read_caps(config, &root, warnings)?;
    read_connections(config, &root, warnings)?;
    read_timers(config, &root, warnings)?;
    read_replication(config, &root, warnings)?;
    read_peers(config, &root, warnings)?;
    super::rtc::read(&mut config.rtc, &root)?;
    read_blobs(config, &root, warnings)?;
    // After those, whose settings it needs.
    read_auth(config, &root)?;

    if let Some(masters) = root.parsed_list("master", "feed ids, @….ed25519", |text| text.parse().ok())? {
        config.masters = masters;
    }
    set(&mut config.allow_private_invites, root.boolean("allowPrivate")?);
    let logging = root.section("logging")?;
    let levels = "one of error, warning, notice, info, trace";
    set(&mut config.logging.level, logging.parsed("level", levels, LogLevel::from_name)?);
    logging.finish(warnings);

    // What finds these settings, or is told them in another way. Each is known, so none is worth a warning.
    for key in ["path", "config", "configs", "appname", "remote", "_"] {
        let _ = root.place_of(key);
    }
    for (key, why) in [
        ("keys", "the identity is read from the secret file"),
        ("party", "there is no ssb-party here"),
        ("plugins", "there are no plugins"),
        ("temp", "name a temporary directory with path"),
        ("db2", "it is for another database"),
        ("query", "ssb-query is not part of this server"),
        ("ooo", "ssb-ooo is not part of this server"),
        ("invite", "invites need no settings"),
    ] {
        root.ignored(key, why, warnings);
    }
    root.finish(warnings);
    Ok(())
}

fn read_caps(config: &mut Config, root: &Section<'_>, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
    let caps = root.section("caps")?;
    let expected = "32 bytes in base64";
    set(&mut config.caps.shs, caps.parsed("shs", expected, |text| text.parse().ok())?);
    config.caps.sign = caps.parsed("sign", expected, |text| text.parse().ok())?;
    config.caps.invite = caps.parsed("invite", expected, |text| BASE64.decode(text).ok()?.try_into().ok())?;
    caps.finish(warnings);
    Ok(())
}

fn read_connections(config: &mut Config, root: &Section<'_>, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
    let host = root.text("host")?;
    let port = root.port("port")?;
    let ws = root.section("ws")?;
    let (ws_host, ws_port) = (ws.text("host")?, ws.port("port")?);
    for key in ["key", "cert", "external"] {
        ws.ignored(key, NO_WS, warnings);
    }
    ws.finish(warnings);

    let connections = root.section("connections")?;
    let has_incoming = connections.place_of("incoming").is_some();
    let incoming = connections.section("incoming")?;
    if has_incoming {
        config.connections.net = net_entries(&incoming, "net", port.unwrap_or(DEFAULT_PORT), warnings)?;
        config.connections.ws = net_entries(&incoming, "ws", ws_port.unwrap_or(DEFAULT_WS_PORT), warnings)?;
        config.connections.unix = unix_entries(&incoming, &config.path, warnings)?;
        for key in ["onion", "tunnel", "ssb-tunnel", "bluetooth", "channel"] {
            incoming.ignored(key, "this transport can't be listened on", warnings);
        }
    } else {
        let net = NetIncoming::everywhere(port.unwrap_or(DEFAULT_PORT));
        config.connections.net = vec![NetIncoming { host: host.clone(), ..net }];
        if ws_host.is_some() || ws_port.is_some() {
            let ws = NetIncoming::everywhere(ws_port.unwrap_or(DEFAULT_WS_PORT));
            config.connections.ws = vec![NetIncoming { host: ws_host.or_else(|| host.clone()), ..ws }];
        }
    }
    if !config.connections.ws.is_empty() {
        let (place, key) = match incoming.place_of("ws") {
            Some(place) => (Some(place), "connections.incoming.ws"),
            None => (root.place_of("ws"), "ws"),
        };
        warnings.extend(place.map(|place| Warning::NoEffect { place, key: key.to_owned(), why: NO_WS }));
    }
    incoming.finish(warnings);
    if has_incoming {
        reconcile(config, root, host, port)?;
    }

    let outgoing = connections.section("outgoing")?;
    let Connections { dial_net, dial_onion, dial_ws, .. } = &mut config.connections;
    for (dial, key) in [(dial_net, "net"), (dial_onion, "onion"), (dial_ws, "ws")] {
        if let Some(entries) = outgoing.sections(key)? {
            *dial = !entries.is_empty();
            for entry in entries {
                entry.parsed("transform", "\"shs\"", |text| (text == "shs").then_some(()))?;
                entry.finish(warnings);
            }
        }
    }
    for key in ["tunnel", "ssb-tunnel", "bluetooth", "channel", "unix"] {
        outgoing.ignored(key, "this transport can't be dialed", warnings);
    }
    outgoing.finish(warnings);
    connections.finish(warnings);
    Ok(())
}

/// `host` and `port` beside `connections.incoming`: on the command line or in the environment they win over its first
/// `net` entry; in a file they must agree with it, as ssb-config demands (`util/fix-connections.js`).
fn reconcile(
    config: &mut Config,
    root: &Section<'_>,
    host: Option<String>,
    port: Option<u16>,
) -> Result<(), ConfigError> {
    let Some(first) = config.connections.net.first_mut() else { return Ok(()) };
    let conflict = |place: Place, key: &str| ConfigError::Conflict {
        place,
        message: format!("{key} and connections.incoming.net say different things; leave one of them out"),
    };
    if let (Some(host), Some(place)) = (host, root.place_of("host")) {
        match &first.host {
            Some(known) if *known != host && matches!(place, Place::File { .. }) => {
                return Err(conflict(place, "host"));
            }
            _ => first.host = Some(host),
        }
    }
    if let (Some(port), Some(place)) = (port, root.place_of("port")) {
        if first.port != port && matches!(place, Place::File { .. }) {
            return Err(conflict(place, "port"));
        }
        first.port = port;
    }
    Ok(())
}

fn net_entries(
    incoming: &Section<'_>,
    key: &'static str,
    default_port: u16,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<NetIncoming>, ConfigError> {
    let mut found = Vec::new();
    for entry in incoming.sections(key)?.unwrap_or_default() {
        let expected = "\"shs\" (noauth, which lets everyone in as the owner, is for unix sockets alone)";
        entry.parsed("transform", expected, |text| (text == "shs").then_some(()))?;
        found.push(NetIncoming {
            host: entry.text("host")?,
            port: entry.port("port")?.unwrap_or(default_port),
            scopes: scopes(&entry)?,
            external: entry.parsed_list("external", "host names", |text| Some(text.to_owned()))?.unwrap_or_default(),
        });
        if key == "ws" {
            for key in ["key", "cert"] {
                entry.ignored(key, NO_WS, warnings);
            }
        }
        entry.finish(warnings);
    }
    Ok(found)
}

fn unix_entries(
    incoming: &Section<'_>,
    directory: &Path,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<UnixIncoming>, ConfigError> {
    let mut found = Vec::new();
    for entry in incoming.sections("unix")?.unwrap_or_default() {
        entry.parsed("transform", "\"noauth\"", |text| (text == "noauth").then_some(()))?;
        entry.parsed_list("scope", "\"device\"", |text| (text == "device").then_some(()))?;
        let path = entry.text("path")?.map_or_else(|| directory.join("socket"), PathBuf::from);
        for key in ["host", "port"] {
            let _ = entry.place_of(key);
        }
        found.push(UnixIncoming { path });
        entry.finish(warnings);
    }
    Ok(found)
}

fn scopes(entry: &Section<'_>) -> Result<Vec<Scope>, ConfigError> {
    let scope = |text: &str| match text {
        "device" => Some(Scope::Device),
        "local" | "private" => Some(Scope::Local),
        "public" => Some(Scope::Public),
        _ => None,
    };
    let found = entry.parsed_list("scope", "device, local (or private) or public, or several of them", scope)?;
    Ok(found.filter(|scopes| !scopes.is_empty()).unwrap_or_else(|| ALL_SCOPES.to_vec()))
}

fn read_timers(config: &mut Config, root: &Section<'_>, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
    let timers = root.section("timers")?;
    let milliseconds = |value: Option<u64>| value.map(Duration::from_millis);
    // 0 is ssb-config's way of writing "as usual".
    if let Some(timeout) = root.integer("timeout", 0, MAX_MS)?.filter(|ms| *ms > 0) {
        config.timers.inactivity = Some(Duration::from_millis(timeout));
    }
    if let Some(inactivity) = timers.integer("inactivity", 0, MAX_MS)? {
        config.timers.inactivity = (inactivity > 0).then(|| Duration::from_millis(inactivity));
    }
    set(&mut config.timers.handshake, milliseconds(timers.integer("handshake", 1, MAX_MS)?));
    set(&mut config.timers.ping, milliseconds(timers.integer("ping", 1, MAX_MS)?));
    for key in ["connection", "reconnect", "keepalive"] {
        timers.ignored(key, "pauses between dials follow from how they went", warnings);
    }
    timers.finish(warnings);
    Ok(())
}

fn read_replication(config: &mut Config, root: &Section<'_>, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
    let friends = root.section("friends")?;
    let replicate = root.section("replicate")?;
    let hops = |value: Option<u64>| value.and_then(|hops| u8::try_from(hops).ok());
    // As ssb-replicate's own, older name for it: friends.hops wins.
    set(&mut config.friends.hops, hops(replicate.integer("hops", 0, MAX_HOPS.into())?));
    set(&mut config.friends.hops, hops(friends.integer("hops", 0, MAX_HOPS.into())?));
    friends.ignored("dunbar", "hops alone decide whose feeds are kept", warnings);
    friends.ignored("hookAuth", "blocked peers are always refused", warnings);
    friends.finish(warnings);
    set(&mut config.replication.legacy, replicate.boolean("legacy")?);
    replicate.ignored("fallback", "peers without EBT are always asked in the older way", warnings);
    replicate.finish(warnings);
    let ebt = root.section("ebt")?;
    set(&mut config.replication.ebt, ebt.boolean("enabled")?);
    ebt.ignored("logging", "logging.level decides", warnings);
    ebt.finish(warnings);
    Ok(())
}

fn read_peers(config: &mut Config, root: &Section<'_>, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
    let peers = &mut config.peers;
    let gossip = root.section("gossip")?;
    let conn = root.section("conn")?;
    set(&mut peers.local, root.boolean("local")?);
    set(&mut peers.local, gossip.boolean("local")?);
    set(&mut peers.mdns, root.boolean("mdns")?);
    let dht = root.section("dht")?;
    set(&mut peers.dht, dht.boolean("enabled")?);
    let node =
        |text: &str| text.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map(|_| text.to_owned());
    set(&mut peers.dht_bootstrap, dht.parsed_list("bootstrap", "nodes of the table, HOST:PORT", node)?);
    dht.finish(warnings);
    set(&mut peers.pubs, root.boolean("pub")?);
    set(&mut peers.pubs, gossip.boolean("pub")?);
    set(&mut peers.pubs, gossip.boolean("autoPopulate")?.filter(|populate| !populate));
    set(&mut peers.pubs, conn.boolean("populatePubs")?);
    let pub_hops = conn.integer("pubHops", 0, MAX_HOPS.into())?;
    set(&mut peers.pub_hops, pub_hops.and_then(|hops| u8::try_from(hops).ok()));
    set(&mut peers.autostart, conn.boolean("autostart")?);
    if root.boolean("offline")? == Some(true) {
        peers.autostart = false;
    }
    let connections = gossip.integer("connections", 0, 1000)?;
    set(&mut peers.connections, connections.and_then(|count| u16::try_from(count).ok()));
    set(&mut peers.seeds, root.parsed_list("seeds", "multiserver addresses", |text| Some(text.to_owned()))?);
    for key in ["friends", "global", "seed"] {
        gossip.ignored(key, "whom to dial follows from the social graph", warnings);
    }
    conn.ignored("hops", "whom to dial follows from the social graph", warnings);
    conn.ignored("firewall", "blocked peers are always refused, unknown ones never", warnings);
    gossip.finish(warnings);
    conn.finish(warnings);
    Ok(())
}

/// Most days that a blob's age may be set to: a century.
const MAX_DAYS: u64 = 36_500;

fn read_blobs(config: &mut Config, root: &Section<'_>, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
    let section = root.section("blobs")?;
    let blobs = &mut config.blobs;
    let small = |value: Option<u64>| value.and_then(|value| u8::try_from(value).ok());
    set(&mut blobs.sympathy, small(section.integer("sympathy", 0, 100)?));
    set(&mut blobs.pushy, small(section.integer("pushy", 0, 100)?));
    set(&mut blobs.stingy, section.boolean("stingy")?);
    set(&mut blobs.legacy, section.boolean("legacy")?);
    set(&mut blobs.max, section.integer("max", 1, 1 << 40)?);
    blobs.quota = section.integer("quota", 0, u64::MAX >> 12)?;
    blobs.author_quota = section.integer("authorQuota", 0, u64::MAX >> 12)?;
    let days = section.integer("maxAge", 1, MAX_DAYS)?;
    blobs.max_age = days.map(|days| Duration::from_secs(days * 24 * 60 * 60));
    let mentions = section.section("mentions")?;
    blobs.mentions.hops = small(mentions.integer("hops", 0, MAX_HOPS.into())?);
    set(&mut blobs.mentions.types, mentions.parsed_list("types", "message types", |text| Some(text.to_owned()))?);
    blobs.mentions.max = mentions.integer("max", 1, 1 << 40)?;
    mentions.finish(warnings);
    section.finish(warnings);
    Ok(())
}

fn set<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
