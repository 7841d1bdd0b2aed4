//! `sbot status`, `peers`, `connect` and `version`.

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::Context;
use super::arguments::Arg;
use super::call::print_answer;
use super::client::Client;
use super::failure::{Code, Failure};
use super::messages::line_width;
use super::output::json_of;
use super::peers_table;
use super::text::{printable, shortened};

/// Longest value in a table, in characters.
const CELL: usize = 100;

/// The server's answer to a method without arguments, as a value.
pub(super) async fn ask(client: &Client, method: &str) -> Result<Value, Failure> {
    let body = client.call(method, &[]).await?;
    serde_json::from_str(&json_of(&body))
        .map_err(|error| Failure::new(Code::Failed, format!("the answer of {method} is no JSON: {error}")))
}

pub(super) async fn status(context: &mut Context) -> Result<(), Failure> {
    let client = Client::connect(&context.loaded).await?;
    let id = client.server_id().await?;
    let version = ask(&client, "version").await?;
    // Not every server says where it can be reached.
    let address = ask(&client, "getAddress").await.unwrap_or_default();
    let status = ask(&client, "status").await?;
    let answer = json!({ "id": id, "version": version, "address": address, "status": status });
    if context.json {
        return Ok(context.output.json_line(&answer.to_string())?);
    }
    let mut table = table();
    for key in ["id", "version", "address"] {
        rows(&mut table, key, answer.get(key).unwrap_or(&Value::Null));
    }
    rows(&mut table, "", &status);
    Ok(context.output.line(&rendered(&table))?)
}

/// One row for each value in `value`, named by its path.
fn rows(table: &mut Table, path: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (key, value) in members {
                let key = printable(key);
                rows(table, &if path.is_empty() { key } else { format!("{path}.{key}") }, value);
            }
        }
        Value::Array(items) => {
            table.add_row([path.to_owned(), format!("{} entries", items.len())]);
        }
        other => {
            table.add_row([path.to_owned(), plain(other)]);
        }
    }
}

pub(super) async fn peers(context: &mut Context) -> Result<(), Failure> {
    let client = Client::connect(&context.loaded).await?;
    let answer = ask(&client, "gossip.peers").await?;
    let peers = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    if context.json {
        for peer in peers {
            context.output.json_line(&peer.to_string())?;
        }
        return Ok(());
    }
    if peers.is_empty() {
        return Ok(context.output.line("no peers; sbot connect ADDRESS adds one")?);
    }
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0.0, |since| since.as_secs_f64() * 1000.0);
    for line in peers_table::lines(peers, now, line_width()) {
        context.output.line(&line)?;
    }
    Ok(())
}

pub(super) async fn connect(context: &mut Context, address: &str) -> Result<(), Failure> {
    let client = Client::connect(&context.loaded).await?;
    let body = client.call("gossip.connect", &[Arg::Text(address.to_owned())]).await?;
    if context.json {
        return print_answer(context, &body);
    }
    Ok(context.output.line(&format!("connected to {}", printable(address)))?)
}

pub(super) async fn version(context: &mut Context) -> Result<(), Failure> {
    let ours = env!("CARGO_PKG_VERSION");
    let server = match Client::connect(&context.loaded).await {
        Ok(client) => ask(&client, "version").await.ok(),
        Err(_) => None,
    };
    if context.json {
        return Ok(context.output.line(&json!({ "sbot": ours, "server": server }).to_string())?);
    }
    context.output.line(&format!("sbot {ours}"))?;
    if let Some(server) = server {
        context.output.line(&format!("server {}", plain(&server)))?;
    }
    Ok(())
}

/// A value as a cell shows it.
fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    shortened(&printable(&text), CELL)
}

pub(super) fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table
}

/// The table's lines without the blanks around them.
pub(super) fn rendered(table: &Table) -> String {
    table
        .to_string()
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_answers_become_rows_named_by_path() {
        let mut table = table();
        rows(&mut table, "", &json!({"a": {"b": 1, "c\u{1b}": "x\u{1b}"}, "d": [1, 2], "e": null}));
        let lines: Vec<String> =
            rendered(&table).lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines, ["a.b 1", "a.c\\u{1b} x\\u{1b}", "d 2 entries"]);
    }
}
