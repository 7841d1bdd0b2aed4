//! A decision, with the rule and the facts that led to it.

use std::fmt;

use crate::{Access, Came, Role};

/// Most facts that one decision uses: four make the role, three more are about a feed or a blob.
const MOST_FACTS: usize = 8;

/// A fact that a decision used. Printed, it is half a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// How it came.
    Came(Came),
    /// It has our own key.
    OwnKey,
    /// The config lists its key as `master`.
    MasterKey,
    /// We block it.
    WeBlockIt,
    /// It blocks us.
    BlocksUs,
    /// Its key is that of an invite of ours.
    InviteKey,
    /// The settings name it as a room or server.
    Room,
    /// Its distance, and how far friends reach.
    Hops {
        /// Its distance.
        hops: i32,
        /// How far friends reach.
        reach: i32,
    },
    /// The nearest who says something of it blocks it, or follows it no more.
    BlockedByFriend,
    /// One of our friends follows it.
    FollowedByFriend,
    /// Nobody near enough follows it.
    OutOfReach {
        /// How far friends reach.
        reach: i32,
    },
    /// The feed's author blocks it.
    AuthorBlocksIt,
    /// The owner has asked for the feed.
    Requested,
    /// The feed's distance, and how far feeds are exchanged.
    FeedHops {
        /// The distance, if there is one.
        hops: Option<i32>,
        /// How far feeds are exchanged.
        reach: i32,
    },
    /// The blob's size, and the bound of what is not large.
    Size {
        /// The size in bytes.
        size: u64,
        /// The bound in bytes (`blobs.max`).
        bound: u64,
    },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Came(Came::Socket) => f.write_str("it comes by the unix socket, or from this process"),
            Fact::Came(Came::Unknown) => f.write_str("in whatever way it comes"),
            Fact::Came(way) => write!(f, "it comes over {}", way.name()),
            Fact::OwnKey => f.write_str("it has our own key"),
            Fact::MasterKey => f.write_str("the config lists its key as master"),
            Fact::WeBlockIt => f.write_str("we block it"),
            Fact::BlocksUs => f.write_str("it blocks us, and would refuse us"),
            Fact::InviteKey => f.write_str("its key is that of an invite which we gave out"),
            Fact::Room => f.write_str("the settings name it in auth.rooms or seeds"),
            Fact::Hops { hops: 1, .. } => f.write_str("we follow it"),
            Fact::Hops { hops, reach } => write!(f, "it is {hops} hops away, friends reach {reach}"),
            Fact::BlockedByFriend => f.write_str("the nearest friend who speaks of it blocks it or follows it no more"),
            Fact::FollowedByFriend => f.write_str("a friend follows it, and it is beyond friends' reach"),
            Fact::OutOfReach { reach } => write!(f, "no friend follows it (friends reach {reach} hops)"),
            Fact::AuthorBlocksIt => f.write_str("the feed's author blocks it"),
            Fact::Requested => f.write_str("the owner has asked for the feed by name"),
            Fact::FeedHops { hops: Some(hops), reach } => {
                write!(f, "the feed is {hops} hops away, and feeds within {reach} are exchanged")
            }
            Fact::FeedHops { hops: None, reach } => {
                write!(f, "the feed is out of reach, and feeds within {reach} hops are exchanged")
            }
            Fact::Size { size, bound } => write!(f, "the blob has {size} bytes, large ones more than {bound}"),
        }
    }
}

/// Facts in the order in which they were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Facts([Option<Fact>; MOST_FACTS]);

impl Facts {
    /// Notes a fact; a further one than there is room for is left out.
    pub(crate) fn add(&mut self, fact: Fact) {
        if let Some(place) = self.0.iter_mut().find(|place| place.is_none()) {
            *place = Some(fact);
        }
    }
}

/// Yes or no, and why. Printed, it is a trace of a few lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    allowed: bool,
    rule: &'static str,
    why: &'static str,
    access: Option<Access>,
    role: Role,
    facts: Facts,
}

impl Decision {
    pub(crate) fn new(
        allowed: bool,
        rule: &'static str,
        why: &'static str,
        access: Option<Access>,
        role: Role,
        facts: Facts,
    ) -> Decision {
        Decision { allowed, rule, why, access, role, facts }
    }

    /// Whether it may.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// The name of the rule that said so: one of [`crate::RULES`], or one that no config can change: `blocked` (who is
    /// blocked may do nothing), `blocks us`, `hidden` (the feed's author blocks the asker), `reach` (the feed is too far
    /// away), `*` (there is no such method).
    #[must_use]
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// Why there is such a rule.
    #[must_use]
    pub fn why(&self) -> &'static str {
        self.why
    }

    /// Who may by that rule, if it goes by roles.
    #[must_use]
    pub fn access(&self) -> Option<Access> {
        self.access
    }

    /// What the asker is to us.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The facts that were used, in order.
    pub fn facts(&self) -> impl Iterator<Item = Fact> + '_ {
        self.facts.0.iter().flatten().copied()
    }

    /// The rule in one line: its name, who may, why.
    #[must_use]
    pub fn rule_line(&self) -> String {
        match self.access {
            Some(access) => format!("{}: {access} ({})", self.rule, self.why),
            None => format!("{} ({})", self.rule, self.why),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.allowed { "allowed" } else { "refused" })?;
        writeln!(f, "  role {}", self.role.name())?;
        writeln!(f, "  rule {}", self.rule_line())?;
        for fact in self.facts() {
            writeln!(f, "  fact {fact}")?;
        }
        Ok(())
    }
}
