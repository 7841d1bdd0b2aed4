//! Links over WebRTC between transports of one process, which pass each other's signals on without a hub.
#![cfg(feature = "rtc")]
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sbot_feed::{FeedId, Keypair, NetworkKey};
use sbot_multiserver::{
    Acceptor, Authorise, Bind, Connection, DialSettings, Dialer, Endpoint, HubAddress, ListenSettings, Listener, Net,
    Outgoing, Raw, Rtc, RtcSettings, Session, Signal, Transport,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Long enough for a busy machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, future).await.expect("too slow") })
}

fn hub() -> HubAddress {
    HubAddress::parse("http://hub.example").unwrap()
}

fn peer(number: u8) -> FeedId {
    FeedId([number; 32])
}

fn endpoint(to: u8) -> Endpoint {
    Endpoint::Rtc { hub: hub(), peer: Some(peer(to)) }
}

fn settings() -> RtcSettings {
    RtcSettings { addresses: vec![Ipv4Addr::LOCALHOST.into()], ..Default::default() }
}

/// A transport, what it has said, and where its offers arrive.
struct Peer {
    id: FeedId,
    rtc: Rtc,
    acceptor: Box<dyn Acceptor>,
}

async fn accepting(rtc: &Rtc) -> Box<dyn Acceptor> {
    rtc.listen(&endpoint(0)).unwrap().await.unwrap()
}

async fn one(number: u8, settings: RtcSettings) -> (Peer, mpsc::Receiver<Outgoing>) {
    let (rtc, said) = Rtc::new(peer(number), settings);
    let acceptor = accepting(&rtc).await;
    (Peer { id: peer(number), rtc, acceptor }, said)
}

/// Passes on what `from` says to `to`, as a hub does; also notes it.
fn pass_on(from: FeedId, mut said: mpsc::Receiver<Outgoing>, to: Rtc) -> Arc<Mutex<Vec<Outgoing>>> {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&noted);
    tokio::spawn(async move {
        while let Some(outgoing) = said.recv().await {
            to.signalled(&outgoing.hub, from, outgoing.session, serde_json::to_value(&outgoing.signal).unwrap());
            notes.lock().push(outgoing);
        }
    });
    noted
}

/// Two transports that hear each other.
async fn two() -> (Peer, Peer) {
    let (one, said_by_one) = one(1, settings()).await;
    let (two, said_by_two) = self::one(2, settings()).await;
    pass_on(one.id, said_by_one, two.rtc.clone());
    pass_on(two.id, said_by_two, one.rtc.clone());
    (one, two)
}

async fn joined() -> (Raw, Raw) {
    let (one, mut two) = two().await;
    let to = endpoint(2);
    let (dialed, accepted) = tokio::join!(one.rtc.dial(&to).unwrap(), two.acceptor.accept());
    (dialed.unwrap(), accepted.unwrap())
}

async fn say(from: &mut Raw, to: &mut Raw, text: &[u8]) {
    from.write.write_all(text).await.unwrap();
    from.write.flush().await.unwrap();
    let mut got = vec![0; text.len()];
    to.read.read_exact(&mut got).await.unwrap();
    assert_eq!(got, text);
}

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

