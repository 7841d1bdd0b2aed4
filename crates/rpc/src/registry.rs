//! The methods that the other side may call: their names, types and handlers.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::codec::Body;
use crate::ends::{Inlet, Outlet};
use crate::error::RpcError;
use crate::manifest::Manifest;

/// A method's type, as manifests name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One answer, computed at once. Travels as [`Kind::Async`].
    Sync,
    /// One answer.
    Async,
    /// A stream to the caller.
    Source,
    /// A stream from the caller.
    Sink,
    /// Streams both ways.
    Duplex,
}

impl Kind {
    /// `sync`, `async`, `source`, `sink` or `duplex`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Sync => "sync",
            Kind::Async => "async",
            Kind::Source => "source",
            Kind::Sink => "sink",
            Kind::Duplex => "duplex",
        }
    }

    /// The type with this name.
    pub fn from_name(name: &str) -> Option<Kind> {
        [Kind::Sync, Kind::Async, Kind::Source, Kind::Sink, Kind::Duplex].into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is called as a stream.
    pub fn is_stream(self) -> bool {
        !matches!(self, Kind::Sync | Kind::Async)
    }
}

/// One call of a method.
#[derive(Debug, Clone)]
pub struct Call<C> {
    /// Who calls.
    pub caller: C,
    /// The method's name, dots between its parts.
    pub method: Arc<str>,
    /// The arguments: a JSON array, as it came.
    pub args: Bytes,
}

impl<C> Call<C> {
    /// The arguments as a tuple or array; missing ones at the end are `None` in an `Option`.
    ///
    /// # Errors
    /// An error that names the method and what serde found wrong.
    pub fn args<T: DeserializeOwned>(&self) -> Result<T, RpcError> {
        serde_json::from_slice(&self.args)
            .map_err(|error| RpcError::new(format!("{}: wrong arguments: {error}", self.method)))
    }

    /// The argument at `index` from 0; `None` if it isn't there or is null.
    ///
    /// # Errors
    /// An error that names the method, the argument and what is wrong with it.
    pub fn arg<T: DeserializeOwned>(&self, index: usize) -> Result<Option<T>, RpcError> {
        let all: Vec<&RawValue> = serde_json::from_slice(&self.args)
            .map_err(|error| RpcError::new(format!("{}: wrong arguments: {error}", self.method)))?;
        let Some(raw) = all.get(index) else { return Ok(None) };
        serde_json::from_str(raw.get())
            .map_err(|error| RpcError::new(format!("{}: wrong argument {}: {error}", self.method, index + 1)))
    }
}

pub(crate) type Work<T> = Pin<Box<dyn Future<Output = Result<T, RpcError>> + Send>>;
type AsyncHandler<C> = Arc<dyn Fn(Call<C>) -> Work<Body> + Send + Sync>;
type SourceHandler<C> = Arc<dyn Fn(Call<C>, Outlet) -> Work<()> + Send + Sync>;
type SinkHandler<C> = Arc<dyn Fn(Call<C>, Inlet) -> Work<()> + Send + Sync>;
type DuplexHandler<C> = Arc<dyn Fn(Call<C>, Inlet, Outlet) -> Work<()> + Send + Sync>;
type Authorise<C> = Box<dyn Fn(&C, &str, Kind) -> Result<(), String> + Send + Sync>;

pub(crate) enum Handler<C> {
    Async(AsyncHandler<C>),
    Source(SourceHandler<C>),
    Sink(SinkHandler<C>),
    Duplex(DuplexHandler<C>),
}

impl<C> Clone for Handler<C> {
    fn clone(&self) -> Self {
        match self {
            Handler::Async(handler) => Handler::Async(Arc::clone(handler)),
            Handler::Source(handler) => Handler::Source(Arc::clone(handler)),
            Handler::Sink(handler) => Handler::Sink(Arc::clone(handler)),
            Handler::Duplex(handler) => Handler::Duplex(Arc::clone(handler)),
        }
    }
}

pub(crate) struct Method<C> {
    pub(crate) kind: Kind,
    pub(crate) name: Arc<str>,
    pub(crate) handler: Handler<C>,
}

/// The methods of one side, for callers described by `C`.
pub struct Registry<C> {
    methods: HashMap<Arc<str>, Method<C>>,
    order: Vec<Arc<str>>,
    authorise: Option<Authorise<C>>,
}

impl<C> Default for Registry<C> {
    fn default() -> Self {
        Registry { methods: HashMap::new(), order: Vec::new(), authorise: None }
    }
}

impl<C> Registry<C> {
    /// Nothing to call yet, and nobody refused.
    pub fn new() -> Registry<C> {
        Registry::default()
    }

    /// Asks `authorise` before every call, those of unknown methods too. Its `Err` is the message of the refusal.
    pub fn authorise(
        mut self,
        authorise: impl Fn(&C, &str, Kind) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.authorise = Some(Box::new(authorise));
        self
    }

