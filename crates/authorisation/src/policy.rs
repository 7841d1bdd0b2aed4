//! The table: which role each method takes at least.

use std::fmt;

use crate::Role;

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The method's name, dots between its parts.
    pub method: &'static str,
    /// The least role that may call it.
    pub least: Role,
    /// Whether invite guests may call it too.
    pub guests: bool,
    /// Why just this one.
    pub why: &'static str,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guests = if self.guests { " and guest" } else { "" };
        write!(f, "{}: {}{guests} ({})", self.method, self.least.name(), self.why)
    }
}

/// Whether a call may go ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may, by this rule.
    Allowed(&'static Rule),
    /// It may not.
    Refused {
        /// The rule that refused.
        rule: &'static Rule,
        /// What to tell the caller: as ssb-server says it, then the rule.
        reason: String,
    },
}

const fn all(method: &'static str, why: &'static str) -> Rule {
    Rule { method, least: Role::Stranger, guests: false, why }
}

const fn own(method: &'static str, why: &'static str) -> Rule {
    Rule { method, least: Role::Owner, guests: false, why }
}

const fn guests(method: &'static str, why: &'static str) -> Rule {
    Rule { method, least: Role::Owner, guests: true, why }
}

const READS: &str = "reads the whole log";
const WRITES: &str = "writes in our name";
const ADDS: &str = "puts messages into our log unasked";
const GRAPH: &str = "shows whom we know";
const WANTS: &str = "decides what we replicate";
const DIALS: &str = "decides whom we connect to";
const SERVER: &str = "shows how this server is set up and doing";
const DISK: &str = "manages our blobs";
const LINK: &str = "peers need it to keep a connection";
const FEEDS: &str = "peers replicate feeds with it";
const BLOBS: &str = "peers exchange blobs with it";
const SECRETS: &str = "reads or writes what is encrypted to us";

/// Who may call what. A method that isn't here is refused.
pub const POLICY: &[Rule] = &[
    // what any peer may do: `permissions.anonymous.allow` of secret-stack, ssb-db, ssb-ebt, ssb-gossip, ssb-conn, ssb-blobs
    all("manifest", LINK),
    all("gossip.ping", LINK),
    all("conn.ping", LINK),
    all("ebt.replicate", FEEDS),
    all("createHistoryStream", FEEDS),
    all("blobs.has", BLOBS),
    all("blobs.get", BLOBS),
    all("blobs.getSlice", BLOBS),
    all("blobs.changes", BLOBS),
    all("blobs.createWants", BLOBS),
    // what the key of an invite opens: `permissions` of the codes that ssb-invite makes, but for `getAddress`, which shows
    // how this server is set up and which no guest calls
    guests("invite.use", "the invite that it redeems decides"),
    // the rest is the owner's
    own("whoami", SERVER),
    own("version", SERVER),
    own("address", SERVER),
    own("getAddress", SERVER),
    own("multiserver.address", SERVER),
    own("multiserver.parse", SERVER),
    own("auth", SERVER),
    own("status", SERVER),
    own("progress", SERVER),
    own("help", SERVER),
    own("friends.help", SERVER),
    own("gossip.help", SERVER),
    own("replicate.help", SERVER),
    own("blobs.help", SERVER),
    own("createLogStream", READS),
    own("createFeedStream", READS),
    own("createUserStream", READS),
    own("createRawLogStream", READS),
    own("createSequenceStream", READS),
    own("messagesByType", READS),
    own("links", READS),
    own("latest", READS),
    own("latestSequence", READS),
    own("get", READS),
    own("getLatest", READS),
    own("getFeedState", READS),
    own("getVectorClock", READS),
    own("publish", WRITES),
    own("add", ADDS),
    own("createWriteStream", ADDS),
    own("sbot.import", ADDS),
    own("del", "takes messages out of our log"),
    own("invite.create", "lets strangers have us follow them"),
    own("invite.accept", WRITES),
    own("invite.help", SERVER),
    own("hubs.help", SERVER),
    own("private.publish", SECRETS),
    own("private.unbox", SECRETS),
    own("private.read", SECRETS),
    own("friends.isFollowing", GRAPH),
    own("friends.isBlocking", GRAPH),
    own("friends.hops", GRAPH),
    own("friends.hopStream", GRAPH),
    own("friends.createFriendStream", GRAPH),
    own("friends.get", GRAPH),
    own("friends.stream", GRAPH),
    own("friends.onEdge", GRAPH),
    own("replicate.request", WANTS),
    own("replicate.block", WANTS),
    own("replicate.upto", WANTS),
    own("replicate.changes", WANTS),
    own("ebt.request", WANTS),
    own("ebt.block", WANTS),
    own("ebt.peerStatus", WANTS),
    own("gossip.peers", DIALS),
    own("gossip.get", DIALS),
    own("gossip.add", DIALS),
    own("gossip.remove", DIALS),
    own("gossip.connect", DIALS),
    own("gossip.disconnect", DIALS),
    own("gossip.reconnect", DIALS),
    own("gossip.changes", DIALS),
    own("gossip.enable", DIALS),
    own("gossip.disable", DIALS),
    own("conn.connect", DIALS),
    own("conn.disconnect", DIALS),
    own("conn.remember", DIALS),
    own("conn.forget", DIALS),
    own("conn.dbPeers", DIALS),
    own("conn.peers", DIALS),
    own("conn.stagedPeers", DIALS),
    own("conn.stage", DIALS),
    own("conn.unstage", DIALS),
    own("conn.start", DIALS),
    own("conn.stop", DIALS),
    own("hubs.ls", DIALS),
    own("hubs.add", DIALS),
    own("hubs.remove", DIALS),
    own("blobs.add", DISK),
    own("blobs.ls", DISK),
    own("blobs.rm", DISK),
    own("blobs.size", DISK),
    own("blobs.meta", DISK),
    own("blobs.want", DISK),
    own("blobs.push", DISK),
];

