//! SSB URIs: `ssb:message/classic/…`, `ssb:feed/classic/…` and `ssb:blob/classic/…` for `%`, `@` and `&`.
//!
//! The base64 is written URL-safe, with `-` and `_`. Read too: the names of old, `ssb:message/sha256/…`,
//! `ssb:feed/ed25519/…`, `ssb:blob/sha256/…`, and `ssb://` and `ssb:…:…` in place of slashes.
//! Source: ssb-uri2 2.4, the SSB URI specification.

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
    let data = data.split(['?', '#', '/']).next()?.replace('-', "+").replace('_', "/");
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
        assert_eq!(parse("ssb:experimental?action=x"), None);
        assert_eq!(parse("https://example.org"), None);
    }
}
