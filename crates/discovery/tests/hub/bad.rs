//! Hubs that aren't what they should be, and strangers at good ones.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use sbot_discovery::hub::{HubEvent, HubNames, HubSettings, MAX_MESSAGE, MOST_KNOWN, MOST_STRANGERS};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n";

pub(super) fn announce_path() -> String {
    HubNames::new(&NETWORK).path(HubNames::ANNOUNCE)
}

pub(super) async fn post(hub: SocketAddr, path: &str, body: &str) {
    let mut stream = TcpStream::connect(hub).await.unwrap();
    let length = body.len();
    let request = format!("POST {path} HTTP/1.1\r\nhost: hub\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Something that listens, and treats whoever connects as `treat` says, once it has got a request.
async fn fake<F>(treat: impl Fn(TcpStream, usize) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let number = AtomicUsize::new(0);
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                tokio::spawn(treat(stream, number.fetch_add(1, Ordering::Relaxed)));
            }
        }
    });
    address
}

/// Something that gives this answer and keeps the connection open.
async fn says(answer: &'static str) -> SocketAddr {
    fake(move |mut stream, _| async move {
        // Whoever has heard enough may go.
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.read(&mut [0]).await;
    })
    .await
}

#[tokio::test]
async fn what_is_no_hub_is_told_from_one() {
    for (answer, why) in [
        ("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\nhi", "text/html"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "no signalling hub"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "404"),
        ("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n", "429"),
        ("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", "407"),
        (
            "HTTP/1.1 301 Moved\r\nlocation: https://elsewhere.example/\r\ncontent-length: 0\r\n\r\n",
            "https://elsewhere.example/",
        ),
        ("HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n", "redirects"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "invalid HTTP"),
        ("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n", "invalid"),
    ] {
        let lost = Visitor::join(1, &address(says(answer).await), knowing()).lost().await;
        assert!(lost.contains(why), "{answer:?}: {lost}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_not_read_to_its_end() {
    let endless = fake(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(&[b'x'; 1 << 12]).await.is_ok() {}
    });
    let lost = Visitor::join(1, &address(endless.await), knowing()).lost().await;
    assert!(lost.contains("too large"), "{lost}");
}

#[tokio::test]
async fn one_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = HubSettings { patience: Duration::from_millis(200), ..knowing() };
    let lost = Visitor::join(1, &address(listener.local_addr().unwrap()), settings).lost().await;
    assert_eq!(lost, "no answer within 200ms");
}

#[tokio::test]
async fn one_that_falls_silent_is_lost_and_half_lines_are_silence() {
    for stream in [STREAM, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: half a comment"] {
        let settings = HubSettings { silence: Duration::from_millis(300), ..knowing() };
        let mut one = Visitor::join(1, &address(says(stream).await), settings).joined().await;
        assert_eq!(one.lost().await, "nothing was heard for 300ms");
    }
    let endless_line = fake(|mut stream, _| async move {
        let _ = stream.write_all(STREAM.as_bytes()).await;
        while stream.write_all(&[b'x'; 1 << 16]).await.is_ok() {}
    });
    let settings = HubSettings { silence: Duration::from_millis(300), ..knowing() };
    let mut one = Visitor::join(1, &address(endless_line.await), settings).joined().await;
    assert_eq!(one.lost().await, "nothing was heard for 300ms");
}

#[tokio::test]
async fn one_that_ends_every_connection_is_lost_each_time() {
    let fickle = fake(|mut stream, _| async move {
        let _ = stream.write_all(STREAM.as_bytes()).await;
    });
    let at = address(fickle.await);
    for _ in 0..3 {
        let lost = Visitor::join(1, &at, knowing()).lost().await;
        assert!(lost.contains("ended the connection") || lost.contains("reset"), "{lost}");
    }
}

