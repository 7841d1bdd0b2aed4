//! `sbot peers replay`: plays a recording of the peer manager.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use comfy_table::Cell;
use sbot_peer_manager::{Replay, State};
use serde_json::json;

use super::Context;
use super::failure::{Code, Failure};
use super::tables::{rendered, table};
use super::text::{printable, short_id};

/// Plays the recording in `path` and prints the peers as they were in the end.
pub(super) fn run(context: &mut Context, path: &Path) -> Result<(), Failure> {
    let failed = |error: String| Failure::new(Code::Failed, format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut replay = Replay::default();
    let mut began = None;
    let mut file = BufReader::new(file);
    let mut line = String::new();
    // The last line is torn if the server was killed: without a line break it isn't played.
    while file.read_line(&mut line).map_err(|error| failed(error.to_string()))? > 0 && line.ends_with('\n') {
        replay.line(&line).map_err(|error| failed(error.to_string()))?;
        began = began.or_else(|| replay.state().filter(|_| replay.actions() > 0).map(State::now));
        line.clear();
    }
    let state = replay.state().ok_or_else(|| failed("there is nothing in it".into()))?;
    let peers = state.peers_in_order();
    if context.json {
        for (key, peer) in peers {
            let line = json!({
                "key": key.to_string(),
                "status": peer.status(),
                "priority": peer.priority(state.settings()).name(),
                "nextTry": peer.next_try(),
                "why": state.why(key).to_string(),
                "peer": peer,
            });
            context.output.json_line(&line.to_string())?;
        }
        return Ok(());
    }
    let mut table = table();
    table.set_header(["PEER", "ROUTE", "SOURCE", "WHY"]);
    for (key, peer) in &peers {
        let link = peer.link.as_ref().map(|link| link.address.as_str());
        let route = peer.routes.first();
        let address = link.or(route.map(|route| route.address.as_str())).unwrap_or_default();
        let source = route.map_or("", |route| route.source.name());
        let row = [short_id(&key.to_string()), printable(address), source.to_owned(), state.why(key).to_string()];
        table.add_row(row.map(Cell::new));
    }
    context.output.line(&rendered(&table))?;
    let seconds = state.now().saturating_sub(began.unwrap_or_default()) / 1000;
    let (out, of_others) = state.links();
    let summary = format!(
        "{} actions over {seconds} s led to the recorded effects. {} peers, {out} links dialed by us, {of_others} by others.",
        replay.actions(),
        peers.len(),
    );
    Ok(context.output.line(&summary)?)
}
