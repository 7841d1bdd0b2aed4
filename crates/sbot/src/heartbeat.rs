//! Pings on connections that we dialed: they keep routers from forgetting them, and show that somebody is there.
//!
//! `gossip.ping` is a duplex in which both sides send each other what their clocks show, in turn. Who dialed begins
//! (ssb-gossip 1.1 `index.js`, ssb-conn 6 `conn.js`; `pull-ping`). Where nobody answers, and nothing else comes either, the
//! connection is closed; a peer that knows no pings is left alone.

use std::time::Duration;

use sbot_rpc::{Body, Peer, Sink};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::publish::Clock;
use crate::time::millis;

/// Pings until the peer has had enough of it, or the connection ends.
pub(crate) async fn ping(peer: Peer, clock: Clock, every: Duration) {
    let Ok((mut sink, mut source)) = peer.duplex("gossip.ping", &[json!({ "timeout": millis(every) })]).await else {
        return;
    };
    if !send(&mut sink, &clock).await {
        return;
    }
    // While ours is not answered, the bytes that had come when it was sent.
    let mut asked = Some(peer.counters().bytes_in);
    let mut turn = Instant::now() + every;
    loop {
        tokio::select! {
            theirs = source.recv() => {
                match theirs {
                    Some(Ok(_)) if asked.is_some() => asked = None,
                    Some(Ok(_)) if send(&mut sink, &clock).await => {}
                    _ => return,
                }
                turn = Instant::now() + every;
            }
            () = sleep_until(turn) => {
                let heard = peer.counters().bytes_in;
                if asked == Some(heard) {
                    return peer.close("no answer to a ping");
                }
                if asked.is_none() && !send(&mut sink, &clock).await {
                    return;
                }
                asked = Some(heard);
                turn = Instant::now() + every;
            }
        }
    }
}

/// Sends what our clock shows; false if the peer takes it no more.
async fn send(sink: &mut Sink, clock: &Clock) -> bool {
    match Body::json(&(clock() as i64)) {
        Ok(reading) => sink.send(reading).await.is_ok(),
        Err(_) => false,
    }
}
