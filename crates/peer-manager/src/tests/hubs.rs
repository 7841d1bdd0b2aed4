//! Signalling hubs.

use super::*;

const HUB: &str = "https://hub.example";
const AT_HUB: &str = "rtc:hub.example:443~shs:x";

fn hub() -> String {
    HUB.into()
}

fn connected() -> World {
    let mut world = World::new();
    world.act(Action::HubAddressAdded { hub: hub() });
    assert!(world.effects.contains(&Effect::ConnectToHub { hub: hub() }));
    world.act(Action::HubConnectionSucceeded { hub: hub() });
    assert!(world.effects.contains(&Effect::AnnounceToHub { hub: hub() }));
    world
}

impl World {
    fn announce(&mut self, peer: FeedId) -> &mut Self {
        self.act(Action::RemotePeerDidAnnounce { hub: hub(), peer, route: AT_HUB.into() })
    }

    fn at_hub(&self) -> &Hub {
        self.state.hub(HUB).unwrap()
    }
}

#[test]
fn a_hub_is_connected_announced_to_and_left() {
    let mut world = connected();
    assert_eq!(world.at_hub().connection, HubConnection::Connected);
    world.act(Action::HubAddressRemoved { hub: hub() });
    assert!(world.effects.contains(&Effect::LeaveHub { hub: hub() }));
    assert_eq!(world.state.hubs().len(), 0);
    world.act(Action::HubConnectionSucceeded { hub: hub() });
    assert_eq!(world.effects, [Effect::LeaveHub { hub: hub() }], "it came up after it was removed");
}

#[test]
fn a_hub_that_fails_is_tried_ever_more_rarely_and_a_lost_one_again_soon() {
    let mut world = World::new();
    world.act(Action::HubAddressAdded { hub: hub() });
    let mut waits = Vec::new();
    for _ in 0..8 {
        world.act(Action::HubConnectionFailed { hub: hub(), error: "refused".into() });
        let next = world.at_hub().next_try.unwrap();
        waits.push(next - world.now);
        world.now = next;
        world.act(Action::PeerConnectionTimerTicked);
        assert!(world.effects.contains(&Effect::ConnectToHub { hub: hub() }));
    }
    assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
    world.act(Action::HubConnectionSucceeded { hub: hub() });
    world.now += 60_000;
    world.act(Action::HubDidDisconnect { hub: hub(), error: None });
    assert!(world.at_hub().next_try.unwrap() - world.now < 2 * world.state.settings().first_pause);
    assert_eq!((world.at_hub().failures, world.at_hub().attempts), (0, 9));
}

#[test]
fn a_hub_that_disconnects_at_once_counts_as_failing() {
    let mut world = connected();
    for _ in 0..5 {
        world.act(Action::HubDidDisconnect { hub: hub(), error: None });
        world.now = world.at_hub().next_try.unwrap();
        world.act(Action::PeerConnectionTimerTicked).act(Action::HubConnectionSucceeded { hub: hub() });
    }
    assert_eq!(world.at_hub().failures, 5);
}

#[test]
fn who_announces_itself_at_a_hub_is_dialed_if_the_graph_knows_it() {
    let mut world = connected();
    world.announce(SMALL);
    assert!(world.dialed().is_empty(), "a stranger");
    world.act(Action::PeerPrioritised { peer: SMALL, hops: Some(1) });
    assert_eq!(world.dialed()[0].2, AT_HUB);
    assert_eq!(world.state.status_at_hub(HUB, &SMALL), Some(Status::Connecting));
    world.succeed(SMALL);
    assert_eq!(world.state.status_at_hub(HUB, &SMALL), Some(Status::Connected));
    assert_eq!((world.state.slots_taken(Kind::Hub), world.state.status_at_hub(HUB, &GREAT)), (1, None));
    world.announce(OWN);
    assert_eq!(world.at_hub().peers.len(), 1, "our own announcement");
}

#[test]
fn who_leaves_a_hub_loses_its_route_and_keeps_its_link() {
    let mut world = connected();
    world.announce(SMALL).act(Action::PeerPrioritised { peer: SMALL, hops: Some(1) });
    let link = world.succeed(SMALL);
    world.act(Action::RemotePeerDidLeave { hub: hub(), peer: SMALL });
    assert_eq!((world.status(SMALL), world.at_hub().peers.len()), (Status::Connected, 0));
    world.ends(SMALL, link);
    assert!(world.state.peer(&SMALL).is_none());
}

#[test]
fn a_lost_hub_takes_all_routes_with_it_that_no_other_hub_announces() {
    let mut world = connected();
    let other = || "https://other.example".to_owned();
    world.act(Action::HubAddressAdded { hub: other() }).act(Action::HubConnectionSucceeded { hub: other() });
    world.announce(SMALL).announce(GREAT);
    world.act(Action::RemotePeerDidAnnounce { hub: other(), peer: SMALL, route: AT_HUB.into() });
    world.act(Action::HubDidDisconnect { hub: hub(), error: Some("reset".into()) });
    assert!(world.state.peer(&SMALL).is_some() && world.state.peer(&GREAT).is_none());
    world.announce(GREAT);
    assert!(world.state.peer(&GREAT).is_none(), "it isn't connected");
}

#[test]
fn a_peer_that_keeps_failing_at_a_hub_is_taken_off_it() {
    let mut world = connected();
    world.announce(SMALL).act(Action::PeerPrioritised { peer: SMALL, hops: Some(1) });
    for _ in 0..world.state.settings().hub_peer_failures {
        if world.status(SMALL) == Status::Disconnected {
            world.wait_for(SMALL);
        }
        world.fail(SMALL);
    }
    assert_eq!((world.at_hub().peers.len(), world.state.peer(&SMALL)), (0, None));
}

#[test]
fn hubs_and_their_peers_are_bounded() {
    let mut world = World::with(|settings| (settings.most_hubs, settings.most_hub_peers) = (2, 3));
    for number in 0..4 {
        world.act(Action::HubAddressAdded { hub: format!("https://{number}.example") });
    }
    assert_eq!(world.state.hubs().len(), 2);
    assert!(matches!(world.effects[..], [Effect::HubRefused { why: Refusal::TableFull, .. }]));
    world.act(Action::HubConnectionSucceeded { hub: "https://0.example".into() });
    for number in 0..9 {
        let hub = "https://0.example".into();
        world.act(Action::RemotePeerDidAnnounce { hub, peer: peer(number), route: AT_HUB.into() });
    }
    assert_eq!((world.state.hub("https://0.example").unwrap().peers.len(), world.state.peers().len()), (3, 3));
}

#[test]
fn a_network_change_connects_hubs_anew() {
    let mut world = connected();
    world.announce(SMALL).act(Action::NetworkDidReconnect);
    assert!(world.effects.contains(&Effect::LeaveHub { hub: hub() }));
    assert!(world.state.peer(&SMALL).is_none());
    let all = world.wait(world.state.settings().spread);
    assert!(all.contains(&Effect::ConnectToHub { hub: hub() }));
}
