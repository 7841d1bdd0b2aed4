//! How a link comes about: an offer or an answer to one, candidates as they are found, until the data channel is open.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::setting_engine::{SctpMaxMessageSize, SettingEngineBuilder};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::{RTCDtlsRole, RTCIceCandidateInit};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use tokio::sync::mpsc;

use super::link::{Link, Opening, failed};
use super::pipe::{Reader, Writer, pipe};
use super::ports::Ports;
use super::signal::{Candidate, Signal, sanitised};
use super::table::MAX_SIGNALS;
use super::{Outgoing, RtcSettings};

/// The label of our data channels. It means nothing.
const LABEL: &str = "sbot";
/// Bytes of a message that we take: what RFC 8841 has a peer assume that isn't told. The core keeps a buffer of the size
/// for each connection.
const MAX_MESSAGE: usize = 64 * 1024;
/// Bytes of the name of a description's part that is repeated in our signals. Browsers count: `0`.
const MAX_NAME: usize = 64;
/// Bytes that a peer may have under way to us.
pub(super) const WINDOW: u32 = 1024 * 1024;
/// A peer that is silent for so long is in trouble, and after the next one gone. In between it is asked every few
/// seconds.
const SILENCE: Duration = Duration::from_secs(5);
const GONE: Duration = Duration::from_secs(15);
const ASK: Duration = Duration::from_secs(2);
/// How often a pair of candidates is tried: for 10 seconds, since the other side may learn of us only late, by a slow hub.
/// No longer: whoever offers can name others' addresses as its own, and they would have to bear it.
const TRY_EVERY: Duration = Duration::from_millis(200);
const TRIES: u16 = 50;

/// What an attempt needs of the outside: where its signals go, and those of the other side.
pub(super) struct Signalling {
    /// A signal to be sent; everything but the signal is filled in.
    pub(super) to: Outgoing,
    /// Where they go.
    pub(super) out: mpsc::Sender<Outgoing>,
    /// What the other side says.
    pub(super) heard: mpsc::Receiver<Signal>,
}

impl Signalling {
    fn say(&self, signal: Signal) -> io::Result<()> {
        self.out.try_send(Outgoing { signal, ..self.to.clone() }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => io::Error::other("too many signals wait to be sent to the hubs"),
            mpsc::error::TrySendError::Closed(_) => io::Error::other("nobody passes on signals"),
        })
    }
}

/// An open link.
pub(super) struct Opened {
    pub(super) link: Link,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) remote: SocketAddr,
}

/// Offers a connection and waits until it is open.
pub(super) async fn offer(settings: &RtcSettings, signalling: Signalling) -> io::Result<Opened> {
    let ports = Ports::open(settings)?;
    let mut core = new_core()?;
    let channel = core.create_data_channel(LABEL, None).map_err(failed)?.id();
    let offer = core.create_offer(None).map_err(failed)?;
    core.set_local_description(Instant::now(), offer.clone()).map_err(failed)?;
    let part = name_of_part(&offer.sdp);
    signalling.say(Signal::Offer { sdp: offer.sdp })?;
    let (pipe, reader, writer) = pipe();
    let link = Link::new(core, Some(channel), ports, pipe);
    open(link, signalling, false, part, (reader, writer)).await
}

/// Answers an offer and waits until the connection is open.
pub(super) async fn answer(settings: &RtcSettings, offer: &str, signalling: Signalling) -> io::Result<Opened> {
    let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let offer = sanitised(offer, MAX_SIGNALS).map_err(refused)?;
    let offer = RTCSessionDescription::offer(offer).map_err(|error| refused(&error.to_string()))?;
    let ports = Ports::open(settings)?;
    let mut core = new_core()?;
    core.set_remote_description(Instant::now(), offer).map_err(|error| refused(&error.to_string()))?;
    let answer = core.create_answer(None).map_err(failed)?;
    core.set_local_description(Instant::now(), answer.clone()).map_err(failed)?;
    let part = name_of_part(&answer.sdp);
    signalling.say(Signal::Answer { sdp: answer.sdp })?;
    let (pipe, reader, writer) = pipe();
    let link = Link::new(core, None, ports, pipe);
    open(link, signalling, true, part, (reader, writer)).await
}

