use super::*;
use proptest::prelude::*;

const KEY: &str = "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=";
const SEED: &str = "NG1nCG4+TSNF+xekrKiQyEO2qBExAeNGy1atPKmKZpo=";

fn parse(text: &str) -> Result<InviteCode, InviteError> {
    text.parse()
}

#[test]
fn all_forms_are_understood_and_printed_as_they_were() {
    for (text, host, port, remote) in [
        (format!("h.com:8009:@{KEY}.ed25519~{SEED}"), "h.com", 8009, format!("net:h.com:8009~shs:{KEY}")),
        (format!("::1:8008:@{KEY}.ed25519~{SEED}"), "::1", 8008, format!("net:::1:8008~shs:{KEY}")),
        (format!("a.onion:8008:@{KEY}.ed25519~{SEED}"), "a.onion", 8008, format!("onion:a.onion:8008~shs:{KEY}")),
        (format!("net:10.0.0.1:1~shs:{KEY}:{SEED}"), "10.0.0.1", 1, format!("net:10.0.0.1:1~shs:{KEY}")),
        (format!("net:::1:8008~shs:{KEY}:{SEED}"), "::1", 8008, format!("net:::1:8008~shs:{KEY}")),
        (format!("ws://h.com:80~shs:{KEY}:{SEED}"), "ws://h.com", 80, format!("ws://h.com:80~shs:{KEY}")),
        (format!("wss://h.com:443~shs:{KEY}:{SEED}"), "wss://h.com", 443, format!("wss://h.com:443~shs:{KEY}")),
    ] {
        let code = parse(&text).unwrap();
        assert_eq!((code.host(), code.port()), (host, port), "{text}");
        assert_eq!(code.key().to_string(), format!("@{KEY}.ed25519"));
        assert_eq!(base64_text(code.seed()), SEED);
        assert_eq!(code.remote().unwrap().to_string(), remote);
        assert_eq!(code.dial().to_string(), format!("{remote}:{SEED}"), "{text}");
        assert_eq!(code.to_string(), text);
    }
}

#[test]
fn a_code_without_a_port_means_8008_and_what_follows_a_hash_means_nothing() {
    let code = parse(&format!("h.com::@{KEY}.ed25519~{SEED}#http://h.com/~x")).unwrap();
    assert_eq!(code.to_string(), format!("h.com:8008:@{KEY}.ed25519~{SEED}"));
    assert!(parse(&format!("net:h.com:8008~shs:{KEY}:{SEED}#x")).is_ok());
}

#[test]
fn of_several_routes_the_first_that_leads_to_a_pub_counts_and_those_with_its_seed_are_dialed() {
    let text = format!("rtc:x;ws://h.com:80~shs:{KEY}:{SEED};net:h.com:8008~shs:{KEY}:{SEED};net:h.com:1~shs:{KEY}");
    let code = parse(&text).unwrap();
    assert_eq!(code.host(), "ws://h.com");
    assert_eq!(code.dial().to_string(), format!("ws://h.com:80~shs:{KEY}:{SEED};net:h.com:8008~shs:{KEY}:{SEED}"));
}

#[test]
fn what_ssb_ref_takes_for_no_invite_is_none_here_either() {
    for text in [
        String::new(),
        "x".into(),
        "~".into(),
        format!("h.com:8008:@{KEY}.ed25519"),
        format!("h.com:8008:@{KEY}.ed25519~short"),
        format!("h.com:8008:@{KEY}.ed25519~{SEED}~"),
        format!("h.com:99999:@{KEY}.ed25519~{SEED}"),
        format!("h:8008:@{KEY}.ed25519~{SEED}"),
        format!("-h.com:8008:@{KEY}.ed25519~{SEED}"),
        format!("h--i.com:8008:@{KEY}.ed25519~{SEED}"),
        format!("h_i.com:8008:@{KEY}.ed25519~{SEED}"),
        format!("h.c_m:8008:@{KEY}.ed25519~{SEED}"),
        format!("1.2.3:8008:@{KEY}.ed25519~{SEED}"),
        format!("h.com:8008:@{KEY}.sha256~{SEED}"),
        format!("net:h.com:8008~shs:{KEY}"),
        format!("net:h.com:8008~noauth:{KEY}:{SEED}"),
        format!("unix:/x~shs:{KEY}:{SEED}"),
        format!("ws:h.com:80~shs:{KEY}:{SEED}"),
        format!("rtc:h.com:80~shs:{KEY}:{SEED}"),
        "a".repeat(MAX_ADDRESS + 1),
    ] {
        assert!(parse(&text).is_err(), "{text}");
    }
    for host in ["h.com", "a_b.h.com", "H.COM", "xn--bcher-kva.example", "pub.example.co.uk", "localhost", "h.com."] {
        assert!(is_host(host), "{host}");
    }
}

#[test]
fn neither_errors_nor_debug_output_tell_the_seed() {
    for text in [format!("h:8008:@{KEY}.ed25519~{SEED}"), format!("net:h:8008~shs:{KEY}:{SEED}")] {
        assert!(!parse(&text).unwrap_err().to_string().contains(SEED));
    }
    assert!(!format!("{:?}", parse(&format!("h.com:1:@{KEY}.ed25519~{SEED}")).unwrap()).contains(SEED));
    let error = InviteCode::new("no host", 1, FeedId([1; 32]), [2; 32]).unwrap_err();
    assert!(error.to_string().starts_with("\"no host\""), "{error}");
}

proptest! {
    #[test]
    fn every_code_survives_printing_and_parsing(
        host in "(localhost|[a-z][a-z0-9]{0,9}\\.[a-z]{2,6}|[1-9]{1,2}\\.[1-9]\\.[1-9]\\.[1-9]|::[1-9a-f]{1,4})",
        port in any::<u16>(), key in any::<[u8; 32]>(), seed in any::<[u8; 32]>(),
    ) {
        let code = InviteCode::new(&host, port, FeedId(key), seed).unwrap();
        prop_assert_eq!(&parse(&code.to_string()).unwrap(), &code);
        let again = parse(&code.dial().to_string()).unwrap();
        prop_assert_eq!((again.host(), again.port(), again.key(), again.seed()), (&*host, port, FeedId(key), &seed));
    }

    #[test]
    fn any_text_is_parsed_or_refused_without_a_panic(text in ".{0,80}") {
        if let Ok(code) = parse(&text) {
            prop_assert_eq!(parse(&code.to_string()).unwrap(), code);
        }
    }

    #[test]
    fn any_likely_text_is_parsed_or_refused_without_a_panic(
        host in "[a-z0-9:._-]{0,12}", glue in "(:8008:@|:1~shs:|~|:)", mid in "(\\.ed25519~|:|~|)", end in "[#=~a]{0,2}",
    ) {
        for text in [format!("{host}{glue}{KEY}{mid}{SEED}{end}"), format!("net:{host}{glue}{KEY}{mid}{SEED}{end}")] {
            if let Ok(code) = parse(&text) {
                prop_assert_eq!(parse(&code.to_string()).unwrap(), code);
            }
        }
    }
}
