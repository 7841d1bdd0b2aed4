//! Every cell of the matrix, against a table written by hand.

use std::collections::BTreeMap;

use super::{LARGE, peer, policy};
use crate::{About, Asker, COLUMNS, Came, Feed, Policy, Preset, Question, Role};

/// Who may: blocked, guest, room, stranger, followed-by-friend (v, vouched for), friend, followed (l, liked), master, owner.
type Cells = &'static str;

const NOBODY_ELSE: Cells = "-------mo";

/// What isn't the owner's alone: rule, then `default`, `open pub`, `friends only`, `private`.
const TABLE: &[(&str, [Cells; 4])] = &[
    ("dial", ["--rsvflmo", "--rsvflmo", "--r--flmo", "--r---lmo"]),
    ("connect", ["-grsvflmo", "-grsvflmo", "-gr--flmo", "-gr---lmo"]),
    ("over.lan", ["-grsvflmo", "-grsvflmo", "-gr--flmo", "-gr---lmo"]),
    ("over.tcp", ["-grsvflmo", "-grsvflmo", "-gr--flmo", "-gr---lmo"]),
    ("over.rtc", ["-grsvflmo", "-grsvflmo", "-gr--flmo", "-gr---lmo"]),
    ("over.tunnel", ["-grsvflmo", "-grsvflmo", "-gr--flmo", "-gr---lmo"]),
    ("over.onion", ["-grsvflmo", "-grsvflmo", "-gr--flmo", "-gr---lmo"]),
    ("feeds.exchange", ["--rsvflmo", "--rsvflmo", "-----flmo", "------lmo"]),
    ("blobs.serve", ["--rsvflmo", "--rsvflmo", "-----flmo", "------lmo"]),
    ("blobs.large", ["--rsvflmo", "-----flmo", "-----flmo", "------lmo"]),
    ("blobs.tellWants", ["--rsvflmo", "----vflmo", "-----flmo", "------lmo"]),
    ("blobs.passOn", ["--rsvflmo", "----vflmo", "-----flmo", "------lmo"]),
    ("manifest", ["--rsvflmo", "--rsvflmo", "--r--flmo", "--r---lmo"]),
    ("gossip.ping", ["--rsvflmo", "--rsvflmo", "--r--flmo", "--r---lmo"]),
    ("conn.ping", ["--rsvflmo", "--rsvflmo", "--r--flmo", "--r---lmo"]),
    ("ebt.replicate", ["--rsvflmo", "--rsvflmo", "-----flmo", "------lmo"]),
    ("createHistoryStream", ["--rsvflmo", "--rsvflmo", "-----flmo", "------lmo"]),
    ("blobs.has", ["--rsvflmo", "--rsvflmo", "-----flmo", "------lmo"]),
    ("blobs.get", ["--rsvflmo", "--rsvflmo", "-----flmo", "------lmo"]),
    ("blobs.getSlice", ["--rsvflmo", "--rsvflmo", "-----flmo", "------lmo"]),
    ("blobs.changes", ["--rsvflmo", "--rsvflmo", "-----flmo", "------lmo"]),
    ("blobs.createWants", ["--rsvflmo", "--rsvflmo", "-----flmo", "------lmo"]),
    ("invite.use", ["-g-----mo", "-g-----mo", "-g-----mo", "-g-----mo"]),
    ("whoami", [NOBODY_ELSE, "--rsvflmo", NOBODY_ELSE, NOBODY_ELSE]),
    ("version", [NOBODY_ELSE, "--rsvflmo", NOBODY_ELSE, NOBODY_ELSE]),
];

/// What is the owner's alone, in every preset.
const OWNERS: &str = "
    address getAddress multiserver.address multiserver.parse auth authorisation.explain authorisation.table status progress help friends.help gossip.help
    replicate.help blobs.help createLogStream createFeedStream createUserStream createRawLogStream createSequenceStream
    messagesByType links latest latestSequence get getLatest getFeedState getVectorClock publish add createWriteStream
    sbot.import del invite.create invite.accept invite.help private.publish private.unbox private.read
    friends.isFollowing friends.isBlocking friends.hops friends.hopStream friends.createFriendStream friends.get
    friends.stream friends.onEdge replicate.request replicate.block replicate.upto replicate.changes ebt.request ebt.block
    ebt.peerStatus gossip.peers gossip.get gossip.add gossip.remove gossip.connect gossip.disconnect gossip.reconnect
    gossip.changes gossip.enable gossip.disable conn.connect conn.disconnect conn.remember conn.forget conn.dbPeers
    conn.peers conn.stagedPeers conn.stage conn.unstage conn.start conn.stop blobs.add blobs.ls blobs.rm blobs.size
    blobs.meta blobs.want blobs.push blobs.pin blobs.unpin blobs.status blobs.gc
    hubs.help hubs.ls hubs.add hubs.remove";

fn expected(preset: usize) -> BTreeMap<&'static str, Cells> {
    let owners = OWNERS.split_whitespace().map(|rule| (rule, NOBODY_ELSE));
    TABLE.iter().map(|(rule, cells)| (*rule, cells[preset])).chain(owners).collect()
}

#[test]
fn every_cell_of_the_matrix_is_as_written_here() {
    for (number, preset) in Preset::ALL.into_iter().enumerate() {
        let matrix = policy(preset).matrix();
        let found: BTreeMap<&str, String> = matrix.rows.iter().map(|row| (row.rule, cells(&row.allowed))).collect();
        assert_eq!(found.len(), matrix.rows.len(), "a rule stands in the table twice");
        let expected: BTreeMap<&str, String> =
            expected(number).into_iter().map(|(rule, cells)| (rule, cells.to_owned())).collect();
        assert_eq!(found, expected, "{}", preset.name());
    }
}

