//! Connections that are slowed down, or ended with a reason.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sbot_rpc::{Body, CallError, Limits, Meter, Pace, Peer, Registry, Session};
use serde_json::json;

/// No arguments.
const NOTHING: &[u8; 0] = &[];

/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(40);

/// Lets so many calls pass, then makes each wait a few times, and in the end stops.
#[derive(Default)]
struct Scripted {
    calls: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    waits: AtomicU64,
    stop_after: Option<u64>,
}

impl Meter for Scripted {
    fn read(&self, bytes: u64, calls: u64) -> Pace {
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        let calls = self.calls.fetch_add(calls, Ordering::Relaxed) + calls;
        if self.stop_after.is_some_and(|most| calls > most) {
            return Pace::Stop("over budget: too many calls".into());
        }
        // Asked with something: wait, and be asked again; asked with nothing, three times more.
        match self.waits.load(Ordering::Relaxed) {
            _ if bytes > 0 => self.waits.store(0, Ordering::Relaxed),
            3.. => return Pace::Go,
            waits => self.waits.store(waits + 1, Ordering::Relaxed),
        }
        Pace::Wait(Duration::from_millis(1))
    }

    fn wrote(&self, bytes: u64) -> Pace {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        Pace::Go
    }
}

/// A metered server that echoes, never ends a stream, and never answers `silence`; and its caller.
fn pair(meter: Arc<Scripted>) -> (Peer, Peer) {
    let registry = Registry::<()>::new()
        .asynchronous("echo", |call| async move { Ok(Body::Json(call.args)) })
        .asynchronous("silence", |_| std::future::pending())
        .source("drip", |_, mut out| async move {
            let _ = out.send(Body::json(&1)?).await;
            out.closed().await;
            Ok(())
        });
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (read, write) = tokio::io::split(ours);
    let server = Session::spawn_metered(read, write, registry.into(), (), Limits::REMOTE, Some(meter));
    let (read, write) = tokio::io::split(theirs);
    (server, Session::spawn(read, write, Registry::<()>::new().into(), (), Limits::REMOTE))
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it takes too long")
}

#[tokio::test]
async fn who_is_slowed_down_is_served_all_the_same_and_everything_is_counted_once() {
    let meter = Arc::new(Scripted::default());
    let (server, client) = pair(Arc::clone(&meter));
    for number in 0..20 {
        let answer = in_time(client.call("echo", &json!([number]))).await.unwrap();
        assert_eq!(answer.bytes(), format!("[{number}]").as_bytes());
    }
    assert_eq!(meter.calls.load(Ordering::Relaxed), 20);
    in_time(async {
        while meter.bytes_out.load(Ordering::Relaxed) < client.counters().bytes_in {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(meter.bytes_in.load(Ordering::Relaxed), server.counters().bytes_in);
    assert_eq!(meter.bytes_out.load(Ordering::Relaxed), client.counters().bytes_in);
}

#[tokio::test]
async fn who_is_stopped_is_told_why_wherever_it_waits() {
    let (_server, client) = pair(Arc::new(Scripted { stop_after: Some(2), ..Scripted::default() }));
    let mut drip = in_time(client.source("drip", NOTHING)).await.unwrap();
    assert!(in_time(drip.recv()).await.unwrap().is_ok());
    let silence = client.call("silence", NOTHING);
    let one_too_many = async {
        tokio::task::yield_now().await;
        client.call("silence", NOTHING).await
    };
    let (silence, one_too_many) = in_time(async { tokio::join!(silence, one_too_many) }).await;
    for told in [silence, one_too_many] {
        let Err(CallError::Remote(error)) = told else { panic!("{told:?}") };
        assert_eq!(error.message, "over budget: too many calls");
    }
    let Some(Err(CallError::Remote(error))) = in_time(drip.recv()).await else { panic!("the stream goes on") };
    assert_eq!(error.message, "over budget: too many calls");
    in_time(client.closed()).await;
}

#[tokio::test]
async fn who_is_dismissed_is_told_why_and_calls_of_ours_end_too() {
    let (server, client) = pair(Arc::new(Scripted::default()));
    let waiting = client.call("silence", NOTHING);
    let dismissal = async {
        while server.counters().open == 0 {
            tokio::task::yield_now().await;
        }
        server.dismiss("you are blocked");
    };
    let (told, ()) = in_time(async { tokio::join!(waiting, dismissal) }).await;
    assert!(matches!(told, Err(CallError::Remote(error)) if error.message == "you are blocked"));
    assert!(in_time(server.call("anything", NOTHING)).await.is_err());
    in_time(client.closed()).await;
}
