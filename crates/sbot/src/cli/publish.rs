//! `sbot publish`: a message from options, from JSON, or from standard input.

use serde_json::Value;
use serde_json::value::RawValue;

use super::Context;
use super::arguments::{self, Arg};
use super::call::stdin_json;
use super::client::Client;
use super::failure::{Code, Failure};
use super::output::json_of;

/// Fields that are texts even if they look like a number: `--text 2020`.
const TEXTS: [&str; 8] = ["type", "text", "root", "branch", "name", "title", "description", "channel"];
/// Feeds that one private message can be for, its author among them (private-box).
const MAX_RECIPIENTS: usize = 7;

pub(super) async fn run(context: &mut Context, words: Vec<String>) -> Result<(), Failure> {
    let (content, recipients) = content(&words)?;
    let client = Client::connect(&context.loaded).await?;
    let body = if recipients.is_empty() {
        client.call("publish", &[content]).await?
    } else {
        let recipients = recipients.into_iter().map(Arg::Text).collect();
        client.call("private.publish", &[content, Arg::List(recipients)]).await?
    };
    let message = json_of(&body);
    if context.json {
        return Ok(context.output.json_line(&message)?);
    }
    let parsed: Value = serde_json::from_str(&message).unwrap_or_default();
    match parsed.get("key").and_then(Value::as_str) {
        Some(key) => Ok(context.output.line(&super::text::printable(key))?),
        None => Err(Failure::new(Code::Failed, format!("the server's answer holds no message: {message}"))),
    }
}

/// The content that `words` describe, and for whom it is if it is private.
fn content(words: &[String]) -> Result<(Arg, Vec<String>), Failure> {
    let raw = match words {
        [only] if only == "-" || only == "." => Some(stdin_json()?),
        [only] if only.trim_start().starts_with('{') => {
            let raw = serde_json::from_str::<Box<RawValue>>(only.trim())
                .map_err(|error| Failure::usage(format!("the content is no JSON: {error}")))?;
            Some(Arg::Json(raw))
        }
        _ => None,
    };
    let (content, recipients) = match raw {
        Some(raw) => {
            let fields: Value = serde_json::to_value(&raw).unwrap_or_default();
            if !fields.is_object() {
                return Err(Failure::usage("the content must be an object, { … }"));
            }
            require_type(fields.get("type").and_then(Value::as_str))?;
            let recipients = match fields.get("recps") {
                None | Some(Value::Null) => Vec::new(),
                Some(Value::Array(items)) => items.iter().map(recipient).collect::<Result<_, _>>()?,
                Some(other) => vec![recipient(other)?],
            };
            (raw, recipients)
        }
        None => from_options(words)?,
    };
    if recipients.len() > MAX_RECIPIENTS {
        let count = recipients.len();
        return Err(Failure::usage(format!("{count} recipients, but a private message can have {MAX_RECIPIENTS}")));
    }
    Ok((content, recipients))
}

fn from_options(words: &[String]) -> Result<(Arg, Vec<String>), Failure> {
    let mut parsed = arguments::parse(words, &TEXTS).map_err(Failure::usage)?;
    if let Some(word) = parsed.positional.first() {
        let word = serde_json::to_string(word).unwrap_or_default();
        return Err(Failure::usage(format!("{word} belongs to no option"))
            .hint("sbot publish --type post --text 'in quotes', or sbot publish '{\"type\": …}'"));
    }
    let kind = parsed.options.iter().find_map(|(key, value)| match value {
        Arg::Text(text) if key == "type" => Some(text.as_str()),
        _ => None,
    });
    require_type(kind)?;
    let mut recipients = Vec::new();
    if let Some((_, value)) = parsed.options.iter_mut().find(|(key, _)| key == "recps") {
        let items = match std::mem::replace(value, Arg::Bool(false)) {
            Arg::List(items) => items,
            other => vec![other],
        };
        for item in &items {
            recipients.push(recipient(&serde_json::to_value(item).unwrap_or_default())?);
        }
        *value = Arg::List(items);
    }
    Ok((Arg::Object(parsed.options), recipients))
}

/// A recipient is a feed id, or a mention `{link, name}` of one.
fn recipient(value: &Value) -> Result<String, Failure> {
    let id = value.as_str().or_else(|| value.get("link").and_then(Value::as_str));
    match id {
        Some(id) if id.starts_with('@') => Ok(id.to_owned()),
        _ => Err(Failure::usage(format!("{value} is no recipient: expected a feed id, @….ed25519"))),
    }
}

fn require_type(kind: Option<&str>) -> Result<(), Failure> {
    if kind.is_some_and(|kind| !kind.is_empty()) {
        return Ok(());
    }
    Err(Failure::usage("a message needs a type").hint("sbot publish --type post --text hi"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: &str = "@FCX/tsDLpubCPKKfIrw4gc+SQkHcaD17s7GI6i/ziWY=.ed25519";

    fn made(words: &[&str]) -> Result<(String, Vec<String>), Failure> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let (content, recipients) = content(&words)?;
        Ok((serde_json::to_string(&content).unwrap(), recipients))
    }

    #[test]
    fn options_become_fields_in_their_order() {
        let (content, recipients) =
            made(&["--type", "vote", "--vote.link", "%x", "--vote.value", "1", "--text", "2020"]).unwrap();
        assert_eq!(content, r#"{"type":"vote","vote":{"link":"%x","value":1},"text":"2020"}"#);
        assert!(recipients.is_empty());
    }

    #[test]
    fn json_is_published_as_it_was_written() {
        let text = r#"{"type": "post", "text": "hi",  "n": 1e2}"#;
        assert_eq!(made(&[text]).unwrap().0, text);
    }

    #[test]
    fn recipients_are_found_in_options_and_in_json() {
        let (content, recipients) = made(&["--type", "post", "--recps", ALICE]).unwrap();
        assert_eq!(content, format!(r#"{{"type":"post","recps":["{ALICE}"]}}"#));
        assert_eq!(recipients, [ALICE]);
        let json = format!(r#"{{"type":"post","recps":["{ALICE}",{{"link":"{ALICE}","name":"a"}}]}}"#);
        assert_eq!(made(&[&json]).unwrap().1, [ALICE, ALICE]);
        assert!(made(&["--type", "post", "--recps", "bob"]).is_err());
        assert!(made(&[&json.replace(ALICE, "bob")]).is_err());
    }

    #[test]
    fn content_without_a_type_or_of_another_shape_is_refused() {
        for words in [&["--text", "hi"][..], &["hello"], &["{\"text\":1}"], &["{oops"], &["--type"], &["[]"]] {
            assert!(made(words).is_err(), "{words:?}");
        }
    }
}
