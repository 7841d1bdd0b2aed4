//! Signalling hubs, as processes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::child::Process;
use crate::install::script;
use crate::lan::Host;
use crate::program;

/// Longest end of a hub that is told to stop.
const STOP: Duration = Duration::from_secs(30);

/// Which hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubKind {
    /// npm `signalhub`.
    Npm,
    /// `sbot hub`.
    Ours,
}

/// A running signalling hub. It is killed when dropped.
pub struct Hub {
    process: Process,
    kind: HubKind,
    /// Where it is.
    pub url: String,
    /// Its port.
    pub port: u16,
}

impl Hub {
    /// Starts a hub on loopback, at any port, with its log in `dir`.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start(kind: HubKind, dir: &Path) -> Result<Self> {
        Self::start_at(kind, dir, 0, &[])
    }

    /// As [`Hub::start`], at this port, with more options.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start_at(kind: HubKind, dir: &Path, port: u16, options: &[&str]) -> Result<Self> {
        Self::run(kind, dir, "127.0.0.1", port, options, |command| command)
    }

    /// Starts a hub on a host of a network of its own, at any port.
    ///
    /// # Errors
    /// It doesn't start.
    pub fn start_on(host: &Host, kind: HubKind, dir: &Path) -> Result<Self> {
        Self::run(kind, dir, &host.ip, 0, &[], |command| host.run(&command, dir))
    }

    fn run(
        kind: HubKind,
        dir: &Path,
        ip: &str,
        port: u16,
        options: &[&str],
        place: impl FnOnce(Command) -> Command,
    ) -> Result<Self> {
        let (mut command, ready) = match kind {
            HubKind::Npm => {
                let mut command = script("rtc/node_modules/signalhub/bin.js")?;
                command.arg("listen");
                (command, "signalhub listening on port ")
            }
            HubKind::Ours => {
                let mut command = Command::new(program("sbot-under-test")?);
                command.args(["hub", "--json"]);
                (command, "{")
            }
        };
        std::fs::create_dir_all(dir)?;
        command.args(["--host", ip, "--port", &port.to_string()]).args(options);
        let mut command = place(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command, &dir.join("hub.log"))?;
        let mut lines = BufReader::new(process.child.stdout.take().context("it has an output")?).lines();
        let first = lines.next().transpose()?.unwrap_or_default();
        // A process whose output nobody reads stands still.
        std::thread::spawn(move || lines.map_while(std::result::Result::ok).for_each(drop));
        if !first.starts_with(ready) {
            bail!("the hub says {first:?}: {}", process.tail());
        }
        let port = match kind {
            HubKind::Npm => first.rsplit(' ').next().and_then(|port| port.parse().ok()),
            HubKind::Ours => {
                let report: Value = serde_json::from_str(&first)?;
                report["port"].as_u64().and_then(|port| u16::try_from(port).ok())
            }
        };
        let port = port.with_context(|| format!("the hub says no port: {first:?}"))?;
        Ok(Self { process, kind, url: format!("http://{ip}:{port}"), port })
    }

    /// Ends it: ours by asking, and then it has to end well.
    ///
    /// # Errors
    /// It doesn't.
    pub fn stop(mut self) -> Result<()> {
        if self.kind == HubKind::Ours {
            let pid = self.process.child.id().to_string();
            ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "it has gone already");
            self.process.ended(STOP)?;
            let status = self.process.child.wait()?;
            ensure!(status.success(), "it ended with {status}: {}", self.process.tail());
        }
        Ok(())
    }
}
