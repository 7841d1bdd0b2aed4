//! Pubs that feeds tell of: messages of type `pub`, in which people say where a pub is.
//!
//! [`Told::read`] reads such a message in any of the forms that have been in use. [`Pubs`] chooses from what those near us
//! tell, the newest first, within bounds: nobody can tell of so many that the others' are crowded out. It does no IO: feed
//! it what is told, once each ([`Pubs::heard`]), and ask for a choice when there is more or somebody has come nearer
//! ([`Pubs::choose`]); it answers with what has changed.
//!
//! What is told is anybody's word. It leads nowhere but to a handshake that fails.
//!
//! Sources: ssb-gossip 1.1 `init.js`, ssb-conn 6 `conn-scheduler.js` (`setupPubDiscovery`), ssb-ref 2.16 `isAddress` and
//! `toMultiServerAddress` for the field `address`; ssb-msg-schemas for the older field `pub`. They take pubs from any
//! author; ssb-gossip 1.1 keeps all of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;

use sbot_feed::FeedId;
use sbot_feed::json::{self, Kind, Value};
use sbot_multiserver::{Address, Endpoint, Route};

use crate::hosts::is_elsewhere;
use crate::sighting::{News, Origin, Sighting};

/// Most addresses that are candidates at once: many for each connection that a node holds, and few enough to be dialed in
/// turn.
pub const MOST_PUBS: usize = 200;
/// Most of them on the word of one author. Hardly anybody has used more invites.
pub const MOST_OF_AUTHOR: usize = 20;
/// Most addresses of one pub: where it has moved to and from.
pub const MOST_OF_PUB: usize = 3;
/// Most authors whose words are remembered, whether they are near or not: some megabytes if each tells of as many pubs as
/// are remembered.
pub const MOST_AUTHORS: usize = 1024;
/// Most alternatives of one address that are kept.
const MOST_ROUTES: usize = 4;

/// Somebody tells where a pub is.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Who.
    pub author: FeedId,
    /// When, in ms since 1970: as claimed, but no later than it came in.
    pub time: f64,
    /// The pub's address. All its routes have the same key.
    pub address: Address,
}

impl Told {
    /// Reads the content (raw JSON) of a message; `None` if it is of another type, or tells no address that could be dialed.
    pub fn read(author: FeedId, time: f64, content: &[u8]) -> Option<Told> {
        let document = json::parse(content).ok()?;
        let root = document.root();
        if text(root.get("type")?)? != "pub" {
            return None;
        }
        let told = match root.get("address") {
            Some(address) => modern(address)?,
            None => older(root)?,
        };
        Some(Told { author, time, address: dialable(&told)? })
    }
}

/// The field `address`: a text in any form, or an object with host, port and key.
fn modern(address: Value<'_, '_>) -> Option<Address> {
    match address.kind() {
        Kind::String => Address::from_any(text(address)?).ok(),
        Kind::Object => {
            let key = text(address.get("key")?)?.parse().ok()?;
            parts(address.get("host")?, address.get("port"), &key)
        }
        _ => None,
    }
}

/// The field `pub`, a link to the pub: its host and port are beside the link, or beside the field.
fn older(root: Value<'_, '_>) -> Option<Address> {
    let field = root.get("pub")?;
    let key = text(field.get("link").unwrap_or(field))?.parse().ok()?;
    let beside = if field.get("host").is_some() { field } else { root };
    parts(beside.get("host")?, beside.get("port"), &key)
}

fn parts(host: Value<'_, '_>, port: Option<Value<'_, '_>>, key: &FeedId) -> Option<Address> {
    let port = match port {
        Some(port) if port.kind() == Kind::String => text(port)?,
        Some(port) if port.kind() == Kind::Number => std::str::from_utf8(port.printed()).ok()?,
        _ => return None,
    };
    Address::from_parts(text(host)?, port.parse().ok()?, key).ok()
}

/// A string as it is printed. Nothing in an address needs an escape, so that one with escapes is no address.
fn text<'d>(value: Value<'d, '_>) -> Option<&'d str> {
    std::str::from_utf8(value.escaped()?).ok()
}

