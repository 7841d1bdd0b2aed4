//! Guests of ours: those who dial us with the key of an invite.
//!
//! They are no peers: many may come with one key at once, none is replicated with or remembered, and each may do little
//! and not for long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sbot_feed::FeedId;
use sbot_multiserver::Connection;
use sbot_rpc::{Limits, Peer, Registry, Session};

use crate::api::Caller;

/// Most guests at a time. One stays for a second or two; who finds no seat is hung up on and tries again.
const MOST_GUESTS: usize = 64;

/// Most guests at a time with the same invite: who has one code can't keep out those with others.
const MOST_OF_ONE: usize = 16;

/// Time that a guest may stay: it calls one method, and may publish at home before it leaves.
const STAY: Duration = Duration::from_secs(60);

/// A guest sends a feed id and gets a message or two of 8 KiB.
const LIMITS: Limits = Limits {
    max_body: 64 << 10,
    max_requests: 16,
    max_request_bytes: 64 << 10,
    max_items: 16,
    max_stream_bytes: 64 << 10,
    max_queued: 256 << 10,
};

/// Seats for guests: how many are here with each invite.
#[derive(Default)]
pub(crate) struct Guests(Arc<Mutex<HashMap<FeedId, usize>>>);

/// A taken seat, free again when dropped.
struct Seat {
    seats: Arc<Mutex<HashMap<FeedId, usize>>>,
    guest: FeedId,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.lock();
        if let Some(taken) = seats.get_mut(&self.guest) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(&self.guest);
            }
        }
    }
}

impl Guests {
    fn seat(&self, guest: FeedId) -> Option<Seat> {
        let mut seats = self.0.lock();
        let all: usize = seats.values().sum();
        let of_one = seats.entry(guest).or_default();
        if all >= MOST_GUESTS || *of_one >= MOST_OF_ONE {
            seats.retain(|_, taken| *taken > 0);
            return None;
        }
        *of_one += 1;
        Some(Seat { seats: Arc::clone(&self.0), guest })
    }

    /// Serves a guest until it leaves or its time is over. `None` if there is no seat: then the connection is closed.
    pub(crate) fn serve(
        &self,
        connection: Connection,
        registry: Arc<Registry<Caller>>,
        caller: Caller,
    ) -> Option<Peer> {
        let Some(seat) = self.seat(connection.remote) else {
            tracing::debug!(guest = %connection.remote, "too many invite guests at once");
            return None;
        };
        tracing::info!(guest = %connection.remote, address = connection.address, "an invite guest has come");
        let guest = Session::spawn(connection.read, connection.write, registry, caller, LIMITS);
        let session = guest.clone();
        tokio::spawn(async move {
            if tokio::time::timeout(STAY, session.gone()).await.is_err() {
                session.close("an invite guest may not stay");
                session.gone().await;
            }
            drop(seat);
        });
        Some(guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_invite_fills_its_seats_and_leaves_the_others_and_seats_become_free_again() {
        let guests = Guests::default();
        let of = |number: u8| guests.seat(FeedId([number; 32]));
        let one: Vec<Seat> = std::iter::from_fn(|| of(1)).collect();
        assert_eq!(one.len(), MOST_OF_ONE);
        let others: Vec<Seat> = (2..100).filter_map(of).collect();
        assert_eq!(one.len() + others.len(), MOST_GUESTS);
        assert!(of(200).is_none());
        drop(one);
        assert!(of(1).is_some() && of(200).is_some());
        drop(others);
        assert!(guests.0.lock().is_empty(), "nothing is kept of those who have gone");
    }
}
