//! The secret handshake and the box stream against kuska-handshake 0.2, which is over libsodium, on loopback.
//!
//! kuska's side is blocking code in a thread; it sends everything back that it reads until the goodbye, and then says
//! goodbye itself.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream as KuskaSocket;
use std::thread::JoinHandle;
use std::time::Duration;

use kuska_handshake::HandshakeComplete;
use kuska_handshake::sodiumoxide::crypto::{auth, sign::ed25519};
use kuska_handshake::sync::{BoxStream, handshake_client, handshake_server};
use sbot_feed::{FeedId, Keypair, NetworkKey};
use sbot_shs::{Secure, ShsError, accept, dial};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Outcome = Result<FeedId, Box<dyn Error + Send + Sync>>;

const NETWORK: NetworkKey = NetworkKey([5; 32]);
const OURS: [u8; 32] = [1; 32];
const KUSKAS: [u8; 32] = [2; 32];
/// After this a side that waits for the other has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn id(seed: [u8; 32]) -> FeedId {
    Keypair::from_seed(seed).id()
}

fn kuska_keys() -> (ed25519::PublicKey, ed25519::SecretKey) {
    kuska_handshake::sodiumoxide::init().expect("libsodium starts");
    ed25519::keypair_from_seed(&ed25519::Seed(KUSKAS))
}

/// kuska as the client that dials `server` if given, else as the server; then the echo. Returns whom it talked to.
fn kuska(socket: KuskaSocket, server: Option<FeedId>) -> JoinHandle<Outcome> {
    std::thread::spawn(move || {
        let mut socket = socket;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let (public, secret) = kuska_keys();
        let network = auth::Key(NETWORK.0);
        let done: HandshakeComplete = match server {
            Some(server) => {
                let server = ed25519::PublicKey(*server.as_bytes());
                handshake_client(&mut socket, network, public, secret, server)?
            }
            None => handshake_server(&mut socket, network, public, secret)?,
        };
        let remote = FeedId(done.peer_pk.0);
        let stream = BoxStream::from_handshake(socket.try_clone()?, socket, done);
        let (mut reader, mut writer) = stream.split_read_write();
        let mut body = [0; 4096];
        loop {
            match reader.read(&mut body)? {
                0 => break,
                count => writer.write_all(&body[..count])?,
            }
        }
        writer.goodbye()?;
        Ok(remote)
    })
}

/// Writes around the edges of a box, and many boxes at once.
fn writes() -> Vec<Vec<u8>> {
    let sizes = [1, 600, 4095, 4096, 4097, 2, 200_000];
    sizes.iter().map(|size| (0..*size).map(|i| (i * 7 % 251) as u8).collect()).collect()
}

async fn echoed<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(link: Secure<R, W>) {
    let (mut reader, mut writer) = (link.reader, link.writer);
    let write = async {
        for write in writes() {
            writer.write_all(&write).await.expect("kuska takes it");
            writer.flush().await.expect("kuska takes it");
        }
        writer.shutdown().await.expect("kuska takes the goodbye");
    };
    let mut got = Vec::new();
    let (_, read) = tokio::join!(write, reader.read_to_end(&mut got));
    read.expect("kuska says goodbye");
    assert!(got == writes().concat(), "what came back differs from what was sent");
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("done in time") });
}

/// Two ends of one connection: ours, and kuska's.
async fn sockets() -> (TcpStream, KuskaSocket) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (dialed, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let kuskas = dialed.expect("a connection").into_std().expect("a socket");
    (accepted.expect("a connection").0, kuskas)
}

#[test]
fn we_dial_kuska() {
    run(async {
        let (socket, theirs) = sockets().await;
        let peer = kuska(theirs, None);
        let link = dial(socket, &NETWORK, &Keypair::from_seed(OURS), &id(KUSKAS)).await.expect("shaken hands");
        assert_eq!(link.remote, id(KUSKAS));
        echoed(link).await;
        assert_eq!(peer.join().expect("no panic").expect("no error"), id(OURS));
    });
}

#[test]
fn kuska_dials_us() {
    run(async {
        let (socket, theirs) = sockets().await;
        let peer = kuska(theirs, Some(id(OURS)));
        let link = accept(socket, &NETWORK, &Keypair::from_seed(OURS), |_| Ok(())).await.expect("shaken hands");
        assert_eq!(link.remote, id(KUSKAS));
        echoed(link).await;
        assert_eq!(peer.join().expect("no panic").expect("no error"), id(OURS));
    });
}

#[test]
fn a_wrong_number_ends_the_handshake_either_way() {
    run(async {
        let (socket, theirs) = sockets().await;
        let peer = kuska(theirs, None);
        let refused = dial(socket, &NETWORK, &Keypair::from_seed(OURS), &id([3; 32])).await;
        assert!(matches!(refused.err(), Some(ShsError::Closed(_) | ShsError::Io(_))));
        assert!(peer.join().expect("no panic").is_err());

        let (socket, theirs) = sockets().await;
        let peer = kuska(theirs, Some(id([3; 32])));
        let refused = accept(socket, &NETWORK, &Keypair::from_seed(OURS), |_| Ok(())).await;
        assert!(matches!(refused.err(), Some(ShsError::Handshake(_))));
        assert!(peer.join().expect("no panic").is_err());
    });
}

#[test]
fn another_network_ends_the_handshake_either_way() {
    let other = NetworkKey([6; 32]);
    run(async {
        let (socket, theirs) = sockets().await;
        let peer = kuska(theirs, None);
        assert!(dial(socket, &other, &Keypair::from_seed(OURS), &id(KUSKAS)).await.is_err());
        assert!(peer.join().expect("no panic").is_err());

        let (socket, theirs) = sockets().await;
        let peer = kuska(theirs, Some(id(OURS)));
        assert!(accept(socket, &other, &Keypair::from_seed(OURS), |_| Ok(())).await.is_err());
        assert!(peer.join().expect("no panic").is_err());
    });
}
