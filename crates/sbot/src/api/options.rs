//! Options of the message streams.
//!
//! Defaults and corner cases are those of ssb-db: `util.js` (keys and values default to true), `pull-live` (`live` has to
//! be exactly `true`, `old: false` alone means live), `ltgt` (which of `gt gte min start` wins) and the sort order of
//! `charwise`, in which every number lies above `null` and booleans and below strings, arrays and objects.

use std::ops::Bound;

use serde_json::Value;

use super::args::{field, is_object, truthy};
use super::failure::Failure;

/// What a stream is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Send messages as they come, after the old ones.
    pub live: bool,
    /// Send the messages that are there already.
    pub old: bool,
    /// From the newest to the oldest. Has no meaning for the live part.
    pub reverse: bool,
    /// At most so many of the old ones.
    pub limit: u64,
    /// Show ids.
    pub keys: bool,
    /// Show messages.
    pub values: bool,
    /// Show what we could decrypt.
    pub private: bool,
    /// Mark the end of the old part with `{"sync":true}`.
    pub sync: bool,
}

impl Options {
    /// Reads the options of a call; anything but an object is no options.
    pub(crate) fn read(value: &Value) -> Self {
        let old_is_off = field(value, "old") == &Value::Bool(false);
        let off = |name| field(value, name) == &Value::Bool(false);
        Self {
            live: field(value, "live") == &Value::Bool(true) || old_is_off,
            old: !old_is_off,
            reverse: truthy(field(value, "reverse")),
            limit: limit(field(value, "limit")),
            keys: !off("keys"),
            values: !off("values"),
            private: field(value, "private") == &Value::Bool(true),
            sync: !off("sync"),
        }
    }

    /// Whether the old part ends with a marker.
    pub(crate) fn marks(&self) -> bool {
        self.live && self.old && self.sync
    }
}

/// LevelDB's limit: the integer part, and everything for what is negative or no number.
fn limit(value: &Value) -> u64 {
    match value.as_f64() {
        // `as` cuts the fraction off and saturates, which is what is wanted here
        Some(number) if number >= 0.0 => number as u64,
        _ => u64::MAX,
    }
}

/// Refuses options of the wrong types, as `readStreamOpts` of ssb-db does.
pub(crate) fn check(at: usize, value: &Value, kind: &str) -> Result<(), Failure> {
    if !is_object(value) {
        return Err(Failure::argument_type(at, kind));
    }
    flag(at, value, "live")?;
    flag(at, value, "reverse")?;
    flag(at, value, "keys")?;
    flag(at, value, "values")?;
    number(at, value, "limit")?;
    flag(at, value, "fillCache")
}

/// The field has to be a boolean or a number, if it says anything.
pub(crate) fn flag(at: usize, value: &Value, name: &str) -> Result<(), Failure> {
    let found = field(value, name);
    if truthy(found) && !found.is_boolean() && !found.is_number() {
        return Err(Failure::field_type(at, name, "boolean"));
    }
    Ok(())
}

/// The field has to be a number, if it says anything.
pub(crate) fn number(at: usize, value: &Value, name: &str) -> Result<(), Failure> {
    let found = field(value, name);
    if truthy(found) && !found.is_number() {
        return Err(Failure::field_type(at, name, "number"));
    }
    Ok(())
}

/// A bound as it sorts among numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Edge {
    BelowNumbers,
    At(f64),
    AboveNumbers,
}

impl Edge {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null | Value::Bool(_) => Self::BelowNumbers,
            Value::Number(number) => number.as_f64().map_or(Self::AboveNumbers, Self::At),
            Value::String(_) | Value::Array(_) | Value::Object(_) => Self::AboveNumbers,
        }
    }
}

/// A range of timestamps or sequence numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    lower: Option<(Edge, bool)>,
    upper: Option<(Edge, bool)>,
}

impl Range {
    /// Everything.
    pub(crate) const ALL: Self = Self { lower: None, upper: None };

    /// Reads `gt gte min start` and `lt lte max end`: of each four the first that is there counts.
    pub(crate) fn read(value: &Value) -> Self {
        let Some(object) = value.as_object() else { return Self::ALL };
        let reverse = truthy(field(value, "reverse"));
        let (start, end) = if reverse { ("end", "start") } else { ("start", "end") };
        let first = |names: [&str; 4]| {
            names.into_iter().find_map(|name| object.get(name).map(|bound| (Edge::of(bound), name.len() != 2)))
        };
        Self { lower: first(["gt", "gte", "min", start]), upper: first(["lt", "lte", "max", end]) }
    }

    /// The range of the log stream, which starts after 0 whatever `min` and `start` say, though `gte` narrows it.
    pub(crate) fn read_log(value: &Value) -> Self {
        let mut range = Self::read(value);
        let gt = match field(value, "gt") {
            Value::Null => (Edge::At(0.0), false),
            bound => (Edge::of(bound), false),
        };
        range.lower = Some(match value.get("gte").map(Edge::of) {
            Some(gte) if higher(gte, gt.0) => (gte, true),
            _ => gt,
        });
        range
    }

    /// The range of the feed stream: its bounds sort before the author that stands behind the timestamp in its index,
    /// so that `gt` includes its bound and `lte` doesn't.
    pub(crate) fn read_feed(value: &Value) -> Self {
        let range = Self::read(value);
        Self { lower: range.lower.map(|(edge, _)| (edge, true)), upper: range.upper.map(|(edge, _)| (edge, false)) }
    }