/// Waits until something is so.
async fn until(mut wanted: impl FnMut() -> bool) {
    while !wanted() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
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

/// Everything that `said` holds by now.
fn said_so_far(said: &mut mpsc::Receiver<Outgoing>) -> Vec<Outgoing> {
    std::iter::from_fn(|| said.try_recv().ok()).collect()
}

fn hand_over(said: &[Outgoing], from: &Peer, to: &Peer) {
    for Outgoing { hub, session, signal, .. } in said {
        to.rtc.signalled(hub, from.id, *session, serde_json::to_value(signal).unwrap());
    }
}

/// Starts a dial and waits until it has said all it has to say at first: an offer and a candidate.
async fn start_dialing(
    from: &Peer,
    said: &mut mpsc::Receiver<Outgoing>,
    to: u8,
) -> (tokio::task::JoinHandle<std::io::Result<Raw>>, Vec<Outgoing>) {
    let rtc = from.rtc.clone();
    let dialing = tokio::spawn(async move { rtc.dial(&endpoint(to)).unwrap().await });
    let first = [said.recv().await.unwrap(), said.recv().await.unwrap()];
    (dialing, first.into())
}

/// 1 and 2 have dialed each other, and `first` says whose offer arrives first. One connection comes of it: that which
/// the one with the smaller key has offered.
async fn simultaneous_offers(first_to_arrive: u8) {
    let (one, mut said_by_one) = one(1, settings()).await;
    let (mut two, mut said_by_two) = self::one(2, settings()).await;
    let (dialed_by_one, offer_of_one) = start_dialing(&one, &mut said_by_one, 2).await;
    let (dialed_by_two, offer_of_two) = start_dialing(&two, &mut said_by_two, 1).await;
    if first_to_arrive == 1 {
        hand_over(&offer_of_one, &one, &two);
        hand_over(&offer_of_two, &two, &one);
    } else {
        hand_over(&offer_of_two, &two, &one);
        hand_over(&offer_of_one, &one, &two);
    }
    pass_on(one.id, said_by_one, two.rtc.clone());
    pass_on(two.id, said_by_two, one.rtc.clone());
    let mut there = two.acceptor.accept().await.unwrap();
    let mut here = dialed_by_one.await.unwrap().unwrap();
    say(&mut here, &mut there, b"hello").await;
    // 2's dial goes on until it is given up; nothing has come of it, nor is anything under way at 1.
    assert_eq!((one.rtc.opening(), two.rtc.opening()), (0, 1));
    dialed_by_two.abort();
    until(|| two.rtc.opening() == 0).await;
    say(&mut there, &mut here, b"still here").await;
}

#[test]
fn of_simultaneous_offers_one_connection_comes_when_the_smaller_key_is_first() {
    block_on(simultaneous_offers(1));
}

#[test]
fn of_simultaneous_offers_one_connection_comes_when_the_greater_key_is_first() {
    block_on(simultaneous_offers(2));
}

#[test]
fn an_offer_that_goes_first_replaces_an_answer_that_was_under_way() {
    block_on(async {
        let (one, mut said_by_one) = one(1, settings()).await;
        let (mut two, mut said_by_two) = self::one(2, settings()).await;
        let (dialed_by_two, offer_of_two) = start_dialing(&two, &mut said_by_two, 1).await;
        hand_over(&offer_of_two, &two, &one);
        // 1 has answered, but that answer is still on its way when it dials itself.
        let answer = [said_by_one.recv().await.unwrap(), said_by_one.recv().await.unwrap()];
        let (dialed_by_one, offer_of_one) = start_dialing(&one, &mut said_by_one, 2).await;
        assert_eq!(one.rtc.opening(), 1);
        hand_over(&answer, &one, &two);
        hand_over(&offer_of_one, &one, &two);
        pass_on(one.id, said_by_one, two.rtc.clone());
        pass_on(two.id, said_by_two, one.rtc.clone());
        let mut there = two.acceptor.accept().await.unwrap();
        let mut here = dialed_by_one.await.unwrap().unwrap();
        say(&mut here, &mut there, b"hello").await;
        assert_eq!((one.rtc.opening(), two.rtc.opening()), (0, 1));
        dialed_by_two.abort();
    });
}

#[test]
fn a_forged_offer_does_not_keep_a_dial_from_succeeding() {
    block_on(async {
        let (mut one, said_by_one) = one(1, settings()).await;
        let (two, mut said_by_two) = self::one(2, settings()).await;
        let (liar, mut said_by_liar) = self::one(3, settings()).await;
        let (dialed_by_two, offer_of_two) = start_dialing(&two, &mut said_by_two, 1).await;
        // Somebody claims to be 1, whose offer would go first.
        let (_lying, forged) = start_dialing(&liar, &mut said_by_liar, 2).await;
        hand_over(&forged, &one, &two);
        hand_over(&offer_of_two, &two, &one);
        pass_on(one.id, said_by_one, two.rtc.clone());
        pass_on(two.id, said_by_two, one.rtc.clone());
        let mut there = one.acceptor.accept().await.unwrap();
        let mut here = dialed_by_two.await.unwrap().unwrap();
        say(&mut here, &mut there, b"hello").await;
    });
}

#[test]
fn a_dial_to_nobody_times_out_and_leaves_nothing_behind() {
    block_on(async {
        let short = RtcSettings { open_timeout: Duration::from_millis(50), ..settings() };
        let (one, mut said) = one(1, short).await;
        let before = tasks();
        let error = one.rtc.dial(&endpoint(2)).unwrap().await.err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("nobody answers"), "{error}");
        assert_eq!((one.rtc.opening(), tasks()), (0, before));
        let said = said_so_far(&mut said);
        assert!(matches!(said[0].signal, Signal::Offer { .. }) && said[0].to == peer(2));

        // Nor does one that is given up.
        let to = endpoint(2);
        let mut dialing = one.rtc.dial(&to).unwrap();
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(dialing.as_mut().poll(context)));
        assert!(polled.await.is_pending());
        assert_eq!(one.rtc.opening(), 1);
        drop(dialing);
        assert_eq!((one.rtc.opening(), tasks()), (0, before));
    });
}

