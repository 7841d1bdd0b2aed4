//! The table of `sbot peers`: one line a peer, as wide as the terminal.

use serde_json::Value;

use super::text::{printable, short_id, shortened};

/// Most characters of an address: an IPv4 address and a port fit, and 20 of 100 are left for the reason however long the
/// other columns are.
const ADDRESS: usize = 22;
/// Fewest characters of the reason, however narrow the terminal is.
const LEAST_WHY: usize = 20;
/// Between two columns.
const GAP: &str = "  ";

const HEADER: [&str; 7] = ["PEER", "ADDRESS", "SOURCE", "STATE", "SINCE", "NEXT", "WHY"];

/// The lines for these peers of `gossip.peers`. `now` is in milliseconds since 1970, `width` in characters.
pub(super) fn lines(peers: &[Value], now: f64, width: usize) -> Vec<String> {
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(peers.iter().map(|peer| row(peer, now)));
    let widths: Vec<usize> = (0..HEADER.len() - 1)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default())
        .collect();
    let before = widths.iter().map(|width| width + GAP.len()).sum::<usize>();
    let left = width.saturating_sub(before).max(LEAST_WHY);
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}{GAP}"));
        let [.., why] = row;
        format!("{}{}", cells.collect::<String>(), shortened(why, left)).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn row(peer: &Value, now: f64) -> [String; 7] {
    let text = |name: &str| peer.get(name).and_then(Value::as_str).map(printable).unwrap_or_default();
    let number = |name: &str| peer.get(name).and_then(Value::as_f64);
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let address = match text("address") {
        // The key stands in the first column, and nearly all are of tcp.
        address if !address.is_empty() => {
            let place = address.split('~').next().unwrap_or_default();
            place.strip_prefix("net:").unwrap_or(place).to_owned()
        }
        _ => format!("{}:{}", text("host"), number("port").unwrap_or_default()),
    };
    let next = match number("nextTry") {
        Some(when) if when > now => format!("in {}", duration(when - now)),
        Some(_) => "now".into(),
        None => "-".into(),
    };
    [
        short_id(&text("key")),
        shortened(&address, ADDRESS),
        dash(text("source")),
        dash(text("state")),
        number("stateChange").map_or_else(|| "-".into(), |since| duration((now - since).max(0.0))),
        next,
        why(&text("why"), &text("error")),
    ]
}

/// The reason without what other columns say of state and times. ssb-server gives none: then what went wrong last.
fn why(why: &str, error: &str) -> String {
    if why.is_empty() {
        return error.lines().next().unwrap_or_default().to_owned();
    }
    let timed = why.starts_with("connected for ") || why.starts_with("dialed again in ");
    match why.split_once(", ") {
        Some((_, rest)) if timed => rest.to_owned(),
        _ if why.starts_with("dialed again in ") => "pauses between two dials".into(),
        _ => why.to_owned(),
    }
}

/// A time in its largest unit.
pub(super) fn duration(milliseconds: f64) -> String {
    let seconds = milliseconds / 1000.0;
    let units = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "min")];
    match units.iter().find(|(unit, _)| seconds >= *unit) {
        Some((unit, name)) => format!("{:.0} {name}", (seconds / unit).floor()),
        None => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KEY: &str = "@FCX/tsDLpubCPKKfIrw4gc+SQkHcaD17s7GI6i/ziWY=.ed25519";

    #[test]
    fn each_peer_is_one_line_of_a_hundred_characters_at_most() {
        let peers = [
            json!({"key": KEY, "address": "net:pub.with.a.very.long.name.example:8008~shs:x", "source": "manual",
                "state": "disconnecting", "stateChange": 0, "nextTry": 3.5e6,
                "why": "dialed again in 5 s, after 3 failures in a row; the last: a reason\nthat is long ".repeat(9)}),
            json!({"key": KEY, "host": "10.0.0.1", "port": 8008}),
        ];
        let lines = lines(&peers, 90_000.0, 100);
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{lines:#?}");
        assert!(lines[1].contains("after 3 fail") && lines[1].ends_with('…'), "{}", lines[1]);
        let words: Vec<_> = lines[2].split_whitespace().collect();
        assert_eq!(words, ["@FCX/tsDL…", "10.0.0.1:8008", "-", "-", "-", "-"]);
    }

    #[test]
    fn state_since_when_and_the_next_try_stand_in_columns_of_their_own() {
        let peer = json!({"key": KEY, "address": "net:10.0.0.1:8008~shs:x", "source": "local", "state": "connected",
            "stateChange": 1_000, "why": "connected for 2 min, dialed by us; always to be connected"});
        let line = lines(&[peer], 121_000.0, 200).pop().unwrap();
        let cells: Vec<_> = line.split(GAP).map(str::trim).filter(|cell| !cell.is_empty()).collect();
        let why = "dialed by us; always to be connected";
        assert_eq!(cells, ["@FCX/tsDL…", "10.0.0.1:8008", "local", "connected", "2 min", "-", why]);
    }

    #[test]
    fn times_are_told_in_their_largest_unit() {
        for (milliseconds, text) in
            [(0.0, "0 s"), (59_000.0, "59 s"), (61_000.0, "1 min"), (7.3e6, "2 h"), (1e9, "11 d")]
        {
            assert_eq!(duration(milliseconds), text);
        }
    }
}
