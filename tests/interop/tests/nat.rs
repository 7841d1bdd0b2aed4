//! Peers behind routers that translate addresses, who meet at a hub.

use anyhow::{Result, ensure};
use sbot_interop::{Internet, JsPeer, Kind, Nat, Relay, Signalhub, network_key};
use serde_json::{Value, json};

/// Messages that cross: more than a window of the data channel holds.
const MESSAGES: u64 = 1000;

/// Two peers that aren't ours, behind such routers: one reads the other's feed. Returns how many had the relay allocate.
fn two_of_werift(nat: Nat) -> Result<Option<(Value, usize)>> {
    let Some(internet) = Internet::new(nat)? else { return Ok(None) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let Some(relay) = Relay::start_on(&internet.public, &world.path().join("relay"))? else { return Ok(None) };
    let hub = Signalhub::start_on(&internet.public, &world.path().join("hub"))?;
    let ice = servers(nat, &relay).to_string();
    let start = |number: usize| {
        let dir = world.path().join(number.to_string());
        JsPeer::start_rtc_on(&internet.hosts[number], Kind::Werift, &dir, &key, &hub.url, &["--ice", &ice])
    };
    let (mut one, mut two) = (start(0)?, start(1)?);
    two.ask(json!({"do": "append", "count": MESSAGES}))?;
    one.ask(json!({"do": "dial", "to": two.id}))?;
    let count = one.ask(json!({"do": "history", "to": two.id, "feed": two.id}))?;
    ensure!(count == MESSAGES, "{count} messages");
    let pair = one.ask(json!({"do": "pair", "to": two.id}))?;
    Ok(Some((pair, relay.allocations()?)))
}

/// What a peer behind such routers is told of servers, as in a browser.
fn servers(nat: Nat, relay: &Relay) -> Value {
    let stun = json!({"urls": format!("stun:{}", relay.at)});
    let turn = |rest: &str| {
        let url = format!("turn:{}{rest}", relay.at);
        json!({"urls": url, "username": Relay::USER, "credential": Relay::PASSWORD})
    };
    let servers = match nat {
        Nat::Keeping => json!([stun]),
        Nat::Drawing => json!([stun, turn("")]),
        Nat::TcpOnly => json!([stun, turn("?transport=tcp")]),
    };
    json!({"iceServers": servers})
}

#[test]
fn behind_routers_that_keep_ports_a_hole_is_dug() -> Result<()> {
    let Some((pair, allocations)) = two_of_werift(Nat::Keeping)? else { return Ok(()) };
    ensure!(pair["remote"] == "srflx" && allocations == 0, "{pair}, {allocations} allocations");
    Ok(())
}

#[test]
fn behind_routers_that_draw_ports_the_relay_helps() -> Result<()> {
    let Some((pair, allocations)) = two_of_werift(Nat::Drawing)? else { return Ok(()) };
    ensure!(pair["local"] == "relay" || pair["remote"] == "relay", "{pair}");
    ensure!(allocations == 2, "{allocations} allocations");
    Ok(())
}

#[test]
fn where_no_udp_gets_through_the_relay_is_reached_by_tcp() -> Result<()> {
    let Some((pair, allocations)) = two_of_werift(Nat::TcpOnly)? else { return Ok(()) };
    ensure!(pair["local"] == "relay" && pair["remote"] == "relay", "{pair}");
    ensure!(allocations == 2, "{allocations} allocations");
    Ok(())
}
