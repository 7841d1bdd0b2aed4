//! Addresses of signalling hubs, sessions, and the URLs of STUN and TURN servers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbot_feed::FeedId;
use sbot_multiserver::{Endpoint, HubAddress, IceServer, Session};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(hub) = HubAddress::parse(text) {
        let url = hub.to_string();
        assert_eq!(HubAddress::parse(&url).as_ref(), Ok(&hub), "{url:?} means something else");
        let peer = FeedId([1; 32]);
        let route = hub.route(&peer);
        assert_eq!(HubAddress::parse(&route.to_string()).as_ref(), Ok(&hub), "{route} means something else");
        assert_eq!(route.endpoint(), Endpoint::Rtc { hub, peer: Some(peer) });
    }
    if let Ok(session) = text.parse::<Session>() {
        assert_eq!(session.to_string(), text);
    }
    let server = IceServer { urls: vec![text.to_owned()], username: "u".into(), credential: "c".into() };
    let _ = server.check();
});
