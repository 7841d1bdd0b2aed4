//! One link: a peer connection, the sockets below it and the byte stream above, driven by one task.
//!
//! ```text
//! Writer ─▶ outbox ─▶ SCTP ─▶ DTLS ─▶ ICE ─▶ sockets          at most OUTBOX + SEND_AHEAD bytes
//! Reader ◀─ inbox ◀── SCTP ◀─ DTLS ◀─ ICE ◀─ (held) ◀─ sockets
//! ```
//! What comes for a slow reader is in [`super::inlet`].
//!
//! **The end**: when all that was written is acknowledged, the channel is closed, and when the other side has read
//! everything and closed it as well, the connection. Sources: RFC 8831 6.7 (closing), RFC 9260 6 (windows), RFC 8445.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rtc::data_channel::RTCDataChannelId;
use rtc::peer_connection::RTCPeerConnection;
use rtc::peer_connection::event::{RTCDataChannelEvent, RTCPeerConnectionEvent};
use rtc::peer_connection::message::RTCMessage;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::sansio::Protocol;
use rtc::shared::TaggedBytesMut;
use tokio::time::Sleep;

use super::inlet::{INBOX, Inlet, is_dtls};
use super::pipe::{Pipe, Wants};
use super::ports::Ports;

/// Bytes of a message that we send: as many whole packets of 1160 bytes as fit into 16 KiB, which every peer takes.
pub(super) const MESSAGE: usize = 14 * 1160;
/// Bytes that are sent and not acknowledged, as far as the other side's window allows: 10 MB/s at 100 ms.
pub(super) const SEND_AHEAD: usize = 1024 * 1024;
/// Packets read at once from a socket before anything else is looked after.
pub(super) const BURST: usize = 64;
/// Timers are not looked at more often: a deadline in the past must not keep the task from the sockets.
const TICK: Duration = Duration::from_millis(1);
/// A connection whose timers have failed so often in a row is broken: they would keep the task busy for ever.
const TROUBLES: u32 = 100;
/// How long the other side may go on sending when we have said all, before we close.
const LINGER: Duration = Duration::from_secs(2);
/// How long we wait for the other side to take what was written, once nobody here is interested any more.
const DRAIN: Duration = Duration::from_secs(10);

/// How long an open link keeps the places of ours that it doesn't use: until the other side has settled for one, too.
const SETTLED: Duration = Duration::from_secs(10);

/// What happens while a link opens.
pub(super) enum Opening<T> {
    /// It is open.
    Open,
    /// Something was heard from the other side by other means.
    Heard(T),
    /// A place of ours, of which the connection doesn't know yet.
    Found(RTCIceCandidateInit),
}

/// How a link ended.
pub(super) type Ended = Option<&'static str>;

/// What goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not connected yet.
    Opening,
    /// Bytes go both ways.
    Open,
    /// Everything is said; the other side may speak until then.
    Lingering(Instant),
    /// The channel is being closed, until then at the latest.
    Closing(Instant),
}

/// A peer connection with its sockets and stream.
pub(super) struct Link {
    core: RTCPeerConnection,
    ports: Ports,
    pipe: Pipe,
    phase: Phase,
    channel: Option<RTCDataChannelId>,
    /// Our place that is in use, and where the other side is, once connected.
    path: Option<(SocketAddr, SocketAddr)>,
    /// When the places that are not in use are given up, once open.
    settled: Option<Instant>,
    inlet: Inlet,
    /// The reader has no room for what has come.
    behind: bool,
    /// When nobody is left here, how long to go on.
    abandoned_until: Option<Instant>,
    unsent: Option<TaggedBytesMut>,
    timer: Pin<Box<Sleep>>,
    ticked: Instant,
    /// Times in a row that the core's timers have failed.
    troubles: u32,
}

impl Link {
    /// A link over a connection that has been offered or answered.
    pub(super) fn new(core: RTCPeerConnection, channel: Option<RTCDataChannelId>, ports: Ports, pipe: Pipe) -> Self {
        Link {
            core,
            ports,
            pipe,
            phase: Phase::Opening,
            channel,
            path: None,
            settled: None,
            inlet: Inlet::default(),
            behind: false,
            abandoned_until: None,
            unsent: None,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            ticked: Instant::now(),
            troubles: 0,
        }
    }

    /// The connection, for what belongs to its opening.
    pub(super) fn core(&mut self) -> &mut RTCPeerConnection {
        &mut self.core
    }

