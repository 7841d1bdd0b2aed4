//! Peers over WebRTC: where they meet, and the browser that one of them lives in.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::child::Process;
use crate::install::script;
use crate::lan::Host;

/// A signalling hub: npm `signalhub`. It ends when dropped.
pub struct Signalhub {
    _process: Process,
    /// Where it is.
    pub url: String,
}

impl Signalhub {
    /// Starts one on loopback, with its log in `dir`.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start(dir: &Path) -> Result<Self> {
        Self::run(Self::command("127.0.0.1")?, dir, "127.0.0.1")
    }

    /// Starts one on a host of a network of its own.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start_on(host: &Host, dir: &Path) -> Result<Self> {
        Self::run(host.run(&Self::command(&host.ip)?, dir), dir, &host.ip)
    }

    fn command(ip: &str) -> Result<Command> {
        let mut command = script("rtc/node_modules/signalhub/bin.js")?;
        command.args(["listen", "--host", ip, "--port", "0"]);
        Ok(command)
    }

    fn run(mut command: Command, dir: &Path, ip: &str) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut process =
            Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()), &dir.join("signalhub.log"))?;
        let mut lines = BufReader::new(process.child.stdout.take().context("it has an output")?).lines();
        let first = lines.next().transpose()?;
        // It tells of every message, and stands still if nobody reads that.
        std::thread::spawn(move || lines.map_while(std::result::Result::ok).for_each(drop));
        let port = first.as_deref().and_then(|line| line.rsplit(' ').next()?.parse::<u16>().ok());
        let Some(port) = port else { bail!("signalhub says {first:?}: {}", process.tail()) };
        Ok(Self { _process: process, url: format!("http://{ip}:{port}") })
    }
}

/// The browser; `None`, and a line that says so, where there is none.
///
/// # Errors
/// There is none, and everything has to be there: see [`pass_over`].
pub fn chromium() -> Result<Option<PathBuf>> {
    let found = found("chromium").or_else(|| found("chromium-browser")).or_else(|| found("google-chrome"));
    if found.is_none() {
        pass_over("it needs Chromium (apt install chromium)")?;
    }
    Ok(found)
}

/// Where `program` is in `PATH`, or among what only root has in it.
pub(crate) fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    dirs.map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Says on standard error, whatever becomes of what a test prints, why the test is passed over.
///
/// # Errors
/// That it is, where `CI=true` says that everything has to be there.
pub(crate) fn pass_over(why: &str) -> Result<()> {
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        bail!("it would be passed over: {why}");
    }
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    writeln!(std::io::stderr(), "passed over: {test}: {why}")?;
    Ok(())
}
