//! Transports of one process that pass each other's signals on without a hub.
#![allow(dead_code, clippy::unwrap_used)]

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
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, future).await.expect("too slow") })
}

pub(crate) fn hub() -> HubAddress {
    HubAddress::parse("http://hub.example").unwrap()
}

pub(crate) fn peer(number: u8) -> FeedId {
    FeedId([number; 32])
}

pub(crate) fn endpoint(to: u8) -> Endpoint {
    Endpoint::Rtc { hub: hub(), peer: Some(peer(to)) }
}

pub(crate) fn settings() -> RtcSettings {
    RtcSettings { addresses: vec![Ipv4Addr::LOCALHOST.into()], ..Default::default() }
}

/// A transport, what it has said, and where its offers arrive.
pub(crate) struct Peer {
    pub(crate) id: FeedId,
    pub(crate) rtc: Rtc,
    pub(crate) acceptor: Box<dyn Acceptor>,
}

pub(crate) async fn accepting(rtc: &Rtc) -> Box<dyn Acceptor> {
    rtc.listen(&endpoint(0)).unwrap().await.unwrap()
}

pub(crate) async fn one(number: u8, settings: RtcSettings) -> (Peer, mpsc::Receiver<Outgoing>) {
    let (rtc, said) = Rtc::new(peer(number), settings);
    let acceptor = accepting(&rtc).await;
    (Peer { id: peer(number), rtc, acceptor }, said)
}

/// Passes on what `from` says to `to`, as a hub does; also notes it.
pub(crate) fn pass_on(from: FeedId, mut said: mpsc::Receiver<Outgoing>, to: Rtc) -> Arc<Mutex<Vec<Outgoing>>> {
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
pub(crate) async fn two() -> (Peer, Peer) {
    let (one, said_by_one) = one(1, settings()).await;
    let (two, said_by_two) = self::one(2, settings()).await;
    pass_on(one.id, said_by_one, two.rtc.clone());
    pass_on(two.id, said_by_two, one.rtc.clone());
    (one, two)
}

pub(crate) async fn joined() -> (Raw, Raw) {
    let (one, mut two) = two().await;
    let to = endpoint(2);
    let (dialed, accepted) = tokio::join!(one.rtc.dial(&to).unwrap(), two.acceptor.accept());
    (dialed.unwrap(), accepted.unwrap())
}

pub(crate) async fn say(from: &mut Raw, to: &mut Raw, text: &[u8]) {
    from.write.write_all(text).await.unwrap();
    from.write.flush().await.unwrap();
    let mut got = vec![0; text.len()];
    to.read.read_exact(&mut got).await.unwrap();
    assert_eq!(got, text);
}

/// Waits until something is so.
pub(crate) async fn until(mut wanted: impl FnMut() -> bool) {
    while !wanted() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
