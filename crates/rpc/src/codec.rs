//! Packets: nine bytes of header and a body.
//!
//! Header: flags (bits 0–1 the body's type, 4 end or error, 8 stream), the body's length (u32), the request's number
//! (i32), both big-endian. Nine zero bytes say goodbye.
//!
//! The reference takes any header with length 0 for a goodbye, and yet sends empty texts and buffers as just that. Here
//! such a packet is an empty item when it belongs to a request, and none is ever sent ([`encode`]).
//! Source: packet-stream-codec `index.js`.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Length of a header in bytes.
pub const HEADER: usize = 9;

const END: u8 = 4;
const STREAM: u8 = 8;

/// What a packet carries. Cheap to clone: the bytes are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A JSON value. Not checked on arrival: whoever reads it does.
    Json(Bytes),
    /// UTF-8 text. Not checked on arrival.
    String(Bytes),
    /// Bytes.
    Binary(Bytes),
}

impl Body {
    /// The bytes, whatever they are.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Body::Json(bytes) | Body::String(bytes) | Body::Binary(bytes) => bytes,
        }
    }

    /// The bytes, whatever they are.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Body::Json(bytes) | Body::String(bytes) | Body::Binary(bytes) => bytes,
        }
    }

    /// How many bytes.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// A value as JSON.
    ///
    /// # Errors
    /// If `value` has no JSON form.
    pub fn json(value: &impl serde::Serialize) -> Result<Body, serde_json::Error> {
        serde_json::to_vec(value).map(|bytes| Body::Json(bytes.into()))
    }

    fn kind(&self) -> u8 {
        match self {
            Body::Binary(_) => 0,
            Body::String(_) => 1,
            Body::Json(_) => 2,
        }
    }
}

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Whose: the number of the sender's request, or negated, that of the receiver's.
    pub request: i32,
    /// Part of a stream, and not a lone question or answer.
    pub stream: bool,
    /// The stream's end, or an answer that is an error.
    pub end: bool,
    /// What it carries.
    pub body: Body,
}

/// What comes next in the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A packet, now removed from the bytes.
    Packet(Packet),
    /// The other end is done: nothing follows.
    Goodbye,
    /// The packet is not all there yet.
    Incomplete,
}

/// Why bytes are no packets. The stream can't be understood from there on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The header announces more than is allowed.
    #[error("a packet of {length} bytes for request {request}: the limit is {limit}")]
    TooLong {
        /// As announced.
        length: u32,
        /// The request it is for.
        request: i32,
        /// The most that is taken.
        limit: usize,
    },
    /// A body type that nobody knows.
    #[error("unknown body type {kind} in a packet for request {request}")]
    Type {
        /// The flags' two low bits.
        kind: u8,
        /// The request it is for.
        request: i32,
    },
}

/// Takes the first packet off `input`. Its body shares the memory of `input`: copy what is small and kept for long.
///
/// Whoever reads makes room for what is missing of an incomplete packet, and had better do so as it comes, and not as its
/// header announces.
///
/// # Errors
/// [`CodecError`], as soon as the header is there.
pub fn decode(input: &mut BytesMut, max_body: usize) -> Result<Decoded, CodecError> {
    let Some(header) = input.first_chunk::<HEADER>() else { return Ok(Decoded::Incomplete) };
    let flags = header[0];
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    let request = i32::from_be_bytes([header[5], header[6], header[7], header[8]]);
    if length == 0 && request == 0 {
        return Ok(Decoded::Goodbye);
    }
    if length as usize > max_body {
        return Err(CodecError::TooLong { length, request, limit: max_body });
    }
    let length = length as usize;
    let kind = match flags & 3 {
        0 => Body::Binary,
        1 => Body::String,
        2 => Body::Json,
        kind => return Err(CodecError::Type { kind, request }),
    };
    if input.len() < HEADER + length {
        return Ok(Decoded::Incomplete);
    }
    input.advance(HEADER);
    let body = kind(input.split_to(length).freeze());
    Ok(Decoded::Packet(Packet { request, stream: flags & STREAM != 0, end: flags & END != 0, body }))
}

