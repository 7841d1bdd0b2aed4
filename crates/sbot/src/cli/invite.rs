//! `sbot invite create` and `sbot invite accept`.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde_json::Value;

use super::Context;
use super::arguments::Arg;
use super::call::print_answer;
use super::client::Client;
use super::failure::{Code, Failure};
use super::output::json_of;
use super::text::printable;

const MS_A_DAY: f64 = 86_400_000.0;

#[derive(Debug, Subcommand)]
pub(super) enum InviteCommand {
    /// Make an invite code: whoever accepts it is followed by this server
    Create(CreateOptions),
    /// Accept a pub's invite: it follows us, and we follow it and connect to it
    ///
    /// If that fails half way, it can be repeated with the same code.
    Accept {
        /// HOST:PORT:@KEY.ed25519~SEED, or net:HOST:PORT~shs:KEY:SEED
        code: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct CreateOptions {
    /// How many may use it
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// What to say in the follow of whoever uses it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Host name or IP address to name, in place of the server's own
    #[arg(long, value_name = "HOST")]
    external: Option<String>,
    /// Days until it can't be used any more [default: never]
    #[arg(long, value_name = "DAYS")]
    days: Option<u16>,
    /// Make it a multiserver address with a websocket, for one use
    #[arg(long, conflicts_with = "uses")]
    modern: bool,
}

pub(super) async fn run(context: &mut Context, command: InviteCommand) -> Result<(), Failure> {
    match command {
        InviteCommand::Create(options) => create(context, options).await,
        InviteCommand::Accept { code } => accept(context, code).await,
    }
}

async fn create(context: &mut Context, options: CreateOptions) -> Result<(), Failure> {
    let client = Client::connect(&context.loaded).await?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64;
    let body = client.call("invite.create", &[arguments(options, now)]).await?;
    let answer = json_of(&body);
    if context.json {
        return Ok(context.output.json_line(&answer)?);
    }
    match serde_json::from_str::<String>(&answer) {
        Ok(code) => Ok(context.output.line(&printable(&code))?),
        Err(_) => Err(Failure::new(Code::Failed, format!("the server's answer is no invite code: {answer}"))),
    }
}

/// The one argument of `invite.create`.
fn arguments(options: CreateOptions, now: f64) -> Arg {
    let CreateOptions { uses, note, external, days, modern } = options;
    let mut members = vec![("uses".to_owned(), Arg::Number(f64::from(uses)))];
    members.extend(note.map(|note| ("note".to_owned(), Arg::Text(note))));
    members.extend(external.map(|host| ("external".to_owned(), Arg::Text(host))));
    members.extend(days.map(|days| ("expires".to_owned(), Arg::Number(now + f64::from(days) * MS_A_DAY))));
    if modern {
        members.push(("modern".to_owned(), Arg::Bool(true)));
    }
    Arg::Object(members)
}

async fn accept(context: &mut Context, code: String) -> Result<(), Failure> {
    let client = Client::connect(&context.loaded).await?;
    let body = client.call("invite.accept", &[Arg::Text(code)]).await?;
    if context.json {
        return print_answer(context, &body);
    }
    let published: Value = serde_json::from_str(&json_of(&body)).unwrap_or_default();
    for line in told(&published) {
        context.output.line(&line)?;
    }
    Ok(())
}

/// What was published for an accepted invite, for people.
fn told(published: &Value) -> Vec<String> {
    let mut lines = vec!["the invite is accepted: the pub follows us".to_owned()];
    for message in published.as_array().into_iter().flatten() {
        let content = message.pointer("/value/content").unwrap_or(&Value::Null);
        let text = |path: &str| content.pointer(path).and_then(Value::as_str).map(printable).unwrap_or_default();
        match text("/type").as_str() {
            "contact" => lines.push(format!("we follow {}", text("/contact"))),
            "pub" => {
                let port = content.pointer("/address/port").and_then(Value::as_u64).unwrap_or_default();
                lines.push(format!("our feed tells that it is at {}:{port}", text("/address/host")));
            }
            _ => {}
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_become_those_of_the_method() {
        let options = CreateOptions {
            uses: 3,
            note: Some("5".into()),
            external: Some("pub.example.org".into()),
            days: Some(2),
            modern: true,
        };
        assert_eq!(
            serde_json::to_value(arguments(options, 1000.0)).unwrap(),
            json!({"uses": 3, "note": "5", "external": "pub.example.org", "expires": 172_801_000, "modern": true})
        );
        let plain = CreateOptions { uses: 1, note: None, external: None, days: None, modern: false };
        assert_eq!(serde_json::to_value(arguments(plain, 1000.0)).unwrap(), json!({"uses": 1}));
    }

    #[test]
    fn what_was_published_is_told_in_a_line_each() {
        let published = json!([
            {"value": {"content": {"type": "contact", "contact": "@x\u{1b}"}}},
            {"value": {"content": {"type": "pub", "address": {"host": "h.com", "port": 8008}}}},
        ]);
        assert_eq!(told(&published)[1..], ["we follow @x\\u{1b}", "our feed tells that it is at h.com:8008"]);
        assert_eq!(told(&json!("odd")).len(), 1);
    }
}
