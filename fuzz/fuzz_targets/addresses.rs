//! Multiserver addresses, ours and older forms, invite codes, and what is announced on the local network.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sbot_feed::{Keypair, NetworkKey};
use sbot_multiserver::{Address, InviteCode};

fuzz_target!(|data: &[u8]| {
    let _ = sbot_discovery::lan::parse(data, &Keypair::from_seed([1; 32]).id());
    let _ = sbot_discovery::lan_boxed::parse(data, &NetworkKey::default(), &Keypair::from_seed([1; 32]).id());
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = Address::from_any(text);
    if let Ok(code) = text.parse::<InviteCode>() {
        let printed = code.to_string();
        assert_eq!(printed.parse::<InviteCode>().as_ref(), Ok(&code), "{printed:?} means something else");
        let remote = code.remote().expect("where a pub is can always be written");
        assert_eq!((remote.key(), remote.routes()[0].seed()), (Some(code.key()), None), "{remote}");
        assert!(code.dial().routes().iter().all(|route| route.seed().as_ref() == Some(code.seed())), "{printed:?}");
    }
    if let Ok(address) = text.parse::<Address>() {
        let printed = address.to_string();
        assert_eq!(printed.parse::<Address>().as_ref(), Ok(&address), "{printed:?} means something else");
        for route in address.routes() {
            let _ = (route.key(), route.seed(), route.is_noauth(), route.endpoint(), route.host_and_port());
        }
    }
});
