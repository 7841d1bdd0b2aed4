//! `sbot log`, `history`, `get` and `whoami`: messages for people and for scripts.

use clap::Args;
use sbot_feed::{FeedId, MsgId};
use sbot_rpc::Body;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Context;
use super::arguments::Arg;
use super::call::print_answer;
use super::client::{Client, Source};
use super::failure::{Code, Failure};
use super::output::json_of;
use super::text::{printable, short_id, shortened, time};

/// Characters of a line that are not its snippet: time, author, type.
const LINE_HEAD: usize = 44;
/// A line's width where nobody says how wide the terminal is.
const DEFAULT_WIDTH: usize = 120;

/// Which messages, in the order in which they came in.
#[derive(Debug, Args)]
pub(super) struct LogOptions {
    /// Only messages of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only messages of this feed
    #[arg(long, value_name = "ID")]
    author: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Newest first
    #[arg(long)]
    reverse: bool,
    /// Go on with new messages as they come in
    #[arg(long)]
    live: bool,
    /// Open private messages that are for us
    #[arg(long)]
    private: bool,
}

/// Which messages of one feed.
#[derive(Debug, Args)]
pub(super) struct HistoryOptions {
    /// The feed [default: the server's own]
    id: Option<String>,
    /// From this sequence number on
    #[arg(long, value_name = "SEQUENCE")]
    seq: Option<u64>,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Newest first
    #[arg(long, conflicts_with_all = ["seq", "live"])]
    reverse: bool,
    /// Go on with new messages as they come in
    #[arg(long)]
    live: bool,
}

pub(super) async fn whoami(context: &mut Context) -> Result<(), Failure> {
    let client = Client::connect(&context.loaded).await?;
    let body = client.call("whoami", &[]).await?;
    if context.json {
        return print_answer(context, &body);
    }
    let answer: Value = serde_json::from_str(&json_of(&body)).unwrap_or_default();
    match answer.get("id").and_then(Value::as_str) {
        Some(id) => Ok(context.output.line(&printable(id))?),
        None => Err(Failure::new(Code::Failed, format!("the server's answer holds no id: {answer}"))),
    }
}

pub(super) async fn get(context: &mut Context, id: &str, private: bool) -> Result<(), Failure> {
    id.parse::<MsgId>().map_err(Failure::usage)?;
    let client = Client::connect(&context.loaded).await?;
    let argument = if private { argument(&json!({ "id": id, "private": true }))? } else { Arg::Text(id.to_owned()) };
    let body = client.call("get", &[argument]).await?;
    print_answer(context, &body)
}

pub(super) async fn log(context: &mut Context, options: LogOptions) -> Result<(), Failure> {
    let LogOptions { kind, author, limit, reverse, live, private } = options;
    let author = author.map(|author| feed(&author)).transpose()?;
    let mut query = json!({ "keys": true, "values": true, "reverse": reverse, "live": live, "private": private });
    // With both, the server picks by author and we by type, and then we count.
    let both = kind.is_some() && author.is_some();
    let method = match (&author, &kind) {
        (Some(author), _) => {
            set(&mut query, "id", author.to_string().into());
            "createUserStream"
        }
        (None, Some(kind)) => {
            set(&mut query, "type", kind.clone().into());
            "messagesByType"
        }
        (None, None) => "createLogStream",
    };
    if let Some(limit) = limit.filter(|_| !both) {
        set(&mut query, "limit", limit.into());
    }
    let client = Client::connect(&context.loaded).await?;
    let source = client.source(method, &[argument(&query)?]).await?;
    let filter = Filter { kind: kind.filter(|_| both), limit: limit.filter(|_| both) };
    print_messages(context, source, filter).await
}

