//! `sbot blobs`: what blobs there are, getting and adding them, and making room.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

use super::Context;
use super::arguments::Arg;
use super::call;
use super::client::Client;
use super::failure::{Code, Failure};
use super::output::json_of;
use super::text::printable;

#[derive(Debug, Subcommand)]
pub(super) enum BlobsCommand {
    /// Print the blobs that are here: id and bytes
    Ls,
    /// Look for a blob, and wait until it is here
    Want {
        /// &….sha256
        id: String,
    },
    /// Store a file, and print the blob's id
    Add {
        /// The file; without one, standard input
        file: Option<PathBuf>,
    },
    /// Print a blob's bytes
    Get {
        /// &….sha256, with ?unbox=KEY behind it to decrypt it
        id: String,
    },
    /// Print how much there is, and what is looked for
    Status,
    /// Never let a blob go
    Pin {
        /// &….sha256
        id: String,
    },
    /// Let a pinned blob go again
    Unpin {
        /// &….sha256
        id: String,
    },
    /// Print which blobs can go, and why: what no message mentions, what is too old, what is over a quota
    ///
    /// Blobs that our own messages mention, that were added here, or that are pinned never go.
    Gc {
        /// Delete them
        #[arg(long)]
        delete: bool,
        /// Hours for which a blob stays that no message mentions
        #[arg(long, value_name = "HOURS", default_value_t = 24)]
        grace: u32,
    },
}

pub(super) async fn run(context: &mut Context, command: BlobsCommand) -> Result<(), Failure> {
    match command {
        BlobsCommand::Ls => ls(context).await,
        BlobsCommand::Want { id } => answered(context, "blobs.want", &id, "is here").await,
        BlobsCommand::Pin { id } => answered(context, "blobs.pin", &id, "is pinned").await,
        BlobsCommand::Unpin { id } => answered(context, "blobs.unpin", &id, "is not pinned any more").await,
        BlobsCommand::Add { file } => {
            let words = file.map(|file| file.to_string_lossy().into_owned());
            call::run(context, std::iter::once("blobs.add".to_owned()).chain(words).collect(), false).await
        }
        BlobsCommand::Get { id } => get(context, id).await,
        BlobsCommand::Status => super::tables::answer_of(context, "blobs.status").await,
        BlobsCommand::Gc { delete, grace } => gc(context, delete, grace).await,
    }
}

async fn answered(context: &mut Context, method: &str, id: &str, what: &str) -> Result<(), Failure> {
    let client = Client::connect(&context.loaded).await?;
    let body = client.call(method, &[Arg::Text(id.to_owned())]).await?;
    if context.json {
        return call::print_answer(context, &body);
    }
    Ok(context.output.line(&format!("{} {what}", printable(id)))?)
}

async fn get(context: &mut Context, id: String) -> Result<(), Failure> {
    let client = Client::connect(&context.loaded).await?;
    let mut source = client.source("blobs.get", &[Arg::Text(id)]).await?;
    while let Some(body) = source.next(&mut context.output).await? {
        context.output.bytes(body.bytes())?;
    }
    Ok(())
}

async fn ls(context: &mut Context) -> Result<(), Failure> {
    let client = Client::connect(&context.loaded).await?;
    let options = Arg::Object(vec![("meta".to_owned(), Arg::Bool(true))]);
    let mut source = client.source("blobs.ls", &[options]).await?;
    while let Some(body) = source.next(&mut context.output).await? {
        let json = json_of(&body);
        if context.json {
            context.output.json_line(&json)?;
            continue;
        }
        let blob = value(&json)?;
        context.output.line(&format!("{} {:>12}", text(&blob, "id"), number(&blob, "size")))?;
    }
    Ok(())
}

async fn gc(context: &mut Context, delete: bool, grace: u32) -> Result<(), Failure> {
    let client = Client::connect(&context.loaded).await?;
    let grace = f64::from(grace) * 3_600_000.0;
    let options = vec![("delete".to_owned(), Arg::Bool(delete)), ("grace".to_owned(), Arg::Number(grace))];
    let mut source = client.source("blobs.gc", &[Arg::Object(options)]).await?;
    let (mut count, mut bytes) = (0_u64, 0_u64);
    while let Some(body) = source.next(&mut context.output).await? {
        let json = json_of(&body);
        let blob = value(&json)?;
        count += 1;
        bytes = bytes.saturating_add(number(&blob, "size"));
        if context.json {
            context.output.json_line(&json)?;
        } else {
            context.output.line(&line(&blob))?;
        }
    }
    if context.json {
        return Ok(());
    }
    Ok(context.output.line(&summary(count, bytes, delete))?)
}

fn line(blob: &Value) -> String {
    format!("{} {:>12}  {}", text(blob, "id"), number(blob, "size"), text(blob, "why"))
}

fn summary(count: u64, bytes: u64, deleted: bool) -> String {
    match (count, deleted) {
        (0, _) => "nothing to delete".to_owned(),
        (_, true) => format!("deleted {count} blobs, {bytes} bytes"),
        (_, false) => format!("{count} blobs, {bytes} bytes can go; sbot blobs gc --delete deletes them"),
    }
}

fn value(json: &str) -> Result<Value, Failure> {
    serde_json::from_str(json)
        .map_err(|error| Failure::new(Code::Failed, format!("the server's answer is no JSON: {error}")))
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).map(printable).unwrap_or_default()
}

fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_can_go_is_told_with_its_reason_and_a_sum() {
        let blob = json!({"id": "&x\u{1b}", "size": 5, "why": "no message mentions it"});
        assert_eq!(line(&blob), "&x\\u{1b}            5  no message mentions it");
        assert_eq!(summary(0, 0, true), "nothing to delete");
        assert!(summary(2, 10, false).contains("--delete") && summary(2, 10, true).starts_with("deleted 2"));
    }
}
