//! Bad input before the handshake is done.

use std::time::Duration;

use anyhow::Result;
use sbot_feed::{Keypair, NetworkKey};
use sbot_testbot::{PATIENCE, RawPeer, TestNode, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Bytes of the first thing that either side says (secret handshake, "hello").
const HELLO: usize = 64;

async fn dial(node: &TestNode) -> Result<TcpStream> {
    Ok(TcpStream::connect(("127.0.0.1", node.port()?)).await?)
}

/// Waits until the node hangs up.
async fn hung_up(stream: &mut TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    // However it hangs up.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await?;
    Ok(())
}

#[tokio::test]
async fn a_peer_of_another_network_is_hung_up_on() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let refused = RawPeer::dial(&NetworkKey::default(), &Keypair::generate(), &node).await;
    assert!(refused.is_err());
    assert_eq!(node.inner().context().peers.list().len(), 0);
    node.is_well().await
}

#[tokio::test]
async fn nodes_of_two_networks_never_connect() -> Result<()> {
    let (here, there) = (World::new()?, World::new()?);
    let (a, b) = (here.node("a").await?, there.node("b").await?);
    let error = a.connect(&b).await.unwrap_err().to_string();
    assert!(!error.is_empty());
    assert!(!a.is_connected(&b.id()) && !b.is_connected(&a.id()));
    a.is_well().await?;
    b.is_well().await
}

#[tokio::test]
async fn a_peer_with_a_wrong_key_for_us_learns_nothing() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.node("a").await?, world.node("b").await?);
    let wrong = a.address()?.replace(&a.id().to_string()[1..45], &Keypair::generate().id().to_string()[1..45]);
    assert_ne!(wrong, a.address()?);
    assert!(b.call("gossip.connect", &[wrong]).await.is_err());
    assert_eq!(a.inner().context().peers.list().len(), 0);
    a.is_well().await?;
    b.is_well().await
}

#[tokio::test]
async fn a_peer_that_stalls_in_the_handshake_is_cut_off() -> Result<()> {
    let world = World::new()?;
    let limit = Duration::from_millis(300);
    let node = world.setup("a").change(|config| config.timers.handshake = limit).start().await?;
    for said in [0, 1, HELLO - 1] {
        let begin = Instant::now();
        let mut stream = dial(&node).await?;
        stream.write_all(&vec![7; said]).await?;
        hung_up(&mut stream).await?;
        assert!(begin.elapsed() >= limit / 2, "{said} bytes are no reason to hang up at once");
    }
    // Silent after the node has answered its hello.
    let mut stream = dial(&node).await?;
    let ephemeral = [9; 32];
    let (_client, hello) =
        sbot_shs::handshake::Client::start(&world.network(), &Keypair::generate(), &node.id(), ephemeral);
    stream.write_all(&hello).await?;
    let mut answer = [0; HELLO];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await??;
    hung_up(&mut stream).await?;
    node.is_well().await
}

#[tokio::test]
async fn a_dialed_peer_that_stalls_in_the_handshake_is_given_up() -> Result<()> {
    let world = World::new()?;
    let node = world.setup("a").change(|config| config.timers.handshake = Duration::from_millis(300)).start().await?;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let route = sbot_multiserver::Route::net("127.0.0.1", silent.local_addr()?.port(), &Keypair::generate().id());
    let error = node.call("gossip.connect", &[route.to_string()]).await.unwrap_err().to_string();
    assert!(error.contains("handshake"), "{error}");
    node.is_well().await
}

#[tokio::test]
async fn nonsense_in_place_of_a_hello_is_hung_up_on() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    for nonsense in [vec![0; HELLO], vec![255; 4096], b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(4)] {
        let mut stream = dial(&node).await?;
        // The node may hang up before it has all.
        let _ = stream.write_all(&nonsense).await;
        hung_up(&mut stream).await?;
    }
    node.is_well().await
}

#[tokio::test]
async fn half_open_connections_in_flood_keep_no_good_peer_out() -> Result<()> {
    let world = World::new()?;
    let node = world.setup("a").change(|config| config.timers.handshake = PATIENCE).start().await?;
    let mut flood = Vec::new();
    for number in 0..300 {
        flood.push(dial(&node).await?);
        if number % 100 == 99 {
            node.is_well().await?;
        }
    }
    node.is_well().await?;
    drop(flood);
    node.is_well().await
}

#[tokio::test]
async fn a_blocked_peer_is_refused_at_the_handshake() -> Result<()> {
    let world = World::new()?;
    let node = world.node("a").await?;
    let enemy = world.keypair("enemy");
    // Welcome before it is blocked.
    world.raw("enemy", &node).await?.goodbye().await?;
    node.block(enemy.id()).await?;
    assert!(world.raw("enemy", &node).await.is_err());
    assert!(world.raw("somebody", &node).await.is_ok());
    let node = node.restart().await?;
    assert!(world.raw("enemy", &node).await.is_err(), "the block outlives a restart");
    node.is_well().await
}
