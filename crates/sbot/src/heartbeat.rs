//! Pings on connections that we dialed: they keep routers from forgetting them, and show that somebody is there.
//!
//! `gossip.ping` is a duplex in which both sides send each other what their clocks show, in turn. Who dialed begins
//! (ssb-gossip 1.1 `index.js`, ssb-conn 6 `conn.js`; `pull-ping`). Whether a connection is dead is told by the bytes that
//! don't come ([`PeerRuntime`](crate::peers::PeerRuntime)); peers that know no pings may still be there.

use std::time::Duration;

use sbot_rpc::{Body, Peer};
use serde_json::json;

use crate::publish::Clock;

/// Pings until the peer has had enough of it, or the connection ends.
pub(crate) async fn ping(peer: Peer, clock: Clock, every: Duration) {
    let timeout = u64::try_from(every.as_millis()).unwrap_or(u64::MAX);
    let Ok((mut sink, mut source)) = peer.duplex("gossip.ping", &[json!({ "timeout": timeout })]).await else { return };
    let reading = || Body::json(&(clock() as i64)).ok();
    let (mut served, mut next) = (false, None);
    loop {
        // Ours first, then whenever it is our turn.
        if !std::mem::replace(&mut served, true) {
            let Some(reading) = reading() else { return };
            if sink.send(reading).await.is_err() {
                return;
            }
        }
        let turn = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            theirs = source.recv() => match theirs {
                // The answer to ours; then it is the peer's turn, as soon as it likes, and ours after the pause.
                Some(Ok(_)) if next.is_none() => next = Some(tokio::time::Instant::now() + every),
                Some(Ok(_)) => {
                    let Some(reading) = reading() else { return };
                    if sink.send(reading).await.is_err() {
                        return;
                    }
                    next = Some(tokio::time::Instant::now() + every);
                }
                Some(Err(_)) | None => return,
            },
            () = turn => (served, next) = (false, None),
        }
    }
}
