//! A hub's HTTP and HTTPS, as far as a peer needs it.
//!
//! What isn't a hub is told from one clearly: redirects are not followed, proxies of the environment not used.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, LOCATION, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use sbot_multiserver::HubAddress;
use tokio::time::timeout;

/// Most bytes that an answer's head may have, and that are read at once.
const MOST_HELD: usize = 64 * 1024;
/// Most bytes of an answer to a message, of which nothing is expected.
const MOST_OF_ANSWER: usize = 4 * 1024;
/// Connections that wait to be used again: messages go one after the other.
const IDLE: usize = 1;
/// How long such a connection waits. Hubs close them sooner or later.
const IDLE_TIME: Duration = Duration::from_secs(10);
/// Most characters that are shown of what a hub says.
const SHOWN: usize = 120;

/// Why a hub can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// It can't be reached, or the connection broke.
    #[error("{0}")]
    Connection(String),
    /// It doesn't answer.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// It sends us elsewhere.
    #[error("it redirects to {0:?}: redirects are not followed, give the hub's own address")]
    Redirect(String),
    /// It refuses, or is no hub.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// It is no hub.
    #[error("it is no signalling hub: it answers with {0:?} in place of a stream of events")]
    ContentType(String),
    /// The certificates by which hubs are proven can't be read.
    #[error("https can't be used: {0}")]
    Certificates(String),
}

/// What speaks with one hub.
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    patience: Duration,
}

impl Http {
    /// For this hub. `roots` are certificate authorities beside those of the system. Each answer, and each connection
    /// before it, must come within `patience`.
    ///
    /// # Errors
    /// [`HubError::Certificates`]
    pub(crate) async fn new(
        hub: &HubAddress,
        roots: &[CertificateDer<'static>],
        patience: Duration,
    ) -> Result<Http, HubError> {
        let (secure, roots) = (hub.secure(), roots.to_vec());
        // The system's certificates are read from files.
        let config = tokio::task::spawn_blocking(move || tls(secure, roots)).await;
        let config = config.map_err(|error| HubError::Certificates(error.to_string()))??;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(patience));
        connector.set_keepalive(Some(Duration::from_secs(60)));
        let https = HttpsConnectorBuilder::new().with_tls_config(config);
        let https = if hub.secure() { https.https_only() } else { https.https_or_http() };
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(IDLE_TIME)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(MOST_HELD)
            .build(https.enable_http1().wrap_connector(connector));
        Ok(Http { client, base: hub.to_string(), patience })
    }

    /// Listens at `path`: the body is a stream of events.
    pub(crate) async fn listen(&self, path: &str) -> Result<Incoming, HubError> {
        let request = self.request(Method::GET, path).header(ACCEPT, "text/event-stream").body(Full::default());
        let answer = self.ask(request).await?;
        let kind = header(answer.headers(), CONTENT_TYPE);
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("text/event-stream") {
            return Err(HubError::ContentType(kind));
        }
        Ok(answer.into_body())
    }

    /// Publishes a message at `path`.
    pub(crate) async fn publish(&self, path: &str, message: String) -> Result<(), HubError> {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/json");
        let answer = self.ask(request.body(Full::from(message))).await?;
        // Read to its end, the connection can be used again; it is no matter what it says.
        let _ = timeout(self.patience, Limited::new(answer.into_body(), MOST_OF_ANSWER).collect()).await;
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        Request::builder().method(method).uri(format!("{}{path}", self.base)).header(USER_AGENT, "sbot")
    }

    async fn ask(&self, request: hyper::http::Result<Request<Full<Bytes>>>) -> Result<Response<Incoming>, HubError> {
        let request = request.map_err(|error| HubError::Connection(error.to_string()))?;
        let asked = timeout(self.patience, self.client.request(request)).await;
        let answer = asked.map_err(|_| HubError::TimedOut(self.patience))?;
        let answer = answer.map_err(|error| HubError::Connection(with_causes(&error)))?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(HubError::Redirect(header(answer.headers(), LOCATION)));
        }
        if status != StatusCode::OK {
            return Err(HubError::Status(status));
        }
        Ok(answer)
    }
}

fn tls(secure: bool, roots: Vec<CertificateDer<'static>>) -> Result<ClientConfig, HubError> {
    let failed = |error: &dyn Error| HubError::Certificates(error.to_string());
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(|error| failed(&error))?;
    }
    if secure {
        let system = rustls_native_certs::load_native_certs();
        store.add_parsable_certificates(system.certs);
        if store.is_empty() {
            let why = system.errors.first().map_or_else(|| "there are none".into(), ToString::to_string);
            let why = format!("this system's certificates of authorities are missing (package ca-certificates): {why}");
            return Err(HubError::Certificates(why));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| failed(&error))?;
    Ok(config.with_root_certificates(store).with_no_client_auth())
}

/// A header for people: what a hub says may be anything.
fn header(headers: &HeaderMap, name: hyper::header::HeaderName) -> String {
    let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    value.unwrap_or_default().chars().take(SHOWN).collect()
}

/// An error and its causes: hyper's own texts say little.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
