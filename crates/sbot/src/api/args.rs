//! Arguments of a call, read the way JavaScript reads them.
//!
//! A call carries a JSON array. Each argument is parsed only when a method looks at it, since `publish` and `add` need
//! its very text and not a tree. What counts as absent is what JavaScript takes for false: nothing, `null`, `false`,
//! `0` and `""` (`muxrpc-validation/index.js`).

use sbot_feed::{BlobId, FeedId, MsgId};
use serde_json::Value;
use serde_json::value::RawValue;

use super::failure::Failure;

/// The arguments of one call.
pub(crate) struct Args<'a>(Vec<&'a RawValue>);

impl<'a> Args<'a> {
    /// Splits the array of arguments; an empty text is no arguments.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, Failure> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|error| Failure::usage(format!("the arguments must be a JSON array: {error}")))
    }

    /// Whether argument `at` was given at all, if only as `null`.
    pub(crate) fn has(&self, at: usize) -> bool {
        self.0.len() > at
    }

    /// The text of argument `at`, or `None` if it is absent or JavaScript takes it for false.
    pub(crate) fn text(&self, at: usize) -> Option<&'a str> {
        let text = self.0.get(at)?.get().trim();
        let number_is_zero = text.parse::<f64>().is_ok_and(|number| number == 0.0);
        let falsy = matches!(text, "null" | "false" | "\"\"") || number_is_zero;
        (!falsy).then_some(text)
    }

    /// The text of argument `at`, which has to be there.
    pub(crate) fn required_text(&self, at: usize) -> Result<&'a str, Failure> {
        self.text(at).ok_or_else(|| Failure::required(at))
    }

    /// Argument `at` as a tree, `null` if it is absent.
    pub(crate) fn value(&self, at: usize) -> Result<Value, Failure> {
        let Some(raw) = self.0.get(at) else { return Ok(Value::Null) };
        serde_json::from_str(raw.get())
            .map_err(|error| Failure::usage(format!("Param {at} is not usable JSON: {error}")))
    }

    /// Argument `at` as a tree, which has to be there.
    pub(crate) fn required(&self, at: usize) -> Result<Value, Failure> {
        self.required_text(at)?;
        self.value(at)
    }

    /// Argument 0 as a feed id.
    pub(crate) fn required_feed(&self, at: usize) -> Result<FeedId, Failure> {
        feed_id(&self.required(at)?).ok_or_else(|| Failure::argument_type(at, "feedId"))
    }
}

/// What JavaScript takes for true.
pub(crate) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// Whether `typeof value === 'object'` and it isn't `null`.
pub(crate) fn is_object(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

/// The field `name` of an object, `null` if it has none or isn't an object.
pub(crate) fn field<'v>(value: &'v Value, name: &str) -> &'v Value {
    value.get(name).unwrap_or(&Value::Null)
}

/// A feed id in a JSON string.
pub(crate) fn feed_id(value: &Value) -> Option<FeedId> {
    value.as_str()?.parse().ok()
}

/// A message id in a JSON string.
pub(crate) fn msg_id(value: &Value) -> Option<MsgId> {
    value.as_str()?.parse().ok()
}

/// A blob id in a JSON string.
pub(crate) fn blob_id(value: &Value) -> Option<BlobId> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_javascript_takes_for_false_counts_as_absent() {
        let args = Args::parse(br#"[null,false,0,"",-0.0,1,"a",[],{}]"#).unwrap();
        for at in 0..5 {
            assert_eq!(args.required(at).unwrap_err(), Failure::required(at));
        }
        for at in 5..9 {
            assert!(args.required(at).is_ok(), "argument {at}");
        }
        assert_eq!(args.required(9).unwrap_err().message, "Param 9 is required");
    }

    #[test]
    fn arguments_that_are_no_array_are_refused() {
        assert!(Args::parse(b"{}").is_err());
        assert!(Args::parse(b"").unwrap().text(0).is_none());
    }

    #[test]
    fn a_lone_surrogate_survives_as_text() {
        let args = Args::parse(br#"[{"type":"post","text":"\ud83d"}]"#).unwrap();
        assert_eq!(args.required_text(0).unwrap(), r#"{"type":"post","text":"\ud83d"}"#);
    }
}
