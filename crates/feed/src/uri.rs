//! SSB URIs: `ssb:message/classic/…`, `ssb:feed/classic/…` and `ssb:blob/classic/…` for `%`, `@` and `&`.
//!
//! The base64 is written URL-safe, with `-` and `_`. Read too: the names of old, `ssb:message/sha256/…`,
//! `ssb:feed/ed25519/…`, `ssb:blob/sha256/…`, and `ssb://` and `ssb:…:…` in place of slashes.
//! Addresses travel as `ssb:address/multiserver?multiserverAddress=…`. Source: ssb-uri2 2.4, the SSB URI specification.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{BlobId, FeedId, MsgId};

/// What a URI names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A message.
    Message(MsgId),
    /// A feed.
    Feed(FeedId),
    /// A blob.
    Blob(BlobId),
}

/// Reads the URI of a classic message, feed or blob; `None` for anything else.
pub fn parse(uri: &str) -> Option<Reference> {
    let rest = uri.strip_prefix("ssb:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let mut parts = rest.splitn(3, ['/', ':']);
    let (kind, format, data) = (parts.next()?, parts.next()?, parts.next()?);
    let data = data.split(['?', '#', '/']).next()?;
    let data = percent_decode_str(data).decode_utf8().ok()?.replace('-', "+").replace('_', "/");
    match (kind, format) {
        ("message", "classic" | "sha256") => format!("%{data}.sha256").parse().ok().map(Reference::Message),
        ("feed", "classic" | "ed25519") => format!("@{data}.ed25519").parse().ok().map(Reference::Feed),
        ("blob", "classic" | "sha256") => format!("&{data}.sha256").parse().ok().map(Reference::Blob),
        _ => None,
    }
}

/// The URI of a reference.
pub fn print(reference: &Reference) -> String {
    let (kind, sigil) = match reference {
        Reference::Message(id) => ("message", id.to_string()),
        Reference::Feed(id) => ("feed", id.to_string()),
        Reference::Blob(id) => ("blob", id.to_string()),
    };
    // Behind the sigil, 44 characters of base64.
    let data = sigil[1..45].replace('+', "-").replace('/', "_");
    format!("ssb:{kind}/classic/{data}")
}

/// What JavaScript's `encodeURIComponent` leaves as it is, besides letters and digits.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// The URI of a multiserver address.
pub fn print_address(address: &str) -> String {
    format!("ssb:address/multiserver?multiserverAddress={}", utf8_percent_encode(address, PLAIN))
}

/// The multiserver address in a URI, not looked at any further; `None` if the URI names none.
pub fn parse_address(uri: &str) -> Option<String> {
    let rest = uri.strip_prefix("ssb:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let rest = rest.strip_prefix("address/multiserver").or_else(|| rest.strip_prefix("address:multiserver"))?;
    let (_, query) = rest.split_once('?')?;
    let query = query.split('#').next()?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix("multiserverAddress="))?;
    let address = percent_decode_str(&value.replace('+', " ")).decode_utf8().ok()?.into_owned();
    (!address.is_empty()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_survives_its_uri() {
        for byte in [0, 0xfb, 0xff] {
            for reference in [
                Reference::Message(MsgId([byte; 32])),
                Reference::Feed(FeedId([byte; 32])),
                Reference::Blob(BlobId([byte; 32])),
            ] {
                assert_eq!(parse(&print(&reference)), Some(reference));
            }
        }
    }

    #[test]
    fn names_of_old_are_understood() {
        let data = "+oaWWDs8g73EZFUMfW37R_ULtFEjwKN_DczvdYihjbU=";
        let id: MsgId = "%+oaWWDs8g73EZFUMfW37R/ULtFEjwKN/DczvdYihjbU=.sha256".parse().unwrap();
        for uri in [
            format!("ssb:message/sha256/{data}"),
            format!("ssb://message/classic/{data}"),
            format!("ssb:message:sha256:{data}"),
            format!("ssb:message/classic/{data}?unbox=x"),
        ] {
            assert_eq!(parse(&uri), Some(Reference::Message(id)), "{uri}");
        }
        assert_eq!(parse(&format!("ssb:feed/classic/{data}")), Some(Reference::Feed(FeedId(id.0))));
        assert_eq!(
            parse(&format!("ssb:blob/sha256/{}", data.replace('=', "%3D"))),
            Some(Reference::Blob(BlobId(id.0)))
        );
        assert_eq!(parse(&format!("ssb:feed/bendybutt-v1/{data}")), None);
        assert_eq!(parse("ssb:message/classic/AAAA"), None);
        assert_eq!(parse("ssb:experimental?action=x"), None);
        assert_eq!(parse("https://example.org"), None);
    }

    #[test]
    fn an_address_survives_its_uri() {
        let address = "net:wx.larpa.net:8008~shs:DTNmX+4SjsgZ7xyDh5xxmNtFqa6pWi5Qtw7cE8aR9TQ=";
        let uri = "ssb:address/multiserver?multiserverAddress=net%3Awx.larpa.net%3A8008~shs%3ADTNmX%2B4SjsgZ7xyDh5xxmNtFqa6pWi5Qtw7cE8aR9TQ%3D";
        assert_eq!(print_address(address), uri);
        assert_eq!(parse_address(uri).as_deref(), Some(address));
        assert_eq!(parse_address(&uri.replace("ssb:", "ssb://")).as_deref(), Some(address));
        assert_eq!(parse_address("ssb:address/multiserver?multiserverAddress="), None);
        assert_eq!(parse_address("ssb:address/multiserver"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic_and_every_address_survives(text in ".{0,80}") {
            let _ = parse(&text);
            let _ = parse(&format!("ssb:message/classic/{text}"));
            proptest::prop_assert_eq!(parse_address(&print_address(&text)), (!text.is_empty()).then_some(text));
        }
    }
}
