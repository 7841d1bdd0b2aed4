//! The peers of other programs: `conn.json` (ssb-conn) and `gossip.json` (ssb-gossip) in the data directory.
//!
//! Each is read once, and again only when it has changed; it is never written. What our own table knows already stays as
//! it is: a file only adds peers and addresses. A file that can't be understood is warned about and changes nothing.
//!
//! Sources: ssb-conn-db 1.0 `index.js`, `migration.js` and `atomic-file-codecs.js`; ssb-gossip 1.1 `index.js`; what isn't
//! taken over is what ssb-conn 6.0 removes at its start (`conn-scheduler.js`, `cleanUpDB`).

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sbot_feed::FeedId;
use sbot_multiserver::Address;
use sbot_peer_manager::{Durations, Kind, KnownRoute, MAX_ROUTE, Millis, Saved, SavedPeer, Settings, Source};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::notes::{Data, MAX_NOTE, Notes};
use super::{SAVED, SAVED_NOTES};
use crate::state::State as Saves;

/// Bytes of a file that is read: 100 times what an old installation of ssb-conn has.
const MAX_FILE: u64 = 16 << 20;

/// Addresses taken from one file: as many as peers are known at most.
const MOST_ADDRESSES: usize = 10_000;

/// ssb-conn-db takes a file for whole if it is after so many bytes at its end are cut off.
const MOST_RUBBISH: usize = 10;

/// What is read: the file's name, and how it is understood.
const FILES: [(&str, Parse); 2] = [("conn.json", conn_json), ("gossip.json", gossip_json)];

type Parse = fn(&[u8]) -> Result<Vec<(String, Data)>, ImportError>;

/// Why a file isn't taken over.
#[derive(Debug, thiserror::Error)]
enum ImportError {
    /// It can't be read.
    #[error("it can't be read: {0}")]
    Io(#[from] std::io::Error),
    /// It is longer than [`MAX_FILE`].
    #[error("it is longer than {MAX_FILE} bytes")]
    TooLong,
    /// It is no JSON.
    #[error("it is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It has something else after the JSON.
    #[error("{0} bytes follow after the JSON")]
    Rubbish(usize),
    /// Our own table can't be read or saved.
    #[error("the known peers can't be read or saved: {0}")]
    Saves(String),
}

/// An address of another program's.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    key: FeedId,
    route: KnownRoute,
    autoconnect: bool,
    failures: u32,
    changed: Option<Millis>,
    birth: Option<Millis>,
    durations: Durations,
    note: Data,
}

/// Takes over the peers of the files in `dir` that haven't been read yet. Blocking.
pub(crate) fn import_files(dir: &Path, saves: &Saves, own: FeedId) {
    for (name, parse) in FILES {
        let path = dir.join(name);
        match import(&path, name, parse, saves, own) {
            Ok(None) => {}
            Ok(Some(Taken { addresses, passed_over })) => {
                tracing::info!(path = %path.display(), addresses, passed_over, "peers of another program are taken over");
            }
            Err(error) => tracing::warn!(path = %path.display(), "no peers are taken over from this file: {error}"),
        }
    }
}

/// How many addresses were new to us, and how many are of no use here.
#[derive(Debug, PartialEq, Eq)]
struct Taken {
    addresses: usize,
    passed_over: usize,
}

