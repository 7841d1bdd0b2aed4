//! A process that ends with its value.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Lines of a log shown when something fails.
const TAIL: usize = 40;

/// Calls `done` until it says yes.
///
/// # Errors
/// Its error, or that `patience` has passed without.
pub fn wait_until(what: &str, patience: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<Duration> {
    let start = Instant::now();
    while !done().with_context(|| what.to_owned())? {
        if start.elapsed() > patience {
            bail!("{what}: not within {patience:?}");
        }
        std::thread::sleep(PAUSE);
    }
    Ok(start.elapsed())
}

/// A child and the file that takes what it says on standard error.
pub(crate) struct Process {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, its standard error going to the file `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let child = command
            .stderr(File::create(log)?)
            .spawn()
            .with_context(|| format!("can't start {}", command.get_program().display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// The last lines of its log.
    pub(crate) fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL)..).unwrap_or_default().join("\n")
    }

    /// Its whole log.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self, patience: Duration) -> Result<()> {
        wait_until("the process ends", patience, || Ok(self.child.try_wait()?.is_some())).map(|_| ())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.tail());
        }
    }
}
