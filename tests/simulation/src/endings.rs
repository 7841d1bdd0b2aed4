//! How links end: by choice, because a peer has gone, because the network breaks.

use crate::engine::Engine;
use crate::graph::NodeId;
use crate::links::{End, Link};
use crate::policy::{Fact, LinkId};
use crate::queue::Event;

impl Engine<'_> {
    pub(crate) fn hang_up(&mut self, node: NodeId, link: LinkId) {
        let Some(known) = self.links.get(link).copied() else { return };
        let end = known.end_of(node);
        if self.end(link, end) {
            self.measures.hung_up += 1;
            self.facts.push_back((node, Fact::Ended { peer: known.at(1 - end), link }));
            self.inform(&known, 1 - end);
        }
    }

    /// This end no longer believes in a link; false if it didn't before.
    pub(crate) fn end(&mut self, link: LinkId, end: End) -> bool {
        self.lost(link);
        let Some(before) = self.links.end(link, end) else { return false };
        self.nodes[before.at(end) as usize].links.retain(|known| *known != link);
        true
    }

    /// One end of a link is gone, or all of it.
    pub(crate) fn lost(&mut self, link: LinkId) {
        let Some(link) = self.links.get_mut(link).filter(|link| !link.over) else { return };
        (link.over, link.flows) = (true, false);
        self.measures.link_time += self.now - link.since;
    }

    /// Lets this end know that the other one has hung up: at once, or when it has heard nothing for too long.
    pub(crate) fn inform(&mut self, link: &Link, end: End) {
        if !link.broken && self.reaches(link.at(0), link.at(1)) {
            self.queue.push(self.now + link.round_trip / 2, Event::Told(link.id, end));
        } else {
            self.queue.push(self.now + self.world.settings.inactivity, Event::Silent(link.id, end));
        }
    }

    pub(crate) fn told(&mut self, link: LinkId, end: End) {
        let Some(known) = self.links.get(link).copied() else { return };
        let node = known.at(end);
        if self.nodes[node as usize].online && self.end(link, end) {
            self.facts.push_back((node, Fact::Ended { peer: known.at(1 - end), link }));
        }
    }

    pub(crate) fn silent(&mut self, link: LinkId, end: End) {
        let Some(known) = self.links.get(link).copied() else { return };
        let other_gone = !known.up[usize::from(1 - end)] || !self.nodes[known.at(1 - end) as usize].online;
        if known.broken || other_gone {
            self.told(link, end);
        }
    }

    pub(crate) fn cut(&mut self, number: u32) {
        let cut = &self.world.partitions[number as usize];
        let divided = self.links.iter().filter(|link| cut.divides(link.at(0), link.at(1)));
        let divided: Vec<LinkId> = divided.map(|link| link.id).collect();
        self.break_links(divided);
    }

    pub(crate) fn reconnect(&mut self) {
        let all = self.links.iter().map(|link| link.id).collect();
        self.break_links(all);
        for (node, state) in self.nodes.iter_mut().enumerate().filter(|(_, state)| state.online) {
            state.dials.iter_mut().for_each(|dial| dial.answers = false);
            let noticed = self.now + self.draws.below(self.world.settings.reconnect_noticed);
            self.queue.push(noticed, Event::Notice(node as NodeId, state.life));
        }
    }

    pub(crate) fn break_links(&mut self, links: Vec<LinkId>) {
        for id in links {
            self.lost(id);
            if let Some(link) = self.links.get_mut(id) {
                link.broken = true;
            }
            for end in [0, 1] {
                self.queue.push(self.now + self.world.settings.inactivity, Event::Silent(id, end));
            }
        }
    }
}