pub(super) async fn history(context: &mut Context, options: HistoryOptions) -> Result<(), Failure> {
    let HistoryOptions { id, seq, limit, reverse, live } = options;
    let id = id.map(|id| feed(&id)).transpose()?;
    let client = Client::connect(&context.loaded).await?;
    let id = match id {
        Some(id) => id.to_string(),
        None => client.server_id().await?,
    };
    let mut query = json!({ "id": id, "keys": true, "values": true, "live": live });
    if let Some(seq) = seq {
        set(&mut query, "seq", seq.into());
    }
    if let Some(limit) = limit {
        set(&mut query, "limit", limit.into());
    }
    let method = if reverse { "createUserStream" } else { "createHistoryStream" };
    if reverse {
        set(&mut query, "reverse", true.into());
    }
    let source = client.source(method, &[argument(&query)?]).await?;
    print_messages(context, source, Filter { kind: None, limit: None }).await
}

/// What is left for us to pick from a stream.
struct Filter {
    kind: Option<String>,
    limit: Option<u64>,
}

async fn print_messages(context: &mut Context, mut source: Source, filter: Filter) -> Result<(), Failure> {
    let mut left = filter.limit.unwrap_or(u64::MAX);
    let width = line_width();
    while left > 0 {
        let Some(body) = source.next(&mut context.output).await? else { break };
        if let Some(kind) = &filter.kind
            && Line::of(&body).is_none_or(|line| line.kind != *kind)
        {
            continue;
        }
        left -= 1;
        if context.json {
            context.output.item(&body)?;
        } else if let Some(line) = Line::of(&body) {
            context.output.line(&line.print(width))?;
        }
    }
    Ok(())
}

/// The width of a line: that of the terminal, if there is one.
pub(super) fn line_width() -> usize {
    std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok())
        .or_else(|| rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col)))
        .filter(|columns| *columns > LINE_HEAD)
        .unwrap_or(DEFAULT_WIDTH)
}

/// A message as one line shows it.
#[derive(Debug, PartialEq)]
struct Line {
    time: f64,
    author: String,
    kind: String,
    snippet: String,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
struct Signed<'a> {
    #[serde(default)]
    author: String,
    #[serde(default)]
    timestamp: f64,
    #[serde(borrow)]
    content: &'a RawValue,
}

impl Line {
    /// `None` for what is no message: `{sync: true}`.
    fn of(body: &Body) -> Option<Self> {
        let json = json_of(body);
        let value = serde_json::from_str::<Envelope<'_>>(&json).map_or(json.as_str(), |envelope| envelope.value.get());
        let signed: Signed<'_> = serde_json::from_str(value).ok()?;
        let raw = signed.content.get();
        let (kind, snippet) = match serde_json::from_str::<Value>(raw) {
            Ok(Value::Object(content)) => {
                let content = Value::Object(content);
                let kind = content.get("type").and_then(Value::as_str).unwrap_or("?").to_owned();
                let snippet = snippet(&kind, &content);
                (kind, snippet)
            }
            Ok(Value::String(_)) => ("private".into(), String::new()),
            // A lone surrogate somewhere: legal in SSB, no text in Rust. Shown as it is written.
            _ => ("?".into(), raw.to_owned()),
        };
        Some(Self { time: signed.timestamp, author: signed.author, kind, snippet })
    }

    fn print(&self, width: usize) -> String {
        let kind = shortened(&printable(&self.kind), 10);
        let snippet = shortened(&printable(self.snippet.trim()), width.saturating_sub(LINE_HEAD));
        format!("{}  {:<10}  {kind:<10} {snippet}", time(self.time), short_id(&self.author)).trim_end().to_owned()
    }
}

