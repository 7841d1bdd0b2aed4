//! An EBT stream's two ends, whichever side called.

use sbot_rpc::{Body, CallError, Inlet, Outlet, Sink, Source};

/// Where the other side's items come in.
pub(crate) enum Incoming {
    /// The other side called.
    Served(Inlet),
    /// We called.
    Called(Source),
}

impl Incoming {
    pub(crate) async fn recv_many(&mut self, out: &mut Vec<Body>) -> Result<usize, CallError> {
        match self {
            Incoming::Served(inlet) => inlet.recv_many(out).await,
            Incoming::Called(source) => source.recv_many(out).await,
        }
    }
}

/// Where ours go out.
pub(crate) enum Outgoing {
    Served(Outlet),
    Called(Sink),
}

impl Outgoing {
    pub(crate) async fn send(&mut self, body: Body) -> Result<(), CallError> {
        match self {
            Outgoing::Served(outlet) => outlet.send(body).await,
            Outgoing::Called(sink) => sink.send(body).await,
        }
    }

    pub(crate) async fn send_many(&mut self, bodies: Vec<Body>) -> Result<(), CallError> {
        match self {
            Outgoing::Served(outlet) => outlet.send_many(bodies).await,
            Outgoing::Called(sink) => sink.send_many(bodies).await,
        }
    }
}
