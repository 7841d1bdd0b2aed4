//! Hosts behind routers that translate addresses, in network namespaces. Needs root, iproute2 and nftables.
//!
//! ```text
//!   host 10.1.0.2 ── router 203.0.113.2 ─┐
//!                                        ├─ 203.0.113.1, where services are
//!   host 10.2.0.2 ── router 203.0.113.3 ─┘
//! ```

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::child::{Process, wait_until};
use crate::lan::{Host, Namespaces, ip};
use crate::tools::{found, pass_over};

/// Where services are.
const PUBLIC: &str = "203.0.113.1";
/// Where packets to addresses that aren't there go, and are lost.
const NOWHERE: &str = "203.0.113.254";
/// Longest start of a relay.
const START: Duration = Duration::from_secs(60);
/// STUN's and TURN's port.
const TURN_PORT: u16 = 3478;

/// What the routers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// A host's port keeps its number whomever it speaks to: each learns its own from STUN, and both dig a hole.
    Keeping,
    /// A port for each that the host speaks to, drawn at random: nobody else gets in by it.
    Drawing,
    /// As the first, and no UDP gets through.
    TcpOnly,
}

/// Two networks of one host each, and what is between them. Taken down when dropped.
pub struct Internet {
    _namespaces: Namespaces,
    routers: Vec<String>,
    /// Where services are: both hosts reach it, it reaches neither.
    pub public: Host,
    /// The hosts.
    pub hosts: [Host; 2],
}

impl Internet {
    /// Two hosts behind such routers. `None`, and a line that says why, where they can't be made.
    ///
    /// # Errors
    /// They can't be made, and `CI=true` says that everything has to be there.
    pub fn new(nat: Nat) -> Result<Option<Self>> {
        match Self::build(nat) {
            Ok(internet) => Ok(Some(internet)),
            Err(why) => {
                pass_over(&format!("networks of its own need root, iproute2 and nftables: {why:#}"))?;
                Ok(None)
            }
        }
    }

    fn build(nat: Nat) -> Result<Self> {
        ensure!(found("nft").is_some(), "there is no nft");
        let mut namespaces = Namespaces::new("nat");
        let public = namespaces.add("public")?;
        ip(&["-n", &public, "link", "set", "lo", "up"])?;
        ip(&["-n", &public, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &public, "link", "set", "bridge", "up"])?;
        ip(&["-n", &public, "addr", "add", &format!("{PUBLIC}/24"), "dev", "bridge"])?;
        lose(&public, "bridge")?;
        let mut routers = Vec::new();
        let mut behind = |number: u8| -> Result<Host> {
            let router = namespaces.add(&format!("router{number}"))?;
            let port = format!("port{number}");
            ip(&["-n", &public, "link", "add", &port, "type", "veth", "peer", "name", "wan", "netns", &router])?;
            ip(&["-n", &public, "link", "set", &port, "master", "bridge", "up"])?;
            ip(&["-n", &router, "addr", "add", &format!("203.0.113.{}/24", number + 1), "dev", "wan"])?;
            ip(&["-n", &router, "link", "set", "wan", "up"])?;
            lose(&router, "wan")?;

            let namespace = namespaces.add(&format!("host{number}"))?;
            let (inside, address) = (format!("10.{number}.0.1"), format!("10.{number}.0.2"));
            ip(&["-n", &router, "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
            ip(&["-n", &router, "addr", "add", &format!("{inside}/24"), "dev", "lan"])?;
            ip(&["-n", &router, "link", "set", "lan", "up"])?;
            ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "addrgenmode", "none"])?;
            ip(&["-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
            ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
            ip(&["-n", &namespace, "route", "add", "default", "via", &inside])?;
            translate(&router, nat)?;
            routers.push(router);
            Ok(Host { namespace, ip: address })
        };
        let hosts = [behind(1)?, behind(2)?];
        Ok(Self { _namespaces: namespaces, routers, public: Host { namespace: public, ip: PUBLIC.into() }, hosts })
    }

    /// Bytes that have left the router of this host for anywhere but the services.
    ///
    /// # Errors
    /// nftables doesn't say.
    pub fn direct(&self, host: usize) -> Result<u64> {
        let router = self.routers.get(host).context("no such host")?;
        let told = inside(router, &["nft", "--json", "list", "counter", "ip", "nat", "direct"], "")?;
        let told: serde_json::Value = serde_json::from_str(&told)?;
        let mut parts = told["nftables"].as_array().into_iter().flatten();
        parts.find_map(|part| part["counter"]["bytes"].as_u64()).with_context(|| format!("nft says {told}"))
    }
}

/// What is for no address that is there goes out and isn't heard of again, as in the world: no error comes back at once.
fn lose(namespace: &str, device: &str) -> Result<()> {
    ip(&["-n", namespace, "neigh", "add", NOWHERE, "lladdr", "02:00:00:00:00:01", "dev", device, "nud", "permanent"])?;
    ip(&["-n", namespace, "route", "add", "default", "via", NOWHERE])
}

/// Makes a router of `namespace`.
fn translate(namespace: &str, nat: Nat) -> Result<()> {
    let how = if nat == Nat::Drawing { "fully-random" } else { "" };
    let passes = if nat == Nat::TcpOnly { "meta l4proto udp drop" } else { "" };
    // What comes unasked is dropped without a trace: Linux would remember it, and give the next packet to whoever sent it
    // another port.
    let rules = format!(
        "table ip nat {{
  counter direct {{
  }}
  chain out {{
    type nat hook postrouting priority srcnat
    oifname wan masquerade {how}
  }}
  chain unasked {{
    type filter hook input priority filter
    iifname wan drop
  }}
  chain through {{
    type filter hook forward priority filter
    {passes}
    iifname lan ip daddr != {PUBLIC} counter name direct
    ct state established,related accept
    iifname wan drop
  }}
}}
"
    );
    inside(namespace, &["nft", "-f", "-"], &rules)?;
    inside(namespace, &["tee", "/proc/sys/net/ipv4/ip_forward"], "1").map(drop)
}

