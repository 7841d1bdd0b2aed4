//! How links over WebRTC come about, and what hubs and strangers can do about it: simultaneous, malformed, forged and
//! repeated offers, and floods.
#![cfg(feature = "rtc")]
#![allow(clippy::unwrap_used)]

mod rtc;

use std::time::Duration;

use sbot_feed::FeedId;
use sbot_multiserver::{Bind, Endpoint, HubAddress, Outgoing, Raw, RtcSettings, Session, Signal, Transport};
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::rtc::{Peer, accepting, block_on, endpoint, hub, one, pass_on, peer, say, settings, tasks, two, until};

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
