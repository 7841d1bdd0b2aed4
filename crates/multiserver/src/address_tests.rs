use super::*;
use proptest::prelude::*;

const KEY: &str = "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=";

fn id() -> FeedId {
    format!("@{KEY}.ed25519").parse().unwrap()
}

#[test]
fn the_examples_of_multiserver_address_are_valid_and_stable() {
    for text in [
        "net:host.com:8008",
        "net:host.com:8008~shs:oaercuhroaecuh",
        "net:host.com:8008~shs:oaercuhroaecuh~gzip",
        "ws://host.com:8008~shs:oaercuhroaecuh~gzip",
        "ws://host.com:8008~shs:oaercuhroaecuh~gzip;net:host.com:8008~shs:oaercuhroaecuh~gzip",
        "shs:::",
        "ne",
        "ne:!!~no",
        "net:!:!:1:8008",
        "ne:a|}~no",
    ] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
    }
}

#[test]
fn what_multiserver_address_refuses_is_refused_with_the_place() {
    for (text, at) in [
        ("", 0),
        (":host.com:8008", 0),
        ("1a:host.com:8008", 0),
        ("ABC:host.com:8008", 0),
        ("a.b:host.com:8008", 1),
        ("~:host.com:8008", 0),
        (";:host.com:8008", 0),
        ("!:host.com:8008", 0),
        ("net:host.com:8008~", 18),
        ("net:host.com:8008~~gzip", 18),
        ("n:x", 1),
        ("ne:a;", 5),
        ("ne: x", 3),
        ("ne:ä", 3),
        ("ne:!x", 4),
        ("ne:!", 4),
    ] {
        match text.parse::<Address>() {
            Err(AddressError::Syntax { at: found, .. }) => assert_eq!(found, at, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn parts_are_understood_as_multiserver_does() {
    let route = |text: &str| text.parse::<Address>().unwrap().routes()[0].clone();
    let net = |host: &str, port| Endpoint::Net { host: host.into(), port };
    assert_eq!(route("net:example.org:8008~shs:x").endpoint(), net("example.org", 8008));
    assert_eq!(route("net:::1:8008").endpoint(), net("::1", 8008));
    assert_eq!(route("net:!:!:1:8008").endpoint(), net("::1", 8008));
    assert_eq!(route("net::8008").endpoint(), net("localhost", 8008));
    for other in [
        "net:8008",
        "net:host:port",
        "net:host:65536",
        "onion:x.onion:8008",
        "ws://host:80",
        "rtc:hub:x",
        "rtc:hub",
        "rtc:a@hub:443",
    ] {
        assert!(matches!(route(other).endpoint(), Endpoint::Other(_)), "{other}");
    }
    let unix = route("unix:/home/me/.ssb/socket~noauth");
    assert_eq!(unix.endpoint(), Endpoint::Unix { path: "/home/me/.ssb/socket".into() });
    assert!(unix.is_noauth() && unix.key().is_none());
    assert_eq!(Route::unix("/home/me/.ssb/socket".as_ref()), unix);
    assert_eq!(route("ws://host:80~shs:x").host_and_port(), Some(("ws://host".into(), 80)));
    assert_eq!(route("net:::1:8008~shs:x").host_and_port(), Some(("::1".into(), 8008)));
}

#[test]
fn key_and_seed_are_found() {
    let address: Address = format!("rtc:x;net:h:1~shs:{KEY}:{KEY}").parse().unwrap();
    assert_eq!(address.key(), Some(id()));
    assert_eq!(address.routes()[1].seed(), Some(id().0));
    assert_eq!(address.routes()[0].key(), None);
    assert_eq!("net:h:1~shs:short".parse::<Address>().unwrap().key(), None);
    assert_eq!(Route::net("::1", 8008, &id()).to_string(), format!("net:::1:8008~shs:{KEY}"));
}

#[test]
fn too_long_ones_are_refused() {
    let long = format!("net:{}", "a".repeat(MAX_ADDRESS));
    assert!(matches!(long.parse::<Address>(), Err(AddressError::TooLong { .. })));
    let many = vec!["ab"; MAX_ROUTES + 1].join(";");
    assert!(matches!(many.parse::<Address>(), Err(AddressError::TooLong { .. })));
}

fn address() -> impl Strategy<Value = Address> {
    let data = prop::string::string_regex("[!-~]{0,12}").unwrap();
    let name = prop::string::string_regex("[a-z][a-z0-9-]{1,6}").unwrap();
    let protocol = (name, prop::collection::vec(data, 0..4)).prop_map(|(name, data)| Protocol { name, data });
    let route = prop::collection::vec(protocol, 1..4).prop_map(|protocols| Route { protocols });
    prop::collection::vec(route, 1..4).prop_map(|routes| Address { routes })
}

proptest! {
    #[test]
    fn every_address_survives_writing_and_parsing(address in address()) {
        prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
    }

    #[test]
    fn any_text_is_parsed_or_refused_without_a_panic(text in ".{0,60}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn any_likely_text_is_parsed_or_refused_without_a_panic(text in "[a-z0-9:;~! .\\[-]{0,30}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
        let _ = Address::from_any(&text);
    }
}
