//! Signalling hubs and their clients: npm signalhub's and ours, in every combination.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sbot_discovery::hub::{HubEvent, HubNames, HubSettings, join};
use sbot_feed::{FeedId, NetworkKey};
use sbot_interop::{Hub, HubKind, JsPeer, Kind, wait_until};
use sbot_multiserver::{HubAddress, Session};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;

/// Longest wait for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);
const BOTH: [HubKind; 2] = [HubKind::Npm, HubKind::Ours];

/// A client of npm's.
struct Npm(JsPeer);

impl Npm {
    fn start(dir: &std::path::Path) -> Result<Npm> {
        Ok(Npm(JsPeer::start(Kind::Signalhub, dir, "", None)?))
    }

    fn subscribe(&mut self, hubs: &[&str], app: &str, channels: &[&str]) -> Result<u64> {
        let number = self.0.ask(json!({"do": "subscribe", "hubs": hubs, "app": app, "channels": channels}))?;
        number.as_u64().context("no number")
    }

    fn broadcast(&mut self, hubs: &[&str], app: &str, channel: &str, message: &Value) -> Result<()> {
        let command = json!({"do": "broadcast", "hubs": hubs, "app": app, "channel": channel, "message": message});
        self.0.ask(command).map(|_| ())
    }

    /// Waits until so many messages have come, and answers them.
    fn got(&mut self, number: u64, count: usize) -> Result<Vec<Value>> {
        let mut got = Vec::new();
        wait_until("the messages come", PATIENCE, || {
            let all = self.0.ask(json!({"do": "got", "number": number}))?;
            got = all.as_array().cloned().unwrap_or_default();
            Ok(got.len() >= count)
        })?;
        ensure!(got.len() == count, "{} messages in place of {count}: {got:?}", got.len());
        Ok(got)
    }
}

/// A client of ours.
struct Ours {
    id: FeedId,
    hub: sbot_discovery::hub::Hub,
    events: Receiver<HubEvent>,
}

impl Ours {
    fn join(runtime: &Runtime, seed: u8, hub: &Hub) -> Result<Ours> {
        let _inside = runtime.enter();
        let id = FeedId([seed; 32]);
        let settings = HubSettings { hops: Arc::new(|_| Some(1)), ..HubSettings::default() };
        let (hub, events) = join(HubAddress::parse(&hub.url)?, &NETWORK, id, settings);
        Ok(Ours { id, hub, events })
    }

    fn joined(runtime: &Runtime, seed: u8, hub: &Hub) -> Result<Ours> {
        let mut ours = Ours::join(runtime, seed, hub)?;
        let event = ours.next(runtime)?;
        ensure!(event == HubEvent::Joined, "{event:?}");
        Ok(ours)
    }

    fn next(&mut self, runtime: &Runtime) -> Result<HubEvent> {
        let next = runtime.block_on(async { tokio::time::timeout(PATIENCE, self.events.recv()).await });
        next.context("nothing happens")?.context("the stay is over")
    }

    fn expect(&mut self, runtime: &Runtime, event: HubEvent) -> Result<()> {
        let next = self.next(runtime)?;
        ensure!(next == event, "{next:?} in place of {event:?}");
        Ok(())
    }
}

const NETWORK: NetworkKey = NetworkKey([3; 32]);

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

#[test]
fn npms_clients_exchange_messages_over_either_hub_and_over_both_at_once() -> Result<()> {
    let world = tempfile::tempdir()?;
    let hubs = [Hub::start(HubKind::Npm, world.path())?, Hub::start(HubKind::Ours, &world.path().join("ours"))?];
    let mut client = Npm::start(&world.path().join("client"))?;
    let urls: Vec<&str> = hubs.iter().map(|hub| hub.url.as_str()).collect();
    let messages = [json!({"hello": "wörld ☃", "n": 1.5}), json!([1, null, "\n\r\u{2028}"]), json!("text")];
    for hubs in [&urls[..1], &urls[1..], &urls[..]] {
        let number = client.subscribe(hubs, "an app", &["one", "two/with a slash"])?;
        for message in &messages {
            client.broadcast(hubs, "an app", "one", message)?;
            client.broadcast(hubs, "an app", "other", &json!("nobody hears this"))?;
            client.broadcast(hubs, "another app", "one", &json!("nobody hears this"))?;
            client.broadcast(hubs, "an app", "two/with a slash", message)?;
        }
        let mut got = client.got(number, 2 * messages.len() * hubs.len())?;
        // From two hubs they come in any order.
        got.sort_by_key(Value::to_string);
        let mut expected: Vec<_> = messages.iter().flat_map(|message| vec![message.clone(); 2 * hubs.len()]).collect();
        expected.sort_by_key(Value::to_string);
        ensure!(got == expected, "{got:?}");
        client.0.ask(json!({"do": "close", "number": number}))?;
    }
    hubs.into_iter().try_for_each(Hub::stop)
}

