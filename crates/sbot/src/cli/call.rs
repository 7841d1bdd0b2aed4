//! `sbot call METHOD`: any method of the server, whatever its kind.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::pin::pin;

use bytes::Bytes;
use futures_util::FutureExt;
use sbot_feed::BlobId;
use sbot_rpc::Body;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::arguments::{self, Arg};
use super::client::{Client, Sink};
use super::failure::{Code, Failure};
use super::output::json_of;
use super::{Context, command_names};
use crate::config::nearest;

/// Other names of methods, as ssb-server's command has them (`lib/cli-cmd-aliases.js`).
const ALIASES: [(&str, &str); 3] =
    [("feed", "createFeedStream"), ("hist", "createHistoryStream"), ("logt", "messagesByType")];
/// Longest line read from standard input, in bytes: no message or argument comes near it.
const MAX_LINE: usize = 16 * 1024 * 1024;
/// Bytes of a blob sent at a time.
const CHUNK: usize = 64 * 1024;

/// How a method is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One answer.
    Async,
    Source,
    Sink,
    Duplex,
}

/// Calls the method that `words` begin with. `guessed` if it was not named by `call`, but is an unknown command.
pub(super) async fn run(context: &mut Context, mut words: Vec<String>, guessed: bool) -> Result<(), Failure> {
    if words.is_empty() {
        return Err(Failure::usage("a method is missing").hint("sbot call METHOD [ARGUMENTS]"));
    }
    let word = words.remove(0);
    if !is_method_name(&word) {
        return Err(Failure::usage(format!("{word} is no method: expected a name, or names joined by dots")));
    }
    if guessed {
        refuse_slips(context, &word)?;
    }
    let method = ALIASES.iter().find(|(alias, _)| *alias == word).map_or(word.as_str(), |(_, method)| method);
    let parsed = arguments::parse(&words, &[]).map_err(Failure::usage)?;
    if let [(only, Arg::Bool(true))] = parsed.options.as_slice()
        && only == "help"
    {
        return help(context, method).await;
    }
    // Before anything is asked of the server, so that wrong usage is told apart from a missing server.
    let blob = if method == "blobs.add" { Some(blob_source(&parsed.positional)?) } else { None };
    let from_stdin = parsed.positional.first() == Some(&Arg::Text(".".into())) && !std::io::stdin().is_terminal();
    let arguments = if from_stdin { vec![stdin_json()?] } else { parsed.into_arguments() };

    let client = Client::connect(&context.loaded).await?;
    if let Some(blob) = blob {
        return add_blob(context, &client, blob).await;
    }
    match kind_of(&client, method).await? {
        Kind::Async => {
            let body = client.call(method, &arguments).await?;
            print_answer(context, &body)
        }
        Kind::Source => {
            let mut source = client.source(method, &arguments).await?;
            while let Some(body) = source.next(&mut context.output).await? {
                context.output.item(&body)?;
            }
            Ok(())
        }
        Kind::Sink => {
            let sink = client.sink(method, &arguments).await?;
            send_stdin(sink).await
        }
        Kind::Duplex => {
            let (sink, mut source) = client.duplex(method, &arguments).await?;
            let receive = async {
                while let Some(body) = source.next(&mut context.output).await? {
                    context.output.item(&body)?;
                }
                Ok::<(), Failure>(())
            };
            let mut send = pin!(send_stdin(sink).fuse());
            let mut receive = pin!(receive);
            // The server's end is the end, whatever is still to be sent.
            tokio::select! {
                received = &mut receive => received,
                sent = &mut send => {
                    let received = receive.await;
                    received.and(sent)
                }
            }
        }
    }
}

/// Prints what a method answered: laid out for people, on a line for scripts, binary as it is.
pub(super) fn print_answer(context: &mut Context, body: &Body) -> Result<(), Failure> {
    match body {
        Body::Binary(bytes) => context.output.bytes(bytes)?,
        Body::Json(bytes) if bytes.is_empty() => {}
        other if context.json => context.output.json_line(&json_of(other))?,
        other => context.output.json_indented(&json_of(other))?,
    }
    Ok(())
}

/// The methods' names look like this: `whoami`, `blobs.get`.
fn is_method_name(word: &str) -> bool {
    word.split('.').all(|part| {
        part.starts_with(|first: char| first.is_ascii_alphabetic())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    })
}

