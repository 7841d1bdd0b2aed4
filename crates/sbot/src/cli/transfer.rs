//! `sbot import` and `export`: one message a line, through a running server or, if none runs, straight from the log.

use std::cell::RefCell;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use sbot_feed::write_key_value_timestamp;
use sbot_rpc::Body;
use sbot_store::{Direction, ImportSummary, Store, StoreOptions, TransferProgress};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::Context;
use super::call::Lines;
use super::client::{Client, Source};
use super::failure::{Code, Failure};
use super::messages::argument;
use super::output::json_of;

/// Messages that are read together for an export.
const BATCH: usize = 2_000;
/// Refused lines that are named one by one; the rest is counted.
const MAX_NAMED: usize = 20;

/// What became of an import.
#[derive(Debug, Default)]
struct Summary {
    stored: u64,
    duplicate: u64,
    refused: u64,
    /// Line and reason of the first refused ones.
    named: Vec<(u64, String)>,
    /// Why it ended before the input did.
    stopped: Option<String>,
}

impl Summary {
    fn refuse(&mut self, line: u64, reason: impl std::fmt::Display) {
        self.refused += 1;
        if self.named.len() < MAX_NAMED {
            self.named.push((line, super::text::printable(&reason.to_string())));
        }
    }

    fn print(&self, context: &mut Context) -> Result<(), Failure> {
        if context.json {
            let named: Vec<_> =
                self.named.iter().map(|(line, reason)| json!({ "line": line, "reason": reason })).collect();
            let summary = json!({
                "imported": self.stored,
                "duplicate": self.duplicate,
                "refused": self.refused,
                "reasons": named,
                "stopped": self.stopped,
            });
            context.output.line(&summary.to_string())?;
        } else {
            let Self { stored, duplicate, refused, .. } = self;
            context.output.line(&format!("{stored} imported, {duplicate} known already, {refused} refused"))?;
            for (line, reason) in &self.named {
                context.output.line(&format!("line {line}: {reason}"))?;
            }
            let unnamed = self.refused.saturating_sub(self.named.len() as u64);
            if unnamed > 0 {
                context.output.line(&format!("and {unnamed} more"))?;
            }
        }
        context.output.flush()?;
        if let Some(why) = &self.stopped {
            let why = super::text::printable(why);
            return Err(Failure::new(Code::Failed, format!("the import stopped: {why}"))
                .hint("importing the same file again goes on where it stopped"));
        }
        if self.refused > 0 {
            return Err(Failure::new(Code::Failed, format!("{} messages were refused", self.refused)));
        }
        Ok(())
    }
}

/// Where an import comes from.
enum Input {
    Stdin,
    File(std::fs::File),
}

impl Input {
    /// Also answers how long it is, if that is known.
    fn open(path: &Path) -> std::io::Result<(Self, Option<u64>)> {
        if path == Path::new("-") {
            return Ok((Self::Stdin, None));
        }
        let file = std::fs::File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(std::io::ErrorKind::IsADirectory.into());
        }
        let length = metadata.is_file().then_some(metadata.len());
        Ok((Self::File(file), length))
    }

    fn lines(self) -> Lines {
        match self {
            Self::Stdin => Lines::new(Box::new(tokio::io::stdin())),
            Self::File(file) => Lines::new(Box::new(tokio::fs::File::from_std(file))),
        }
    }
}

pub(super) async fn import(context: &mut Context, file: &Path) -> Result<(), Failure> {
    let cant = |error: std::io::Error| Failure::from(error).context(format!("can't read {}", file.display()));
    let (input, length) = Input::open(file).map_err(cant)?;
    let bar = progress_bar(context, length, true);
    let summary = match Client::connect(&context.loaded).await {
        Ok(client) => import_through_server(&client, &mut input.lines(), &bar).await?,
        Err(failure) if failure.is_no_server() => {
            let store = open_store(context)?;
            let summary = import_into_store(&store, input, &bar).await?;
            let closed = store.close().await;
            closed.map_err(|error| Failure::from_error(Code::Failed, error).context("can't close the log"))?;
            summary
        }
        Err(failure) => return Err(failure),
    };
    bar.finish_and_clear();
    summary.print(context)
}

