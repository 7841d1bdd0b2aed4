//! What a hub says that peers say: each line is a signal, in a session with the number of its first byte. Offers are
//! answered by a transport as in the node, down to the session description and the candidates; a dial is under way for
//! answers to arrive.

#![no_main]

use std::cell::OnceCell;
use std::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use sbot_feed::FeedId;
use sbot_multiserver::{Bind, Endpoint, HubAddress, Rtc, RtcSettings, Session, Signal, Transport};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: OnceCell<Runtime> = const { OnceCell::new() };
}

fuzz_target!(|data: &[u8]| {
    RUNTIME.with(|runtime| {
        let runtime = runtime.get_or_init(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
        runtime.block_on(hear(data));
    });
});

async fn hear(data: &[u8]) {
    let hub = HubAddress::parse("http://hub.example").expect("an address");
    let settings = RtcSettings { addresses: vec![Ipv4Addr::LOCALHOST.into()], ..RtcSettings::default() };
    let (rtc, mut said) = Rtc::new(FeedId([1; 32]), settings);
    let place = Bind::rtc().endpoint;
    let acceptor = rtc.listen(&place).expect("it is ours").await.expect("nobody else listens");
    let peer = FeedId([2; 32]);
    let dialer = rtc.clone();
    let to = Endpoint::Rtc { hub: hub.clone(), peer: Some(peer) };
    let dialing = tokio::spawn(async move {
        if let Some(dialing) = dialer.dial(&to) {
            let _ = dialing.await;
        }
    });
    let ours = said.recv().await.expect("an offer").session;
    for line in data.split(|byte| *byte == b'\n').take(40) {
        let Some((number, json)) = line.split_first() else { continue };
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(json) else { continue };
        if let Ok(signal) = serde_json::from_value::<Signal>(value.clone()) {
            let again = serde_json::to_value(&signal).expect("signals can be written");
            assert_eq!(serde_json::from_value::<Signal>(again).ok(), Some(signal));
        }
        let session = if *number == b'!' { ours } else { Session([*number; 16]) };
        rtc.signalled(&hub, peer, session, value);
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    dialing.abort();
    drop(acceptor);
    while rtc.opening() > 0 {
        tokio::task::yield_now().await;
    }
}
