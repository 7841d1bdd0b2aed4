//! What peers say to each other at a hub.

use std::str::FromStr;

use sbot_feed::FeedId;
use sbot_multiserver::Session;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most bytes of a message. A hub takes 64 KiB; an offer is some two.
pub const MAX_MESSAGE: usize = 32 * 1024;

/// A message: one JSON object on one line.
///
/// ```text
/// {"id": "@KEY.ed25519"}                                   I am here
/// {"id": "@KEY.ed25519", "gone": true}                     I leave
/// {"id": "@KEY.ed25519", "session": "HEX", "signal": {…}}  what simple-peer's `signal` event gives
/// ```
/// Fields beside these are ignored. Who is named is a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// Somebody is there.
    Here(FeedId),
    /// Somebody leaves.
    Gone(FeedId),
    /// A part of what it takes to make a connection.
    Signal {
        /// From whom.
        from: FeedId,
        /// Which attempt at a connection it belongs to.
        session: Session,
        /// An offer, an answer or a candidate: an object, not looked at here.
        signal: Value,
    },
}

/// Why a text is no [`Said`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotUnderstood {
    /// It is longer than [`MAX_MESSAGE`].
    #[error("a message of {0} bytes, at most {MAX_MESSAGE} are read")]
    TooLong(usize),
    /// It is no JSON, or lacks what it needs.
    #[error("{0}")]
    Json(String),
    /// It doesn't say who speaks.
    #[error("its id is none of a feed")]
    Id,
    /// It has a signal without a session, a session that is none, or a signal that is no object.
    #[error("it has a signal and no session, or the other way round, or one of them is malformed")]
    Signal,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    id: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signal: Option<Value>,
}

impl Said {
    /// Who says that it is speaking.
    pub fn who(&self) -> FeedId {
        match self {
            Said::Here(peer) | Said::Gone(peer) | Said::Signal { from: peer, .. } => *peer,
        }
    }

    /// As it is sent: without line breaks.
    ///
    /// # Errors
    /// [`NotUnderstood::TooLong`].
    pub fn text(&self) -> Result<String, NotUnderstood> {
        let (gone, session, signal) = match self {
            Said::Here(_) => (false, None, None),
            Said::Gone(_) => (true, None, None),
            Said::Signal { session, signal, .. } => (false, Some(session.to_string()), Some(signal.clone())),
        };
        let wire = Wire { id: self.who().to_string(), gone, session, signal };
        let text = serde_json::to_string(&wire).map_err(|error| NotUnderstood::Json(error.to_string()))?;
        if text.len() > MAX_MESSAGE { Err(NotUnderstood::TooLong(text.len())) } else { Ok(text) }
    }
}

impl FromStr for Said {
    type Err = NotUnderstood;

    fn from_str(text: &str) -> Result<Self, NotUnderstood> {
        if text.len() > MAX_MESSAGE {
            return Err(NotUnderstood::TooLong(text.len()));
        }
        let wire: Wire = serde_json::from_str(text).map_err(|error| NotUnderstood::Json(error.to_string()))?;
        let from: FeedId = wire.id.parse().map_err(|_| NotUnderstood::Id)?;
        match (wire.session, wire.signal) {
            (None, None) if wire.gone => Ok(Said::Gone(from)),
            (None, None) => Ok(Said::Here(from)),
            (Some(session), Some(signal)) if signal.is_object() => {
                let session = session.parse().map_err(|_| NotUnderstood::Signal)?;
                Ok(Said::Signal { from, session, signal })
            }
            _ => Err(NotUnderstood::Signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const ID: &str = "@1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=.ed25519";
    const SESSION: &str = "000102030405060708090a0b0c0d0e0f";

    #[test]
    fn messages_are_read_and_unknown_fields_ignored() {
        let id: FeedId = ID.parse().unwrap();
        assert_eq!(json!({"id": ID}).to_string().parse(), Ok(Said::Here(id)));
        assert_eq!(json!({"id": ID, "gone": false, "later": [1]}).to_string().parse(), Ok(Said::Here(id)));
        assert_eq!(json!({"id": ID, "gone": true}).to_string().parse(), Ok(Said::Gone(id)));
        let signal = json!({"type": "offer", "sdp": "v=0"});
        let said = json!({"id": ID, "session": SESSION, "signal": signal}).to_string().parse();
        assert_eq!(said, Ok(Said::Signal { from: id, session: SESSION.parse().unwrap(), signal }));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        let (signal, session) = (json!({}), SESSION);
        for text in [
            "",
            "{}",
            "[]",
            "7",
            "null",
            "{\"id\":7}",
            "\u{feff}{}",
            "{\"id\":\"\"}",
            &json!({"id": "@x.ed25519"}).to_string(),
            &json!({"id": ID, "gone": "yes"}).to_string(),
            &json!({"id": ID, "signal": signal}).to_string(),
            &json!({"id": ID, "session": session}).to_string(),
            &json!({"id": ID, "session": "00", "signal": signal}).to_string(),
            &json!({"id": ID, "session": session.to_uppercase(), "signal": signal}).to_string(),
            &json!({"id": ID, "session": session, "signal": "offer"}).to_string(),
            &json!({"id": ID, "session": session, "signal": signal, "pad": "x".repeat(MAX_MESSAGE)}).to_string(),
            &format!("{{\"id\":\"{ID}\",\"id\":\"{ID}\"}}"),
            &format!("{{\"id\":\"{ID}\",\"x\":{}", "[".repeat(10_000)),
        ] {
            assert!(text.parse::<Said>().is_err(), "{:.200}", text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same_and_on_one_line(
            key in any::<[u8; 32]>(), session in any::<[u8; 16]>(), kind in 0..3, sdp in ".{0,100}"
        ) {
            let from = FeedId(key);
            let said = match kind {
                0 => Said::Here(from),
                1 => Said::Gone(from),
                _ => Said::Signal { from, session: Session(session), signal: json!({"type": "offer", "sdp": sdp + "\r\n"}) },
            };
            let text = said.text().unwrap();
            prop_assert!(!text.contains(['\r', '\n']));
            prop_assert_eq!(text.parse(), Ok(said));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}") {
            let _ = text.parse::<Said>();
        }
    }

    #[test]
    fn nothing_too_long_is_written() {
        let signal = json!({"sdp": "x".repeat(MAX_MESSAGE)});
        let said = Said::Signal { from: ID.parse().unwrap(), session: Session([0; 16]), signal };
        assert!(matches!(said.text(), Err(NotUnderstood::TooLong(_))));
    }
}
