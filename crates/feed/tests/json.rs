//! JSON comes out as V8 prints it, and no input is too odd.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use proptest::collection::vec;
use proptest::prelude::*;
use sbot_feed::json;

fn compact(text: &[u8]) -> String {
    let document = json::parse(text).unwrap();
    let mut out = Vec::new();
    document.root().print(&mut out);
    String::from_utf8(out).unwrap()
}

fn indented(text: &[u8]) -> String {
    let document = json::parse(text).unwrap();
    let mut out = Vec::new();
    document.root().print_indented(&mut out, 0);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_v8_printed_is_printed() {
    // Each line: a text, and what node 20 made of it with JSON.parse and JSON.stringify, compact and with two spaces.
    for line in include_str!("data/json.jsonl").lines() {
        let [text, short, long]: [String; 3] = serde_json::from_str(line).unwrap();
        assert_eq!(compact(text.as_bytes()), short, "{text}");
        assert_eq!(indented(text.as_bytes()), long, "{text}");
    }
}

#[test]
fn what_json_parse_throws_at_is_refused() {
    let texts = [
        "",
        " ",
        "nul",
        "nulll",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "1e+",
        "-",
        "--1",
        "\"\t\"",
        r#""\x41""#,
        r#""\u12""#,
        r#""\u12g4""#,
        r#""\"#,
        "[1,]",
        "[,1]",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "'a'",
        "1 2",
        "\u{feff}1",
        "\u{a0}1",
        "[",
        "]",
        "{",
        "}",
        "[}",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "\"abc",
        "NaN",
        "Infinity",
        "tru",
        "{\"a\" 1}",
        "[1 2]",
        "\u{b}1",
        "1\u{0}",
        "// 1",
        r#""\ud83d\u12""#,
    ];
    for text in texts {
        assert!(json::parse(text.as_bytes()).is_err(), "{text:?}");
    }
    assert_eq!(json::parse(b"[\"\xff\"]").unwrap_err().at, 2);
    assert_eq!(json::parse(b"[1, x]").unwrap_err().at, 4);
}

#[test]
fn nesting_neither_recurses_nor_prints_without_bound() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = 100_000;
        let text = format!("{}0{}", open.repeat(depth), close.repeat(depth));
        let document = json::parse(text.as_bytes()).unwrap();
        let mut out = Vec::new();
        document.root().print(&mut out);
        assert_eq!(out, text.as_bytes());
        out.clear();
        assert!(!document.root().print_indented_up_to(&mut out, 0, 1 << 20));
        assert!(out.len() < 1 << 21);
        assert!(json::parse(open.repeat(depth).as_bytes()).is_err());
    }
}

#[test]
fn values_are_found_by_key_and_place() {
    let document = json::parse(br#"{"a":[1,"t\u0077o",null,true,{}],"a b":-2.50}"#).unwrap();
    let root = document.root();
    assert_eq!(root.len(), 2);
    assert_eq!(root.get("a b").unwrap().number(), Some(-2.5));
    assert!(root.get("b").is_none());
    let items: Vec<_> = root.get("a").unwrap().items().collect();
    let kinds: Vec<_> = items.iter().map(json::Value::kind).collect();
    assert_eq!(
        kinds,
        [json::Kind::Number, json::Kind::String, json::Kind::Null, json::Kind::Boolean, json::Kind::Object]
    );
    assert_eq!(items[1].escaped(), Some(&b"two"[..]));
    assert_eq!(items[1].printed(), b"\"two\"");
    assert!(items[4].is_empty() && items[0].escaped().is_none() && items[1].number().is_none());
}

#[test]
fn objects_of_many_keys_drop_twins_as_small_ones_do() {
    let twice = |count: usize| {
        let entries: Vec<_> = (0..2 * count).map(|at| format!("\"k{}\":{at}", at % count)).collect();
        compact(format!("{{{}}}", entries.join(",")).as_bytes())
    };
    for count in [1, 6, 7, 100] {
        let expected: Vec<_> = (0..count).map(|at| format!("\"k{at}\":{}", at + count)).collect();
        assert_eq!(twice(count), format!("{{{}}}", expected.join(",")));
    }
}

/// Texts of JSON values with all that is odd: escapes, lone surrogates, exponents, twins, keys that look like indices.
fn text() -> impl Strategy<Value = String> {
    let string = || {
        let piece = prop_oneof![
            "[ -!#-\\[\\]-~]{0,12}",
            "[\u{80}-\u{d7ff}\u{e000}-\u{10ffff}]{0,3}",
            "\\\\[\"\\\\/bfnrt]",
            "\\\\u[0-9a-fA-F]{4}",
            "\\\\u[dD][89a-fA-F][0-9a-f]{2}",
        ];
        vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
    };
    let number = prop_oneof![
        "-?(0|[1-9][0-9]{0,20})",
        "-?(0|[1-9][0-9]{0,3})\\.[0-9]{1,20}",
        "-?[1-9](\\.[0-9]{1,17})?[eE][+-]?[0-9]{1,3}",
        any::<f64>().prop_filter("JSON has finite numbers", |number| number.is_finite()).prop_map(|n| format!("{n:e}")),
    ];
    let key = prop_oneof![string(), "\"[0-3]\"", "\"(0|[1-9][0-9]{0,10})\"", Just("\"__proto__\"".to_owned())];
    let leaf = prop_oneof![string(), number, "null|true|false"];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(" ,\n"))),
            vec((key.clone(), inner), 0..8).prop_map(|entries| {
                let entries: Vec<_> = entries.iter().map(|(key, value)| format!("{key} : {value}")).collect();
                format!("{{ {} }}", entries.join(","))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_was_printed_is_read_and_printed_the_same(text in text()) {
        let (short, long) = (compact(text.as_bytes()), indented(text.as_bytes()));
        prop_assert_eq!(&compact(short.as_bytes()), &short);
        prop_assert_eq!(&compact(long.as_bytes()), &short);
        prop_assert_eq!(&indented(short.as_bytes()), &long);
        prop_assert_eq!(&indented(long.as_bytes()), &long);
    }

    #[test]
    fn without_lone_surrogates_serde_reads_the_same_value(text in text()) {
        if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
            let again: serde_json::Value = serde_json::from_str(&compact(text.as_bytes())).unwrap();
            prop_assert_eq!(strings(&again), strings(&value));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..200), text in text(), at in any::<prop::sample::Index>(), byte: u8) {
        let _ = json::parse(&bytes);
        let mut text = text.into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(document) = json::parse(&text) {
            let mut out = Vec::new();
            document.root().print(&mut out);
            document.root().print_indented(&mut out, 3);
        }
        let _ = json::parse(&text[..at]);
    }
}

/// All strings and keys of a value, sorted.
fn strings(value: &serde_json::Value) -> Vec<String> {
    let mut found = match value {
        serde_json::Value::String(text) => vec![text.clone()],
        serde_json::Value::Array(items) => items.iter().flat_map(strings).collect(),
        serde_json::Value::Object(entries) => {
            entries.iter().flat_map(|(key, value)| [vec![key.clone()], strings(value)].concat()).collect()
        }
        _ => Vec::new(),
    };
    found.sort();
    found
}
