//! Who links to what: the fields of contents that hold the id of a feed, a message or a blob.
//!
//! What links to a target is looked up in a sorted list of 8 bytes a link, made when it is first asked for, kept up from
//! then on and saved when the store closes. It tells candidates; the messages themselves say what they link to.
//!
//! Sources: ssb-db `indexes/links.js`, ssb-msgs `index.js` (where links are looked for), ssb-ref `index.js` (what is one).

use std::path::PathBuf;

use sbot_feed::json::{self, Kind, Value};
use sbot_feed::{BlobId, FeedId, MsgId, content_of};

use crate::claimed::CHUNK;
use crate::error::StoreError;
use crate::read::Direction;
use crate::record::Record;
use crate::sidefile;
use crate::store::Shared;

/// The last digit is the version.
const MAGIC: &[u8; 8] = b"sbotlnk1";

/// Entries that may wait to be sorted in.
const TAIL: usize = 4096;

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Who links.
    pub source: FeedId,
    /// In which field.
    pub rel: String,
    /// To what: an id, maybe with `?` and a query behind it.
    pub dest: String,
    /// The linking message.
    pub key: MsgId,
    /// Its place in its feed.
    pub sequence: u64,
    /// Its record's number.
    pub number: u64,
}

/// One end of the links that are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LinkEnd {
    /// Anything.
    #[default]
    Any,
    /// Ids that begin with this sigil: `@`, `%` or `&`.
    Kind(u8),
    /// This id.
    Id(String),
}

impl LinkEnd {
    fn matches(&self, id: &str) -> bool {
        match self {
            LinkEnd::Any => true,
            LinkEnd::Kind(sigil) => id.as_bytes().first() == Some(sigil),
            LinkEnd::Id(wanted) => wanted == id,
        }
    }
}

/// Which links are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkQuery {
    /// Who links.
    pub source: LinkEnd,
    /// To what.
    pub dest: LinkEnd,
    /// In which field; any if `None`.
    pub rel: Option<String>,
}

impl LinkQuery {
    /// Whether a link in this field to this target is one that is looked for, whoever links.
    #[must_use]
    pub fn fits(&self, rel: &str, dest: &str) -> bool {
        self.rel.as_deref().is_none_or(|wanted| wanted == rel) && self.dest.matches(dest)
    }

    /// The links of a message that are looked for, out of those that `found` finds in it as (field, target).
    #[must_use]
    pub fn select(&self, record: &Record, found: impl FnOnce() -> Vec<(String, String)>) -> Vec<Link> {
        if !self.source.matches(&record.author.to_string()) {
            return Vec::new();
        }
        let link = |(rel, dest)| Link {
            source: record.author,
            rel,
            dest,
            key: record.key,
            sequence: record.sequence,
            number: record.number,
        };
        found().into_iter().filter(|(rel, dest)| self.fits(rel, dest)).map(link).collect()
    }
}

#[derive(Default)]
pub(crate) struct Links {
    loaded: bool,
    /// How many records it covers, and covers on disk.
    upto: u64,
    saved: u64,
    /// The id of the last one that it covers.
    last: Option<MsgId>,
    /// A checksum of the target, and the record that links to it: sorted up to `sorted`.
    entries: Vec<(u32, u32)>,
    sorted: usize,
}

fn print_of(dest: &str) -> u32 {
    crc32c::crc32c(dest.as_bytes())
}

/// The links in a raw content as (field, target), sorted and each once.
pub fn links_of(content: &[u8]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let has = |suffix: &[u8]| memchr::memmem::find(content, suffix).is_some();
    if content.first() != Some(&b'{') || !has(b".ed25519") && !has(b".sha256") {
        return found;
    }
    let Ok(document) = json::parse(content) else { return found };
    for (rel, value) in inner_content(document.root()).entries() {
        let mut note = |value: Value<'_, '_>| found.extend(target(value).map(|target| (text(rel), target)));
        match value.kind() {
            Kind::Array => value.items().for_each(&mut note),
            Kind::Object => {
                // One that looks like an array is taken for one.
                let counted = (0..value.len()).map_while(|n| value.get(&n.to_string()).filter(is_truthy));
                let counted: Vec<_> = counted.collect();
                if counted.is_empty() {
                    note(value);
                }
                counted.into_iter().for_each(&mut note);
            }
            _ => note(value),
        }
    }
    found.sort();
    found.dedup();
    found
}