fn cells(allowed: &[bool; COLUMNS.len()]) -> String {
    allowed.iter().zip("bgrsvflmo".chars()).map(|(allowed, letter)| if *allowed { letter } else { '-' }).collect()
}

#[test]
fn facts_make_roles() {
    let peer = peer();
    for (asker, role) in [
        (Asker { came: Came::Socket, we_block: true, ..peer }, Role::Owner),
        (Asker { own_key: true, we_block: true, ..peer }, Role::Owner),
        (Asker { master: true, we_block: true, guest: true, ..peer }, Role::Master),
        (Asker { we_block: true, guest: true, room: true, hops: Some(1), ..peer }, Role::Blocked),
        (Asker { guest: true, hops: Some(1), ..peer }, Role::Guest),
        (Asker { hops: Some(1), room: true, ..peer }, Role::Followed),
        (Asker { hops: Some(2), ..peer }, Role::Friend),
        (Asker { hops: Some(3), ..peer }, Role::Friend),
        (Asker { hops: Some(4), ..peer }, Role::Stranger),
        (Asker { hops: Some(-2), followed_by_friend: true, ..peer }, Role::Stranger),
        (Asker { hops: Some(-2), room: true, ..peer }, Role::Room),
        (Asker { followed_by_friend: true, room: true, ..peer }, Role::FollowedByFriend),
        (Asker { room: true, ..peer }, Role::Room),
        (peer, Role::Stranger),
    ] {
        assert_eq!(asker.role(3), role, "{asker:?}");
    }
    assert_eq!(
        Asker { hops: Some(1), ..peer }.role(0),
        Role::Followed,
        "whom we follow is near however far friends reach"
    );
}

fn rule(policy: &Policy, asker: &Asker, question: Question<'_>) -> (bool, &'static str) {
    let decision = policy.decide(asker, &question);
    (decision.is_allowed(), decision.rule())
}

#[test]
fn feeds_are_kept_from_those_whom_their_authors_block_however_they_ask() {
    let hidden = Feed { blocks_asker: true, hops: Some(2), requested: true };
    for preset in Preset::ALL {
        let policy = policy(preset);
        let friend = Asker { hops: Some(1), ..peer() };
        assert_eq!(rule(&policy, &friend, Question::Replicate(hidden)), (false, "hidden"));
        let about = About { feed: Some(hidden), blob: None };
        let call = Question::Call { method: "createHistoryStream", about };
        assert_eq!(rule(&policy, &friend, call), (false, "hidden"));
        let master = Asker { master: true, ..peer() };
        assert_eq!(rule(&policy, &master, call), (true, "createHistoryStream"));
    }
}

#[test]
fn in_private_no_feed_is_exchanged_but_ours_and_those_that_we_follow_unless_the_owner_asks_for_it() {
    let policy = policy(Preset::Private);
    let followed = Asker { hops: Some(1), ..peer() };
    let feed = |hops, requested| Question::Replicate(Feed { blocks_asker: false, hops, requested });
    for (hops, requested, expected) in [
        (Some(0), false, (true, "feeds.exchange")),
        (Some(1), false, (true, "feeds.exchange")),
        (Some(2), false, (false, "reach")),
        (Some(-1), false, (false, "reach")),
        (None, false, (false, "reach")),
        (Some(2), true, (true, "feeds.exchange")),
    ] {
        assert_eq!(rule(&policy, &followed, feed(hops, requested)), expected, "{hops:?}");
    }
    assert_eq!(policy.reach(), 1);
    assert_eq!(super::policy(Preset::Default).reach(), 3);
}

#[test]
fn an_open_pub_gives_strangers_no_large_blobs() {
    let policy = policy(Preset::OpenPub);
    assert_eq!(rule(&policy, &peer(), Question::ServeBlob { size: LARGE }), (true, "blobs.serve"));
    assert_eq!(rule(&policy, &peer(), Question::ServeBlob { size: LARGE + 1 }), (false, "blobs.large"));
    let about = About { feed: None, blob: Some(LARGE + 1) };
    assert_eq!(rule(&policy, &peer(), Question::Call { method: "blobs.get", about }), (false, "blobs.large"));
}

#[test]
fn who_blocks_us_is_not_dialed_and_may_still_come() {
    let policy = policy(Preset::Default);
    let asker = Asker { blocks_us: true, hops: Some(1), ..peer() };
    assert_eq!(rule(&policy, &asker, Question::Dial), (false, "blocks us"));
    assert_eq!(rule(&policy, &asker, Question::Connect), (true, "connect"));
}

#[test]
fn methods_that_nobody_knows_are_refused_to_everyone() {
    for method in [
        "",
        "eval",
        "connect",
        "dial",
        "feeds.exchange",
        "over.tcp",
        "blobs.passOn",
        "ebt",
        "ebt.replicate.x",
        "EBT.replicate",
        "ebt.clock",
        &"x".repeat(100_000),
    ] {
        let call = Question::Call { method, about: About::NOTHING };
        let owner = Asker { came: Came::Socket, ..peer() };
        assert_eq!(rule(&policy(Preset::OpenPub), &owner, call), (false, "*"));
        assert_eq!(rule(&policy(Preset::OpenPub), &peer(), call), (false, "*"));
    }
}