#[test]
fn our_client_and_npms_understand_each_other_over_either_hub() -> Result<()> {
    let runtime = runtime()?;
    for kind in BOTH {
        let world = tempfile::tempdir()?;
        let hub = Hub::start(kind, world.path())?;
        let mut npm = Npm::start(&world.path().join("client"))?;
        let (names, theirs) = (HubNames::new(&NETWORK), npm.0.id.clone());
        let their_id: FeedId = theirs.parse()?;
        let url = [hub.url.as_str()];
        let number = npm.subscribe(&url, names.app(), &[HubNames::ANNOUNCE, &names.letter_box(&their_id)])?;
        let mut ours = Ours::joined(&runtime, 1, &hub)?;
        let our_id = ours.id.to_string();

        ours.hub.announce();
        npm.got(number, 1)?;
        npm.broadcast(&url, names.app(), HubNames::ANNOUNCE, &json!({"id": theirs, "more": [1, 2]}))?;
        ours.expect(&runtime, HubEvent::Announced(their_id))?;

        let session = Session([0xa5; 16]);
        let signal = json!({"type": "offer", "sdp": "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\n"});
        let text = json!({"id": theirs, "session": session.to_string(), "signal": signal});
        npm.broadcast(&url, names.app(), &names.letter_box(&ours.id), &text)?;
        ours.expect(&runtime, HubEvent::Signal { from: their_id, session, signal: signal.clone() })?;
        ours.hub.signal(their_id, session, signal.clone());
        npm.got(number, 3)?;
        npm.broadcast(&url, names.app(), HubNames::ANNOUNCE, &json!({"id": theirs, "gone": true}))?;
        ours.expect(&runtime, HubEvent::Gone(their_id))?;
        runtime.block_on(ours.hub.leave());

        let got = npm.got(number, 5)?;
        let expected = [
            json!({ "id": our_id }),
            json!({"id": theirs, "more": [1, 2]}),
            json!({"id": our_id, "session": session.to_string(), "signal": signal}),
            json!({"id": theirs, "gone": true}),
            json!({"id": our_id, "gone": true}),
        ];
        ensure!(got == expected, "{kind:?}: {got:?}");
        hub.stop()?;
    }
    Ok(())
}

#[test]
fn our_clients_meet_at_either_hub_lose_it_when_it_is_killed_and_meet_again_when_it_is_back() -> Result<()> {
    let runtime = runtime()?;
    for kind in BOTH {
        let world = tempfile::tempdir()?;
        let mut hub = Hub::start(kind, world.path())?;
        let (mut one, mut two) = (Ours::joined(&runtime, 1, &hub)?, Ours::joined(&runtime, 2, &hub)?);
        for _ in 0..2 {
            one.hub.announce();
            two.expect(&runtime, HubEvent::Announced(one.id))?;
            two.hub.answer(one.id);
            one.expect(&runtime, HubEvent::Announced(two.id))?;
            let port = hub.port;
            drop(hub);
            for lost in [&mut one, &mut two] {
                let event = lost.next(&runtime)?;
                ensure!(matches!(event, HubEvent::Lost(_)), "{event:?}");
            }
            hub = Hub::start_at(kind, world.path(), port, &[])?;
            (one, two) = (Ours::joined(&runtime, 1, &hub)?, Ours::joined(&runtime, 2, &hub)?);
        }
        hub.stop()?;
    }
    Ok(())
}

/// What a hub answers to `GET path`: the status, some headers, the body.
fn get(runtime: &Runtime, hub: &Hub, path: &str) -> Result<(String, Vec<String>, String)> {
    let port = hub.port;
    let answer = runtime.block_on(async move {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        // Without the pieces of HTTP/1.1.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let mut lines = head.lines().map(str::to_lowercase);
    let status = lines.next().unwrap_or_default().split_once(' ').context("no status")?.1.to_owned();
    let telling = ["content-type", "access-control-allow-origin", "access-control-allow-methods"];
    let mut headers: Vec<_> = lines.filter(|line| telling.iter().any(|name| line.starts_with(name))).collect();
    headers.sort();
    Ok((status, headers, body.to_owned()))
}

#[test]
fn our_hub_answers_as_npms_does() -> Result<()> {
    let (runtime, world) = (runtime()?, tempfile::tempdir()?);
    let npm = Hub::start(HubKind::Npm, world.path())?;
    let ours = Hub::start(HubKind::Ours, &world.path().join("ours"))?;
    let mut client = Npm::start(&world.path().join("client"))?;
    client.subscribe(&[&npm.url, &ours.url], "app", &["one", "two"])?;
    let (theirs, our) = (get(&runtime, &npm, "/")?, get(&runtime, &ours, "/")?);
    ensure!((&theirs.0, &theirs.1) == (&our.0, &our.1), "{theirs:?}\n{our:?}");
    let (their_root, our_root): (Value, Value) = (serde_json::from_str(&theirs.2)?, serde_json::from_str(&our.2)?);
    ensure!(their_root["subscribers"] == 2 && our_root["subscribers"] == 2, "{their_root} {our_root}");
    let keys = |value: &Value| value.as_object().map(|root| root.keys().cloned().collect::<Vec<_>>());
    ensure!(keys(&their_root) == keys(&our_root), "{their_root} {our_root}");
    let (theirs, our) = (get(&runtime, &npm, "/v2/x")?, get(&runtime, &ours, "/v2/x")?);
    ensure!(theirs.0 == our.0, "{theirs:?}\n{our:?}");
    ensure!(get(&runtime, &ours, "/metrics")?.2.contains("sbot_hub_subscriptions 2"), "no metrics");
    ours.stop()
}