/// A content that looks like a whole message is taken for one: its own content holds the links.
fn inner_content<'d, 'a>(root: Value<'d, 'a>) -> Value<'d, 'a> {
    let typed = |value: Value<'d, 'a>| {
        value.get("content").filter(|inner| inner.get("type").is_some_and(|kind| is_truthy(&kind)))
    };
    root.get("value").and_then(typed).or_else(|| typed(root)).unwrap_or(root)
}

fn is_truthy(value: &Value<'_, '_>) -> bool {
    match value.kind() {
        Kind::Null => false,
        Kind::Boolean => value.printed() == b"true",
        Kind::Number => value.number() != Some(0.0),
        Kind::String => value.printed() != b"\"\"",
        Kind::Array | Kind::Object => true,
    }
}

/// Where one link leads: a string, or an object's `link`.
fn target(value: Value<'_, '_>) -> Option<String> {
    let value = if value.kind() == Kind::Object { value.get("link")? } else { value };
    let target = value.escaped()?;
    let id = &target[..memchr::memchr(b'?', target).unwrap_or(target.len())];
    let is_link = match id.first()? {
        b'@' => FeedId::from_ascii(id).is_ok(),
        b'%' => MsgId::from_ascii(id).is_ok(),
        b'&' => BlobId::from_ascii(id).is_ok(),
        _ => false,
    };
    is_link.then(|| text(target))
}

/// The text of a string as it stands between its quotes in JSON.
fn text(escaped: &[u8]) -> String {
    let plain = || String::from_utf8_lossy(escaped).into_owned();
    if memchr::memchr(b'\\', escaped).is_none() {
        return plain();
    }
    let quoted = [b"\"", escaped, b"\""].concat();
    serde_json::from_slice(&quoted).unwrap_or_else(|_| plain())
}

impl Shared {
    fn links_path(&self) -> PathBuf {
        self.dir.join("links")
    }

    pub(crate) fn linking_to(&self, dest: &str) -> Result<Vec<u32>, StoreError> {
        let mut links = self.links.lock();
        self.catch_up_links(&mut links)?;
        let print = print_of(dest);
        let (sorted, tail) = links.entries.split_at(links.sorted);
        let first = sorted.partition_point(|entry| entry.0 < print);
        let same = sorted[first..].iter().take_while(|entry| entry.0 == print);
        let mut numbers: Vec<u32> =
            same.chain(tail.iter().filter(|entry| entry.0 == print)).map(|entry| entry.1).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Ok(numbers)
    }

    pub(crate) fn query_links(&self, query: &LinkQuery) -> Result<Vec<Link>, StoreError> {
        let matching = |record: &Record| query.select(record, || links_of(content_of(&record.value)));
        let mut found = Vec::new();
        if let LinkEnd::Id(dest) = &query.dest {
            for number in self.linking_to(dest)? {
                found.extend(self.read_one(number)?.iter().flat_map(matching));
            }
        } else if let LinkEnd::Id(source) = &query.source {
            let Ok(source) = source.parse() else { return Ok(found) };
            let mut from = 1;
            loop {
                let records = self.read_feed(&source, from, CHUNK, u64::MAX)?;
                let Some(last) = records.last() else { break };
                from = last.sequence + 1;
                found.extend(records.iter().flat_map(matching));
            }
        } else {
            let mut from = 0;
            loop {
                let records = self.read_log(from, CHUNK, Direction::Forward)?;
                let Some(last) = records.last() else { break };
                from = last.number + 1;
                found.extend(records.iter().flat_map(matching));
            }
        }
        let backwards = query.source == LinkEnd::Any && query.dest != LinkEnd::Any;
        found.sort_by_cached_key(|link| {
            let (source, dest) = (link.source.to_string(), link.dest.clone());
            let (from, to) = if backwards { (dest, source) } else { (source, dest) };
            (from, link.rel.clone(), to, link.sequence, link.key)
        });
        Ok(found)
    }

