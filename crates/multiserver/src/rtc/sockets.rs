//! The UDP sockets of a link: one for each address of this machine.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use rtc::shared::TaggedBytesMut;
use tokio::net::UdpSocket;

use super::link::BURST;

/// Most addresses of this machine that are offered. Machines have two or three, with many virtual networks some more.
const MAX_SOCKETS: usize = 8;
/// Bytes that the kernel may keep for us in a socket, either way: what comes in a burst while the task does something
/// else would be lost. The system's limit holds.
const KERNEL_BUFFER: usize = 1024 * 1024;
/// Bytes of the longest packet that is taken. Peers send 1,200, on a path that takes more up to 1,500.
const MAX_PACKET: usize = 2048;

/// The UDP sockets of a link.
pub(super) struct Sockets {
    sockets: Vec<(SocketAddr, UdpSocket)>,
    buffer: Box<[u8; MAX_PACKET]>,
}

impl Sockets {
    /// Opens one for each of `addresses`; if there are none, for each of this machine.
    ///
    /// # Errors
    /// If there is not one that works.
    pub(super) fn open(addresses: &[IpAddr]) -> io::Result<Self> {
        let addresses = if addresses.is_empty() { own_addresses()? } else { addresses.to_vec() };
        let mut sockets = Vec::new();
        let mut last = None;
        for ip in addresses.into_iter().take(MAX_SOCKETS) {
            match open(ip) {
                Ok(socket) => sockets.push((socket.local_addr()?, socket)),
                Err(error) => {
                    tracing::debug!(%ip, %error, "no candidate");
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) if sockets.is_empty() => Err(error),
            _ => Ok(Sockets { sockets, buffer: Box::new([0; MAX_PACKET]) }),
        }
    }

    /// Where they are.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.sockets.iter().map(|(address, _)| *address)
    }

    /// Sends a packet; `false` if its socket is full. One that can't be sent at all is lost, as in the network.
    pub(super) fn send(&self, packet: &TaggedBytesMut) -> bool {
        let Some((_, socket)) = self.sockets.iter().find(|(address, _)| *address == packet.transport.local_addr) else {
            return true;
        };
        match socket.try_send_to(&packet.message, packet.transport.peer_addr) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                tracing::trace!(%error, to = %packet.transport.peer_addr, "can't send a packet");
                true
            }
            Ok(_) => true,
        }
    }

    /// Sends a packet if its socket takes it.
    pub(super) fn send_or_drop(&self, packet: &TaggedBytesMut) {
        let _ = self.send(packet);
    }

    /// Waits until any socket takes more.
    pub(super) fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut ready = Poll::Pending;
        for (_, socket) in &self.sockets {
            if socket.poll_send_ready(context).is_ready() {
                ready = Poll::Ready(());
            }
        }
        ready
    }

    /// Takes packets, some at once from each socket.
    pub(super) fn receive(&mut self, context: &mut Context<'_>, mut packet: impl FnMut(SocketAddr, SocketAddr, &[u8])) {
        for (local, socket) in &self.sockets {
            for _ in 0..BURST {
                let mut buffer = tokio::io::ReadBuf::new(&mut self.buffer[..]);
                match socket.poll_recv_from(context, &mut buffer) {
                    Poll::Ready(Ok(from)) => packet(*local, from, buffer.filled()),
                    // The kernel reports that an earlier packet didn't arrive.
                    Poll::Ready(Err(error)) => tracing::trace!(%error, %local, "a packet was lost"),
                    Poll::Pending => break,
                }
            }
        }
    }
}

fn open(ip: IpAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((ip, 0))?;
    socket.set_nonblocking(true)?;
    let options = socket2::SockRef::from(&socket);
    // The kernel gives what it allows.
    let _ = options.set_recv_buffer_size(KERNEL_BUFFER);
    let _ = options.set_send_buffer_size(KERNEL_BUFFER);
    UdpSocket::from_std(socket)
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
