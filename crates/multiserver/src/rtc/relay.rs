//! A TURN server that passes packets on, for one link. Packets to a peer take the shortest form once the server has bound
//! a channel to that peer.
//!
//! Source: RFC 8656 (TURN), RFC 8489 (STUN).

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rtc::crypto::RTCCryptoProvider;
use rtc::ice::candidate::candidate_relay::CandidateRelayConfig;
use rtc::peer_connection::transport::{RTCIceCandidate, RTCIceCandidateInit};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use rtc::turn::client::{Client, ClientConfig, Event};

use super::link::failed;
use super::ports::candidate_at;
use super::servers::{Carrier, Server, Turn};
use super::wire::{Connected, Wire, connect};

/// Peers' addresses that a server passes packets on for.
const MAX_PEERS: usize = 64;
/// How often an allocation is renewed: far sooner than it ends, so that one that goes wrong is made up for, and often
/// enough for address translators on the way.
const RENEW: Duration = Duration::from_secs(60);

type Connecting = Pin<Box<dyn Future<Output = io::Result<Connected>> + Send>>;

enum State {
    Connecting(Connecting),
    Up(Box<Up>),
    Gone,
}

struct Up {
    client: Client,
    wire: Wire,
    server: SocketAddr,
    local: SocketAddr,
    relayed: Option<SocketAddr>,
    asked: HashSet<SocketAddr>,
}

/// A TURN server at work for a link.
pub(super) struct Relay {
    name: String,
    turn: Turn,
    state: State,
}

/// What a relay has.
pub(super) enum Relayed {
    /// A place at which we can be reached.
    Candidate(RTCIceCandidateInit),
    /// A packet.
    Packet(TaggedBytesMut),
}

impl Relay {
    /// Starts speaking to a server.
    pub(super) fn new(server: &Server, turn: &Turn) -> Self {
        let connecting = Box::pin(connect(server.host.clone(), server.port, turn.carrier));
        Relay {
            name: format!("{}:{}", server.host, server.port),
            turn: turn.clone(),
            state: State::Connecting(connecting),
        }
    }

    /// Where others reach us by it, once known.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Up(up) => up.relayed,
            _ => None,
        }
    }

    /// Takes what has come; `sink` gets it. Says whether anything has happened.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, now: Instant, mut sink: impl FnMut(Relayed)) -> bool {
        if let State::Connecting(connecting) = &mut self.state {
            match connecting.as_mut().poll(context) {
                Poll::Pending => return false,
                Poll::Ready(Err(error)) => {
                    self.give_up(&error);
                    return true;
                }
                Poll::Ready(Ok(connected)) => match Up::new(connected, &self.turn, now) {
                    Ok(up) => self.state = State::Up(Box::new(up)),
                    Err(error) => self.give_up(&error),
                },
            }
        }
        let State::Up(up) = &mut self.state else { return false };
        match up.poll(context, now, &mut sink) {
            Ok(happened) => happened,
            Err(error) => {
                self.give_up(&error);
                true
            }
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        tracing::debug!(server = self.name, %error, "no relay by a TURN server");
        self.state = State::Gone;
    }

    /// Sends a packet of the link; `false` if it has to wait.
    pub(super) fn send(&mut self, packet: &TaggedBytesMut) -> bool {
        let State::Up(up) = &mut self.state else { return true };
        if up.wire.is_full() {
            return false;
        }
        up.send(packet);
        true
    }

    /// When something is due.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        match &mut self.state {
            State::Up(up) => up.client.poll_timeout(),
            _ => None,
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        if let State::Up(up) = &mut self.state {
            let _ = up.client.handle_timeout(now);
        }
    }

    /// Gives the allocation back, as far as that goes without waiting. With TCP it ends with the connection, else by
    /// itself after some minutes.
    pub(super) fn release(&mut self, now: Instant) {
        if let State::Up(up) = &mut self.state
            && let Some(relayed) = up.relayed.take()
            && let Ok(mut relay) = up.client.relay(relayed)
        {
            let _ = relay.close(now);
            while let Some(message) = up.client.poll_write() {
                up.wire.put(&message.message, up.server);
            }
            let _ = up.wire.flush(&mut Context::from_waker(std::task::Waker::noop()));
        }
        self.state = State::Gone;
    }
}