/// Takes over one file; `None` if there is none, or it has been read.
fn import(path: &Path, name: &str, parse: Parse, saves: &Saves, own: FeedId) -> Result<Option<Taken>, ImportError> {
    let Some(text) = read(path)? else { return Ok(None) };
    let hash = Sha256::digest(&text);
    let mark = format!("imported {name}");
    let failed = |error: redb::Error| ImportError::Saves(error.to_string());
    if saves.value(&mark).map_err(failed)?.is_some_and(|read| read == hash.as_slice()) {
        return Ok(None);
    }
    let entries = parse(&text)?;
    let total = entries.len();
    let found = select(entries.into_iter().filter_map(|(address, data)| found(&address, data)).collect());
    let passed_over = total - found.len();

    let value = |name: &str| saves.value(name).map(|value| value.unwrap_or_default()).map_err(failed);
    let (table, notes) = (value(SAVED)?, value(SAVED_NOTES)?);
    let broken = |error: serde_json::Error| ImportError::Saves(error.to_string());
    let mut saved = if table.is_empty() { Saved::default() } else { serde_json::from_slice(&table).map_err(broken)? };
    let mut noted = if notes.is_empty() { Notes::default() } else { Notes::restore(&notes).map_err(broken)? };
    let addresses = merge(&mut saved, &mut noted, found, own);
    saves.save_value(SAVED, &serde_json::to_vec(&saved).map_err(broken)?).map_err(failed)?;
    saves.save_value(SAVED_NOTES, &noted.saved().map_err(broken)?).map_err(failed)?;
    // Last: if this goes wrong, the same is taken over once more.
    saves.save_value(&mark, hash.as_slice()).map_err(failed)?;
    Ok(Some(Taken { addresses, passed_over }))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, ImportError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE { Err(ImportError::TooLong) } else { Ok(Some(text)) }
}

/// The JSON in a file; some bytes too many at its end are what a crash of the other program left of a longer one.
fn json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, ImportError> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter();
    let value = values.next().unwrap_or_else(|| serde_json::from_slice(text))?;
    let rest = text.get(values.byte_offset()..).unwrap_or_default().trim_ascii().len();
    if rest > MOST_RUBBISH { Err(ImportError::Rubbish(rest)) } else { Ok(value) }
}

/// ssb-conn's file: an object of addresses and their data.
fn conn_json(text: &[u8]) -> Result<Vec<(String, Data)>, ImportError> {
    let all: BTreeMap<String, Value> = json(text)?;
    Ok(all.into_iter().filter_map(|(address, data)| Some((address, object(data)?))).collect())
}

/// ssb-gossip's file: a list of peers, each with `address`, or with `host`, `port` and `key`.
fn gossip_json(text: &[u8]) -> Result<Vec<(String, Data)>, ImportError> {
    let all: Vec<Value> = json(text)?;
    let address = |peer: &Data| match peer.get("address").and_then(Value::as_str) {
        Some(address) => address.to_owned(),
        None => ["host", "port", "key"]
            .map(|part| {
                peer.get(part).map_or(String::new(), |part| part.as_str().map_or(part.to_string(), str::to_owned))
            })
            .join(":"),
    };
    Ok(all.into_iter().filter_map(|peer| object(peer).map(|peer| (address(&peer), peer))).collect())
}

fn object(value: Value) -> Option<Data> {
    match value {
        Value::Object(data) => Some(data),
        _ => None,
    }
}

/// An entry of either file; `None` if it can't be dialed by us, or was only good for the moment.
fn found(address: &str, mut data: Data) -> Option<Found> {
    let address = Address::from_any(address).ok()?;
    let key = address.key()?;
    let route = address.to_string();
    let text = |name: &str| data.get(name).and_then(Value::as_str);
    let nearby = matches!(text("type"), Some("lan" | "bt")) || matches!(text("source"), Some("local" | "bt"));
    if nearby || route.len() > MAX_ROUTE {
        return None;
    }
    let number = |name: &str| data.get(name).and_then(Value::as_f64).filter(|number| *number >= 0.0);
    let count = |name: &str| number(name).map(|number| number as u32);
    let time = |name: &str| number(name).map(|number| number as Millis);
    let lasted = |name: &str| {
        let figures = data.get("duration")?;
        figures.get(name)?.as_f64().filter(|figure| figure.is_finite() && *figure >= 0.0)
    };
    let durations = Durations {
        count: lasted("count").map_or(0, |count| count as u32),
        sum: lasted("sum").unwrap_or(0.0),
        sum_of_squares: lasted("sqsum").unwrap_or(0.0),
    };
    let (failures, changed) = (count("failure").unwrap_or(0), time("stateChange"));
    let route = KnownRoute {
        kind: Kind::of(&route),
        address: route,
        source: Source::Stored,
        also: Vec::new(),
        announced: count("announcers").unwrap_or(1).max(1),
        last_success: changed.filter(|_| durations.sum > 0.0),
        failures,
        tried: false,
    };
    let autoconnect = data.get("autoconnect") != Some(&Value::Bool(false));
    let birth = time("birth");
    // The rest is what an application said of the address.
    for known in KNOWN {
        data.remove(known);
    }
    let short = serde_json::to_vec(&data).is_ok_and(|text| text.len() <= MAX_NOTE);
    let note = if short { data } else { Data::new() };
    Some(Found { key, route, autoconnect, failures, changed, birth, durations, note })
}

