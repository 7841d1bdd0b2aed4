//! A command's connection to the running server.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use sbot_feed::Keypair;
use sbot_multiserver::{Address, AddressError, DialError, DialSettings, Dialer, Route};
use sbot_rpc::{Body, CallError, Limits, Peer, Registry, Session};

use super::arguments::Arg;
use super::failure::{Code, Failure};
use super::output::Output;
use crate::config::{Config, Loaded, secret};

/// The runtime of a command: it does one thing at a time.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// A running server.
pub(super) struct Client {
    peer: Peer,
}

/// Why dialing didn't work.
enum Tried {
    /// Nobody is there.
    Nobody(DialError),
    /// Somebody is there, and doesn't shake hands.
    Stranger(DialError),
    /// It can't work.
    Failed(Failure),
}

impl From<DialError> for Tried {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Connect { .. } | DialError::TimedOut { what: "connection", .. } | DialError::All(_) => {
                Self::Nobody(error)
            }
            DialError::TimedOut { .. } | DialError::Handshake { .. } => Self::Stranger(error),
            DialError::Unknown { .. } | DialError::NoKey { .. } => {
                Self::Failed(Failure::from_error(Code::Usage, error))
            }
        }
    }
}

impl Client {
    /// Connects to the server that the settings mean: the one at `remote`, else the one on the data directory's socket,
    /// else the one on our TCP port, if it has our key.
    pub(super) async fn connect(loaded: &Loaded) -> Result<Self, Failure> {
        let config = &loaded.config;
        if let Some(remote) = &loaded.remote {
            let address: Address = remote
                .parse()
                .map_err(|error: AddressError| Failure::from_error(Code::Usage, error).context("--remote"))?;
            return match Self::dial(config, &address).await {
                Ok(client) => Ok(client),
                Err(Tried::Nobody(error)) => Err(Failure::from_error(Code::NoServer, error)),
                Err(Tried::Stranger(error)) => Err(Failure::from_error(Code::Failed, error)),
                Err(Tried::Failed(failure)) => Err(failure),
            };
        }
        let socket = config.socket_path();
        let at_socket = match Self::open_socket(&socket).await? {
            Ok(client) => return Ok(client),
            Err(why) => why,
        };
        let mut tried = format!("{} ({at_socket})", socket.display());
        if let Some((place, address)) = own_address(config)? {
            let why = match Self::dial(config, &address).await {
                Ok(client) => return Ok(client),
                Err(Tried::Failed(failure)) => return Err(failure),
                Err(Tried::Nobody(_)) => "nobody answers",
                Err(Tried::Stranger(_)) => "what answers there has another key or network",
            };
            tried.push_str(&format!(" and {place} ({why})"));
        }
        let failure =
            Failure::new(Code::NoServer, format!("no server is running for {}: tried {tried}", config.path.display()));
        Err(failure.hint(format!("start one with: sbot server --path {}", config.path.display())))
    }

    /// The inner error says why there is no server.
    async fn open_socket(path: &Path) -> Result<Result<Self, &'static str>, Failure> {
        match tokio::net::UnixStream::connect(path).await {
            Ok(stream) => {
                let (read, write) = stream.into_split();
                Ok(Ok(Self::over(Box::new(read), Box::new(write))))
            }
            Err(error) => match error.kind() {
                ErrorKind::NotFound => Ok(Err("there is no socket")),
                ErrorKind::ConnectionRefused => Ok(Err("nobody listens on it")),
                kind => {
                    let code = if kind == ErrorKind::PermissionDenied { Code::Refused } else { Code::Failed };
                    Err(Failure::from_error(code, error).context(format!("can't open {}", path.display())))
                }
            },
        }
    }

    /// Dials a multiserver address with our own key.
    async fn dial(config: &Config, address: &Address) -> Result<Self, Tried> {
        let keypair = own_keypair(config).map_err(Tried::Failed)?;
        let settings = DialSettings { handshake_timeout: config.timers.handshake, ..DialSettings::default() };
        match Dialer::new(config.caps.shs, keypair, settings).dial(address).await {
            Ok(connection) => Ok(Self::over(connection.read, connection.write)),
            Err(error) => Err(Tried::from(error)),
        }
    }

    fn over(
        read: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
        write: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
    ) -> Self {
        // A command offers nothing that the server could call.
        let registry = Arc::new(Registry::<()>::new());
        Self { peer: Session::spawn(read, write, registry, (), Limits::default()) }
    }

    /// The server's feed id.
    pub(super) async fn server_id(&self) -> Result<String, Failure> {
        let body = self.call("whoami", &[]).await?;
        let answer: serde_json::Value = serde_json::from_str(&super::output::json_of(&body)).unwrap_or_default();
        let id = answer.get("id").and_then(serde_json::Value::as_str);
        id.map(str::to_owned).ok_or_else(|| Failure::new(Code::Failed, "the server doesn't say who it is"))
    }

    pub(super) async fn call(&self, method: &str, arguments: &[Arg]) -> Result<Body, Failure> {
        self.peer.call(method, &arguments).await.map_err(|error| failure(method, error))
    }

    pub(super) async fn source(&self, method: &str, arguments: &[Arg]) -> Result<Source, Failure> {
        let inner = self.peer.source(method, &arguments).await.map_err(|error| failure(method, error))?;
        Ok(Source { inner, method: method.to_owned() })
    }

    pub(super) async fn sink(&self, method: &str, arguments: &[Arg]) -> Result<Sink, Failure> {
        let inner = self.peer.sink(method, &arguments).await.map_err(|error| failure(method, error))?;
        Ok(Sink { inner, method: method.to_owned(), of_duplex: false })
    }

    pub(super) async fn duplex(&self, method: &str, arguments: &[Arg]) -> Result<(Sink, Source), Failure> {
        let (sink, source) = self.peer.duplex(method, &arguments).await.map_err(|error| failure(method, error))?;
        let method = method.to_owned();
        Ok((Sink { inner: sink, method: method.clone(), of_duplex: true }, Source { inner: source, method }))
    }
}