#[test]
fn whom_to_dial_has_to_be_said_and_somebody_else() {
    block_on(async {
        let (one, said) = one(1, settings()).await;
        let nobody = Endpoint::Rtc { hub: hub(), peer: None };
        let error = one.rtc.dial(&nobody).unwrap().await.err().unwrap();
        assert!(error.to_string().contains("whom to ask for"), "{error}");
        let error = one.rtc.dial(&endpoint(1)).unwrap().await.err().unwrap();
        assert!(error.to_string().contains("we are there ourselves"), "{error}");
        assert!(one.rtc.dial(&Bind::net("127.0.0.1", 0).endpoint).is_none());
        // And somebody who passes it on.
        drop(said);
        let error = one.rtc.dial(&endpoint(2)).unwrap().await.err().unwrap();
        assert!(error.to_string().contains("nobody passes on signals"), "{error}");
        assert_eq!(one.rtc.opening(), 0);
    });
}

/// A session of its own for each number.
fn session(number: u32) -> Session {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Session(bytes)
}

/// Joins two transports that have been through something, to see that they still work.
async fn still_works(one: &Peer, two: &mut Peer) {
    let to = endpoint(2);
    let (here, there) = tokio::join!(one.rtc.dial(&to).unwrap(), two.acceptor.accept());
    say(&mut here.unwrap(), &mut there.unwrap(), b"hello").await;
}

#[test]
fn malformed_offers_come_to_nothing_and_others_still_work() {
    block_on(async {
        let (one, mut two) = two().await;
        let part = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n";
        let good = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";
        let texts = [
            "nonsense".to_owned(),
            "v=0".to_owned(),
            part.to_owned(),
            format!("{good}{part}"),
            format!("{good}{part}{part}"),
            format!("{good}m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"),
            format!("{good}{part}a=mid:0\r\na=ice-ufrag:x\r\n"),
            format!("{good}{part}a=mid:0\r\na=ice-ufrag:xxxx\r\na=ice-pwd:short\r\na=fingerprint:sha-256 00\r\n"),
            format!("{good}{part}a=mid:0\r\na=fingerprint:md5 zz\r\na=setup:nonsense\r\na=sctp-port:99999999\r\n"),
            format!("{good}{part}a=max-message-size:-1\r\na=candidate:{}\r\n", "x ".repeat(2000)),
            "v=0\r\n".repeat(3000),
            "\0\u{fffd}\r\n=\r\n".to_owned(),
        ];
        let (before, mut number) = (tasks(), 0);
        for text in &texts {
            for kind in ["offer", "answer"] {
                number += 1;
                two.rtc.signalled(&hub(), peer(9), session(number), serde_json::json!({"type": kind, "sdp": text}));
            }
        }
        for nonsense in [serde_json::json!(null), serde_json::json!([1]), serde_json::json!({"type": "offer"})] {
            number += 1;
            two.rtc.signalled(&hub(), peer(9), session(number), nonsense);
        }
        // Some are taken for a peer that never appears, and make room for others.
        still_works(&one, &mut two).await;
        until(|| two.rtc.opening() <= 2).await;
        let acceptor = two.acceptor;
        drop(acceptor);
        until(|| two.rtc.opening() == 0 && tasks() <= before).await;
    });
}

