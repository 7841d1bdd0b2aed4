//! The hub's socket: hyper around what is decided elsewhere.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use crate::board::{Board, Next, Subscription};
use crate::counts::Counts;
use crate::gate::Gate;
use crate::limits::{Limits, Settings, counted_as};
use crate::request::{Refused, Request, read};

/// Bytes that hyper may hold of a connection, each way: a request's head has to fit in, and what a subscriber is sent
/// waits where it is counted.
const HELD: usize = 16 * 1024;
/// Lines of a request's head.
const MOST_HEADERS: usize = 64;
/// Pause after the system could not accept (no file descriptors left): others may end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for what is under way when the hub stops.
const FAREWELL: Duration = Duration::from_secs(2);
/// Seconds after which who was refused may try again.
const RETRY: HeaderValue = HeaderValue::from_static("10");

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Tells nginx not to hold back what is streamed (as signalhub does).
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

type Answer = Response<Either<Full<Bytes>, Events>>;

/// A hub that listens.
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// Reads a hub's numbers while it runs, and afterwards.
#[derive(Clone)]
pub struct Watch(Arc<Shared>);

struct Shared {
    settings: Settings,
    began: Instant,
    state: Mutex<State>,
    stopping: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    board: Board,
    gate: Gate,
    counts: Counts,
}

impl Server {
    /// Listens at the first of these addresses that works. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// None does.
    pub async fn bind(addresses: impl ToSocketAddrs, settings: Settings) -> io::Result<Server> {
        let listener = TcpListener::bind(addresses).await?;
        let (began, stopping) = (Instant::now(), watch::Sender::new(false));
        let shared = Shared { settings, began, state: Mutex::default(), stopping };
        Ok(Server { listener, shared: Arc::new(shared) })
    }

    /// Where it listens, with the port that the system chose.
    ///
    /// # Errors
    /// The system doesn't say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Its numbers.
    pub fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.shared))
    }

    /// Serves until `stop`. Then all streams end, requests under way have two seconds, and nothing is left open.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Server { listener, shared } = self;
        let mut stop = pin!(stop);
        let mut connections = JoinSet::new();
        let every = shared.settings.limits.heartbeat;
        let mut heartbeats = interval_at(Instant::now() + every, every);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                _ = heartbeats.tick() => shared.state.lock().board.heartbeat(&shared.settings.limits),
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        if let Some(place) = Place::take(&shared, from.ip()) {
                            connections.spawn(serve(stream, place));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "can't accept connections");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        shared.state.lock().board.close();
        shared.stopping.send_replace(true);
        // Who doesn't take it in time is left.
        let _ = timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await;
        connections.shutdown().await;
    }
}

impl Watch {
    /// What the hub is doing and has done.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }
}

