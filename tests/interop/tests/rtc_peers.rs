//! Peers over WebRTC that aren't ours: werift, and a page in Chromium. They meet at npm `signalhub`.

use anyhow::{Result, ensure};
use sbot_interop::{JsPeer, Kind, Signalhub, chromium, network_key};
use serde_json::json;

/// Messages of a feed.
const MESSAGES: u64 = 1000;

#[test]
fn a_page_and_werift_are_peers_of_each_other() -> Result<()> {
    let Some(browser) = chromium()? else { return Ok(()) };
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let hub = Signalhub::start(&world.path().join("hub"))?;
    let words = ["--chromium", &browser.to_string_lossy()];
    let mut page = JsPeer::start_rtc(Kind::Chromium, &world.path().join("page"), &key, &hub.url, &words)?;
    let mut werift = JsPeer::start_rtc(Kind::Werift, &world.path().join("werift"), &key, &hub.url, &[])?;
    page.ask(json!({"do": "append", "count": MESSAGES}))?;
    werift.ask(json!({"do": "append", "count": MESSAGES}))?;
    reads_all(&mut page, &mut werift)?;
    reads_all(&mut werift, &mut page)
}

/// `one` dials `two`, reads its feed, and hangs up.
fn reads_all(one: &mut JsPeer, two: &mut JsPeer) -> Result<()> {
    one.ask(json!({"do": "dial", "to": two.id}))?;
    let answer = one.ask(json!({"do": "ask", "to": two.id, "method": "whoami"}))?;
    ensure!(answer["value"]["id"] == json!(two.id), "{answer}");
    let count = one.ask(json!({"do": "history", "to": two.id, "feed": two.id}))?;
    ensure!(count == MESSAGES, "{count} messages");
    one.ask(json!({"do": "hangup", "to": two.id}))?;
    two.ask(json!({"do": "ended", "to": one.id}))?;
    Ok(())
}
