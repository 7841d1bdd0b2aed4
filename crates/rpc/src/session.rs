//! One connection: a task that reads, a task that writes, and a task for each call under way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::input::{CALM, EBB};
use crate::meter::{Meter, keep_pace};
use crate::peer::Peer;
use crate::reader::Reader;
use crate::registry::Registry;
use crate::shared::Shared;

/// When nothing has come or gone for so long, memory that was kept for more is given back.
pub(crate) const REST: Duration = Duration::from_secs(1);

/// Bounds on what the other side can make us keep.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest packet body that is taken, in bytes. A longer one closes the connection as soon as it is announced.
    pub max_body: usize,
    /// Most calls of theirs that may be open at a time. Further ones are answered with an error.
    pub max_requests: usize,
    /// Most bytes of the bodies that opened their calls, in all: names and arguments. A single one may be longer.
    pub max_request_bytes: usize,
    /// Most items that wait in one stream.
    pub max_items: usize,
    /// Most bytes that wait in one stream, 64 for each item included. While an answer is due to us, a stream may use
    /// `max_queued`, so that the answer can come through behind its items.
    pub max_stream_bytes: usize,
    /// Most bytes that wait in all streams of the connection, 64 for each item included; a single item may be longer.
    /// The reader waits for room.
    pub max_queued: usize,
}

impl Limits {
    /// For a peer across the network. Messages are below 128 KiB, blobs come in pieces of 64 KiB; the largest single
    /// thing is an EBT clock, some 60 bytes a feed. A peer without EBT opens a stream for each feed that it replicates.
    pub const REMOTE: Limits = Limits {
        max_body: 8 << 20,
        max_requests: 16 << 10,
        max_request_bytes: 16 << 20,
        max_items: 2048,
        max_stream_bytes: 1 << 20,
        max_queued: 16 << 20,
    };

    /// For a client of our own, and for the client itself: its questions and our answers may be large (`friends.get`).
    pub const LOCAL: Limits = Limits {
        max_body: 64 << 20,
        max_requests: 16 << 10,
        max_request_bytes: 64 << 20,
        max_items: 4096,
        max_stream_bytes: 4 << 20,
        max_queued: 64 << 20,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Limits::LOCAL
    }
}

/// Time for our last bytes to go out, and for the other side to hang up, before a connection is cut.
const FLUSH: Duration = Duration::from_secs(5);

/// Starts connections.
pub struct Session;

impl Session {
    /// Speaks mux-rpc over `read` and `write` until either side is done: offers the methods of `registry` to the other
    /// side, for whom `caller` speaks, and returns the handle with which to call the other side's.
    ///
    /// The connection lives on when the handle is dropped; [`Peer::close`] ends it. Needs a tokio runtime with time.
    pub fn spawn<C: Clone + Send + Sync + 'static>(
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
        registry: Arc<Registry<C>>,
        caller: C,
        limits: Limits,
    ) -> Peer {
        Self::spawn_metered(read, write, registry, caller, limits, None)
    }

    /// As [`Session::spawn`], only as fast as `meter` says, if there is one.
    pub fn spawn_metered<C: Clone + Send + Sync + 'static>(
        mut read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
        registry: Arc<Registry<C>>,
        caller: C,
        limits: Limits,
        meter: Option<Arc<dyn Meter>>,
    ) -> Peer {
        let shared = Arc::new(Shared::new(limits));
        let mut writer = tokio::spawn(write_all(Arc::clone(&shared), write, meter.clone()));
        let mut reader = Reader::new(Arc::clone(&shared), registry, caller, meter);
        let gone = Gone(Arc::clone(&shared));
        tokio::spawn(async move {
            let shared = &gone.0;
            let mut ended = shared.ended();
            let (why, by_us) = tokio::select! {
                why = reader.run(&mut read) => (why, false),
                // Closed from our side, or the writer failed.
                _ = ended.wait_for(Option::is_some) => (shared.why(), true),
            };
            shared.close(&why);
            drop(reader);
            shared.outbox.finish();
            let finish = async {
                // It only fails by a panic, of which the runtime tells.
                let _ = (&mut writer).await;
                if by_us {
                    // Unread bytes would make the kernel reset the connection, and our goodbye would be lost.
                    discard(&mut read).await;
                }
            };
            if timeout(FLUSH, finish).await.is_err() {
                writer.abort();
            }
        });
        Peer::new(shared)
    }
}

