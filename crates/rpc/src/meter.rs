//! How fast the other side may go on.

use std::time::Duration;

/// How fast the other side may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pace {
    /// At once.
    Go,
    /// After this pause; then it is asked for again, with nothing new to be counted.
    Wait(Duration),
    /// Not at all: the connection is closed, and the other side told why.
    Stop(String),
}

/// Counts what the other side of a connection costs. While it says [`Pace::Wait`], nothing is read, or nothing written.
pub trait Meter: Send + Sync + 'static {
    /// So many bytes came in, with so many calls in them.
    fn read(&self, bytes: u64, calls: u64) -> Pace;
    /// So many bytes went out.
    fn wrote(&self, bytes: u64) -> Pace;
}

/// Counts with `ask` what has just happened, and waits as long as it says.
///
/// # Errors
/// Why the connection is to be closed.
pub(crate) async fn keep_pace(mut ask: impl FnMut(bool) -> Pace) -> Result<(), String> {
    let mut first = true;
    loop {
        match ask(first) {
            Pace::Go => return Ok(()),
            Pace::Wait(pause) => tokio::time::sleep(pause).await,
            Pace::Stop(why) => return Err(why),
        }
        first = false;
    }
}
