//! What a method answers when it can't do what was asked: the `name` and `message` of a JavaScript error.
//!
//! Clients match on these texts, so where ssb-server checks an argument ours are the same as its `muxrpc-validation`,
//! `ssb-db/lib/validators.js` and `ssb-validate` produce; the rest say what to do about it.

use std::fmt;

/// An error as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The JavaScript error's `name`: `Error`, `TypeError`, `UsageError`, `NotFoundError`.
    pub name: &'static str,
    /// The sentence for the caller.
    pub message: String,
}

impl Failure {
    /// A plain `Error`.
    pub fn new(message: impl Into<String>) -> Self {
        Self { name: "Error", message: message.into() }
    }

    /// A `UsageError`: an argument is missing or has the wrong shape.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { name: "UsageError", message: message.into() }
    }

    /// Argument `at` isn't a `wanted` (the misspelling is the one that clients know).
    pub(crate) fn argument_type(at: usize, wanted: &str) -> Self {
        Self { name: "TypeError", message: format!("Param {at} must by of type {wanted}") }
    }

    /// Argument `at` is missing.
    pub(crate) fn required(at: usize) -> Self {
        Self::usage(format!("Param {at} is required"))
    }

    /// Argument `at` lacks the field `field` of type `wanted`.
    pub(crate) fn field_missing(at: usize, field: &str, wanted: &str) -> Self {
        Self::usage(format!("Param {at} must have a .{field} of type \"{wanted}\""))
    }

    /// The field `field` of argument `at` has the wrong type. ssb-db fills its template the wrong way round, so the
    /// number stands where the field's name belongs; clients get the same sentence from us.
    pub(crate) fn field_type(at: usize, field: &str, wanted: &str) -> Self {
        Self::usage(format!(".{at} of param {field} must be of type \"{wanted}\""))
    }

    /// A message that isn't in the log.
    pub(crate) fn not_found(what: impl fmt::Display) -> Self {
        Self { name: "NotFoundError", message: format!("Key not found in database [{what}]") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