    fn add(mut self, name: &str, kind: Kind, handler: Handler<C>) -> Self {
        let name: Arc<str> = name.into();
        let method = Method { kind, name: Arc::clone(&name), handler };
        if self.methods.insert(Arc::clone(&name), method).is_none() {
            self.order.push(name);
        }
        self
    }

    /// A method with one answer, which the manifest calls `sync`.
    pub fn sync<F>(self, name: &str, handler: impl Fn(Call<C>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Body, RpcError>> + Send + 'static,
    {
        self.add(name, Kind::Sync, Handler::Async(Arc::new(move |call| Box::pin(handler(call)))))
    }

    /// A method with one answer.
    pub fn asynchronous<F>(self, name: &str, handler: impl Fn(Call<C>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Body, RpcError>> + Send + 'static,
    {
        self.add(name, Kind::Async, Handler::Async(Arc::new(move |call| Box::pin(handler(call)))))
    }

    /// A method that streams to the caller. The stream ends when the handler returns; the handler is dropped when the
    /// caller wants no more.
    pub fn source<F>(self, name: &str, handler: impl Fn(Call<C>, Outlet) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), RpcError>> + Send + 'static,
    {
        self.add(name, Kind::Source, Handler::Source(Arc::new(move |call, outlet| Box::pin(handler(call, outlet)))))
    }

    /// A method that takes a stream from the caller. When the handler returns, the caller is told to stop.
    pub fn sink<F>(self, name: &str, handler: impl Fn(Call<C>, Inlet) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), RpcError>> + Send + 'static,
    {
        self.add(name, Kind::Sink, Handler::Sink(Arc::new(move |call, inlet| Box::pin(handler(call, inlet)))))
    }

    /// A method with streams both ways. Our side ends when the handler returns. A caller that ends its side well (the
    /// [`Inlet`] tells) may still listen; one that ended with an error doesn't. The reference doesn't listen any more once
    /// it has ended: a handler with nothing left to say should return.
    pub fn duplex<F>(self, name: &str, handler: impl Fn(Call<C>, Inlet, Outlet) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), RpcError>> + Send + 'static,
    {
        let handler: DuplexHandler<C> = Arc::new(move |call, inlet, outlet| Box::pin(handler(call, inlet, outlet)));
        self.add(name, Kind::Duplex, Handler::Duplex(handler))
    }

    /// All methods with their types, in the order in which they were added.
    pub fn methods(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.order.iter().filter_map(|name| self.methods.get(name).map(|method| (&*method.name, method.kind)))
    }

    /// The manifest as JSON: names with their types, namespaces as objects, in the order in which they were added.
    pub fn manifest(&self) -> String {
        Manifest::new(self.methods().map(|(name, kind)| (name.to_owned(), kind))).to_json()
    }

    /// Finds what a request's body asks for, and asks whether the caller may.
    pub(crate) fn look_up(&self, caller: C, body: &Body, stream: bool) -> Result<(&Method<C>, Call<C>), RpcError> {
        let Body::Json(json) = body else {
            return Err(RpcError::new("a request must be JSON: {\"name\":[…],\"args\":[…],\"type\":…}"));
        };
        let request: Request<'_> =
            serde_json::from_slice(json).map_err(|error| RpcError::new(format!("invalid request: {error}")))?;
        let name = match request.name {
            Name::One(name) => name,
            Name::Path(path) => path.join("."),
        };
        // Lone requests are all async, whatever they say (muxrpc `stream.js`).
        let kind = match request.kind.as_deref() {
            _ if !stream => Kind::Async,
            Some(kind) => Kind::from_name(kind)
                .filter(|kind| kind.is_stream())
                .ok_or_else(|| RpcError::new(format!("unsupported stream type: {}", shown(kind))))?,
            None => return Err(RpcError::new("unsupported stream type: undefined")),
        };
        let args = match request.args {
            Some(args) if args.get().starts_with('[') => json.slice_ref(args.get().as_bytes()),
            None => Bytes::from_static(b"[]"),
            Some(_) => {
                let request = shown(&String::from_utf8_lossy(json.get(..json.len().min(SHOWN)).unwrap_or_default()));
                return Err(RpcError::new(format!("invalid request, args should be array, was: {request}")));
            }
        };
        let method = self.methods.get(name.as_str());
        if let Some(authorise) = &self.authorise {
            authorise(&caller, &name, method.map_or(kind, |method| method.kind)).map_err(RpcError::new)?;
        }
        let method = method
            .filter(|method| method.kind == kind || (method.kind == Kind::Sync && kind == Kind::Async))
            .ok_or_else(|| RpcError::new(format!("no {}:{}", kind.name(), shown(&name.replace('.', ",")))))?;
        Ok((method, Call { caller, method: Arc::clone(&method.name), args }))
    }
}

/// Most characters of a peer's text that go into an error or a line of the log.
const SHOWN: usize = 200;

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

#[derive(Deserialize)]
struct Request<'a> {
    name: Name,
    #[serde(borrow, default)]
    args: Option<&'a RawValue>,
    #[serde(rename = "type", default)]
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Path(Vec<String>),
    One(String),
}
