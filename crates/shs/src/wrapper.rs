//! The handshake over a connection of tokio's.

use std::io;

use sbot_feed::{FeedId, Keypair, NetworkKey};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::handshake::{ACCEPTANCE, CHALLENGE, Client, HandshakeError, Outcome, PROOF, Server};
use crate::{SecureReader, SecureWriter};

/// What the other side was to send when the handshake broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The first message of either side.
    Challenge,
    /// The client's proof of who it is.
    Proof,
    /// The server's acceptance of the client.
    Acceptance,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            // The other side is silent about its reasons, so we name the likely ones.
            Stage::Challenge => "its challenge (it may be of another network, speak another protocol, or be busy)",
            Stage::Proof => "its proof (it may have expected another key here, or not want us)",
            Stage::Acceptance => "its acceptance (it may have another key than we dialed, or not want us)",
        })
    }
}

/// Why no secure link came about.
#[derive(Debug, thiserror::Error)]
pub enum ShsError {
    /// The other side sent something wrong.
    #[error("handshake failed: {0}")]
    Handshake(#[from] HandshakeError),
    /// The other side closed the connection instead of sending the next message.
    #[error("the other side closed the connection while we waited for {0}")]
    Closed(Stage),
    /// The connection failed.
    #[error("connection failed during the handshake: {0}")]
    Io(#[source] io::Error),
    /// Our own rules don't let this client in.
    #[error("{client} was refused: {reason}")]
    Refused {
        /// Who it was: proven.
        client: FeedId,
        /// Which rule said no.
        reason: String,
    },
    /// The system gives no random bytes.
    #[error("no random bytes from the system: {0}")]
    Random(getrandom::Error),
}

/// A connection on which both sides know who the other is.
pub struct Secure<R, W> {
    /// Who is at the other end.
    pub remote: FeedId,
    /// What the other side sends.
    pub reader: SecureReader<R>,
    /// What we send. Flush it.
    pub writer: SecureWriter<W>,
}

impl<R, W> Secure<R, W> {
    fn new(outcome: &Outcome, read: R, write: W) -> Self {
        Secure {
            remote: outcome.remote,
            reader: SecureReader::new(read, &outcome.open),
            writer: SecureWriter::new(write, &outcome.seal),
        }
    }
}

/// Shakes hands with `server` over `io` as the one who dialed.
///
/// # Errors
/// [`ShsError`]; the connection is to be dropped.
pub async fn dial<T: AsyncRead + AsyncWrite>(
    io: T,
    network: &NetworkKey,
    own: &Keypair,
    server: &FeedId,
) -> Result<Secure<ReadHalf<T>, WriteHalf<T>>, ShsError> {
    let (read, write) = tokio::io::split(io);
    dial_split(read, write, network, own, server).await
}

/// [`dial`] over a connection whose two directions are apart already, as `TcpStream::into_split` gives them.
///
/// # Errors
/// [`ShsError`]; the connection is to be dropped.
pub async fn dial_split<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut read: R,
    mut write: W,
    network: &NetworkKey,
    own: &Keypair,
    server: &FeedId,
) -> Result<Secure<R, W>, ShsError> {
    let (client, challenge) = Client::start(network, own, server, random()?);
    send(&mut write, &challenge).await?;
    let (client, proof) = client.challenged(&receive::<CHALLENGE>(&mut read, Stage::Challenge).await?)?;
    send(&mut write, &proof).await?;
    let outcome = client.accepted(&receive::<ACCEPTANCE>(&mut read, Stage::Acceptance).await?)?;
    Ok(Secure::new(&outcome, read, write))
}

/// Shakes hands over `io` as the one who was dialed. `authorise` is asked once the client has proven who it is, and
/// before it learns whether it is welcome; its error is the reason for a refusal.
///
/// # Errors
/// [`ShsError`]; the connection is to be dropped.
pub async fn accept<T: AsyncRead + AsyncWrite>(
    io: T,
    network: &NetworkKey,
    own: &Keypair,
    authorise: impl FnOnce(&FeedId) -> Result<(), String>,
) -> Result<Secure<ReadHalf<T>, WriteHalf<T>>, ShsError> {
    let (read, write) = tokio::io::split(io);
    accept_split(read, write, network, own, authorise).await
}

/// [`accept`] over a connection whose two directions are apart already.
///
/// # Errors
/// [`ShsError`]; the connection is to be dropped.
pub async fn accept_split<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut read: R,
    mut write: W,
    network: &NetworkKey,
    own: &Keypair,
    authorise: impl FnOnce(&FeedId) -> Result<(), String>,
) -> Result<Secure<R, W>, ShsError> {
    let server = Server::new(network, own, random()?);
    let (server, challenge) = server.challenged(&receive::<CHALLENGE>(&mut read, Stage::Challenge).await?)?;
    send(&mut write, &challenge).await?;
    let proven = server.proven(&receive::<PROOF>(&mut read, Stage::Proof).await?)?;
    let client = proven.client();
    authorise(&client).map_err(|reason| ShsError::Refused { client, reason })?;
    let (acceptance, outcome) = proven.accept();
    send(&mut write, &acceptance).await?;
    Ok(Secure::new(&outcome, read, write))
}

fn random() -> Result<[u8; 32], ShsError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(ShsError::Random)?;
    Ok(bytes)
}

async fn send(write: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> Result<(), ShsError> {
    write.write_all(message).await.map_err(ShsError::Io)?;
    write.flush().await.map_err(ShsError::Io)
}

async fn receive<const LENGTH: usize>(
    read: &mut (impl AsyncRead + Unpin),
    stage: Stage,
) -> Result<[u8; LENGTH], ShsError> {
    let mut message = [0; LENGTH];
    match read.read_exact(&mut message).await {
        Ok(_) => Ok(message),
        Err(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Err(ShsError::Closed(stage))
            }
            _ => Err(ShsError::Io(error)),
        },
    }
}
