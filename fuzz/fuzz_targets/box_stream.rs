//! A box stream that comes in arbitrary pieces, changed on its way: what is opened is a prefix of what was sealed.

#![no_main]

use arbitrary::Arbitrary;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sbot_shs::boxstream::{BoxKey, Opener, Sealer};

#[derive(Arbitrary, Debug)]
struct Stream {
    writes: Vec<Vec<u8>>,
    goodbye: bool,
    /// Bytes changed on the way.
    changes: Vec<(u16, u8)>,
    /// Bytes cut off the end.
    cut: u8,
    /// Sizes of the pieces in which it comes.
    pieces: Vec<u16>,
    /// What comes instead, if anything.
    garbage: Option<Vec<u8>>,
}

fuzz_target!(|stream: Stream| {
    let key = || BoxKey { key: [3; 32], nonce: [4; 24] };
    let mut sealer = Sealer::new(&key());
    let (mut plain, mut wire) = (Vec::new(), BytesMut::new());
    for write in &stream.writes {
        sealer.seal(write, &mut wire);
        plain.extend_from_slice(write);
    }
    if stream.goodbye {
        wire.extend_from_slice(&sealer.goodbye());
    }
    let mut wire = wire.to_vec();
    let before = wire.clone();
    if let Some(garbage) = stream.garbage {
        wire = garbage;
    }
    for (at, change) in stream.changes {
        if let Some(byte) = wire.get_mut(usize::from(at)) {
            *byte ^= change;
        }
    }
    wire.truncate(wire.len().saturating_sub(usize::from(stream.cut)));

    let (mut opener, mut buffer, mut opened) = (Opener::new(&key()), Vec::new(), Vec::new());
    let (mut rest, mut pieces) = (wire.as_slice(), stream.pieces.iter().cycle());
    let mut ended = false;
    while !rest.is_empty() && !ended {
        let size = pieces.next().map_or(rest.len(), |size| usize::from(*size).max(1)).min(rest.len());
        let (piece, after) = rest.split_at(size);
        buffer.extend_from_slice(piece);
        rest = after;
        match opener.open(&mut buffer) {
            Ok(done) => {
                assert!(done.plain <= done.consumed && done.consumed <= buffer.len());
                opened.extend_from_slice(&buffer[..done.plain]);
                buffer.drain(..done.consumed);
                ended = done.goodbye;
            }
            Err(error) => {
                assert_eq!(opener.open(&mut buffer), Err(error), "the error stays");
                ended = true;
            }
        }
    }
    assert!(plain.starts_with(&opened), "opened what was never sealed");
    if wire == before {
        assert_eq!(opened, plain);
    }
});
