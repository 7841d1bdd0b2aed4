//! Links over WebRTC: bytes both ways, slow readers, and the end.
#![cfg(feature = "rtc")]
#![allow(clippy::unwrap_used)]

mod rtc;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sbot_feed::{Keypair, NetworkKey};
use sbot_multiserver::{
    Authorise, Bind, Connection, DialSettings, Dialer, ListenSettings, Listener, Net, Raw, Rtc, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::rtc::{block_on, endpoint, hub, joined, pass_on, say, settings, tasks, two, until};

#[test]
fn two_peers_meet_and_talk() {
    block_on(async {
        let (mut here, mut there) = joined().await;
        assert_eq!(here.address, "rtc:http:hub.example:80");
        assert_eq!(there.address, here.address);
        assert_eq!(there.origin, sbot_multiserver::Origin::Ip(Ipv4Addr::LOCALHOST.into()));
        say(&mut here, &mut there, b"hello").await;
        say(&mut there, &mut here, b"good day").await;
        say(&mut here, &mut there, &[7; 100_000]).await;
    });
}

/// The byte at a place of a long stream that shows when anything is lost, doubled or misplaced.
fn byte_at(place: usize) -> u8 {
    (place ^ (place >> 8) ^ (place >> 16)) as u8
}

fn stream(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(byte_at).collect()
}

#[test]
fn fifty_megabytes_go_through_unharmed() {
    const TOTAL: usize = 50_000_000;
    block_on(async {
        let (here, mut there) = joined().await;
        let Raw { mut write, read: _kept, .. } = here;
        let writing = tokio::spawn(async move {
            for from in (0..TOTAL).step_by(100_000) {
                write.write_all(&stream(from, 100_000)).await.unwrap();
            }
            write.shutdown().await.unwrap();
        });
        let mut buffer = vec![0; 100_000];
        let mut at = 0;
        loop {
            let read = there.read.read(&mut buffer).await.unwrap();
            if read == 0 {
                break;
            }
            assert_eq!(buffer[..read], stream(at, read), "at {at}");
            at += read;
        }
        assert_eq!(at, TOTAL);
        writing.await.unwrap();
    });
}

/// Writes a long stream as fast as it is taken, then shuts down; says how much was taken so far.
fn write_endlessly(mut raw: Raw, total: usize) -> (Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let task = tokio::spawn(async move {
        while count.load(Ordering::SeqCst) < total {
            let from = count.load(Ordering::SeqCst);
            let taken = raw.write.write(&stream(from, 50_000.min(total - from))).await.unwrap();
            count.fetch_add(taken, Ordering::SeqCst);
        }
        raw.write.shutdown().await.unwrap();
    });
    (written, task)
}

/// Reads to the end and checks every byte; calls `after` with the count after each piece.
async fn read_all(raw: &mut Raw, piece: usize, mut after: impl AsyncFnMut(usize)) -> usize {
    let mut buffer = vec![0; piece];
    let mut at = 0;
    loop {
        let read = raw.read.read(&mut buffer).await.unwrap();
        if read == 0 {
            return at;
        }
        assert_eq!(buffer[..read], stream(at, read), "at {at}");
        at += read;
        after(at).await;
    }
}

/// Bytes on the way at most, both ends together: what the sender has not seen acknowledged (1 MB) and what the receiver
/// has not read (its window of 1 MB, 256 messages, and what was held back).
const ON_THE_WAY: usize = 8_000_000;

#[test]
fn a_reader_that_stands_still_or_is_slow_holds_the_writer_back() {
    const TOTAL: usize = 24_000_000;
    block_on(async {
        let (here, mut there) = joined().await;
        let (written, writing) = write_endlessly(here, TOTAL);
        // Until nothing moves any more.
        let mut before = 0;
        while before == 0 || before != written.load(Ordering::SeqCst) {
            before = written.load(Ordering::SeqCst);
            assert!(before < ON_THE_WAY, "{before}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let read = read_all(&mut there, 65_536, async |at| {
            let on_the_way = written.load(Ordering::SeqCst) - at;
            assert!(on_the_way < ON_THE_WAY, "{on_the_way}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        });
        assert_eq!(read.await, TOTAL);
        writing.await.unwrap();
    });
}

#[test]
fn what_was_written_before_a_shutdown_reaches_a_reader_that_comes_late() {
    block_on(async {
        let (here, mut there) = joined().await;
        let (written, writing) = write_endlessly(here, 1_500_000);
        until(|| written.load(Ordering::SeqCst) == 1_500_000).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(read_all(&mut there, 65_536, async |_| {}).await, 1_500_000);
        writing.await.unwrap();
    });
}

#[test]
fn closing_one_end_closes_the_other_and_nothing_is_left() {
    block_on(async {
        let (one, mut two) = two().await;
        let before = tasks();
        for _ in 0..3 {
            let to = endpoint(2);
            let (here, there) = tokio::join!(one.rtc.dial(&to).unwrap(), two.acceptor.accept());
            let (mut here, mut there) = (here.unwrap(), there.unwrap());
            assert_eq!((one.rtc.opening(), two.rtc.opening()), (0, 0));
            say(&mut here, &mut there, b"hello").await;
            drop(here);
            assert_eq!(there.read.read(&mut [0; 10]).await.unwrap(), 0);
            let refused = async {
                loop {
                    if let Err(error) = there.write.write_all(b"hello?").await {
                        return error;
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            assert_eq!(refused.await.kind(), std::io::ErrorKind::BrokenPipe);
            drop(there);
            until(|| tasks() == before).await;
        }
    });
}

#[test]
fn what_the_other_side_says_after_our_shutdown_is_heard() {
    block_on(async {
        let (mut here, mut there) = joined().await;
        here.write.write_all(b"goodbye").await.unwrap();
        here.write.shutdown().await.unwrap();
        let mut got = [0; 7];
        there.read.read_exact(&mut got).await.unwrap();
        there.write.write_all(b"goodbye to you").await.unwrap();
        there.write.shutdown().await.unwrap();
        let mut last = String::new();
        here.read.read_to_string(&mut last).await.unwrap();
        assert_eq!(last, "goodbye to you");
        drop(here);
        assert_eq!(there.read.read(&mut got).await.unwrap(), 0);
    });
}

#[test]
fn the_box_stream_ends_properly_over_it() {
    block_on(async {
        let network = NetworkKey([5; 32]);
        let key = |number: u8| Keypair::from_seed([number; 32]);
        let (one, said_by_one) = Rtc::new(key(1).id(), settings());
        let (two, said_by_two) = Rtc::new(key(2).id(), settings());
        pass_on(key(1).id(), said_by_one, two.clone());
        pass_on(key(2).id(), said_by_two, one.clone());
        let anyone: Authorise = Arc::new(|_| Ok(()));
        let places = [Bind::rtc(), Bind::net("127.0.0.1", 0)];
        let settings = ListenSettings::default();
        let mut listener =
            Listener::with_transports(&[&Net, &two], &places, network, key(2), anyone, settings).await.unwrap();
        let dialer = Dialer::with_transports(vec![Box::new(one)], network, key(1), DialSettings::default());
        let route = hub().route(&key(2).id());
        let (here, there) = tokio::join!(dialer.dial_route(&route), listener.accept());
        let mut here = here.unwrap();
        let Connection { remote, address, mut read, .. } = there;
        assert_eq!((here.remote, remote), (key(2).id(), key(1).id()));
        assert_eq!(here.address, route.to_string());
        assert_eq!(address, hub().route(&key(1).id()).to_string());
        here.write.write_all(&[3; 200_000]).await.unwrap();
        here.write.shutdown().await.unwrap();
        drop(here);
        // Without the goodbye, this would be an error.
        let mut got = Vec::new();
        read.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, [3; 200_000]);
    });
}