/// Our own server's TCP address, without and with its key, if there is a key to dial it with.
fn own_address(config: &Config) -> Result<Option<(String, Address)>, Failure> {
    let Some(net) = config.connections.net.first() else { return Ok(None) };
    let keypair = match own_keypair(config) {
        Ok(keypair) => keypair,
        // Without a key there never was a server here.
        Err(_) if !config.secret_path().exists() => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let host = match net.host.as_deref() {
        None | Some("::" | "0.0.0.0" | "") => "localhost",
        Some(host) => host,
    };
    let address = Address::new(vec![Route::net(host, net.port, &keypair.id())]);
    Ok(address.map(|address| (format!("{host}:{}", net.port), address)))
}

fn own_keypair(config: &Config) -> Result<Keypair, Failure> {
    match &config.keypair {
        Some(keypair) => Ok(keypair.clone()),
        None => Ok(secret::load(&config.secret_path())?),
    }
}

/// What the server said about a call that failed.
fn failure(method: &str, error: CallError) -> Failure {
    let text = error.to_string();
    // Ours and ssb-server's wording (muxrpc `permissions.js`).
    let refused = ["is not in list of allowed methods", "is on list of disallowed methods"];
    let refused = refused.iter().any(|words| text.contains(words));
    Failure::from_error(if refused { Code::Refused } else { Code::Failed }, error).context(method.to_owned())
}

/// What a method sends.
pub(super) struct Source {
    inner: sbot_rpc::Source,
    method: String,
}

impl Source {
    /// The next item; `None` at the end.
    pub(super) async fn recv(&mut self) -> Result<Option<Body>, Failure> {
        match self.inner.recv().await {
            Some(Ok(body)) => Ok(Some(body)),
            Some(Err(error)) => Err(failure(&self.method, error)),
            None => Ok(None),
        }
    }

    /// The next item. What was printed before is flushed if it isn't there yet.
    pub(super) async fn next(&mut self, output: &mut Output) -> Result<Option<Body>, Failure> {
        if let Some(item) = self.recv().now_or_never() {
            return item;
        }
        output.flush()?;
        self.recv().await
    }
}

/// What a method takes.
pub(super) struct Sink {
    inner: sbot_rpc::Sink,
    method: String,
    /// Its [`Source`] tells how it ends.
    of_duplex: bool,
}

impl Sink {
    /// Sends an item. If that fails, [`Sink::finish`] knows more.
    pub(super) async fn send(&mut self, body: Body) -> Result<(), Failure> {
        self.inner.send(body).await.map_err(|error| failure(&self.method, error))
    }

    /// Ends the stream and, unless a source does it, waits until the server has ended it too.
    ///
    /// # Errors
    /// The server's error.
    pub(super) async fn finish(self) -> Result<(), Failure> {
        let Self { inner, method, of_duplex } = self;
        if of_duplex {
            drop(inner);
            return Ok(());
        }
        inner.end().await.map_err(|error| failure(&method, error))
    }
}
