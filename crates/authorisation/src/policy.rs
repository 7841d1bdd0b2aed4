//! The policy: a preset and what the config changes of it; [`Policy::decide`].

use std::collections::HashMap;

use crate::decision::Facts;
use crate::rules::{CONNECT, DIAL, EXCHANGE, LARGE, PASS_ON, SERVE, TELL};
use crate::{Access, Asker, Decision, Fact, Feed, Preset, Question, RULES, Role, Rule};

/// Why a policy can't be changed in some way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// There is no such rule.
    #[error("there is no rule {name:?}{}: known are {}", meant.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default(), Policy::known_rules())]
    UnknownRule {
        /// What was named.
        name: String,
        /// What was meant, perhaps: it differs in upper and lower case alone.
        meant: Option<&'static str>,
    },
    /// The rule can't be made so wide.
    #[error("{name} can't be given to {access}: it {why}; owner and master are possible")]
    TooWide {
        /// The rule.
        name: &'static str,
        /// Who should have got it.
        access: Access,
        /// Why not.
        why: &'static str,
    },
}

/// Who may do what.
#[derive(Debug, Clone)]
pub struct Policy {
    preset: Preset,
    /// In the order of [`RULES`].
    accesses: Vec<Access>,
    numbers: HashMap<&'static str, usize>,
    /// How far friends reach (`friends.hops`).
    friends: i32,
    /// How far from us feeds are exchanged at most.
    reach: Option<u8>,
    /// Blobs beyond so many bytes are large (`blobs.max`).
    large: u64,
    /// Some rule begins at [`Role::FollowedByFriend`].
    minds: bool,
}

impl Policy {
    /// A preset as it is. `friends` is how far friends reach in hops (`friends.hops`), blobs of more than `large` bytes are
    /// large (`blobs.max`).
    #[must_use]
    pub fn new(preset: Preset, friends: u8, large: u64) -> Policy {
        let accesses: Vec<Access> = RULES.iter().map(|rule| rule.access(preset)).collect();
        Policy {
            preset,
            minds: minds(&accesses),
            accesses,
            numbers: RULES.iter().enumerate().map(|(number, rule)| (rule.name, number)).collect(),
            friends: i32::from(friends),
            reach: preset.reach(),
            large,
        }
    }

    /// Changes who may by one rule.
    ///
    /// # Errors
    /// [`PolicyError`]: no such rule, or one that can't be given away.
    pub fn set(&mut self, name: &str, access: Access) -> Result<(), PolicyError> {
        let unknown = || PolicyError::UnknownRule {
            name: name.chars().take(60).collect(),
            meant: RULES.iter().map(|rule| rule.name).find(|known| known.eq_ignore_ascii_case(name)),
        };
        let number = *self.numbers.get(name).ok_or_else(unknown)?;
        let (rule, place) = RULES.get(number).zip(self.accesses.get_mut(number)).ok_or_else(unknown)?;
        if !access.is_within(rule.widest()) {
            return Err(PolicyError::TooWide { name: rule.name, access, why: rule.why });
        }
        *place = access;
        self.minds = minds(&self.accesses);
        Ok(())
    }

    /// Changes how far from us feeds are exchanged at most, in hops; `None` for as far as `friends.hops`.
    pub fn set_reach(&mut self, reach: Option<u8>) {
        self.reach = reach;
    }

    /// The preset that this began with.
    #[must_use]
    pub fn preset(&self) -> Preset {
        self.preset
    }

    pub(crate) fn with_friends(self, friends: i32) -> Policy {
        Policy { friends, ..self }
    }

    /// How far friends reach, in hops.
    #[must_use]
    pub fn friends(&self) -> i32 {
        self.friends
    }

    /// How far from us feeds are exchanged, in hops.
    #[must_use]
    pub fn reach(&self) -> i32 {
        self.reach.map_or(self.friends, |reach| self.friends.min(i32::from(reach)))
    }

    /// Who may by a rule; `None` if there is no such rule.
    #[must_use]
    pub fn access(&self, rule: &str) -> Option<Access> {
        self.find(rule).map(|(_, access)| access)
    }

