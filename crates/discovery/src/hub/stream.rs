//! A hub's stream of events as it comes in, at a bounded rate.

use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::http::with_causes;
use super::rates::{Debt, Rate};
use super::sse::{Event, Reader};

/// What is read from a hub a second, in bytes, for each of the two streams: a hub of ten thousand peers says 15 KB a
/// second. A hub that says more is read more slowly.
const READ: Rate = Rate { per_second: 1 << 20, at_once: 16 << 20 };

/// A stream of events as it comes in.
pub(super) struct Stream {
    body: Incoming,
    reader: Reader,
    /// What has come and was not read yet.
    piece: Bytes,
    debt: Debt,
    began: Instant,
    /// Nothing is taken before, so that the rate is kept.
    not_before: Instant,
    silence: Duration,
}

impl Stream {
    pub(super) fn new(body: Incoming, silence: Duration) -> Stream {
        let now = Instant::now();
        let (reader, piece, debt) = (Reader::new(), Bytes::new(), Debt::default());
        Stream { body, reader, piece, debt, began: now, not_before: now, silence }
    }

    /// What comes next. Half a line is no sign of life: it may never end.
    pub(super) async fn next(&mut self) -> Result<Event, String> {
        let silence = self.silence;
        let silent = || format!("nothing was heard for {silence:?}");
        let until = Instant::now() + self.silence;
        loop {
            let mut rest = &self.piece[..];
            let event = self.reader.next(&mut rest);
            let read = self.piece.len() - rest.len();
            self.piece.advance(read);
            if let Some(event) = event {
                return Ok(event);
            }
            sleep_until(self.not_before).await;
            // What is there already would be taken in any case.
            if Instant::now() >= until {
                return Err(silent());
            }
            let frame = timeout_at(until, self.body.frame()).await.map_err(|_| silent())?;
            let frame = frame.ok_or("it has ended the connection")?.map_err(|error| with_causes(&error))?;
            if let Ok(piece) = frame.into_data() {
                let now = Instant::now();
                let passed = u64::try_from(now.duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
                let pause = self.debt.add(piece.len() as u64, READ, passed);
                self.not_before = now + Duration::from_millis(pause);
                self.piece = piece;
            }
        }
    }
}
