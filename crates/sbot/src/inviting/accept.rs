//! The guest's side: an invite of another pub is accepted.
//!
//! The steps, in this order: dial the pub with the key of the invite, have it follow us (`invite.use`), remember its
//! address, follow it, tell others its address in a `pub` message, and dial it as ourselves.
//!
//! If something fails on the way, `invite.accept` with the same code can be repeated. A pub that follows us already says
//! so; then what we have not published yet is made up for, and only if nothing is missing is that an error, as it always
//! is with ssb-invite.
//!
//! Source: ssb-invite 2.1 `index.js` (`accept`).

use std::sync::Arc;
use std::time::Duration;

use sbot_feed::FeedId;
use sbot_multiserver::{DialError, InviteCode};
use sbot_rpc::{CallError, Limits, Peer, Registry, Session};
use sbot_store::Record;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{ALREADY, Inviting};
use crate::api::Failure;
use crate::content::raw_content;

/// How often the pub is dialed before we give up.
const TRIES: u32 = 3;

/// Pause after the first try; each further one is as much longer.
const PAUSE: Duration = Duration::from_millis(500);

/// Longest wait for the pub's answer: it publishes a message before it answers.
const ANSWER: Duration = Duration::from_secs(60);

/// Records read at a time.
const CHUNK: usize = 2048;

/// Our follow of a pub, its fields in ssb-invite's order.
#[derive(Serialize)]
struct Follow {
    r#type: &'static str,
    following: bool,
    autofollow: bool,
    contact: FeedId,
}

/// The message that tells others where a pub is.
#[derive(Serialize)]
struct Announcement<'a> {
    r#type: &'static str,
    address: Place<'a>,
}

#[derive(Serialize)]
struct Place<'a> {
    host: &'a str,
    port: u16,
    key: FeedId,
}

/// What we read of our own `pub` messages.
#[derive(Deserialize)]
struct Announced {
    r#type: String,
    address: AnnouncedPlace,
}

#[derive(Deserialize)]
struct AnnouncedPlace {
    key: FeedId,
}

impl Inviting {
    pub(super) async fn be_guest(self: Arc<Self>, code: &InviteCode) -> Result<Vec<Record>, Failure> {
        let key = code.key();
        if key == self.own {
            return Err(Failure::new("this invite leads to this very node"));
        }
        let address = code.remote().map_err(|error| Failure::new(error.to_string()))?;
        let follows_already = self.ask_pub(code).await?;

        let _turn = self.given.turn.lock().await;
        let (follow, announce) = match follows_already {
            false => (true, true),
            true => (!self.social.is_following(&self.own, &key), !self.has_announced(key).await?),
        };
        if !follow && !announce {
            return Err(not_accepted(ALREADY));
        }
        // Before the follow: what follows from it for the connection is for peers that are known by then.
        if let Err(error) = self.peers.add(&address, &key, Some("invite")) {
            tracing::warn!(%error, "the pub of an invite can't be remembered");
        }
        let mut published = Vec::new();
        if follow {
            let follow = Follow { r#type: "contact", following: true, autofollow: true, contact: key };
            published.push(self.publish(&follow).await?);
            self.until_following(key).await;
        }
        if announce {
            let address = Place { host: code.host(), port: code.port(), key };
            published.push(self.publish(&Announcement { r#type: "pub", address }).await?);
        }
        let peers = Arc::clone(&self.peers);
        tokio::spawn(async move {
            if let Err(error) = peers.connect(key).await {
                // it stays known, and is dialed again
                tracing::info!(%key, %error, "the pub of an accepted invite is not connected");
            }
        });
        Ok(published)
    }

    /// Has the pub follow us. Answers whether it did so before.
    async fn ask_pub(&self, code: &InviteCode) -> Result<bool, Failure> {
        let guest = self.dial_as_guest(code).await?;
        let request = json!([{"feed": self.own}]);
        let answer = tokio::time::timeout(ANSWER, guest.call("invite.use", &request)).await;
        guest.close("done");
        match answer {
            Ok(Ok(_)) => Ok(false),
            Ok(Err(CallError::Remote(error))) if error.message == ALREADY => Ok(true),
            Ok(Err(error)) => Err(not_accepted(error)),
            Err(_) => Err(not_accepted(format!("the pub has not answered within {ANSWER:?}"))),
        }
    }

    /// A connection to the pub with the key that the seed makes.
    async fn dial_as_guest(&self, code: &InviteCode) -> Result<Peer, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.dialer.dial(code.dial()).await {
                Ok(connection) => {
                    // a guest has nothing to offer
                    let registry = Arc::new(Registry::<()>::new());
                    return Ok(Session::spawn(connection.read, connection.write, registry, (), Limits::REMOTE));
                }
                Err(error)
                    if tries == TRIES || matches!(error, DialError::Unknown { .. } | DialError::NoKey { .. }) =>
                {
                    return Err(Failure::new(format!("could not connect to server: {error}")));
                }
                Err(error) => tracing::debug!(%error, "the pub of an invite can't be reached yet"),
            }
            tokio::time::sleep(PAUSE * tries).await;
        }
    }

    /// Whether a `pub` message of ours tells where the pub with this key is.
    async fn has_announced(&self, key: FeedId) -> Result<bool, Failure> {
        let (store, own) = (self.store.clone(), self.own);
        let look = move || {
            for numbers in store.by_type("pub").chunks(CHUNK) {
                let mut records = store.records(numbers)?.into_iter();
                if records.any(|record| record.author == own && announces(raw_content(&record.value), key)) {
                    return Ok(true);
                }
            }
            Ok::<_, Failure>(false)
        };
        tokio::task::spawn_blocking(look).await.map_err(|error| Failure::new(error.to_string()))?
    }
}

fn announces(content: &[u8], key: FeedId) -> bool {
    serde_json::from_slice::<Announced>(content).is_ok_and(|said| said.r#type == "pub" && said.address.key == key)
}

/// ssb-invite's words, and why.
fn not_accepted(why: impl std::fmt::Display) -> Failure {
    Failure::new(format!("invite not accepted: {why}"))
}
