//! Bytes of a mux-rpc connection: packets, then what they mean for the open requests.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use sbot_rpc::RpcError;
use sbot_rpc::codec::{Decoded, decode, encode};
use sbot_rpc::streams::{Event, Streams};

/// Far below the real limit: the fuzzer finds it.
const MAX_BODY: usize = 2_000;
const MAX_THEIRS: usize = 8;

fuzz_target!(|data: &[u8]| {
    let mut streams = Streams::new(MAX_THEIRS, 4 * MAX_BODY);
    // Requests of ours to be answered.
    streams.start(false);
    streams.start(true);
    let mut input = BytesMut::from(data);
    let mut left = data.len();
    while let Ok(Decoded::Packet(packet)) = decode(&mut input, MAX_BODY) {
        assert!(input.len() < left, "a packet takes bytes");
        left = input.len();
        assert!(packet.body.len() <= MAX_BODY);
        if !packet.body.is_empty() {
            let mut again = BytesMut::new();
            encode(&packet, &mut again);
            assert_eq!(decode(&mut again, MAX_BODY), Ok(Decoded::Packet(packet.clone())));
            assert!(again.is_empty());
        }
        let end = packet.end;
        match streams.receive(packet) {
            Event::Request(key, body) | Event::Open(key, body) => {
                assert!(key < 0 && streams.is_open(key));
                let _ = RpcError::from_body(&body);
            }
            Event::Failed(_, body) | Event::End(_, body) => {
                assert!(end);
                assert!(RpcError::from_body(&body).message.len() <= 20_000);
            }
            Event::Answer(key, _) => assert!(!streams.is_open(key)),
            Event::Item(key, _) => assert!(streams.is_open(key)),
            Event::Refused { .. } | Event::Stray => {}
        }
        assert!(streams.len() <= MAX_THEIRS + 2, "the other side opens without bound");
    }
});
