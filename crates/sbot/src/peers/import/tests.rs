//! Tests of the import of other programs' peers.

use serde_json::json;

use super::*;

const OWN: FeedId = FeedId([9; 32]);
const ONE: FeedId = FeedId([1; 32]);

fn address(host: &str, key: FeedId) -> String {
    sbot_multiserver::Route::net(host, 8008, &key).to_string()
}

/// What `name` with this text becomes, and what a second start makes of it.
fn taken(name: &str, text: &str) -> (Result<Option<Taken>, ImportError>, Saved, Notes) {
    let dir = tempfile::tempdir().unwrap();
    let saves = Saves::open(&dir.path().join("state.redb")).unwrap();
    let result = take(dir.path(), &saves, name, text);
    let (saved, notes) = table(&saves);
    (result, saved, notes)
}

fn take(dir: &Path, saves: &Saves, name: &str, text: &str) -> Result<Option<Taken>, ImportError> {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    let parse = FILES.iter().find(|(file, _)| *file == name).unwrap().1;
    import(&path, name, parse, saves, OWN)
}

fn table(saves: &Saves) -> (Saved, Notes) {
    let saved = saves.value(SAVED).unwrap().map(|saved| serde_json::from_slice(&saved).unwrap());
    let notes = saves.value(SAVED_NOTES).unwrap().map(|notes| Notes::restore(&notes).unwrap());
    (saved.unwrap_or_default(), notes.unwrap_or_default())
}

#[test]
fn an_address_of_ssb_conn_keeps_what_is_known_of_it() {
    let text = json!({
        address("pub.example", ONE): {
            "birth": 1_000, "key": ONE.to_string(), "type": "pub", "name": "the pub", "autoconnect": false,
            "failure": 2, "stateChange": 5_000.5, "announcers": 3,
            "duration": {"mean": 10, "stdev": 0, "count": 2, "sum": 20, "sqsum": 200}
        }
    });
    let (result, saved, notes) = taken("conn.json", &text.to_string());
    assert_eq!(result.unwrap(), Some(Taken { addresses: 1, passed_over: 0 }));
    let peer = &saved.peers[0];
    assert_eq!((peer.key, peer.autoconnect, peer.failures), (ONE, false, 2));
    assert_eq!((peer.known_since, peer.last_tried, peer.last_success), (Some(1_000), Some(5_000), Some(5_000)));
    assert_eq!((peer.durations.count, peer.durations.sum, peer.durations.sum_of_squares), (2, 20.0, 200.0));
    let route = &peer.routes[0];
    assert_eq!((route.source, route.announced, route.failures), (Source::Stored, 3, 2));
    let note = &notes.remembered.get(&route.address).unwrap().data;
    assert_eq!(json!(note), json!({"type": "pub", "name": "the pub"}));
}

#[test]
fn both_forms_of_ssb_gossip_are_read() {
    let text = json!([
        {"address": address("a.example", ONE), "key": ONE.to_string(), "source": "pub", "announcers": 2},
        {"host": "b.example", "port": 8008, "key": FeedId([2; 32]).to_string(), "announcers": {"length": 4}},
        {"host": "c.example", "port": "8009", "key": FeedId([3; 32]).to_string()},
        {"host": "d.example"},
        "nonsense"
    ]);
    let (result, saved, _) = taken("gossip.json", &text.to_string());
    assert_eq!(result.unwrap(), Some(Taken { addresses: 3, passed_over: 1 }));
    let routes: Vec<_> = saved.peers.iter().flat_map(|peer| &peer.routes).map(|route| route.address.as_str()).collect();
    let third = address("c.example", FeedId([3; 32])).replace("8008", "8009");
    assert_eq!(routes, [&address("a.example", ONE), &address("b.example", FeedId([2; 32])), &third]);
    assert_eq!(saved.peers.iter().map(|peer| peer.routes[0].announced).collect::<Vec<_>>(), [2, 1, 1]);
}

#[test]
fn who_was_only_near_has_no_usable_address_or_is_ourselves_is_passed_over() {
    let text = json!({
        address("10.0.0.1", ONE): {"type": "lan"},
        address("10.0.0.2", ONE): {"source": "local"},
        "bt:aabbcc": {"key": ONE.to_string()},
        "net:10.0.0.3:8008": {"key": ONE.to_string()},
        address("10.0.0.4", OWN): {},
        address(&"x".repeat(MAX_ROUTE), ONE): {},
        address("10.0.0.5", ONE): 5
    });
    let (result, saved, _) = taken("conn.json", &text.to_string());
    assert_eq!(result.unwrap().unwrap().addresses, 0);
    assert!(saved.peers.is_empty());
}

