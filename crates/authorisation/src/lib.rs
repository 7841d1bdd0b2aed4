//! Who may call what, and why.
//!
//! Every call, a local client's included, is decided here: [`role_of`] says what a caller is to us, [`POLICY`] which role
//! a method takes at least, [`decide`] puts the two together. A refusal names the rule that refused.
//!
//! Defaults are those of ssb-server 16: the owner may do all, everybody else what the plugins list under
//! `permissions.anonymous.allow` (secret-stack `core.js`). Blocked peers may do nothing; they are refused at the
//! handshake already (ssb-friends `auth` hook).

mod policy;
mod role;

pub use policy::{Decision, POLICY, Rule, decide, rule_of};
pub use role::{Role, role_of};