/// Fields that are known in other places, or were true of the other program only.
const KNOWN: [&str; 22] = [
    "address",
    "announcers",
    "autoconnect",
    "birth",
    "client",
    "cooldown",
    "defunct",
    "duration",
    "error",
    "failure",
    "host",
    "hubBirth",
    "hubUpdated",
    "key",
    "ping",
    "pool",
    "port",
    "source",
    "stagingBirth",
    "stagingUpdated",
    "state",
    "stateChange",
];

/// If there are too many, those that have worked and those that failed least.
fn select(mut found: Vec<Found>) -> Vec<Found> {
    if found.len() > MOST_ADDRESSES {
        found.sort_by_key(|found| (found.route.last_success.is_none(), found.failures));
        found.truncate(MOST_ADDRESSES);
    }
    found
}

/// Adds what is new to the table, and answers how many addresses that is. Peers that were given up stay so.
fn merge(saved: &mut Saved, notes: &mut Notes, found: Vec<Found>, own: FeedId) -> usize {
    let settings = Settings::default();
    let given_up: HashSet<FeedId> = saved.forgotten.iter().map(|(key, _)| *key).collect();
    let mut places: BTreeMap<FeedId, usize> = saved.peers.iter().enumerate().map(|(at, peer)| (peer.key, at)).collect();
    let ours = saved.peers.len();
    let mut added = 0;
    for found in found {
        if found.key == own || given_up.contains(&found.key) {
            continue;
        }
        let address = found.route.address.clone();
        match places.get(&found.key) {
            None if saved.peers.len() >= settings.most_peers => continue,
            None => {
                places.insert(found.key, saved.peers.len());
                saved.peers.push(new_peer(found.key, found.autoconnect));
                add_to(saved.peers.last_mut(), &found);
            }
            Some(at) => {
                let known = saved.peers.get_mut(*at);
                let routes = known.as_ref().map(|peer| peer.routes.as_slice()).unwrap_or_default();
                if routes.len() >= settings.most_routes || routes.iter().any(|route| route.address == address) {
                    continue;
                }
                // Whom our own table has, it knows best.
                match known {
                    Some(peer) if *at < ours => peer.routes.push(found.route.clone()),
                    peer => add_to(peer, &found),
                }
            }
        }
        added += 1;
        if !found.note.is_empty() && notes.remembered.get(&address).is_none() {
            // Full of other notes: the address is worth more than what was said of it.
            let _ = notes.remembered.add(&address, found.note, found.birth.unwrap_or(0));
        }
    }
    added
}

fn new_peer(key: FeedId, autoconnect: bool) -> SavedPeer {
    SavedPeer {
        key,
        routes: Vec::new(),
        long_term: false,
        autoconnect,
        wanted: None,
        banned: false,
        failures: u32::MAX,
        last_success: None,
        last_tried: None,
        known_since: None,
        durations: Durations::default(),
    }
}

/// Adds an address to a peer that only the file knows. Of several ones the best counts: it is dialed if one may be, and
/// has failed as often as the best one.
fn add_to(peer: Option<&mut SavedPeer>, found: &Found) {
    let Some(peer) = peer else { return };
    peer.autoconnect |= found.autoconnect;
    peer.failures = peer.failures.min(found.failures);
    peer.last_success = peer.last_success.max(found.route.last_success);
    peer.last_tried = peer.last_tried.max(found.changed);
    peer.known_since = [peer.known_since, found.birth].into_iter().flatten().min();
    peer.durations.count = peer.durations.count.saturating_add(found.durations.count);
    peer.durations.sum += found.durations.sum;
    peer.durations.sum_of_squares += found.durations.sum_of_squares;
    peer.routes.push(found.route.clone());
}

#[cfg(test)]
mod tests;
