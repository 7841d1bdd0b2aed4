//! `ssb-validation-dataset` of npm: 126 messages, each with the verdict and the id that every validator must come to.

use anyhow::{Result, ensure};
use sbot_feed::{FeedTip, HmacKey, MessageError, check_next, parse_message};
use sbot_interop::js;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Entries of version 1.2.1.
const ENTRIES: usize = 126;

/// The message stays as it is written: the order of its members is part of it.
#[derive(Deserialize)]
struct Entry<'a> {
    state: Value,
    #[serde(rename = "hmacKey")]
    hmac_key: Value,
    #[serde(borrow)]
    message: &'a RawValue,
    valid: bool,
    id: Option<String>,
    error: Value,
}

/// What we make of one entry: the id, if the message is valid as the next of its feed.
fn verdict(entry: &Entry<'_>) -> Result<String, String> {
    let refused = |error: MessageError| error.to_string();
    let hmac = match &entry.hmac_key {
        Value::Null => None,
        Value::String(text) => Some(text.parse::<HmacKey>().map_err(|error| error.to_string())?),
        other => return Err(format!("{other} is no key")),
    };
    let message = parse_message(entry.message.get().as_bytes(), hmac.as_ref()).map_err(refused)?;
    let message = message.verify().map_err(refused)?;
    let tip = match &entry.state {
        Value::Null => None,
        state => Some(FeedTip {
            sequence: state["sequence"].as_u64().ok_or("the state has no sequence")?,
            key: state["id"].as_str().ok_or("the state has no id")?.parse().map_err(|error| format!("{error:?}"))?,
            // No rule looks at it, and one entry has none.
            timestamp: state["timestamp"].as_f64().unwrap_or_default(),
        }),
    };
    check_next(tip.as_ref(), &message).map_err(refused)?;
    Ok(message.key.to_string())
}

#[test]
fn every_entry_gets_the_verdict_and_the_id_that_it_should() -> Result<()> {
    let file = js()?.join("classic/node_modules/ssb-validation-dataset/data.json");
    let text = std::fs::read_to_string(file)?;
    let entries: Vec<Entry<'_>> = serde_json::from_str(&text)?;
    ensure!(entries.len() == ENTRIES, "the dataset has {} entries", entries.len());
    let mut wrong = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let ours = verdict(entry);
        let valid = entry.valid;
        let right = match &ours {
            Ok(id) => valid && entry.id.as_ref() == Some(id),
            Err(_) => !valid,
        };
        if !right {
            wrong.push(format!("{number}: {ours:?}, but valid is {valid}, {:?} {}", entry.id, entry.error));
        }
    }
    ensure!(wrong.is_empty(), "{} of {ENTRIES} differ:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}
