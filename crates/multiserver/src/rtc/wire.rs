//! The way to a TURN server: UDP, TCP, or TLS over TCP. Over the latter two, messages follow each other, each as long as
//! its head says and padded to four bytes.
//!
//! Source: RFC 8656 3.1 (transports), 12.5 (channel data over TCP).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig as TlsConfig, RootCertStore};

use super::link::BURST;
use super::servers::Carrier;

/// Bytes that wait to be sent over TCP. More would only be late: the link sends anew what seems lost.
const OUTGOING: usize = 256 * 1024;
/// Bytes of the longest message over TCP that is taken: a packet of a link and its head.
const MAX_MESSAGE: usize = 4 * 1024;
/// Bytes read at once.
const READ: usize = 4096;

/// A byte stream to a server.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The way to a server.
pub(super) enum Wire {
    Udp(UdpSocket),
    Stream { stream: Box<dyn Stream>, incoming: BytesMut, outgoing: BytesMut },
}

/// A way that is open.
pub(super) struct Connected {
    pub(super) wire: Wire,
    pub(super) server: SocketAddr,
    pub(super) local: SocketAddr,
}

impl Wire {
    /// Whether more has to wait.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Wire::Stream { outgoing, .. } if outgoing.len() >= OUTGOING)
    }

    /// Sends a message, or keeps it until [`Wire::flush`].
    pub(super) fn put(&mut self, message: &[u8], server: SocketAddr) {
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
    pub(super) fn flush(&mut self, context: &mut Context<'_>) -> io::Result<()> {
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

    /// Takes what has come, message by message; says whether there was anything.
    ///
    /// # Errors
    /// If the server has hung up or says what is no message.
    pub(super) fn receive(
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

/// Opens a way to a server.
pub(super) async fn connect(host: String, port: u16, carrier: Carrier) -> io::Result<Connected> {
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
