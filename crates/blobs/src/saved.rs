//! What is remembered over a restart: own wants and pushes, and since when.

use std::collections::BTreeMap;

use sbot_feed::BlobId;
use serde::{Deserialize, Serialize};

/// Own wants and pushes, each with the time of the last request, in ms since 1970. (ssb-blobs keeps pushes alone; its
/// clients ask again for what they want.)
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    /// Blobs that this node looks for.
    pub wants: BTreeMap<BlobId, u64>,
    /// Blobs that are to be spread.
    pub pushes: BTreeMap<BlobId, u64>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Written {
    wants: BTreeMap<String, u64>,
    pushes: BTreeMap<String, u64>,
}

impl Saved {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let named = |ids: &BTreeMap<BlobId, u64>| ids.iter().map(|(id, since)| (id.to_string(), *since)).collect();
        let written = Written { wants: named(&self.wants), pushes: named(&self.pushes) };
        // maps of text and numbers always have a JSON form
        serde_json::to_vec(&written).unwrap_or_default()
    }

    /// From JSON. What is no blob id is left out.
    ///
    /// # Errors
    /// If it isn't what [`Saved::to_json`] writes.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        let written: Written = serde_json::from_slice(json)?;
        let read = |ids: BTreeMap<String, u64>| {
            ids.into_iter().filter_map(|(id, since)| Some((id.parse().ok()?, since))).collect()
        };
        Ok(Self { wants: read(written.wants), pushes: read(written.pushes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_read_back() {
        let saved = Saved {
            wants: BTreeMap::from([(BlobId([1; 32]), 5)]),
            pushes: BTreeMap::from([(BlobId([2; 32]), 6), (BlobId([3; 32]), 7)]),
        };
        assert_eq!(Saved::from_json(&saved.to_json()).unwrap(), saved);
        assert_eq!(Saved::from_json(b"{\"wants\":{\"x\":1}}").unwrap(), Saved::default());
        assert!(Saved::from_json(b"[").is_err());
    }
}