#[test]
fn malformed_answers_end_the_dial() {
    block_on(async {
        let (one, mut said) = one(1, settings()).await;
        for sdp in ["nonsense", "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", "m=application 9 x"] {
            let (dialing, first) = start_dialing(&one, &mut said, 2).await;
            let answer = serde_json::json!({"type": "answer", "sdp": sdp});
            one.rtc.signalled(&hub(), peer(2), first[0].session, answer);
            let error = dialing.await.unwrap().err().unwrap();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
            assert_eq!(one.rtc.opening(), 0);
        }
    });
}

#[test]
fn a_giant_description_is_dropped() {
    block_on(async {
        let (one, mut said_by_one) = one(1, settings()).await;
        let (two, mut said_by_two) = self::one(2, settings()).await;
        let (_dialing, offer) = start_dialing(&one, &mut said_by_one, 2).await;
        let Signal::Offer { sdp } = &offer[0].signal else { panic!("no offer") };
        let giant = format!("{sdp}{}", "a=x\r\n".repeat(sbot_multiserver::rtc::MAX_SDP / 5));
        let giant = serde_json::to_value(Signal::Offer { sdp: giant }).unwrap();
        two.rtc.signalled(&hub(), one.id, offer[0].session, giant);
        assert_eq!(two.rtc.opening(), 0);
        assert!(said_so_far(&mut said_by_two).is_empty());
    });
}

#[test]
fn a_flood_of_candidates_does_not_keep_a_connection_from_opening() {
    block_on(async {
        let (one, mut said_by_one) = one(1, settings()).await;
        let (mut two, said_by_two) = self::one(2, settings()).await;
        let (dialing, first) = start_dialing(&one, &mut said_by_one, 2).await;
        hand_over(&first, &one, &two);
        pass_on(one.id, said_by_one, two.rtc.clone());
        for number in 0..10_000 {
            let line = format!("candidate:{number} 1 udp 1 192.0.2.{} 9 typ host", number % 250 + 1);
            let candidate = serde_json::json!({"type": "candidate", "candidate": {"candidate": line}});
            two.rtc.signalled(&hub(), one.id, first[0].session, candidate);
        }
        // What else comes by that hub has been crowded out; the peer is found by its own checks.
        let another = HubAddress::parse("http://another.example").unwrap();
        let mut said_by_two = said_by_two;
        let rtc = one.rtc.clone();
        tokio::spawn(async move {
            while let Some(Outgoing { session, signal, .. }) = said_by_two.recv().await {
                rtc.signalled(&another, peer(2), session, serde_json::to_value(&signal).unwrap());
            }
        });
        let mut there = two.acceptor.accept().await.unwrap();
        say(&mut dialing.await.unwrap().unwrap(), &mut there, b"hello").await;
    });
}

