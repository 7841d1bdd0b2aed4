//! Invites between ssb-server with ssb-invite and our node, each as the pub and as the guest.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sbot_feed::{Keypair, NetworkKey};
use sbot_interop::{End, JsPeer, Kind, SbotNode, network_key, wait_until};
use sbot_multiserver::{DialSettings, Dialer, InviteCode};
use sbot_rpc::{Body, Limits, Peer, Registry, Session};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Longest wait for a feed, an answer or a handshake.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    key: String,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Result<Self> {
        Ok(Self { key: network_key()?, dir: tempfile::tempdir()? })
    }

    fn js(&self, kind: Kind, name: &str) -> Result<JsPeer> {
        JsPeer::start(kind, &self.dir.path().join(name), &self.key, None)
    }

    fn ours(&self, name: &str) -> Result<SbotNode> {
        SbotNode::start(&self.dir.path().join(name), &self.key)
    }

    fn our_pub(&self) -> Result<SbotNode> {
        SbotNode::start_with(&self.dir.path().join("our pub"), &self.key, &["--allowPrivate", "true"])
    }

    /// Runs a command of ours with the server in `node`'s directory.
    fn command(&self, node: &SbotNode, words: &[&str]) -> Result<String> {
        SbotNode::run(&node.dir, &self.key, words)
    }
}

/// Something that can give out invites and accept them.
trait Party {
    /// The answer, or the sentence of the refusal.
    fn ask(&mut self, method: &str, args: Value) -> Result<std::result::Result<Value, String>>;

    fn invite(&mut self, options: Value) -> Result<String> {
        let code = self.ask("invite.create", json!([options]))?.map_err(anyhow::Error::msg)?;
        Ok(code.as_str().context("no code")?.to_owned())
    }

    fn accept(&mut self, code: &str) -> Result<Vec<Value>> {
        let mut published = self.ask("invite.accept", json!([code]))?.map_err(anyhow::Error::msg)?;
        let published = published.as_array_mut().context("no list")?;
        Ok(published.iter_mut().map(|message| message["value"]["content"].take()).collect())
    }

    fn refusal(&mut self, method: &str, args: Value) -> Result<String> {
        match self.ask(method, args.clone())? {
            Ok(answer) => anyhow::bail!("{method} {args} is answered with {answer}"),
            Err(refusal) => Ok(refusal),
        }
    }
}

impl Party for JsPeer {
    fn ask(&mut self, method: &str, args: Value) -> Result<std::result::Result<Value, String>> {
        self.call(method, args)
    }
}

impl Party for SbotNode {
    fn ask(&mut self, method: &str, args: Value) -> Result<std::result::Result<Value, String>> {
        Ok(self.call(method, args).map_err(|error| error.root_cause().to_string()))
    }
}

/// The contents of all messages of a type in our node.
fn of_type(node: &SbotNode, kind: &str) -> Result<Vec<Value>> {
    let messages = node.source("messagesByType", json!([{"type": kind, "keys": false}]))?;
    Ok(messages.into_iter().map(|mut message| message["content"].take()).collect())
}

/// Both have what the other posts.
fn befriended(one: &mut dyn End, two: &mut dyn End) -> Result<()> {
    let post = |text: &str| json!({"type": "post", "text": text});
    let posts = [one.publish(post("from one"))?, two.publish(post("from two"))?];
    wait_until("both have the other's post", PATIENCE, || Ok(one.has(&posts[1])? && two.has(&posts[0])?))?;
    let (first, second) = (one.tips()?, two.tips()?);
    for feed in [one.id(), two.id()] {
        ensure!(first.get(feed) == second.get(feed), "{first:?} and {second:?} differ in {feed}");
    }
    Ok(())
}

#[test]
fn a_pub_of_ssb_server_lets_us_in_as_it_lets_ssb_server_in() -> Result<()> {
    let world = World::new()?;
    let mut host = world.js(Kind::ClassicPub, "js pub")?;
    let code = host.invite(json!({"uses": 2, "note": "come in"}))?;
    let theirs = world.js(Kind::Classic, "js")?.accept(&code)?;
    let mut ours = world.ours("ours")?;
    let accepted = ours.accept(&code)?;
    ensure!(accepted == theirs, "we publish {accepted:?}, ssb-server {theirs:?}");
    befriended(&mut ours, &mut host)?;
    // its follow of us came with its feed
    let follow = json!({"type": "contact", "contact": ours.id, "following": true, "pub": true, "note": "come in"});
    ensure!(of_type(&ours, "contact")?.contains(&follow), "{:?}", of_type(&ours, "contact")?);

    let mut late = world.ours("late")?;
    let refused = late.refusal("invite.accept", json!([code]))?;
    ensure!(refused.starts_with("invite not accepted: method:invite,use is not in list of allowed"), "{refused}");
    ensure!(late.total()? == 0, "something was published for an invite that was refused");
    Ok(())
}

