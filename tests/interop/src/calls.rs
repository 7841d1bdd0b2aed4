//! The answers of two servers to the same calls, side by side.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::install::script;

/// What a server answered to the calls of `calls.js`.
pub struct Answers {
    /// Each call with its answer.
    pub all: Vec<(Value, Value)>,
}

impl Answers {
    /// Has `client.js` make all calls at the server of the data directory `dir`, which holds `log`. `hangs` are the calls
    /// that ssb-server never answers.
    ///
    /// # Errors
    /// The client can't connect, or goes down.
    pub fn collect(dir: &Path, remote: &str, network: &str, log: &Path, hangs: bool) -> Result<Self> {
        let out: PathBuf = dir.join("answers.jsonl");
        let output = script("client.js")?
            .arg("--dir")
            .arg(dir)
            .args(["--remote", remote, "--network", network, "--hangs", if hangs { "yes" } else { "no" }])
            .arg("--log")
            .arg(log)
            .arg("--out")
            .arg(&out)
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "client.js failed at {remote}: {text}");
        let all = std::fs::read_to_string(out)?
            .lines()
            .map(|line| {
                let mut both: Value = serde_json::from_str(line)?;
                Ok((both["call"].take(), both["answer"].take()))
            })
            .collect::<Result<_>>()?;
        Ok(Self { all })
    }

    /// The answers to the calls of one method.
    pub fn of<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a Value> {
        self.all.iter().filter(move |(call, _)| call["method"] == method).map(|(_, answer)| answer)
    }
}

/// What differs between the answers of ssb-server and ours, in words.
///
/// # Errors
/// The calls differ.
pub fn compare(theirs: &Answers, ours: &Answers) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    let mut rest = theirs.all.iter();
    for (call, our) in &ours.all {
        let problem = if is(call, "hangs") {
            our.get("timeout").map(|_| "ours doesn't answer".to_owned())
        } else {
            let (same, their) = rest.next().context("ssb-server was asked less")?;
            ensure!(call["method"] == same["method"], "{call} is compared with {same}");
            difference(call, their, our)
        };
        if let Some(problem) = problem {
            let args = call["args"].to_string();
            differences.push(format!("{} {}: {problem}", call["method"].as_str().unwrap_or_default(), shown(&args)));
        }
    }
    Ok(differences)
}

fn is(call: &Value, flag: &str) -> bool {
    call[flag] == json!(true)
}

fn difference(call: &Value, their: &Value, our: &Value) -> Option<String> {
    if is(call, "quirk") || their.get("missing").is_some() {
        let answered = our.get("timeout").is_none() && our.get("thrown").is_none();
        return (!answered).then(|| format!("ours is {our}"));
    }
    let (their, our) = (plain(call, their), plain(call, our));
    let (their, our) = if is(call, "volatile") { (outline(&their), outline(&our)) } else { (their, our) };
    let same = if is(call, "more") { holds(&our, &their) } else { their == our };
    (!same).then(|| format!("\n    theirs {}\n    ours   {}", shown_from(&their, &our), shown_from(&our, &their)))
}

/// What ssb-validate says of a message that is too long, before its length. That depends on the digits of the timestamp.
const TOO_LONG: &str = "Encoded message must not be larger than 8192 bytes. Current size is ";

/// The answer without what depends on when and in which order things happened.
fn plain(call: &Value, answer: &Value) -> Value {
    let mut answer = answer.clone();
    forget_receipt(&mut answer);
    if let Some(Value::String(message)) = answer.pointer_mut("/error/message")
        && message.strip_prefix(TOO_LONG).is_some_and(|length| length.parse::<u32>().is_ok())
    {
        message.truncate(TOO_LONG.len());
    }
    if is(call, "unordered")
        && let Some(items) = answer.get_mut("items").and_then(Value::as_array_mut)
    {
        items.sort_by_key(Value::to_string);
    }
    answer
}

/// Takes the time of receipt out of every `{key, value, timestamp}`.
fn forget_receipt(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let message = members.contains_key("key") && members.contains_key("value");
            if message && members.get("timestamp").is_some_and(Value::is_number) {
                members.insert("timestamp".into(), json!("of receipt"));
            }
            members.values_mut().for_each(forget_receipt);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_receipt),
        _ => {}
    }
}

/// Whether `more` has all that `less` has.
fn holds(more: &Value, less: &Value) -> bool {
    match (more, less) {
        (Value::Object(more), Value::Object(less)) => {
            less.iter().all(|(name, less)| more.get(name).is_some_and(|more| holds(more, less)))
        }
        _ => more == less,
    }
}

/// The kind of an answer: which parts it has, and how many items.
fn outline(answer: &Value) -> Value {
    let Value::Object(parts) = answer else { return Value::Null };
    let kind = |name: &str, value: &Value| match value {
        Value::Array(items) if name == "items" => json!(items.len()),
        Value::Array(_) => json!("a list"),
        Value::Object(_) => json!("an object"),
        Value::String(_) => json!("a text"),
        Value::Number(_) => json!("a number"),
        other => other.clone(),
    };
    Value::Object(parts.iter().map(|(name, value)| (name.clone(), kind(name, value))).collect::<Map<_, _>>())
}

/// Longest piece of an answer that is shown.
const SHOWN: usize = 400;

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// The text of `value` from a little before where it differs from `other`.
fn shown_from(value: &Value, other: &Value) -> String {
    let (value, other) = (value.to_string(), other.to_string());
    let same = value.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(SHOWN / 4);
    let dots = if from > 0 { "…" } else { "" };
    format!("{dots}{}", value.chars().skip(from).take(SHOWN).collect::<String>())
}
