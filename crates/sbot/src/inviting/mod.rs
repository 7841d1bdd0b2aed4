//! Invites, wired up: as the pub that gives them out and follows whoever redeems one, and as the guest of another pub.
//!
//! A code holds the seed of a key. Whoever dials us with that key is a guest: it may call `invite.use` and is served apart
//! from peers ([`Guests`]). A use is counted on disk before the follow is published, and given back if publishing fails.
//! Should the node stop between the two, the same feed may use the invite again without being counted twice.

mod accept;
mod book;
mod guests;
mod place;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sbot_feed::{FeedId, Keypair};
use sbot_multiserver::{Dialer, InviteCode};
use sbot_store::{Record, Store};
use serde::Serialize;
use serde_json::Value;

use crate::api::{Addresses, Failure, Invites, Peers, Pending, Wish};
use crate::publish::{Clock, Publisher};
use crate::social::Social;
use crate::state::State as Saves;
use book::{Book, Invite, Refusal};
pub(crate) use guests::Guests;
use place::Offered;

/// Longest note, in bytes of its JSON: the follow that holds it has to fit into a message (8,192 UTF-16 units in all).
const MAX_NOTE: usize = 4096;

/// Longest wait for the social graph to take in a follow of ours that is in the log already.
const GRAPH_PATIENCE: Duration = Duration::from_secs(10);

/// What a pub says that follows us already (`use` in ssb-invite).
const ALREADY: &str = "already following";

/// What invites work with.
pub(crate) struct Inviting {
    /// Who we are.
    pub(crate) own: FeedId,
    /// The log.
    pub(crate) store: Store,
    /// Where follows are published.
    pub(crate) publisher: Arc<Publisher>,
    /// Whom we follow.
    pub(crate) social: Arc<Social>,
    /// Where we listen.
    pub(crate) addresses: Arc<dyn Addresses>,
    /// Where the pubs go that accept us.
    pub(crate) peers: Arc<dyn Peers>,
    /// Dials pubs.
    pub(crate) dialer: Dialer,
    /// What time it is.
    pub(crate) clock: Clock,
    /// Whether our invites may name hosts of a private network.
    pub(crate) allow_private: bool,
    /// What we gave out.
    pub(crate) given: Arc<Given>,
}

/// The invites that we gave out, in memory and on disk.
pub(crate) struct Given {
    book: Mutex<Book>,
    saves: Arc<Saves>,
    /// Uses one after another: each looks whether the one before has followed the same feed. Also taken by the guest's
    /// side for what it publishes.
    turn: tokio::sync::Mutex<()>,
}

/// The follow of whoever redeems an invite, its fields in ssb-invite's order.
#[derive(Serialize)]
struct Welcome<'a> {
    r#type: &'static str,
    contact: FeedId,
    following: bool,
    r#pub: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a Value>,
}

impl Given {
    /// The invites as they were saved. Blocks.
    pub(crate) fn load(saves: Arc<Saves>) -> Given {
        let rows = saves.invites().unwrap_or_else(|error| {
            tracing::error!(%error, "the invites can't be read: none can be used until the next start");
            Vec::new()
        });
        let invites = rows.into_iter().filter_map(|(guest, row)| match serde_json::from_slice(&row) {
            Ok(invite) => Some((guest, invite)),
            Err(error) => {
                tracing::warn!(%error, %guest, "an invite can't be understood and is passed over");
                None
            }
        });
        Given { book: Mutex::new(Book::new(invites)), saves: Arc::clone(&saves), turn: tokio::sync::Mutex::default() }
    }

    /// Whether a key is that of an invite that we gave out.
    pub(crate) fn knows(&self, guest: &FeedId) -> bool {
        self.book.lock().knows(guest)
    }

    /// Puts an invite on disk and takes others off it.
    async fn save(&self, guest: FeedId, invite: &Invite, forget: Vec<FeedId>) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::new(format!("the invite can't be saved: {error}"));
        let row = serde_json::to_vec(invite).map_err(|error| failed(&error))?;
        let saves = Arc::clone(&self.saves);
        let saved = tokio::task::spawn_blocking(move || saves.save_invite(&guest, &row, &forget)).await;
        saved.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }
}

impl Inviting {
    fn now(&self) -> u64 {
        // whole milliseconds after 1970
        (self.clock)() as u64
    }

