//! The whole policy as a table: a row for each rule, a column for each role.

use std::fmt;

use sbot_feed::FeedId;

use crate::{About, Asker, Came, Policy, Question, Role};

/// The roles in the order of the table's columns.
pub const COLUMNS: [Role; 9] = Role::ALL;

/// One rule, and whether each role may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The rule's name.
    pub rule: &'static str,
    /// In the order of [`COLUMNS`].
    pub allowed: [bool; COLUMNS.len()],
}

/// The whole policy. Printed, it is a table in Markdown, rules that all roles share in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix {
    /// In the order of [`crate::RULES`].
    pub rows: Vec<Row>,
}

impl Policy {
    /// What each role may, decided question by question.
    #[must_use]
    pub fn matrix(&self) -> Matrix {
        // With less there would be no friends but those that we follow.
        let policy = self.clone().with_friends(self.friends().max(FRIEND));
        let row = |rule: &'static str| Row { rule, allowed: COLUMNS.map(|role| policy.role_may(role, rule)) };
        Matrix { rows: self.rules().map(|(rule, _)| row(rule.name)).collect() }
    }

    fn role_may(&self, role: Role, rule: &str) -> bool {
        let (question, way) = Question::of_rule(rule, About::NOTHING);
        let asker = example(role);
        let came = if asker.came == Came::Socket { Came::Socket } else { way.unwrap_or(Came::Unknown) };
        self.decide(&Asker { came, ..asker }, &question).is_allowed()
    }
}

/// How far the friend of the table is.
const FRIEND: i32 = 2;

/// Somebody who has this role.
fn example(role: Role) -> Asker {
    let stranger = Asker::stranger(FeedId([0; 32]));
    match role {
        Role::Blocked => Asker { we_block: true, ..stranger },
        Role::Guest => Asker { guest: true, ..stranger },
        Role::Room => Asker { room: true, ..stranger },
        Role::Stranger => stranger,
        Role::FollowedByFriend => Asker { followed_by_friend: true, ..stranger },
        Role::Friend => Asker { hops: Some(FRIEND), ..stranger },
        Role::Followed => Asker { hops: Some(1), ..stranger },
        Role::Master => Asker { master: true, ..stranger },
        Role::Owner => Asker { came: Came::Socket, ..stranger },
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = COLUMNS.map(Role::name).join(" | ");
        writeln!(f, "| rule | {names} |")?;
        writeln!(f, "|---{}|", "|:-:".repeat(COLUMNS.len()))?;
        let mut left: &[Row] = &self.rows;
        while let Some(first) = left.first() {
            let alike = left.iter().take_while(|row| row.allowed == first.allowed).count();
            let (together, rest) = left.split_at(alike);
            left = rest;
            let rules: Vec<String> = together.iter().map(|row| format!("`{}`", row.rule)).collect();
            let marks = first.allowed.map(|allowed| if allowed { "yes" } else { "–" }).join(" | ");
            writeln!(f, "| {} | {marks} |", rules.join(" "))?;
        }
        Ok(())
    }
}
