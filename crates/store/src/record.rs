//! Records: how a message lies in the log.
//!
//! Length (u32) and CRC-32C (u32) of what follows: received time (f64, ms), sequence (u32), author (32 bytes), id (32),
//! then the message's value. All numbers little-endian.

use bytes::Bytes;
use sbot_feed::{FeedId, MsgId};

use crate::index::timestamp_of;

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

impl Record {
    /// When it was written, in ms since 1970, as `ssb-db` has it: as its author claims, or when it came in if that is
    /// earlier. A claim that is 0 or no number counts as none.
    pub fn resolved_time(&self) -> f64 {
        let claimed = timestamp_of(&self.value);
        if claimed.is_nan() || claimed == 0.0 || self.received < claimed { self.received } else { claimed }
    }
}

/// Length and checksum.
const PREFIX: usize = 8;
/// What lies before the value.
pub(crate) const HEAD: usize = PREFIX + 8 + 4 + 32 + 32;
/// Longest value: the signing text, which is the longer form, has at most [`sbot_feed::MAX_LENGTH`] UTF-16 units, and
/// none takes more than three bytes of UTF-8.
pub(crate) const MAX_VALUE: usize = 3 * sbot_feed::MAX_LENGTH;
/// Longest record.
pub(crate) const MAX_RECORD: usize = HEAD + MAX_VALUE;
/// Where the id lies in a record.
pub(crate) const KEY_AT: u64 = (PREFIX + 8 + 4 + 32) as u64;

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
fn length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    let length = length.checked_add(PREFIX)?;
    (HEAD..=MAX_RECORD).contains(&length).then_some(length)
}

/// The whole record that begins here; `None` if it is not all there or its checksum is wrong.
pub(crate) fn read(bytes: &Bytes, at: usize, number: u64) -> Option<Record> {
    let rest = bytes.get(at..)?;
    let length = length(rest)?;
    let body = rest.get(PREFIX..length)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*rest.get(4..)?.first_chunk()?) {
        return None;
    }
    let (received, author, key, sequence) = head(rest)?;
    Some(Record {
        number,
        received,
        key,
        author,
        sequence: u64::from(sequence),
        value: bytes.slice(at + HEAD..at + length),
    })
}

/// Received time, author, id and sequence as they stand there: not to be believed unless the checksum holds.
fn head(record: &[u8]) -> Option<(f64, FeedId, MsgId, u32)> {
    let (received, rest) = record.get(PREFIX..)?.split_first_chunk::<8>()?;
    let (sequence, rest) = rest.split_first_chunk::<4>()?;
    let (author, rest) = rest.split_first_chunk::<32>()?;
    let (key, _) = rest.split_first_chunk::<32>()?;
    Some((f64::from_le_bytes(*received), FeedId(*author), MsgId(*key), u32::from_le_bytes(*sequence)))
}

/// Whose message a damaged record seems to be: its checksum is wrong, but these bytes may have been spared.
pub(crate) fn guess(damaged: &[u8]) -> Option<(FeedId, u64)> {
    let (_, author, _, sequence) = head(damaged)?;
    Some((author, u64::from(sequence)))
}
