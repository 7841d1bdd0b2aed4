//! Dials: whether they lead to somebody, and when that is known.

use crate::engine::{AFTER_RECONNECT, Engine};
use crate::graph::NodeId;
use crate::policy::{AttemptId, Fact};
use crate::queue::Event;
use crate::settings::{MINUTE, Millis, SECOND};
use crate::world::Address;

/// A dial under way.
pub(crate) struct Dial {
    attempt: AttemptId,
    address: Address,
    since: Millis,
    round_trip: Millis,
    /// Whether it is on its way to somebody who answers.
    pub(crate) answers: bool,
    fails_at: Millis,
}

impl Engine<'_> {
    pub(crate) fn dial(&mut self, node: NodeId, attempt: AttemptId, address: Address, timeout: Millis) {
        let settings = &self.world.settings;
        self.measures.dials[(self.now / MINUTE) as usize] += 1;
        let after = self.now.checked_sub(self.world.reconnect).map(|after| (after / SECOND) as usize);
        if let Some(second) = after.filter(|second| *second < (AFTER_RECONNECT / SECOND) as usize) {
            self.measures.stampede.resize(self.measures.stampede.len().max(second + 1), 0);
            self.measures.stampede[second] += 1;
        }
        let round_trip = self.draws.log_normal(settings.round_trip_median as f64, settings.round_trip_sigma) as Millis;
        let through = round_trip * settings.round_trips_of_a_dial;
        let answers = self.answers(node, address) && through < timeout;
        let fails_at = self.now + if address.refuses { round_trip.min(timeout) } else { timeout };
        let done = if answers { self.now + through } else { fails_at };
        let state = &mut self.nodes[node as usize];
        state.dials.push(Dial { attempt, address, since: self.now, round_trip, answers, fails_at });
        self.queue.push(done, Event::DialDone(node, state.life, attempt));
    }

    fn answers(&self, node: NodeId, address: Address) -> bool {
        address.alive && self.reaches(node, address.peer)
    }

    pub(crate) fn dial_done(&mut self, node: NodeId, attempt: AttemptId) {
        let dials = &mut self.nodes[node as usize].dials;
        let Some(place) = dials.iter().position(|dial| dial.attempt == attempt) else { return };
        let dial = dials.swap_remove(place);
        if dial.answers && self.answers(node, dial.address) {
            return self.connected(node, &dial);
        }
        if self.now < dial.fails_at {
            // It has gone meanwhile: nothing comes until the dial's time is over.
            let state = &mut self.nodes[node as usize];
            self.queue.push(dial.fails_at, Event::DialDone(node, state.life, attempt));
            state.dials.push(Dial { answers: false, ..dial });
            return;
        }
        self.dropped(&dial);
        self.facts.push_back((node, Fact::DialFailed { peer: dial.address.peer, attempt }));
    }

    /// A dial is over without a link. It has failed, unless it was about to succeed.
    pub(crate) fn dropped(&mut self, dial: &Dial) {
        if !dial.answers {
            self.measures.failed[(dial.since / MINUTE) as usize] += 1;
            self.measures.failed_dead += u64::from(!dial.address.alive);
        }
    }

    fn connected(&mut self, node: NodeId, dial: &Dial) {
        let peer = dial.address.peer;
        let link = self.links.add([node, peer], dial.round_trip, self.now);
        self.nodes[node as usize].links.push(link);
        self.nodes[peer as usize].links.push(link);
        self.measures.links += 1;
        // The handshake is through at the one that was dialed first.
        self.facts.push_back((peer, Fact::Called { peer: node, link }));
        self.facts.push_back((node, Fact::Dialed { peer, attempt: dial.attempt, link }));
        self.queue.push(self.now + 2 * dial.round_trip, Event::Compared(link));
    }

    /// Breaks off a dial.
    pub(crate) fn cancel(&mut self, node: NodeId, attempt: AttemptId) {
        let dials = &mut self.nodes[node as usize].dials;
        if let Some(place) = dials.iter().position(|dial| dial.attempt == attempt) {
            let dial = dials.swap_remove(place);
            self.dropped(&dial);
        }
    }
}