/// Refuses what the table doesn't know, to the owner too: there is no such method.
const UNKNOWN: Rule = own("*", "only methods in the policy table can be called");

/// Longest part of a method's name that a refusal repeats, in characters.
const SHOWN: usize = 100;

/// The rule for a method; `None` for one that the table doesn't know.
#[must_use]
pub fn rule_of(method: &str) -> Option<&'static Rule> {
    POLICY.iter().find(|rule| rule.method == method)
}

/// Whether a caller with this role may call this method, dots between the parts of its name.
///
/// A refusal begins as muxrpc's does (`permissions.js`): peers look at it to tell whether a method is missing.
#[must_use]
pub fn decide(role: Role, method: &str) -> Decision {
    match rule_of(method) {
        Some(rule) if role >= rule.least || (rule.guests && role == Role::Guest) => Decision::Allowed(rule),
        Some(rule) => refuse(rule, role, method),
        None => refuse(&UNKNOWN, role, method),
    }
}

fn refuse(rule: &'static Rule, role: Role, method: &str) -> Decision {
    let name: String = method.chars().take(SHOWN).map(|c| if c == '.' { ',' } else { c }).collect();
    let reason = format!("method:{name} is not in list of allowed methods; you are {}, rule {rule}", role.name());
    Decision::Refused { rule, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `anonymous.allow` of ssb-server 16.0.1, with what secret-stack and ssb-conn add; `ooo.stream` isn't offered here.
    const STRANGERS: [&str; 10] = [
        "manifest",
        "createHistoryStream",
        "gossip.ping",
        "conn.ping",
        "blobs.has",
        "blobs.get",
        "blobs.getSlice",
        "blobs.changes",
        "blobs.createWants",
        "ebt.replicate",
    ];

    #[test]
    fn the_owner_may_call_every_method_of_the_table() {
        for rule in POLICY {
            assert_eq!(decide(Role::Owner, rule.method), Decision::Allowed(rule));
        }
    }

    #[test]
    fn strangers_and_friends_may_call_what_ssb_server_lets_anonymous_peers_call_and_no_more() {
        for role in [Role::Stranger, Role::Friend] {
            let allowed = |name: &&str| matches!(decide(role, name), Decision::Allowed(_));
            let mut allowed: Vec<_> = POLICY.iter().map(|rule| rule.method).filter(allowed).collect();
            let mut expected = STRANGERS.to_vec();
            allowed.sort_unstable();
            expected.sort_unstable();
            assert_eq!(allowed, expected);
        }
    }

    #[test]
    fn invite_guests_may_redeem_their_invite_and_no_more() {
        let allowed = POLICY.iter().filter(|rule| matches!(decide(Role::Guest, rule.method), Decision::Allowed(_)));
        assert_eq!(allowed.map(|rule| rule.method).collect::<Vec<_>>(), ["invite.use"]);
    }

    #[test]
    fn blocked_peers_may_call_nothing() {
        for rule in POLICY {
            assert!(matches!(decide(Role::Blocked, rule.method), Decision::Refused { .. }), "{rule}");
        }
    }

    #[test]
    fn every_refusal_names_its_rule_and_the_role() {
        for rule in POLICY.iter().filter(|rule| rule.least == Role::Owner) {
            let Decision::Refused { rule: refused_by, reason } = decide(Role::Stranger, rule.method) else {
                panic!("{rule} let a stranger in")
            };
            assert_eq!(refused_by, rule);
            assert!(reason.contains(&rule.to_string()) && reason.contains("you are stranger"), "{reason}");
            let name = rule.method.replace('.', ",");
            assert!(reason.starts_with(&format!("method:{name} is not in list of allowed methods")), "{reason}");
        }
    }

    #[test]
    fn unknown_methods_are_refused_to_everyone() {
        for role in [Role::Blocked, Role::Guest, Role::Stranger, Role::Friend, Role::Owner] {
            for method in ["", "eval", "ebt", "ebt.replicate.x", "EBT.replicate", "ebt.clock", &"x".repeat(100_000)] {
                let Decision::Refused { rule, reason } = decide(role, method) else { panic!("{method} was allowed") };
                assert_eq!(rule.method, "*");
                assert!(reason.len() < 500);
            }
        }
    }

    #[test]
    fn no_method_stands_in_the_table_twice() {
        let mut names: Vec<_> = POLICY.iter().map(|rule| rule.method).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
