//! The handshake as two state machines without IO, one for each role.
//!
//! | | message | bytes | holds |
//! |---|---|---|---|
//! | 1 | client's challenge | [`CHALLENGE`] | its ephemeral key, authenticated with the network key |
//! | 2 | server's challenge | [`CHALLENGE`] | likewise |
//! | 3 | client's proof | [`PROOF`] | its public key and signature, in a box that only the right server can open |
//! | 4 | server's acceptance | [`ACCEPTANCE`] | its signature over the proof, in a box for that client |
//!
//! ```text
//! Client::start ──1──▶ Server::challenged ──2──▶ Client::challenged ──3──▶ AwaitingProof::proven
//!                      Outcome ◀── AwaitingAcceptance::accepted ◀──4── Proven::accept ──▶ Outcome
//! ```
//! Each step takes the whole message and gives the next state, so no message can be taken twice or out of turn. Keys
//! are judged as libsodium does: a shared secret of zeros (from a key of low order) is refused, and so is a public key
//! that is not canonical, of low order, or outside the prime-order group.
//!
//! Source: secret-handshake 1.1 `crypto.js`; libsodium `crypto_auth`, `crypto_scalarmult`,
//! `crypto_sign_ed25519_pk_to_curve25519`.

use hmac::{Hmac, KeyInit, Mac};
use sbot_feed::{FeedId, Keypair, NetworkKey, verify};
use sha2::{Digest, Sha256, Sha512};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::boxstream::BoxKey;
use crate::secretbox::{open_once, seal_once};

/// Bytes of messages 1 and 2.
pub const CHALLENGE: usize = 64;
/// Bytes of message 3.
pub const PROOF: usize = 112;
/// Bytes of message 4.
pub const ACCEPTANCE: usize = 80;
/// Signature and public key of the client: message 3 without its box.
const HELLO: usize = 96;

/// Why a handshake fails. The other side learns nothing of it but the closed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Message 1 or 2 is not authenticated with our network key.
    #[error("the other side is of another network (caps.shs) or speaks another protocol")]
    Network,
    /// An ephemeral or long-term key would make a secret that anybody can guess.
    #[error("the other side's {0} key is invalid")]
    Key(&'static str),
    /// Message 3 does not open, or its signature is wrong.
    #[error("the client expected a server with another key, or could not prove its own")]
    Proof,
    /// Message 4 does not open, or its signature is wrong.
    #[error("the server could not prove that it holds the key that was dialed")]
    Acceptance,
}

/// What a completed handshake gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Who is at the other end: proven.
    pub remote: FeedId,
    /// For what we send.
    pub seal: BoxKey,
    /// For what we receive.
    pub open: BoxKey,
}

/// What both roles know from the start.
struct Own {
    network: NetworkKey,
    keypair: Keypair,
    ephemeral: StaticSecret,
    challenge: [u8; CHALLENGE],
}

/// What both roles know after the challenges.
struct Met {
    own: Own,
    /// The other side's authenticator; its start is the first nonce of what we send.
    remote_mac: [u8; 32],
    remote_ephemeral: PublicKey,
    secret: Zeroizing<[u8; 32]>,
}

impl Own {
    fn new(network: &NetworkKey, keypair: &Keypair, ephemeral: [u8; 32]) -> Self {
        let ephemeral = StaticSecret::from(ephemeral);
        let public = PublicKey::from(&ephemeral).to_bytes();
        let mut challenge = [0; CHALLENGE];
        challenge[..32].copy_from_slice(&authenticate(network, &public));
        challenge[32..].copy_from_slice(&public);
        Own { network: *network, keypair: keypair.clone(), ephemeral, challenge }
    }

    fn meet(self, challenge: &[u8; CHALLENGE]) -> Result<Met, HandshakeError> {
        let (mut remote_mac, mut ephemeral) = ([0; 32], [0; 32]);
        remote_mac.copy_from_slice(&challenge[..32]);
        ephemeral.copy_from_slice(&challenge[32..]);
        // In constant time.
        authenticator(&self.network, &ephemeral)
            .verify_truncated_left(&remote_mac)
            .map_err(|_| HandshakeError::Network)?;
        let remote_ephemeral = PublicKey::from(ephemeral);
        let secret = agree(&self.ephemeral, &remote_ephemeral, "ephemeral")?;
        Ok(Met { own: self, remote_mac, remote_ephemeral, secret })
    }
}