#[test]
fn replayed_offers_are_not_answered() {
    block_on(async {
        let (one, said_by_one) = one(1, settings()).await;
        let (mut two, said_by_two) = self::one(2, settings()).await;
        let noted = pass_on(one.id, said_by_one, two.rtc.clone());
        pass_on(two.id, said_by_two, one.rtc.clone());
        still_works(&one, &mut two).await;
        assert_eq!(two.rtc.opening(), 0);
        let notes = noted.lock().clone();
        assert!(matches!(notes[0].signal, Signal::Offer { .. }));
        for _ in 0..10 {
            hand_over(&notes, &one, &two);
        }
        assert_eq!(two.rtc.opening(), 0);
        // Under somebody else's name it is as good as any offer: an answer goes there, and nobody appears.
        two.rtc.signalled(&hub(), peer(9), notes[0].session, serde_json::to_value(&notes[0].signal).unwrap());
        assert_eq!(two.rtc.opening(), 1);
        still_works(&one, &mut two).await;
    });
}

#[test]
fn a_flood_of_offers_under_forged_names_stays_bounded_and_a_good_peer_gets_in() {
    block_on(async {
        let (one, mut said_by_one) = one(1, settings()).await;
        let (mut two, said_by_two) = self::one(2, settings()).await;
        let (_dialing, first) = start_dialing(&one, &mut said_by_one, 2).await;
        let offer = serde_json::to_value(&first[0].signal).unwrap();
        let before = tasks();
        for number in 0..100_000u32 {
            let mut from = [0; 32];
            from[..4].copy_from_slice(&number.to_le_bytes());
            from[31] = 1;
            two.rtc.signalled(&hub(), FeedId(from), session(number), offer.clone());
            assert!(two.rtc.opening() <= 32);
        }
        assert!(tasks() <= before + 64);
        pass_on(two.id, said_by_two, one.rtc.clone());
        // By another hub.
        let another = HubAddress::parse("https://another.example").unwrap();
        let rtc = two.rtc.clone();
        tokio::spawn(async move {
            while let Some(Outgoing { hub, session, signal, .. }) = said_by_one.recv().await {
                rtc.signalled(&hub, peer(1), session, serde_json::to_value(&signal).unwrap());
            }
        });
        let to = Endpoint::Rtc { hub: another, peer: Some(peer(2)) };
        let (here, there) = tokio::join!(one.rtc.dial(&to).unwrap(), two.acceptor.accept());
        say(&mut here.unwrap(), &mut there.unwrap(), b"hello").await;
        drop(two.acceptor);
        until(|| two.rtc.opening() == 0).await;
    });
}

#[test]
fn offers_are_accepted_at_one_place_at_a_time_and_only_there() {
    block_on(async {
        let (one, mut two) = two().await;
        let error = two.rtc.listen(&endpoint(0)).unwrap().await.err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        drop(two.acceptor);
        let short = Duration::from_millis(300);
        assert!(timeout(short, one.rtc.dial(&endpoint(2)).unwrap()).await.is_err());
        assert_eq!((one.rtc.opening(), two.rtc.opening()), (0, 0));
        two.acceptor = accepting(&two.rtc).await;
        still_works(&one, &mut two).await;
    });
}

#[test]
fn when_everything_is_dropped_nothing_runs_on() {
    block_on(async {
        let before = tasks();
        let (one, mut said_by_one) = one(1, settings()).await;
        let (mut two, mut said_by_two) = self::one(2, settings()).await;
        let (dialing, offer) = start_dialing(&one, &mut said_by_one, 2).await;
        hand_over(&offer, &one, &two);
        let answer = [said_by_two.recv().await.unwrap(), said_by_two.recv().await.unwrap()];
        hand_over(&answer, &two, &one);
        let mut there = two.acceptor.accept().await.unwrap();
        let mut here = dialing.await.unwrap().unwrap();
        let nobody = one.rtc.clone();
        let dialing = tokio::spawn(async move { nobody.dial(&endpoint(7)).unwrap().await.map(|_| ()) });
        until(|| one.rtc.opening() == 1).await;
        // Links live on without their transport.
        dialing.abort();
        let _ = dialing.await;
        drop((one, two));
        say(&mut here, &mut there, b"hello").await;
        drop((here, there));
        until(|| tasks() == before).await;
    });
}
