//! Looks at the machine and the links now and then, and tells the peer manager what has happened ([`watching`]).
//!
//! [`watching`]: crate::watching

use std::sync::Arc;
use std::time::{Duration, Instant};

use sbot_store::Store;

use super::PeerRuntime;
use crate::interfaces;
use crate::replicating::Replicating;
use crate::time::{Uptime, millis};
use crate::watching::{EVERY, Seen, Watch};

impl PeerRuntime {
    /// Looks until the node stops. A link over which nothing has come or gone for `inactivity` is closed.
    pub(crate) async fn watch(
        self: Arc<Self>,
        uptime: Uptime,
        store: Store,
        replicating: Arc<Replicating>,
        inactivity: Option<Duration>,
    ) {
        let mut watch = Watch::default();
        let started = Instant::now();
        loop {
            let addresses = tokio::task::spawn_blocking(interfaces::addresses).await.unwrap_or_default();
            let seen = Seen {
                uptime: uptime(),
                awake: millis(started.elapsed()),
                addresses,
                behind: replicating.behind(),
                messages: store.len(),
                links: self.look_at_links(inactivity.map(millis)),
            };
            for action in watch.look(seen) {
                tracing::debug!(?action, "noticed");
                self.apply(action);
                // After a sleep the time to wake is nearer than the timer believes.
                self.wake.send_modify(|_| {});
            }
            tokio::time::sleep(Duration::from_millis(EVERY)).await;
        }
    }

    /// How much went over each link; closes those that are silent.
    fn look_at_links(&self, inactivity: Option<u64>) -> Vec<(sbot_peer_manager::LinkId, sbot_feed::FeedId, u64)> {
        let now = self.time.now();
        let look = |(link, open): (&sbot_peer_manager::LinkId, &mut super::Open)| {
            let counters = open.peer.counters();
            let bytes = counters.bytes_in + counters.bytes_out;
            if open.moved.0 != bytes {
                open.moved = (bytes, now);
            } else if inactivity.is_some_and(|limit| now.saturating_sub(open.moved.1) >= limit) {
                open.peer.close("nothing came or went for too long");
            }
            (*link, open.id, bytes)
        };
        self.links.lock().iter_mut().map(look).collect()
    }
}
