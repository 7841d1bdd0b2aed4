//! Classic messages, from making to refusing.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use bytes::Bytes;
use proptest::prelude::*;
use sbot_feed::{
    FeedTip, HmacKey, Keypair, MAX_LENGTH, Message, MessageError, MsgId, check_next, content_of, create_message,
    message_id, parse_message, write_key_value_timestamp,
};

/// Made by ssb-validate 4.1.4 with the seed of 32 threes; the second under [`HMAC`].
const FROM_JS: &str = r#"{"previous":null,"sequence":1,"author":"@7UkoxijRwsbq6QM4kFmVYSlZJzpcY/k2NsFGFKyHN9E=.ed25519","timestamp":1500000000000.5,"hash":"sha256","content":{"2":2.5,"10":1,"type":"post","text":"héllo 日本 😀 LS \ud83d","b":0,"c":1e+21,"d":1e-7},"signature":"lyHMegfKdiQftkjZHUIKr/A8m5vXJs5+CB45O/QXNxdgN62H6GVm7/IY8mi84CX3vfyQwAVhFGvOODg1mNLTAw==.sig.ed25519"}"#;
const FROM_JS_ID: &str = "%M8MpgCAdy2qQosymYobN/iGKyItJKGqn2uL62Rliy5k=.sha256";
const HMAC_SIGNATURE: &str =
    "s/dNMy0XdkKbBuIrYw/4nKnJBiD5FX0ahjNcYIP3tUy/DNwa5q4N1a1cmc3VQrMWT7k6iWOiP0ayb3BOv5fRCQ==.sig.ed25519";
const HMAC_ID: &str = "%/mWGaPBspIUC0ii7joBOCfaqorcK5fDI3C95+0I/XVs=.sha256";
const HMAC: HmacKey = HmacKey([5; 32]);

fn from_js() -> String {
    FROM_JS.replace("LS", "\u{2028}")
}

fn keys() -> Keypair {
    Keypair::from_seed([3; 32])
}

fn post(text: &str) -> Vec<u8> {
    format!(r#"{{"type":"post","text":"{text}"}}"#).into_bytes()
}

fn first() -> Message {
    create_message(&keys(), None, None, &post("hi"), 1.5e12).unwrap()
}

/// [`first`], altered.
fn altered(from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(first().value.to_vec()).unwrap();
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1).into_bytes()
}

#[test]
fn a_message_made_in_javascript_is_made_and_read_the_same() {
    let content = r#"{"type":"post","text":"héllo 日本 😀 LS \uD83D","10":1,"2":2.50,"b":-0,"c":1e21,"d":1e-7}"#;
    let content = content.replace("LS", r"\u2028");
    let made = create_message(&keys(), None, None, content.as_bytes(), 1_500_000_000_000.5).unwrap();
    assert_eq!(made.value, from_js().as_bytes());
    assert_eq!(made.key.to_string(), FROM_JS_ID);
    let read = parse_message(from_js().as_bytes(), None).unwrap().verify().unwrap();
    assert_eq!(read, made);
    assert_eq!(message_id(from_js().as_bytes()).unwrap(), made.key);

    let made = create_message(&keys(), Some(&HMAC), None, content.as_bytes(), 1_500_000_000_000.5).unwrap();
    assert!(made.value.ends_with(format!("\"{HMAC_SIGNATURE}\"}}").as_bytes()));
    assert_eq!(made.key.to_string(), HMAC_ID);
    let read = parse_message(&made.value, Some(&HMAC)).unwrap().verify().unwrap();
    assert_eq!(read, made);
    assert!(matches!(parse_message(&made.value, None).unwrap().verify(), Err(MessageError::Signature { .. })));
}

#[test]
fn a_message_may_come_with_its_key_and_any_white_space() {
    let message = first();
    let mut line = Vec::new();
    write_key_value_timestamp(&mut line, &MsgId([9; 32]), &message.value, 1.25);
    assert!(line.ends_with(b",\"timestamp\":1.25}"));
    // The key beside a value is not believed.
    assert_eq!(parse_message(&line, None).unwrap().verify().unwrap(), message);
    let spaced = String::from_utf8(message.value.to_vec()).unwrap().replace("\":", "\" :\n ").replace(",\"", " ,\t\"");
    assert_eq!(parse_message(spaced.as_bytes(), None).unwrap().verify().unwrap(), message);
    line.clear();
    write_key_value_timestamp(&mut line, &message.key, &message.value, f64::NAN);
    assert!(line.ends_with(b",\"timestamp\":null}"));
}

