//! `sbot auth explain` and `sbot auth table`.

use clap::Subcommand;
use serde_json::Value;

use super::Context;
use super::arguments::{self, Arg};
use super::client::Client;
use super::failure::{Code, Failure};
use super::output::json_of;
use super::tables::{rendered, table};
use super::text::printable;

#[derive(Debug, Subcommand)]
pub(super) enum AuthCommand {
    /// Print what a peer may do, by which rule, for what facts
    ///
    /// Without a method: whether it may connect, is dialed, gets feeds and blobs.
    Explain {
        /// Feed id, @….ed25519
        peer: String,
        /// A method, or the name of any rule of `sbot auth table`
        method: Option<String>,
        /// The method's arguments, as with `sbot call`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        words: Vec<String>,
    },
    /// Print who may do what by the policy of the server as it is now
    Table,
}

pub(super) async fn run(context: &mut Context, command: AuthCommand) -> Result<(), Failure> {
    match command {
        AuthCommand::Explain { peer, method, words } => explain(context, peer, method, &words).await,
        AuthCommand::Table => show_table(context).await,
    }
}

/// The server's answer as a value, after it is printed as JSON if that is wanted.
async fn ask(context: &mut Context, method: &str, arguments: &[Arg]) -> Result<Option<Value>, Failure> {
    let client = Client::connect(&context.loaded).await?;
    let text = json_of(&client.call(method, arguments).await?);
    if context.json {
        context.output.json_line(&text)?;
        return Ok(None);
    }
    let value = serde_json::from_str(&text)
        .map_err(|error| Failure::new(Code::Failed, format!("the answer of {method} is no JSON: {error}")))?;
    Ok(Some(value))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

async fn explain(context: &mut Context, peer: String, method: Option<String>, words: &[String]) -> Result<(), Failure> {
    let one = method.is_some();
    let mut arguments = vec![Arg::Text(peer)];
    arguments.extend(method.map(Arg::Text));
    if one {
        arguments.push(Arg::List(arguments::parse(words, &[]).map_err(Failure::usage)?.into_arguments()));
    }
    let Some(answer) = ask(context, "authorisation.explain", &arguments).await? else { return Ok(()) };
    for decision in list(&answer, "decisions") {
        let mut lines = text(decision, "trace").lines().map(printable);
        let verdict = lines.next().unwrap_or_default();
        let question = printable(text(decision, "question"));
        context.output.line(&if one { verdict } else { format!("{question}: {verdict}") })?;
        for line in lines {
            context.output.line(&line)?;
        }
    }
    Ok(())
}

async fn show_table(context: &mut Context) -> Result<(), Failure> {
    let Some(answer) = ask(context, "authorisation.table", &[]).await? else { return Ok(()) };
    context.output.line(&format!("preset {}", printable(text(&answer, "preset"))))?;
    Ok(context.output.line(&matrix(&answer))?)
}

/// A row for each rule, a column for each role, the least trusted first.
fn matrix(answer: &Value) -> String {
    let roles = sbot_authorisation::COLUMNS.map(|role| role.name());
    let mut table = table();
    table.add_row(std::iter::once("rule").chain(roles));
    for line in list(answer, "rules") {
        let may = |role: &str| line.get("allowed").and_then(|allowed| allowed.get(role)) == Some(&Value::Bool(true));
        let marks = roles.map(|role| if may(role) { "yes".to_owned() } else { "-".to_owned() });
        table.add_row(std::iter::once(printable(text(line, "rule"))).chain(marks));
    }
    rendered(&table)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_matrix_has_a_row_a_rule_and_a_column_a_role() {
        let answer =
            json!({"rules": [{"rule": "dial", "allowed": {"owner": true, "friend": true, "stranger": false}}]});
        let rows: Vec<Vec<String>> =
            matrix(&answer).lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
        assert_eq!(rows[0][..3], ["rule", "blocked", "guest"]);
        assert_eq!(rows[1], ["dial", "-", "-", "-", "-", "-", "yes", "-", "-", "yes"]);
    }
}
