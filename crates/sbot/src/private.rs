//! Private messages that we can read, and how they look when shown.
//!
//! ssb-db shows a decrypted message with its plain content in place and the encrypted one beside it, three times over
//! for old clients (`autobox.js`): `meta.original.content`, `cyphertext`; `private`, `unbox` and the same two under
//! `meta`. Its indexes see the decrypted content too, so types, links and contacts of private messages count. For that
//! [`Boxes`] keeps a list of the readable ones, built when first needed and kept up from then on: opening takes some
//! 50 µs a message, too much to do for every message that replication brings.
//!
//! Sources: `ssb-db/{autobox,util,minimal}.js`, `ssb-private1/box1.js`, `private-box/index.js`.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use memchr::memmem;
use parking_lot::{Mutex, MutexGuard};
use sbot_feed::private_box::{self, BodyKey};
use sbot_feed::{FeedId, Keypair, MsgId, json};
use sbot_store::{Record, Store, StoreError, links_of};

use crate::content::{boxed, kind, raw_content};

/// How many records are read at a time when the list catches up.
const CHUNK: usize = 2048;

/// After how many records the notes are written again: looking through so many takes a second at most.
const SAVE_EVERY: u64 = 10_000;

/// A private message that we can read.
#[derive(Debug, Clone)]
pub struct Readable {
    /// The record's number.
    pub number: u32,
    /// The decrypted content's `type`.
    pub kind: Option<Box<str>>,
    /// The decrypted content's links.
    pub links: Vec<(String, String)>,
    /// The decrypted content's contact, if it is a contact message.
    pub contact: Option<(FeedId, sbot_graph::Relation)>,
}

/// Opens private messages.
pub struct Boxes {
    keys: Keypair,
    store: Store,
    notes: Option<PathBuf>,
    readable: Mutex<List>,
}

/// The readable messages among the first `upto` records, ascending.
#[derive(Default)]
struct List {
    loaded: bool,
    upto: u64,
    saved: u64,
    found: Arc<Vec<Readable>>,
}

/// A decrypted content and the key that opened it.
pub struct Opened {
    /// The plain content, as JavaScript's `JSON.stringify` prints it.
    pub content: Vec<u8>,
    /// The key as ssb-db shows it.
    pub unbox: String,
}

impl Boxes {
    /// Opens with `keys` what `store` holds. In the file `notes` the numbers of readable messages are kept, and nothing of
    /// what is in them; it can be deleted at any time.
    #[must_use]
    pub fn new(keys: Keypair, store: Store, notes: Option<PathBuf>) -> Self {
        Self { keys, store, notes, readable: Mutex::default() }
    }

    /// Opens an encrypted content (without quotes). `None` if it isn't for us, or isn't JSON inside.
    #[must_use]
    pub fn open(&self, cyphertext: &str) -> Option<Opened> {
        // ssb-private1 takes only the first of the formats that the suffix tells apart
        if !cyphertext.ends_with(".box") {
            return None;
        }
        let boxed = private_box::decode(cyphertext)?;
        let key = private_box::open_key(&boxed, &self.keys)?;
        let content = open_with(&boxed, &key)?;
        Some(Opened { content, unbox: STANDARD.encode(key) })
    }

    /// Opens an encrypted content with a key that someone handed on (base64, maybe with a suffix).
    #[must_use]
    pub fn open_with_key(&self, cyphertext: &str, unbox: &str) -> Option<Opened> {
        let base64 = unbox.split('.').next().unwrap_or_default();
        let key: BodyKey = STANDARD.decode(base64).ok()?.try_into().ok()?;
        let content = open_with(&private_box::decode(cyphertext)?, &key)?;
        Some(Opened { content, unbox: unbox.to_owned() })
    }

    /// A record's value with its content decrypted, or `None` if there is nothing that we can decrypt.
    #[must_use]
    pub fn reveal(&self, value: &[u8]) -> Option<Bytes> {
        let cyphertext = boxed(raw_content(value))?;
        Some(decorate(value, cyphertext, &self.open(cyphertext)?))
    }