impl Met {
    /// What the client signs: it knows the server and this very link.
    fn client_text(&self, server: &FeedId) -> [u8; 96] {
        join(&[&self.own.network.0, server.as_bytes(), &sha256(&[&*self.secret])])
    }

    /// What the server signs: it has seen the proof.
    fn server_text(&self, hello: &[u8; HELLO]) -> [u8; 160] {
        join(&[&self.own.network.0, hello, &sha256(&[&*self.secret])])
    }

    fn proof_key(&self, client_to_server: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(sha256(&[&self.own.network.0, &*self.secret, client_to_server]))
    }

    fn acceptance_key(&self, client_to_server: &[u8; 32], server_to_client: &[u8; 32]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(sha256(&[&self.own.network.0, &*self.secret, client_to_server, server_to_client]))
    }

    fn outcome(&self, acceptance_key: &[u8; 32], remote: FeedId) -> Outcome {
        let secret = Zeroizing::new(sha256(&[acceptance_key]));
        let nonce = |mac: &[u8]| {
            let mut nonce = [0; 24];
            nonce.copy_from_slice(&mac[..24]);
            nonce
        };
        let seal = BoxKey { key: sha256(&[&*secret, remote.as_bytes()]), nonce: nonce(&self.remote_mac) };
        let open =
            BoxKey { key: sha256(&[&*secret, self.own.keypair.id().as_bytes()]), nonce: nonce(&self.own.challenge) };
        Outcome { remote, seal, open }
    }
}

/// The side that dials, having sent its challenge.
pub struct Client {
    own: Own,
    server: FeedId,
}

/// The client after its proof.
pub struct AwaitingAcceptance {
    met: Met,
    server: FeedId,
    hello: [u8; HELLO],
    client_to_server: Zeroizing<[u8; 32]>,
}

impl Client {
    /// Begins a handshake with `server`; the message is to be sent at once. `ephemeral` is 32 fresh random bytes.
    pub fn start(network: &NetworkKey, own: &Keypair, server: &FeedId, ephemeral: [u8; 32]) -> (Self, [u8; CHALLENGE]) {
        let own = Own::new(network, own, ephemeral);
        let challenge = own.challenge;
        (Client { own, server: *server }, challenge)
    }

    /// Takes the server's challenge and returns our proof.
    ///
    /// # Errors
    /// [`HandshakeError::Network`] and [`HandshakeError::Key`].
    pub fn challenged(self, challenge: &[u8; CHALLENGE]) -> Result<(AwaitingAcceptance, [u8; PROOF]), HandshakeError> {
        let met = self.own.meet(challenge)?;
        let client_to_server = agree(&met.own.ephemeral, &exchange_public(&self.server)?, "long-term")?;
        let mut hello = [0; HELLO];
        hello[..64].copy_from_slice(&met.own.keypair.sign(&met.client_text(&self.server)));
        hello[64..].copy_from_slice(met.own.keypair.id().as_bytes());
        let proof = seal_once(&met.proof_key(&client_to_server), &hello);
        Ok((AwaitingAcceptance { met, server: self.server, hello, client_to_server }, proof))
    }
}

impl AwaitingAcceptance {
    /// Takes the server's acceptance: the link stands.
    ///
    /// # Errors
    /// [`HandshakeError::Acceptance`] and [`HandshakeError::Key`].
    pub fn accepted(self, acceptance: &[u8; ACCEPTANCE]) -> Result<Outcome, HandshakeError> {
        let met = &self.met;
        let server_to_client = agree(&exchange_secret(&met.own.keypair), &met.remote_ephemeral, "ephemeral")?;
        let key = met.acceptance_key(&self.client_to_server, &server_to_client);
        let signature: [u8; 64] = open_once(&key, acceptance).ok_or(HandshakeError::Acceptance)?;
        if !verify(&self.server, &met.server_text(&self.hello), &signature) {
            return Err(HandshakeError::Acceptance);
        }
        Ok(met.outcome(&key, self.server))
    }
}

/// The side that was dialed, before it has heard anything.
pub struct Server {
    own: Own,
}

/// The server after the challenges.
pub struct AwaitingProof {
    met: Met,
}

