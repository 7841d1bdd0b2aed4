//! A hub over real sockets, asked in raw HTTP.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sbot_hub::{Counts, Limits, Server, Settings, Watch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longest wait for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

struct Hub {
    address: SocketAddr,
    watch: Watch,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Hub {
    async fn start(settings: Settings) -> Hub {
        let server = Server::bind("127.0.0.1:0", settings).await.unwrap();
        let (address, watch) = (server.address().unwrap(), server.watch());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async { drop(stopped.await) }));
        Hub { address, watch, stop, running }
    }

    async fn with(limits: Limits) -> Hub {
        Hub::start(Settings { limits, ..Settings::default() }).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect_from(&self, ip: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((IpAddr::from(ip), 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// Everything that is answered until the connection ends.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        rest_of(&mut stream).await
    }

    async fn get(&self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n")).await
    }

    async fn post(&self, path: &str, body: &str) -> String {
        self.ask(&post(path, body)).await
    }

    async fn subscribe(&self, path: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(get(path).as_bytes()).await.unwrap();
        let head = until(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        stream
    }

    async fn until_counts(&self, what: &str, done: impl Fn(Counts) -> bool) {
        let waiting = async {
            while !done(self.watch.counts()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(timeout(PATIENCE, waiting).await.is_ok(), "{what}: {:?}", self.watch.counts());
    }

    async fn stop(self) -> Counts {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.running).await.expect("it doesn't stop").unwrap();
        self.watch.counts()
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: hub\r\n\r\n")
}

fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// Reads until `end` has come; nothing may come after it.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let reading = async {
        while !all.ends_with(end.as_bytes()) {
            let mut byte = [0];
            assert_ne!(stream.read(&mut byte).await.unwrap(), 0, "ended: {}", String::from_utf8_lossy(&all));
            all.push(byte[0]);
        }
    };
    let come = timeout(PATIENCE, reading).await;
    assert!(come.is_ok(), "{end:?} doesn't come, only {:?}", String::from_utf8_lossy(&all));
    String::from_utf8(all).unwrap()
}

async fn rest_of(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("the connection doesn't end");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn it_answers_as_signalhub_does() {
    let hub = Hub::start(Settings::default()).await;
    let _one = hub.subscribe("/v1/app/a,b").await;
    let root = hub.get("/").await;
    let json: serde_json::Value = serde_json::from_str(root.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!((&json["name"], &json["subscribers"]), (&"sbot-hub".into(), &2.into()));
    assert!(
        root.contains("content-type: application/json") && root.contains("access-control-allow-origin: *"),
        "{root}"
    );
    assert!(hub.get("/v2/x").await.starts_with("HTTP/1.1 404 "));
    let preflight = hub.ask("OPTIONS /v1/app/a HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n").await;
    assert!(preflight.starts_with("HTTP/1.1 200 ") && preflight.contains("access-control-allow-methods: GET, POST"));
    assert!(hub.get("/metrics").await.contains("\nsbot_hub_subscriptions 2\n"));
    hub.stop().await;
}

#[tokio::test]
async fn a_message_goes_to_all_subscribers_of_its_channel_and_to_none_is_no_error() {
    let hub = Hub::start(Settings::default()).await;
    let (mut one, mut two) = (hub.subscribe("/v1/app/x,y").await, hub.subscribe("/v1/app/y?z=1").await);
    for path in ["/v1/app/x", "/v1/app/nobody", "/v1/other/y", "/v1/app/y"] {
        let answer = hub.post(path, &format!("{{\"to\":\"{path}\"}}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    }
    let got = until(&mut one, "data: {\"to\":\"/v1/app/y\"}\n\n\r\n").await;
    assert!(
        got.contains("data: {\"to\":\"/v1/app/x\"}\n\n") && !got.contains("nobody") && !got.contains("other"),
        "{got}"
    );
    let got = until(&mut two, "\n\n\r\n").await;
    assert!(got.contains("/v1/app/y"), "{got}");
    let counts = hub.stop().await;
    assert_eq!((counts.messages, counts.deliveries), (4, 3));
}

#[tokio::test]
async fn subscribers_that_go_are_forgotten() {
    let hub = Hub::start(Settings::default()).await;
    let some = [hub.subscribe("/v1/app/x,y").await, hub.subscribe("/v1/app/y").await];
    hub.until_counts("two", |counts| (counts.subscribers, counts.subscriptions, counts.channels) == (2, 3, 2)).await;
    drop(some);
    hub.until_counts("none", |counts| counts == Counts::default()).await;
    hub.stop().await;
}

#[tokio::test]
async fn heartbeats_come_while_nothing_else_does() {
    let hub = Hub::with(Limits { heartbeat: Duration::from_millis(20), ..Limits::default() }).await;
    let mut one = hub.subscribe("/v1/app/x").await;
    for _ in 0..3 {
        until(&mut one, ":heartbeat signal\n\n\r\n").await;
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_message_that_is_too_long_is_passed_on_to_nobody() {
    let hub = Hub::with(Limits { body: 1_000, ..Limits::default() }).await;
    let mut one = hub.subscribe("/v1/app/x").await;
    assert!(hub.post("/v1/app/x", &"m".repeat(1_001)).await.starts_with("HTTP/1.1 413 "));
    // Endless, its length unsaid.
    let mut endless = hub.connect().await;
    endless.write_all(b"POST /v1/app/x HTTP/1.1\r\nhost: hub\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    let chunk = format!("100\r\n{}\r\n", "m".repeat(256));
    while endless.write_all(chunk.as_bytes()).await.is_ok() {}
    assert!(hub.post("/v1/app/x", &"m".repeat(1_000)).await.starts_with("HTTP/1.1 200 "));
    let got = until(&mut one, "\n\n\r\n").await;
    assert_eq!(got.matches("data: ").count(), 1);
    assert_eq!(hub.stop().await.refused_messages, 2);
}

#[tokio::test]
async fn who_lets_the_hub_wait_is_left() {
    let hub = Hub::with(Limits { patience: Duration::from_millis(100), ..Limits::default() }).await;
    // Nothing; half a head; half a body; nothing after a first request.
    let unfinished = "POST /v1/app/x HTTP/1.1\r\nhost: hub\r\ncontent-length: 10\r\n\r\nhalf";
    let nothing_more = "POST /v1/app/x HTTP/1.1\r\nhost: hub\r\ncontent-length: 2\r\n\r\n{}";
    for sent in ["", "GET / HTTP/1.1\r\nhost:", unfinished, nothing_more] {
        let answer = hub.ask(sent).await;
        let expected = if sent == nothing_more { "HTTP/1.1 200 " } else { "HTTP/1.1 408 " };
        assert!(answer.is_empty() || answer.starts_with(expected), "{sent:?}: {answer}");
    }
    hub.until_counts("none is left", |counts| counts.connections == 0).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_subscriber_that_doesnt_read_is_dropped_and_the_others_get_everything() {
    let limits = Limits { waiting: 64 * 1024, requests: 1_000_000, bytes: u32::MAX, ..Limits::default() };
    let hub = Hub::with(limits).await;
    // Small buffers on both ends would be quicker; the system's own are a few megabytes.
    let mut slow = hub.subscribe("/v1/app/x").await;
    let mut fast = hub.subscribe("/v1/app/x").await;
    let body = "m".repeat(32 * 1024);
    let reading = tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 16];
        let mut all = 0;
        while let Ok(read) = fast.read(&mut buffer).await {
            if read == 0 {
                break;
            }
            all += buffer[..read].iter().filter(|byte| **byte == b'm').count();
        }
        all
    });
    let mut sent = 0;
    while hub.watch.counts().slow == 0 {
        assert!(hub.post("/v1/app/x", &body).await.starts_with("HTTP/1.1 200 "));
        sent += 1;
        assert!(sent < 10_000, "it is queued for without end");
        assert!(hub.watch.counts().waiting <= 2 * 64 * 1024);
    }
    hub.until_counts("only the fast one is left", |counts| counts.subscribers == 1 && counts.connections == 1).await;
    rest_of(&mut slow).await;
    hub.stop().await;
    let read = timeout(PATIENCE, reading).await.unwrap().unwrap();
    assert_eq!(read, sent * body.len());
}

#[tokio::test]
async fn one_address_has_so_many_places_and_requests_and_no_more() {
    let limits = Limits { subscribers_per_address: 2, connections_per_address: 5, requests: 1, ..Limits::default() };
    let hub = Hub::with(limits).await;
    let _places = [hub.subscribe("/v1/app/x").await, hub.subscribe("/v1/app/x").await];
    assert!(hub.get("/v1/app/x").await.starts_with("HTTP/1.1 429 "));
    let mut others = hub.connect_from([127, 0, 0, 2]).await;
    others.write_all(get("/v1/app/x").as_bytes()).await.unwrap();
    assert!(until(&mut others, "\r\n\r\n").await.starts_with("HTTP/1.1 200 "));

    let mut allowed = 0;
    let refusal = loop {
        let answer = hub.get("/").await;
        if !answer.starts_with("HTTP/1.1 200 ") {
            break answer;
        }
        allowed += 1;
        assert!(allowed < 1_000, "nothing is refused");
    };
    assert!(refusal.starts_with("HTTP/1.1 429 ") && refusal.contains("retry-after: "), "{refusal}");
    assert!(allowed >= 7, "ten requests at once are allowed, three were made before, and only {allowed} more worked");
    hub.until_counts("three streams are open", |counts| counts.connections == 3).await;
    let mut more = Vec::new();
    for _ in 0..6 {
        more.push(hub.connect().await);
    }
    hub.until_counts("the rest is refused", |counts| counts.refused_connections == 3).await;
    let counts = hub.stop().await;
    assert_eq!((counts.refused_subscriptions, counts.refused_requests), (1, 1));
}

#[tokio::test]
async fn behind_a_proxy_the_limits_are_those_of_whom_it_names() {
    let limits = Limits { subscribers_per_address: 1, connections_per_address: 1, ..Limits::default() };
    let hub = Hub::start(Settings { limits, proxies: vec![[127, 0, 0, 1].into()], ..Settings::default() }).await;
    let mut open = Vec::new();
    // What comes before the last address is the client's own word.
    for (forwarded, status) in
        [("192.0.2.1", 200), ("192.0.2.9, 192.0.2.1", 429), ("192.0.2.1, 192.0.2.2", 200), ("nonsense", 200)]
    {
        let mut stream = hub.connect().await;
        let request = format!("GET /v1/app/x HTTP/1.1\r\nhost: hub\r\nx-forwarded-for: {forwarded}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = until(&mut stream, "\r\n\r\n").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{forwarded}: {head}");
        open.push(stream);
    }
    // Who is no proxy is not believed.
    let mut liar = hub.connect_from([127, 0, 0, 2]).await;
    liar.write_all(b"GET /v1/app/x HTTP/1.1\r\nhost: hub\r\nx-forwarded-for: 192.0.2.1\r\n\r\n").await.unwrap();
    assert!(until(&mut liar, "\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    hub.stop().await;
}

#[tokio::test]
async fn stopped_it_ends_all_streams_and_closes_its_port() {
    let hub = Hub::start(Settings::default()).await;
    let mut one = hub.subscribe("/v1/app/x").await;
    let _idle = hub.connect().await;
    let address = hub.address;
    let counts = hub.stop().await;
    assert_eq!(rest_of(&mut one).await, "0\r\n\r\n");
    assert_eq!((counts.connections, counts.subscribers), (0, 0));
    assert!(TcpStream::connect(address).await.is_err());
}