/// Lets go of a connection even if its task panics.
struct Gone(Arc<Shared>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.close("internal error");
        self.0.go();
    }
}

async fn discard(read: &mut (impl AsyncRead + Unpin)) {
    let mut rest = BytesMut::with_capacity(8 * 1024);
    while let Ok(1..) = read.read_buf(&mut rest).await {
        rest.clear();
    }
}

async fn write_all(shared: Arc<Shared>, mut write: impl AsyncWrite + Unpin, meter: Option<Arc<dyn Meter>>) {
    let mut ended = shared.ended();
    let (mut buffer, mut is_hoarding, mut calm) = (BytesMut::new(), false, 0u32);
    loop {
        let full = tokio::select! {
            full = shared.outbox.take(buffer) => match full {
                Some(full) => full,
                None => break,
            },
            () = sleep(REST), if is_hoarding => BytesMut::new(),
        };
        (is_hoarding, calm) = if full.len() < EBB { (is_hoarding, calm.saturating_add(1)) } else { (true, 0) };
        let rests = is_hoarding && (full.is_empty() || calm >= CALM);
        let written = async {
            write.write_all(&full).await?;
            write.flush().await?;
            // With nothing to write, the box stream gives back its memory.
            if rests && !full.is_empty() { write.flush().await } else { Ok(()) }
        };
        if let Err(error) = written.await {
            shared.close(&format!("can't write: {error}"));
            break;
        }
        let bytes = full.len() as u64;
        shared.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        if let Some(meter) = &meter {
            let paced = keep_pace(|first| meter.wrote(if first { bytes } else { 0 }));
            tokio::select! {
                paced = paced => if let Err(why) = paced { shared.dismiss(&why) },
                // What is left goes out at once.
                _ = ended.wait_for(Option::is_some) => {}
            }
        }
        buffer = full;
        if rests {
            shared.outbox.rest();
            (buffer, is_hoarding) = (BytesMut::new(), false);
        }
    }
    // The peer may be gone already.
    let _ = write.shutdown().await;
    shared.outbox.close();
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;
    use crate::codec::{Body, Packet};

    /// Takes everything and counts the flushes with nothing to flush.
    #[derive(Clone, Default)]
    struct Sink(Arc<parking_lot::Mutex<(usize, usize)>>);

    impl AsyncWrite for Sink {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.0.lock().0 += bytes.len();
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            let (waiting, empty) = &mut *self.0.lock();
            *empty += usize::from(std::mem::take(waiting) == 0);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn memory_of_a_burst_is_given_back_once_when_little_goes_or_nothing() {
        let (shared, sink) = (Arc::new(Shared::new(Limits::default())), Sink::default());
        let writer = tokio::spawn(write_all(Arc::clone(&shared), sink.clone(), None));
        let send = async |count, bytes| {
            let body = Body::Binary(vec![7; bytes].into());
            for _ in 0..count {
                shared.outbox.push(&Packet { request: 1, stream: true, end: false, body: body.clone() });
                tokio::task::yield_now().await;
            }
        };
        let rested = || sink.0.lock().1;
        send(40, 10).await;
        sleep(2 * REST).await;
        assert_eq!(rested(), 0, "nothing is kept");
        for round in 0..10 {
            send(1, 10 * EBB).await;
            send(CALM - 1, 10).await;
            assert_eq!(rested(), 0, "in round {round} there is load");
        }
        send(1, 10).await;
        assert_eq!(rested(), 1);
        send(100, 10).await;
        sleep(2 * REST).await;
        assert_eq!(rested(), 1, "nothing is kept");
        send(3, 10 * EBB).await;
        sleep(2 * REST).await;
        assert_eq!(rested(), 2);
        sleep(10 * REST).await;
        assert_eq!(rested(), 2);
        shared.outbox.finish();
        writer.await.unwrap();
    }
}
