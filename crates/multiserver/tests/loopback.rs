//! Dialing and listening over loopback and unix sockets.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use sbot_feed::{Keypair, NetworkKey};
use sbot_multiserver::{
    Address, Authorise, Bind, Connection, Counts, DialError, DialSettings, Dialer, Direction, ListenError,
    ListenSettings, Listener, Route,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const NETWORK: NetworkKey = NetworkKey([5; 32]);
/// Long enough for a busy machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

fn keypair(seed: u8) -> Keypair {
    Keypair::from_seed([seed; 32])
}

fn server() -> Keypair {
    keypair(100)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, future).await.expect("too slow") })
}

fn anyone() -> Authorise {
    Arc::new(|_| Ok(()))
}

async fn listen(authorise: Authorise, settings: ListenSettings) -> Listener {
    Listener::bind(&[Bind::net("127.0.0.1", 0)], NETWORK, server(), authorise, settings).await.unwrap()
}

fn address(listener: &Listener) -> Address {
    Route::net("127.0.0.1", listener.port().unwrap(), &server().id()).into()
}

fn dialer(seed: u8) -> Dialer {
    Dialer::new(NETWORK, keypair(seed), DialSettings::default())
}

/// Waits until the listener's counts are as wanted.
async fn until(listener: &Listener, wanted: impl Fn(&Counts) -> bool) {
    while !wanted(&listener.counts()) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn say(from: &mut Connection, to: &mut Connection, text: &[u8]) {
    from.write.write_all(text).await.unwrap();
    from.write.flush().await.unwrap();
    let mut got = vec![0; text.len()];
    to.read.read_exact(&mut got).await.unwrap();
    assert_eq!(got, text);
}

#[test]
fn two_peers_meet_over_tcp_and_talk() {
    block_on(async {
        let mut listener = listen(anyone(), ListenSettings::default()).await;
        let mut here = dialer(1).dial(&address(&listener)).await.unwrap();
        let mut there = listener.accept().await;
        assert_eq!((here.remote, there.remote), (server().id(), keypair(1).id()));
        assert_eq!((here.direction, there.direction), (Direction::Dialed, Direction::Accepted));
        assert!(!here.local_client && !there.local_client);
        assert_eq!(here.address, address(&listener).to_string());
        let parsed: Address = there.address.parse().unwrap();
        assert_eq!(parsed.key(), Some(keypair(1).id()));
        assert_eq!(parsed.routes()[0].host_and_port().unwrap().0, "127.0.0.1");
        say(&mut here, &mut there, b"hello").await;
        say(&mut there, &mut here, b"good day").await;
        drop(listener);
        say(&mut here, &mut there, b"connections outlive the listener").await;
    });
}

#[test]
fn ipv6_and_both_families_at_once_work() {
    block_on(async {
        let places = [Bind::net("::", 0)];
        let Ok(mut listener) = Listener::bind(&places, NETWORK, server(), anyone(), ListenSettings::default()).await
        else {
            return;
        };
        let port = listener.port().unwrap();
        for host in ["127.0.0.1", "localhost"] {
            dialer(1).dial_route(&Route::net(host, port, &server().id())).await.unwrap();
            listener.accept().await;
        }
        // Some sandboxes have no IPv6 loopback.
        if TcpStream::connect(("::1", port)).await.is_ok() {
            let here = dialer(1).dial_route(&Route::net("::1", port, &server().id())).await.unwrap();
            assert!(here.address.starts_with(&format!("net:::1:{port}~shs:")), "{}", here.address);
        }
    });
}

#[test]
fn our_own_key_is_a_local_client() {
    block_on(async {
        let mut listener = listen(anyone(), ListenSettings::default()).await;
        dialer(100).dial(&address(&listener)).await.unwrap();
        assert!(listener.accept().await.local_client);
    });
}

#[test]
fn a_seed_in_the_address_is_the_key_to_dial_with() {
    block_on(async {
        let mut listener = listen(anyone(), ListenSettings::default()).await;
        let seed = keypair(0).id();
        let seed_text = seed.to_string();
        let seed_text = seed_text.trim_start_matches('@').trim_end_matches(".ed25519");
        let invite: Address = format!("{}:{seed_text}", address(&listener)).parse().unwrap();
        dialer(1).dial(&invite).await.unwrap();
        assert_eq!(listener.accept().await.remote, Keypair::from_seed(seed.0).id());
        drop(listener);
        let error = dialer(1).dial(&invite).await.unwrap_err().to_string();
        assert!(!error.contains(seed_text), "{error}");
    });
}

#[test]
fn alternatives_are_tried_in_order() {
    block_on(async {
        let mut listener = listen(anyone(), ListenSettings::default()).await;
        let dead = {
            let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            gone.local_addr().unwrap().port()
        };
        let good = address(&listener);
        let dead = Route::net("127.0.0.1", dead, &server().id());
        let joined: Address = format!("onion:x.onion:1~shs:x;{dead};{good}").parse().unwrap();
        dialer(1).dial(&joined).await.unwrap();
        assert_eq!(listener.accept().await.remote, keypair(1).id());
        let bad: Address = format!("rtc:hub~shs:x;rtc:hub~noauth;{dead}").parse().unwrap();
        match dialer(1).dial(&bad).await.unwrap_err() {
            DialError::All(errors) => assert!(matches!(
                errors[..],
                [DialError::NoKey { .. }, DialError::Unknown { .. }, DialError::Connect { .. }]
            )),
            other => panic!("{other}"),
        }
    });
}

#[test]
fn a_host_that_resolves_nowhere_is_a_clear_error() {
    block_on(async {
        let route = Route::net("nowhere.invalid", 8008, &server().id());
        let error = dialer(1).dial_route(&route).await.unwrap_err();
        assert!(matches!(error, DialError::Connect { .. }), "{error}");
        assert!(error.to_string().contains("nowhere.invalid"), "{error}");
    });
}

#[test]
fn a_wrong_network_key_closes_the_connection() {
    block_on(async {
        let listener = listen(anyone(), ListenSettings::default()).await;
        let other = Dialer::new(NetworkKey([6; 32]), keypair(1), DialSettings::default());
        assert!(matches!(other.dial(&address(&listener)).await, Err(DialError::Handshake { .. })));
        until(&listener, |counts| counts.failed == 1 && counts.half_open == 0).await;
    });
}

#[test]
fn a_blocked_peer_is_refused_at_the_handshake_and_others_are_not() {
    block_on(async {
        let blocked = keypair(13).id();
        let authorise: Authorise =
            Arc::new(move |peer| if *peer == blocked { Err("you block it".into()) } else { Ok(()) });
        let mut listener = listen(authorise, ListenSettings::default()).await;
        assert!(matches!(dialer(13).dial(&address(&listener)).await, Err(DialError::Handshake { .. })));
        dialer(1).dial(&address(&listener)).await.unwrap();
        assert_eq!(listener.accept().await.remote, keypair(1).id());
        let counts = listener.counts();
        assert_eq!((counts.refused, counts.accepted, counts.arrived), (1, 1, 2));
    });
}

#[test]
fn a_stalled_handshake_times_out_on_either_side() {
    block_on(async {
        let short = Duration::from_millis(50);
        let listener = listen(anyone(), ListenSettings { handshake_timeout: short, ..Default::default() }).await;
        let mut silent = TcpStream::connect(("127.0.0.1", listener.port().unwrap())).await.unwrap();
        // Half a message doesn't help.
        silent.write_all(&[0; 32]).await.unwrap();
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
        until(&listener, |counts| counts.timed_out == 1 && counts.half_open == 0).await;

        let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let route = Route::net("127.0.0.1", mute.local_addr().unwrap().port(), &server().id());
        let settings = DialSettings { handshake_timeout: short, ..Default::default() };
        let error = Dialer::new(NETWORK, keypair(1), settings).dial_route(&route).await.unwrap_err();
        assert!(matches!(error, DialError::TimedOut { what: "handshake", .. }), "{error}");
    });
}

#[test]
fn a_flood_of_half_open_connections_stays_bounded_and_a_good_peer_gets_in() {
    block_on(async {
        let settings = ListenSettings { half_open: 20, half_open_per_host: 10, handshake_timeout: PATIENCE };
        let mut listener = listen(anyone(), settings).await;
        let port = listener.port().unwrap();
        let mut flood = Vec::new();
        for _ in 0..100 {
            flood.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        }
        until(&listener, |counts| counts.arrived == 100).await;
        let counts = listener.counts();
        assert_eq!((counts.half_open, counts.crowded_out), (10, 90));
        // From the very host that floods us.
        dialer(1).dial(&address(&listener)).await.unwrap();
        assert_eq!(listener.accept().await.remote, keypair(1).id());
        assert!(listener.counts().half_open <= 10);
        drop(flood);
        until(&listener, |counts| counts.half_open == 0).await;
    });
}

#[test]
fn connections_that_nobody_takes_are_bounded_too() {
    block_on(async {
        let settings = ListenSettings { half_open_per_host: 4, ..Default::default() };
        let listener = listen(anyone(), settings).await;
        let mut held = Vec::new();
        for seed in 0..40 {
            // Those that are crowded out see a closed connection, perhaps only later.
            held.extend(dialer(seed).dial(&address(&listener)).await.ok());
        }
        until(&listener, |counts| counts.arrived == 40).await;
        assert!(listener.counts().half_open <= 4);
    });
}

#[test]
fn garbage_is_refused() {
    block_on(async {
        let listener = listen(anyone(), ListenSettings::default()).await;
        let mut stream = TcpStream::connect(("127.0.0.1", listener.port().unwrap())).await.unwrap();
        stream.write_all(&b"GET / HTTP/1.1\r\n\r\n".repeat(100)).await.unwrap();
        until(&listener, |counts| counts.failed == 1 && counts.half_open == 0).await;
    });
}

#[test]
fn a_unix_socket_is_for_us_alone_and_its_file_is_looked_after() {
    block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let open = || {
            let place = [Bind::unix(&path)];
            async move { Listener::bind(&place, NETWORK, server(), anyone(), ListenSettings::default()).await }
        };
        let mut listener = open().await.unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let mut here = dialer(100).dial_route(&Route::unix(&path)).await.unwrap();
        let mut there = listener.accept().await;
        assert!(there.local_client && here.local_client);
        assert_eq!((there.remote, here.remote), (server().id(), server().id()));
        assert!(there.address.starts_with(&format!("unix:{}~noauth:", path.display())), "{}", there.address);
        say(&mut here, &mut there, b"whoami").await;

        let error = open().await.err().unwrap();
        assert!(matches!(error, ListenError::System { .. }));
        assert!(error.to_string().contains("another process listens"), "{error}");

        listener.close().await;
        assert!(!path.exists());

        // Left behind by a process that died.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        open().await.unwrap().close().await;

        std::fs::write(&path, "precious").unwrap();
        assert!(open().await.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    });
}