impl Up {
    fn new(Connected { wire, server, local }: Connected, turn: &Turn, now: Instant) -> io::Result<Self> {
        let transport_protocol = match turn.carrier {
            Carrier::Udp => TransportProtocol::UDP,
            Carrier::Tcp | Carrier::Tls => TransportProtocol::TCP,
        };
        let config = ClientConfig {
            turn_serv_addr: server.to_string(),
            local_addr: local,
            transport_protocol,
            username: turn.username.clone(),
            password: turn.credential.clone(),
            allocation_refresh_interval_cap: Some(RENEW),
            ..Default::default()
        };
        let mut client = Client::new(config, crypto()).map_err(failed)?;
        client.allocate(now).map_err(failed)?;
        Ok(Up { client, wire, server, local, relayed: None, asked: HashSet::new() })
    }

    fn poll(&mut self, context: &mut Context<'_>, now: Instant, sink: &mut impl FnMut(Relayed)) -> io::Result<bool> {
        let Up { client, wire, server, local, .. } = self;
        let transport = TransportContext {
            local_addr: *local,
            peer_addr: *server,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        };
        let mut happened = wire.receive(context, *server, |message| {
            if let Err(error) = client.handle_read(TaggedBytesMut { now, transport, message }) {
                tracing::debug!(%error, "a message of a TURN server that is not understood");
            }
        })?;
        while let Some(event) = self.client.poll_event() {
            happened = true;
            if let Some(relayed) = self.happened(event, now)? {
                sink(relayed);
            }
        }
        while let Some(message) = self.client.poll_write() {
            self.wire.put(&message.message, self.server);
        }
        let full = self.wire.is_full();
        self.wire.flush(context)?;
        // Then there is room again for what had to wait.
        Ok(happened || full && !self.wire.is_full())
    }

    fn happened(&mut self, event: Event, now: Instant) -> io::Result<Option<Relayed>> {
        match event {
            Event::AllocateResponse(_, address) => {
                self.relayed = Some(address);
                Ok(Some(Relayed::Candidate(candidate(address)?)))
            }
            Event::AllocateError(_, error) => Err(failed(error)),
            Event::TransactionTimeout(_) if self.relayed.is_none() => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "it doesn't answer"))
            }
            Event::CreatePermissionResponse(_, peer) => {
                self.asked.remove(&peer);
                Ok(None)
            }
            Event::CreatePermissionError(_, error) => {
                // The next packet asks anew.
                tracing::debug!(%error, "a TURN server doesn't pass packets on");
                self.asked.clear();
                Ok(None)
            }
            Event::DataIndicationOrChannelData(_, peer_addr, message) => Ok(self.relayed.map(|local_addr| {
                let transport_protocol = TransportProtocol::UDP;
                let transport = TransportContext { local_addr, peer_addr, transport_protocol, ecn: None };
                Relayed::Packet(TaggedBytesMut { now, transport, message })
            })),
            _ => Ok(None),
        }
    }

    fn send(&mut self, packet: &TaggedBytesMut) {
        let Some(relayed) = self.relayed else { return };
        let peer = packet.transport.peer_addr;
        let Ok(mut relay) = self.client.relay(relayed) else { return };
        match relay.send_to(packet.now, &packet.message, peer) {
            // Connectivity checks are repeated: nothing is lost.
            Err(Error::ErrNoPermission) if self.asked.len() < MAX_PEERS && self.asked.insert(peer) => {
                if let Err(error) = relay.create_permission(packet.now, peer) {
                    tracing::debug!(%error, "a TURN server can't be asked to pass packets on");
                }
            }
            Err(Error::ErrNoPermission) | Ok(()) => {}
            Err(error) => tracing::debug!(%error, "a packet that can't be sent by a TURN server"),
        }
        while let Some(message) = self.client.poll_write() {
            self.wire.put(&message.message, self.server);
        }
        // What is left goes when the wire takes it; the link's task waits for that.
        let _ = self.wire.flush(&mut Context::from_waker(std::task::Waker::noop()));
    }
}

fn crypto() -> Arc<dyn RTCCryptoProvider> {
    Arc::new(rtc::crypto::providers::RingProvider::new())
}

/// The candidate does without the address that we have at the server: nobody needs to know it.
fn candidate(address: SocketAddr) -> io::Result<RTCIceCandidateInit> {
    let base_config = candidate_at(address);
    let unspecified = if address.is_ipv4() { "0.0.0.0" } else { "::" };
    let config = CandidateRelayConfig { base_config, rel_addr: unspecified.to_owned(), rel_port: 0, url: None };
    let candidate = config.new_candidate_relay().map_err(failed)?;
    RTCIceCandidate::from(&candidate).to_json().map_err(failed)
}
