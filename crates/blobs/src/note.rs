//! What peers say over `blobs.createWants`: objects of blob ids and numbers.

use std::borrow::Cow;
use std::fmt;

use sbot_feed::BlobId;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What a peer says of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It is looked for, so many steps away: 1 is the peer itself. On the wire the negative of that.
    Want(u32),
    /// The peer has it: so many bytes, if it says so (peers without `createWants` don't).
    Has(Option<u64>),
}

/// Reads an object from a peer. What is no blob id or no whole number other than 0 is left out, as in ssb-blobs
/// (`process` in `inject.js`); a text that is no JSON object has no notes.
#[must_use]
pub fn read_notes(json: &[u8]) -> Vec<(BlobId, Note)> {
    serde_json::from_slice::<Notes>(json).map(|notes| notes.0).unwrap_or_default()
}

struct Notes(Vec<(BlobId, Note)>);

impl<'de> Deserialize<'de> for Notes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Notes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of blob ids and numbers")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Notes, M::Error> {
        let mut notes = Vec::new();
        while let Some((name, number)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            if let (Ok(id), Some(note)) = (name.0.parse(), note(number.get())) {
                notes.push((id, note));
            }
        }
        Ok(Notes(notes))
    }
}

/// A name, borrowed unless it has escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// The note that a JSON value stands for. `f64` reads what JavaScript would, and JSON has no other words for numbers.
fn note(json: &str) -> Option<Note> {
    let number: f64 = json.parse().ok().filter(|number: &f64| number.is_finite() && number.fract() == 0.0)?;
    // `as` saturates: what is too large is farther than any sympathy, or larger than any blob that is fetched
    match number {
        0.0 => None,
        _ if number < 0.0 => Some(Note::Want(-number as u32)),
        _ => Some(Note::Has(Some(number as u64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "&pQazhWBAfFoj+J7SrJu2D6N3BeGnnSVdz1oqE52AYdo=.sha256";

    fn one(value: &str) -> Option<Note> {
        read_notes(format!("{{\"{ID}\":{value}}}").as_bytes()).first().map(|(_, note)| *note)
    }

    #[test]
    fn negative_numbers_are_wants_and_positive_ones_sizes() {
        assert_eq!(one("-1"), Some(Note::Want(1)));
        assert_eq!(one("-3.0"), Some(Note::Want(3)));
        assert_eq!(one("5e3"), Some(Note::Has(Some(5000))));
    }

    #[test]
    fn what_is_no_whole_number_says_nothing() {
        for value in ["0", "-0", "-0.0", "0.5", "-1.5", "\"-1\"", "\"inf\"", "null", "true", "[]", "{\"a\":-1}", "[-1]"]
        {
            assert_eq!(one(value), None, "{value}");
        }
    }

    #[test]
    fn numbers_beyond_all_bounds_stay_harmless() {
        assert_eq!(one("-1e300"), Some(Note::Want(u32::MAX)));
        assert_eq!(one("1e300"), Some(Note::Has(Some(u64::MAX))));
        assert_eq!(one("1e999"), None);
    }

    #[test]
    fn what_is_no_blob_id_is_left_out_and_the_rest_is_read() {
        let json = format!(
            r#"{{"x":-1,"../../etc/passwd":-1,"&AAA=.sha256":-1,"%pQazhWBAfFoj+J7SrJu2D6N3BeGnnSVdz1oqE52AYdo=.sha256":-1,
            "{ID}?unbox=x":-1,"":-1,"&../..AfFoj+J7SrJu2D6N3BeGnnSVdz1oqE52AYdo=.sha256":1,"{ID}":-2}}"#
        );
        assert_eq!(read_notes(json.as_bytes()), [(ID.parse().unwrap(), Note::Want(2))]);
    }

    #[test]
    fn what_is_no_object_has_no_notes() {
        for json in ["", "[]", "null", "-1", "\"x\"", "{", &format!("[\"{ID}\"]"), &format!("{{\"{ID}\":-1")] {
            assert!(read_notes(json.as_bytes()).is_empty(), "{json}");
        }
    }

    #[test]
    fn escapes_in_a_name_are_read() {
        let escaped = ID.replace('&', "\\u0026");
        assert_eq!(read_notes(format!("{{\"{escaped}\":-1}}").as_bytes()).len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_notes(&bytes);
        }

        #[test]
        fn any_number_is_read_without_harm(number in any::<f64>()) {
            one(&number.to_string());
        }
    }
}
