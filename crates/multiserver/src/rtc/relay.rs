//! A TURN server that passes packets on, for one link: over UDP, over TCP, or over TLS, where nothing else gets through.
//!
//! Packets to a peer take the server's shortest form once it has bound a channel to that peer. Over TCP and TLS the same
//! messages follow each other, each as long as its head says.
//!
//! Source: RFC 8656 (TURN; 12.5 for the framing over TCP), RFC 8489 (STUN).

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use rtc::crypto::RTCCryptoProvider;
use rtc::ice::candidate::candidate_relay::CandidateRelayConfig;
use rtc::peer_connection::transport::{CandidateConfig, RTCIceCandidate, RTCIceCandidateInit};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use rtc::turn::client::{Client, ClientConfig, Event};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig as TlsConfig, RootCertStore};

use super::link::{BURST, failed};
use super::servers::{Carrier, Server, Turn};

/// Bytes that wait to be sent over TCP. More would only be late: the link sends anew what seems lost.
const OUTGOING: usize = 256 * 1024;
/// Bytes of the longest message over TCP that is taken: a packet of a link and its head.
const MAX_MESSAGE: usize = 4 * 1024;
/// Peers' addresses that a server passes packets on for.
const MAX_PEERS: usize = 64;
/// How often an allocation is renewed: far sooner than it ends, so that one that goes wrong is made up for, and often
/// enough for address translators on the way.
const RENEW: Duration = Duration::from_secs(60);
/// Bytes read at once.
const READ: usize = 4096;

/// A byte stream to a server.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

enum Wire {
    Udp(UdpSocket),
    Stream { stream: Box<dyn Stream>, incoming: BytesMut, outgoing: BytesMut },
}

struct Connected {
    wire: Wire,
    server: SocketAddr,
    local: SocketAddr,
}

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
        self.wire.flush(context)?;
        Ok(happened)
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

impl Wire {
    fn is_full(&self) -> bool {
        matches!(self, Wire::Stream { outgoing, .. } if outgoing.len() >= OUTGOING)
    }

    fn put(&mut self, message: &[u8], server: SocketAddr) {
        match self {
            Wire::Udp(socket) => {
                // A packet that is lost is lost, as in the network.
                let _ = socket.try_send_to(message, server);
            }
            Wire::Stream { outgoing, .. } => {
                outgoing.extend_from_slice(message);
                // Channel data is padded; STUN messages are multiples of four anyway.
                outgoing.extend_from_slice(&[0; 3][..message.len().next_multiple_of(4) - message.len()]);
            }
        }
    }

