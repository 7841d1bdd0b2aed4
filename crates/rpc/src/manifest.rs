//! Which methods a side offers, as its `manifest` tells.

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use crate::registry::Kind;

/// The methods of a side with their types, in the order in which it lists them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    methods: Vec<(String, Kind)>,
}

impl Manifest {
    /// A manifest of these methods, dots between the parts of their names. Of two with the same name, the first counts.
    pub fn new(methods: impl IntoIterator<Item = (String, Kind)>) -> Manifest {
        Manifest { methods: methods.into_iter().collect() }
    }

    /// Reads the JSON that `manifest` answers: names with their types, namespaces as objects to any depth. What is neither
    /// is skipped.
    ///
    /// # Errors
    /// If it is no JSON object.
    pub fn parse(json: &[u8]) -> Result<Manifest, serde_json::Error> {
        let Space(members) = serde_json::from_slice(json)?;
        let mut methods = Vec::new();
        flatten("", members, &mut methods);
        Ok(Manifest { methods })
    }

    /// The type of a method, dots between the parts of its name.
    pub fn kind(&self, method: &str) -> Option<Kind> {
        self.methods.iter().find(|(name, _)| name == method).map(|(_, kind)| *kind)
    }

    /// All methods.
    pub fn methods(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.methods.iter().map(|(name, kind)| (name.as_str(), *kind))
    }

    /// As JSON, nested; namespaces stand where their first method does.
    pub fn to_json(&self) -> String {
        let all: Vec<(&str, Kind)> = self.methods().collect();
        let mut out = String::new();
        write_space(&all, &mut out);
        out
    }
}

fn write_space(members: &[(&str, Kind)], out: &mut String) {
    let mut done: Vec<&str> = Vec::new();
    out.push('{');
    for (name, kind) in members {
        let first = name.split('.').next().unwrap_or_default();
        if done.contains(&first) {
            continue;
        }
        out.push_str(if done.is_empty() { "" } else { "," });
        done.push(first);
        out.push_str(&serde_json::Value::from(first).to_string());
        out.push(':');
        if first.len() == name.len() {
            out.push_str(&format!("\"{}\"", kind.name()));
            continue;
        }
        let inner: Vec<(&str, Kind)> = members
            .iter()
            .filter_map(|(name, kind)| Some((name.strip_prefix(first)?.strip_prefix('.')?, *kind)))
            .collect();
        write_space(&inner, out);
    }
    out.push('}');
}

fn flatten(prefix: &str, members: Vec<(String, Member)>, out: &mut Vec<(String, Kind)>) {
    for (name, member) in members {
        let name = format!("{prefix}{name}");
        match member {
            Member::Method(kind) => out.extend(Kind::from_name(&kind).map(|kind| (name, kind))),
            Member::Space(Space(inner)) => flatten(&format!("{name}."), inner, out),
            Member::Other(_) => {}
        }
    }
}

/// The members of an object, in order.
struct Space(Vec<(String, Member)>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Member {
    Method(String),
    Space(Space),
    Other(IgnoredAny),
}

impl<'de> Deserialize<'de> for Space {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Space;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object of methods")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Space, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Space(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_reads_back_in_its_order_and_to_any_depth() {
        let json = r#"{"whoami":"sync","a":{"z":"async","b":{"c":"source","d":"duplex"}},"add":"sink"}"#;
        let manifest = Manifest::parse(json.as_bytes()).unwrap();
        assert_eq!(manifest.kind("a.b.d"), Some(Kind::Duplex));
        assert_eq!(manifest.kind("a.b"), None);
        assert_eq!(
            manifest.methods().map(|(name, _)| name).collect::<Vec<_>>(),
            ["whoami", "a.z", "a.b.c", "a.b.d", "add"]
        );
        assert_eq!(manifest.to_json(), json);
    }

    #[test]
    fn what_is_no_method_is_skipped_and_what_is_no_manifest_is_an_error() {
        let odd = r#"{"a":1,"b":"promise","c":null,"d":[],"e":{"f":true,"g":"async"}}"#;
        assert_eq!(Manifest::parse(odd.as_bytes()).unwrap(), Manifest::new([("e.g".into(), Kind::Async)]));
        for bad in ["", "1", "[]", "{", &"{\"a\":".repeat(10_000)] {
            assert!(Manifest::parse(bad.as_bytes()).is_err());
        }
    }
}
