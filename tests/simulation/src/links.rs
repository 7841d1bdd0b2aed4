//! Links between two peers, each end of which may believe in it longer than the other.

use crate::graph::NodeId;
use crate::policy::LinkId;
use crate::settings::Millis;

/// One end of a link: 0 is who dialed.
pub(crate) type End = u8;

/// A link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) ends: [NodeId; 2],
    /// Which ends believe that it is up.
    pub(crate) up: [bool; 2],
    /// Nothing will ever come over it again.
    pub(crate) broken: bool,
    /// Its time is over, and counted.
    pub(crate) over: bool,
    /// The peers have caught up with each other: what is new is sent at once.
    pub(crate) flows: bool,
    pub(crate) round_trip: Millis,
    pub(crate) since: Millis,
}

impl Link {
    /// The peer at an end.
    pub(crate) fn at(&self, end: End) -> NodeId {
        self.ends[usize::from(end)]
    }

    /// The end at which a peer is.
    pub(crate) fn end_of(&self, node: NodeId) -> End {
        End::from(self.ends[1] == node)
    }

    /// Whether both ends believe in it, and are right.
    pub(crate) fn carries(&self) -> bool {
        self.up[0] && self.up[1] && !self.over
    }
}

/// All links. Their places are used again, with other ids.
#[derive(Debug, Default)]
pub(crate) struct Links {
    places: Vec<Option<Link>>,
    free: Vec<u32>,
    count: u64,
}

impl Links {
    pub(crate) fn add(&mut self, ends: [NodeId; 2], round_trip: Millis, since: Millis) -> LinkId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            (self.places.len() - 1) as u32
        });
        self.count += 1;
        let id = self.count << 32 | u64::from(place);
        let link = Link { id, ends, up: [true, true], broken: false, over: false, flows: false, round_trip, since };
        self.places[place as usize] = Some(link);
        id
    }

    pub(crate) fn get(&self, id: LinkId) -> Option<&Link> {
        self.places[id as u32 as usize].as_ref().filter(|link| link.id == id)
    }

    pub(crate) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.places[id as u32 as usize].as_mut().filter(|link| link.id == id)
    }

    /// This end no longer believes in a link; what it was, if it did before.
    pub(crate) fn end(&mut self, id: LinkId, end: End) -> Option<Link> {
        let link = self.get_mut(id)?;
        let before = *link;
        link.up[usize::from(end)] = false;
        if link.up == [false, false] {
            self.places[id as u32 as usize] = None;
            self.free.push(id as u32);
        }
        before.up[usize::from(end)].then_some(before)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.places.iter().flatten()
    }
}
