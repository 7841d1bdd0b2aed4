//! Where a link can be reached: a UDP socket for each address of this machine, what STUN servers say of them, and TURN
//! servers that pass packets on.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate, RTCIceCandidateInit};
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use super::RtcSettings;
use super::link::{BURST, failed};
use super::opening::WINDOW;
use super::reflexive::Reflexive;
use super::relay::{Relay, Relayed};

/// Most addresses of this machine that are offered. Machines have two or three, with many virtual networks some more.
const MAX_SOCKETS: usize = 8;
/// Most servers that are asked for a link.
const MAX_SERVERS: usize = 8;
/// Bytes that the kernel may keep for us in a socket, either way: what comes in a burst while the task does something
/// else would be lost. Twice a whole window, as the kernel counts a packet twice and lets go of its room late. The system's
/// limit holds.
const KERNEL_BUFFER: usize = 2 * WINDOW as usize;
/// Bytes of the longest packet that is taken. Peers send 1,200, on a path that takes more up to 1,500.
const MAX_PACKET: usize = 2048;

/// Where a link can be reached.
pub(super) struct Ports {
    sockets: Vec<(SocketAddr, UdpSocket)>,
    buffer: Box<[u8; MAX_PACKET]>,
    reflexive: Reflexive,
    relays: Vec<Relay>,
    found: VecDeque<RTCIceCandidateInit>,
}

impl Ports {
    /// Opens the sockets and starts asking the servers.
    ///
    /// # Errors
    /// If there is no place at all.
    pub(super) fn open(settings: &RtcSettings) -> io::Result<Self> {
        let mut ports = Ports {
            sockets: Vec::new(),
            buffer: Box::new([0; MAX_PACKET]),
            reflexive: Reflexive::default(),
            relays: Vec::new(),
            found: VecDeque::new(),
        };
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "there is no TURN server to pass packets on");
        if !settings.relay_only {
            let addresses = match settings.addresses.as_slice() {
                [] => own_addresses()?,
                addresses => addresses.to_vec(),
            };
            for ip in addresses.into_iter().take(MAX_SOCKETS) {
                match open(ip) {
                    Ok((local, socket)) => {
                        ports.found.push_back(host_candidate(local)?);
                        ports.sockets.push((local, socket));
                    }
                    Err(error) => {
                        tracing::debug!(%ip, %error, "an address that can't be used");
                        last = error;
                    }
                }
            }
        }
        for server in settings.ice_servers.iter().flat_map(|server| server.servers()).take(MAX_SERVERS) {
            match server {
                Ok(server) => match &server.turn {
                    Some(turn) => ports.relays.push(Relay::new(&server, turn)),
                    None if settings.relay_only => {}
                    None => ports.reflexive.ask(server.host, server.port),
                },
                Err(error) => tracing::debug!(%error, "left out"),
            }
        }
        if ports.sockets.is_empty() && ports.relays.is_empty() { Err(last) } else { Ok(ports) }
    }

    /// The next place that was found, to be told to the other side.
    pub(super) fn found(&mut self) -> Option<RTCIceCandidateInit> {
        self.found.pop_front()
    }

    /// Sends a packet; `false` if it has to wait. One that can't be sent at all is lost, as in the network.
    pub(super) fn send(&mut self, packet: &TaggedBytesMut) -> bool {
        let TransportContext { local_addr, peer_addr, .. } = packet.transport;
        let Some((_, socket)) = self.sockets.iter().find(|(local, _)| *local == local_addr) else {
            let relay = self.relays.iter_mut().find(|relay| relay.address() == Some(local_addr));
            return relay.is_none_or(|relay| relay.send(packet));
        };
        match socket.try_send_to(&packet.message, peer_addr) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                tracing::trace!(%error, to = %peer_addr, "a packet that can't be sent");
                true
            }
            Ok(_) => true,
        }
    }

    /// Waits until any socket takes more. Relays say so by [`Ports::poll`].
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Pending;
        for (_, socket) in &self.sockets {
            if socket.poll_send_ready(context).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    }

    /// Takes what has come, some packets at once from each place. Says whether anything has happened.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, mut sink: impl FnMut(TaggedBytesMut)) -> bool {
        let now = Instant::now();
        let Ports { sockets, buffer, reflexive, relays, found } = self;
        let mut happened = false;
        for (local, socket) in sockets.iter() {
            for _ in 0..BURST {
                let mut buffer = ReadBuf::new(&mut buffer[..]);
                let from = match socket.poll_recv_from(context, &mut buffer) {
                    Poll::Ready(Ok(from)) => from,
                    Poll::Ready(Err(error)) => {
                        // The kernel reports that an earlier packet didn't arrive.
                        tracing::trace!(%error, %local, "a packet was lost");
                        continue;
                    }
                    Poll::Pending => break,
                };
                happened = true;
                let packet = buffer.filled();
                match packet.first() {
                    None => {}
                    // STUN: an answer to a question of ours, or a check of the other side.
                    Some(0..=3) if let Some(candidate) = reflexive.heard(*local, packet) => found.extend(candidate),
                    Some(_) => {
                        let transport = TransportContext {
                            local_addr: *local,
                            peer_addr: from,
                            transport_protocol: TransportProtocol::UDP,
                            ecn: None,
                        };
                        sink(TaggedBytesMut { now, transport, message: BytesMut::from(packet) });
                    }
                }
            }
        }
        for relay in relays {
            happened |= relay.poll(context, now, |relayed| match relayed {
                Relayed::Candidate(candidate) => found.push_back(candidate),
                Relayed::Packet(packet) => sink(packet),
            });
        }
        let locals: Vec<SocketAddr> = self.sockets.iter().map(|(local, _)| *local).collect();
        happened | self.reflexive.poll(context, now, &locals)
    }

    /// When something is due.
    pub(super) fn deadline(&mut self) -> Option<Instant> {
        let relays = self.relays.iter_mut().filter_map(Relay::deadline).min();
        [self.reflexive.deadline(), relays].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        let Ports { sockets, reflexive, relays, .. } = self;
        reflexive.tick(now, |from, to, question| {
            if let Some((_, socket)) = sockets.iter().find(|(local, _)| *local == from) {
                let _ = socket.try_send_to(question, to);
            }
        });
        relays.iter_mut().for_each(|relay| relay.tick(now));
    }

    /// Lets go of all places but the one in use, and of all servers that were asked.
    pub(super) fn keep_only(&mut self, local: SocketAddr, now: Instant) {
        if self.sockets.iter().any(|(address, _)| *address == local) {
            self.sockets.retain(|(address, _)| *address == local);
        } else {
            self.sockets.clear();
        }
        self.reflexive = Reflexive::default();
        self.relays.retain_mut(|relay| {
            let kept = relay.address() == Some(local);
            if !kept {
                relay.release(now);
            }
            kept
        });
    }

    /// Gives back what servers keep for us.
    pub(super) fn release(&mut self, now: Instant) {
        self.relays.iter_mut().for_each(|relay| relay.release(now));
    }
}