    /// The range as bounds on numbers.
    pub(crate) fn bounds(&self) -> (Bound<f64>, Bound<f64>) {
        let bound = |side: Option<(Edge, bool)>, open: Edge| match side {
            None => Bound::Unbounded,
            Some((edge, _)) if edge == open => Bound::Unbounded,
            Some((Edge::At(number), true)) => Bound::Included(number),
            Some((Edge::At(number), false)) => Bound::Excluded(number),
            // nothing lies beyond all numbers
            Some((Edge::AboveNumbers, _)) => Bound::Excluded(f64::INFINITY),
            Some((Edge::BelowNumbers, _)) => Bound::Excluded(f64::NEG_INFINITY),
        };
        (bound(self.lower, Edge::BelowNumbers), bound(self.upper, Edge::AboveNumbers))
    }

    /// Whether `number` lies in the range.
    pub(crate) fn contains(&self, number: f64) -> bool {
        !self.is_below(number) && !self.is_above(number)
    }

    /// Whether `number` lies before the range.
    pub(crate) fn is_below(&self, number: f64) -> bool {
        match self.lower {
            None | Some((Edge::BelowNumbers, _)) => false,
            Some((Edge::AboveNumbers, _)) => true,
            Some((Edge::At(bound), inclusive)) => number < bound || (number == bound && !inclusive),
        }
    }

    /// Whether `number` lies behind the range.
    pub(crate) fn is_above(&self, number: f64) -> bool {
        match self.upper {
            None | Some((Edge::AboveNumbers, _)) => false,
            Some((Edge::BelowNumbers, _)) => true,
            Some((Edge::At(bound), inclusive)) => number > bound || (number == bound && !inclusive),
        }
    }
}

fn higher(a: Edge, b: Edge) -> bool {
    let rank = |edge| match edge {
        Edge::BelowNumbers => f64::NEG_INFINITY,
        Edge::At(number) => number,
        Edge::AboveNumbers => f64::INFINITY,
    };
    rank(a) > rank(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_values_old_and_sync_are_on_unless_switched_off() {
        let options = Options::read(&json!({}));
        assert!(options.keys && options.values && options.old && options.sync && !options.live && !options.private);
        assert_eq!(options.limit, u64::MAX);
        let options = Options::read(&json!({"keys": 0, "values": null, "live": 1, "limit": 1.9, "reverse": 1}));
        assert!(options.keys && options.values && !options.live && options.reverse);
        assert_eq!(options.limit, 1);
    }

    #[test]
    fn old_false_alone_means_live_and_carries_no_marker() {
        let options = Options::read(&json!({"old": false}));
        assert!(options.live && !options.old && !options.marks());
        assert!(Options::read(&json!({"live": true})).marks());
        assert!(!Options::read(&json!({"live": true, "sync": false})).marks());
    }

    #[test]
    fn a_negative_limit_is_none() {
        assert_eq!(Options::read(&json!({"limit": -1})).limit, u64::MAX);
        assert_eq!(Options::read(&json!({"limit": 0})).limit, 0);
    }

    #[test]
    fn the_first_of_several_bounds_counts() {
        let range = Range::read(&json!({"gt": 2, "gte": 5, "lt": 4, "lte": 9}));
        assert!(range.contains(3.0) && !range.contains(2.0) && !range.contains(4.0));
        let range = Range::read(&json!({"start": 4, "end": 2, "reverse": true}));
        assert!(range.contains(2.0) && range.contains(4.0) && !range.contains(5.0));
    }

    #[test]
    fn bounds_that_are_no_numbers_sort_as_in_charwise() {
        assert!(!Range::read(&json!({"lt": null})).contains(1.0));
        assert!(Range::read(&json!({"gt": null})).contains(1.0));
        assert!(!Range::read(&json!({"gt": "x"})).contains(1.0));
        assert!(Range::read(&json!({"lt": "x"})).contains(1.0));
    }

    #[test]
    fn the_feed_stream_includes_gt_and_excludes_lte() {
        let range = Range::read_feed(&json!({"gt": 2, "lte": 4}));
        assert!(range.contains(2.0) && range.contains(3.0) && !range.contains(4.0));
    }

    #[test]
    fn the_log_stream_ignores_start_and_obeys_gte_and_end() {
        assert!(Range::read_log(&json!({"start": 9})).contains(1.0));
        assert!(!Range::read_log(&json!({"gte": 9})).contains(1.0));
        assert!(!Range::read_log(&json!({"end": 5})).contains(6.0));
        assert!(!Range::read_log(&json!({})).contains(0.0));
    }

    #[test]
    fn options_of_the_wrong_type_are_named() {
        let refusal = |value| check(0, &value, "readStreamOpts").unwrap_err().message;
        assert_eq!(refusal(json!("x")), "Param 0 must by of type readStreamOpts");
        assert_eq!(refusal(json!({"live": "x"})), ".0 of param live must be of type \"boolean\"");
        assert_eq!(refusal(json!({"limit": "x"})), ".0 of param limit must be of type \"number\"");
        assert!(check(0, &json!({"live": 1, "keys": null}), "readStreamOpts").is_ok());
    }
}