#[tokio::test]
async fn one_where_nothing_can_be_said_is_given_up() {
    let deaf = fake(|mut stream, number| async move {
        let answer =
            if number < 2 { STREAM } else { "HTTP/1.1 503 Full\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" };
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.read(&mut [0]).await;
    });
    let mut one = Visitor::join(1, &address(deaf.await), knowing()).joined().await;
    for _ in 0..5 {
        one.hub.answer(FeedId([2; 32]));
    }
    let lost = one.lost().await;
    assert!(lost.starts_with("nothing can be said there: it answers 503"), "{lost}");
    assert_eq!(one.hub.counts().unsent, 5);
}

#[tokio::test]
async fn garbage_is_counted_and_whoever_is_understood_is_heard() {
    let hub = Ours::start().await;
    let mut one = Visitor::join(1, &address(hub.address), knowing()).joined().await;
    let id = json!(FeedId([2; 32]).to_string());
    let long = json!({"id": id, "pad": "x".repeat(MAX_MESSAGE)}).to_string();
    let two_lines = "{\"id\":\n\"@x\"}";
    for garbage in ["", "{}", "nonsense", "\0", two_lines, "[[[[", &long, "{\"id\":\"@../../etc/passwd\"}"] {
        post(hub.address, &announce_path(), garbage).await;
    }
    post(hub.address, &announce_path(), &json!({ "id": id }).to_string()).await;
    assert_eq!(one.next().await, HubEvent::Announced(FeedId([2; 32])));
    // The empty one is as good as a heartbeat.
    assert_eq!(one.hub.counts().unreadable, 7);
    hub.stop().await;
}

/// A hub at which `flood` is announced as fast as it is read, and then somebody whom we know.
async fn flooded(flood: impl Fn(u32) -> FeedId + Copy + Send + 'static) -> SocketAddr {
    fake(move |mut stream, _| async move {
        let _ = stream.write_all(STREAM.as_bytes()).await;
        for number in 0..100_000 {
            let said = json!({ "id": flood(number).to_string() });
            if stream.write_all(format!("data: {said}\n\n").as_bytes()).await.is_err() {
                return;
            }
        }
        let said = json!({ "id": FeedId([42; 32]).to_string() });
        let _ = stream.write_all(format!("data: {said}\n\n").as_bytes()).await;
        let _ = stream.read(&mut [0]).await;
    })
    .await
}

fn numbered(first: u8, number: u32) -> FeedId {
    let mut key = [first; 32];
    key[1..5].copy_from_slice(&number.to_be_bytes());
    FeedId(key)
}

#[tokio::test]
async fn a_flood_of_strangers_grows_nothing_and_a_friend_still_gets_through() {
    let at = flooded(|number| numbered(200, number)).await;
    let mut one = Visitor::join(1, &address(at), knowing()).joined().await;
    let mut announced = 0;
    while one.next().await != HubEvent::Announced(FeedId([42; 32])) {
        announced += 1;
    }
    let counts = one.hub.counts();
    assert_eq!((announced, counts.there), (MOST_STRANGERS, MOST_STRANGERS as u64 + 1));
    // Both streams are flooded, and the second may have more to come.
    assert!(counts.too_many > 50_000, "{counts:?}");
}

#[tokio::test]
async fn a_hub_that_lies_about_who_is_there_is_bounded_too() {
    // Everyone whom it names is somebody we know.
    let at = flooded(|number| numbered(50, number)).await;
    let mut one = Visitor::join(1, &address(at), knowing()).joined().await;
    let mut announced = 0;
    // Both streams say as much.
    while {
        let counts = one.hub.counts();
        counts.heard + counts.too_many + counts.unreadable < 2 * 100_001
    } {
        match timeout(Duration::from_millis(50), one.events.recv()).await {
            Ok(Some(HubEvent::Announced(_))) => announced += 1,
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    }
    assert!(announced <= MOST_KNOWN && one.hub.counts().there <= MOST_KNOWN as u64, "{announced}");
}