/// The routes over TCP to another machine, in one spelling, all to the peer of the first; `None` if there are none. The
/// seed of an invite, which is nobody's business, makes a route none.
fn dialable(address: &Address) -> Option<Address> {
    let mut routes: Vec<Route> = Vec::new();
    for route in address.routes() {
        let (Endpoint::Net { host, port: port @ 1.. }, Some(key)) = (route.endpoint(), route.key()) else { continue };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if route.seed().is_some()
            || !is_elsewhere(&host)
            || routes.first().is_some_and(|first| first.key() != Some(key))
        {
            continue;
        }
        let host = host.parse().map_or(host, |ip: IpAddr| ip.to_canonical().to_string());
        let route = Route::net(&host, port, &key);
        if routes.len() < MOST_ROUTES && !routes.contains(&route) {
            routes.push(route);
        }
    }
    Address::new(routes)
}

/// What is told of pubs, and those that are candidates.
#[derive(Debug, Default)]
pub struct Pubs {
    /// What each author said last, in the order of the feed.
    told: HashMap<FeedId, VecDeque<Told>>,
    /// By address, which has the key in it.
    chosen: BTreeMap<String, Sighting>,
}

impl Pubs {
    /// Remembers what an author tells, and forgets the oldest of more than [`MOST_OF_AUTHOR`]. An author's messages are to
    /// come in the order of the feed. Of more than [`MOST_AUTHORS`] authors one who isn't near is forgotten, or else the
    /// one who said nothing for the longest time.
    pub fn heard(&mut self, told: Told, is_near: impl Fn(&FeedId) -> bool) {
        if self.told.len() >= MOST_AUTHORS && !self.told.contains_key(&told.author) {
            let when = |told: &VecDeque<Told>| told.back().map_or(f64::MIN, |last| last.time);
            let worth = |(a, told): &(&FeedId, &VecDeque<Told>)| (is_near(a), when(told));
            let least = self.told.iter().map(|one| (worth(&one), *one.0)).min_by(|((near, time), a), (other, b)| {
                near.cmp(&other.0).then(time.total_cmp(&other.1)).then(a.cmp(b))
            });
            if let Some((_, author)) = least {
                self.told.remove(&author);
            }
        }
        let of_author = self.told.entry(told.author).or_default();
        of_author.push_back(told);
        if of_author.len() > MOST_OF_AUTHOR {
            of_author.pop_front();
        }
    }

    /// Chooses from what those near us tell, and answers what has changed since the last choice. Whoever is told of but not
    /// wanted, as ourselves and those that we block, is passed over.
    pub fn choose(&mut self, is_near: impl Fn(&FeedId) -> bool, is_wanted: impl Fn(&FeedId) -> bool) -> Vec<News> {
        let near = self.told.iter().filter(|(author, _)| is_near(author));
        let mut told: Vec<&Told> = near.flat_map(|(_, told)| told).collect();
        // The newest first; which of two of the same time is first is the same every time.
        told.sort_by(|a, b| b.time.total_cmp(&a.time).then_with(|| a.address.cmp(&b.address)));
        let mut chosen = BTreeMap::new();
        let mut of_pub = HashMap::new();
        for Told { address, .. } in told {
            if chosen.len() == MOST_PUBS {
                break;
            }
            let Ok(sighting) = Sighting::new(address.clone(), Origin::Pub) else { continue };
            let name = address.to_string();
            let places = of_pub.entry(sighting.peer).or_insert(0);
            if *places < MOST_OF_PUB && is_wanted(&sighting.peer) && !chosen.contains_key(&name) {
                *places += 1;
                chosen.insert(name, sighting);
            }
        }
        let before = std::mem::replace(&mut self.chosen, chosen);
        let gone = before.iter().filter(|(name, _)| !self.chosen.contains_key(*name));
        let seen = self.chosen.iter().filter(|(name, _)| !before.contains_key(*name));
        // First what goes, so that there is room for what comes.
        gone.map(|(_, one)| News::Gone(one.clone())).chain(seen.map(|(_, one)| News::Seen(one.clone()))).collect()
    }
}

#[cfg(test)]
#[path = "pubs_tests.rs"]
mod tests;
