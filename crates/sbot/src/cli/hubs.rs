//! `sbot hubs`: the signalling hubs that the server uses.

use clap::Subcommand;
use comfy_table::Cell;
use serde_json::Value;

use super::Context;
use super::arguments::Arg;
use super::call::print_answer;
use super::client::Client;
use super::failure::Failure;
use super::peers_table::duration;
use super::tables::{ask, rendered, table};
use super::text::{printable, shortened};

/// Most characters of what went wrong.
const WHY: usize = 60;

#[derive(Debug, Subcommand)]
pub(super) enum HubsCommand {
    /// Print the hubs: their state, who is there, and what went wrong
    Ls,
    /// Use a hub from now on
    Add {
        /// https://HOST[:PORT] or http://HOST[:PORT]
        hub: String,
    },
    /// Use a hub no longer. One of the settings is used again from the next start on
    #[command(alias = "remove")]
    Rm {
        /// As `sbot hubs` shows it
        hub: String,
    },
}

pub(super) async fn run(context: &mut Context, command: Option<HubsCommand>) -> Result<(), Failure> {
    let client = Client::connect(&context.loaded).await?;
    let (method, hub) = match command {
        None | Some(HubsCommand::Ls) => return ls(context, &client).await,
        Some(HubsCommand::Add { hub }) => ("hubs.add", hub),
        Some(HubsCommand::Rm { hub }) => ("hubs.remove", hub),
    };
    let body = client.call(method, &[Arg::Text(hub.clone())]).await?;
    if context.json {
        return print_answer(context, &body);
    }
    let hub = printable(&hub);
    let changed = super::output::json_of(&body) == "true";
    Ok(context.output.line(&match (method, changed) {
        ("hubs.add", true) => format!("{hub} is used from now on"),
        ("hubs.add", false) => format!("{hub} is used already"),
        (_, true) => format!("{hub} is used no longer"),
        (_, false) => format!("{hub} was not used"),
    })?)
}

async fn ls(context: &mut Context, client: &Client) -> Result<(), Failure> {
    let answer = ask(client, "hubs.ls").await?;
    let hubs = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    if context.json {
        for hub in hubs {
            context.output.json_line(&hub.to_string())?;
        }
        return Ok(());
    }
    if hubs.is_empty() {
        return Ok(context.output.line("no hubs; sbot hubs add URL adds one")?);
    }
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64() * 1000.0);
    let mut table = table();
    table.set_header(["HUB", "STATE", "SINCE", "PEERS", "FAILURES", "NEXT", "ERROR"]);
    for hub in hubs {
        table.add_row(row(hub, now).map(Cell::new));
    }
    Ok(context.output.line(&rendered(&table))?)
}

fn row(hub: &Value, now: f64) -> [String; 7] {
    let text = |name: &str| hub.get(name).and_then(Value::as_str).map(printable).unwrap_or_default();
    let number = |name: &str| hub.get(name).and_then(Value::as_f64);
    let connected = text("state") == "connected";
    [
        text("hub"),
        text("state"),
        number("stateChange").map_or_else(|| "-".into(), |since| duration((now - since).max(0.0))),
        hub.get("peers").and_then(Value::as_array).map_or(0, Vec::len).to_string(),
        number("failures").unwrap_or_default().to_string(),
        match number("nextTry") {
            Some(when) if when > now => format!("in {}", duration(when - now)),
            Some(_) => "now".into(),
            None => "-".into(),
        },
        // What went wrong before it was connected is of no interest any more.
        if connected { String::new() } else { shortened(&text("error"), WHY) },
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_went_wrong_is_shown_until_the_hub_is_connected() {
        let failed = json!({"hub": "https://hub.example", "state": "disconnected", "stateChange": 1_000, "peers": [],
            "failures": 3, "nextTry": 13_000, "error": "no answer within 15s\u{1b}[1m"});
        let expected =
            ["https://hub.example", "disconnected", "2 s", "0", "3", "in 10 s", "no answer within 15s\\u{1b}[1m"];
        assert_eq!(row(&failed, 3_000.0), expected);
        let connected =
            json!({"hub": "http://h", "state": "connected", "stateChange": 0, "peers": [{}, {}], "error": "x"});
        assert_eq!(row(&connected, 60_000.0), ["http://h", "connected", "1 min", "2", "0", "-", ""]);
    }
}