#[test]
fn author_and_sequence_may_be_swapped_and_the_order_is_kept() {
    let id = keys().id();
    let swapped =
        altered(&format!("\"sequence\":1,\"author\":\"{id}\""), &format!("\"author\":\"{id}\",\"sequence\":1"));
    let read = parse_message(&swapped, None).unwrap();
    assert_eq!(read.message().value, swapped);
    assert_ne!(read.message().key, first().key);
    let trusted = Message::trusted(read.message().key, Bytes::from(swapped)).unwrap();
    assert_eq!(&trusted, read.message());
    // It is another text than the one that was signed.
    assert!(read.verify().is_err());
}

#[test]
fn what_ssb_validate_refuses_is_refused() {
    let refused = |json: &[u8]| parse_message(json, None).unwrap_err();
    let id = keys().id().to_string();
    let signature = String::from_utf8(first().value.to_vec()).unwrap();
    let signature = &signature[signature.find("\"signature\":\"").unwrap() + 13..signature.len() - 2];

    assert!(matches!(refused(b"{"), MessageError::Json(_)));
    for no_message in [&b"null"[..], b"1", b"[]", b"\"text\"", br#"{"key":"x","value":null}"#] {
        assert!(matches!(refused(no_message), MessageError::Shape(_)), "{}", String::from_utf8_lossy(no_message));
    }
    assert_eq!(refused(b"{}"), MessageError::Author);
    for author in [
        id.trim_start_matches('@').to_owned(),
        id.replace(".ed25519", ".sha256"),
        id.replace(".ed25519", ""),
        id.replace("9E=", "9F="),
        format!("{id} "),
    ] {
        assert_eq!(refused(&altered(&id, &author)), MessageError::Author, "{author}");
    }
    for bad in [
        signature.replace("==", ""),
        signature.replace("==.", "=."),
        signature.replace(".sig.ed25519", ".sig.sha256"),
        signature.replace(".sig.ed25519", ".sig.ed255190"),
        signature.replace(".sig.ed25519", ""),
        format!("AAAA{signature}"),
        signature.replace("A==.", "B==.").replace("g==.", "h==.").replace("Q==.", "R==.").replace("w==.", "x==."),
    ] {
        assert_eq!(refused(&altered(signature, &bad)), MessageError::SignatureType, "{bad}");
    }
    assert_eq!(refused(&altered(&format!("\"{signature}\""), "null")), MessageError::SignatureType);

    assert_eq!(refused(&altered("\"hash\":\"sha256\",", "")), MessageError::KeyOrder);
    assert_eq!(refused(&altered("{\"previous\"", "{\"extra\":1,\"previous\"")), MessageError::KeyOrder);
    assert_eq!(refused(&altered("{\"previous\"", "{\"0\":1,\"previous\"")), MessageError::KeyOrder);
    assert_eq!(refused(&altered("\"hash\"", "\"__proto__\":1,\"hash\"")), MessageError::KeyOrder);
    assert_eq!(
        refused(&altered(&format!("\"{signature}\""), &format!("\"{signature}\",\"x\":1"))),
        MessageError::KeyOrder
    );
    assert_eq!(
        refused(&altered("\"previous\":null,\"sequence\":1", "\"sequence\":1,\"previous\":null")),
        MessageError::KeyOrder
    );

    for sequence in ["0", "-1", "1.5", "2147483648", "4294967297", "\"1\"", "null", "true", "1e400", "[1]"] {
        let json = altered("\"sequence\":1", &format!("\"sequence\":{sequence}"));
        assert!(matches!(refused(&json), MessageError::Shape(_)), "{sequence}");
    }
    for timestamp in ["\"1500000000000\"", "null", "{}", "1e400", "true"] {
        let json = altered("\"timestamp\":1500000000000", &format!("\"timestamp\":{timestamp}"));
        assert!(matches!(refused(&json), MessageError::Shape(_)), "{timestamp}");
    }
    for previous in ["1", "\"\"", "\"%x.sha256\"", "false", "{}", "[null]"] {
        let json = altered("\"previous\":null", &format!("\"previous\":{previous}"));
        assert!(matches!(refused(&json), MessageError::Shape(_)), "{previous}");
    }
    assert!(matches!(refused(&altered("\"sha256\"", "\"sha512\"")), MessageError::Shape(_)));
    assert!(matches!(refused(&altered("\"sha256\"", "null")), MessageError::Shape(_)));

    let content = r#"{"type":"post","text":"hi"}"#;
    for bad in ["null", "1", "true", "\"\"", "\"text\"", "\"AAA.box\"", "\"AAAA\""] {
        assert!(matches!(refused(&altered(content, bad)), MessageError::Shape(_)), "{bad}");
    }
    for bad in
        ["{}", "[]", "[\"post\"]", r#"{"type":1}"#, r#"{"type":"ab"}"#, r#"{"type":null}"#, r#"{"type":["post"]}"#]
    {
        assert!(matches!(refused(&altered(content, bad)), MessageError::ContentType { .. }), "{bad}");
    }
    assert!(matches!(refused(&vec![b' '; 200_000]), MessageError::TooManyBytes { length: 200_000 }));
}

#[test]
fn what_ssb_validate_takes_is_taken() {
    let content = r#"{"type":"post","text":"hi"}"#;
    for good in ["\"AAAA.box\"", "\".box\"", "\"AA==.box2\"", r#""AAAA.box\\n""#] {
        assert!(parse_message(&altered(content, good), None).is_ok(), "{good}");
    }
    for (from, to) in [
        ("\"sequence\":1", "\"sequence\":1.0"),
        ("\"sequence\":1", "\"sequence\":2147483647"),
        ("\"timestamp\":1500000000000", "\"timestamp\":-0.5"),
        ("\"sha256\"", r#""\u0073ha256""#),
        ("\"hash\"", r#""\u0068ash""#),
        ("{\"previous\":null", "{\"previous\":1,\"previous\":null"),
    ] {
        assert!(parse_message(&altered(from, to), None).is_ok(), "{to}");
    }
}

#[test]
fn types_are_three_to_fifty_two_units_long() {
    let with_type = |kind: &str| {
        let content = format!(r#"{{"type":"{kind}"}}"#);
        create_message(&keys(), None, None, content.as_bytes(), 0.0).map(|message| {
            assert!(parse_message(&message.value, None).unwrap().verify().is_ok());
        })
    };
    for good in ["abc", &"x".repeat(52), &"é".repeat(52), &"😀".repeat(26), r"\n\ud83d\\", "日本語"] {
        assert!(with_type(good).is_ok(), "{good}");
    }
    for bad in ["ab", &"x".repeat(53), "😀", &"😀".repeat(27), "日本", r"\n\ud83d", ""] {
        assert!(matches!(with_type(bad), Err(MessageError::ContentType { .. })), "{bad}");
    }
}

#[test]
fn the_limit_is_8192_units_of_the_indented_text() {
    let rest = {
        let mut text = Vec::new();
        let empty = create_message(&keys(), None, None, &post(""), 1.5e12).unwrap();
        sbot_feed::json::parse(&empty.value).unwrap().root().print_indented(&mut text, 0);
        text.len()
    };
    let room = MAX_LENGTH - rest;
    // One, one, two and six units a character.
    for (character, units) in [("x", 1), ("日", 1), ("😀", 2), (r"\u0001", 6)] {
        let fill = |units_in_all: usize| {
            let filler = "y".repeat(units_in_all % units);
            let text = post(&format!("{}{filler}", character.repeat(units_in_all / units)));
            create_message(&keys(), None, None, &text, 1.5e12)
        };
        let longest = fill(room).unwrap();
        assert!(parse_message(&longest.value, None).unwrap().verify().is_ok(), "{character}");
        assert_eq!(fill(room + 1).unwrap_err(), MessageError::TooLong { length: MAX_LENGTH + 1 }, "{character}");
        // The same refused when it comes from elsewhere.
        let longer = String::from_utf8(longest.value.to_vec()).unwrap().replace("\"text\":\"", "\"text\":\"z");
        assert_eq!(
            parse_message(longer.as_bytes(), None).unwrap_err(),
            MessageError::TooLong { length: MAX_LENGTH + 1 },
            "{character}"
        );
    }
}

#[test]
fn deep_nesting_is_too_long_and_cheap() {
    let deep = format!("{{\"type\":\"deep\",\"x\":{}{}}}", "[".repeat(60_000), "]".repeat(60_000));
    let json = altered(r#"{"type":"post","text":"hi"}"#, &deep);
    assert!(matches!(parse_message(&json, None), Err(MessageError::TooLong { .. })));
    let made = create_message(&keys(), None, None, deep.as_bytes(), 0.0);
    assert!(matches!(made, Err(MessageError::TooLong { .. })));
}

#[test]
fn no_message_is_made_that_would_be_refused() {
    let make = |content: &[u8], timestamp: f64| create_message(&keys(), None, None, content, timestamp);
    assert!(matches!(make(b"{", 0.0), Err(MessageError::Json(_))));
    assert!(matches!(make(b"null", 0.0), Err(MessageError::Shape(_))));
    assert!(matches!(make(b"\"text\"", 0.0), Err(MessageError::Shape(_))));
    assert!(matches!(make(b"[]", 0.0), Err(MessageError::ContentType { .. })));
    assert!(matches!(make(&post("x"), f64::NAN), Err(MessageError::Shape(_))));
    assert!(matches!(make(&post("x"), f64::INFINITY), Err(MessageError::Shape(_))));
    let last = FeedTip { sequence: i32::MAX as u64, key: MsgId([0; 32]), timestamp: 0.0 };
    assert!(matches!(create_message(&keys(), None, Some(&last), &post("x"), 0.0), Err(MessageError::Shape(_))));
    let boxed = make(b"\"AAAA.box\"", 0.0).unwrap();
    assert_eq!(boxed.content(), b"\"AAAA.box\"");
    assert!(parse_message(&boxed.value, None).unwrap().verify().is_ok());
}

#[test]
fn a_feed_grows_message_by_message() {
    let one = first();
    check_next(None, &one).unwrap();
    let tip = FeedTip::from(&one);
    let two = create_message(&keys(), None, Some(&tip), &post("two"), 2.0).unwrap();
    check_next(Some(&tip), &two).unwrap();
    let three = create_message(&keys(), None, Some(&FeedTip::from(&two)), &post("three"), 1.0).unwrap();

    let author = keys().id();
    assert_eq!(check_next(Some(&tip), &three), Err(MessageError::Sequence { author, expected: 2, found: 3 }));
    assert_eq!(check_next(Some(&tip), &one), Err(MessageError::Sequence { author, expected: 2, found: 1 }));
    assert_eq!(check_next(None, &two), Err(MessageError::Sequence { author, expected: 1, found: 2 }));
    let other = FeedTip { key: MsgId([1; 32]), ..tip };
    assert_eq!(check_next(Some(&other), &two), Err(MessageError::Fork { author, sequence: 2 }));
    let mut rootless = one;
    rootless.previous = Some(MsgId([1; 32]));
    assert_eq!(check_next(None, &rootless), Err(MessageError::Fork { author, sequence: 1 }));
}

#[test]
fn stored_values_are_read_without_parsing_them_whole() {
    let one = first();
    let two = create_message(&keys(), None, Some(&FeedTip::from(&one)), &post("two"), 2.5).unwrap();
    for message in [one, two] {
        assert_eq!(Message::trusted(message.key, message.value.clone()).unwrap(), message);
        assert!(message.content().starts_with(b"{\"type\":\"post\""));
        let document = sbot_feed::json::parse(&message.value).unwrap();
        let mut content = Vec::new();
        document.root().get("content").unwrap().print(&mut content);
        assert_eq!(message.content(), content);
    }
    for damaged in ["", "{}", "{\"previous\":null", "{\"previous\":null,\"sequence\":1,\"author\":\"@x\""] {
        assert!(Message::trusted(MsgId([0; 32]), Bytes::from_static(damaged.as_bytes())).is_err(), "{damaged}");
        assert_eq!(content_of(damaged.as_bytes()), b"");
    }
}

proptest! {
    #[test]
    fn what_is_made_is_read_verified_and_stored_the_same(
        text in "\\PC{0,200}",
        number in any::<f64>().prop_filter("finite", |number| number.is_finite()),
        timestamp in 0.0..1e13f64,
        with_hmac: bool,
    ) {
        let content = serde_json::json!({"type": "test", "text": text, "number": number}).to_string();
        let hmac = with_hmac.then_some(&HMAC);
        let message = create_message(&keys(), hmac, None, content.as_bytes(), timestamp).unwrap();
        let read = parse_message(&message.value, hmac).unwrap().verify().unwrap();
        prop_assert_eq!(&read, &message);
        prop_assert_eq!(Message::trusted(message.key, message.value.clone()).unwrap(), message);
    }

    #[test]
    fn no_altered_message_verifies_and_none_panics(at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
        let mut json = from_js().into_bytes();
        let at = at.index(json.len());
        let same = json[at] == byte;
        json[at] = byte;
        if cut {
            json.truncate(at);
        }
        let before = parse_message(from_js().as_bytes(), None).unwrap().message().key;
        if let Ok(read) = parse_message(&json, None) {
            let key = read.message().key;
            if let Ok(message) = read.verify() {
                // What still verifies says the same: white space, or another way to write it.
                prop_assert!(message.key == before && message.value == from_js().as_bytes() && key == before || same);
            }
        }
        let _ = Message::trusted(before, Bytes::from(json.clone()));
        let _ = content_of(&json);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_message(&bytes, None);
        let _ = Message::trusted(MsgId([0; 32]), Bytes::from(bytes.clone()));
        let _ = content_of(&bytes);
        let _ = message_id(&bytes);
        let _ = create_message(&keys(), None, None, &bytes, 0.0);
    }
}
