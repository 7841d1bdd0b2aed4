//! Which bytes of which blob: the argument of `blobs.get` and `blobs.getSlice`.
//!
//! The argument is an id, or an object with `id`, `key` or `hash`; `size` says what the blob's size has to be, `max`
//! what it may be at most, and a slice has `start` and `end` (exclusive). Source: `multiblob/index.js`.

use std::ops::Range;

use sbot_feed::BlobId;
use serde_json::Value;

/// A wish for a blob or a slice of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Which blob.
    pub id: BlobId,
    size: Option<f64>,
    max: Option<f64>,
    slice: Option<(f64, f64)>,
}

/// Why a request can't be served. The texts are multiblob's, which clients know.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// There is no id, or it isn't a blob's.
    #[error("multiblob.{method}: {{id}} is mandatory")]
    NoId {
        /// `get` or `getSlice`.
        method: &'static str,
    },
    /// `start` or `end` is missing or no number.
    #[error("multiblob.getSlice: {{{field}}} must be a number")]
    NoNumber {
        /// `start` or `end`.
        field: &'static str,
    },
    /// The blob is of another size than asked for, or larger.
    #[error("incorrect file length, requested:{requested} file was:{found} for file:{id}")]
    Length {
        /// The size asked for, or `undefined`.
        requested: String,
        /// The blob's size.
        found: u64,
        /// The blob.
        id: BlobId,
    },
    /// The slice lies behind the blob's end.
    #[error("the slice starts at {start}, but the blob {id} has only {found} bytes")]
    Outside {
        /// Where the slice would start.
        start: u64,
        /// The blob's size.
        found: u64,
        /// The blob.
        id: BlobId,
    },
}

impl Request {
    /// Reads the argument of `blobs.get`.
    ///
    /// # Errors
    /// [`RequestError::NoId`].
    pub fn get(argument: &Value) -> Result<Self, RequestError> {
        if argument.is_string() {
            let id = id_of(argument).ok_or(RequestError::NoId { method: "get" })?;
            return Ok(Self { id, size: None, max: None, slice: None });
        }
        Self::read(argument, "get")
    }

    /// Reads the argument of `blobs.getSlice`.
    ///
    /// # Errors
    /// [`RequestError::NoId`], [`RequestError::NoNumber`].
    pub fn slice(argument: &Value) -> Result<Self, RequestError> {
        let mut request = Self::read(argument, "getSlice")?;
        let bound = |field: &'static str| number(argument, field).ok_or(RequestError::NoNumber { field });
        request.slice = Some((bound("start")?, bound("end")?));
        Ok(request)
    }

    fn read(argument: &Value, method: &'static str) -> Result<Self, RequestError> {
        let id = ["id", "key", "hash"]
            .into_iter()
            .filter_map(|name| argument.get(name))
            .find(|value| value.as_str().is_some_and(|text| !text.is_empty()))
            .and_then(id_of)
            .ok_or(RequestError::NoId { method })?;
        Ok(Self { id, size: number(argument, "size"), max: number(argument, "max"), slice: None })
    }

    /// The bytes to send of a blob of `found` bytes.
    ///
    /// # Errors
    /// [`RequestError::Length`], [`RequestError::Outside`].
    pub fn range(&self, found: u64) -> Result<Range<u64>, RequestError> {
        let length = found as f64;
        if self.size.is_some_and(|size| size != length) || self.max.is_some_and(|max| max < length) {
            let requested = self.size.map_or_else(|| "undefined".to_owned(), |size| size.to_string());
            return Err(RequestError::Length { requested, found, id: self.id });
        }
        let Some((start, end)) = self.slice else { return Ok(0..found) };
        // `as` saturates: a negative start is 0, an end beyond everything is the blob's end
        let (start, end) = (start as u64, (end as u64).min(found));
        if start > found {
            return Err(RequestError::Outside { start, found, id: self.id });
        }
        Ok(start..end.max(start))
    }
}

fn id_of(value: &Value) -> Option<BlobId> {
    value.as_str()?.parse().ok()
}

/// A number, or a string that JavaScript reads as one.
fn number(argument: &Value, name: &str) -> Option<f64> {
    let value = argument.get(name)?;
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "&pQazhWBAfFoj+J7SrJu2D6N3BeGnnSVdz1oqE52AYdo=.sha256";

    #[test]
    fn an_id_alone_asks_for_the_whole_blob() {
        assert_eq!(Request::get(&json!(ID)).unwrap().range(65).unwrap(), 0..65);
        for name in ["id", "key", "hash"] {
            assert_eq!(Request::get(&json!({ name: ID })).unwrap().range(65).unwrap(), 0..65);
        }
    }

    #[test]
    fn what_is_no_blob_id_is_refused() {
        for argument in [json!("x"), json!({}), json!(null), json!({"id": "x"}), json!({"id": 5})] {
            let error = Request::get(&argument).unwrap_err().to_string();
            assert_eq!(error, "multiblob.get: {id} is mandatory");
        }
        assert_eq!(
            Request::slice(&json!({"id": ID, "start": 1})).unwrap_err().to_string(),
            "multiblob.getSlice: {end} must be a number"
        );
    }

    #[test]
    fn a_blob_of_another_size_or_too_large_is_not_sent() {
        let error = Request::get(&json!({"id": ID, "size": 3})).unwrap().range(65).unwrap_err().to_string();
        assert_eq!(error, format!("incorrect file length, requested:3 file was:65 for file:{ID}"));
        let error = Request::get(&json!({"id": ID, "max": 3})).unwrap().range(65).unwrap_err().to_string();
        assert_eq!(error, format!("incorrect file length, requested:undefined file was:65 for file:{ID}"));
        assert!(Request::get(&json!({"id": ID, "size": 65, "max": 65})).unwrap().range(65).is_ok());
    }

    #[test]
    fn a_slice_is_cut_at_the_blobs_end() {
        let slice = |start: i64, end: u64| Request::slice(&json!({"id": ID, "start": start, "end": end})).unwrap();
        assert_eq!(slice(3, 10).range(65).unwrap(), 3..10);
        assert_eq!(slice(60, 1000).range(65).unwrap(), 60..65);
        assert_eq!(slice(-5, 2).range(65).unwrap(), 0..2);
        assert_eq!(slice(9, 2).range(65).unwrap(), 9..9);
        assert!(matches!(slice(100, 1000).range(65), Err(RequestError::Outside { .. })));
    }
}
