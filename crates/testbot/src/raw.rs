//! Peers that shake hands properly and may do anything afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};
use sbot_feed::{FeedId, Keypair, NetworkKey};
use sbot_multiserver::{Address, Connection, DialSettings, Dialer};
use sbot_rpc::codec::{Decoded, Packet, decode, encode, encode_goodbye};
use sbot_rpc::{Body, Limits, Peer, Registry, Session, Sink, Source};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::node::TestNode;
use crate::world::PATIENCE;

/// Largest body that a raw peer takes, in bytes.
const MAX_BODY: usize = 16 << 20;

/// A connection after the secret handshake, with nobody speaking yet.
pub struct RawPeer {
    id: FeedId,
    connection: Connection,
    input: BytesMut,
}

impl RawPeer {
    /// Dials a node as `keys`, in the network that it thinks it is in.
    ///
    /// # Errors
    /// If the handshake fails or takes too long.
    pub async fn dial(network: &NetworkKey, keys: &Keypair, node: &TestNode) -> Result<RawPeer> {
        Self::dial_at(network, keys, &node.address()?).await
    }

    /// Dials whoever is at an address.
    ///
    /// # Errors
    /// If the address is none, or the handshake fails or takes too long.
    pub async fn dial_at(network: &NetworkKey, keys: &Keypair, address: &str) -> Result<RawPeer> {
        let address: Address = address.parse()?;
        let settings = DialSettings { connect_timeout: PATIENCE, handshake_timeout: PATIENCE };
        let connection = Dialer::new(*network, keys.clone(), settings).dial(&address).await?;
        Ok(RawPeer { id: keys.id(), connection, input: BytesMut::new() })
    }

    /// Who it is.
    pub fn id(&self) -> FeedId {
        self.id
    }

    /// Sends bytes as they are, in the box stream.
    ///
    /// # Errors
    /// If the node has hung up.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.connection.write.write_all(bytes).await?;
        self.connection.write.flush().await?;
        Ok(())
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// If the node has hung up.
    pub async fn packet(&mut self, packet: &Packet) -> Result<()> {
        let mut bytes = BytesMut::new();
        encode(packet, &mut bytes);
        self.send(&bytes).await
    }

    /// Asks for an async method: a lone request with number `number`.
    ///
    /// # Errors
    /// If the node has hung up.
    pub async fn ask(&mut self, number: i32, method: &str, args: &Value) -> Result<()> {
        let name: Vec<_> = method.split('.').collect();
        let body = Body::json(&json!({"name": name, "args": args, "type": "async"}))?;
        self.packet(&Packet { request: number, stream: false, end: false, body }).await
    }