impl Shared {
    fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    fn now(&self) -> u64 {
        // For half a million years.
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn counts(&self) -> Counts {
        let state = self.state.lock();
        let State { board, gate, counts } = &*state;
        Counts {
            connections: gate.connected(),
            subscribers: board.subscribers(),
            subscriptions: board.subscriptions(),
            channels: board.channels(),
            waiting: board.waiting(),
            slow: board.slow(),
            ..*counts
        }
    }

    /// Who asks: the other end, or whoever our proxy says.
    fn asker(&self, remote: IpAddr, headers: &HeaderMap) -> IpAddr {
        let named = || {
            // The proxy itself has added the last one; those before it are anybody's claims.
            let last = headers.get_all(FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
            last.rsplit(',').next()?.trim().parse().ok()
        };
        let by_proxy = self.settings.proxies.contains(&remote);
        counted_as(by_proxy.then(named).flatten().unwrap_or(remote))
    }
}

/// A connection's place among all, given back when it ends.
struct Place {
    shared: Arc<Shared>,
    remote: IpAddr,
}

impl Place {
    fn take(shared: &Arc<Shared>, remote: IpAddr) -> Option<Place> {
        let remote = remote.to_canonical();
        let exempt = shared.settings.proxies.contains(&remote);
        let mut state = shared.state.lock();
        if state.gate.connect(counted_as(remote), exempt, shared.limits()) {
            return Some(Place { shared: Arc::clone(shared), remote });
        }
        state.counts.refused_connections += 1;
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.state.lock().gate.disconnect(counted_as(self.remote));
    }
}

/// Serves one connection until it ends or is to be broken off.
async fn serve(stream: TcpStream, place: Place) {
    tune(&stream);
    let shared = &place.shared;
    let break_off = Arc::new(Notify::new());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (shared, break_off, remote) = (Arc::clone(shared), Arc::clone(&break_off), place.remote);
        async move { Ok::<_, Infallible>(answer(&shared, request, remote, break_off).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(shared.limits().patience)
            .max_buf_size(HELD)
            .max_headers(MOST_HEADERS)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut stopping = shared.stopping.subscribe();
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = break_off.notified() => return,
        // The value itself would hold a lock.
        () = async { drop(stopping.wait_for(|stopping| *stopping).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(from = %place.remote, %error, "a connection broke");
    }
}

/// Small messages go at once; who has gone without a word is noticed within two heartbeats, where the system can do that.
fn tune(stream: &TcpStream) {
    // A connection without works too.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(Duration::from_secs(60)));
}

async fn answer(
    shared: &Arc<Shared>,
    request: hyper::Request<Incoming>,
    remote: IpAddr,
    break_off: Arc<Notify>,
) -> Answer {
    let from = shared.asker(remote, request.headers());
    let mut answer = match decide(shared, request, from, break_off).await {
        Ok(answer) => answer,
        Err(refused) => {
            count(&mut shared.state.lock().counts, refused);
            tracing::debug!(%from, status = refused.status().as_u16(), "refused: {}", refused.text().trim_end());
            let mut answer = text("text/plain; charset=utf-8", refused.text().into());
            *answer.status_mut() = refused.status();
            if matches!(refused, Refused::Busy | Refused::Crowded | Refused::Full) {
                answer.headers_mut().insert(RETRY_AFTER, RETRY);
            }
            if matches!(refused, Refused::LongMessage | Refused::Incomplete) {
                // What is left of the message isn't read.
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        }
    };
    // Pages of every origin may ask, as in signalhub.
    let headers = answer.headers_mut();
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "X-Requested-With, X-HTTP-Method-Override, Content-Type, Accept, Authorization"),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn count(counts: &mut Counts, refused: Refused) {
    let counter = match refused {
        Refused::Busy => &mut counts.refused_requests,
        Refused::Crowded | Refused::Full | Refused::ManyChannels => &mut counts.refused_subscriptions,
        Refused::LongMessage | Refused::Incomplete => &mut counts.refused_messages,
        Refused::NotFound | Refused::LongName => return,
    };
    *counter += 1;
}

async fn decide(
    shared: &Arc<Shared>,
    request: hyper::Request<Incoming>,
    from: IpAddr,
    break_off: Arc<Notify>,
) -> Result<Answer, Refused> {
    let limits = shared.limits();
    shared.state.lock().gate.ask(from, shared.now(), limits)?;
    match read(request.method(), request.uri().path(), limits)? {
        Request::Root => {
            let subscriptions = shared.counts().subscriptions;
            let version = env!("CARGO_PKG_VERSION");
            let root = format!(
                "{{\n  \"name\": \"sbot-hub\",\n  \"version\": \"{version}\",\n  \"subscribers\": {subscriptions}\n}}\n"
            );
            Ok(text("application/json; charset=utf-8", root))
        }
        Request::Metrics if shared.settings.hide_metrics => Err(Refused::NotFound),
        Request::Metrics => Ok(text("text/plain; version=0.0.4; charset=utf-8", shared.counts().text())),
        Request::Preflight => Ok(Response::new(Either::Left(Full::default()))),
        Request::Subscribe(channels) => {
            let mut state = shared.state.lock();
            state.gate.subscribe(from, limits)?;
            let subscription = state.board.subscribe(channels, break_off);
            drop(state);
            let events = Events { shared: Arc::clone(shared), from, subscription };
            let mut answer = typed("text/event-stream; charset=utf-8", Either::Right(events));
            answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            answer.headers_mut().insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
            Ok(answer)
        }
        Request::Publish(channel) => {
            let body = Limited::new(request.into_body(), limits.body).collect();
            let read = timeout(limits.patience, body).await.map_err(|_| Refused::Incomplete);
            let message = match read? {
                Ok(body) => body.to_bytes(),
                Err(error) if error.is::<LengthLimitError>() => {
                    shared.state.lock().gate.sent(from, limits.body, shared.now(), limits);
                    return Err(Refused::LongMessage);
                }
                Err(_) => return Err(Refused::Incomplete),
            };
            let mut state = shared.state.lock();
            state.gate.sent(from, message.len(), shared.now(), limits);
            let deliveries = state.board.publish(&channel, &message, limits);
            state.counts.messages += 1;
            state.counts.bytes += message.len() as u64;
            state.counts.deliveries += deliveries as u64;
            Ok(Response::new(Either::Left(Full::default())))
        }
    }
}

fn text(kind: &'static str, text: String) -> Answer {
    typed(kind, Either::Left(Full::from(text)))
}

fn typed(kind: &'static str, body: Either<Full<Bytes>, Events>) -> Answer {
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// What a subscriber is sent, until one of both ends it.
struct Events {
    shared: Arc<Shared>,
    from: IpAddr,
    subscription: Subscription,
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.shared.state.lock().board.take(self.subscription, cx.waker()) {
            Next::Event(event) => Poll::Ready(Some(Ok(Frame::data(event)))),
            Next::Wait => Poll::Pending,
            Next::Ended => Poll::Ready(None),
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.board.unsubscribe(self.subscription);
        state.gate.unsubscribe(self.from);
    }
}