    async fn make(&self, wish: Wish) -> Result<String, Failure> {
        let note = wish.note.as_ref().map_or(0, |note| note.to_string().len());
        if note > MAX_NOTE {
            return Err(Failure::new(format!("the note is too long: {note} bytes of JSON (at most {MAX_NOTE})")));
        }
        let of = |scope| self.addresses.addresses(Some(scope));
        let private = || if self.allow_private { of("local") } else { None };
        let offered = Offered { for_invites: of("public").or_else(private), any: of("local").or_else(|| of("device")) };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| Failure::new(format!("no randomness for a seed: {error}")))?;
        let code = place::code(&wish, &offered, self.allow_private, self.own, seed);
        let code = code.map_err(|error| Failure::new(error.to_string()))?;

        let guest = Keypair::from_seed(seed).id();
        let now = self.now();
        let invite = Invite::new(wish.uses, wish.note, wish.expires, now);
        let forget = self.given.book.lock().add(guest, invite.clone(), now)?;
        if let Err(failure) = self.given.save(guest, &invite, forget).await {
            self.given.book.lock().remove(&guest);
            return Err(failure);
        }
        Ok(code)
    }

    async fn follow_guest(&self, guest: FeedId, feed: FeedId) -> Result<Record, Failure> {
        let given = &self.given;
        let _turn = given.turn.lock().await;
        if self.social.is_following(&self.own, &feed) {
            // after a crash between the follow and this
            self.settle(guest, feed).await;
            return Err(Failure::new(ALREADY));
        }
        if feed == self.own || self.social.is_blocking(&self.own, &feed) {
            // ssb-invite would follow itself, and whom its owner blocks
            return Err(Failure::new("this feed can't be followed by an invite"));
        }
        let invite = given.book.lock().begin(&guest, feed, self.now())?;
        let welcome = Welcome { r#type: "contact", contact: feed, following: true, r#pub: true, note: invite.note() };
        let followed = match given.save(guest, &invite, Vec::new()).await {
            Ok(()) => self.publish(&welcome).await,
            Err(failure) => Err(failure),
        };
        match followed {
            Ok(record) => {
                tracing::info!(%guest, %feed, "an invite is used");
                self.settle(guest, feed).await;
                self.until_following(feed).await;
                Ok(record)
            }
            Err(failure) => {
                let given_back = given.book.lock().give_back(&guest, &feed);
                if let Some(invite) = given_back
                    && let Err(error) = given.save(guest, &invite, Vec::new()).await
                {
                    // the feed that failed may still try again, after a restart too
                    tracing::warn!(%error, %guest, "a use that failed stays counted");
                }
                Err(failure)
            }
        }
    }

    /// Notes that the use is done, if it was under way.
    async fn settle(&self, guest: FeedId, feed: FeedId) {
        let done = self.given.book.lock().followed(&guest, &feed);
        if let Some(invite) = done
            && let Err(error) = self.given.save(guest, &invite, Vec::new()).await
        {
            // it is counted on disk; that it is done the graph tells
            tracing::warn!(%error, %guest, "who used an invite can't be noted");
        }
    }

    async fn publish(&self, content: &impl Serialize) -> Result<Record, Failure> {
        let content = serde_json::to_vec(content).map_err(|error| Failure::new(error.to_string()))?;
        self.publisher.publish(&content).await
    }

    /// Waits for the graph to know that we follow a feed.
    async fn until_following(&self, feed: FeedId) {
        let known = self.social.until_following(&self.own, &feed);
        if tokio::time::timeout(GRAPH_PATIENCE, known).await.is_err() {
            tracing::warn!(%feed, "the social graph is slow to take in a follow");
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown(guest) => Failure::not_found(guest),
            other => Failure::new(other.to_string()),
        }
    }
}

/// Runs work to its end whoever hangs up meanwhile: a use that is counted has to be followed.
fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Pending<'static, T> {
    let work = tokio::spawn(work);
    Box::pin(async move {
        match work.await {
            Ok(result) => result,
            Err(error) => Err(Failure::new(format!("the server failed to answer: {error}"))),
        }
    })
}

impl Invites for Inviting {
    fn create(self: Arc<Self>, wish: Wish) -> Pending<'static, String> {
        to_its_end(async move { self.make(wish).await })
    }

    fn redeem(self: Arc<Self>, guest: FeedId, feed: FeedId) -> Pending<'static, Record> {
        to_its_end(async move { self.follow_guest(guest, feed).await })
    }

    fn accept(self: Arc<Self>, code: InviteCode) -> Pending<'static, Vec<Record>> {
        to_its_end(async move { self.be_guest(&code).await })
    }

    fn knows(&self, guest: &FeedId) -> bool {
        self.given.knows(guest)
    }
}
