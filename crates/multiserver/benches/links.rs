//! Links on loopback: TCP beside WebRTC, raw and through the box stream, and what an idle link takes.
//!
//! `cargo bench -p sbot-multiserver --features rtc --bench links -- [MEGABYTES [LINKS]]`: 200 MB a transfer and 100 idle
//! links if not said otherwise. Both ends are in one process; each figure is the median of three.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sbot_feed::{Keypair, NetworkKey};
use sbot_multiserver::{
    Acceptor, Authorise, Bind, DialSettings, Dialer, Endpoint, HubAddress, ListenSettings, Listener, Net, Outgoing,
    Raw, Route, Rtc, RtcSettings, Transport,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

const NETWORK: NetworkKey = NetworkKey([5; 32]);
const ROUNDS: usize = 3;
/// Bytes written at once, as replication does.
const CHUNK: usize = 64 * 1024;

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

fn main() -> Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let megabytes = numbers.next().unwrap_or(200);
    let links = numbers.next().unwrap_or(100);
    tokio::runtime::Runtime::new()?.block_on(measure(megabytes, links))
}

async fn measure(megabytes: usize, links: usize) -> Result<()> {
    println!("| link | MB/s |\n|---|---|");
    for (name, rtc, boxed) in [
        ("tcp, raw", false, false),
        ("rtc, raw", true, false),
        ("tcp, box stream", false, true),
        ("rtc, box stream", true, true),
    ] {
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let (writer, reader, _rest) = match boxed {
                true => secure(rtc).await?,
                false => plain(rtc).await?,
            };
            rates.push(transfer(writer, reader, megabytes).await?);
        }
        rates.sort_by(f64::total_cmp);
        println!("| {name} | {:.0} |", rates[ROUNDS / 2]);
    }
    println!("\n| idle links | kB an end |\n|---|---|");
    for (name, rtc) in [("tcp", false), ("rtc", true)] {
        let mut held = vec![plain(rtc).await?];
        let before = resident()?;
        for _ in 0..links {
            held.push(plain(rtc).await?);
        }
        // What opening a link took, and what goes on for a while after.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = resident()?;
        println!("| {links} × {name} | {:.0} |", (after.saturating_sub(before)) as f64 / links as f64 / 2.0 / 1000.0);
    }
    Ok(())
}

/// Bytes of memory that this process has.
fn resident() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

/// Megabytes a second from the first byte written until the last is read.
async fn transfer(mut writer: Writer, mut reader: Reader, megabytes: usize) -> Result<f64> {
    let total = megabytes * 1_000_000;
    let started = Instant::now();
    let writing = tokio::spawn(async move {
        let chunk = vec![7; CHUNK];
        let mut left = total;
        while left > 0 {
            let now = left.min(CHUNK);
            writer.write_all(&chunk[..now]).await?;
            left -= now;
        }
        writer.flush().await?;
        anyhow::Ok(writer)
    });
    let mut buffer = vec![0; CHUNK];
    let mut left = total;
    while left > 0 {
        let read = reader.read(&mut buffer).await?;
        anyhow::ensure!(read > 0, "the link ended early");
        left -= read;
    }
    let seconds = started.elapsed().as_secs_f64();
    drop(writing.await??);
    Ok(total as f64 / 1e6 / seconds)
}

fn key(number: u8) -> Keypair {
    Keypair::from_seed([number; 32])
}

fn hub() -> Result<HubAddress> {
    Ok(HubAddress::parse("http://hub.example")?)
}

/// Two transports that hear each other.
fn joined() -> Result<(Rtc, Rtc)> {
    let settings = || RtcSettings { addresses: vec![Ipv4Addr::LOCALHOST.into()], ..RtcSettings::default() };
    let (one, said_by_one) = Rtc::new(key(1).id(), settings());
    let (two, said_by_two) = Rtc::new(key(2).id(), settings());
    let pass_on = |from, mut said: mpsc::Receiver<Outgoing>, to: Rtc| {
        tokio::spawn(async move {
            while let Some(Outgoing { hub, session, signal, .. }) = said.recv().await {
                if let Ok(signal) = serde_json::to_value(&signal) {
                    to.signalled(&hub, from, session, signal);
                }
            }
        })
    };
    pass_on(key(1).id(), said_by_one, two.clone());
    pass_on(key(2).id(), said_by_two, one.clone());
    Ok((one, two))
}

/// A link as the transport gives it: one end's writer, the other's reader, and the rest of both.
async fn plain(rtc: bool) -> Result<(Writer, Reader, Box<dyn Send>)> {
    let tcp: Arc<dyn Transport> = Arc::new(Net);
    let (from, to, place): (Arc<dyn Transport>, Arc<dyn Transport>, Endpoint) = match rtc {
        true => {
            let (one, two) = joined()?;
            (Arc::new(one), Arc::new(two), Bind::rtc().endpoint)
        }
        false => (Arc::clone(&tcp), tcp, Bind::net("127.0.0.1", 0).endpoint),
    };
    let mut acceptor: Box<dyn Acceptor> = to.listen(&place).context("no such transport")?.await?;
    let target = match rtc {
        true => Endpoint::Rtc { hub: hub()?, peer: Some(key(2).id()) },
        false => acceptor.endpoint().clone(),
    };
    let dialing = from.dial(&target).context("no such transport")?;
    let (here, there) = tokio::join!(dialing, acceptor.accept());
    let (Raw { read, write, .. }, there) = (here?, there?);
    Ok((write, there.read, Box::new((read, there.write))))
}

/// The same with a handshake and the box stream.
async fn secure(rtc: bool) -> Result<(Writer, Reader, Box<dyn Send>)> {
    let anyone: Authorise = Arc::new(|_| Ok(()));
    let settings = ListenSettings::default();
    let (one, two) = joined()?;
    let place = if rtc { Bind::rtc() } else { Bind::net("127.0.0.1", 0) };
    let mut listener = Listener::with_transports(&[&Net, &two], &[place], NETWORK, key(2), anyone, settings).await?;
    let route = match listener.port() {
        Some(port) => Route::net("127.0.0.1", port, &key(2).id()),
        None => hub()?.route(&key(2).id()),
    };
    let transports: Vec<Box<dyn Transport>> = vec![Box::new(Net), Box::new(one)];
    let dialer = Dialer::with_transports(transports, NETWORK, key(1), DialSettings::default());
    let (here, there) = tokio::join!(dialer.dial_route(&route), listener.accept());
    let here = here?;
    Ok((here.write, there.read, Box::new((here.read, there.write))))
}
