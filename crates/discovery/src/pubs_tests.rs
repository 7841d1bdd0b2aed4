use super::*;
use proptest::prelude::*;

const KEY: &str = "1KHLiKZvAvjbY1ziZEHMXawbCEIM6qwjCDm3VYRan/s=";
const OTHER: &str = "HsKUZVEeFbiPTzWtaaDSKdwplQ/toWK/xUDqM9fq6ao=";

fn read(content: &str) -> Option<String> {
    Told::read(FeedId([7; 32]), 0.0, content.as_bytes()).map(|told| told.address.to_string())
}

fn told(author: u8, time: u32, host: u32, key: u32) -> Told {
    let mut pub_key = [9; 32];
    pub_key[..4].copy_from_slice(&key.to_be_bytes());
    let host = format!("10.{}.{}.{}", host >> 16, host >> 8 & 255, host & 255);
    let address = Route::net(&host, 8008, &FeedId(pub_key)).into();
    Told { author: FeedId([author; 32]), time: f64::from(time), address }
}

fn seen(news: &[News]) -> Vec<String> {
    let seen = news.iter().filter_map(|news| match news {
        News::Seen(sighting) => Some(sighting.address.to_string()),
        News::Gone(_) => None,
    });
    seen.collect()
}

#[test]
fn every_form_that_was_ever_in_use_is_read() {
    let id = format!("@{KEY}.ed25519");
    let pub_at = |host: &str| Some(format!("net:{host}:8008~shs:{KEY}"));
    for (content, address) in [
        (format!(r#"{{"type":"pub","address":{{"host":"h.com","port":8008,"key":"{id}"}}}}"#), pub_at("h.com")),
        (format!(r#"{{"type":"pub","address":{{"key":"{id}","port":"8008","host":"H.com"}}}}"#), pub_at("h.com")),
        (format!(r#"{{"type":"pub","address":"h.com:8008:{id}"}}"#), pub_at("h.com")),
        (format!(r#"{{"type":"pub","address":"h.com::{id}"}}"#), pub_at("h.com")),
        (format!(r#"{{"type":"pub","address":"net:h.com:8008~shs:{KEY}"}}"#), pub_at("h.com")),
        (format!(r#"{{"type":"pub","address":"net:2001:db8::1:8008~shs:{KEY}"}}"#), pub_at("2001:db8::1")),
        (format!(r#"{{"type":"pub","pub":{{"link":"{id}","host":"h.com","port":8008}}}}"#), pub_at("h.com")),
        (format!(r#"{{"type":"pub","pub":{{"link":"{id}"}},"host":"h.com","port":8008}}"#), pub_at("h.com")),
        (format!(r#"{{"type":"pub","pub":"{id}","host":"h.com","port":8008}}"#), pub_at("h.com")),
        (format!(r#"{{"type":"pub","address":"ws://h.com:80~shs:{KEY};net:h.com:8008~shs:{KEY}"}}"#), pub_at("h.com")),
    ] {
        assert_eq!(read(&content), address, "{content}");
    }
}

#[test]
fn what_is_no_pub_elsewhere_is_passed_over() {
    let id = format!("@{KEY}.ed25519");
    for content in [
        "",
        "\"boxed.box\"",
        r#"{"type":"pub"}"#,
        r#"{"type":"pub","address":null}"#,
        &format!(r#"{{"type":"post","address":"h.com:8008:{id}"}}"#),
        &format!(r#"{{"type":"pub","address":"127.0.0.1:8008:{id}"}}"#),
        &format!(r#"{{"type":"pub","address":"localhost:8008:{id}"}}"#),
        &format!(r#"{{"type":"pub","address":"net:::1:8008~shs:{KEY}"}}"#),
        &format!(r#"{{"type":"pub","address":"unix:/run/socket~shs:{KEY}"}}"#),
        r#"{"type":"pub","address":"net:h.com:8008~noauth"}"#,
        &format!(r#"{{"type":"pub","address":"net:h.com:8008~shs:{KEY}:{OTHER}"}}"#),
        &format!(r#"{{"type":"pub","address":{{"host":"h.com","port":0,"key":"{id}"}}}}"#),
        &format!(r#"{{"type":"pub","address":{{"host":"h.com","port":80.5,"key":"{id}"}}}}"#),
        &format!(r#"{{"type":"pub","address":{{"host":"h.com","port":65536,"key":"{id}"}}}}"#),
        &format!(r#"{{"type":"pub","address":{{"host":"h.com","key":"{id}"}}}}"#),
        &format!(r#"{{"type":"pub","address":{{"host":"0.0.0.0","port":8008,"key":"{id}"}}}}"#),
        &format!(r#"{{"type":"pub","address":{{"host":"224.0.0.1","port":8008,"key":"{id}"}}}}"#),
        &format!(r#"{{"type":"pub","address":["h.com:8008:{id}"]}}"#),
    ] {
        assert_eq!(read(content), None, "{content}");
    }
}

#[test]
fn one_address_is_one_pub() {
    let two =
        format!(r#"{{"type":"pub","address":"net:h.com:1~shs:{KEY};net:g.com:1~shs:{OTHER};net:h.com:1~shs:{KEY}"}}"#);
    assert_eq!(read(&two), Some(format!("net:h.com:1~shs:{KEY}")));
}

/// What a node has heard.
fn heard(all: &[Told]) -> Pubs {
    let mut pubs = Pubs::default();
    all.iter().for_each(|told| pubs.heard(told.clone(), |_| true));
    pubs
}

fn anybody(_: &FeedId) -> bool {
    true
}

#[test]
fn the_newest_are_chosen_and_what_changes_is_told() {
    let all: Vec<_> = (0..250).map(|n| told((n / 10) as u8, n, n, n)).collect();
    let mut pubs = heard(&all);
    let news = seen(&pubs.choose(anybody, anybody));
    assert_eq!(news.len(), MOST_PUBS);
    assert!(news.contains(&all[50].address.to_string()) && !news.contains(&all[49].address.to_string()));
    assert_eq!(pubs.choose(anybody, anybody), []);

    let new = told(99, 1000, 1000, 1000);
    pubs.heard(new.clone(), anybody);
    let gone = Sighting::new(all[50].address.clone(), Origin::Pub).unwrap();
    let came = Sighting::new(new.address, Origin::Pub).unwrap();
    assert_eq!(pubs.choose(anybody, anybody), [News::Gone(gone), News::Seen(came)]);
}

#[test]
fn only_those_near_are_believed_as_long_as_they_are_near() {
    let all = [told(1, 1, 1, 1), told(2, 2, 2, 2)];
    let mut pubs = heard(&all);
    let near = |author: u8| move |key: &FeedId| *key == FeedId([author; 32]);
    let sighting = |told: &Told| Sighting::new(told.address.clone(), Origin::Pub).unwrap();
    assert_eq!(pubs.choose(near(1), anybody), [News::Seen(sighting(&all[0]))]);
    let changed = [News::Gone(sighting(&all[0])), News::Seen(sighting(&all[1]))];
    assert_eq!(pubs.choose(near(2), anybody), changed);
}

#[test]
fn a_flood_of_one_author_crowds_nobody_out() {
    let mut pubs = heard(&[told(2, 1, 200_000, 200_000)]);
    (0..100_000).for_each(|n| pubs.heard(told(1, 1000 + n, n, n), anybody));
    let news = seen(&pubs.choose(anybody, anybody));
    assert_eq!(news.len(), MOST_OF_AUTHOR + 1);
    assert!(news.contains(&told(2, 1, 200_000, 200_000).address.to_string()));
    assert_eq!(pubs.told.values().map(VecDeque::len).sum::<usize>(), MOST_OF_AUTHOR + 1);
}

#[test]
fn a_flood_of_authors_from_far_away_makes_nobody_near_forgotten() {
    let near = told(1, 1, 1, 1);
    let is_near = |author: &FeedId| *author == near.author;
    let mut pubs = heard(std::slice::from_ref(&near));
    for n in 0..3 * MOST_AUTHORS as u32 {
        let mut stranger = told(2, 1000 + n, n, n);
        stranger.author.0[..4].copy_from_slice(&n.to_be_bytes());
        pubs.heard(stranger, is_near);
    }
    assert_eq!(pubs.told.len(), MOST_AUTHORS);
    assert_eq!(seen(&pubs.choose(is_near, anybody)), [near.address.to_string()]);
}

#[test]
fn of_one_pub_the_newest_places_are_kept() {
    let all: Vec<_> = (0..10).map(|n| told(n as u8, n, n, 5)).collect();
    let mut news = seen(&heard(&all).choose(anybody, anybody));
    let mut newest: Vec<_> = all[10 - MOST_OF_PUB..].iter().map(|told| told.address.to_string()).collect();
    news.sort();
    newest.sort();
    assert_eq!(news, newest);
}

#[test]
fn who_is_not_wanted_takes_no_place() {
    let all: Vec<_> = (0..250).map(|n| told(n as u8, n, n, n)).collect();
    let unwanted: Vec<_> = all[240..].iter().filter_map(|told| told.address.key()).collect();
    let news = seen(&heard(&all).choose(anybody, |key| !unwanted.contains(key)));
    assert_eq!(news.len(), MOST_PUBS);
    assert!(news.contains(&all[40].address.to_string()) && !news.contains(&all[249].address.to_string()));
}

proptest! {
    #[test]
    fn any_content_is_read_or_passed_over_without_a_panic(content in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Told::read(FeedId([1; 32]), f64::NAN, &content);
    }

    #[test]
    fn any_address_is_read_or_passed_over_without_a_panic(address in "[ -~]{0,80}") {
        let content = serde_json::json!({"type": "pub", "address": address}).to_string();
        let _ = Told::read(FeedId([1; 32]), 0.0, content.as_bytes());
    }

    #[test]
    fn never_more_than_the_bounds(spread in prop::collection::vec((any::<u8>(), any::<u16>(), 0u32..400, 0u32..60), 0..600)) {
        let all: Vec<_> = spread.iter().map(|(author, time, host, key)| told(*author, (*time).into(), *host, *key)).collect();
        let mut pubs = heard(&all);
        let news = pubs.choose(anybody, anybody);
        prop_assert!(pubs.chosen.len() <= MOST_PUBS && seen(&news).len() == pubs.chosen.len());
        let mut of_pub = HashMap::new();
        for sighting in pubs.chosen.values() {
            *of_pub.entry(sighting.peer).or_insert(0) += 1;
        }
        prop_assert!(of_pub.values().all(|count| *count <= MOST_OF_PUB));
        prop_assert_eq!(pubs.choose(anybody, anybody), []);
        prop_assert_eq!(heard(&all).choose(anybody, anybody), news);
    }
}
