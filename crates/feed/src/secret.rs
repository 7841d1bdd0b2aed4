//! The text of a `secret` file, as ssb-keys 8 writes and reads it (`storage.js`).
//!
//! Reading and writing the file itself, and minding its mode, is the node's affair.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::{FeedId, Keypair};

/// Why a text is no secret file. No variant repeats what the file holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Without its comments the file is empty.
    #[error("no key in it: only comments or nothing")]
    Empty,
    /// What is left without comments is neither JSON nor the base64 of a private key.
    #[error("neither the JSON of a key ({{\"curve\", \"public\", \"private\", \"id\"}}) nor a bare private key")]
    Form,
    /// The curve is not ed25519.
    #[error("its curve is {found:?}, only ed25519 is known")]
    Curve {
        /// As the file says.
        found: String,
    },
    /// `private` is not the base64 of 64 bytes, or its halves don't belong together.
    #[error("its private key is not the base64 of a valid 64-byte ed25519 key")]
    Private,
    /// `public` or `id` is not that of the private key.
    #[error("its {field} is {found}, but its private key belongs to {expected}")]
    Mismatch {
        /// `public` or `id`.
        field: &'static str,
        /// As the file says.
        found: String,
        /// Whose key it is.
        expected: FeedId,
    },
}

#[derive(Deserialize)]
struct Fields {
    curve: Option<String>,
    public: Option<String>,
    private: String,
    id: Option<String>,
}

/// Reads a secret file: lines beginning with `#` are comments, the rest is JSON, or in files of old a bare private key.
///
/// # Errors
/// [`SecretError`]; the texts hold nothing secret.
pub fn parse(text: &str) -> Result<Keypair, SecretError> {
    // ssb-keys strips from a # to the end of the line, with the white space before it.
    let bare: String = text.lines().map(|line| line.split('#').next().unwrap_or_default()).collect();
    let bare = bare.trim();
    if bare.is_empty() {
        return Err(SecretError::Empty);
    }
    if !bare.starts_with('{') {
        return private_key(bare).map_err(|_| SecretError::Form);
    }
    let fields: Fields = serde_json::from_str(bare).map_err(|_| SecretError::Form)?;
    if let Some(found) = fields.curve.filter(|curve| curve != "ed25519") {
        return Err(SecretError::Curve { found });
    }
    let keys = private_key(&fields.private)?;
    let expected = keys.id();
    let public = fields.public.map(|public| if public.starts_with('@') { public } else { format!("@{public}") });
    // ssb-keys believes `public` where `id` bears no sigil: files of old name the hash of the key there.
    let id = fields.id.filter(|id| id.starts_with(['@', '%', '&']));
    for (field, found) in [("public", public), ("id", id)] {
        if let Some(found) = found.filter(|found| *found != expected.to_string()) {
            return Err(SecretError::Mismatch { field, found, expected });
        }
    }
    Ok(keys)
}

fn private_key(text: &str) -> Result<Keypair, SecretError> {
    let base64 = text.strip_suffix(".ed25519").unwrap_or(text);
    let bytes = STANDARD.decode(base64).map_err(|_| SecretError::Private)?;
    let bytes = <[u8; 64]>::try_from(bytes).map_err(|_| SecretError::Private)?;
    Keypair::from_secret_bytes(&bytes).ok_or(SecretError::Private)
}

/// The text of a secret file for `keys`, as ssb-keys writes it.
pub fn render(keys: &Keypair) -> String {
    let id = keys.id().to_string();
    let public = id.trim_start_matches('@');
    let private = STANDARD.encode(keys.secret_bytes());
    format!(
        "# WARNING: Never show this to anyone.\n\
         # WARNING: Never edit it or use it on multiple devices at once.\n\
         #\n\
         # This is your SECRET, it gives you magical powers. With your secret you can\n\
         # sign your messages so that your friends can verify that the messages came\n\
         # from you. If anyone learns your secret, they can use it to impersonate you.\n\
         #\n\
         # If you use this secret on more than one device you will create a fork and\n\
         # your friends will stop replicating your content.\n\
         #\n\
         {{\n  \"curve\": \"ed25519\",\n  \"public\": \"{public}\",\n  \"private\": \"{private}.ed25519\",\n  \"id\": \"{id}\"\n}}\n\
         #\n\
         # The only part of this file that's safe to share is your public name:\n\
         #\n\
         #   {id}"
    )
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let keys = Keypair::from_seed([3; 32]);
        assert_eq!(parse(&render(&keys)).unwrap().id(), keys.id());
    }

    #[test]
    fn the_text_is_the_one_that_ssb_keys_writes() {
        // sha256 of what ssb-keys 8.5 wrote for this seed
        let expected = "e220ee71e71945719e4915ac9be82930b71d234ffcd72cf662d561342015ed56";
        let hash = Sha256::digest(render(&Keypair::from_seed([3; 32])));
        assert_eq!(hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
    }

    #[test]
    fn an_id_without_sigil_is_overlooked_as_ssb_keys_does() {
        let keys = Keypair::from_seed([3; 32]);
        let text = render(&keys).replace("\"id\": \"@", "\"id\": \"");
        assert_eq!(parse(&text).unwrap().id(), keys.id());
    }

    #[test]
    fn line_ends_of_other_systems_and_missing_fields_do_no_harm() {
        let keys = Keypair::from_seed([3; 32]);
        assert_eq!(parse(&render(&keys).replace('\n', "\r\n")).unwrap().id(), keys.id());
        let private = STANDARD.encode(keys.secret_bytes());
        assert_eq!(parse(&format!("{{\"private\":\"{private}\"}}")).unwrap().id(), keys.id());
    }

    #[test]
    fn halves_that_do_not_belong_together_are_refused() {
        let mut bytes = Keypair::from_seed([3; 32]).secret_bytes();
        bytes[40] ^= 1;
        let private = STANDARD.encode(bytes);
        assert_eq!(parse(&format!("{{\"private\":\"{private}.ed25519\"}}")).unwrap_err(), SecretError::Private);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", cut in 0..700usize) {
            let _ = parse(&text);
            let _ = parse(&render(&Keypair::from_seed([3; 32])).chars().take(cut).collect::<String>());
        }
    }

    #[test]
    fn a_bare_private_key_is_read_as_files_of_old_hold_it() {
        let keys = Keypair::from_seed([3; 32]);
        let text = format!("# comment\n\n{}.ed25519\n", STANDARD.encode(keys.secret_bytes()));
        assert_eq!(parse(&text).unwrap().id(), keys.id());
    }

    #[test]
    fn wrong_contents_are_named_and_never_shown() {
        let other = Keypair::from_seed([4; 32]).id();
        let text = render(&Keypair::from_seed([3; 32]));
        let id = Keypair::from_seed([3; 32]).id().to_string();
        assert_eq!(parse("# only\n").unwrap_err(), SecretError::Empty);
        assert_eq!(parse("hello").unwrap_err(), SecretError::Form);
        assert_eq!(parse("{}").unwrap_err(), SecretError::Form);
        assert!(matches!(
            parse(&text.replace("\"curve\": \"ed25519\"", "\"curve\": \"p\"")),
            Err(SecretError::Curve { .. })
        ));
        assert!(matches!(
            parse(&text.replace(&format!("\"id\": \"{id}\""), &format!("\"id\": \"{other}\""))),
            Err(SecretError::Mismatch { field: "id", .. })
        ));
    }
}
