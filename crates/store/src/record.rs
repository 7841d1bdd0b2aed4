//! Records: how a message lies in the log.
//!
//! Length (u32) and CRC-32C (u32) of what follows: received time (f64, ms), sequence (u32), author (32 bytes), id (32),
//! then the message's value. All numbers little-endian.

use bytes::Bytes;
use sbot_feed::{FeedId, MsgId};

/// One stored message.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its place in the order in which messages came in, from 0.
    pub number: u64,
    /// When it came in, in ms since 1970: no two are equal, and later records have later times.
    pub received: f64,
    /// Its id.
    pub key: MsgId,
    /// Who signed it.
    pub author: FeedId,
    /// Its place in the feed, from 1.
    pub sequence: u64,
    /// The value, in the bytes in which it is served.
    pub value: Bytes,
}

/// Length and checksum.
pub(crate) const PREFIX: usize = 8;
/// What lies before the value.
pub(crate) const HEAD: usize = PREFIX + 8 + 4 + 32 + 32;
/// Longest record: a value is at most what a parsed message may be.
pub(crate) const MAX_RECORD: usize = HEAD + 4 * sbot_feed::MAX_INPUT;

pub(crate) fn write(out: &mut Vec<u8>, received: f64, sequence: u32, author: &FeedId, key: &MsgId, value: &[u8]) {
    let start = out.len();
    out.reserve(HEAD + value.len());
    out.extend_from_slice(&((HEAD - PREFIX + value.len()) as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&received.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(author.as_bytes());
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(value);
    let sum = crc32c::crc32c(&out[start + PREFIX..]);
    out[start + 4..start + PREFIX].copy_from_slice(&sum.to_le_bytes());
}

/// Length of the whole record that begins here, as far as the prefix can be believed.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize + PREFIX;
    (HEAD..=MAX_RECORD).contains(&length).then_some(length)
}

/// The whole record that begins here; `None` if it is not all there or its checksum is wrong.
pub(crate) fn read(bytes: &Bytes, at: usize, number: u64) -> Option<Record> {
    let rest = &bytes[at..];
    let length = length(rest)?;
    let body = rest.get(PREFIX..length)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*rest[4..].first_chunk()?) {
        return None;
    }
    let (received, body) = body.split_first_chunk::<8>()?;
    let (sequence, body) = body.split_first_chunk::<4>()?;
    let (author, body) = body.split_first_chunk::<32>()?;
    let (key, _) = body.split_first_chunk::<32>()?;
    Some(Record {
        number,
        received: f64::from_le_bytes(*received),
        key: MsgId(*key),
        author: FeedId(*author),
        sequence: u64::from(u32::from_le_bytes(*sequence)),
        value: bytes.slice(at + HEAD..at + length),
    })
}
