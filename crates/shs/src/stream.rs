//! The box stream over tokio: one half that reads, one that writes, each free to live in a task of its own.
//!
//! Both keep system calls few: the reader asks for up to [`READ`] bytes at a time and opens all whole boxes among
//! them; the writer gathers what is written into full boxes and hands them on when it holds [`WRITE`] bytes or is
//! flushed. Buffers start small and grow with the traffic. The reader's shrinks again when it ebbs, the writer's when it is
//! told that nothing more comes for now: an idle connection holds a few KiB.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::boxstream::{BoxKey, HEADER, MAX_BOX, Opener, Sealer};

/// Bytes read at once under load: 16 full boxes.
const READ: usize = 16 * MAX_BOX;
/// Bytes written at once under load: as many boxes as hold what an rpc session has to say at once. With 16, as the reader,
/// blobs go 4 % slower.
const WRITE: usize = 64 * MAX_BOX;
/// Bytes of an idle buffer. One whole box fits.
const IDLE: usize = MAX_BOX + 256;

/// Reads the plain text of a box stream.
///
/// Ends (reads nothing) at the other side's goodbye.
///
/// # Errors
/// [`io::ErrorKind::UnexpectedEof`] if the connection ends without a goodbye, [`io::ErrorKind::InvalidData`] with a
/// [`BoxError`](crate::boxstream::BoxError) inside if a box was tampered with, and those of the connection.
pub struct SecureReader<R> {
    io: R,
    opener: Opener,
    buffer: Vec<u8>,
    /// Plain text not yet taken: `buffer[plain.0..plain.1]`.
    plain: (usize, usize),
    /// Bytes of the wire not yet opened: `buffer[raw.0..raw.1]`, behind the plain text.
    raw: (usize, usize),
    goodbye: bool,
}

impl<R> SecureReader<R> {
    /// Reads what was sealed with `key` from `io`.
    pub fn new(io: R, key: &BoxKey) -> Self {
        SecureReader { io, opener: Opener::new(key), buffer: Vec::new(), plain: (0, 0), raw: (0, 0), goodbye: false }
    }

    /// Opens what has been read; false if more is needed first.
    fn open(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.raw.0..self.raw.1, 0);
        self.raw = (0, self.raw.1 - self.raw.0);
        let opened = self
            .opener
            .open(&mut self.buffer[..self.raw.1])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.plain = (0, opened.plain);
        self.raw.0 = opened.consumed;
        self.goodbye = opened.goodbye;
        Ok(opened.consumed > 0 || opened.goodbye)
    }

    /// Fits the buffer to what the last read brought. Only what lies in `raw`, from 0 on, is kept.
    fn resize(&mut self, filled: bool, got: usize) {
        let size = self.buffer.len();
        let next = if filled {
            (size * 2).min(READ)
        } else if got < size / 8 {
            (size / 2).max(IDLE)
        } else {
            size
        };
        if next > size {
            self.buffer.resize(next, 0);
        } else if next < size && self.raw.1 < next / 2 && self.plain.0 == self.plain.1 {
            self.buffer.truncate(next);
            self.buffer.shrink_to_fit();
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for SecureReader<R> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.plain.0 < this.plain.1 {
                let take = out.remaining().min(this.plain.1 - this.plain.0);
                out.put_slice(&this.buffer[this.plain.0..this.plain.0 + take]);
                this.plain.0 += take;
                return Poll::Ready(Ok(()));
            }
            if this.goodbye || out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.open()? {
                continue;
            }
            if this.buffer.is_empty() {
                this.buffer.resize(IDLE, 0);
            }
            // An unfinished box is shorter than IDLE, so there is always room.
            let mut room = ReadBuf::new(&mut this.buffer[this.raw.1..]);
            ready!(Pin::new(&mut this.io).poll_read(context, &mut room))?;
            let (got, filled) = (room.filled().len(), room.remaining() == 0);
            if got == 0 {
                let message = "the connection ended without a goodbye";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
            }
            this.raw.1 += got;
            this.resize(filled, got);
        }
    }
}

/// Writes plain text as a box stream.
///
/// What is written goes out when [`AsyncWrite::poll_flush`] is called or a batch is full. Flushing when nothing waits gives
/// back the memory that is kept for more, up to 264 KiB. Shutting down says goodbye; dropping does not.
pub struct SecureWriter<W> {
    io: W,
    sealer: Sealer,
    /// Sealed boxes, then perhaps one that is still being filled.
    out: Vec<u8>,
    /// Bytes of `out` that the connection has taken.
    sent: usize,
    /// Where the box begins that is still being filled.
    unfinished: Option<usize>,
    goodbye: bool,
}

impl<W> SecureWriter<W> {
    /// Seals with `key` what is written, and passes it on to `io`.
    pub fn new(io: W, key: &BoxKey) -> Self {
        SecureWriter { io, sealer: Sealer::new(key), out: Vec::new(), sent: 0, unfinished: None, goodbye: false }
    }

    /// Takes as much of `plain` as the batch holds.
    fn fill(&mut self, mut plain: &[u8]) -> usize {
        let before = plain.len();
        while !plain.is_empty() && (self.unfinished.is_some() || self.out.len() < WRITE) {
            let start = match self.unfinished {
                Some(start) => start,
                None => {
                    let start = self.out.len();
                    self.out.reserve(HEADER + plain.len().min(WRITE - start));
                    self.out.resize(start + HEADER, 0);
                    start
                }
            };
            let (now, rest) = plain.split_at(plain.len().min(start + MAX_BOX - self.out.len()));
            self.out.extend_from_slice(now);
            plain = rest;
            self.unfinished = Some(start);
            if self.out.len() == start + MAX_BOX {
                self.finish();
            }
        }
        before - plain.len()
    }

    /// Seals the box that is being filled. It always has a byte at least.
    fn finish(&mut self) {
        if let Some(start) = self.unfinished.take() {
            self.sealer.seal_in_place(&mut self.out[start..]);
        }
    }
}

impl<W: AsyncWrite + Unpin> SecureWriter<W> {
    /// Hands all that was written to the connection.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        while self.sent < self.out.len() {
            let count = ready!(Pin::new(&mut self.io).poll_write(context, &self.out[self.sent..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        self.out.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.goodbye {
            let message = "written after the stream was shut down";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, message)));
        }
        if self.unfinished.is_none() && self.out.len() >= WRITE {
            ready!(self.poll_drain(context))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for SecureWriter<W> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, plain: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(context))?;
        Poll::Ready(Ok(self.fill(plain)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_room(context))?;
        let mut taken = 0;
        for part in parts {
            let now = self.fill(part);
            taken += now;
            if now < part.len() {
                break;
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.goodbye {
            self.finish();
            let header = self.sealer.goodbye();
            self.out.extend_from_slice(&header);
            self.goodbye = true;
        }
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn memory_for_boxes_is_kept_until_a_flush_of_nothing() {
        let mut writer = SecureWriter::new(tokio::io::sink(), &BoxKey { key: [1; 32], nonce: [2; 24] });
        for bytes in [300_000, 1, 100, 300_000, 20] {
            writer.write_all(&vec![7; bytes]).await.unwrap();
            writer.flush().await.unwrap();
            assert!((WRITE..3 * WRITE).contains(&writer.out.capacity()), "{} bytes", writer.out.capacity());
        }
        writer.flush().await.unwrap();
        assert_eq!(writer.out.capacity(), 0);
    }
}