/// What a message says, in a few words.
fn snippet(kind: &str, content: &Value) -> String {
    let text = |key: &str| content.get(key).and_then(Value::as_str);
    let flag = |key: &str| content.get(key).and_then(Value::as_bool);
    match kind {
        "contact" => {
            let whom = short_id(text("contact").unwrap_or("?"));
            match (flag("following"), flag("blocking")) {
                (_, Some(true)) => format!("blocks {whom}"),
                (Some(true), _) => format!("follows {whom}"),
                (Some(false), _) => format!("unfollows {whom}"),
                (None, Some(false)) => format!("unblocks {whom}"),
                (None, None) => whom,
            }
        }
        "vote" => {
            let vote = content.get("vote").unwrap_or(&Value::Null);
            let value = vote.get("value").and_then(Value::as_f64).unwrap_or(0.0);
            let verb = if value > 0.0 { "likes" } else { "takes back its vote on" };
            format!("{verb} {}", short_id(vote.get("link").and_then(Value::as_str).unwrap_or("?")))
        }
        "about" => {
            let whom = short_id(text("about").unwrap_or("?"));
            match text("name") {
                Some(name) => format!("calls {whom} {name}"),
                None => format!("tells about {whom}"),
            }
        }
        "channel" => text("channel").map(|channel| format!("#{channel}")).unwrap_or_default(),
        "pub" => {
            let address = content.get("address").unwrap_or(&Value::Null);
            let host = address.get("host").and_then(Value::as_str);
            host.map(|host| format!("tells of {host}")).unwrap_or_default()
        }
        _ => match text("text") {
            Some(text) => text.chars().take(1000).collect(),
            None => {
                let mut rest = content.clone();
                if let Some(fields) = rest.as_object_mut() {
                    fields.remove("type");
                }
                rest.to_string()
            }
        },
    }
}

fn feed(id: &str) -> Result<FeedId, Failure> {
    id.parse().map_err(Failure::usage)
}

fn set(query: &mut Value, key: &str, value: Value) {
    if let Some(fields) = query.as_object_mut() {
        fields.insert(key.to_owned(), value);
    }
}

pub(super) fn argument(value: &Value) -> Result<Arg, Failure> {
    serde_json::value::to_raw_value(value).map(Arg::Json).map_err(|error| Failure::from_error(Code::Failed, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(json: &str) -> String {
        Line::of(&Body::Json(bytes::Bytes::copy_from_slice(json.as_bytes()))).unwrap().print(80)
    }

    fn message(content: &str) -> String {
        format!(
            r#"{{"key":"%x","value":{{"previous":null,"author":"@FCX/tsDLpubCPKKfIrw4gc+SQkHcaD17s7GI6i/ziWY=.ed25519",
            "sequence":1,"timestamp":1709210096789,"hash":"sha256","content":{content},"signature":"s"}},"timestamp":2}}"#
        )
    }

    #[test]
    fn a_message_is_a_line_with_time_author_type_and_text() {
        assert_eq!(
            printed(&message(r#"{"type":"post","text":"hello\nworld"}"#)),
            "2024-02-29 12:34:56  @FCX/tsDL…  post       hello world"
        );
        assert_eq!(
            printed(&message(r#"{"type":"contact","contact":"@abcdefghijklm=.ed25519","following":true}"#)),
            "2024-02-29 12:34:56  @FCX/tsDL…  contact    follows @abcdefgh…"
        );
        assert_eq!(printed(&message(r#""abc.box""#)), "2024-02-29 12:34:56  @FCX/tsDL…  private");
    }

    #[test]
    fn hostile_content_can_not_reach_the_terminal() {
        let line = printed(&message(r#"{"type":"po\u001bst","text":"\u001b[2J\u0007\u202ehi"}"#));
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.contains("\\u{1b}[2J\\u{7}\\u{202e}hi"), "{line}");
    }

    #[test]
    fn a_lone_surrogate_is_shown_as_written() {
        let line = printed(&message(r#"{"type":"post","text":"\ud83d"}"#));
        assert!(line.ends_with(r#"?          {"type":"post","text":"\ud83d"}"#), "{line}");
    }

    #[test]
    fn bare_values_are_messages_too_and_sync_marks_are_not() {
        let value = r#"{"author":"@a","timestamp":0,"content":{"type":"x","n":1}}"#;
        assert_eq!(printed(value), "1970-01-01 00:00:00  @a          x          {\"n\":1}");
        assert_eq!(Line::of(&Body::Json(bytes::Bytes::from_static(b"{\"sync\":true}"))), None);
    }
}
