//! Who may do what, and why.
//!
//! Everything that a node allows or refuses is decided here, a local client's calls included. A [`Question`] is asked about
//! an [`Asker`]: who it is, how it came, how far it is in the social graph, who blocks whom. The [`Policy`] is a preset
//! with what the config changes of it. [`Policy::decide`] answers with a [`Decision`]: yes or no, the name of the rule that
//! said so, and the facts that it used; printed, it is a short trace.
//!
//! Facts make a [`Role`]; [`RULES`] says which role each thing takes in which [`Preset`]. [`Policy::matrix`] shows all of it
//! as a table, which `docs/authorisation.md` repeats.
//!
//! What a peer may cost is counted by [`Accounts`].
//!
//! The preset `default` is ssb-server 16: the owner may do all, everybody else what its plugins list under
//! `permissions.anonymous.allow` (secret-stack `core.js`), and blocked peers nothing (ssb-friends, `auth` hook).
//!
//! No IO, no clock: all facts come in.

mod access;
mod asker;
mod budget;
mod decision;
mod matrix;
mod policy;
mod question;
mod role;
mod rules;
#[cfg(test)]
mod tests;

pub use access::{Access, AccessError};
pub use asker::{Asker, Came};
pub use budget::{Accounts, Allowance, Budgets, Cost, MOST_ACCOUNTS, Over, Spent};
pub use decision::{Decision, Fact};
pub use matrix::{COLUMNS, Matrix, Row};
pub use policy::{Policy, PolicyError};
pub use question::{About, Feed, Question};
pub use role::{Door, Role};
pub use rules::{Preset, RULES, Rule};
