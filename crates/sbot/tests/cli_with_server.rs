//! The `sbot` binary with a server of its own.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A network key that no other test uses.
const NETWORK: &str = "c2JvdCBjb21tYW5kIGxpbmUgdGVzdHMgbmV0d29yayE=";
/// Longest wait for a server to start or stop; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    directory: TempDir,
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    /// Standard output, after a success.
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
    }

    /// Standard output's lines as JSON, after a success.
    fn json(self) -> Vec<Value> {
        self.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl World {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sbot"));
        command.env_clear().env("HOME", self.path()).env("ssb_path", self.path()).env("ssb_caps__shs", NETWORK);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        finished(self.command(words).spawn().unwrap())
    }

    fn run_with(&self, words: &[&str], input: &[u8]) -> Ran {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        finished(child)
    }

    /// Starts a server and waits until it answers.
    fn serve(&self) -> Server {
        self.serve_with(&[])
    }

    fn serve_with(&self, options: &[&str]) -> Server {
        let mut words = vec!["server", "--host", "127.0.0.1", "--port", "0"];
        words.extend(options);
        words.extend(["--", "--local", "false"]);
        let mut command = self.command(&words);
        let child =
            command.stdout(Stdio::null()).stderr(fs::File::create(self.file("stderr")).unwrap()).spawn().unwrap();
        let mut server = Server { child };
        let begin = Instant::now();
        while self.run(&["whoami"]).code != Some(0) {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", fs::read_to_string(self.file("stderr")).unwrap());
            }
            assert!(begin.elapsed() < PATIENCE, "{}", fs::read_to_string(self.file("stderr")).unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }
}

fn finished(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

struct Server {
    child: Child,
}

impl Server {
    /// Sends SIGTERM and waits for the exit code.
    fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begin.elapsed() < PATIENCE, "the server doesn't stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn messages_are_published_read_and_shown_harmlessly() {
    let world = World::new();
    let server = world.serve();
    let me = world.run(&["whoami"]).ok().trim().to_owned();
    assert!(fs::read_to_string(world.file("secret")).unwrap().contains(&me));
    assert!(fs::read_to_string(world.file("manifest.json")).unwrap().contains("\"whoami\""));

    let key = world.run(&["publish", "--type", "post", "--text", "hello"]).ok().trim().to_owned();
    let got: Value = serde_json::from_str(&world.run(&["get", &key]).ok()).unwrap();
    assert_eq!(got["content"]["text"], "hello");
    world.run_with(&["publish", "-"], br#"{"type":"post","text":"\u001b[2Jbad"}"#).ok();
    world.run(&["publish", r#"{"type":"vote","vote":{"link":"%x","value":1}}"#]).ok();

    let log = world.run(&["log"]).ok();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].ends_with("post       hello"), "{log}");
    assert!(lines[1].ends_with(r"\u{1b}[2Jbad"), "{log}");
    let newest = world.run(&["log", "--json", "--limit", "1", "--reverse"]).json();
    assert_eq!(newest[0]["value"]["sequence"], 3);
    assert_eq!(world.run(&["log", "--type", "post"]).ok().lines().count(), 2);
    assert_eq!(world.run(&["log", "--type", "post", "--author", &me, "--limit", "1"]).ok().lines().count(), 1);
    assert_eq!(world.run(&["history", "--seq", "2"]).ok().lines().count(), 2);
    assert_eq!(world.run(&["history", &me, "--reverse", "--json"]).json()[0]["value"]["sequence"], 3);
    assert_eq!(server.stop(), Some(0));
    assert_eq!(world.run(&["whoami"]).code, Some(3));
}

#[test]
fn any_method_can_be_called() {
    let world = World::new();
    let _server = world.serve();
    for text in ["a", "b", "c"] {
        world.run(&["publish", "--type", "post", "--text", text]).ok();
    }
    assert_eq!(world.run(&["createLogStream", "--limit", "2"]).json().len(), 2);
    assert_eq!(world.run(&["call", "createLogStream", r#"{"limit": 1, "reverse": true}"#]).json().len(), 1);
    let id: Value = serde_json::from_str(&world.run(&["call", "whoami"]).ok()).unwrap();
    assert!(id["id"].is_string());
    assert_eq!(world.run(&["--json", "call", "whoami"]).json(), [id]);

    let blob: Vec<u8> = (0..200_000_u32).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect();
    let id = world.run_with(&["blobs.add"], &blob).ok().trim().to_owned();
    assert!(id.starts_with('&'));
    assert_eq!(world.run(&["blobs.get", &id]).ok().into_bytes(), blob);
    fs::write(world.file("blob"), &blob).unwrap();
    assert_eq!(world.run(&["blobs.add", world.file("blob").to_str().unwrap()]).ok().trim(), id);

    let wrong = world.run(&["call", "createLogStreem"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("did you mean createLogStream?"), "{}", wrong.err);
    let group = world.run(&["call", "blobs"]);
    assert!(group.code == Some(2) && group.err.contains("blobs.get"), "{}", group.err);
    let failed = world.run(&["get", "%AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256"]);
    assert_eq!(failed.code, Some(1), "{}", failed.err);
    assert_eq!(failed.err.lines().count(), 1, "{}", failed.err);
}

#[test]
fn a_log_moves_from_one_directory_to_another() {
    let (from, to) = (World::new(), World::new());
    let server = from.serve();
    for text in ["one", "two", "three"] {
        from.run(&["publish", "--type", "post", "--text", text]).ok();
    }
    let file = from.file("messages");
    let name = file.to_str().unwrap();
    assert_eq!(from.run(&["export", name]).ok(), "3 exported\n");
    let through_server = fs::read_to_string(&file).unwrap();
    assert_eq!(server.stop(), Some(0));
    assert_eq!(from.run(&["export"]).ok(), through_server, "without a server it is the same");

    assert_eq!(to.run(&["import", name]).ok(), "3 imported, 0 known already, 0 refused\n");
    let again = to.run(&["--json", "import", name]).json();
    assert_eq!((again[0]["imported"].as_u64(), again[0]["duplicate"].as_u64()), (Some(0), Some(3)));

    let first = through_server.lines().next().unwrap();
    let broken = format!("\n{first}\n{}\nnonsense\n", first.replace("one", "eno"));
    let refused = to.run_with(&["import", "-"], broken.as_bytes());
    assert_eq!(refused.code, Some(1));
    assert!(refused.out.starts_with("0 imported, 1 known already, 2 refused\nline 3: "), "{}", refused.out);
    assert!(refused.out.contains("\nline 4: "), "{}", refused.out);
}

#[test]
fn a_second_server_in_the_same_directory_is_refused() {
    let world = World::new();
    let server = world.serve();
    let second = world.run(&["server", "--host", "127.0.0.1", "--port", "0"]);
    assert_ne!(second.code, Some(0));
    assert!(second.err.contains(world.path().to_str().unwrap()), "{}", second.err);
    assert!(!second.err.contains("panicked"), "{}", second.err);
    world.run(&["whoami"]).ok();
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn status_and_peers_are_tables_for_people_and_json_for_scripts() {
    let world = World::new();
    let _server = world.serve();
    let me = world.run(&["whoami"]).ok().trim().to_owned();
    assert!(world.run(&["status"]).ok().contains(&me));
    assert_eq!(world.run(&["status", "--json"]).json()[0]["id"], me.as_str());
    assert!(world.run(&["peers"]).ok().contains("no peers"));
    assert_eq!(world.run(&["peers", "--json"]).json().len(), 0);
    assert!(world.run(&["version"]).ok().contains("server "));
    let failed = world.run(&["connect", "net:127.0.0.1:1~shs:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]);
    assert_eq!(failed.code, Some(1), "{}", failed.err);
}

#[test]
fn invites_are_made_for_people_and_for_scripts_and_what_is_none_is_refused() {
    let world = World::new();
    let _server = world.serve();
    let me = world.run(&["whoami"]).ok().trim().to_owned();
    let code = world.run(&["invite", "create", "--external", "pub.example.org", "--days", "3"]).ok();
    assert!(code.starts_with("pub.example.org:") && code.contains(&me) && code.lines().count() == 1, "{code}");
    let code = world.run(&["--json", "invite", "create", "--external", "pub.example.org"]).json();
    assert!(code[0].as_str().unwrap().contains(&me), "{code:?}");
    let none = world.run(&["invite", "create"]);
    assert_eq!((none.code, none.err.lines().count()), (Some(1), 1), "{}", none.err);
    assert!(none.err.contains("Server has no public ip address"), "{}", none.err);
    let nonsense = world.run(&["invite", "accept", "nonsense"]);
    assert_eq!(nonsense.code, Some(1));
    assert!(nonsense.err.contains("failed to parse invite nonsense"), "{}", nonsense.err);
    assert_eq!(world.run(&["invite"]).code, Some(2));
}

#[test]
fn blobs_are_added_shown_pinned_and_cleared_away() {
    let world = World::new();
    let _server = world.serve();
    fs::write(world.file("photo"), b"hello world").unwrap();
    let file = world.file("photo");
    let id = "&uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=.sha256";
    assert_eq!(world.run(&["blobs", "add", file.to_str().unwrap()]).ok().trim_end(), id);
    assert_eq!(world.run_with(&["blobs", "add"], b"hello world").ok().trim_end(), id);
    assert_eq!(world.run(&["blobs", "get", id]).ok(), "hello world");
    assert_eq!(world.run(&["blobs", "want", id]).ok().trim_end(), format!("{id} is here"));
    let listed = world.run(&["blobs", "ls"]).ok();
    assert!(listed.starts_with(id) && listed.trim_end().ends_with(" 11"), "{listed}");
    assert_eq!(world.run(&["--json", "blobs", "ls"]).json()[0]["size"], 11);
    assert!(world.run(&["blobs", "pin", id]).ok().contains("is pinned"));
    let status = world.run(&["--json", "blobs", "status"]).json().remove(0);
    assert_eq!((&status["blobs"], &status["bytes"], &status["pinned"]), (&1.into(), &11.into(), &1.into()));
    assert!(world.run(&["blobs", "status"]).ok().contains("wantsOfOthers"));
    assert!(world.run(&["blobs", "unpin", id]).ok().contains("not pinned any more"));
    // Our own stay, whatever is mentioned.
    assert_eq!(world.run(&["blobs", "gc", "--grace", "0", "--delete"]).ok().trim_end(), "nothing to delete");
    let missing = world.run(&["blobs", "get", "&AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("could not get blob"), "{}", missing.err);
}

#[test]
fn a_live_log_goes_on_and_ends_quietly_with_its_reader() {
    let world = World::new();
    let _server = world.serve();
    world.run(&["publish", "--type", "post", "--text", "before"]).ok();
    let mut tail = world.command(&["log", "--live"]).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(tail.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().ends_with("before"));
    world.run(&["publish", "--type", "post", "--text", "after"]).ok();
    assert!(lines.next().unwrap().unwrap().ends_with("after"));
    drop(lines);
    world.run(&["publish", "--type", "post", "--text", "nobody reads this"]).ok();
    let ended = finished(tail);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}

#[test]
fn what_happened_to_peers_is_recorded_and_played_again() {
    let world = World::new();
    let file = world.file("actions");
    let name = file.to_str().unwrap();
    let server = world.serve_with(&["--record-actions", name]);
    let nobody = "net:127.0.0.1:1~shs:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(world.run(&["connect", nobody]).code, Some(1));
    assert_eq!(server.stop(), Some(0));

    let played = world.run(&["peers", "replay", name]).ok();
    assert!(played.contains("net:127.0.0.1:1~") && played.contains("1 peers, 0 links"), "{played}");
    let peers = world.run(&["peers", "replay", name, "--json"]).json();
    assert_eq!((peers.len(), peers[0]["peer"]["failures"].as_u64()), (1, Some(1)), "{peers:?}");

    let lines = fs::read_to_string(&file).unwrap();
    let changed = lines.replacen("\"RemotePeerConnectionFailed\"", "\"RemotePeerConnectionSucceeded\"", 1);
    assert_ne!(lines, changed);
    fs::write(&file, changed).unwrap();
    let wrong = world.run(&["peers", "replay", name]);
    assert!(wrong.code == Some(1) && wrong.err.contains("line "), "{}", wrong.err);
    assert_eq!(world.run(&["peers", "replay", world.file("none").to_str().unwrap()]).code, Some(1));
}

#[test]
fn the_policy_is_shown_and_decisions_are_explained() {
    let world = World::new();
    let config = r#"{"auth": {"preset": "friends only", "rules": {"manifest": "stranger"}}}"#;
    fs::write(world.file("config"), config).unwrap();
    let server = world.serve();
    let stranger = "@AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.ed25519";
    let told =
        world.run(&["auth", "explain", stranger, "blobs.get", "&AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=.sha256"]);
    assert_eq!(
        told.ok(),
        "refused\n  role stranger\n  rule blobs.get: friend (peers exchange blobs with it)\n  \
         fact in whatever way it comes\n  fact no friend follows it (friends reach 3 hops)\n"
    );
    assert!(world.run(&["auth", "explain", stranger, "manifest"]).ok().starts_with("allowed\n"));
    let all = world.run(&["auth", "explain", stranger]).ok();
    assert!(all.starts_with("dial: refused\n") && all.contains("feeds.exchange: refused\n"), "{all}");
    let table = world.run(&["auth", "table"]).ok();
    let row = table.lines().find(|line| line.starts_with("blobs.get ")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[1..], ["-", "-", "-", "-", "-", "yes", "yes", "yes", "yes"]);
    assert!(table.starts_with("preset friends only\n"), "{table}");
    assert_eq!(world.run(&["--json", "auth", "table"]).json()[0]["preset"], "friends only");
    assert_eq!(server.stop(), Some(0));
    fs::write(world.file("config"), r#"{"auth": {"rules": {"blobs.git": "friend"}}}"#).unwrap();
    let wrong = world.run(&["server"]);
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong
            .err
            .contains("config:1:21: auth.rules.blobs.git: there is no rule \"blobs.git\" (did you mean blobs.get?)"),
        "{}",
        wrong.err
    );
}