    fn catch_up_links(&self, links: &mut Links) -> Result<(), StoreError> {
        if !links.loaded {
            *links = self.load_links()?.unwrap_or_default();
            links.loaded = true;
        }
        loop {
            let records = self.read_log(links.upto, CHUNK, Direction::Forward)?;
            let Some(last) = records.last() else { break };
            links.upto = last.number + 1;
            links.last = Some(last.key);
            for record in &records {
                let found = links_of(content_of(&record.value));
                links.entries.extend(found.iter().map(|(_, dest)| (print_of(dest), record.number as u32)));
            }
        }
        if links.entries.len() - links.sorted > TAIL {
            links.entries.sort_unstable();
            links.entries.dedup();
            links.sorted = links.entries.len();
        }
        Ok(())
    }

    fn load_links(&self) -> Result<Option<Links>, StoreError> {
        let loaded = sidefile::load(&self.links_path(), MAGIC, |input| {
            let (upto, last, sorted) = (input.u64()?, MsgId(input.take()?), input.u64()?);
            let flat = input.u32s()?;
            let entries: Vec<_> = flat.as_chunks::<2>().0.iter().map(|[print, number]| (*print, *number)).collect();
            let sorted = usize::try_from(sorted).ok().filter(|sorted| *sorted <= entries.len())?;
            Some(Links { loaded: true, upto, saved: upto, last: Some(last), entries, sorted })
        });
        let Some(links) = loaded else { return Ok(None) };
        Ok(self.is_current(links.upto, links.last)?.then_some(links))
    }

    pub(crate) fn save_links(&self) -> Result<(), StoreError> {
        let links = self.links.lock();
        let Some(last) = links.last.filter(|_| links.upto > links.saved) else { return Ok(()) };
        sidefile::save(&self.links_path(), MAGIC, |out| {
            out.u64(links.upto)?;
            out.put(last.as_bytes())?;
            out.u64(links.sorted as u64)?;
            out.u32(2 * links.entries.len() as u32)?;
            links.entries.iter().try_for_each(|(print, number)| {
                out.u32(*print)?;
                out.u32(*number)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_looked_for_where_ssb_msgs_looks() {
        let feed = FeedId([1; 32]).to_string();
        let message = MsgId([2; 32]).to_string();
        let blob = BlobId([3; 32]).to_string();
        let content = format!(
            r#"{{"type":"post","root":"{message}","branch":["{message}","{message}",null,3],
            "mentions":[{{"link":"{feed}","name":"x"}},{{"link":"{blob}?unbox=abc"}},{{"link":5}}],
            "vote":{{"link":"{message}","value":1}},"text":"see {message}","odd":{{"0":"{feed}","1":"{blob}"}},
            "deep":{{"inner":{{"link":"{feed}"}}}},"bad":"%x.sha256"}}"#
        );
        let pair = |rel: &str, dest: &str| (rel.to_owned(), dest.to_owned());
        let mut expected = vec![
            pair("branch", &message),
            pair("mentions", &feed),
            pair("mentions", &format!("{blob}?unbox=abc")),
            pair("odd", &feed),
            pair("odd", &blob),
            pair("root", &message),
            pair("vote", &message),
        ];
        expected.sort();
        assert_eq!(links_of(content.as_bytes()), expected);
        let wrapped = format!(r#"{{"type":"x","root":"{feed}","value":{{"content":{{"type":"y","root":"{blob}"}}}}}}"#);
        assert_eq!(links_of(wrapped.as_bytes()), [pair("root", &blob)]);
        assert!(links_of(b"\"AAAA.box\"").is_empty());
    }
}
