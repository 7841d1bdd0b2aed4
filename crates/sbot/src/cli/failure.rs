//! Why a command failed: what to print and which exit code to end with.

use std::fmt;
use std::io::IsTerminal;

use sbot_store::StoreError;

use crate::config::ConfigError;
use crate::config::secret::SecretFileError;

/// Exit codes, as `sbot --help` documents them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The server or the method failed, or a file could not be read or written.
    Failed = 1,
    /// The command line or the settings are wrong.
    Usage = 2,
    /// No server is running.
    NoServer = 3,
    /// The server refused the call, or a file may not be used.
    Refused = 4,
}

/// An error with its exit code, and perhaps a way out.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    error: anyhow::Error,
    hint: Option<String>,
    /// Nothing is wrong: whoever read our output has seen enough.
    quiet: bool,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, error: anyhow::anyhow!("{message}"), hint: None, quiet: false }
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Code::Usage, message)
    }

    pub(crate) fn from_error(code: Code, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into(), hint: None, quiet: false }
    }

    /// Why a server didn't start or a log didn't open: refused, if another process has it or a file may not be used.
    pub(crate) fn of_start(error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        let refused = error.chain().any(|cause| {
            matches!(cause.downcast_ref(), Some(StoreError::Locked(_)))
                || matches!(cause.downcast_ref(), Some(SecretFileError::Mode { .. }))
        });
        Self::from_error(if refused { Code::Refused } else { Code::Failed }, error)
    }

    #[must_use]
    pub(crate) fn context(mut self, context: impl fmt::Display + Send + Sync + 'static) -> Self {
        self.error = self.error.context(context);
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the command failed for want of a running server.
    pub(crate) fn is_no_server(&self) -> bool {
        self.code == Code::NoServer
    }

    pub(crate) fn code(&self) -> u8 {
        if self.quiet { 0 } else { self.code as u8 }
    }

    /// The error and its causes. Many errors end with their cause already.
    fn text(&self) -> String {
        let mut text = String::new();
        for cause in self.error.chain().map(ToString::to_string) {
            if text.is_empty() {
                text = cause;
            } else if !text.ends_with(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        text
    }

    /// Prints one line for the error with its causes, and one for the hint.
    pub(crate) fn report(&self) {
        if self.quiet {
            return;
        }
        let (red, bold, plain) =
            if colored(&std::io::stderr()) { ("\x1b[31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        let text = super::text::printable(&self.text());
        eprintln!("{red}error:{plain} {text}");
        if let Some(hint) = &self.hint {
            eprintln!("{bold}hint:{plain} {}", super::text::printable(hint));
        }
    }
}

/// Whether to color what goes to `stream`: it is a terminal, and nobody set `NO_COLOR`.
pub(crate) fn colored(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::from_error(Code::Usage, error)
    }
}

impl From<SecretFileError> for Failure {
    fn from(error: SecretFileError) -> Self {
        let code = match error {
            SecretFileError::Mode { .. } | SecretFileError::Exists { .. } => Code::Refused,
            _ => Code::Failed,
        };
        Self::from_error(code, error)
    }
}

/// Errors of writing output and reading input. A closed pipe is no error: `sbot log | head`.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let quiet = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self { quiet, ..Self::from_error(Code::Failed, error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let source = || std::io::Error::other("the disk is on fire");
        let told =
            Failure::from_error(Code::Failed, crate::StartError::Directory { path: "/x".into(), source: source() });
        assert_eq!(told.context("no server").text(), "no server: can't make /x: the disk is on fire");
        let silent = anyhow::Error::new(source()).context("can't start");
        assert_eq!(Failure::of_start(silent).text(), "can't start: the disk is on fire");
    }
}
