//! Where everything asks that has to be allowed: the policy with the facts of this node.
//!
//! [`Gate`] gathers what `sbot-authorisation` has to know about a peer (the config's keys, the social graph, the invites)
//! and passes the question on. Facts are looked up anew for every question, so that a change of the graph counts at once;
//! that takes three looks into the graph and no allocation, unless the answer is no. What lasts, open connections above
//! all, is decided anew whenever the graph changes: [`Gate::until_refused`].

mod budgets;

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::RwLock;
use sbot_authorisation::{About, Asker, Budgets, Came, Cost, Decision, Door, Feed, Policy, Question, Role};
use sbot_feed::FeedId;
use sbot_peer_manager::Kind;
use sbot_rpc::{Meter, Pace};

use crate::social::Social;
use budgets::{Ledger, PeerMeter};

/// Most characters of a method's name that a refusal repeats.
const SHOWN: usize = 100;

/// Whether something holds of a feed.
type Holds = Box<dyn Fn(&FeedId) -> bool + Send + Sync>;

/// Who calls, as the gate let them in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The key with which the caller came; ours for a client on the unix socket.
    pub id: FeedId,
    /// How the caller came.
    pub came: Came,
    /// Whether the caller acts for us. That doesn't change while a connection is open.
    owner: bool,
}

impl Caller {
    /// Whether the caller may do all that we may.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.owner
    }
}

/// The policy of this node, and where its facts come from.
pub struct Gate {
    own: FeedId,
    policy: Policy,
    social: Arc<Social>,
    masters: HashSet<FeedId>,
    rooms: HashSet<FeedId>,
    is_guest: Holds,
    /// Feeds that the owner has asked for by name.
    requested: RwLock<HashSet<FeedId>>,
    ledger: Arc<Ledger>,
}

impl Gate {
    /// The gate of the node with key `own`. Nobody is a master, a room or a guest yet.
    #[must_use]
    pub fn new(own: FeedId, policy: Policy, social: Arc<Social>) -> Gate {
        Gate {
            own,
            policy,
            social,
            masters: HashSet::new(),
            rooms: HashSet::new(),
            is_guest: Box::new(|_| false),
            requested: RwLock::default(),
            ledger: Ledger::new(Budgets::default()),
        }
    }

    /// With these keys beside our own whose owners may do all that we may.
    #[must_use]
    pub fn with_masters(self, masters: impl IntoIterator<Item = FeedId>) -> Gate {
        Gate { masters: masters.into_iter().collect(), ..self }
    }

    /// With these servers as rooms.
    #[must_use]
    pub fn with_rooms(self, rooms: impl IntoIterator<Item = FeedId>) -> Gate {
        Gate { rooms: rooms.into_iter().collect(), ..self }
    }

    /// With guests: `is_guest` says whether a key is that of an invite of ours.
    #[must_use]
    pub fn with_guests(self, is_guest: impl Fn(&FeedId) -> bool + Send + Sync + 'static) -> Gate {
        Gate { is_guest: Box::new(is_guest), ..self }
    }

