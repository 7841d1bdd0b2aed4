//! Where settings come from, which of them wins, and what is said about wrong ones.

use std::fs;

use tempfile::TempDir;

use super::*;

const MAIN: &str = "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=";
const OTHER: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn with_config(text: &str) -> (TempDir, Sources) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("config"), text).unwrap();
    let sources = Sources { path: Some(directory.path().to_path_buf()), ..Sources::default() };
    (directory, sources)
}

fn load(text: &str) -> Loaded {
    let (_directory, sources) = with_config(text);
    Config::load(&sources).unwrap()
}

fn error(text: &str) -> String {
    let (directory, sources) = with_config(text);
    let error = Config::load(&sources).unwrap_err().to_string();
    error.replace(&directory.path().display().to_string(), "DIR")
}

fn warnings(text: &str) -> Vec<String> {
    let (directory, sources) = with_config(text);
    let directory = directory.path().display().to_string();
    let loaded = Config::load(&sources).unwrap();
    loaded.warnings.iter().map(|warning| warning.to_string().replace(&directory, "DIR")).collect()
}

fn option(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn without_any_file_the_defaults_hold() {
    let directory = tempfile::tempdir().unwrap();
    let sources = Sources { path: Some(directory.path().to_path_buf()), ..Sources::default() };
    let Loaded { config, warnings, files, .. } = Config::load(&sources).unwrap();
    assert!(warnings.is_empty() && files.is_empty());
    assert_eq!(config.caps.shs.to_string(), MAIN);
    assert!(config.caps.sign.is_none());
    assert_eq!(config.friends.hops, 3);
    assert_eq!(config.connections, Config::new(directory.path()).connections);
    assert_eq!(config.connections.net[0].port, 8008);
    assert_eq!(config.socket_path(), directory.path().join("socket"));
    assert_eq!(config.logging.level, LogLevel::Notice);
}

#[test]
fn pubs_of_feeds_can_be_turned_off_in_each_of_the_ways_that_there_have_been() {
    let peers = |text: &str| load(text).config.peers;
    assert!(peers("{}").pubs && peers(r#"{"gossip": {"autoPopulate": true}}"#).pubs);
    for off in [
        r#"{"pub": false}"#,
        r#"{"gossip": {"pub": false}}"#,
        r#"{"gossip": {"autoPopulate": false}}"#,
        r#"{"conn": {"populatePubs": false}}"#,
        r#"{"gossip": {"pub": false, "autoPopulate": true}}"#,
    ] {
        assert!(!peers(off).pubs, "{off}");
    }
    assert_eq!((peers("{}").pub_hops, peers(r#"{"conn": {"pubHops": 0}}"#).pub_hops), (2, 0));
}

#[test]
fn what_tells_more_than_the_local_network_is_asked_for() {
    let peers = |text: &str| load(text).config.peers;
    assert!(!peers("{}").mdns && !peers("{}").dht);
    assert!(peers(r#"{"mdns": true}"#).mdns);
    let dht = peers(r#"{"dht": {"enabled": true, "bootstrap": ["127.0.0.1:6881", "a.example:1"]}}"#);
    assert_eq!((dht.dht, dht.dht_bootstrap), (true, vec!["127.0.0.1:6881".to_owned(), "a.example:1".to_owned()]));
    assert_eq!(
        error(r#"{"dht": {"bootstrap": "a.example"}}"#),
        "DIR/config:1:10: dht.bootstrap must be nodes of the table, HOST:PORT, found the text \"a.example\""
    );
}

#[test]
fn a_config_of_ssb_server_is_understood() {
    let loaded = load(
        r#"{
          // a pub
          "host": "pub.example.org", "port": "9008", /* as text */
          "caps": { "shs": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "sign": null },
          "timeout": 30000, "pub": true, "local": false,
          "friends": { "hops": 2 },
          "gossip": { "connections": 7 },
          "conn": { "autostart": false },
          "ws": { "port": 8990 },
          "master": "@FCX/tsDLpubCPKKfIrw4gc+SQkHcaD17s7GI6i/ziWY=.ed25519",
          "blobs": { "sympathy": 0, "max": 1000 },
          "seeds": ["net:a:1~shs:k"],
          "timers": { "handshake": 2500, "inactivity": 0 },
          "allowPrivate": true,
          "logging": { "level": "info" }
        }"#,
    );
    let [Warning::NoEffect { key, .. }] = loaded.warnings.as_slice() else { panic!("{:?}", loaded.warnings) };
    assert_eq!(key, "ws");
    let config = loaded.config;
    assert_eq!(config.connections.net[0].host.as_deref(), Some("pub.example.org"));
    assert_eq!(config.connections.net[0].port, 9008);
    assert_eq!(config.connections.ws[0].port, 8990);
    assert_eq!(config.caps.shs.to_string(), OTHER);
    assert_eq!(config.friends.hops, 2);
    assert_eq!(config.peers.connections, 7);
    assert!(!config.peers.autostart && !config.peers.local && config.peers.pubs);
    assert_eq!(config.masters.len(), 1);
    assert_eq!((config.blobs.sympathy, config.blobs.max), (0, 1000));
    assert_eq!(config.peers.seeds, ["net:a:1~shs:k"]);
    assert_eq!(config.timers.handshake, Duration::from_millis(2500));
    assert_eq!(config.timers.inactivity, None);
    assert!(config.allow_private_invites);
    assert_eq!(config.logging.level, LogLevel::Info);
}

#[test]
fn incoming_connections_are_taken_as_written() {
    let config = load(
        r#"{"connections": {
          "incoming": {
            "net": [
              {"scope": "public", "external": ["cryptop.home"], "transform": "shs", "port": 8009},
              {"scope": ["private", "device"], "host": "10.0.0.1", "transform": "shs"}
            ],
            "unix": [{"scope": "device", "transform": "noauth"}]
          },
          "outgoing": {"net": [{"transform": "shs"}], "onion": []}
        }}"#,
    )
    .config;
    let [public, private] = config.connections.net.as_slice() else { panic!("two entries") };
    assert_eq!((public.port, public.host.as_deref(), public.scopes.as_slice()), (8009, None, &[Scope::Public][..]));
    assert_eq!(public.external, ["cryptop.home"]);
    assert_eq!((private.port, private.scopes.as_slice()), (8008, &[Scope::Local, Scope::Device][..]));
    assert_eq!(config.connections.unix.len(), 1);
    assert!(config.connections.dial_net && !config.connections.dial_onion);
    assert!(load(r#"{"connections": {"incoming": {"net": []}}}"#).config.connections.unix.is_empty());
}

#[test]
fn unknown_keys_are_named_with_their_place_and_the_nearest_known_key() {
    assert_eq!(
        warnings("{\n  \"frends\": {\"hops\": 1},\n  \"friends\": {\"hopps\": 1},\n  \"patchwork\": {}\n}"),
        [
            "DIR/config:3:15: unknown key friends.hopps, ignored (did you mean friends.hops?)",
            "DIR/config:2:3: unknown key frends, ignored (did you mean friends?)",
            "DIR/config:4:3: unknown key patchwork, ignored",
        ]
    );
    assert_eq!(
        warnings(r#"{"connections": {"incoming": {"net": [{"prot": 1}]}}}"#),
        ["DIR/config:1:40: unknown key connections.incoming.net.0.prot, ignored \
          (did you mean connections.incoming.net.0.port?)"]
    );
}

#[test]
fn known_keys_without_effect_say_why() {
    assert_eq!(warnings(r#"{"party": true}"#), ["DIR/config:1:2: party has no effect: there is no ssb-party here"]);
}

#[test]
fn ill_typed_keys_are_errors_that_name_file_key_found_and_expected() {
    for (text, expected) in [
        (r#"{"port": "many"}"#, "DIR/config:1:2: port must be a whole number from 0 to 65535, found the text \"many\""),
        (r#"{"port": 65536}"#, "DIR/config:1:2: port must be a whole number from 0 to 65535, found the number 65536"),
        (r#"{"friends": 3}"#, "DIR/config:1:2: friends must be an object, { … }, found the number 3"),
        (
            r#"{"friends": {"hops": "3"}}"#,
            "DIR/config:1:14: friends.hops must be a whole number from 0 to 100, found the text \"3\"",
        ),
        (r#"{"host": 1}"#, "DIR/config:1:2: host must be a text in double quotes, found the number 1"),
        (r#"{"local": "true"}"#, "DIR/config:1:2: local must be true or false, found the text \"true\""),
        (r#"{"caps": {"shs": "abc"}}"#, "DIR/config:1:11: caps.shs must be 32 bytes in base64, found the text \"abc\""),
        (r#"{"master": [1]}"#, "DIR/config:1:13: master.0 must be feed ids, @….ed25519, found the number 1"),
        (
            r#"{"logging": {"level": "loud"}}"#,
            "DIR/config:1:14: logging.level must be one of error, warning, notice, info, trace, found the text \"loud\"",
        ),
        (
            r#"{"timeout": -1}"#,
            "DIR/config:1:2: timeout must be a whole number from 0 to 2147483647, found the number -1",
        ),
        (r#"[]"#, "DIR/config:1:1: (the whole file) must be an object, { … }, found an array"),
        (
            r#"{"connections": {"incoming": {"net": 8008}}}"#,
            "DIR/config:1:31: connections.incoming.net must be an array \
          of objects, [{ … }], found the number 8008",
        ),
    ] {
        assert_eq!(error(text), expected);
    }
    assert!(error(r#"{"connections": {"incoming": {"net": [{"transform": "noauth"}]}}}"#).contains("unix sockets"));
}

#[test]
fn a_file_that_is_no_json_is_an_error_with_line_and_column() {
    assert_eq!(
        error("{\n  \"port\" 8008\n}"),
        "DIR/config is no JSON: line 2, column 10: a colon after the key was \
      expected, found `8`"
    );
}

#[test]
fn later_places_win_key_by_key() {
    let (directory, mut sources) =
        with_config(r#"{"port": 1001, "host": "file", "friends": {"hops": 1}, "timeout": 5, "local": true}"#);
    let extra = directory.path().join("extra");
    fs::write(&extra, r#"{"host": "extra", "friends": {"hops": 2}, "local": true}"#).unwrap();
    sources.config_file = Some(extra.clone());
    sources.environment = vec![
        option("ssb_port", "1002"),
        option("ssb_friends__hops", "4"),
        option("ssb_local", "false"),
        option("ssb_something_else", "ignored without a word"),
    ];
    sources.options = vec![option("friends.hops", "5"), option("caps.shs", OTHER)];
    let Loaded { config, files, warnings, .. } = Config::load(&sources).unwrap();
    assert_eq!(config.connections.net[0].port, 1002);
    assert_eq!(config.connections.net[0].host.as_deref(), Some("extra"));
    assert_eq!(config.friends.hops, 5);
    assert_eq!(config.timers.inactivity, Some(Duration::from_millis(5)));
    assert!(!config.peers.local);
    assert_eq!(config.caps.shs.to_string(), OTHER);
    assert_eq!(files, [directory.path().join("config"), extra]);
    assert_eq!(warnings, []);
}

#[test]
fn a_wrong_option_or_variable_is_named_as_such() {
    let sources =
        Sources { path: Some("/nowhere".into()), options: vec![option("port", "http")], ..Sources::default() };
    let text = Config::load(&sources).unwrap_err().to_string();
    assert_eq!(text, "option --port: port must be a whole number from 0 to 65535, found the text \"http\"");
    let sources = Sources {
        path: Some("/nowhere".into()),
        environment: vec![option("ssb_friends__hops", "far")],
        ..Sources::default()
    };
    let text = Config::load(&sources).unwrap_err().to_string();
    assert!(text.starts_with("environment variable ssb_friends__hops: friends.hops must be"), "{text}");
}

#[test]
fn the_data_directory_comes_from_option_environment_file_or_home() {
    let home = tempfile::tempdir().unwrap();
    let path = |sources: &Sources| Config::load(sources).unwrap().config.path;
    let mut sources = Sources { home: Some(home.path().to_path_buf()), ..Sources::default() };
    assert_eq!(path(&sources), home.path().join(".ssb"));
    sources.environment = vec![option("ssb_appname", "testnet")];
    assert_eq!(path(&sources), home.path().join(".testnet"));
    fs::create_dir(home.path().join(".testnet")).unwrap();
    fs::write(home.path().join(".testnet/config"), r#"{"path": "/from/file", "friends": {"hops": 1}}"#).unwrap();
    assert_eq!(path(&sources), PathBuf::from("/from/file"));
    assert_eq!(Config::load(&sources).unwrap().config.friends.hops, 1);
    sources.environment.push(option("testnet_path", "/from/environment"));
    assert_eq!(path(&sources), PathBuf::from("/from/environment"));
    sources.path = Some("/from/option".into());
    assert_eq!(path(&sources), PathBuf::from("/from/option"));
    assert!(matches!(Config::load(&Sources::default()), Err(ConfigError::NoDirectory)));
}

#[test]
fn a_config_file_that_was_named_must_be_there() {
    let sources =
        Sources { path: Some("/nowhere".into()), config_file: Some("/nowhere/config".into()), ..Sources::default() };
    assert!(matches!(Config::load(&sources), Err(ConfigError::Read { .. })));
}

#[test]
fn host_and_port_in_a_file_must_agree_with_incoming_and_options_override_it() {
    let text = r#"{"port": 1, "connections": {"incoming": {"net": [{"port": 2, "transform": "shs"}]}}}"#;
    assert!(error(text).contains("port and connections.incoming.net say different things"));
    let (_directory, mut sources) =
        with_config(r#"{"connections": {"incoming": {"net": [{"port": 2, "host": "a"}], "unix": [{}]}}}"#);
    sources.options = vec![option("port", "3"), option("host", "b")];
    let config = Config::load(&sources).unwrap().config;
    assert_eq!((config.connections.net[0].port, config.connections.net[0].host.as_deref()), (3, Some("b")));
}

#[test]
fn hubs_and_ice_servers_are_read_in_the_shapes_of_browsers() {
    let rtc = load(
        r#"{"rtc": {
          "hubs": ["https://Hub.example:443/", "10.0.0.1:8080"],
          "iceServers": [
            {"urls": "stun:stun.example:3478"},
            {"urls": ["turn:turn.example?transport=tcp", "turns:turn.example"], "username": "me", "credential": "secret"}
          ],
          "iceTransportPolicy": "relay"
        }}"#,
    )
    .config
    .rtc;
    let hubs: Vec<_> = rtc.hubs.iter().map(ToString::to_string).collect();
    assert_eq!(hubs, ["https://hub.example", "http://10.0.0.1:8080"]);
    assert_eq!((rtc.ice_servers.len(), rtc.relay_only), (2, true));
    assert_eq!(rtc.ice_servers[1].credential, "secret");
    assert!(!format!("{rtc:?}").contains("secret"));
    assert_eq!(load("{}").config.rtc, crate::config::Rtc::default());
    let (_directory, mut sources) = with_config("{}");
    sources.options = vec![option("rtc.hubs", "https://hub.example")];
    assert_eq!(Config::load(&sources).unwrap().config.rtc.hubs.len(), 1);
}

#[test]
fn what_is_wrong_about_hubs_and_ice_servers_is_an_error() {
    assert_eq!(
        error(r#"{"rtc": {"hubs": ["https://user@hub.example"]}}"#),
        "DIR/config:1:19: rtc.hubs.0 must be addresses of signalling hubs, https://HOST[:PORT] or http://HOST[:PORT], \
         found the text \"https://user@hub.example\""
    );
    assert_eq!(
        error(r#"{"rtc": {"iceTransportPolice": "relay"}}"#),
        "DIR/config:1:10: rtc.iceTransportPolice: there is no such setting (did you mean iceTransportPolicy?): known are hubs, \
         iceServers, iceTransportPolicy"
    );
    for (text, says) in [
        (r#"{"rtc": {"hubs": {"one": 1}}}"#, "rtc.hubs must be addresses"),
        (r#"{"rtc": {"iceServers": [{"urls": "http://x"}]}}"#, "expected stun:HOST:PORT"),
        (
            r#"{"rtc": {"iceServers": [{"url": "stun:x"}]}}"#,
            "rtc.iceServers.0.url: there is no such setting (did you mean urls?)",
        ),
        (r#"{"rtc": {"iceServers": [{"urls": "turn:x", "username": "me"}]}}"#, "needs a username and a credential"),
        (r#"{"rtc": {"iceTransportPolicy": "none"}}"#, "must be all or relay"),
        (r#"{"rtc": {"iceTransportPolicy": "relay", "iceServers": [{"urls": "stun:x"}]}}"#, "no turn server"),
    ] {
        assert!(error(text).contains(says), "{}", error(text));
    }
}
