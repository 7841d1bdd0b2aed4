//! Calls that are checked against the other side's manifest first.

use serde::Serialize;

use crate::codec::Body;
use crate::ends::{Sink, Source};
use crate::error::CallError;
use crate::manifest::Manifest;
use crate::peer::Peer;
use crate::registry::Kind;

/// A [`Peer`] with its manifest: a call of what it doesn't have fails here, with an error that says so.
#[derive(Clone)]
pub struct Client {
    peer: Peer,
    manifest: Manifest,
}

impl Client {
    /// Asks `peer` for its manifest.
    ///
    /// # Errors
    /// [`CallError`], as [`Peer::call`]; [`CallError::Method`] if what it answers is no manifest.
    pub async fn new(peer: Peer) -> Result<Client, CallError> {
        let body = peer.call("manifest", &[(); 0]).await?;
        let manifest = Manifest::parse(body.bytes())
            .map_err(|error| CallError::Method(format!("the other side's manifest can't be read: {error}")))?;
        Ok(Client::with_manifest(peer, manifest))
    }

    /// Takes `manifest` for that of `peer`.
    pub fn with_manifest(peer: Peer, manifest: Manifest) -> Client {
        Client { peer, manifest }
    }

    /// The other side's methods.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The other side, to call it unchecked.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    fn check(&self, method: &str, wanted: &[Kind]) -> Result<(), CallError> {
        match self.manifest.kind(method) {
            Some(kind) if wanted.contains(&kind) => Ok(()),
            Some(kind) => Err(CallError::Method(format!("{method} is of type {}", kind.name()))),
            None => Err(CallError::Method(format!("the other side has no method {method}"))),
        }
    }

    /// As [`Peer::call`].
    ///
    /// # Errors
    /// [`CallError::Method`] if the method isn't there, or neither sync nor async; else as [`Peer::call`].
    pub async fn call(&self, method: &str, args: &impl Serialize) -> Result<Body, CallError> {
        self.check(method, &[Kind::Async, Kind::Sync])?;
        self.peer.call(method, args).await
    }

    /// As [`Peer::source`].
    ///
    /// # Errors
    /// [`CallError::Method`] if the method isn't there, or no source; else as [`Peer::source`].
    pub async fn source(&self, method: &str, args: &impl Serialize) -> Result<Source, CallError> {
        self.check(method, &[Kind::Source])?;
        self.peer.source(method, args).await
    }

    /// As [`Peer::sink`].
    ///
    /// # Errors
    /// [`CallError::Method`] if the method isn't there, or no sink; else as [`Peer::sink`].
    pub async fn sink(&self, method: &str, args: &impl Serialize) -> Result<Sink, CallError> {
        self.check(method, &[Kind::Sink])?;
        self.peer.sink(method, args).await
    }

    /// As [`Peer::duplex`].
    ///
    /// # Errors
    /// [`CallError::Method`] if the method isn't there, or no duplex; else as [`Peer::duplex`].
    pub async fn duplex(&self, method: &str, args: &impl Serialize) -> Result<(Sink, Source), CallError> {
        self.check(method, &[Kind::Duplex])?;
        self.peer.duplex(method, args).await
    }
}