    /// Where the other side is, once the channel is open.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.path.map(|(_, remote)| remote)
    }

    /// Goes on until the channel is open, `also` has something, or there is a new place of ours.
    ///
    /// # Errors
    /// Why the link has ended.
    pub(super) async fn open<T>(
        &mut self,
        mut also: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<Opening<T>, &'static str> {
        loop {
            if let Some(ended) = self.pump() {
                return Err(ended.unwrap_or("the other side has closed the connection"));
            }
            if self.phase == Phase::Open {
                return Ok(Opening::Open);
            }
            if let Some(candidate) = self.ports.found() {
                return Ok(Opening::Found(candidate));
            }
            let heard = poll_fn(|context| match also(context) {
                Poll::Ready(heard) => Poll::Ready(Some(heard)),
                Poll::Pending => self.poll(context).map(|()| None),
            });
            if let Some(heard) = heard.await {
                return Ok(Opening::Heard(heard));
            }
        }
    }

    /// Drives an open link until it ends.
    pub(super) async fn run(mut self) {
        let ended = loop {
            if let Some(ended) = self.pump() {
                break ended;
            }
            poll_fn(|context| self.poll(context)).await;
        };
        // Whatever has come before the end is for the reader, who is behind by no more than the window.
        self.release(usize::MAX);
        while self.deliver(usize::MAX) > 0 {}
        self.pipe.end(ended);
        self.close().await;
    }

    /// Says goodbye to the other side's connection. Nobody says so when that is lost, hence more than once.
    async fn close(mut self) {
        const TIMES: u32 = 3;
        const PAUSE: Duration = Duration::from_millis(100);
        let _ = self.core.close();
        let mut last = Vec::new();
        while let Some(packet) = self.core.poll_write() {
            last.push(packet);
        }
        for time in 0..TIMES {
            if time > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            for packet in &last {
                self.ports.send(packet);
            }
        }
        self.ports.release(Instant::now());
    }

    /// Moves everything on that can be moved without waiting; `Some` when the link has ended.
    fn pump(&mut self) -> Option<Ended> {
        loop {
            while let Some(event) = self.core.poll_event() {
                if let Some(ended) = self.happened(event) {
                    return Some(ended);
                }
            }
            let moved = self.deliver(INBOX) + self.release(INBOX) + self.send() + self.transmit();
            if moved == 0 {
                break;
            }
        }
        if self.troubles >= TROUBLES {
            return Some(Some("the connection's timers fail"));
        }
        self.finish(Instant::now())
    }

    fn happened(&mut self, event: RTCPeerConnectionEvent) -> Option<Ended> {
        match event {
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnOpen(id)) => self.opened(id),
            RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnClose(id)) if self.channel == Some(id) => {
                Some(None)
            }
            RTCPeerConnectionEvent::OnConnectionStateChangeEvent(RTCPeerConnectionState::Failed) => {
                Some(Some("the other side can't be reached"))
            }
            RTCPeerConnectionEvent::OnConnectionStateChangeEvent(RTCPeerConnectionState::Closed) => Some(None),
            _ => None,
        }
    }

    fn opened(&mut self, id: RTCDataChannelId) -> Option<Ended> {
        if self.phase != Phase::Opening || self.channel.is_some_and(|ours| ours != id) {
            return Some(Some("the other side opened another data channel"));
        }
        let channel = self.core.data_channel(id)?;
        if !channel.ordered() || channel.max_retransmits().is_some() || channel.max_packet_life_time().is_some() {
            return Some(Some("the other side opened a data channel that loses or reorders messages"));
        }
        self.channel = Some(id);
        self.settled = Some(Instant::now() + SETTLED);
        self.phase = Phase::Open;
        None
    }

    /// Hands what has come to the reader, as long as fewer than `most` bytes are unread.
    fn deliver(&mut self, most: usize) -> usize {
        let mut delivered = 0;
        loop {
            self.behind = self.pipe.unread() >= most;
            if self.behind {
                break;
            }
            let Some(message) = self.core.poll_read() else {
                self.inlet.caught_up();
                break;
            };
            // There is one channel only.
            if let RTCMessage::DataChannelMessage(_, message) = message.message {
                self.pipe.give(message.data);
                delivered += 1;
            }
        }
        delivered
    }

    /// Lets packets in that were held back, as long as fewer than `most` bytes are unread.
    fn release(&mut self, most: usize) -> usize {
        let mut released = 0;
        while let Some(packet) = self.inlet.next(Instant::now(), self.pipe.unread(), most) {
            self.feed(packet);
            released += 1;
            self.deliver(most);
        }
        released
    }

    /// Sends what was written, as long as not too much is under way.
    fn send(&mut self) -> usize {
        if !matches!(self.phase, Phase::Open | Phase::Lingering(_)) {
            return 0;
        }
        let Some(mut channel) = self.channel.and_then(|id| self.core.data_channel(id)) else { return 0 };
        let mut sent = 0;
        while channel.outstanding_bytes() < SEND_AHEAD {
            let Some(bytes) = self.pipe.take(MESSAGE) else { break };
            sent += 1;
            if let Err(error) = channel.send(Instant::now(), bytes) {
                // Its end is noticed by the events that follow.
                tracing::debug!(%error, "can't send over a data channel");
                break;
            }
        }
        sent
    }

    /// Bytes that the other side has not acknowledged.
    fn outstanding(&mut self) -> usize {
        let channel = self.channel.and_then(|id| self.core.data_channel(id));
        channel.map_or(0, |channel| channel.outstanding_bytes())
    }

    /// Puts packets on the wire, as far as the sockets take them.
    fn transmit(&mut self) -> usize {
        let mut sent = 0;
        while let Some(packet) = self.unsent.take().or_else(|| self.core.poll_write()) {
            if packet.message.first().is_some_and(is_dtls) {
                self.path = Some((packet.transport.local_addr, packet.transport.peer_addr));
            }
            if !self.ports.send(&packet) {
                self.unsent = Some(packet);
                break;
            }
            sent += 1;
        }
        sent
    }

    /// Brings the link to its end when the application wants no more; `Some` when it has ended.
    fn finish(&mut self, now: Instant) -> Option<Ended> {
        if self.settled.is_some_and(|settled| now >= settled) {
            self.settled = None;
            if let Some((local, _)) = self.path {
                self.ports.keep_only(local, now);
            }
        }
        let abandoned = self.pipe.abandoned();
        if abandoned && self.pipe.finished() {
            let until = *self.abandoned_until.get_or_insert(now + DRAIN);
            if now >= until {
                return Some(Some("the other side takes no more"));
            }
        }
        let said_all = self.pipe.finished() && self.outstanding() == 0;
        match self.phase {
            Phase::Open if said_all => {
                self.pipe.drained();
                self.phase = Phase::Lingering(now + LINGER);
                self.finish(now)
            }
            Phase::Lingering(until) if abandoned || now >= until => {
                self.phase = Phase::Closing(now + DRAIN);
                // The last that is read over the channel.
                self.release(usize::MAX);
                while self.deliver(usize::MAX) > 0 {}
                let closed = self.channel.and_then(|id| self.core.data_channel(id)).map(|mut it| it.close());
                self.transmit();
                if matches!(closed, Some(Ok(()))) { None } else { Some(None) }
            }
            Phase::Closing(until) if now >= until => Some(None),
            _ => None,
        }
    }

    /// Waits for anything to happen.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut happened = false;
        let wants = Wants {
            output: self.phase == Phase::Open && self.outstanding() < SEND_AHEAD,
            room: (self.inlet.holds() || self.behind).then_some(INBOX / 2),
        };
        happened |= self.pipe.register(context, wants);
        happened |= self.receive(context);
        if self.unsent.is_some() && self.ports.poll_writable(context).is_ready() {
            happened = true;
        }
        let now = Instant::now();
        if let Some(deadline) = self.deadline() {
            let deadline = deadline.max(self.ticked + TICK);
            self.timer.as_mut().reset(deadline.into());
            if self.timer.as_mut().poll(context).is_ready() {
                self.ticked = now;
                self.ports.tick(now);
                match self.core.handle_timeout(now) {
                    Ok(()) => self.troubles = 0,
                    Err(error) => {
                        tracing::debug!(%error, "a peer connection's timers are in trouble");
                        self.troubles += 1;
                    }
                }
                happened = true;
            }
        }
        if happened { Poll::Ready(()) } else { Poll::Pending }
    }

    /// When something has to be done, if nothing happens before.
    fn deadline(&mut self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Lingering(until) | Phase::Closing(until) => Some(until),
            Phase::Opening | Phase::Open => None,
        };
        let due = [
            self.core.poll_timeout(),
            self.ports.deadline(),
            phase,
            self.inlet.deadline(),
            self.settled,
            self.abandoned_until,
        ];
        due.into_iter().flatten().min()
    }

    /// Takes what has come.
    fn receive(&mut self, context: &mut Context<'_>) -> bool {
        let Link { ports, core, inlet, pipe, .. } = self;
        let unread = pipe.unread();
        ports.poll(context, |packet| {
            if let Some(packet) = inlet.arrived(packet, unread)
                && let Err(error) = core.handle_read(packet)
            {
                tracing::debug!(%error, "a packet that a peer connection doesn't understand");
            }
        })
    }

    fn feed(&mut self, packet: TaggedBytesMut) {
        if let Err(error) = self.core.handle_read(packet) {
            tracing::debug!(%error, "a packet that a peer connection doesn't understand");
        }
    }
}

/// An error of the core.
pub(super) fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}
