//! Whole networks of peers in virtual time: which policy keeps them connected, at what price?
//!
//! A [`World`] is drawn from a seed: a social graph, pubs and people, who is online when, which addresses each one knows
//! (half of them dead), when a part is cut off, when everyone's network reconnects, and what is published. [`run`] lets
//! it happen once with each policy ([`Kind`]): the production reducer of `sbot-peer-manager`, or a model of ssb-conn's.
//! Every peer's policy is told facts and has wishes; the engine makes dials succeed or fail, links break, and
//! messages spread. [`Measures`] come out, the same ones for the same seed; only [`Cost`] is real time.
//!
//! `docs/simulation.md` says how to run it, what the world assumes, and what the model of ssb-conn leaves out.

mod dials;
mod endings;
mod engine;
mod graph;
mod links;
mod measure;
mod ours;
mod plots;
mod policy;
mod queue;
mod random;
mod replication;
mod settings;
mod ssb_conn;
mod svg;
mod table;
mod timeline;
mod world;

pub use engine::{Outcome, run};
pub use measure::{Cost, Knowledge, Measures, Sample, Spread};
pub use plots::plots;
pub use policy::Kind;
pub use settings::{DAY, HOUR, MINUTE, Millis, SECOND, Settings};
pub use table::{costs, table};
pub use world::World;
