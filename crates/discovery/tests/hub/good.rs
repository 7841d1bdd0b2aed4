//! Peers that meet at a hub.

use sbot_discovery::hub::{HubEvent, HubSettings};
use sbot_feed::{FeedId, NetworkKey};
use sbot_multiserver::Session;
use serde_json::json;

use super::*;

#[tokio::test]
async fn two_meet_exchange_signals_in_order_and_part() {
    let hub = Ours::start().await;
    let one = Visitor::join(1, &address(hub.address), knowing());
    let two = Visitor::join(2, &address(hub.address), knowing());
    let (mut one, mut two) = (one.joined().await, two.joined().await);
    one.hub.announce();
    assert_eq!(two.next().await, HubEvent::Announced(one.id));
    two.hub.answer(one.id);
    assert_eq!(one.next().await, HubEvent::Announced(two.id));
    let session = Session([5; 16]);
    for number in 0..30 {
        one.hub.signal(two.id, session, json!({ "candidate": number }));
    }
    for number in 0..30 {
        let signal = json!({ "candidate": number });
        assert_eq!(two.next().await, HubEvent::Signal { from: one.id, session, signal });
    }
    let id = one.id;
    one.hub.leave().await;
    assert_eq!(two.next().await, HubEvent::Gone(id));
    // It had not announced itself to all, and goes without a word.
    two.hub.leave().await;
    hub.stop().await;
}

#[tokio::test]
async fn networks_dont_mix() {
    let hub = Ours::start().await;
    let one = Visitor::join(1, &address(hub.address), knowing()).joined().await;
    let other = Visitor::join_in(NetworkKey([8; 32]), 2, &address(hub.address), knowing()).joined().await;
    let mut two = Visitor::join(3, &address(hub.address), knowing()).joined().await;
    other.hub.announce();
    other.hub.answer(two.id);
    // What was said on the other network would have come first.
    while other.hub.counts().sent < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    one.hub.announce();
    assert_eq!(two.next().await, HubEvent::Announced(one.id));
    hub.stop().await;
}

#[tokio::test]
async fn who_is_silent_is_forgotten_and_who_isnt_stays() {
    let hub = Ours::start().await;
    let millis = std::time::Duration::from_millis;
    let settings = |announce| HubSettings { announce, forget: millis(500), repeat: millis(2_000), ..knowing() };
    let silent = Visitor::join(1, &address(hub.address), settings(PATIENCE)).joined().await;
    let steady = Visitor::join(2, &address(hub.address), settings(millis(20))).joined().await;
    let mut watcher = Visitor::join(3, &address(hub.address), settings(PATIENCE)).joined().await;
    silent.hub.announce();
    assert_eq!(watcher.next().await, HubEvent::Announced(silent.id));
    steady.hub.announce();
    assert_eq!(watcher.next().await, HubEvent::Announced(steady.id));
    assert_eq!(watcher.next().await, HubEvent::Gone(silent.id));
    // Told of again after a good while. (On a machine that stops for half a second it may be forgotten before.)
    let again = watcher.next().await;
    assert!(matches!(again, HubEvent::Announced(id) | HubEvent::Gone(id) if id == steady.id), "{again:?}");
    hub.stop().await;
}

#[tokio::test]
async fn a_hub_that_stops_is_lost_and_can_be_joined_again() {
    let hub = Ours::start().await;
    let at = hub.address;
    let mut one = Visitor::join(1, &address(at), knowing()).joined().await;
    hub.stop().await;
    assert_eq!(one.lost().await, "it has ended the connection");
    let refused = Visitor::join(1, &address(at), knowing()).lost().await;
    assert!(refused.contains("refused"), "{refused}");
    let hub = Ours::at(at).await;
    Visitor::join(1, &address(at), knowing()).joined().await;
    hub.stop().await;
}

#[tokio::test]
async fn signals_that_were_said_to_everyone_are_not_passed_on() {
    let hub = Ours::start().await;
    let mut one = Visitor::join(1, &address(hub.address), knowing()).joined().await;
    let signal = json!({"id": FeedId([2; 32]).to_string(), "session": "0".repeat(32), "signal": {"type": "offer"}});
    bad::post(hub.address, &bad::announce_path(), &signal.to_string()).await;
    bad::post(hub.address, &bad::announce_path(), &json!({"id": FeedId([3; 32]).to_string()}).to_string()).await;
    assert_eq!(one.next().await, HubEvent::Announced(FeedId([3; 32])));
    assert_eq!(one.hub.counts().unreadable, 1);
    hub.stop().await;
}

#[tokio::test]
async fn a_hub_that_is_dropped_is_left_without_a_word() {
    let hub = Ours::start().await;
    let one = Visitor::join(1, &address(hub.address), knowing()).joined().await;
    drop(one);
    let gone = async {
        while hub.watch.counts().subscribers > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, gone).await.is_ok());
    hub.stop().await;
}
