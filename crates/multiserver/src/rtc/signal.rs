//! What two peers say to each other through a hub until they are connected, in the shapes of simple-peer.
//!
//! ```json
//! {"type":"offer","sdp":"…"}
//! {"type":"answer","sdp":"…"}
//! {"type":"candidate","candidate":{"candidate":"candidate:… udp …","sdpMLineIndex":0,"sdpMid":"0"}}
//! ```
//! A candidate may come without the type, as from older versions. Other types (`renegotiate`, `transceiverRequest`) are
//! about media, which we have none of. Fields that are not named here are ignored.
//!
//! Source: simple-peer 9.11 `index.js`, `signal` and `_onIceCandidate`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Most bytes of a session description. Ours have 600, those of browsers without media some 1,000, and candidates add a
/// hundred each.
pub const MAX_SDP: usize = 16 * 1024;
/// Most bytes of a candidate's line. They have a hundred or two.
pub const MAX_CANDIDATE: usize = 1024;

/// Why a text is no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// A session description or candidate is longer than any.
    #[error("{what} of {length} bytes is too long (at most {limit})")]
    TooLong {
        /// `a session description` or `a candidate`.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The most.
        limit: usize,
    },
    /// An offer or answer without a description, or nothing that we know.
    #[error("expected an offer or answer with its sdp, or a candidate")]
    Shape,
}

/// One signal of simple-peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Shape", into = "Shape")]
pub enum Signal {
    /// «Let us connect.»
    Offer {
        /// The session description (RFC 8866), at most [`MAX_SDP`] bytes.
        sdp: String,
    },
    /// «Very well.»
    Answer {
        /// The session description (RFC 8866), at most [`MAX_SDP`] bytes.
        sdp: String,
    },
    /// «You might reach me here.»
    Candidate(Candidate),
    /// Something about media, or that there are no more candidates: nothing to us.
    Other,
}

/// A place at which a peer might be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The candidate's attribute (RFC 8839, 5.1), at most [`MAX_CANDIDATE`] bytes.
    pub candidate: String,
    /// Which part of the session description it belongs to, counted from 0.
    #[serde(default, rename = "sdpMLineIndex")]
    pub sdp_m_line_index: Option<u16>,
    /// The name of that part.
    #[serde(default)]
    pub sdp_mid: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Shape {
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sdp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    candidate: Option<Candidate>,
}

impl TryFrom<Shape> for Signal {
    type Error = SignalError;

    fn try_from(shape: Shape) -> Result<Self, SignalError> {
        let described = |sdp: Option<String>| {
            let sdp = sdp.filter(|sdp| !sdp.is_empty()).ok_or(SignalError::Shape)?;
            within("a session description", sdp, MAX_SDP)
        };
        match (shape.kind.as_deref(), shape.candidate) {
            (Some("offer"), _) => Ok(Signal::Offer { sdp: described(shape.sdp)? }),
            (Some("answer"), _) => Ok(Signal::Answer { sdp: described(shape.sdp)? }),
            (Some("candidate") | None, Some(found)) => {
                let candidate = within("a candidate", found.candidate, MAX_CANDIDATE)?;
                Ok(Signal::Candidate(Candidate { candidate, ..found }))
            }
            (Some(_), _) => Ok(Signal::Other),
            (None, None) => Err(SignalError::Shape),
        }
    }
}

fn within(what: &'static str, text: String, limit: usize) -> Result<String, SignalError> {
    let length = text.len();
    if length <= limit { Ok(text) } else { Err(SignalError::TooLong { what, length, limit }) }
}

impl From<Signal> for Shape {
    fn from(signal: Signal) -> Self {
        let shape = |kind: &str, sdp, candidate| Shape { kind: Some(kind.to_owned()), sdp, candidate };
        match signal {
            Signal::Offer { sdp } => shape("offer", Some(sdp), None),
            Signal::Answer { sdp } => shape("answer", Some(sdp), None),
            Signal::Candidate(candidate) => shape("candidate", None, Some(candidate)),
            // What simple-peer sends when there is nothing to be done.
            Signal::Other => shape("renegotiate", None, None),
        }
    }
}

impl Candidate {
    /// Whether we can make use of it: UDP, and an IP address that one peer can have. The names that browsers put in the
    /// place of local addresses (`….local`) are of no use to us, nor needed: whoever hides behind one reaches out to us,
    /// and shows its address by that.
    pub(super) fn is_usable(&self) -> bool {
        usable(self.candidate.strip_prefix("candidate:").unwrap_or(&self.candidate))
    }
}

