//! The two ends of a link's byte stream: what the application writes and reads, and what the link's task sends and has
//! received. Both ways are bounded: whoever is ahead waits.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are written and wait for the link's task. More is of no use: the task takes them at once unless the
/// network is behind.
const OUTBOX: usize = 64 * 1024;

/// How a link has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The other side closed it, or we did.
    Closed,
    /// It broke: the reason.
    Broken(&'static str),
}

#[derive(Default)]
struct State {
    outbox: BytesMut,
    /// No more will be written.
    finished: bool,
    /// Everything written is at the other side.
    drained: bool,
    inbox: VecDeque<BytesMut>,
    inbox_bytes: usize,
    /// Nobody reads any more.
    unread: bool,
    end: Option<End>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    driver: Option<Waker>,
    wants: Wants,
    /// An end was let go of since the task has looked.
    changed: bool,
}

/// What the task waits for, besides the ends of the application letting go.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wants {
    /// Something written.
    pub(super) output: bool,
    /// No more than so many bytes unread.
    pub(super) room: Option<usize>,
}

impl State {
    fn wake(waker: &mut Option<Waker>) {
        if let Some(waker) = waker.take() {
            waker.wake();
        }
    }

    fn is_due(&self) -> bool {
        self.wants.output && !self.outbox.is_empty() || self.wants.room.is_some_and(|most| self.inbox_bytes <= most)
    }

    /// Also when the task isn't waiting at the moment.
    fn change(&mut self) {
        self.changed = true;
        State::wake(&mut self.driver);
    }

    fn wake_driver_if_due(&mut self) {
        if self.is_due() {
            State::wake(&mut self.driver);
        }
    }
}

/// The task's side.
pub(super) struct Pipe(Arc<Mutex<State>>);

/// What the application reads.
pub(super) struct Reader(Arc<Mutex<State>>);

/// What the application writes.
pub(super) struct Writer(Arc<Mutex<State>>);

/// A new pipe and the application's ends of it.
pub(super) fn pipe() -> (Pipe, Reader, Writer) {
    let state = Arc::new(Mutex::new(State::default()));
    (Pipe(Arc::clone(&state)), Reader(Arc::clone(&state)), Writer(state))
}

impl Pipe {
    /// Takes at most `most` bytes of what was written.
    pub(super) fn take(&self, most: usize) -> Option<BytesMut> {
        let mut state = self.0.lock();
        let length = state.outbox.len().min(most);
        if length == 0 {
            return None;
        }
        let taken = state.outbox.split_to(length);
        State::wake(&mut state.writer);
        Some(taken)
    }

    /// Hands received bytes to the reader, if there is one still.
    pub(super) fn give(&self, bytes: BytesMut) {
        let mut state = self.0.lock();
        if bytes.is_empty() || state.unread {
            return;
        }
        state.inbox_bytes += bytes.len();
        state.inbox.push_back(bytes);
        State::wake(&mut state.reader);
    }

    /// Received bytes that nobody has read yet.
    pub(super) fn unread(&self) -> usize {
        self.0.lock().inbox_bytes
    }

    /// Whether nothing more will be written, and all of it was taken.
    pub(super) fn finished(&self) -> bool {
        let state = self.0.lock();
        state.finished && state.outbox.is_empty()
    }

    /// Whether nobody reads any more.
    pub(super) fn abandoned(&self) -> bool {
        self.0.lock().unread
    }

    /// Says that everything written is at the other side.
    pub(super) fn drained(&self) {
        let mut state = self.0.lock();
        state.drained = true;
        State::wake(&mut state.writer);
    }

    /// Ends the stream: the reader gets what is left, then the end, or an error with the reason that it broke.
    pub(super) fn end(&self, broken: Option<&'static str>) {
        let mut state = self.0.lock();
        state.end.get_or_insert(broken.map_or(End::Closed, End::Broken));
        state.outbox.clear();
        State::wake(&mut state.reader);
        State::wake(&mut state.writer);
    }

    /// Has the task of `context` woken when what it wants comes about or the application lets go of an end. Says
    /// whether any of it has come about already.
    pub(super) fn register(&self, context: &Context<'_>, wants: Wants) -> bool {
        let mut state = self.0.lock();
        state.wants = wants;
        state.driver = Some(context.waker().clone());
        std::mem::take(&mut state.changed) | state.is_due()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.end(Some("the link's task was stopped"));
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, why)
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        let mut read = 0;
        while let Some(front) = state.inbox.front_mut() {
            let length = front.len().min(buf.remaining());
            if length == 0 {
                break;
            }
            buf.put_slice(&front[..length]);
            front.advance(length);
            read += length;
            if front.is_empty() {
                state.inbox.pop_front();
            }
        }
        if read > 0 || buf.remaining() == 0 {
            state.inbox_bytes -= read;
            state.wake_driver_if_due();
            return Poll::Ready(Ok(()));
        }
        match state.end {
            Some(End::Closed) => Poll::Ready(Ok(())),
            Some(End::Broken(why)) => Poll::Ready(Err(broken(why))),
            None => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.unread = true;
        state.inbox.clear();
        state.inbox_bytes = 0;
        state.change();
    }
}