fn open(ip: IpAddr) -> io::Result<(SocketAddr, UdpSocket)> {
    let socket = std::net::UdpSocket::bind((ip, 0))?;
    socket.set_nonblocking(true)?;
    let options = socket2::SockRef::from(&socket);
    // The kernel gives what it allows.
    let _ = options.set_recv_buffer_size(KERNEL_BUFFER);
    let _ = options.set_send_buffer_size(KERNEL_BUFFER);
    Ok((socket.local_addr()?, UdpSocket::from_std(socket)?))
}

/// The addresses at which others may reach this machine; loopback if there is no other.
fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let all: Vec<IpAddr> = if_addrs::get_if_addrs()?.into_iter().map(|interface| interface.ip()).collect();
    let mut addresses: Vec<IpAddr> = all.iter().copied().filter(|ip| !ip.is_loopback() && !is_link_local(ip)).collect();
    if addresses.is_empty() {
        addresses = all.into_iter().filter(IpAddr::is_loopback).collect();
    }
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// Such an address means nothing without the interface, which a candidate can't name.
fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// What candidates of all kinds at an address have in common.
pub(super) fn candidate_at(address: SocketAddr) -> CandidateConfig {
    CandidateConfig {
        network: "udp".to_owned(),
        address: address.ip().to_string(),
        port: address.port(),
        component: 1,
        ..Default::default()
    }
}

fn host_candidate(address: SocketAddr) -> io::Result<RTCIceCandidateInit> {
    let config = CandidateHostConfig { base_config: candidate_at(address), ..Default::default() };
    let candidate = config.new_candidate_host().map_err(failed)?;
    RTCIceCandidate::from(&candidate).to_json().map_err(failed)
}