#[test]
fn several_addresses_of_one_peer_become_its_routes_and_the_best_counts() {
    let text = json!({
        address("a.example", ONE): {"failure": 7, "autoconnect": false, "stateChange": 9, "birth": 5},
        address("b.example", ONE): {"failure": 1, "stateChange": 4, "birth": 3}
    });
    let (_, saved, _) = taken("conn.json", &text.to_string());
    let peer = &saved.peers[0];
    assert_eq!((saved.peers.len(), peer.routes.len(), peer.failures, peer.autoconnect), (1, 2, 1, true));
    assert_eq!((peer.known_since, peer.last_tried, peer.last_success), (Some(3), Some(9), None));
}

#[test]
fn a_file_is_read_once_and_again_when_it_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let saves = Saves::open(&dir.path().join("state.redb")).unwrap();
    let one = json!({ address("a.example", ONE): {} }).to_string();
    assert!(take(dir.path(), &saves, "conn.json", &one).unwrap().is_some());
    saves.save_value(SAVED, &serde_json::to_vec(&Saved::default()).unwrap()).unwrap();
    assert_eq!(take(dir.path(), &saves, "conn.json", &one).unwrap(), None);
    assert!(table(&saves).0.peers.is_empty(), "what was forgotten came back");
    let two = json!({ address("a.example", ONE): {}, address("b.example", FeedId([2; 32])): {} }).to_string();
    assert!(take(dir.path(), &saves, "conn.json", &two).unwrap().is_some());
    assert_eq!(table(&saves).0.peers.len(), 2);
}

#[test]
fn what_our_own_table_knows_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let saves = Saves::open(&dir.path().join("state.redb")).unwrap();
    let old = json!({ address("a.example", ONE): {"failure": 1, "birth": 4} }).to_string();
    take(dir.path(), &saves, "conn.json", &old).unwrap();
    let (mut saved, _) = table(&saves);
    saved.peers[0].failures = 0;
    saved.forgotten.push((FeedId([2; 32]), 1));
    saves.save_value(SAVED, &serde_json::to_vec(&saved).unwrap()).unwrap();
    let new = json!([
        {"address": address("a.example", ONE), "failure": 9},
        {"address": address("b.example", ONE), "failure": 9},
        {"address": address("c.example", FeedId([2; 32]))}
    ]);
    assert_eq!(take(dir.path(), &saves, "gossip.json", &new.to_string()).unwrap().unwrap().addresses, 1);
    let (saved, _) = table(&saves);
    assert_eq!((saved.peers.len(), saved.peers[0].routes.len(), saved.peers[0].failures), (1, 2, 0));
}

#[test]
fn broken_and_huge_files_change_nothing() {
    let long = format!("{{}}{}", " ".repeat(MAX_FILE as usize));
    for (text, error) in [
        ("", "no JSON"),
        ("{\"net:a.example:8008~shs:", "no JSON"),
        ("[]", "no JSON"),
        ("{} and much more of it", "bytes follow"),
        (long.as_str(), "longer than"),
    ] {
        let (result, saved, _) = taken("conn.json", text);
        let told = result.unwrap_err().to_string();
        assert!(told.contains(error), "{told}");
        assert!(saved.peers.is_empty());
    }
    assert_eq!(taken("conn.json", "{}}\n}").0.unwrap(), Some(Taken { addresses: 0, passed_over: 0 }));
}

#[test]
fn of_too_many_addresses_those_that_worked_are_taken() {
    let key = |number: usize| {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        FeedId(key)
    };
    let worked = json!({"stateChange": 1, "duration": {"count": 1, "sum": 5, "sqsum": 25}});
    let mut all: BTreeMap<String, Value> =
        (0..MOST_ADDRESSES).map(|number| (address("a.example", key(number)), json!({"failure": 1}))).collect();
    all.insert(address("z.example", ONE), worked);
    let (result, saved, _) = taken("conn.json", &json!(all).to_string());
    assert_eq!(result.unwrap(), Some(Taken { addresses: MOST_ADDRESSES, passed_over: 1 }));
    assert!(saved.peers.iter().any(|peer| peer.key == ONE));
}
