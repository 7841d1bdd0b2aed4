use super::*;
use crate::address::Endpoint;
use proptest::prelude::*;

const PEER: FeedId = FeedId([9; 32]);

fn shown(text: &str) -> String {
    HubAddress::parse(text).unwrap().to_string()
}

#[test]
fn urls_are_normalised() {
    for (text, url) in [
        ("https://hub.example", "https://hub.example"),
        ("HTTPS://Hub.Example:443/", "https://hub.example"),
        ("https://hub.example:8443", "https://hub.example:8443"),
        ("http://hub.example:443", "http://hub.example:443"),
        ("hub.example", "http://hub.example"),
        ("hub.example:8080", "http://hub.example:8080"),
        ("localhost:7000/", "http://localhost:7000"),
        ("hub.example.", "http://hub.example"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://hub%2Eexample", "https://hub.example"),
        ("http://0x7f.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("[2001:DB8:0::1]", "http://[2001:db8::1]"),
    ] {
        assert_eq!(shown(text), url, "{text}");
    }
}

#[test]
fn routes_name_the_same_hubs() {
    let key = crate::address::key_text(&PEER);
    for (text, url, route) in [
        ("rtc:hub.example:443", "https://hub.example", "rtc:hub.example:443"),
        ("rtc:https:Hub.example:443", "https://hub.example", "rtc:hub.example:443"),
        ("rtc:http:hub.example:80", "http://hub.example", "rtc:http:hub.example:80"),
        ("rtc:http:::1:8080", "http://[::1]:8080", "rtc:http:::1:8080"),
        ("rtc:http:!:!:1:8080", "http://[::1]:8080", "rtc:http:::1:8080"),
        ("rtc:[::1]:8080", "https://[::1]:8080", "rtc:::1:8080"),
        ("rtc:https:443", "https://https", "rtc:https:443"),
        ("rtc:http:https:443", "http://https:443", "rtc:http:https:443"),
    ] {
        let hub = HubAddress::parse(&format!("{text}~shs:{key}")).unwrap();
        assert_eq!(hub, HubAddress::parse(text).unwrap());
        assert_eq!(hub.to_string(), url, "{text}");
        assert_eq!(hub.route(&PEER).to_string(), format!("{route}~shs:{key}"));
        assert_eq!(hub.route(&PEER).endpoint(), Endpoint::Rtc { hub, peer: Some(PEER) });
    }
}

#[test]
fn what_names_no_hub_or_more_than_one_is_refused_with_the_reason() {
    for (text, reason) in [
        ("", "empty host"),
        ("https://", "empty host"),
        ("https://user@hub.example", "user or password"),
        ("https://user:secret@hub.example", "user or password"),
        ("https://@hub.example", "user or password"),
        ("https://hub.example/v1", "path"),
        ("https://hub.example//", "path"),
        ("https://hub.example/?", "query or fragment"),
        ("https://hub.example/#", "query or fragment"),
        ("ftp://hub.example", "not ftp"),
        ("wss://hub.example", "not wss"),
        ("https:hub.example", "invalid port"),
        ("https://hub.example:0", "port 0"),
        ("https://hub.example:65536", "invalid port"),
        ("https://hub.exa mple", "spaces"),
        (" https://hub.example", "spaces"),
        ("https://hub.exa\nmple", "spaces"),
        ("https:\\\\hub.example", "backslashes"),
        ("https://hub;example", "no name of a host"),
        ("https://.", "no name of a host"),
        ("https://.hub", "no name of a host"),
        ("https://hub..example", "no name of a host"),
        // Without its last dot, this would be another host.
        ("http://0..", "no name of a host"),
        ("https://hub.example;net:h:1", "port"),
        ("https://[::1%25eth0]", "IPv6"),
        ("rtc:8080", "expected rtc:HOST:PORT"),
        ("rtc:hub.example", "expected rtc:HOST:PORT"),
        ("rtc:hub.example:", "expected rtc:HOST:PORT"),
        ("rtc:hub.example:+80", "expected rtc:HOST:PORT"),
        ("rtc:hub.example:0", "port 0"),
        ("rtc:a@hub.example:443", "user or password"),
        ("rtc:hub.example/x:443", "path"),
        ("rtc:hub.example:443;rtc:hub.example:444", "one route"),
        ("rtc:ä:443", "grammar"),
    ] {
        let error = HubAddress::parse(text).map(|hub| hub.to_string()).unwrap_err().to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    let long = HubAddress::parse(&format!("https://{}", "a.".repeat(600)));
    assert!(matches!(long, Err(HubAddressError::TooLong { .. })));
    let long = HubAddress::parse(&format!("https://{}example", "a.".repeat(130)));
    assert!(matches!(long, Err(HubAddressError::Syntax { .. })));
}

#[test]
fn a_session_is_32_small_hexadecimal_digits() {
    let text = "00ff0123456789abcdef00000000000a";
    assert_eq!(text.parse::<Session>().unwrap().to_string(), text);
    for bad in ["", "00", &text.to_uppercase(), &text[1..], &format!("{text}0"), &text.replace('0', "g")] {
        assert_eq!(bad.parse::<Session>(), Err(SessionError), "{bad}");
    }
}

proptest! {
    #[test]
    fn what_was_parsed_is_parsed_again_from_either_form(text in "(rtc:)?(https?:(//)?)?[a-zA-Z0-9.\\[\\]:-]{0,20}(:[0-9]{1,5})?/?") {
        if let Ok(hub) = HubAddress::parse(&text) {
            prop_assert_eq!(HubAddress::parse(&hub.to_string()).unwrap(), hub.clone());
            prop_assert_eq!(HubAddress::parse(&hub.route(&PEER).to_string()).unwrap(), hub);
        }
    }

    #[test]
    fn any_host_and_port_survive_both_forms(
        host in prop_oneof![
            "[a-z]([a-z0-9-]{0,10}[a-z])?(\\.[a-z]{2,5}){0,3}".prop_map(|host| host),
            any::<[u8; 4]>().prop_map(|ip| std::net::Ipv4Addr::from(ip).to_string()),
            any::<[u8; 16]>().prop_map(|ip| format!("[{}]", std::net::Ipv6Addr::from(ip))),
        ],
        port in 1u16..,
        secure: bool,
    ) {
        let scheme = if secure { "https" } else { "http" };
        // A name that looks like Punycode but is none is refused.
        if let Ok(hub) = HubAddress::parse(&format!("{scheme}://{host}:{port}")) {
            prop_assert_eq!((hub.port(), hub.secure()), (port, secure));
            prop_assert_eq!(&HubAddress::parse(&hub.to_string()).unwrap(), &hub);
            prop_assert_eq!(&HubAddress::parse(&hub.route(&PEER).to_string()).unwrap(), &hub);
        } else {
            prop_assert!(host.contains("xn--"), "{}", host);
        }
    }

    #[test]
    fn any_text_is_a_hub_or_refused_without_a_panic(text in ".{0,60}") {
        if let Ok(hub) = HubAddress::parse(&text) {
            prop_assert_eq!(HubAddress::parse(&hub.to_string()).unwrap(), hub);
        }
    }

    #[test]
    fn every_session_survives_writing_and_parsing(bytes: [u8; 16]) {
        prop_assert_eq!(Session(bytes).to_string().parse(), Ok(Session(bytes)));
    }
}
