//! The answers of two servers to the same calls of `conn.*` or `gossip.*`, made in the same order against the same peers.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use crate::install::script;

/// What a server answered to the calls of `peer-calls.js`.
pub struct PeerAnswers {
    /// Each call with its answer.
    pub all: Vec<(Value, Value)>,
}

impl PeerAnswers {
    /// Has `peer-calls.js` make the calls named `calls` at the server of the data directory `dir`. `friend` is a peer that
    /// can be dialed, at `refused` nobody listens.
    ///
    /// # Errors
    /// The client can't connect, or goes down.
    pub fn collect(
        dir: &Path,
        remote: &str,
        network: &str,
        calls: &str,
        friend: &str,
        refused: &str,
    ) -> Result<PeerAnswers> {
        let out = dir.join("peer-answers.jsonl");
        let output = script("peer-calls.js")?
            .arg("--dir")
            .arg(dir)
            .args(["--remote", remote, "--network", network, "--calls", calls, "--friend", friend])
            .args(["--refused", refused])
            .arg("--out")
            .arg(&out)
            .env("HOME", dir)
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "peer-calls.js failed at {remote}: {text}");
        let line = |line: &str| {
            let mut both: Value = serde_json::from_str(line)?;
            Ok((both["call"].take(), both["answer"].take()))
        };
        Ok(Self { all: std::fs::read_to_string(out)?.lines().map(line).collect::<Result<_>>()? })
    }

    /// What differs from the answers `theirs`, in words, but for the calls that `differs` gives a reason for.
    ///
    /// # Errors
    /// The calls differ.
    pub fn compare(&self, theirs: &Self, differs: impl Fn(&Value) -> Option<&'static str>) -> Result<Vec<String>> {
        ensure!(self.all.len() == theirs.all.len(), "{} calls and {}", self.all.len(), theirs.all.len());
        let mut found = Vec::new();
        for ((call, our), (same, their)) in self.all.iter().zip(&theirs.all) {
            ensure!(call == same, "{call} is compared with {same}");
            ensure!(our.get("timeout").is_none() && our.get("thrown").is_none(), "{call}: ours is {our}");
            if differs(call).is_some() {
                continue;
            }
            let (their, our) = (plain(their), plain(our));
            let same = if call["live"] == json!(true) { steps(&our) == steps(&their) } else { holds(&our, &their) };
            if !same {
                found.push(format!("{} {}\n    theirs {their}\n    ours   {our}", call["method"], call["args"]));
            }
        }
        Ok(found)
    }
}

/// Fields that hold a time.
const TIMES: [&str; 6] = ["birth", "hubBirth", "hubUpdated", "stagingBirth", "stagingUpdated", "stateChange"];

/// Times are later than this, in ms since 1970; no other number in an answer is as large.
const LONG_AGO: f64 = 1e12;

/// An answer without what depends on when it was made, in the order of its addresses.
fn plain(answer: &Value) -> Value {
    match answer {
        Value::Object(members) => {
            let kept = members.iter().filter_map(|(name, value)| Some((name.clone(), member(name, value)?)));
            Value::Object(shown(kept.collect()))
        }
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        other => other.clone(),
    }
}

fn member(name: &str, value: &Value) -> Option<Value> {
    Some(match name {
        _ if TIMES.contains(&name) && value.is_number() => json!("a time"),
        "value" if value.as_f64().is_some_and(|number| number > LONG_AGO) => json!("a time"),
        // We measure no round trips.
        "ping" => return None,
        // ssb-conn counts each end of a link twice.
        "duration" if value.is_object() => json!("figures"),
        // Ours is a sentence, theirs has a stack.
        "error" if value.is_string() => json!("a text"),
        // Errors of sockets, in other words.
        "message" if value.as_str().is_some_and(|text| text.contains("refused") || text.contains("ECONNREFUSED")) => {
            json!("refused")
        }
        _ => plain(value),
    })
}

/// Without what is only of use in the same process, and what only theirs has.
fn shown(members: Map<String, Value>) -> Map<String, Value> {
    // An end of a connection as plugins see it.
    let end = members.contains_key("_events");
    // ssb-gossip goes on to tell who dialed when the connection has ended.
    let ended = members.contains_key("client") && !members.contains_key("state");
    // ssb-gossip and ssb-conn count failed dials as links that lasted no time.
    let failed = members.get("failure").is_some_and(|failure| *failure != json!(0));
    let kept = |name: &str| match name {
        "duration" => !failed,
        "id" | "closed" | "stream" => true,
        "client" => !ended,
        _ => !end,
    };
    members.into_iter().filter(|(name, _)| kept(name)).collect()
}

/// Whether `more` has all that `less` has; lists have the same items in any order.
fn holds(more: &Value, less: &Value) -> bool {
    match (more, less) {
        (Value::Object(more), Value::Object(less)) => {
            less.iter().all(|(name, less)| more.get(name).is_some_and(|more| holds(more, less)))
        }
        (Value::Array(more), Value::Array(less)) => {
            more.len() == less.len() && less.iter().all(|less| more.iter().any(|more| holds(more, less)))
        }
        _ => more == less,
    }
}

/// What a live stream has told, step by step: of lists the addresses and their states, of changes their kinds and keys.
fn steps(answer: &Value) -> Vec<Value> {
    let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let step = |item: &Value| match item {
        Value::Array(entries) => {
            let mut entries: Vec<_> = entries.iter().map(|entry| json!([entry[0], entry[1]["state"]])).collect();
            entries.sort_by_key(Value::to_string);
            Value::Array(entries)
        }
        change => json!([change["type"], change["peer"]["key"]]),
    };
    let mut steps: Vec<_> = items.iter().map(step).collect();
    steps.dedup();
    steps
}
