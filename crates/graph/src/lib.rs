//! The social graph: who follows and blocks whom, and how far feeds are from a root.
//!
//! Contact messages make edges ([`contact_from_content`]), [`Graph`] keeps the last edge for each pair, and distances
//! follow from them: [`Graph::hops`] computes them from scratch, [`HopsView`] keeps those of one root up to date and
//! says what changed.
//!
//! What a distance means (dynamic-dijkstra `simple.js`, as layered-graph uses it): the root is 0, whom it follows 1,
//! whom those follow 2, up to a maximum. Who is blocked by a feed at distance `d` gets −(d + 1), who was unfollowed by it
//! −(d + 2). Of several distances the one nearest to 0 counts, a follow before a block at the same distance; so a block
//! by the root itself overrides every follow, and what the root merely unfollowed (−2) is overridden by a friend's follow
//! (2). Feeds with a negative distance are not looked at further.
//!
//! Source: ssb-friends 4.1 `contacts.js` and 5 `db2-contacts.js`, layered-graph `index.js`, dynamic-dijkstra `index.js`
//! and `simple.js`.

mod contact;
mod graph;
mod view;

pub use contact::contact_from_content;
pub use graph::{Graph, Relation};
pub use view::{HopsChange, HopsView};
