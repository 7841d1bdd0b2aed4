//! The `sbot` binary as its users meet it, where no server is needed.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A data directory of its own, and commands that know no other.
struct World {
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sbot"));
        // Port 1: nobody listens there.
        command.env_clear().env("HOME", self.path()).env("ssb_path", self.path()).env("ssb_port", "1").args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        Ran(self.command(words).stdin(Stdio::null()).output().unwrap())
    }

    fn run_with(&self, words: &[&str], input: &str) -> Ran {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that fails early has closed its input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ran(child.wait_with_output().unwrap())
    }
}

struct Ran(Output);

impl Ran {
    fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    fn assert(&self, code: i32, error: &str) {
        assert_eq!(self.code(), code, "{}", self.err());
        assert!(self.err().contains(error), "{:?} lacks {error:?}", self.err());
        assert!(self.out().is_empty(), "{}", self.out());
        assert!(!self.err().contains("panicked"), "{}", self.err());
    }
}

#[test]
fn help_tells_the_commands_and_the_exit_codes() {
    let world = World::new();
    let ran = world.run(&["--help"]);
    assert_eq!(ran.code(), 0);
    for word in ["server", "publish", "whoami", "Exit codes", "3  no server is running", "--friends.hops"] {
        assert!(ran.out().contains(word), "{word}");
    }
    assert!(!ran.out().contains('\x1b'), "no colors in a pipe");
    assert_eq!(fs::read_dir(world.path()).unwrap().count(), 0, "help leaves nothing behind");
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_was_wrong() {
    let world = World::new();
    world.run(&["whoami", "--loud"]).assert(2, "--loud");
    world.run(&[]).assert(2, "Usage");
    world.run(&["pubish", "--type", "post"]).assert(2, "did you mean publish?");
    world.run(&["get", "%nonsense"]).assert(2, "%nonsense");
    world.run(&["publish", "--text", "hi"]).assert(2, "a message needs a type");
    world.run(&["publish", "{oops"]).assert(2, "no JSON");
    world.run_with(&["publish", "-"], "[1]").assert(2, "must be an object");
    world.run(&["call", "../etc/passwd"]).assert(2, "is no method");
    world.run(&["call", "get", "{oops"]).assert(2, "no JSON");
    world.run(&["whoami", "--port", "http"]).assert(2, "option --port: port must be a whole number");
    world.run(&["server", "--", "--frends.hops", "1"]).assert(2, "did you mean friends?");
    world.run(&["server", "--", "nonsense"]).assert(2, "is no setting");
    for (command, workers) in [("server", "0"), ("server", "two"), ("hub", "9999999")] {
        let ran = Ran(world.command(&[command]).env("TOKIO_WORKER_THREADS", workers).output().unwrap());
        ran.assert(2, &format!("TOKIO_WORKER_THREADS is {workers:?}"));
    }
}

#[test]
fn without_a_server_commands_end_with_3_and_say_what_was_tried_and_what_to_do() {
    let world = World::new();
    for words in
        [&["whoami"][..], &["log"], &["publish", "--type", "post"], &["status"], &["createLogStream"], &["export"]]
    {
        let ran = world.run(words);
        ran.assert(3, &format!("tried {}", world.path().join("socket").display()));
        assert!(ran.err().contains(&format!("start one with: sbot server --path {}", world.path().display())));
    }
    assert_eq!(fs::read_dir(world.path()).unwrap().count(), 0, "no secret was made on the way");
}

#[test]
fn with_a_secret_the_tcp_port_is_tried_too() {
    let world = World::new();
    assert_eq!(world.run(&["keygen", world.path().join("secret").to_str().unwrap()]).code(), 0);
    world.run(&["whoami"]).assert(3, "localhost:1 (nobody answers)");
}

#[test]
fn a_socket_that_nobody_listens_on_is_no_server() {
    let world = World::new();
    drop(std::os::unix::net::UnixListener::bind(world.path().join("socket")).unwrap());
    world.run(&["whoami"]).assert(3, "nobody listens on it");
}

#[test]
fn keygen_prints_a_secret_or_writes_one_and_never_overwrites() {
    let world = World::new();
    let printed = world.run(&["keygen"]);
    assert_eq!(printed.code(), 0);
    assert!(printed.out().starts_with("# WARNING") && printed.out().contains("\"private\""), "{}", printed.out());

    let file = world.path().join("key");
    let name = file.to_str().unwrap();
    let written = world.run(&["keygen", name]);
    assert_eq!(written.code(), 0);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(written.out().trim()), "the id is printed");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o400);
    world.run(&["keygen", name]).assert(4, "never overwritten");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_secret_with_wrong_contents_or_mode_stops_server_and_commands() {
    let world = World::new();
    let secret = world.path().join("secret");
    fs::write(&secret, "this is no secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    world.run(&["whoami"]).assert(1, "can't be used (it was not changed)");
    let server = world.run(&["server", "--port", "0", "--host", "127.0.0.1"]);
    assert_ne!(server.code(), 0);
    assert!(server.err().contains("can't be used (it was not changed)"), "{}", server.err());
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    world.run(&["whoami"]).assert(4, &format!("chmod 0400 {}", secret.display()));
    assert_eq!(fs::read_to_string(&secret).unwrap(), "this is no secret");
}

#[test]
fn a_bad_config_is_named_with_file_line_and_key() {
    let world = World::new();
    let config = world.path().join("config");
    fs::write(&config, "{\n  \"port\": 8008,\n}").unwrap();
    world.run(&["whoami"]).assert(2, &format!("{} is no JSON: line 3, column 1", config.display()));
    fs::write(&config, "{\n  // hops\n  \"friends\": {\"hops\": \"far\"}\n}").unwrap();
    let expected =
        format!("{}:3:15: friends.hops must be a whole number from 0 to 100, found the text \"far\"", config.display());
    world.run(&["server"]).assert(2, &expected);
    world.run(&["whoami", "--config", "/nowhere/at/all"]).assert(2, "can't read the config file /nowhere/at/all");
}

#[test]
fn an_export_never_overwrites_a_file() {
    let world = World::new();
    let file = world.path().join("messages");
    fs::write(&file, "mine").unwrap();
    world.run(&["export", file.to_str().unwrap()]).assert(4, "is not overwritten");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn completions_are_offered_for_the_usual_shells() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = world.run(&["completions", shell]);
        assert_eq!(ran.code(), 0);
        assert!(ran.out().contains("whoami"), "{shell}");
    }
}

#[test]
fn version_needs_no_server() {
    let world = World::new();
    let ran = world.run(&["version"]);
    assert_eq!((ran.code(), ran.out()), (0, format!("sbot {}\n", env!("CARGO_PKG_VERSION"))));
    let ran = world.run(&["version", "--json"]);
    assert_eq!(ran.out(), format!("{{\"sbot\":\"{}\",\"server\":null}}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let world = World::new();
    let mut command = world.command(&["completions", "zsh"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
