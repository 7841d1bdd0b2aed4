//! The page about the policy is the policy's own account of itself.
//!
//! Where it isn't any more: `SBOT_WRITE_DOCS=1 cargo test -p sbot-authorisation --test docs`.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use sbot_authorisation::{Policy, Preset, RULES, Role};

const BEGIN: &str = "<!-- written by crates/authorisation/tests/docs.rs -->\n";
const END: &str = "<!-- end -->";

/// The tables of all presets.
fn tables() -> String {
    let mut text = String::new();
    for preset in Preset::ALL {
        // The bounds change no row: hops make roles, and what is large has a rule of its own.
        let policy = Policy::new(preset, 3, 5 << 20);
        text.push_str(&format!("\n### {}\n{}", preset.name(), policy.matrix()));
    }
    text.push('\n');
    text
}

#[test]
fn the_page_shows_the_matrix_of_every_preset() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/authorisation.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    if std::env::var_os("SBOT_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", tables())).unwrap();
        return;
    }
    assert_eq!(shown, tables());
}

#[test]
fn the_page_names_every_role_and_every_rule_that_is_no_method() {
    let page = include_str!("../../../docs/authorisation.md");
    for role in Role::ALL {
        assert!(page.contains(&format!("| `{}` |", role.name())), "{}", role.name());
    }
    for rule in RULES.iter().filter(|rule| !rule.is_method) {
        assert!(page.contains(&format!("| `{}` |", rule.name)), "{}", rule.name);
    }
}