    /// With other budgets for each peer than the default ones.
    #[must_use]
    pub fn with_budgets(self, budgets: Budgets) -> Gate {
        Gate { ledger: Ledger::new(budgets), ..self }
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What is known of a peer that came in this way.
    #[must_use]
    pub fn asker(&self, peer: &FeedId, came: Came) -> Asker {
        let hops = self.social.distance(peer);
        let minded = hops.is_none() && self.policy.minds_followers_of_followers();
        Asker {
            id: *peer,
            came,
            own_key: *peer == self.own,
            master: self.masters.contains(peer),
            we_block: self.social.is_blocking(&self.own, peer),
            blocks_us: self.social.is_blocking(peer, &self.own),
            guest: (self.is_guest)(peer),
            room: self.rooms.contains(peer),
            hops,
            followed_by_friend: minded && self.social.is_followed_by_friend(peer),
        }
    }

    /// What is known of a feed that a peer asks for.
    #[must_use]
    pub fn feed(&self, feed: &FeedId, peer: &FeedId) -> Feed {
        Feed {
            blocks_asker: self.social.is_blocking(feed, peer),
            hops: self.social.distance(feed),
            requested: self.requested.read().contains(feed),
        }
    }

    /// The decision about a peer.
    pub fn decide(&self, peer: &FeedId, came: Came, question: &Question<'_>) -> Decision {
        self.policy.decide(&self.asker(peer, came), question)
    }

    /// The decision about a peer, from all facts, those that change nothing by this policy included.
    pub fn decide_in_full(&self, peer: &FeedId, came: Came, question: &Question<'_>) -> Decision {
        let asker = self.asker(peer, came);
        let followed_by_friend = asker.hops.is_none() && self.social.is_followed_by_friend(peer);
        self.policy.decide(&Asker { followed_by_friend, ..asker }, question)
    }

    /// What a peer is to us.
    #[must_use]
    pub fn role(&self, peer: &FeedId, came: Came) -> Role {
        self.asker(peer, came).role(self.policy.friends())
    }

    /// Whether we block a peer, and it doesn't act for us.
    #[must_use]
    pub fn is_blocked(&self, peer: &FeedId) -> bool {
        self.role(peer, Came::Unknown).is_blocked()
    }

    /// As what somebody is served who came in this way.
    #[must_use]
    pub fn door(&self, id: &FeedId, came: Came) -> Door {
        self.role(id, came).door()
    }

    /// Who calls on a connection that came in this way.
    #[must_use]
    pub fn caller(&self, id: FeedId, came: Came) -> Caller {
        Caller { id, came, owner: self.role(&id, came).acts_for_us() }
    }

    /// Whether a peer may connect; [`Came::Unknown`] while it isn't known how it comes.
    ///
    /// # Errors
    /// Why not: the rule in one line.
    pub fn may_connect(&self, peer: &FeedId, came: Came) -> Result<(), String> {
        said(&self.decide(peer, came, &Question::Connect))
    }

    /// Whether we may dial a peer.
    ///
    /// # Errors
    /// Why not: the rule in one line.
    pub fn may_dial(&self, peer: &FeedId) -> Result<(), String> {
        said(&self.decide(peer, Came::Unknown, &Question::Dial))
    }

    /// Whether a connection may stay open. One that we dialed may for as long as we may dial or it may connect.
    ///
    /// # Errors
    /// Why not: the rule in one line.
    pub fn may_stay(&self, peer: &FeedId, came: Came, dialed: bool) -> Result<(), String> {
        match self.may_connect(peer, came) {
            Err(_) if dialed => self.may_dial(peer),
            result => result,
        }
    }

    /// Waits until `ask` is refused, which is asked again whenever something in the social graph changes; says why.
    pub async fn until_refused(&self, ask: impl Fn(&Gate) -> Result<(), String>) -> String {
        let mut changes = self.social.versions();
        loop {
            if let Err(why) = ask(self) {
                return why;
            }
            if changes.changed().await.is_err() {
                // The node ends.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until `ask` is allowed, likewise.
    pub async fn until_allowed(&self, ask: impl Fn(&Gate) -> Result<(), String>) {
        let mut changes = self.social.versions();
        while ask(self).is_err() {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Whether a caller may call a method, dots between the parts of its name.
    ///
    /// # Errors
    /// What to tell the caller. It begins as muxrpc's refusals do (`permissions.js`): peers look at that to tell whether a
    /// method is missing.
    pub fn may_call(&self, caller: &Caller, method: &str) -> Result<(), String> {
        let decision = self.decide(&caller.id, caller.came, &Question::Call { method, about: About::NOTHING });
        if decision.is_allowed() {
            return Ok(());
        }
        let name: String = method.chars().take(SHOWN).map(|c| if c == '.' { ',' } else { c }).collect();
        let (role, rule) = (decision.role().name(), decision.rule_line());
        Err(format!("method:{name} is not in list of allowed methods; you are {role}, rule {rule}"))
    }

    /// Whether a caller may have a feed.
    #[must_use]
    pub fn gives_feed(&self, caller: &Caller, feed: &FeedId) -> bool {
        let question = Question::Replicate(self.feed(feed, &caller.id));
        self.decide(&caller.id, caller.came, &question).is_allowed()
    }

    /// Whether any feed may be exchanged with a peer.
    ///
    /// # Errors
    /// Why not: the rule in one line.
    pub fn may_replicate(&self, peer: &FeedId, came: Came) -> Result<(), String> {
        said(&self.decide(peer, came, &Question::Replicate(Feed::OURS)))
    }

    /// Whether an author's block keeps its feed from a peer, whatever else that may.
    #[must_use]
    pub fn hides(&self, author: &FeedId, peer: &FeedId) -> bool {
        self.social.is_blocking(author, peer) && self.policy.obeys_blocks_of(&self.asker(peer, Came::Unknown))
    }

    /// Takes note that the owner asks for a feed by name, or takes that back.
    pub fn request(&self, feed: &FeedId, wanted: bool) {
        let mut requested = self.requested.write();
        if wanted {
            requested.insert(*feed)
        } else {
            requested.remove(feed)
        };
    }

    /// What counts the bytes and calls of a caller's connection; `None` for one who acts for us.
    #[must_use]
    pub fn meter(&self, caller: &Caller) -> Option<Arc<dyn Meter>> {
        if caller.is_owner() {
            return None;
        }
        Some(Arc::new(PeerMeter { ledger: Arc::clone(&self.ledger), peer: caller.id }))
    }

    /// Counts blobs that a peer says it wants; ask again with 0 after a pause.
    #[must_use]
    pub fn wanted_by(&self, peer: &FeedId, blobs: u64) -> Pace {
        self.ledger.spend(peer, Cost::Wants, blobs)
    }

    /// Whether a peer may have a blob. Whoever may not is answered as if there were no such blob. `size`
    /// is in bytes.
    #[must_use]
    pub fn serves_blob(&self, peer: &FeedId, size: u64) -> bool {
        self.decide(peer, Came::Unknown, &Question::ServeBlob { size }).is_allowed()
    }

    /// Whether a peer may learn which blobs we look for.
    #[must_use]
    pub fn tells_wants(&self, peer: &FeedId) -> bool {
        self.decide(peer, Came::Unknown, &Question::TellWants).is_allowed()
    }

    /// Whether we look for blobs that a peer wants.
    #[must_use]
    pub fn passes_wants_on(&self, peer: &FeedId) -> bool {
        self.decide(peer, Came::Unknown, &Question::PassWantOn).is_allowed()
    }
}

/// How a connection from or to this address comes.
#[must_use]
pub fn came(address: &str) -> Came {
    match Kind::of(address) {
        Kind::Lan => Came::Lan,
        Kind::Internet => Came::Tcp,
        Kind::Hub => Came::Rtc,
        Kind::Room => Came::Tunnel,
        Kind::Onion => Came::Onion,
    }
}

fn said(decision: &Decision) -> Result<(), String> {
    if decision.is_allowed() { Ok(()) } else { Err(refusal(decision)) }
}

fn refusal(decision: &Decision) -> String {
    format!("this node's policy refuses it: you are {}, rule {}", decision.role().name(), decision.rule_line())
}