/// Refuses an unknown command that is nearly a known one, unless the server's manifest on disk has such a method.
fn refuse_slips(context: &Context, word: &str) -> Result<(), Failure> {
    let names = command_names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let Some(meant) = nearest(word, &names) else { return Ok(()) };
    if ALIASES.iter().any(|(alias, _)| *alias == word) {
        return Ok(());
    }
    let manifest = std::fs::read(context.loaded.config.manifest_path()).unwrap_or_default();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap_or_default();
    if lookup(&manifest, word).is_some() {
        return Ok(());
    }
    Err(Failure::usage(format!("unknown command {word}")).hint(format!("did you mean {meant}?")))
}

fn lookup<'a>(manifest: &'a Value, method: &str) -> Option<&'a Value> {
    method.split('.').try_fold(manifest, |group, name| group.get(name))
}

fn method_names(manifest: &Value, prefix: &str, names: &mut Vec<String>) {
    for (name, entry) in manifest.as_object().into_iter().flatten() {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if entry.is_string() { names.push(path) } else { method_names(entry, &path, names) }
    }
}

async fn manifest(client: &Client) -> Result<Value, Failure> {
    let body = client.call("manifest", &[]).await?;
    serde_json::from_str(&json_of(&body))
        .map_err(|error| Failure::new(Code::Failed, format!("the server's manifest is no JSON: {error}")))
}

async fn kind_of(client: &Client, method: &str) -> Result<Kind, Failure> {
    let manifest = manifest(client).await?;
    match lookup(&manifest, method) {
        Some(Value::String(kind)) => match kind.as_str() {
            "async" | "sync" => Ok(Kind::Async),
            "source" => Ok(Kind::Source),
            "sink" => Ok(Kind::Sink),
            "duplex" => Ok(Kind::Duplex),
            other => Err(Failure::new(Code::Failed, format!("{method} is of the unknown kind {other}"))),
        },
        Some(group @ Value::Object(_)) => {
            let mut names = Vec::new();
            method_names(group, method, &mut names);
            Err(Failure::usage(format!("{method} is a group of methods")).hint(format!("it has {}", names.join(", "))))
        }
        _ => {
            let mut names = Vec::new();
            method_names(&manifest, "", &mut names);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let failure = Failure::usage(format!("the server has no method {method}"));
            Err(match nearest(method, &names) {
                Some(meant) => failure.hint(format!("did you mean {meant}?")),
                None => failure.hint("sbot call manifest lists them all"),
            })
        }
    }
}

async fn help(context: &mut Context, method: &str) -> Result<(), Failure> {
    let client = Client::connect(&context.loaded).await?;
    let line = match kind_of(&client, method).await? {
        Kind::Async => format!("{method} answers once. Usage: sbot call {method} [ARGUMENTS] [--NAME VALUE]"),
        Kind::Source => format!("{method} is a stream. Usage: sbot call {method} [ARGUMENTS] [--NAME VALUE]"),
        Kind::Sink => format!("{method} takes a stream. Usage: sbot call {method} [ARGUMENTS] < ITEMS"),
        Kind::Duplex => format!("{method} takes and gives a stream. Usage: sbot call {method} [ARGUMENTS] < ITEMS"),
    };
    Ok(context.output.line(&line)?)
}

/// One JSON value from the whole of standard input.
pub(super) fn stdin_json() -> Result<Arg, Failure> {
    let mut text = String::new();
    std::io::stdin().lock().take(MAX_LINE as u64 + 1).read_to_string(&mut text)?;
    if text.len() > MAX_LINE {
        return Err(Failure::usage(format!("standard input is longer than {MAX_LINE} bytes")));
    }
    serde_json::from_str(text.trim())
        .map(Arg::Json)
        .map_err(|error| Failure::usage(format!("standard input is no JSON: {error}")))
}

/// Sends standard input, one JSON value a line, then ends the stream and waits for the server to end it too.
async fn send_stdin(mut sink: Sink) -> Result<(), Failure> {
    let mut lines = Lines::new(Box::new(tokio::io::stdin()));
    while let Some((number, line)) = lines.next().await? {
        if let Err(error) = serde_json::from_slice::<&serde_json::value::RawValue>(&line) {
            return Err(Failure::usage(format!("line {number} of standard input is no JSON: {error}")));
        }
        if let Err(failure) = sink.send(Body::Json(line)).await {
            // Why it takes no more is said at the end.
            return sink.finish().await.and(Err(failure));
        }
    }
    sink.finish().await
}

/// Non-empty lines with their numbers, from 1.
pub(super) struct Lines {
    reader: tokio::io::BufReader<Box<dyn tokio::io::AsyncRead + Send + Unpin>>,
    number: u64,
    bytes: u64,
}

