//! Who follows whom: people after Holme and Kim's model (preferential attachment, and friends of friends), pubs as the
//! places where they meet; and how far everyone is from everyone.

use crate::random::Draws;
use crate::settings::Settings;

/// A peer's number: pubs first, then people, then those that are gone.
pub(crate) type NodeId = u32;

/// A distance that isn't known.
pub(crate) const FAR: u8 = u8::MAX;
/// In place of a distance: blocked.
pub(crate) const BLOCKED: u8 = u8::MAX - 1;

/// The social graph of the living peers.
#[derive(Debug)]
pub(crate) struct Graph {
    /// How many pubs there are: they have the first numbers.
    pub(crate) pubs: usize,
    /// Whom each follows.
    pub(crate) follows: Vec<Vec<NodeId>>,
    /// Who follows each.
    pub(crate) followers: Vec<Vec<NodeId>>,
    /// Whom each blocks.
    pub(crate) blocks: Vec<Vec<NodeId>>,
    /// Of which pubs a person is a guest.
    pub(crate) guest_of: Vec<Vec<NodeId>>,
    /// Distances, one row a peer: 0 to itself, 1 to whom it follows, [`FAR`], [`BLOCKED`].
    distances: Vec<Vec<u8>>,
    /// Which feeds each replicates, one bit a feed.
    wants: Vec<Vec<u64>>,
}

impl Graph {
    /// Draws a graph.
    pub(crate) fn new(settings: &Settings, draws: &mut Draws) -> Graph {
        let pubs = ((settings.peers as f64 * settings.pubs).round() as usize).clamp(1, settings.peers);
        let none = || vec![Vec::new(); settings.peers];
        let mut graph = Graph {
            pubs,
            follows: none(),
            followers: none(),
            blocks: none(),
            guest_of: none(),
            distances: Vec::new(),
            wants: Vec::new(),
        };
        graph.people_follow(settings, draws);
        graph.people_join_pubs(settings, draws);
        graph.people_block(settings, draws);
        for follows in &mut graph.follows {
            follows.sort_unstable();
            follows.dedup();
        }
        for (from, follows) in graph.follows.iter().enumerate() {
            for to in follows {
                graph.followers[*to as usize].push(from as NodeId);
            }
        }
        graph.distances = (0..settings.peers).map(|from| graph.distances_from(from, settings.hops)).collect();
        graph.wants = graph.distances.iter().map(|row| bits(row, settings.hops)).collect();
        graph
    }

    fn people_follow(&mut self, settings: &Settings, draws: &mut Draws) {
        // Everyone is in here once, and once more for each follower: a pick is preferential attachment.
        let mut popular: Vec<NodeId> = Vec::new();
        for person in self.pubs..settings.peers {
            let me = person as NodeId;
            let wished = draws.log_normal(settings.follows_median, settings.follows_sigma) as usize;
            let wished = wished.clamp(1, settings.follows_most).min(person - self.pubs);
            let mut last: Option<NodeId> = None;
            for _ in 0..wished {
                let friends_friend = match last {
                    Some(friend) if draws.chance(settings.triads) => draws.pick(&self.follows[friend as usize]),
                    _ => None,
                };
                let Some(other) = friends_friend.or_else(|| draws.pick(&popular)) else { break };
                if other == me || self.follows[person].contains(&other) {
                    continue;
                }
                self.follows[person].push(other);
                popular.push(other);
                last = Some(other);
                if draws.chance(settings.follow_back) {
                    self.follows[other as usize].push(me);
                    popular.push(me);
                }
            }
            popular.push(me);
        }
    }

    fn people_join_pubs(&mut self, settings: &Settings, draws: &mut Draws) {
        for person in self.pubs..settings.peers {
            let count = draws.between(1, settings.guest_of as u64 + 1);
            for _ in 0..count {
                let friend = draws.pick(&self.follows[person]);
                let friends_pub = friend.and_then(|friend| draws.pick(&self.guest_of[friend as usize]));
                let chosen = match friends_pub.filter(|_| draws.chance(settings.friends_pub)) {
                    Some(chosen) => chosen,
                    // The square makes the first ones more popular.
                    None => (draws.unit().powi(2) * self.pubs as f64) as NodeId,
                };
                if !self.guest_of[person].contains(&chosen) {
                    self.guest_of[person].push(chosen);
                }
            }
            for joined in self.guest_of[person].clone() {
                self.follows[person].push(joined);
                self.follows[joined as usize].push(person as NodeId);
            }
        }
    }

