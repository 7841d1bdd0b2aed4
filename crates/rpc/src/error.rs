//! What goes wrong in a call, on either side.

use serde::{Deserialize, Serialize};

use crate::codec::Body;

/// An error as it travels: `{name, message, stack}` (muxrpc `util.js`, packet-stream `flat`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// `Error`, unless the caller should tell kinds apart.
    pub name: String,
    /// What happened.
    pub message: String,
}

#[derive(Serialize)]
struct Travelling<'a> {
    name: &'a str,
    message: &'a str,
    stack: String,
}

#[derive(Deserialize)]
struct Arrived {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// Longest error text that is kept from a peer, in bytes.
const MAX_TEXT: usize = 4096;

impl RpcError {
    /// An `Error` with this message.
    pub fn new(message: impl Into<String>) -> RpcError {
        RpcError { name: "Error".into(), message: message.into() }
    }

    /// The body that carries it.
    pub fn body(&self) -> Body {
        let stack = format!("{}: {}", self.name, self.message);
        let travelling = Travelling { name: &self.name, message: &self.message, stack };
        Body::json(&travelling).unwrap_or_else(|_| Body::Json("{\"message\":\"error\"}".into()))
    }

    /// Reads an error from a peer: an object with a message, a string, or anything else, shown as it is.
    pub fn from_body(body: &Body) -> RpcError {
        let cut = |text: &str| text.char_indices().take_while(|(at, _)| *at < MAX_TEXT).map(|(_, c)| c).collect();
        let shown: String = cut(&String::from_utf8_lossy(body.bytes()));
        match body {
            Body::Json(bytes) => match serde_json::from_slice::<Arrived>(bytes) {
                Ok(Arrived { name, message: Some(message) }) => {
                    RpcError { name: name.as_deref().map_or_else(|| "Error".into(), cut), message: cut(&message) }
                }
                _ => RpcError::new(shown),
            },
            _ => RpcError::new(shown),
        }
    }
}

impl From<serde_json::Error> for RpcError {
    fn from(error: serde_json::Error) -> RpcError {
        RpcError::new(error.to_string())
    }
}

/// Why a call of ours failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The other side says no.
    #[error(transparent)]
    Remote(#[from] RpcError),
    /// The stream takes or brings no more, and the connection lives on: the other side wants no more, or the stream was
    /// given up because it wasn't read.
    #[error("the stream is closed: {0}")]
    Ended(String),
    /// The connection is gone, or went while the call was open.
    #[error("the connection is closed: {0}")]
    Closed(String),
    /// The arguments have no JSON form.
    #[error("the arguments can't be sent: {0}")]
    Arguments(String),
    /// The other side doesn't have the method, or it is of another type. Only [`Client`](crate::Client) looks before it
    /// asks.
    #[error("{0}")]
    Method(String),
}