impl Lines {
    pub(super) fn new(input: Box<dyn tokio::io::AsyncRead + Send + Unpin>) -> Self {
        Self { reader: tokio::io::BufReader::with_capacity(256 * 1024, input), number: 0, bytes: 0 }
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) async fn next(&mut self) -> Result<Option<(u64, Bytes)>, Failure> {
        use tokio::io::{AsyncBufReadExt, AsyncReadExt};
        loop {
            let mut line = Vec::new();
            let length = (&mut self.reader).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line).await?;
            if length == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.bytes += length as u64;
            if length > MAX_LINE {
                return Err(Failure::new(
                    Code::Failed,
                    format!("line {} is longer than {MAX_LINE} bytes", self.number),
                ));
            }
            let start = line.len() - line.trim_ascii_start().len();
            line.truncate(line.trim_ascii_end().len());
            if start < line.len() {
                return Ok(Some((self.number, Bytes::from(line).slice(start..))));
            }
        }
    }
}

/// The file that `blobs.add FILE` names, or standard input.
fn blob_source(words: &[Arg]) -> Result<Option<std::fs::File>, Failure> {
    let name = match words {
        [] if std::io::stdin().is_terminal() => {
            return Err(Failure::usage("blobs.add takes a file's name, or the bytes on standard input"));
        }
        [] => return Ok(None),
        [Arg::Text(name)] => name.clone(),
        [other @ Arg::Number(_)] => serde_json::to_string(other).unwrap_or_default(),
        _ => return Err(Failure::usage("blobs.add takes one file's name")),
    };
    match std::fs::File::open(Path::new(&name)) {
        Ok(file) => Ok(Some(file)),
        Err(error) => Err(Failure::from(error).context(format!("can't read {name}"))),
    }
}

/// Sends a blob's bytes and prints its id, which mux-rpc has no way to answer to a sink.
async fn add_blob(context: &mut Context, client: &Client, file: Option<std::fs::File>) -> Result<(), Failure> {
    use tokio::io::AsyncReadExt;
    let mut input: Box<dyn tokio::io::AsyncRead + Send + Unpin> = match file {
        Some(file) => Box::new(tokio::fs::File::from_std(file)),
        None => Box::new(tokio::io::stdin()),
    };
    let mut sink = client.sink("blobs.add", &[]).await?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = input.read(&mut buffer).await?;
        let Some(chunk) = buffer.get(..length).filter(|chunk| !chunk.is_empty()) else { break };
        hash.update(chunk);
        if let Err(failure) = sink.send(Body::Binary(Bytes::copy_from_slice(chunk))).await {
            return sink.finish().await.and(Err(failure));
        }
    }
    sink.finish().await?;
    let id = BlobId(hash.finalize().into()).to_string();
    if context.json {
        context.output.line(&serde_json::Value::from(id).to_string())?;
    } else {
        context.output.line(&id)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_names_are_words_joined_by_dots() {
        for name in ["whoami", "blobs.get", "links2.read", "conn.dialViaHub"] {
            assert!(is_method_name(name), "{name}");
        }
        for name in ["", ".", "a..b", "-x", "a b", "a/b", "1.2", "{}"] {
            assert!(!is_method_name(name), "{name}");
        }
    }

    #[test]
    fn methods_are_found_in_nested_manifests() {
        let manifest = serde_json::json!({"whoami": "sync", "blobs": {"get": "source", "add": "sink"}});
        assert_eq!(lookup(&manifest, "blobs.get"), Some(&Value::from("source")));
        assert_eq!(lookup(&manifest, "blobs.rm"), None);
        assert_eq!(lookup(&manifest, "whoami.x"), None);
        let mut names = Vec::new();
        method_names(&manifest, "", &mut names);
        assert_eq!(names, ["blobs.add", "blobs.get", "whoami"]);
    }

    #[tokio::test]
    async fn lines_are_counted_and_empty_ones_skipped() {
        let mut lines = Lines::new(Box::new(&b"{}\r\n\n  [1]\nlast"[..]));
        assert_eq!(lines.next().await.unwrap(), Some((1, Bytes::from_static(b"{}"))));
        assert_eq!(lines.next().await.unwrap(), Some((3, Bytes::from_static(b"[1]"))));
        assert_eq!(lines.next().await.unwrap(), Some((4, Bytes::from_static(b"last"))));
        assert_eq!(lines.next().await.unwrap(), None);
        assert_eq!(lines.bytes(), 15);
    }
}
