//! The tokio wrapper over connections in memory and over loopback.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use sbot_feed::{FeedId, Keypair, NetworkKey};
use sbot_shs::boxstream::{BoxKey, HEADER, MAX_BODY};
use sbot_shs::{Secure, SecureWriter, ShsError, Stage, accept, dial};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex};

type Link = Secure<ReadHalf<DuplexStream>, WriteHalf<DuplexStream>>;

const NETWORK: NetworkKey = NetworkKey([5; 32]);

fn keypair(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Client 1 dials `dialed`, which is server 2; the pipe between them holds `pipe` bytes.
async fn link(
    pipe: usize,
    network: NetworkKey,
    dialed: FeedId,
    authorise: impl FnOnce(&FeedId) -> Result<(), String>,
) -> (Result<Link, ShsError>, Result<Link, ShsError>) {
    let (one, two) = duplex(pipe);
    let (client, server) = (keypair(1), keypair(2));
    tokio::join!(dial(one, &network, &client, &dialed), accept(two, &NETWORK, &server, authorise))
}

async fn good_link(pipe: usize) -> (Link, Link) {
    let (client, server) = link(pipe, NETWORK, keypair(2).id(), |_| Ok(())).await;
    (client.unwrap(), server.unwrap())
}

#[test]
fn both_ends_know_each_other_and_talk_both_ways() {
    block_on(async {
        let (mut client, mut server) = good_link(100).await;
        assert_eq!((client.remote, server.remote), (keypair(2).id(), keypair(1).id()));
        for (from, to) in [(&mut client.writer, &mut server.reader), (&mut server.writer, &mut client.reader)] {
            let write = async {
                from.write_all(&[7; 50_000]).await.unwrap();
                from.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let (_, read) = tokio::join!(write, to.read_to_end(&mut got));
            read.unwrap();
            assert_eq!(got, [7; 50_000]);
        }
    });
}

#[test]
fn a_refused_client_sees_a_closed_connection_and_the_server_knows_why() {
    block_on(async {
        let (client, server) = link(1000, NETWORK, keypair(2).id(), |_| Err("blocked by you".into())).await;
        assert!(matches!(client.err(), Some(ShsError::Closed(Stage::Acceptance))));
        let text = server.err().unwrap().to_string();
        assert!(text.contains(&keypair(1).id().to_string()) && text.contains("blocked by you"), "{text}");
    });
}

#[test]
fn a_wrong_network_or_number_closes_the_connection() {
    block_on(async {
        let (client, server) = link(1000, NetworkKey([6; 32]), keypair(2).id(), |_| Ok(())).await;
        assert!(matches!(client.err(), Some(ShsError::Closed(Stage::Challenge))));
        assert!(matches!(server.err(), Some(ShsError::Handshake(_))));
        let (client, server) = link(1000, NETWORK, keypair(3).id(), |_| Ok(())).await;
        assert!(matches!(client.err(), Some(ShsError::Closed(Stage::Acceptance))));
        assert!(matches!(server.err(), Some(ShsError::Handshake(_))));
    });
}

#[test]
fn what_is_flushed_arrives_without_more() {
    block_on(async {
        let (mut client, mut server) = good_link(10_000).await;
        for text in [&b"a"[..], b"few", b"words"] {
            client.writer.write_all(text).await.unwrap();
            client.writer.flush().await.unwrap();
            let mut got = vec![0; text.len()];
            server.reader.read_exact(&mut got).await.unwrap();
            assert_eq!(got, text);
        }
    });
}

#[test]
fn small_writes_share_full_boxes_until_they_are_flushed() {
    block_on(async {
        let key = BoxKey { key: [1; 32], nonce: [2; 24] };
        for count in [1, 6, 7, 500] {
            let mut wire = Vec::new();
            let mut writer = SecureWriter::new(&mut wire, &key);
            for _ in 0..count {
                writer.write_all(&[7; 600]).await.unwrap();
            }
            writer.flush().await.unwrap();
            let boxes = (count * 600usize).div_ceil(MAX_BODY);
            assert_eq!(wire.len(), count * 600 + boxes * HEADER, "{count} writes");
        }
    });
}

#[test]
fn a_connection_cut_without_goodbye_is_an_error_after_what_arrived() {
    block_on(async {
        let (mut client, mut server) = good_link(10_000).await;
        client.writer.write_all(b"last words").await.unwrap();
        client.writer.flush().await.unwrap();
        drop(client);
        let mut got = Vec::new();
        let error = server.reader.read_to_end(&mut got).await.unwrap_err();
        assert_eq!(got, b"last words");
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn nothing_can_be_written_after_shutdown() {
    block_on(async {
        let (mut client, _server) = good_link(10_000).await;
        client.writer.shutdown().await.unwrap();
        assert_eq!(client.writer.write(b"x").await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_way_of_writing_reads_the_same(
        pipe in 1usize..100_000,
        writes in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20_000), any::<bool>()), 0..12),
        read in 1usize..70_000,
    ) {
        let all: Vec<u8> = writes.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
        let got = block_on(async {
            let (mut client, mut server) = good_link(pipe).await;
            let write = async {
                for (bytes, flush) in &writes {
                    client.writer.write_all(bytes).await.unwrap();
                    if *flush {
                        client.writer.flush().await.unwrap();
                    }
                }
                client.writer.shutdown().await.unwrap();
            };
            let read = async {
                let (mut got, mut buffer) = (Vec::new(), vec![0; read]);
                loop {
                    match server.reader.read(&mut buffer).await.unwrap() {
                        0 => break got,
                        count => got.extend_from_slice(&buffer[..count]),
                    }
                }
            };
            tokio::join!(write, read).1
        });
        prop_assert_eq!(got, all);
    }
}