    /// Sends what waits, as far as it goes.
    fn flush(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Wire::Stream { stream, outgoing, .. } = self else { return Ok(()) };
        while !outgoing.is_empty() {
            match Pin::new(&mut *stream).poll_write(context, outgoing) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => outgoing.advance(written),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        match Pin::new(stream).poll_flush(context) {
            Poll::Ready(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    fn receive(
        &mut self,
        context: &mut Context<'_>,
        server: SocketAddr,
        mut sink: impl FnMut(BytesMut),
    ) -> io::Result<bool> {
        let mut received = false;
        let mut space = [0; READ];
        for _ in 0..BURST {
            let mut buffer = ReadBuf::new(&mut space);
            match self {
                Wire::Udp(socket) => match socket.poll_recv_from(context, &mut buffer) {
                    Poll::Ready(Ok(from)) if from == server => sink(BytesMut::from(buffer.filled())),
                    Poll::Ready(Ok(_) | Err(_)) => {}
                    Poll::Pending => break,
                },
                Wire::Stream { stream, incoming, .. } => match Pin::new(stream).poll_read(context, &mut buffer) {
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    Poll::Ready(Ok(())) => {
                        incoming.extend_from_slice(buffer.filled());
                        while let Some(message) = next_message(incoming)? {
                            sink(message);
                        }
                    }
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Pending => break,
                },
            }
            received = true;
        }
        Ok(received)
    }
}

/// The next whole message of a byte stream, without its padding.
///
/// # Errors
/// If what stands there is none, or longer than any.
fn next_message(incoming: &mut BytesMut) -> io::Result<Option<BytesMut>> {
    let Some(&[kind, _, high, low]) = incoming.first_chunk::<4>() else { return Ok(None) };
    let body = usize::from(u16::from_be_bytes([high, low]));
    let length = match kind {
        // STUN: a head of 20 bytes.
        0..=3 => 20 + body,
        // Channel data: a head of four.
        0x40..=0x7f => 4 + body,
        _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "neither STUN nor channel data")),
    };
    if length > MAX_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message longer than any packet"));
    }
    let padded = length.next_multiple_of(4);
    if incoming.len() < padded {
        return Ok(None);
    }
    let mut message = incoming.split_to(padded);
    message.truncate(length);
    Ok(Some(message))
}

async fn connect(host: String, port: u16, carrier: Carrier) -> io::Result<Connected> {
    let nowhere = || io::Error::new(io::ErrorKind::NotFound, "the host name has no addresses");
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), port)).await?.collect();
    // Relays with IPv6 alone are rare, and peers with IPv6 alone rarer.
    let server =
        addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied().ok_or_else(nowhere)?;
    if carrier == Carrier::Udp {
        let unspecified: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((unspecified, 0)).await?;
        let local = socket.local_addr()?;
        return Ok(Connected { wire: Wire::Udp(socket), server, local });
    }
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let stream: Box<dyn Stream> = match carrier {
        Carrier::Tls => {
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            Box::new(TlsConnector::from(tls()?).connect(name, stream).await?)
        }
        Carrier::Tcp | Carrier::Udp => Box::new(stream),
    };
    let wire = Wire::Stream { stream, incoming: BytesMut::new(), outgoing: BytesMut::new() };
    Ok(Connected { wire, server, local })
}

/// TLS with the certificates that this machine trusts, read once.
fn tls() -> io::Result<Arc<TlsConfig>> {
    static CONFIG: OnceLock<Arc<TlsConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = Arc::new(config.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth());
    Ok(Arc::clone(CONFIG.get_or_init(|| config)))
}

fn crypto() -> Arc<dyn RTCCryptoProvider> {
    Arc::new(rtc::crypto::providers::RingProvider::new())
}

/// The candidate does without the address that we have at the server: nobody needs to know it.
fn candidate(address: SocketAddr) -> io::Result<RTCIceCandidateInit> {
    let base_config = CandidateConfig {
        network: "udp".to_owned(),
        address: address.ip().to_string(),
        port: address.port(),
        component: 1,
        ..Default::default()
    };
    let unspecified = if address.is_ipv4() { "0.0.0.0" } else { "::" };
    let config = CandidateRelayConfig { base_config, rel_addr: unspecified.to_owned(), rel_port: 0, url: None };
    let candidate = config.new_candidate_relay().map_err(failed)?;
    RTCIceCandidate::from(&candidate).to_json().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_follow_each_other_over_tcp_with_their_padding() {
        let mut incoming = BytesMut::new();
        let stun = [&[0, 1, 0, 4][..], &[9; 20]].concat();
        let data = [&[0x40, 0, 0, 5][..], b"hello", &[0; 3]].concat();
        let all = [stun.clone(), data.clone(), stun.clone()].concat();
        let mut found = Vec::new();
        for byte in all {
            incoming.extend_from_slice(&[byte]);
            while let Some(message) = next_message(&mut incoming).unwrap() {
                found.push(message);
            }
        }
        assert_eq!(found, [&stun[..], &data[..9], &stun[..]]);
        assert!(incoming.is_empty());
    }

    #[test]
    fn what_is_no_message_ends_the_connection() {
        for bad in [&b"HTTP/1.1"[..], &[0xff; 8], &[0, 1, 0xff, 0xff]] {
            assert!(next_message(&mut BytesMut::from(bad)).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut incoming = BytesMut::from(&bytes[..]);
            while let Ok(Some(message)) = next_message(&mut incoming) {
                prop_assert!(message.len() >= 4);
            }
        }
    }
}
