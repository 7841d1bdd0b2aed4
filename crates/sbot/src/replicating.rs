//! Replication, wired up: the replicator with the social graph, the saved clocks of peers, and the methods.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use sbot_feed::FeedId;
use sbot_graph::Relation;
use sbot_replication::{Options, PeerClocks, Replicator};
use sbot_rpc::Registry;
use sbot_store::Store;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;

use crate::api::{self, Caller, PeerStatus, Progress};
use crate::config::Config;
use crate::gate::Gate;
use crate::social::Social;
use crate::state::State as Saves;

/// Replication of one node.
pub(crate) struct Replicating {
    replicator: Replicator,
    social: Arc<Social>,
    gate: Arc<Gate>,
    progress: watch::Sender<Progress>,
}

impl PeerClocks for Saves {
    fn load(&self, peer: &FeedId) -> Vec<(FeedId, i64)> {
        self.clock(peer).unwrap_or_else(|error| {
            tracing::warn!(%error, %peer, "what a peer had can't be read: it is told everything");
            Vec::new()
        })
    }

    fn save(&self, peer: &FeedId, clock: &[(FeedId, i64)]) {
        if let Err(error) = self.save_clock(peer, clock) {
            tracing::error!(%error, %peer, "what a peer has could not be saved");
        }
    }
}

impl Replicating {
    /// Replication of `store`, of the feeds that the graph says, and none yet with anyone.
    pub(crate) fn new(
        config: &Config,
        store: &Store,
        own: FeedId,
        saves: Arc<Saves>,
        social: Arc<Social>,
        gate: Arc<Gate>,
    ) -> Arc<Replicating> {
        let options = Options { ebt: config.replication.ebt, legacy: config.replication.legacy, ..Options::default() };
        let replicator = Replicator::new(own, store.clone(), saves, options);
        let replicating = Replicating { replicator, social, gate, progress: watch::Sender::default() };
        replicating.keep_from_blocked();
        replicating.want_what_is_near();
        Arc::new(replicating)
    }

    /// Starts the tasks that go on without peers.
    pub(crate) fn run(self: Arc<Self>, tasks: &mut JoinSet<()>) {
        tasks.spawn(self.replicator.clone().run());
        tasks.spawn(Arc::clone(&self).follow_hops());
        tasks.spawn(Arc::clone(&self).follow_blocks());
        tasks.spawn(self.follow_progress());
    }

    fn want_what_is_near(&self) {
        let reach = self.gate.policy().reach();
        self.replicator.set_wanted(self.social.hops().iter().map(|(feed, hops)| (*feed, *hops)), reach);
    }

    async fn follow_hops(self: Arc<Self>) {
        let mut hops = self.social.watch();
        while hops.changed().await.is_ok() {
            self.want_what_is_near();
        }
    }

    fn keep_from_blocked(&self) {
        for (author, said) in self.social.everything() {
            for (peer, relation) in said {
                if relation == Relation::Block {
                    self.replicator.block(&author, &peer, self.gate.hides(&author, &peer));
                }
            }
        }
    }

    async fn follow_blocks(self: Arc<Self>) {
        let mut edges = self.social.edges();
        loop {
            match edges.recv().await {
                Ok(edge) => self.replicator.block(&edge.from, &edge.to, self.gate.hides(&edge.from, &edge.to)),
                // What was taken back meanwhile is heard of again with the next change.
                Err(broadcast::error::RecvError::Lagged(_)) => self.keep_from_blocked(),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    async fn follow_progress(self: Arc<Self>) {
        let mut changes = self.replicator.progress_changes();
        while changes.changed().await.is_ok() {
            let progress = shown(*changes.borrow_and_update());
            self.progress.send_replace(progress);
        }
    }

    /// Adds `ebt.replicate`.
    pub(crate) fn register(&self, registry: Registry<Caller>) -> Registry<Caller> {
        let replicator = self.replicator.clone();
        registry.duplex("ebt.replicate", move |call, input, output| {
            let replicator = replicator.clone();
            async move { replicator.serve(call.caller.id, &call.args, input, output).await }
        })
    }

    /// Replicates with a peer, as long as the policy has it, until the connection is done; says why it is.
    pub(crate) async fn serve(&self, caller: Caller, peer: sbot_rpc::Peer, dialed: bool) -> String {
        let may = |gate: &Gate| gate.may_replicate(&caller.id, caller.came);
        tokio::select! {
            why = peer.closed() => return why,
            () = self.gate.until_allowed(may) => {}
        }
        let mut replicating = pin!(self.replicator.connected(caller.id, peer.clone(), dialed));
        tokio::select! {
            why = &mut replicating => why,
            why = self.gate.until_refused(may) => {
                // Its streams are open: there is no other way to end them.
                peer.dismiss(&why);
                replicating.await
            }
        }
    }

    /// Whether anything may be signed now: not while a peer holds messages of ours that we don't have.
    pub(crate) fn may_publish(&self) -> Result<(), String> {
        self.replicator.may_publish()
    }

    /// How many messages connected peers have that we want and lack.
    pub(crate) fn behind(&self) -> u64 {
        self.replicator.behind()
    }

    /// Saves what connected peers have.
    pub(crate) async fn save(&self) {
        self.replicator.save().await;
    }
}

fn shown(progress: sbot_replication::Progress) -> Progress {
    Progress { start: progress.start, current: progress.current, target: progress.target }
}

impl api::Replication for Replicating {
    fn request(&self, feed: &FeedId, wanted: bool) {
        self.gate.request(feed, wanted);
        self.replicator.request(feed, wanted);
    }

    fn block(&self, feed: &FeedId, peer: &FeedId, blocking: bool) {
        self.replicator.block(feed, peer, blocking);
    }

    fn wanted(&self) -> Vec<FeedId> {
        self.replicator.wanted()
    }

    fn wanted_changes(&self) -> broadcast::Receiver<(FeedId, bool)> {
        self.replicator.wanted_changes()
    }

    fn peer_status(&self, feed: &FeedId) -> BTreeMap<FeedId, PeerStatus> {
        let status = self.replicator.peer_status(feed).into_iter();
        status
            .map(|(peer, status)| {
                let replicating = status.replicating.map(|exchange| api::Replicating {
                    tx: exchange.tx,
                    rx: exchange.rx,
                    sent: exchange.sent,
                    requested: exchange.requested,
                });
                (peer, PeerStatus { seq: status.sequence, replicating })
            })
            .collect()
    }

    fn progress(&self) -> Option<Progress> {
        Some(shown(self.replicator.progress())).filter(|progress| progress.target > 0)
    }

    fn progress_changes(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn history_requested(&self, peer: &FeedId) {
        self.replicator.history_requested(peer);
    }
}