#[test]
fn our_pub_lets_ssb_server_in_as_a_pub_of_ssb_server_does() -> Result<()> {
    let world = World::new()?;
    let mut host = world.our_pub()?;
    let code = world.command(&host, &["invite", "create", "--uses", "2", "--note", "come in"])?;
    let code = code.trim();
    let mut guest = world.js(Kind::ClassicThatSurvives, "js")?;
    let accepted = guest.accept(&format!("\"{code}\""))?;
    let address = json!({"host": "127.0.0.1", "port": host.port, "key": host.id});
    let expected = [
        json!({"type": "contact", "contact": host.id, "following": true, "autofollow": true}),
        json!({"type": "pub", "address": address}),
    ];
    ensure!(accepted == expected, "{accepted:?}");
    let follow = json!({"type": "contact", "contact": guest.id, "following": true, "pub": true, "note": "come in"});
    ensure!(of_type(&host, "contact")? == [follow], "{:?}", of_type(&host, "contact")?);
    // This ssb-server is set to dial nobody of itself.
    guest.connect(&host.address)?;
    befriended(&mut guest, &mut host)?;

    // who is followed already, and who comes too late
    let refused = guest.refusal("invite.accept", json!([code]))?;
    ensure!(refused == "invite not accepted", "{refused}");
    world.js(Kind::Classic, "second")?.accept(code)?;
    let mut late = world.js(Kind::Classic, "late")?;
    let refused = late.refusal("invite.accept", json!([code]))?;
    ensure!(refused == "invite not accepted" && late.total()? == 0, "{refused}");
    Ok(())
}

#[test]
fn a_pub_of_ours_that_was_killed_counts_on_where_it_was() -> Result<()> {
    let world = World::new()?;
    let mut host = world.our_pub()?;
    let code = host.invite(json!(2))?;
    world.js(Kind::Classic, "first")?.accept(&code)?;
    drop(host);
    let host = world.our_pub()?;
    // It has another port now.
    let old: InviteCode = code.parse()?;
    let code = InviteCode::new(old.host(), host.port, old.key(), *old.seed())?.to_string();
    world.js(Kind::Classic, "second")?.accept(&code)?;
    let refused = world.ours("late")?.refusal("invite.accept", json!([code]))?;
    ensure!(refused == "invite not accepted: invite has expired", "{refused}");
    Ok(())
}

#[test]
fn our_command_accepts_an_invite_of_ssb_server_and_tells_what_it_did() -> Result<()> {
    let world = World::new()?;
    let mut host = world.js(Kind::ClassicPub, "js pub")?;
    let (ours, other) = (world.ours("ours")?, world.ours("other")?);
    let code = host.invite(json!(2))?;
    let told = world.command(&ours, &["invite", "accept", &code])?;
    ensure!(told.contains(&format!("we follow {}", host.id)) && told.lines().count() == 3, "{told}");
    let answer: Value = serde_json::from_str(&world.command(&other, &["--json", "invite", "accept", &code])?)?;
    ensure!(answer[1]["value"]["content"]["address"]["key"] == json!(host.id), "{answer}");
    // and in the older way
    let code: String =
        world.command(&ours, &["invite.create", "--external", "pub.example.org", "--uses", "3", "--"])?;
    ensure!(code.contains("pub.example.org:"), "{code}");
    Ok(())
}

/// A guest of either pub, with the key of a code.
struct Guest {
    runtime: Runtime,
    peer: Peer,
}

impl Guest {
    fn dial(world: &World, code: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let network = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, &world.key)?;
        let network = NetworkKey(network.try_into().map_err(|_| anyhow::anyhow!("no network key"))?);
        let code: InviteCode = code.parse()?;
        let settings = DialSettings { connect_timeout: PATIENCE, handshake_timeout: PATIENCE };
        let dialer = Dialer::new(network, Keypair::generate(), settings);
        let peer = runtime.block_on(async {
            let connection = dialer.dial(code.dial()).await?;
            let registry = Arc::new(Registry::<()>::new());
            anyhow::Ok(Session::spawn(connection.read, connection.write, registry, (), Limits::REMOTE))
        })?;
        Ok(Self { runtime, peer })
    }
}

impl Party for Guest {
    fn ask(&mut self, method: &str, args: Value) -> Result<std::result::Result<Value, String>> {
        let call = async { tokio::time::timeout(PATIENCE, self.peer.call(method, &args)).await };
        Ok(match self.runtime.block_on(call)? {
            Ok(Body::Json(json)) => Ok(serde_json::from_slice(&json)?),
            Ok(other) => Ok(json!(String::from_utf8_lossy(other.bytes()))),
            Err(error) => Err(error.to_string()),
        })
    }
}

