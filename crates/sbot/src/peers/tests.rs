//! Tests of what clients see of the peers, with the reducer at work and nobody to dial.

use sbot_feed::{Keypair, NetworkKey};
use sbot_multiserver::{DialSettings, Route};
use sbot_peer_manager::Source;
use serde_json::{Value, json};

use super::*;
use crate::api::{Peers, Pool};

const ONE: FeedId = FeedId([1; 32]);

/// A runtime whose scheduler is stopped, on the small state in `dir`.
fn runtime(dir: &std::path::Path) -> Arc<PeerRuntime> {
    let keys = Keypair::from_seed([7; 32]);
    let clock: crate::publish::Clock = Arc::new(|| 1_000.0);
    let options = Options {
        own: keys.id(),
        dialer: Dialer::new(NetworkKey([0; 32]), keys.clone(), DialSettings::default()),
        hubs: Hubs::new(keys.id(), NetworkKey([0; 32]), &crate::config::Rtc::default(), Arc::new(|_| None)),
        hub_addresses: Vec::new(),
        saves: Arc::new(Saves::open(&dir.join("state.redb")).unwrap()),
        time: Steady::new(&clock, Arc::new(|| 1)),
        seed: 1,
        settings: Settings::default(),
        distance: Box::new(|_| None),
        record: None,
    };
    PeerRuntime::new(options).unwrap()
}

fn address(host: &str) -> Address {
    Route::net(host, 8008, &ONE).into()
}

fn data(value: &Value) -> serde_json::Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn shown(runtime: &PeerRuntime, pool: Pool) -> Vec<String> {
    runtime.entries(pool).into_iter().map(|(address, _)| address).collect()
}

#[tokio::test]
async fn a_known_peer_that_is_seen_nearby_is_staged_and_its_followers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime(dir.path());
    let (far, near) = (address("pub.example"), address("10.0.0.1"));
    runtime.remember(&far, &ONE, data(&json!({}))).unwrap();
    let mut restaged = runtime.restaged();
    restaged.mark_unchanged();
    runtime.apply(Action::RouteAdded { peer: ONE, route: near.to_string(), source: Source::Local });
    assert!(restaged.has_changed().unwrap());
    assert_eq!(shown(&runtime, Pool::Staging), [near.to_string()]);
    assert_eq!(runtime.entries(Pool::Staging)[0].1["type"], "lan");
    assert_eq!(shown(&runtime, Pool::Db), [far.to_string()]);
    assert!(runtime.unstage(&near, &ONE) && !runtime.unstage(&near, &ONE));
    assert!(shown(&runtime, Pool::Staging).is_empty());
}

#[tokio::test]
async fn what_is_remembered_is_there_after_a_restart_with_its_data_and_what_is_staged_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (remembered, staged) = (address("pub.example"), address("10.0.0.1"));
    {
        let runtime = runtime(dir.path());
        runtime.remember(&remembered, &ONE, data(&json!({"name": "a pub", "autoconnect": false}))).unwrap();
        assert!(runtime.stage(&staged, &ONE, data(&json!({"note": "seen"}))).unwrap());
        runtime.save().await;
    }
    let runtime = runtime(dir.path());
    let known = runtime.entries(Pool::Db);
    assert_eq!(known.len(), 1);
    assert_eq!((&known[0].0, &known[0].1["name"]), (&remembered.to_string(), &json!("a pub")));
    assert_eq!(known[0].1["autoconnect"], false);
    assert!(shown(&runtime, Pool::Staging).is_empty());
    runtime.forget(&remembered, &ONE);
    assert!(shown(&runtime, Pool::Db).is_empty() && runtime.find(&ONE).is_none());
}

#[tokio::test]
async fn what_is_not_to_be_dialed_without_being_asked_is_staged_while_others_are_dialed() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime(dir.path());
    runtime.remember(&address("pub.example"), &ONE, data(&json!({"autoconnect": false}))).unwrap();
    assert!(shown(&runtime, Pool::Staging).is_empty());
    runtime.schedule(true);
    assert_eq!(shown(&runtime, Pool::Staging), [address("pub.example").to_string()]);
    assert!(!runtime.look(|state| was_tried(state, &ONE)));
}

fn was_tried(state: &State, key: &FeedId) -> bool {
    state.peer(key).is_some_and(|peer| peer.last_tried.is_some())
}

#[tokio::test]
async fn one_that_is_remembered_not_to_be_dialed_is_not_even_once() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime(dir.path());
    runtime.schedule(true);
    for host in ["127.0.0.1", "127.0.0.2"] {
        runtime.remember(&address(host), &ONE, data(&json!({"autoconnect": false}))).unwrap();
        assert!(!runtime.look(|state| was_tried(state, &ONE)));
    }
    runtime.apply(Action::PeerPrioritised { peer: ONE, hops: Some(1) });
    runtime.remember(&address("127.0.0.3"), &ONE, data(&json!({"autoconnect": false}))).unwrap();
    assert!(!runtime.look(|state| was_tried(state, &ONE)));
    runtime.remember(&address("127.0.0.3"), &ONE, data(&json!({"autoconnect": true}))).unwrap();
    assert!(runtime.look(|state| was_tried(state, &ONE)));
    // Nothing is left under way.
    runtime.shut_down();
}

#[tokio::test]
async fn who_is_banned_and_ourselves_are_never_staged() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime(dir.path());
    let own: Address = Route::net("10.0.0.9", 8008, &runtime.own).into();
    assert!(!runtime.stage(&own, &runtime.own, data(&json!({}))).unwrap());
    assert!(runtime.stage(&address("10.0.0.1"), &ONE, data(&json!({}))).unwrap());
    runtime.apply(Action::PeerBanned { peer: ONE, on: true });
    assert!(shown(&runtime, Pool::Staging).is_empty());
    assert!(!runtime.stage(&address("10.0.0.2"), &ONE, data(&json!({}))).unwrap());
}

#[tokio::test]
async fn whoever_follows_the_peers_is_told_of_one_that_is_removed_and_of_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime(dir.path());
    let mut changes = Peers::changes(&*runtime);
    runtime.add(&address("10.0.0.1"), &ONE, None).unwrap();
    assert!(runtime.remove(&ONE) && !runtime.remove(&ONE));
    let told: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
    let kinds: Vec<_> = told.iter().map(|change| (change.kind, change.peer.address.clone())).collect();
    let place = address("10.0.0.1").to_string();
    assert_eq!(kinds, [(api::PeerChangeKind::Discover, place.clone()), (api::PeerChangeKind::Remove, place)]);
}

#[tokio::test]
async fn only_kinds_of_discovery_that_there_are_can_be_switched() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = runtime(dir.path());
    runtime.enable("local", true).unwrap();
    assert!(*runtime.sought_locally().borrow());
    runtime.enable("global", true).unwrap();
    assert!(runtime.look(State::is_running));
    for kind in ["friends", "seed"] {
        assert!(runtime.enable(kind, false).unwrap_err().message.contains("can't be switched"));
    }
    assert_eq!(runtime.enable("5", true).unwrap_err().message, "there is no gossip type 5");
}