    fn people_block(&mut self, settings: &Settings, draws: &mut Draws) {
        for person in self.pubs..settings.peers {
            if !draws.chance(settings.blocks) {
                continue;
            }
            let other = draws.between(self.pubs as u64, settings.peers as u64) as NodeId;
            if other as usize != person && !self.follows[person].contains(&other) {
                self.blocks[person].push(other);
            }
        }
    }

    fn distances_from(&self, from: usize, most: u8) -> Vec<u8> {
        let mut row = vec![FAR; self.follows.len()];
        row[from] = 0;
        for blocked in &self.blocks[from] {
            row[*blocked as usize] = BLOCKED;
        }
        let mut layer = vec![from as NodeId];
        for distance in 1..=most {
            let mut next = Vec::new();
            for node in layer {
                for other in &self.follows[node as usize] {
                    let place = &mut row[*other as usize];
                    if *place == FAR {
                        *place = distance;
                        next.push(*other);
                    }
                }
            }
            layer = next;
        }
        row
    }

    /// How far `to` is from `from`.
    pub(crate) fn distance(&self, from: NodeId, to: NodeId) -> u8 {
        self.distances[from as usize][to as usize]
    }

    /// Whether `node` replicates `feed`.
    pub(crate) fn wants(&self, node: NodeId, feed: NodeId) -> bool {
        self.wants[node as usize][feed as usize / 64] >> (feed % 64) & 1 == 1
    }

    /// The feeds that both replicate.
    pub(crate) fn both_want(&self, one: NodeId, other: NodeId) -> impl Iterator<Item = NodeId> {
        let words = self.wants[one as usize].iter().zip(&self.wants[other as usize]).enumerate();
        words.flat_map(|(place, (one, other))| {
            let mut both = one & other;
            std::iter::from_fn(move || {
                let bit = (both != 0).then(|| both.trailing_zeros())?;
                both &= both - 1;
                Some(place as NodeId * 64 + bit)
            })
        })
    }
}

/// One bit for each distance that is at most `most`.
fn bits(row: &[u8], most: u8) -> Vec<u64> {
    let word = |chunk: &[u8]| {
        let set = chunk.iter().enumerate().filter(|(_, distance)| **distance <= most);
        set.fold(0, |word, (bit, _)| word | 1 << bit)
    };
    row.chunks(64).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        Graph::new(&Settings { peers: 500, ..Settings::default() }, &mut Draws::new(3))
    }

    #[test]
    fn the_graph_looks_like_a_social_network() {
        let graph = graph();
        let people = graph.pubs..500;
        let count = people.len() as f64;
        let mut followers: Vec<usize> = people.clone().map(|person| graph.followers[person].len()).collect();
        followers.sort_unstable();
        let (median, most) = (followers[followers.len() / 2], followers[followers.len() - 1]);
        assert!(most > 5 * median, "some are much more popular: {median}, {most}");
        // Of two whom someone follows, how often one follows the other: by chance it would be a few in a hundred.
        let (mut pairs, mut linked) = (0.0, 0.0);
        for person in people {
            let friends: Vec<_> = graph.follows[person].iter().filter(|other| **other as usize >= graph.pubs).collect();
            for (place, one) in friends.iter().enumerate() {
                for other in &friends[..place] {
                    pairs += 1.0;
                    linked += f64::from(graph.distance(**one, **other) == 1 || graph.distance(**other, **one) == 1);
                }
            }
        }
        let by_chance = graph.follows.iter().map(Vec::len).sum::<usize>() as f64 / count / count;
        assert!(linked / pairs > 3.0 * by_chance, "{} against {by_chance}", linked / pairs);
    }

    #[test]
    fn what_is_wanted_is_what_is_near_and_not_blocked() {
        let graph = graph();
        for one in 0..500 {
            for other in 0..500 {
                assert_eq!(graph.wants(one, other), graph.distance(one, other) <= 2);
            }
            let both: Vec<_> = graph.both_want(one, 77).collect();
            let expected: Vec<_> = (0..500).filter(|feed| graph.wants(one, *feed) && graph.wants(77, *feed)).collect();
            assert_eq!(both, expected);
        }
        assert!(graph.blocks.iter().any(|blocks| !blocks.is_empty()));
    }
}
