//! What STUN servers tell: the address under which the outside sees a socket of ours.
//!
//! Source: RFC 8489 (Binding), RFC 8445 5.1.1 (server-reflexive candidates).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rtc::ice::candidate::candidate_server_reflexive::CandidateServerReflexiveConfig;
use rtc::peer_connection::transport::{CandidateConfig, RTCIceCandidate, RTCIceCandidateInit};
use rtc::stun::message::{BINDING_REQUEST, Getter, Message, TransactionId};
use rtc::stun::xoraddr::XorMappedAddress;

use super::link::failed;

/// A question is asked so often, at first after this pause, then after twice as long each time: 8 seconds in all.
const TIMES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(250);

type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

struct Question {
    id: TransactionId,
    raw: Vec<u8>,
    local: SocketAddr,
    server: SocketAddr,
    times: u32,
    next: Instant,
}

/// Questions to STUN servers.
#[derive(Default)]
pub(super) struct Reflexive {
    resolving: Vec<Resolving>,
    questions: Vec<Question>,
}

impl Reflexive {
    /// Looks a server up and then asks it.
    pub(super) fn ask(&mut self, host: String, port: u16) {
        self.resolving.push(Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }));
    }

    /// Turns servers that have been found into questions of each socket.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, now: Instant, locals: &[SocketAddr]) -> bool {
        let mut found = Vec::new();
        self.resolving.retain_mut(|resolving| match resolving.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(Ok(addresses)) => {
                found.push(addresses);
                false
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "a STUN server can't be found");
                false
            }
        });
        let happened = !found.is_empty();
        for addresses in found {
            for &local in locals {
                let Some(&server) = addresses.iter().find(|server| server.is_ipv4() == local.is_ipv4()) else {
                    continue;
                };
                match Question::new(local, server, now) {
                    Ok(question) => self.questions.push(question),
                    Err(error) => tracing::debug!(%error, "a STUN server can't be asked"),
                }
            }
        }
        happened
    }

    /// When the next question is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.questions.iter().map(|question| question.next).min()
    }

    /// Asks what is due: `send` from which socket, to whom, what.
    pub(super) fn tick(&mut self, now: Instant, mut send: impl FnMut(SocketAddr, SocketAddr, &[u8])) {
        self.questions.retain_mut(|question| {
            if question.next > now {
                return true;
            }
            if question.times == TIMES {
                tracing::debug!(server = %question.server, "a STUN server doesn't answer");
                return false;
            }
            send(question.local, question.server, &question.raw);
            question.next = now + PAUSE * 2u32.pow(question.times);
            question.times += 1;
            true
        });
    }

    /// Takes an answer; `None` if the packet is none of ours, else the candidate, if it says anything new.
    pub(super) fn heard(&mut self, local: SocketAddr, packet: &[u8]) -> Option<Option<RTCIceCandidateInit>> {
        let id = packet.get(8..20)?;
        let at = self.questions.iter().position(|question| question.id.0 == *id && question.local == local)?;
        self.questions.swap_remove(at);
        Some(candidate(local, packet).unwrap_or_else(|error| {
            tracing::debug!(%error, "a STUN server's answer that is none");
            None
        }))
    }
}

impl Question {
    fn new(local: SocketAddr, server: SocketAddr, now: Instant) -> io::Result<Self> {
        let mut message = Message::new();
        message.build(&[Box::new(TransactionId::new()), Box::new(BINDING_REQUEST)]).map_err(failed)?;
        Ok(Question { id: message.transaction_id, raw: message.raw, local, server, times: 0, next: now })
    }
}

fn candidate(local: SocketAddr, packet: &[u8]) -> io::Result<Option<RTCIceCandidateInit>> {
    let mut message = Message::new();
    message.raw = packet.to_vec();
    message.decode().map_err(failed)?;
    let mut mapped = XorMappedAddress::default();
    mapped.get_from(&message).map_err(failed)?;
    let mapped = SocketAddr::new(mapped.ip, mapped.port);
    if mapped == local {
        return Ok(None);
    }
    let base_config = CandidateConfig {
        network: "udp".to_owned(),
        address: mapped.ip().to_string(),
        port: mapped.port(),
        component: 1,
        ..Default::default()
    };
    let config = CandidateServerReflexiveConfig {
        base_config,
        rel_addr: local.ip().to_string(),
        rel_port: local.port(),
        url: None,
    };
    let candidate = config.new_candidate_server_reflexive().map_err(failed)?;
    RTCIceCandidate::from(&candidate).to_json().map(Some).map_err(failed)
}