/// Opens the log of the data directory, which no server uses.
fn open_store(context: &Context) -> Result<Store, Failure> {
    let config = &context.loaded.config;
    let path = config.store_path();
    let options = StoreOptions { hmac: config.caps.sign, ..StoreOptions::default() };
    crate::config::secret::create_directory(&config.path)?;
    Store::open(&path, options, &mut |_| {})
        .map_err(|error| Failure::of_start(error).context(format!("can't open {}", path.display())))
}

async fn import_into_store(store: &Store, input: Input, bar: &ProgressBar) -> Result<Summary, Failure> {
    let (store, bar) = (store.clone(), bar.clone());
    let importing = tokio::task::spawn_blocking(move || {
        let mut show = |progress: TransferProgress| {
            bar.set_position(progress.bytes);
            bar.set_message(format!("{} messages", progress.messages));
        };
        match input {
            Input::Stdin => store.import(std::io::stdin().lock(), &mut show),
            Input::File(file) => store.import(file, &mut show),
        }
    });
    let imported = importing.await.map_err(|error| Failure::from_error(Code::Failed, error))?;
    let ImportSummary { stored, duplicates, refused, named, stopped } =
        imported.map_err(|error| Failure::from_error(Code::Failed, error))?;
    let mut summary = Summary { stored, duplicate: duplicates, stopped, ..Summary::default() };
    for (line, reason) in named {
        summary.refuse(line, reason);
    }
    summary.refused = refused;
    Ok(summary)
}

async fn import_through_server(client: &Client, lines: &mut Lines, bar: &ProgressBar) -> Result<Summary, Failure> {
    let (mut sink, mut source) = client.duplex("sbot.import", &[]).await?;
    let numbering = RefCell::new(Numbering::default());
    let send = async {
        let mut unreadable = Vec::new();
        while let Some((number, line)) = lines.next().await? {
            bar.set_position(lines.bytes());
            // What is no JSON can't travel as JSON.
            if let Err(error) = serde_json::from_slice::<&RawValue>(&line) {
                unreadable.push((number, format!("this is no JSON: {error}")));
                continue;
            }
            numbering.borrow_mut().next_is(number);
            sink.send(Body::Json(line)).await?;
        }
        sink.finish().await?;
        Ok::<_, Failure>(unreadable)
    };
    let receive = async {
        let mut summary = Summary::default();
        while let Some(answer) = next_answer(&mut source).await? {
            summary.stored += answer.stored;
            summary.duplicate += answer.duplicate;
            for refused in answer.refused {
                summary.refuse(numbering.borrow().line_of(refused.item), refused.reason);
            }
            bar.set_message(format!("{} messages", summary.stored + summary.duplicate));
        }
        Ok::<Summary, Failure>(summary)
    };
    let (sent, received) = tokio::join!(send, receive);
    // What the server says comes first: sending fails because of it.
    let mut summary = received?;
    for (line, reason) in sent? {
        summary.refuse(line, reason);
    }
    summary.named.sort_by_key(|(line, _)| *line);
    Ok(summary)
}

/// Which line of the input each item sent was: they part ways only where lines are left out.
#[derive(Debug, Default)]
struct Numbering {
    items: u64,
    /// Items before which lines were left out, each with its line.
    jumps: Vec<(u64, u64)>,
}

impl Numbering {
    fn next_is(&mut self, line: u64) {
        if self.line_of(self.items) != line {
            self.jumps.push((self.items, line));
        }
        self.items += 1;
    }

    fn line_of(&self, item: u64) -> u64 {
        let after = self.jumps.partition_point(|(first, _)| *first <= item);
        match after.checked_sub(1).and_then(|at| self.jumps.get(at)) {
            Some((first, line)) => line + (item - first),
            None => item + 1,
        }
    }
}

#[derive(Deserialize)]
struct Answer {
    stored: u64,
    duplicate: u64,
    refused: Vec<RefusedItem>,
}

#[derive(Deserialize)]
struct RefusedItem {
    item: u64,
    reason: String,
}