/// What a pub says to a guest who does everything wrong, and then uses the invite up.
fn said_to_a_guest(world: &World, host: &mut dyn Party) -> Result<Vec<String>> {
    let code = host.invite(json!(1))?;
    let mut guest = Guest::dial(world, &code)?;
    let mut said = Vec::new();
    for (method, args) in [
        ("invite.use", json!([])),
        ("invite.use", json!([null])),
        ("invite.use", json!(["x"])),
        ("invite.use", json!([5])),
        ("invite.use", json!([{}])),
        ("invite.use", json!([{"feed": null}])),
        ("get", json!(["%x.sha256"])),
        ("invite.create", json!([1])),
        ("whoami", json!([])),
    ] {
        let refusal = guest.refusal(method, args)?;
        // ours goes on with the rule that refused
        said.push(refusal.split("; ").next().unwrap_or_default().to_owned());
    }
    let feed = Keypair::generate().id();
    let followed = guest.ask("invite.use", json!([{"feed": feed}]))?.map_err(anyhow::Error::msg)?;
    let content = &followed["value"]["content"];
    ensure!(*content == json!({"type": "contact", "contact": feed, "following": true, "pub": true}), "{followed}");
    said.push(guest.refusal("invite.use", json!([{"feed": feed}]))?);
    said.push(guest.refusal("invite.use", json!([{"feed": Keypair::generate().id()}]))?);
    Ok(said)
}

#[test]
fn pubs_of_either_kind_say_the_same_to_guests() -> Result<()> {
    let world = World::new()?;
    let theirs = said_to_a_guest(&world, &mut world.js(Kind::ClassicPub, "js pub")?)?;
    let ours = said_to_a_guest(&world, &mut world.our_pub()?)?;
    ensure!(ours == theirs, "ours: {ours:#?}, ssb-server's: {theirs:#?}");
    Ok(())
}

#[test]
fn wrong_calls_are_refused_in_the_words_of_ssb_invite() -> Result<()> {
    let world = World::new()?;
    let (mut their_pub, mut our_pub) = (world.js(Kind::ClassicPub, "js pub")?, world.our_pub()?);
    for args in [json!([]), json!([0]), json!([null]), json!(["x"])] {
        let (their, our) =
            (their_pub.refusal("invite.create", args.clone())?, our_pub.refusal("invite.create", args.clone())?);
        ensure!(their == our, "invite.create {args}: {our}, ssb-server's: {their}");
    }
    // and what only looks wrong is taken by both
    for options in
        [json!("5"), json!(true), json!([]), json!({}), json!({"uses": "many"}), json!({"external": "a.org"})]
    {
        let (their, our) = (their_pub.invite(options.clone())?, our_pub.invite(options.clone())?);
        let host = |code: &str| code.split(':').next().unwrap_or_default().to_owned();
        ensure!(host(&their) == host(&our), "invite.create {options}: {our}, ssb-server's: {their}");
    }

    let (mut their_guest, mut our_guest) = (world.js(Kind::Classic, "js")?, world.ours("ours")?);
    let nobody = Keypair::generate().id().to_string();
    let key = nobody.trim_start_matches('@').trim_end_matches(".ed25519");
    for args in [
        json!([]),
        json!([""]),
        json!([true]),
        json!(["x"]),
        json!(["\"x\""]),
        json!([{"invite": "zzz"}]),
        json!([format!("h.com:8008:{nobody}")]),
        json!([format!("h:8008:{nobody}~{key}")]),
        json!([format!("h.com:8008:{nobody}~{key}~")]),
        json!([format!("unix:/x~shs:{key}:{key}")]),
    ] {
        let (their, our) =
            (their_guest.refusal("invite.accept", args.clone())?, our_guest.refusal("invite.accept", args.clone())?);
        ensure!(their == our, "invite.accept {args}: {our}, ssb-server's: {their}");
    }
    // nobody there; a key that isn't the pub's; a code that is used up: here ours goes on with the reason
    let port = our_pub.port;
    let used_up = [their_pub.invite(json!(-1))?, our_pub.invite(json!(-1))?];
    let codes = [format!("127.0.0.1:1:{nobody}~{key}"), format!("127.0.0.1:{port}:{nobody}~{key}")];
    for code in codes.iter().chain(&used_up) {
        let their = their_guest.refusal("invite.accept", json!([code]))?;
        let our = our_guest.refusal("invite.accept", json!([code]))?;
        let begins = our.strip_prefix(&their).is_some_and(|rest| rest.starts_with(": "));
        ensure!(begins, "invite.accept {code}: {our}, ssb-server's: {their}");
    }
    ensure!(our_guest.total()? == 0 && their_guest.total()? == 0, "refused invites have made messages");
    Ok(())
}

#[test]
fn servers_without_a_public_address_refuse_to_make_invites_alike() -> Result<()> {
    let world = World::new()?;
    let mut theirs = world.js(Kind::Classic, "js")?;
    // as the settings of that ssb-server: for this device and the local network
    let dir = world.dir.path().join("ours");
    std::fs::create_dir_all(&dir)?;
    let incoming = json!({
        "net": [{"scope": ["device", "local"], "transform": "shs", "host": "127.0.0.1", "port": 0}],
        "unix": [{"scope": "device", "transform": "noauth"}],
    });
    std::fs::write(dir.join("config"), json!({"connections": {"incoming": incoming}}).to_string())?;
    let mut ours = SbotNode::start(&dir, &world.key)?;
    let (their, our) = (theirs.refusal("invite.create", json!([1]))?, ours.refusal("invite.create", json!([1]))?);
    ensure!(their == our, "{our}, ssb-server's: {their}");
    Ok(())
}