    /// The next packet; `None` if the node says goodbye or hangs up.
    ///
    /// # Errors
    /// If nothing comes for long, or no packets.
    pub async fn recv(&mut self) -> Result<Option<Packet>> {
        loop {
            match decode(&mut self.input, MAX_BODY)? {
                Decoded::Packet(packet) => return Ok(Some(packet)),
                Decoded::Goodbye => return Ok(None),
                Decoded::Incomplete => {}
            }
            let read = timeout(PATIENCE, self.connection.read.read_buf(&mut self.input)).await;
            match read.context("the node says nothing and doesn't hang up")? {
                // A reset is a way to hang up.
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }

    /// The answer to our request `number`; what comes for others is passed over.
    ///
    /// # Errors
    /// If there is none.
    pub async fn answer(&mut self, number: i32) -> Result<Packet> {
        while let Some(packet) = self.recv().await? {
            if packet.request == -number {
                return Ok(packet);
            }
        }
        bail!("the node hung up without an answer to request {number}")
    }

    /// Reads until the node hangs up.
    ///
    /// # Errors
    /// If it doesn't.
    pub async fn until_hung_up(&mut self) -> Result<()> {
        while self.recv().await?.is_some() {}
        Ok(())
    }

    /// Says goodbye and hangs up.
    ///
    /// # Errors
    /// If the node has hung up before.
    pub async fn goodbye(mut self) -> Result<()> {
        let mut bytes = BytesMut::new();
        encode_goodbye(&mut bytes);
        self.send(&bytes).await?;
        self.connection.write.shutdown().await?;
        Ok(())
    }

    /// Speaks mux-rpc from here on, with no methods to offer.
    pub fn session(self) -> Peer {
        self.session_with(Registry::new())
    }

    /// Speaks mux-rpc from here on, with these methods to offer.
    pub fn session_with(self, registry: Registry<()>) -> Peer {
        let Connection { read, write, .. } = self.connection;
        Session::spawn(read, write, Arc::new(registry), (), Limits::REMOTE)
    }

    /// Calls `ebt.replicate` and speaks EBT by hand from here on.
    ///
    /// # Errors
    /// If the node refuses.
    pub async fn ebt(self) -> Result<EbtPeer> {
        let peer = self.session();
        let (sink, source) = peer.duplex("ebt.replicate", &json!([{"version": 3, "format": "classic"}])).await?;
        Ok(EbtPeer { peer, sink, source, notes: BTreeMap::new(), messages: Vec::new() })
    }
}

/// A peer in `ebt.replicate`, having dialed, with every note and message said by hand.
pub struct EbtPeer {
    /// The session around it.
    pub peer: Peer,
    sink: Sink,
    source: Source,
    notes: BTreeMap<String, i64>,
    messages: Vec<Value>,
}

impl EbtPeer {
    /// Says how far we are with a feed, and whether we want more of it.
    ///
    /// # Errors
    /// If the stream is closed.
    pub async fn note(&mut self, feed: FeedId, sequence: u64, receive: bool) -> Result<()> {
        // epidemic-broadcast-trees `v3.js`: the lowest bit says that nothing is to be sent.
        self.say(&json!({feed.to_string(): sequence * 2 + u64::from(!receive)})).await
    }

    /// Says anything as JSON.
    ///
    /// # Errors
    /// If the stream is closed.
    pub async fn say(&mut self, value: &Value) -> Result<()> {
        self.body(Body::json(value)?).await
    }

    /// Sends a message's bytes.
    ///
    /// # Errors
    /// If the stream is closed.
    pub async fn message(&mut self, message: &Bytes) -> Result<()> {
        self.body(Body::Json(message.clone())).await
    }

    /// Sends any item.
    ///
    /// # Errors
    /// If the stream is closed.
    pub async fn body(&mut self, body: Body) -> Result<()> {
        Ok(self.sink.send(body).await?)
    }

    /// Waits until the node has said a note for a feed that satisfies `is`; answers it.
    ///
    /// # Errors
    /// If none comes.
    pub async fn until_note(&mut self, feed: FeedId, is: impl Fn(i64) -> bool) -> Result<i64> {
        let feed = feed.to_string();
        loop {
            if let Some(note) = self.notes.get(&feed).copied().filter(|note| is(*note)) {
                return Ok(note);
            }
            self.hear().await.with_context(|| format!("while waiting for a note on {feed}: {:?}", self.notes))?;
        }
    }

    /// Waits until the node asks for a feed's messages from `sequence` on.
    ///
    /// # Errors
    /// If it doesn't.
    pub async fn until_asked(&mut self, feed: FeedId, sequence: u64) -> Result<()> {
        let asked = i64::try_from(sequence.saturating_sub(1))? * 2;
        self.until_note(feed, |note| note == asked).await.map(drop)
    }

    /// Waits for messages of a feed from the node until it has sent `sequence`; answers all that came.
    ///
    /// # Errors
    /// If it doesn't.
    pub async fn until_sent(&mut self, feed: FeedId, sequence: u64) -> Result<Vec<Value>> {
        let author = feed.to_string();
        loop {
            let of_feed = self.messages.iter().filter(|message| message["author"] == author.as_str());
            let sent: Vec<Value> = of_feed.cloned().collect();
            if sent.iter().any(|message| message["sequence"] == sequence) {
                return Ok(sent);
            }
            self.hear().await.with_context(|| format!("while waiting for message {sequence} of {author}"))?;
        }
    }

    /// All notes that were heard, the newest for each feed.
    pub fn notes(&self) -> &BTreeMap<String, i64> {
        &self.notes
    }

    /// All messages that came.
    pub fn messages(&self) -> &[Value] {
        &self.messages
    }

    async fn hear(&mut self) -> Result<()> {
        let item = timeout(PATIENCE, self.source.recv()).await.context("the node says nothing more")?;
        let body = item.context("the node ended the stream")??;
        let value: Value = serde_json::from_slice(body.bytes())?;
        if value.get("author").is_some() {
            self.messages.push(value);
            return Ok(());
        }
        for (feed, note) in value.as_object().context("neither notes nor a message")? {
            self.notes.insert(feed.clone(), note.as_i64().context("a note that is no number")?);
        }
        Ok(())
    }
}