impl State {
    /// Why nothing can be written, if so.
    fn refusal(&self) -> Option<io::Error> {
        match self.end {
            Some(End::Closed) => Some(io::Error::new(io::ErrorKind::BrokenPipe, "the link is closed")),
            Some(End::Broken(why)) => Some(broken(why)),
            None if self.finished => Some(io::Error::new(io::ErrorKind::BrokenPipe, "nothing follows a shutdown")),
            None => None,
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if let Some(refusal) = state.refusal() {
            return Poll::Ready(Err(refusal));
        }
        let length = bytes.len().min(OUTBOX.saturating_sub(state.outbox.len()));
        if length == 0 && !bytes.is_empty() {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.outbox.extend_from_slice(&bytes[..length]);
        state.wake_driver_if_due();
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // As with TCP: what was written goes out without being asked to.
        Poll::Ready(match self.0.lock().end {
            Some(End::Broken(why)) => Err(broken(why)),
            _ => Ok(()),
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if !state.finished {
            state.finished = true;
            state.change();
        }
        match state.end {
            _ if state.drained => Poll::Ready(Ok(())),
            Some(End::Closed) => Poll::Ready(Ok(())),
            Some(End::Broken(why)) => Poll::Ready(Err(broken(why))),
            None => {
                state.writer = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.finished = true;
        state.change();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_writer_that_is_ahead_waits() {
        block_on(async {
            let (pipe, _reader, mut writer) = pipe();
            writer.write_all(&[1; OUTBOX]).await.unwrap();
            let waiting = tokio::spawn(async move { writer.write_all(&[2; 10]).await.map(|()| writer) });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            assert_eq!(pipe.take(100).unwrap().len(), 100);
            let _writer = waiting.await.unwrap().unwrap();
            assert_eq!(pipe.take(usize::MAX).unwrap().len(), OUTBOX - 100 + 10);
            assert!(pipe.take(1).is_none());
        });
    }

    #[test]
    fn what_was_received_is_read_before_the_end() {
        block_on(async {
            let (pipe, mut reader, _writer) = pipe();
            pipe.give(b"one "[..].into());
            pipe.give(b"two"[..].into());
            assert_eq!(pipe.unread(), 7);
            pipe.end(None);
            let mut text = String::new();
            reader.read_to_string(&mut text).await.unwrap();
            assert_eq!((text.as_str(), pipe.unread()), ("one two", 0));
        });
    }

    #[test]
    fn a_broken_link_is_an_error_to_both_ends() {
        block_on(async {
            let (pipe, mut reader, mut writer) = pipe();
            drop(pipe);
            assert!(reader.read_u8().await.unwrap_err().to_string().contains("stopped"));
            assert!(writer.write_all(b"x").await.unwrap_err().to_string().contains("stopped"));
            assert!(writer.shutdown().await.is_err());
        });
    }

    #[test]
    fn a_shutdown_waits_until_all_is_at_the_other_side() {
        block_on(async {
            let (pipe, _reader, mut writer) = pipe();
            writer.write_all(b"goodbye").await.unwrap();
            let waiting = tokio::spawn(async move { writer.shutdown().await });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished() && !pipe.finished());
            assert_eq!(&pipe.take(100).unwrap()[..], b"goodbye");
            assert!(pipe.finished() && !pipe.abandoned());
            pipe.drained();
            waiting.await.unwrap().unwrap();
        });
    }

    #[test]
    fn what_happens_while_the_task_is_busy_is_not_missed() {
        let (pipe, reader, mut writer) = pipe();
        let mut context = Context::from_waker(Waker::noop());
        let output = Wants { output: true, room: None };
        let room = Wants { output: false, room: Some(5) };
        assert!(!pipe.register(&context, output));
        assert!(Pin::new(&mut writer).poll_write(&mut context, b"x").is_ready());
        assert!(pipe.register(&context, output) && !pipe.register(&context, Wants::default()));
        pipe.give(b"123456"[..].into());
        assert!(!pipe.register(&context, room));
        // Woken already, and not waiting again yet.
        pipe.0.lock().driver = None;
        assert!(Pin::new(&mut writer).poll_shutdown(&mut context).is_pending());
        assert!(pipe.register(&context, Wants::default()) && !pipe.register(&context, Wants::default()));
        pipe.0.lock().driver = None;
        drop(reader);
        assert!(pipe.register(&context, Wants::default()) && pipe.register(&context, room));
    }

    #[test]
    fn nothing_is_kept_for_a_reader_that_is_gone() {
        let (pipe, reader, writer) = pipe();
        pipe.give(b"one"[..].into());
        drop(reader);
        pipe.give(b"two"[..].into());
        assert_eq!((pipe.unread(), pipe.abandoned(), pipe.finished()), (0, true, false));
        drop(writer);
        assert!(pipe.finished());
    }
}
