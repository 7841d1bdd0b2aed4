//! The table of limits in the documentation is that of the code.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use sbot_peer_manager::Settings;
use serde_json::Value;

fn flatten(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, into);
            }
        }
        Value::Null => drop(into.insert(path.into(), "–".into())),
        other => drop(into.insert(path.into(), other.to_string())),
    }
}

#[test]
fn every_limit_is_in_the_documentation_with_its_value_and_a_reason() {
    let text = include_str!("../../../docs/peer-manager.md");
    let mut documented = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, value, why] = cells[..] else { panic!("{line}") };
        assert!(!why.is_empty(), "{line}");
        documented.insert(name.trim_matches('`').to_owned(), value.to_owned());
    }
    let mut real = BTreeMap::new();
    flatten("", &serde_json::to_value(Settings::default()).unwrap(), &mut real);
    assert_eq!(documented, real);
}
