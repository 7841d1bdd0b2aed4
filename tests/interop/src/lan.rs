//! A local network of its own: hosts in network namespaces, joined by a bridge. Needs root and iproute2.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use crate::child::Process;
use crate::install::script;

/// Hosts that hear each other and nobody else. Taken down when dropped.
pub struct Lan {
    _namespaces: Namespaces,
}

/// A host of a [`Lan`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    pub(crate) namespace: String,
    /// Its address, the best if there are several.
    pub ip: String,
}

impl Lan {
    /// A network of `count` hosts with IPv4 addresses, at most 200. `None`, and a line that says why, where none can be made.
    #[must_use]
    pub fn new(count: usize) -> Option<(Lan, Vec<Host>)> {
        Self::of(count, &["10.77.0."])
    }

    /// As [`Lan::new`], with IPv6 addresses only: one that is good on this link alone, and one of the network `fd77::/64` if
    /// `routed`.
    #[must_use]
    pub fn ipv6(count: usize, routed: bool) -> Option<(Lan, Vec<Host>)> {
        Self::of(count, if routed { &["fd77::", "fe80::77:"] } else { &["fe80::77:"] })
    }

    /// The hosts' addresses begin with `prefixes` and end with their number.
    fn of(count: usize, prefixes: &[&str]) -> Option<(Lan, Vec<Host>)> {
        let mut namespaces = Namespaces::new("lan");
        match build(&mut namespaces, count, prefixes) {
            Ok(hosts) => Some((Lan { _namespaces: namespaces }, hosts)),
            Err(why) => {
                println!("passed over: a network of its own needs root and iproute2: {why:#}");
                None
            }
        }
    }
}

fn build(namespaces: &mut Namespaces, count: usize, prefixes: &[&str]) -> Result<Vec<Host>> {
    let hub = namespaces.add("hub")?;
    ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
    ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
    let mut hosts = Vec::new();
    for number in 1..=count {
        let port = format!("port{number}");
        let namespace = namespaces.add(&number.to_string())?;
        ip(&["-n", &hub, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
        ip(&["-n", &hub, "link", "set", &port, "master", "bridge", "up"])?;
        // The addresses are those given below, and no others.
        ip(&["-n", &namespace, "link", "set", "eth0", "addrgenmode", "none"])?;
        ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        for prefix in prefixes {
            let address = format!("{prefix}{number}");
            if prefix.contains(':') {
                // Without the second in which the kernel looks whether another host has it.
                ip(&["-n", &namespace, "addr", "add", &format!("{address}/64"), "dev", "eth0", "nodad"])?;
            } else {
                ip(&["-n", &namespace, "addr", "add", &format!("{address}/24"), "broadcast", "+", "dev", "eth0"])?;
                // For what is sent to 255.255.255.255.
                ip(&["-n", &namespace, "route", "add", "default", "dev", "eth0"])?;
            }
        }
        hosts.push(Host { namespace, ip: format!("{}{number}", prefixes[0]) });
    }
    Ok(hosts)
}

/// Network namespaces. Deleted when dropped, with what runs in no process.
pub(crate) struct Namespaces {
    prefix: String,
    names: Vec<String>,
}

impl Namespaces {
    /// None yet. Their names tell what they are for, and differ from those of all others.
    pub(crate) fn new(purpose: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { prefix: format!("sbot-{purpose}{}-{number}", std::process::id()), names: Vec::new() }
    }

    /// One more, and its full name.
    pub(crate) fn add(&mut self, name: &str) -> Result<String> {
        let name = format!("{}-{name}", self.prefix);
        ip(&["netns", "add", &name])?;
        self.names.push(name.clone());
        Ok(name)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            // What is left over can be seen by `ip netns`.
            let _ = ip(&["netns", "del", name]);
        }
    }
}

impl Host {
    /// Gives it another IPv4 address in place of its own.
    ///
    /// # Errors
    /// The system refuses.
    pub fn renumber(&mut self, address: &str) -> Result<()> {
        ip(&["-n", &self.namespace, "-4", "addr", "flush", "dev", "eth0"])?;
        ip(&["-n", &self.namespace, "addr", "add", &format!("{address}/24"), "broadcast", "+", "dev", "eth0"])?;
        ip(&["-n", &self.namespace, "route", "add", "default", "dev", "eth0"])?;
        self.ip = address.to_owned();
        Ok(())
    }

    /// Announces `count` made-up peers to everybody on the network, as fast as the system takes it.
    ///
    /// # Errors
    /// As [`script`].
    pub fn flood(&self, dir: &Path, count: u32) -> Result<Flood> {
        let mut command = script("flood.js")?;
        command.args(["10.77.0.255", &count.to_string()]);
        let mut command = self.run(&command, dir);
        let mut process = Process::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()), &dir.join("flood.log"))?;
        let lines = BufReader::new(process.child.stdout.take().context("it has an output")?).lines();
        Ok(Flood { process, lines })
    }

    /// The same command, on this host.
    pub(crate) fn run(&self, command: &Command, home: &Path) -> Command {
        let mut here = Command::new("ip");
        here.args(["netns", "exec", &self.namespace]).arg(command.get_program()).args(command.get_args());
        here.env("HOME", home);
        here
    }
}

/// Made-up announcements. Ends with its value.
pub struct Flood {
    process: Process,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Flood {
    /// Waits until the first thousand is out, and the next time until all are.
    ///
    /// # Errors
    /// It has ended.
    pub fn goes_on(&mut self) -> Result<()> {
        let line = self.lines.next().transpose()?;
        line.map(drop).with_context(|| format!("the flood has ended: {}", self.process.tail()))
    }
}

pub(crate) fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output().context("there is no ip")?;
    ensure!(output.status.success(), "ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