/// Appends a packet.
///
/// An empty body would look like a goodbye to the reference. An empty text goes out as the JSON `""`, empty JSON as
/// `null` (`true` if it ends a stream), an empty binary answer as `""`; an empty binary item of a stream is left out.
pub fn encode(packet: &Packet, out: &mut BytesMut) {
    let (kind, bytes): (u8, &[u8]) = match &packet.body {
        body if !body.is_empty() => (body.kind(), body.bytes()),
        Body::Binary(_) if packet.stream && !packet.end => return,
        Body::String(_) => (2, b"\"\""),
        Body::Binary(_) if !packet.stream => (2, b"\"\""),
        _ if packet.stream && packet.end => (2, b"true"),
        _ => (2, b"null"),
    };
    // Nothing of that size can be built from what fits through a connection.
    let Ok(length) = u32::try_from(bytes.len()) else { return };
    out.reserve(HEADER + bytes.len());
    let flags = if packet.end { END } else { 0 } | if packet.stream { STREAM } else { 0 };
    out.put_u8(kind | flags);
    out.put_u32(length);
    out.put_i32(packet.request);
    out.put_slice(bytes);
}

/// Appends the goodbye.
pub fn encode_goodbye(out: &mut BytesMut) {
    out.put_bytes(0, HEADER);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packets() -> impl Strategy<Value = Vec<Packet>> {
        let body = (0..3u8, proptest::collection::vec(any::<u8>(), 1..200)).prop_map(|(kind, bytes)| match kind {
            0 => Body::Binary(bytes.into()),
            1 => Body::String(bytes.into()),
            _ => Body::Json(bytes.into()),
        });
        let packet = (any::<i32>(), any::<bool>(), any::<bool>(), body)
            .prop_map(|(request, stream, end, body)| Packet { request, stream, end, body });
        proptest::collection::vec(packet, 0..10)
    }

    proptest! {
        #[test]
        fn packets_survive_any_fragmentation(packets in packets(), cut in 1..40usize) {
            let mut wire = BytesMut::new();
            packets.iter().for_each(|packet| encode(packet, &mut wire));
            encode_goodbye(&mut wire);
            let mut input = BytesMut::new();
            let mut got = Vec::new();
            let mut goodbye = false;
            for piece in wire.chunks(cut) {
                input.extend_from_slice(piece);
                loop {
                    match decode(&mut input, 1000).unwrap() {
                        Decoded::Packet(packet) => got.push(packet),
                        Decoded::Goodbye => { goodbye = true; break }
                        Decoded::Incomplete => break,
                    }
                }
            }
            prop_assert_eq!(got, packets);
            prop_assert!(goodbye);
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Decoded::Packet(_)) = decode(&mut input, 100) {}
        }
    }

    proptest! {
        #[test]
        fn what_was_decoded_encodes_to_the_same_bytes(
            (request, stream, end) in (any::<i32>().prop_filter("no goodbye", |n| *n != 0), any::<bool>(), any::<bool>()),
            (kind, bytes) in (0..3u8, proptest::collection::vec(any::<u8>(), 0..20)),
        ) {
            let body = match kind {
                0 => Body::Binary(bytes.into()),
                1 => Body::String(bytes.into()),
                _ => Body::Json(bytes.into()),
            };
            let mut wire = BytesMut::new();
            encode(&Packet { request, stream, end, body }, &mut wire);
            let before = wire.clone();
            if let Decoded::Packet(packet) = decode(&mut wire, 1000).unwrap() {
                prop_assert!(wire.is_empty());
                encode(&packet, &mut wire);
                prop_assert_eq!(wire, before);
            }
        }
    }

    #[test]
    fn four_gibibytes_are_refused_before_they_are_awaited() {
        let mut input = BytesMut::from(&[2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1][..]);
        assert_eq!(decode(&mut input, 100), Err(CodecError::TooLong { length: u32::MAX, request: 1, limit: 100 }));
    }

    #[test]
    fn a_body_type_that_nobody_knows_is_refused_by_its_header() {
        let mut input = BytesMut::from(&[3, 0, 0, 0, 9, 0, 0, 0, 7][..]);
        assert_eq!(decode(&mut input, 100), Err(CodecError::Type { kind: 3, request: 7 }));
    }

    #[test]
    fn an_announced_body_takes_no_memory_before_it_comes() {
        let mut input = BytesMut::from(&[2, 4, 0, 0, 0, 0, 0, 0, 1][..]);
        assert_eq!(decode(&mut input, 1 << 30), Ok(Decoded::Incomplete));
        assert!(input.capacity() <= 4 * 64 * 1024);
    }

    #[test]
    fn an_empty_item_is_no_goodbye() {
        let mut input = BytesMut::from(&[8 | 1, 0, 0, 0, 0, 0, 0, 0, 1][..]);
        let packet = Packet { request: 1, stream: true, end: false, body: Body::String(Bytes::new()) };
        assert_eq!(decode(&mut input, 100), Ok(Decoded::Packet(packet)));
    }
}