/// The server knows who the client is, the client doesn't know yet whether it is welcome.
pub struct Proven {
    met: Met,
    client: FeedId,
    hello: [u8; HELLO],
    key: Zeroizing<[u8; 32]>,
}

impl Server {
    /// Waits for a client. `ephemeral` is 32 fresh random bytes.
    pub fn new(network: &NetworkKey, own: &Keypair, ephemeral: [u8; 32]) -> Self {
        Server { own: Own::new(network, own, ephemeral) }
    }

    /// Takes the client's challenge and returns ours.
    ///
    /// # Errors
    /// [`HandshakeError::Network`] and [`HandshakeError::Key`].
    pub fn challenged(self, challenge: &[u8; CHALLENGE]) -> Result<(AwaitingProof, [u8; CHALLENGE]), HandshakeError> {
        let answer = self.own.challenge;
        Ok((AwaitingProof { met: self.own.meet(challenge)? }, answer))
    }
}

impl AwaitingProof {
    /// Takes the client's proof.
    ///
    /// # Errors
    /// [`HandshakeError::Proof`] and [`HandshakeError::Key`].
    pub fn proven(self, proof: &[u8; PROOF]) -> Result<Proven, HandshakeError> {
        let met = self.met;
        let client_to_server = agree(&exchange_secret(&met.own.keypair), &met.remote_ephemeral, "ephemeral")?;
        let hello: [u8; HELLO] = open_once(&met.proof_key(&client_to_server), proof).ok_or(HandshakeError::Proof)?;
        let (mut signature, mut client) = ([0; 64], [0; 32]);
        signature.copy_from_slice(&hello[..64]);
        client.copy_from_slice(&hello[64..]);
        let client = FeedId(client);
        if !verify(&client, &met.client_text(&met.own.keypair.id()), &signature) {
            return Err(HandshakeError::Proof);
        }
        let server_to_client = agree(&met.own.ephemeral, &exchange_public(&client)?, "long-term")?;
        let key = met.acceptance_key(&client_to_server, &server_to_client);
        Ok(Proven { met, client, hello, key })
    }
}

impl Proven {
    /// Who wants in. To refuse, drop the connection.
    pub fn client(&self) -> FeedId {
        self.client
    }

    /// Lets the client in: the message is to be sent, and the link stands.
    pub fn accept(self) -> ([u8; ACCEPTANCE], Outcome) {
        let signature = self.met.own.keypair.sign(&self.met.server_text(&self.hello));
        (seal_once(&self.key, &signature), self.met.outcome(&self.key, self.client))
    }
}

/// libsodium's `crypto_auth` is the first half of this.
fn authenticator(network: &NetworkKey, text: &[u8; 32]) -> Hmac<Sha512> {
    let mut mac = Hmac::<Sha512>::new(&{
        // A key shorter than SHA-512's block of 128 bytes is filled up with zeros.
        let mut block = [0; 128];
        block[..32].copy_from_slice(&network.0);
        block.into()
    });
    mac.update(text);
    mac
}

/// libsodium's `crypto_auth`: the first half of HMAC-SHA-512.
fn authenticate(network: &NetworkKey, text: &[u8; 32]) -> [u8; 32] {
    let mut half = [0; 32];
    half.copy_from_slice(&authenticator(network, text).finalize().into_bytes()[..32]);
    half
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn join<const LENGTH: usize>(parts: &[&[u8]]) -> [u8; LENGTH] {
    let mut joined = [0; LENGTH];
    let mut at = 0;
    for part in parts {
        joined[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    joined
}

/// X25519, refusing the secret of zeros that keys of low order give.
fn agree(
    secret: &StaticSecret,
    public: &PublicKey,
    whose: &'static str,
) -> Result<Zeroizing<[u8; 32]>, HandshakeError> {
    let shared = secret.diffie_hellman(public);
    if !shared.was_contributory() {
        return Err(HandshakeError::Key(whose));
    }
    Ok(Zeroizing::new(shared.to_bytes()))
}

fn exchange_secret(keypair: &Keypair) -> StaticSecret {
    StaticSecret::from(*keypair.curve_secret())
}

fn exchange_public(id: &FeedId) -> Result<PublicKey, HandshakeError> {
    id.curve_public().map(PublicKey::from).ok_or(HandshakeError::Key("long-term"))
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