async fn open(
    mut link: Link,
    mut signalling: Signalling,
    mut described: bool,
    part: Option<String>,
    (reader, writer): (Reader, Writer),
) -> io::Result<Opened> {
    // Candidates that came before the answer.
    let mut early = Vec::new();
    loop {
        let heard = &mut signalling.heard;
        let signal = match link.open(|context| heard.poll_recv(context)).await {
            Ok(Opening::Open) => break,
            Ok(Opening::Found(candidate)) => {
                link.core().add_local_candidate(candidate.clone()).map_err(failed)?;
                signalling.say(shown(candidate, &part))?;
                continue;
            }
            Ok(Opening::Heard(Some(signal))) => signal,
            Ok(Opening::Heard(None)) => return Err(io::Error::other("given up")),
            Err(why) => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)),
        };
        match signal {
            Signal::Answer { sdp } if !described => {
                let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
                let answer = sanitised(&sdp, MAX_SIGNALS).map_err(refused)?;
                let answer = RTCSessionDescription::answer(answer).map_err(|error| refused(&error.to_string()))?;
                let described_by = link.core().set_remote_description(Instant::now(), answer);
                described_by.map_err(|error| refused(&error.to_string()))?;
                described = true;
                for candidate in early.drain(..) {
                    add_remote(&mut link, candidate);
                }
            }
            Signal::Candidate(candidate) if !candidate.is_usable() => {}
            Signal::Candidate(candidate) if described => add_remote(&mut link, candidate),
            // At most as many as the table lets through.
            Signal::Candidate(candidate) => early.push(candidate),
            Signal::Offer { .. } | Signal::Answer { .. } | Signal::Other => {}
        }
    }
    let remote = link.remote().ok_or_else(|| io::Error::other("the other side's address is not known"))?;
    Ok(Opened { link, reader, writer, remote })
}

fn new_core() -> io::Result<RTCPeerConnection> {
    let engine = SettingEngineBuilder::new()
        .with_ice_timeouts(Some(SILENCE), Some(GONE), Some(ASK))
        .with_ice_connection_attempts(Some(TRY_EVERY), Some(TRIES))
        .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(MAX_MESSAGE as u32))
        .with_sctp_max_receive_buffer_size(WINDOW)
        // The client of DTLS begins SCTP, and other kinds of peers may leave that to who offers: who offers is the client.
        .with_answering_dtls_role(RTCDtlsRole::Server)
        .build();
    RTCPeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_setting_engine(engine)
        .build(Instant::now())
        .map_err(failed)
}

/// A place of the other side. One that can't be read is no worse than one that can't be reached.
fn add_remote(link: &mut Link, Candidate { candidate, sdp_m_line_index, sdp_mid }: Candidate) {
    let candidate = RTCIceCandidateInit { candidate, sdp_mline_index: sdp_m_line_index, sdp_mid, ..Default::default() };
    if let Err(error) = link.core().add_remote_candidate(candidate) {
        tracing::debug!(%error, "a candidate that can't be used");
    }
}

/// What a description calls its only part, as whoever offers has named it.
fn name_of_part(sdp: &str) -> Option<String> {
    let name = sdp.lines().find_map(|line| line.strip_prefix("a=mid:"))?.trim_end();
    (name.len() <= MAX_NAME).then(|| name.to_owned())
}

/// A candidate of ours as a signal.
fn shown(candidate: RTCIceCandidateInit, part: &Option<String>) -> Signal {
    Signal::Candidate(Candidate { candidate: candidate.candidate, sdp_m_line_index: Some(0), sdp_mid: part.clone() })
}
