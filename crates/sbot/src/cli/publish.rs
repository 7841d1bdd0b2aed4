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
pub(super) async fn run(context: &mut Context, words: Vec<String>) -> Result<(), Failure> {
    let content = content(&words)?;
    let client = Client::connect(&context.loaded).await?;
    // The server boxes a content that names recipients in `recps`.
    let body = client.call("publish", &[content]).await?;
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

/// The content that `words` describe.
fn content(words: &[String]) -> Result<Arg, Failure> {
    let raw = match words {
        [only] if only == "-" || only == "." => stdin_json()?,
        [only] if only.trim_start().starts_with('{') => {
            let raw = serde_json::from_str::<Box<RawValue>>(only.trim())
                .map_err(|error| Failure::usage(format!("the content is no JSON: {error}")))?;
            Arg::Json(raw)
        }
        _ => return from_options(words),
    };
    // Lone surrogates make a text that is no Rust string: then the server judges.
    if let Ok(fields) = serde_json::to_value(&raw) {
        if !fields.is_object() {
            return Err(Failure::usage("the content must be an object, { … }"));
        }
        require_type(fields.get("type").and_then(Value::as_str))?;
    }
    Ok(raw)
}

fn from_options(words: &[String]) -> Result<Arg, Failure> {
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
    // One recipient is a list of one.
    if let Some((_, value)) = parsed.options.iter_mut().find(|(key, _)| key == "recps")
        && !matches!(value, Arg::List(_))
    {
        let only = std::mem::replace(value, Arg::Bool(false));
        *value = Arg::List(vec![only]);
    }
    Ok(Arg::Object(parsed.options))
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

    fn made(words: &[&str]) -> Result<String, Failure> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Ok(serde_json::to_string(&content(&words)?).unwrap())
    }

    #[test]
    fn options_become_fields_in_their_order() {
        let content = made(&["--type", "vote", "--vote.link", "%x", "--vote.value", "1", "--text", "2020"]).unwrap();
        assert_eq!(content, r#"{"type":"vote","vote":{"link":"%x","value":1},"text":"2020"}"#);
    }

    #[test]
    fn json_is_published_as_it_was_written() {
        for text in [r#"{"type": "post", "text": "hi",  "n": 1e2}"#, r#"{"type":"post","text":"\ud83d"}"#] {
            assert_eq!(made(&[text]).unwrap(), text);
        }
    }

    #[test]
    fn one_recipient_is_a_list_of_one() {
        let content = made(&["--type", "post", "--recps", ALICE]).unwrap();
        assert_eq!(content, format!(r#"{{"type":"post","recps":["{ALICE}"]}}"#));
        let content = made(&["--type", "post", "--recps", ALICE, "--recps", ALICE]).unwrap();
        assert_eq!(content, format!(r#"{{"type":"post","recps":["{ALICE}","{ALICE}"]}}"#));
    }

    #[test]
    fn content_without_a_type_or_of_another_shape_is_refused() {
        for words in [&["--text", "hi"][..], &["hello"], &["{\"text\":1}"], &["{oops"], &["--type"], &["[]"]] {
            assert!(made(words).is_err(), "{words:?}");
        }
    }
}
