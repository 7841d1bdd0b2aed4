//! References: `@…​.ed25519` names a feed, `%…​.sha256` a message, `&…​.sha256` a blob.
//!
//! Each is 32 bytes behind a sigil and a suffix, in canonical base64. Source: ssb-ref 2.16 `index.js`.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefError {
    /// The text does not begin with the sigil or end with the suffix of its kind.
    #[error("{text:?} is no {kind}: expected {sigil}BASE64{suffix}")]
    Shape {
        /// The text as given, at most 80 characters of it.
        text: String,
        /// `feed id`, `message id` or `blob id`.
        kind: &'static str,
        /// `@`, `%` or `&`.
        sigil: char,
        /// `.ed25519` or `.sha256`.
        suffix: &'static str,
    },
}

macro_rules! reference {
    ($name:ident, $kind:literal, $sigil:literal, $byte:literal, $suffix:literal, $what:literal) => {
        #[doc = $what]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The 32 bytes behind the sigil.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Appends the reference as text.
            pub fn write_to(&self, out: &mut Vec<u8>) {
                let mut text = [0; 44];
                let _ = STANDARD.encode_slice(self.0, &mut text);
                out.push($byte);
                out.extend_from_slice(&text);
                out.extend_from_slice($suffix.as_bytes());
            }

            /// Parses the reference from UTF-8 or ASCII bytes, as found in a JSON string without escapes.
            ///
            /// # Errors
            /// [`RefError`] if it is not exactly one canonical reference of this kind.
            pub fn from_ascii(text: &[u8]) -> Result<Self, RefError> {
                let error = || RefError::Shape {
                    text: String::from_utf8_lossy(text).chars().take(80).collect(),
                    kind: $kind,
                    sigil: $sigil,
                    suffix: $suffix,
                };
                let body = text
                    .strip_prefix(&[$byte])
                    .and_then(|rest| rest.strip_suffix($suffix.as_bytes()))
                    .filter(|body| body.len() == 44)
                    .ok_or_else(error)?;
                let mut bytes = [0; 33];
                match STANDARD.decode_slice(body, &mut bytes) {
                    Ok(32) => {}
                    _ => return Err(error()),
                }
                let mut id = [0; 32];
                id.copy_from_slice(&bytes[..32]);
                Ok($name(id))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0; 44];
                let _ = STANDARD.encode_slice(self.0, &mut text);
                write!(f, concat!($sigil, "{}", $suffix), std::str::from_utf8(&text).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = RefError;

            fn from_str(text: &str) -> Result<Self, RefError> {
                Self::from_ascii(text.as_bytes())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

reference!(FeedId, "feed id", '@', b'@', ".ed25519", "A feed, named by its author's public key: `@BASE64.ed25519`.");
reference!(MsgId, "message id", '%', b'%', ".sha256", "A message, named by its hash: `%BASE64.sha256`.");
reference!(BlobId, "blob id", '&', b'&', ".sha256", "A blob, named by its hash: `&BASE64.sha256`.");