    /// Like [`Boxes::reveal`], for a record of the log: looks it up among the readable ones first, so that those that
    /// aren't for us cost nothing. Blocks as [`Boxes::readable`] does.
    #[must_use]
    pub fn reveal_record(&self, record: &Record) -> Option<Bytes> {
        boxed(raw_content(&record.value))?;
        self.find(record.number)?;
        self.reveal(&record.value)
    }

    /// Like [`Boxes::reveal`] with a key that someone handed on, if our own doesn't open it.
    #[must_use]
    pub fn reveal_with_key(&self, value: &[u8], unbox: &str) -> Option<Bytes> {
        let cyphertext = boxed(raw_content(value))?;
        let opened = self.open(cyphertext).or_else(|| self.open_with_key(cyphertext, unbox))?;
        Some(decorate(value, cyphertext, &opened))
    }

    /// What the indexes see of a record's encrypted content; `None` if we can't read it. Blocks as [`Boxes::readable`]
    /// does, so that each message is opened once, however many streams ask.
    #[must_use]
    pub fn find(&self, number: u64) -> Option<Readable> {
        let readable = self.readable().ok()?;
        let at = readable.binary_search_by_key(&number, |message| u64::from(message.number)).ok()?;
        readable.get(at).cloned()
    }

    /// All readable messages among the records that the store holds now. Blocks: it reads and opens what has come since
    /// it was last asked.
    ///
    /// # Errors
    /// What reading the log meets.
    pub fn readable(&self) -> Result<Arc<Vec<Readable>>, StoreError> {
        let mut list = self.readable.lock();
        if !list.loaded {
            self.load(&mut list)?;
            list.loaded = true;
        }
        self.catch_up(&mut list)?;
        if list.upto >= list.saved + SAVE_EVERY {
            self.save(&mut list);
        }
        Ok(Arc::clone(&list.found))
    }

    /// Takes over what an earlier run found out, if that was about this log and this identity.
    fn load(&self, list: &mut List) -> Result<(), StoreError> {
        let Some(text) = self.notes.as_ref().and_then(|path| std::fs::read_to_string(path).ok()) else { return Ok(()) };
        let Some(notes) = Notes::parse(&text) else { return Ok(()) };
        let last = notes.upto.checked_sub(1).map(|number| self.store.record(number)).transpose()?.flatten();
        if notes.me != self.keys.id() || last.is_none_or(|record| record.key != notes.last) {
            return Ok(());
        }
        let mut found = Vec::with_capacity(notes.numbers.len());
        for numbers in notes.numbers.chunks(CHUNK) {
            found.extend(self.examine_all(&self.store.records(numbers)?, notes.upto));
        }
        *list = List { loaded: true, upto: notes.upto, saved: notes.upto, found: Arc::new(found) };
        Ok(())
    }

    /// Notes what was found out. Failing to is no harm: it is found out again.
    fn save(&self, list: &mut List) {
        list.saved = list.upto;
        let Some(path) = &self.notes else { return };
        let last = list.upto.checked_sub(1).and_then(|number| self.store.record(number).ok().flatten());
        let Some(last) = last else { return };
        let numbers = list.found.iter().map(|found| found.number).collect();
        let notes = Notes { me: self.keys.id(), upto: list.upto, last: last.key, numbers };
        let beside = path.with_extension("new");
        let written = std::fs::write(&beside, notes.print()).and_then(|()| std::fs::rename(&beside, path));
        if let Err(error) = written {
            tracing::debug!(%error, path = %path.display(), "can't note which private messages are readable");
        }
    }

    fn catch_up(&self, list: &mut MutexGuard<'_, List>) -> Result<(), StoreError> {
        let end = self.store.len();
        let boxed = self.store.boxed();
        let fresh = boxed.partition_point(|number| u64::from(*number) < list.upto);
        for numbers in boxed[fresh..].chunks(CHUNK) {
            let records = self.store.records(numbers)?;
            let found = self.examine_all(&records, end);
            if !found.is_empty() {
                Arc::make_mut(&mut list.found).extend(found);
            }
        }
        list.upto = end;
        Ok(())
    }

