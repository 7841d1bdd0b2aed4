//! Links that a TURN server passes on: Debian's coturn, on loopback. Skipped where it isn't installed.
#![cfg(feature = "rtc")]
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sbot_feed::FeedId;
use sbot_multiserver::{Acceptor, Endpoint, HubAddress, IceServer, Outgoing, Raw, Rtc, RtcSettings, Signal, Transport};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Long enough for a busy machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(90);
/// Says to the test, run anew with another environment, where the server is.
const SERVER: &str = "SBOT_TEST_TURNS_PORT";

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, future).await.expect("too slow") })
}

/// A running coturn, which knows the user `me` with the password `secret`.
struct Turn {
    child: Child,
    port: u16,
    tls_port: u16,
    dir: TempDir,
}

impl Turn {
    fn start() -> Option<Turn> {
        let known = ["/usr/bin/turnserver", "/usr/sbin/turnserver", "/usr/local/bin/turnserver"];
        let Some(program) = known.into_iter().map(PathBuf::from).find(|path| path.exists()) else {
            eprintln!("skipped: coturn (turnserver) is not installed");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
        std::fs::write(&cert, certified.cert.pem()).unwrap();
        std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
        loop {
            let [port, tls_port] = free_ports();
            let mut child = Command::new(&program)
                .args(["-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--lt-cred-mech", "--user=me:secret"])
                .args(["--realm=example.org", "--no-cli", "--allow-loopback-peers", "--no-dtls", "--log-file=stdout"])
                .arg(format!("--listening-port={port}"))
                .arg(format!("--tls-listening-port={tls_port}"))
                .arg(format!("--cert={}", cert.display()))
                .arg(format!("--pkey={}", key.display()))
                .arg(format!("--userdb={}", dir.path().join("users").display()))
                .arg(format!("--pidfile={}", dir.path().join("pid").display()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Until it listens; if somebody else took a port meanwhile, it ends.
            while child.try_wait().unwrap().is_none() {
                let listens = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
                if listens(port) && listens(tls_port) {
                    return Some(Turn { child, port, tls_port, dir });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_ports() -> [u16; 2] {
    let sockets = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

fn hub() -> HubAddress {
    HubAddress::parse("http://hub.example").unwrap()
}

fn settings(url: String) -> RtcSettings {
    let server = IceServer { urls: vec![url], username: "me".into(), credential: "secret".into() };
    server.check().unwrap();
    RtcSettings { ice_servers: vec![server], relay_only: true, ..RtcSettings::default() }
}

/// Passes on what one says to the other, and notes it.
fn pass_on(from: FeedId, mut said: mpsc::Receiver<Outgoing>, to: Rtc) -> Arc<Mutex<Vec<Signal>>> {
    let noted = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&noted);
    tokio::spawn(async move {
        while let Some(Outgoing { hub, session, signal, .. }) = said.recv().await {
            to.signalled(&hub, from, session, serde_json::to_value(&signal).unwrap());
            notes.lock().push(signal);
        }
    });
    noted
}

async fn say(from: &mut Raw, to: &mut Raw, length: usize) {
    let text: Vec<u8> = (0..length).map(|at| (at ^ (at >> 8)) as u8).collect();
    let mut got = vec![0; length];
    let write = async {
        from.write.write_all(&text).await.unwrap();
    };
    let read = async {
        to.read.read_exact(&mut got).await.unwrap();
    };
    tokio::join!(write, read);
    assert_eq!(got, text);
}

async fn by_relay(url: String) {
    let (here, there) = (FeedId([1; 32]), FeedId([2; 32]));
    let (one, said_by_one) = Rtc::new(here, settings(url.clone()));
    let (two, said_by_two) = Rtc::new(there, settings(url));
    let noted = pass_on(here, said_by_one, two.clone());
    pass_on(there, said_by_two, one.clone());
    let to = Endpoint::Rtc { hub: hub(), peer: Some(there) };
    let mut acceptor: Box<dyn Acceptor> = two.listen(&to).unwrap().await.unwrap();
    let (dialed, accepted) = tokio::join!(one.dial(&to).unwrap(), acceptor.accept());
    let (mut dialed, mut accepted) = (dialed.unwrap(), accepted.unwrap());
    say(&mut dialed, &mut accepted, 3_000_000).await;
    say(&mut accepted, &mut dialed, 100_000).await;
    let notes = noted.lock().clone();
    let places: Vec<_> = notes
        .iter()
        .filter_map(|signal| match signal {
            Signal::Candidate(candidate) => Some(candidate.candidate.as_str()),
            _ => None,
        })
        .collect();
    // The relay's address and nothing of ours.
    assert!(matches!(places[..], [only] if only.contains("typ relay raddr 0.0.0.0")), "{places:?}");
    drop(dialed);
    assert_eq!(accepted.read.read(&mut [0; 10]).await.unwrap(), 0);
}

#[test]
fn packets_are_passed_on_over_udp() {
    let Some(turn) = Turn::start() else { return };
    block_on(by_relay(format!("turn:127.0.0.1:{}", turn.port)));
}

#[test]
fn packets_are_passed_on_over_tcp() {
    let Some(turn) = Turn::start() else { return };
    block_on(by_relay(format!("turn:localhost:{}?transport=tcp", turn.port)));
}

#[test]
fn packets_are_passed_on_over_tls() {
    if let Ok(port) = std::env::var(SERVER) {
        return block_on(by_relay(format!("turns:localhost:{port}")));
    }
    let Some(turn) = Turn::start() else { return };
    // Once more in a process that trusts the server's certificate.
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "packets_are_passed_on_over_tls", "--nocapture"])
        .env(SERVER, turn.tls_port.to_string())
        .env("SSL_CERT_FILE", turn.dir.path().join("cert.pem"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_server_that_refuses_us_or_is_not_there_is_no_way_to_a_peer() {
    let Some(turn) = Turn::start() else { return };
    block_on(async {
        let [nobody, _] = free_ports();
        for (url, credential) in [
            (format!("turn:127.0.0.1:{}", turn.port), "wrong"),
            (format!("turn:127.0.0.1:{}?transport=tcp", turn.port), "wrong"),
            (format!("turn:127.0.0.1:{nobody}?transport=tcp"), "secret"),
            (format!("turn:127.0.0.1:{nobody}"), "secret"),
            (format!("turns:localhost:{}", turn.tls_port), "secret"),
        ] {
            let mut settings = settings(url);
            settings.ice_servers[0].credential = credential.into();
            settings.open_timeout = Duration::from_millis(500);
            let (one, _said) = Rtc::new(FeedId([1; 32]), settings);
            let to = Endpoint::Rtc { hub: hub(), peer: Some(FeedId([2; 32])) };
            let error = one.dial(&to).unwrap().await.err().unwrap();
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
        }
    });
}

#[test]
fn a_server_that_talks_nonsense_is_left_alone() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        // It hangs up.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    block_on(async {
        let mut settings = settings(format!("turn:127.0.0.1:{port}?transport=tcp"));
        settings.open_timeout = PATIENCE;
        let (one, _said) = Rtc::new(FeedId([1; 32]), settings);
        let to = Endpoint::Rtc { hub: hub(), peer: Some(FeedId([2; 32])) };
        let dialing = tokio::spawn(async move { one.dial(&to).unwrap().await.map(|_| ()) });
        tokio::task::spawn_blocking(|| server.join().unwrap()).await.unwrap();
        dialing.abort();
    });
}
