//! `ssb-client` of npm as our client: every method, called and compared with ssb-server's answer on the same log.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use sbot_interop::{Answers, JsPeer, Kind, Network, SbotNode, Spec, compare, network_key};
use serde_json::Value;

/// The methods that clients of ssb-server count on, and the twins of `gossip` that newer clients call.
const METHODS: &str = "manifest whoami version address getAddress auth get publish add createFeedStream createLogStream \
    createHistoryStream createUserStream messagesByType links latest latestSequence getLatest getFeedState \
    getVectorClock progress status del private.publish private.unbox private.read friends.isFollowing \
    friends.isBlocking friends.hops friends.hopStream friends.onEdge friends.get friends.createFriendStream \
    friends.stream replicate.request replicate.block replicate.upto replicate.changes ebt.replicate ebt.request \
    ebt.block ebt.peerStatus gossip.peers gossip.add gossip.remove gossip.connect gossip.disconnect gossip.changes \
    gossip.ping gossip.enable gossip.disable conn.connect conn.disconnect conn.remember conn.forget conn.dbPeers \
    conn.peers conn.stage conn.unstage conn.stagedPeers conn.start conn.stop conn.ping blobs.add blobs.get \
    blobs.getSlice blobs.has blobs.size blobs.ls blobs.rm blobs.want blobs.meta invite.create invite.accept invite.use";
/// Those that are refused always, and those that need a peer, which the tests of replication and of invites have.
const NEVER_WELL: &str = "del friends.onEdge gossip.connect conn.connect ebt.replicate invite.accept invite.use";

/// A log with follows, blocks, names, votes, private messages to us, links and channels.
fn network() -> Result<Network> {
    Network::get(Spec { messages: 3_000, authors: 40, blocks: true })
}

/// Makes `dir` the data directory of the log's first author.
fn identity(network: &Network, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::copy(network.secret(), dir.join("secret"))?;
    Ok(())
}

fn theirs(network: &Network, world: &Path) -> Result<Answers> {
    let (key, dir) = (network_key()?, world.join("js"));
    identity(network, &dir)?;
    let server = JsPeer::start(Kind::ClassicThatSurvives, &dir, &key, Some(&network.log()))?;
    let public = server.address.rsplit(':').next().context("no key")?.to_owned();
    let remote = format!("unix:{}~noauth:{public}", dir.join("socket").display());
    Answers::collect(&dir, &remote, &key, &network.log(), false)
}

/// ssb-server's answers, asked for once.
fn expected(network: &Network) -> Result<&'static Answers> {
    static ANSWERS: OnceLock<std::result::Result<Answers, String>> = OnceLock::new();
    let answers = ANSWERS.get_or_init(|| {
        let collected =
            tempfile::tempdir().map_err(anyhow::Error::from).and_then(|world| theirs(network, world.path()));
        collected.map_err(|error| format!("{error:#}"))
    });
    answers.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn ours(network: &Network, world: &Path, over_tcp: bool) -> Result<Answers> {
    let (key, dir) = (network_key()?, world.join("sbot"));
    identity(network, &dir)?;
    SbotNode::import(&dir, &key, &network.log())?;
    // Pubs are not known to ssb-server here either: see the script.
    let server = SbotNode::start_with(&dir, &key, &["--pub", "false"])?;
    let public = server.address.rsplit(':').next().context("no key")?;
    let remote = match over_tcp {
        true => server.address.clone(),
        false => format!("unix:{}~noauth:{public}", dir.join("socket").display()),
    };
    let answers = Answers::collect(&dir, &remote, &key, &network.log(), true)?;
    server.stop()?;
    Ok(answers)
}

fn answers_as_ssb_server_does(over_tcp: bool) -> Result<()> {
    let (network, world) = (network()?, tempfile::tempdir()?);
    let ours = ours(&network, world.path(), over_tcp)?;
    let differences = compare(expected(&network)?, &ours)?;
    ensure!(differences.is_empty(), "{} answers differ:\n{}", differences.len(), differences.join("\n"));
    let main = network.authors.first().context("no authors")?;
    every_method_is_there_and_works(&ours, main)
}

fn every_method_is_there_and_works(ours: &Answers, main: &str) -> Result<()> {
    let well = |answer: &Value| ["value", "end", "open"].iter().any(|part| answer.get(part).is_some());
    let mut idle = Vec::new();
    for method in METHODS.split_whitespace() {
        ensure!(ours.of(method).next().is_some(), "{method} is not called");
        if !NEVER_WELL.split_whitespace().any(|never| never == method) && !ours.of(method).any(well) {
            idle.push(format!("{method} never works: {:?}", ours.of(method).next()));
        }
    }
    ensure!(idle.is_empty(), "{}", idle.join("\n"));
    // What ssb-server lacks, answers otherwise, or answers alike whatever the log is.
    let first = |method: &str| ours.of(method).next().cloned().unwrap_or_default();
    ensure!(first("whoami")["value"]["id"] == *main, "whoami: {}", first("whoami"));
    ensure!(first("version")["value"].is_string(), "version: {}", first("version"));
    ensure!(first("getAddress") == first("address"), "getAddress: {}", first("getAddress"));
    ensure!(first("address")["value"].as_str().is_some_and(|text| text.contains("~shs:")), "{}", first("address"));
    ensure!(first("manifest")["value"]["friends"]["hops"] == "async", "manifest: {}", first("manifest"));
    ensure!(first("manifest")["value"]["createLogStream"] == "source", "manifest: {}", first("manifest"));
    ensure!(first("del").get("error").is_some(), "del: {}", first("del"));
    ensure!(first("friends.onEdge").get("error").is_some(), "friends.onEdge: {}", first("friends.onEdge"));
    ensure!(first("status")["value"]["sync"]["sync"] == true, "status: {}", first("status"));
    ensure!(ours.of("blobs.meta").any(|answer| answer["value"]["size"] == 65), "blobs.meta never tells the size");
    let remembered = first("conn.dbPeers").to_string();
    ensure!(remembered.contains("net:127.0.0.1:9~shs:"), "conn.dbPeers after conn.remember: {remembered}");
    Ok(())
}

#[test]
fn over_the_unix_socket_we_answer_as_ssb_server_does() -> Result<()> {
    answers_as_ssb_server_does(false)
}

#[test]
fn over_tcp_with_our_own_key_we_answer_as_ssb_server_does() -> Result<()> {
    answers_as_ssb_server_does(true)
}

#[test]
fn ssb_server_answers_as_itself() -> Result<()> {
    let (network, world) = (network()?, tempfile::tempdir()?);
    let again = theirs(&network, world.path())?;
    let differences = compare(expected(&network)?, &again)?;
    ensure!(differences.is_empty(), "the comparison is unsound:\n{}", differences.join("\n"));
    Ok(())
}