    /// Opens what can be opened of the records before `end`, on all cores.
    fn examine_all(&self, records: &[Record], end: u64) -> Vec<Readable> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = records.len().div_ceil(cores).max(1);
        std::thread::scope(|scope| {
            let workers: Vec<_> = records
                .chunks(share)
                .map(|records| {
                    let before_end = records.iter().filter(move |record| record.number < end);
                    scope.spawn(move || before_end.filter_map(|record| self.examine(record)).collect::<Vec<_>>())
                })
                .collect();
            // a worker that panics has found a bug, not a message: what it would have found is missing from the list
            workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
        })
    }

    fn examine(&self, record: &Record) -> Option<Readable> {
        let opened = self.open(boxed(raw_content(&record.value))?)?;
        Some(Readable {
            number: u32::try_from(record.number).ok()?,
            kind: kind(&opened.content).map(Into::into),
            links: links_of(&opened.content),
            contact: sbot_graph::contact_from_content(&opened.content),
        })
    }
}

/// What is kept between two runs: four lines of text.
#[derive(Debug, PartialEq)]
struct Notes {
    me: FeedId,
    upto: u64,
    last: MsgId,
    numbers: Vec<u32>,
}

impl Notes {
    const HEAD: &'static str = "readable private messages 1";

    fn print(&self) -> String {
        let numbers: Vec<_> = self.numbers.iter().map(u32::to_string).collect();
        format!("{}\n{}\n{} {}\n{}\n", Self::HEAD, self.me, self.upto, self.last, numbers.join(" "))
    }

    fn parse(text: &str) -> Option<Self> {
        // a file that ends before its last line was cut off
        let mut lines = text.strip_suffix('\n')?.split('\n');
        if lines.next()? != Self::HEAD {
            return None;
        }
        let me = lines.next()?.parse().ok()?;
        let (upto, last) = lines.next()?.split_once(' ')?;
        let numbers = lines.next()?.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { me, upto: upto.parse().ok()?, last: last.parse().ok()?, numbers })
    }
}

/// Decrypts the body and prints it as JavaScript would after parsing it. Falsy contents count as unreadable, as in
/// ssb-db.
fn open_with(boxed: &[u8], key: &BodyKey) -> Option<Vec<u8>> {
    let plain = private_box::open_body(boxed, key)?;
    let document = json::parse(&plain).ok()?;
    let mut content = Vec::with_capacity(plain.len());
    document.root().print(&mut content);
    let falsy = matches!(content.as_slice(), b"null" | b"false" | b"0" | b"\"\"");
    (!falsy).then_some(content)
}

/// The value as `autobox.js` shows a decrypted message.
fn decorate(value: &[u8], cyphertext: &str, opened: &Opened) -> Bytes {
    const BEFORE: &[u8] = b"\"content\":";
    let start = memmem::find(value, BEFORE).map_or(0, |at| at + BEFORE.len());
    let rest = start + cyphertext.len() + 2;
    let mut out = BytesMut::with_capacity(value.len() * 2 + opened.content.len() + 256);
    out.extend_from_slice(value.get(..start).unwrap_or_default());
    out.extend_from_slice(&opened.content);
    let tail = value.get(rest..).unwrap_or_default();
    out.extend_from_slice(tail.strip_suffix(b"}").unwrap_or(tail));
    for part in [
        ",\"meta\":{\"original\":{\"content\":\"",
        cyphertext,
        "\"},\"private\":true,\"unbox\":\"",
        &opened.unbox,
        "\"},\"cyphertext\":\"",
        cyphertext,
        "\",\"private\":true,\"unbox\":\"",
        &opened.unbox,
        "\"}",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_survive_and_cut_off_ones_are_not_believed() {
        let notes = Notes { me: FeedId([7; 32]), upto: 12, last: MsgId([9; 32]), numbers: vec![3, 11] };
        let text = notes.print();
        assert_eq!(Notes::parse(&text), Some(notes));
        for end in 0..text.len() {
            assert_eq!(Notes::parse(&text[..end]), None, "{end}");
        }
    }
}