    /// All rules, with who may by each.
    pub fn rules(&self) -> impl Iterator<Item = (&'static Rule, Access)> + '_ {
        RULES.iter().zip(self.accesses.iter().copied())
    }

    /// Whether it matters to any rule that a peer is followed by a friend: who needn't find that out has less to do.
    #[must_use]
    pub fn minds_followers_of_followers(&self) -> bool {
        self.minds
    }

    /// How far away peers may be that are dialed without being asked for, in hops; `None` if strangers may be, too. A bound:
    /// [`Question::Dial`] decides about each.
    #[must_use]
    pub fn dials_within(&self) -> Option<u32> {
        let access = self.access(DIAL)?;
        if access.begins_at(Role::Stranger) {
            return None;
        }
        let within = [(Role::FollowedByFriend, self.friends), (Role::Friend, self.friends), (Role::Followed, 1)];
        let hops = within.into_iter().find(|(role, _)| access.begins_at(*role)).map_or(0, |(_, hops)| hops);
        u32::try_from(hops).ok()
    }

    /// Whether feeds are kept from a peer that their authors block: from all but masters, who are the owner too.
    #[must_use]
    pub fn obeys_blocks_of(&self, asker: &Asker) -> bool {
        !asker.role(self.friends).acts_for_us()
    }

    fn known_rules() -> String {
        RULES.iter().map(|rule| rule.name).collect::<Vec<_>>().join(", ")
    }

    fn find(&self, name: &str) -> Option<(&'static Rule, Access)> {
        let number = *self.numbers.get(name)?;
        Some((RULES.get(number)?, *self.accesses.get(number)?))
    }

    /// Yes or no, by which rule, for what facts.
    pub fn decide(&self, asker: &Asker, question: &Question<'_>) -> Decision {
        let mut facts = Facts::default();
        let role = asker.role_by(self.friends, &mut facts);
        let mut case = Case { policy: self, asker, role, facts };
        if role == Role::Blocked {
            return case.fixed(false, "blocked", "whom we block may do nothing");
        }
        match *question {
            Question::Dial => case.dial(),
            Question::Connect => case.connect(),
            Question::Call { method, about } => {
                let called = case.by_method(method);
                if !called.is_allowed() {
                    return called;
                }
                // What a method is about is only asked where it is given away.
                let about = match (about.feed, about.blob) {
                    (Some(feed), _) => Some(case.replicate(feed)),
                    (None, Some(size)) => Some(case.serve(size)),
                    (None, None) => None,
                };
                about.filter(|about| !about.is_allowed()).unwrap_or(called)
            }
            Question::Replicate(feed) => case.replicate(feed),
            Question::ServeBlob { size } => case.serve(size),
            Question::TellWants => case.by_rule(TELL),
            Question::PassWantOn => case.by_rule(PASS_ON),
        }
    }
}

fn minds(accesses: &[Access]) -> bool {
    accesses.iter().any(|access| access.begins_at(Role::FollowedByFriend))
}

/// One decision while it is made.
struct Case<'a> {
    policy: &'a Policy,
    asker: &'a Asker,
    role: Role,
    facts: Facts,
}

impl Case<'_> {
    fn fixed(&self, allowed: bool, rule: &'static str, why: &'static str) -> Decision {
        Decision::new(allowed, rule, why, None, self.role, self.facts)
    }

    fn by_rule(&self, name: &str) -> Decision {
        match self.policy.find(name) {
            Some((rule, access)) => {
                let allowed = access.admits(self.role, self.asker);
                Decision::new(allowed, rule.name, rule.why, Some(access), self.role, self.facts)
            }
            None => self.no_method(),
        }
    }

    fn by_method(&self, name: &str) -> Decision {
        // The rule about connecting says nothing of a method that somebody calls `connect`.
        let is_method = self.policy.find(name).is_some_and(|(rule, _)| rule.is_method);
        if is_method { self.by_rule(name) } else { self.no_method() }
    }

    /// A refusal to everyone, the owner too.
    fn no_method(&self) -> Decision {
        self.fixed(false, "*", "only methods in the policy table can be called")
    }

    fn dial(&mut self) -> Decision {
        // Masters are the owner's own devices.
        if self.asker.blocks_us && !self.role.acts_for_us() {
            self.facts.add(Fact::BlocksUs);
            return self.fixed(false, "blocks us", "who blocks us would refuse us");
        }
        self.by_rule(DIAL)
    }

    fn connect(&self) -> Decision {
        let anyhow = self.by_rule(CONNECT);
        match self.asker.came.rule() {
            Some(way) if anyhow.is_allowed() => {
                let way = self.by_rule(way);
                if way.is_allowed() { anyhow } else { way }
            }
            _ => anyhow,
        }
    }

    fn replicate(&mut self, feed: Feed) -> Decision {
        let exchange = self.by_rule(EXCHANGE);
        if !exchange.is_allowed() || self.role.acts_for_us() {
            return exchange;
        }
        // As [`Policy::obeys_blocks_of`] says.
        if feed.blocks_asker {
            self.facts.add(Fact::AuthorBlocksIt);
            return self.fixed(false, "hidden", "feeds are kept from those whom their authors block");
        }
        let Some(reach) = self.policy.reach.map(i32::from) else { return exchange };
        if feed.requested {
            self.facts.add(Fact::Requested);
            return self.by_rule(EXCHANGE);
        }
        self.facts.add(Fact::FeedHops { hops: feed.hops, reach });
        if feed.hops.is_some_and(|hops| (0..=reach).contains(&hops)) {
            return self.by_rule(EXCHANGE);
        }
        self.fixed(false, "reach", "feeds further away than auth.reach are not exchanged")
    }

    fn serve(&mut self, size: u64) -> Decision {
        let served = self.by_rule(SERVE);
        if !served.is_allowed() {
            return served;
        }
        self.facts.add(Fact::Size { size, bound: self.policy.large });
        if size > self.policy.large { self.by_rule(LARGE) } else { self.by_rule(SERVE) }
    }
}
