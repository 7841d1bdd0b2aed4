//! `sbot server`: a node until someone stops it.

use std::io::IsTerminal;
use std::num::NonZero;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::failure::{Code, Failure, colored};
use crate::Node;
use crate::config::{Loaded, LogLevel};
use crate::memory::give_back_large_buffers;

/// Time for tasks that still hold a thread when everything has been closed.
pub(super) const SHUTDOWN: Duration = Duration::from_secs(2);

/// The environment's word for the number of worker threads, as tokio has it.
const WORKERS: &str = "TOKIO_WORKER_THREADS";
const MOST_WORKERS: usize = 1024;

/// Runs a node with these settings until SIGINT or SIGTERM. A second signal ends it at once.
pub(super) fn run(loaded: Loaded) -> Result<(), Failure> {
    give_back_large_buffers();
    start_logging(loaded.config.logging.level);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    allow_many_files();
    // The other half is for the threads that read, write, hash and check signatures: docs/decisions/0001-tokio.md.
    let runtime = runtime("sbot", 2)?;
    let ended = runtime.block_on(serve(loaded));
    runtime.shutdown_timeout(SHUTDOWN);
    ended
}

/// A runtime with a worker thread to so many cores, or with as many as `TOKIO_WORKER_THREADS` says.
pub(super) fn runtime(name: &str, cores_a_worker: usize) -> Result<Runtime, Failure> {
    let workers = match std::env::var_os(WORKERS) {
        None => std::thread::available_parallelism().map_or(1, NonZero::get) / cores_a_worker,
        Some(text) => text
            .to_str()
            .and_then(|text| text.parse().ok())
            .filter(|count| (1..=MOST_WORKERS).contains(count))
            .ok_or_else(|| Failure::usage(format!("{WORKERS} is {text:?}, allowed are 1 to {MOST_WORKERS}")))?,
    };
    Ok(Builder::new_multi_thread().worker_threads(workers.max(1)).enable_all().thread_name(name).build()?)
}

/// Raises the number of files that may be open to what the system allows: each connection is one, and many systems start
/// programs with a limit of 1,024.
pub(super) fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() && limit.current.is_some() {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::debug!(%error, "few files may be open at once");
        }
    }
}

async fn serve(loaded: Loaded) -> Result<(), Failure> {
    // Listened for before the start, which may take a while: indexes are rebuilt in it.
    let mut signals = Signals::new()?;
    let path = loaded.config.path.display().to_string();
    let node = tokio::select! {
        started = Node::start(loaded.config) => started.map_err(|error| Failure::of_start(error)
            .context(format!("can't start a server in {path}")))?,
        name = signals.next() => {
            tracing::info!("stopped by {name} before the start was done");
            return Ok(());
        }
    };
    let name = signals.next().await;
    tracing::info!("stopping because of {name}; once more to stop at once");
    tokio::select! {
        () = node.stop() => {
            tracing::info!("stopped");
            Ok(())
        }
        name = signals.next() => Err(Failure::new(Code::Failed, format!("stopped at once by a second {name}"))),
    }
}

/// The signals that ask a program to end.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The name of the next signal.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// Sends events to standard error, a line each. `RUST_LOG` chooses more finely than `logging.level`.
pub(super) fn start_logging(level: LogLevel) {
    let ours = match level {
        LogLevel::Error => "error",
        LogLevel::Warning => "warn",
        LogLevel::Notice => "info",
        LogLevel::Info => "debug",
        LogLevel::Trace => "trace",
    };
    let others = if matches!(level, LogLevel::Error) { "error" } else { "warn" };
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|directives| EnvFilter::try_new(directives).ok())
        .unwrap_or_else(|| EnvFilter::new(format!("{others},sbot={ours}")));
    let stderr = std::io::stderr();
    let fine = matches!(level, LogLevel::Info | LogLevel::Trace);
    let events = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(stderr.is_terminal() && colored(&stderr))
        .with_target(fine)
        .with_writer(std::io::stderr);
    // A second call, in a program that logs already, changes nothing.
    let _ = events.try_init();
}