async fn next_answer(source: &mut Source) -> Result<Option<Answer>, Failure> {
    let Some(body) = source.recv().await? else { return Ok(None) };
    serde_json::from_str(&json_of(&body)).map(Some).map_err(|error| Failure::from_error(Code::Failed, error))
}

pub(super) async fn export(context: &mut Context, file: &Path) -> Result<(), Failure> {
    let mut target = Target::open(file)?;
    let connected = Client::connect(&context.loaded).await;
    let bar = progress_bar(context, None, file != Path::new("-") || !context.output.is_terminal());
    let count = match connected {
        Ok(client) => {
            let query = argument(&json!({ "keys": true, "values": true, "private": false }))?;
            let mut source = client.source("createLogStream", &[query]).await?;
            let mut count = 0;
            while let Some(body) = source.recv().await? {
                target.line(super::text::one_line(&json_of(&body)).as_bytes())?;
                count += 1;
                bar.set_message(format!("{count} messages"));
            }
            count
        }
        Err(failure) if failure.is_no_server() => {
            if !context.loaded.config.store_path().exists() {
                return Err(failure);
            }
            let store = open_store(context)?;
            export_store(&store, &mut target, &bar)?
        }
        Err(failure) => return Err(failure),
    };
    target.finish()?;
    bar.finish_and_clear();
    if file != Path::new("-") {
        let line = if context.json { json!({ "exported": count }).to_string() } else { format!("{count} exported") };
        context.output.line(&line)?;
    }
    Ok(())
}

fn export_store(store: &Store, target: &mut Target, bar: &ProgressBar) -> Result<u64, Failure> {
    let (mut next, mut count) = (0, 0);
    let mut line = Vec::new();
    loop {
        let records = store
            .read_log(next, BATCH, Direction::Forward)
            .map_err(|error| Failure::from_error(Code::Failed, error).context("can't read the log"))?;
        let Some(last) = records.last() else { return Ok(count) };
        next = last.number + 1;
        count += records.len() as u64;
        for record in &records {
            line.clear();
            write_key_value_timestamp(&mut line, &record.key, &record.value, record.received);
            target.line(&line)?;
        }
        bar.set_message(format!("{count} messages"));
    }
}

/// Where an export goes: standard output, or a new file that is on disk when the command ends.
struct Target {
    stream: BufWriter<Box<dyn Write>>,
    file: Option<std::fs::File>,
}

impl Target {
    fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            return Ok(Self { stream: BufWriter::new(Box::new(std::io::stdout())), file: None });
        }
        let create = || {
            let file = std::fs::File::create_new(path)?;
            let same = file.try_clone()?;
            Ok::<_, std::io::Error>((file, same))
        };
        match create() {
            Ok((file, same)) => {
                Ok(Self { stream: BufWriter::with_capacity(1 << 20, Box::new(file)), file: Some(same) })
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Failure::new(Code::Refused, format!("{} exists already, and is not overwritten", path.display())))
            }
            Err(error) => Err(Failure::from(error).context(format!("can't create {}", path.display()))),
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(line)?;
        Ok(self.stream.write_all(b"\n")?)
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.stream.flush()?;
        if let Some(file) = self.file {
            file.sync_all()?;
        }
        Ok(())
    }
}

/// A bar on standard error, seen only on a terminal and not by scripts.
fn progress_bar(context: &Context, length: Option<u64>, wanted: bool) -> ProgressBar {
    if context.json || !wanted || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {elapsed} {msg}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_traced_back_to_their_lines() {
        let mut numbering = Numbering::default();
        for line in [1, 2, 5, 6, 9] {
            numbering.next_is(line);
        }
        let lines: Vec<u64> = (0..5).map(|item| numbering.line_of(item)).collect();
        assert_eq!(lines, [1, 2, 5, 6, 9]);
        assert_eq!(numbering.jumps.len(), 2);
    }

    #[test]
    fn only_the_first_refusals_are_named() {
        let mut summary = Summary::default();
        for line in 0..100 {
            summary.refuse(line, "no\u{1b}");
        }
        assert_eq!((summary.refused, summary.named.len()), (100, MAX_NAMED));
        assert_eq!(summary.named[0].1, "no\\u{1b}");
    }
}
