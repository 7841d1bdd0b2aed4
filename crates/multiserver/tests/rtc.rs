//! Links over WebRTC between transports of one process, which pass each other's signals on without a hub.
#![cfg(feature = "rtc")]
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sbot_feed::FeedId;
use sbot_multiserver::{Acceptor, Endpoint, HubAddress, Outgoing, Raw, Rtc, RtcSettings, Transport};
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