/// Whether we can make use of a candidate, given without the name of the attribute.
fn usable(attribute: &str) -> bool {
    let mut parts = attribute.split_ascii_whitespace().skip(2);
    let (Some(transport), _priority, Some(address), Some(port)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let Ok(ip) = address.parse::<IpAddr>() else { return false };
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    transport.eq_ignore_ascii_case("udp")
        && port.parse::<u16>().is_ok_and(|port| port > 0)
        && !(ip.is_unspecified() || ip.is_multicast() || broadcast)
}

/// A session description as we hand it on: exactly one part, for data channels, without candidates that are of no use,
/// and at most `candidates` of the others.
///
/// # Errors
/// Why it is no offer or answer to us.
pub(super) fn sanitised(sdp: &str, candidates: usize) -> Result<String, &'static str> {
    let mut parts = sdp.lines().filter_map(|line| line.strip_prefix("m="));
    match (parts.next(), parts.next()) {
        (None, _) => return Err("a session description without a part"),
        (Some(part), None) if part.starts_with("application ") => {}
        _ => return Err("a session description for something else than one data channel"),
    }
    let mut left = candidates;
    let mut kept = String::with_capacity(sdp.len());
    for line in sdp.lines() {
        if let Some(attribute) = line.strip_prefix("a=candidate:") {
            if left == 0 || !usable(attribute) {
                continue;
            }
            left -= 1;
        }
        kept.push_str(line);
        kept.push_str("\r\n");
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json, to_value};

    fn candidate(text: &str) -> Candidate {
        Candidate { candidate: text.into(), sdp_m_line_index: Some(0), sdp_mid: Some("0".into()) }
    }

    #[test]
    fn signals_have_the_shapes_of_simple_peer() {
        let line = "candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host";
        for (signal, shape) in [
            (Signal::Offer { sdp: "v=0".into() }, json!({"type": "offer", "sdp": "v=0"})),
            (Signal::Answer { sdp: "v=0".into() }, json!({"type": "answer", "sdp": "v=0"})),
            (
                Signal::Candidate(candidate(line)),
                json!({"type": "candidate", "candidate": {"candidate": line, "sdpMLineIndex": 0, "sdpMid": "0"}}),
            ),
        ] {
            assert_eq!(to_value(&signal).unwrap(), shape);
            assert_eq!(from_value::<Signal>(shape).unwrap(), signal);
        }
        let old = json!({"candidate": {"candidate": line, "sdpMLineIndex": 0, "sdpMid": "0", "usernameFragment": "x"}});
        assert_eq!(from_value::<Signal>(old).unwrap(), Signal::Candidate(candidate(line)));
        for other in [
            json!({"type": "renegotiate", "renegotiate": true}),
            json!({"type": "transceiverRequest", "transceiverRequest": {"kind": "audio"}}),
            json!({"type": "candidate", "candidate": null}),
        ] {
            assert_eq!(from_value::<Signal>(other).unwrap(), Signal::Other);
        }
    }

    #[test]
    fn what_is_no_signal_or_too_long_is_refused() {
        let long = "x".repeat(MAX_SDP + 1);
        for (bad, reason) in [
            (json!({}), "expected an offer"),
            (json!({"sdp": "v=0"}), "expected an offer"),
            (json!({"type": "offer"}), "expected an offer"),
            (json!({"type": "offer", "sdp": ""}), "expected an offer"),
            (json!({"type": "offer", "sdp": 1}), "invalid type"),
            (json!({"type": 1}), "invalid type"),
            (json!("offer"), "invalid type"),
            (Value::Null, "invalid type"),
            (json!({"type": "candidate", "candidate": "x"}), "invalid type"),
            (json!({"candidate": {"candidate": "x", "sdpMLineIndex": -1}}), "invalid value"),
            (json!({"type": "offer", "sdp": long}), "16385 bytes is too long"),
            (json!({"candidate": {"candidate": &long[..2000]}}), "2000 bytes is too long"),
        ] {
            let error = from_value::<Signal>(bad.clone()).unwrap_err().to_string();
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }

    #[test]
    fn only_candidates_with_an_address_and_udp_are_of_use() {
        for (text, usable) in [
            ("candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host", true),
            ("candidate:1 1 UDP 2130706431 2001:db8::1 5000 typ host", true),
            ("1 1 udp 2130706431 127.0.0.1 5000 typ host generation 0", true),
            ("candidate:1 1 udp 1 0c9a1e2d-9f9c-4f3e-a2a8-5c9e2f0e6a5b.local 5000 typ host", false),
            ("candidate:1 1 udp 1 hub.example 5000 typ host", false),
            ("candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active", false),
            ("candidate:1 1 udp 1 0.0.0.0 5000 typ host", false),
            ("candidate:1 1 udp 1 255.255.255.255 5000 typ host", false),
            ("candidate:1 1 udp 1 224.0.0.251 5353 typ host", false),
            ("candidate:1 1 udp 1 192.0.2.1 0 typ host", false),
            ("candidate:1 1 udp 1 192.0.2.1 65536 typ host", false),
            ("candidate:1 1 udp", false),
            ("", false),
        ] {
            assert_eq!(candidate(text).is_usable(), usable, "{text}");
        }
    }

    #[test]
    fn a_description_is_for_one_data_channel_and_loses_useless_candidates() {
        let part = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel";
        let line = "a=candidate:1 1 udp 1 192.0.2.1 5000 typ host";
        let hidden = "a=candidate:1 1 udp 1 x.local 5000 typ host";
        let sdp = format!("v=0\n{part}\r\n{line}\n{hidden}\n{line}\n{line}\n");
        assert_eq!(sanitised(&sdp, 2).unwrap(), format!("v=0\r\n{part}\r\n{line}\r\n{line}\r\n"));
        for bad in ["", "v=0", "m=audio 9 UDP/TLS/RTP/SAVPF 111", &format!("{part}\r\n{part}"), "m=application"] {
            assert!(sanitised(bad, 2).is_err(), "{bad}");
        }
    }
}