/// Runs a program in `namespace` with this on its standard input, and returns what it prints.
fn inside(namespace: &str, words: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).args(words);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("it has an input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// A STUN and TURN server: coturn. It ends when dropped.
pub struct Relay {
    _process: Process,
    log: PathBuf,
    /// Its address and port.
    pub at: String,
}

impl Relay {
    /// The only user.
    pub const USER: &str = "sbot";
    /// Its password.
    pub const PASSWORD: &str = "secret";

    /// Starts one, with its files in `dir`. `None`, and a line that says why, where there is none.
    ///
    /// # Errors
    /// It doesn't start, or there is none and `CI=true` says that everything has to be there.
    pub fn start_on(host: &Host, dir: &Path) -> Result<Option<Self>> {
        let Some(program) = found("turnserver") else {
            pass_over("it needs coturn (apt install coturn)")?;
            return Ok(None);
        };
        std::fs::create_dir_all(dir)?;
        let settings = format!(
            "listening-ip={ip}\nrelay-ip={ip}\nlistening-port={TURN_PORT}\nmin-port=50000\nmax-port=50999\n\
             lt-cred-mech\nuser={user}:{password}\nrealm=sbot.example\nno-tls\nno-dtls\nno-cli\n\
             verbose\nlog-file=stdout\nsimple-log\n\
             pidfile={dir}/pid\nuserdb={dir}/users\n",
            ip = host.ip,
            user = Self::USER,
            password = Self::PASSWORD,
            dir = dir.display(),
        );
        let (file, log) = (dir.join("settings"), dir.join("log"));
        std::fs::write(&file, settings)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(file);
        let mut command = host.run(&command, dir);
        // It logs on standard output; what it says on standard error is nothing.
        command.stdin(Stdio::null()).stdout(std::fs::File::create(&log)?);
        let mut process = Process::start(&mut command, &dir.join("stderr.log"))?;
        wait_until("coturn listens", START, || {
            if let Some(status) = process.child.try_wait()? {
                bail!("it ended with {status}: {}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            Ok(std::fs::read_to_string(&log)?.contains("UDP listener opened"))
        })?;
        Ok(Some(Self { _process: process, log, at: format!("{}:{TURN_PORT}", host.ip) }))
    }

    /// How many have had it relay for them.
    ///
    /// # Errors
    /// Its log can't be read.
    pub fn allocations(&self) -> Result<usize> {
        let user = format!("username=<{}>", Self::USER);
        let log = std::fs::read_to_string(&self.log)?;
        Ok(log.lines().filter(|line| line.contains(": new, ") && line.contains(&user)).count())
    }
}
