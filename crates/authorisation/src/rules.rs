//! The rules: what each takes, in each preset.

use std::fmt;

use crate::{Access, Role};

/// A whole policy with a name, from which the config may depart rule by rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Preset {
    /// As ssb-server 16: any peer may connect, replicate and fetch blobs.
    #[default]
    Default,
    /// A server for everybody, which spends nothing on strangers but what they ask for: it looks for no blobs for them, and
    /// gives them no large ones.
    OpenPub,
    /// Whoever is beyond `friends.hops` is neither dialed nor let in, but for guests and rooms.
    FriendsOnly,
    /// Only those that we follow ourselves, and only our feed and theirs.
    Private,
}

impl Preset {
    /// All presets.
    pub const ALL: [Preset; 4] = [Preset::Default, Preset::OpenPub, Preset::FriendsOnly, Preset::Private];

    /// The name in the config.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Preset::Default => "default",
            Preset::OpenPub => "open pub",
            Preset::FriendsOnly => "friends only",
            Preset::Private => "private",
        }
    }

    /// The preset with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Preset> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// How far from us feeds are exchanged at most, in hops; `None` if `friends.hops` alone decides.
    pub(crate) fn reach(self) -> Option<u8> {
        match self {
            Preset::Private => Some(1),
            _ => None,
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// A method's name, dots between its parts, or what else is asked: `dial`, `connect`, ….
    pub name: &'static str,
    /// Whether it is about a method.
    pub is_method: bool,
    /// Why just so.
    pub why: &'static str,
    class: Class,
}

/// Rules of one kind are as strict as one another in every preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Whom we dial.
    Dial,
    /// Who may connect.
    Connect,
    /// In which ways.
    Way,
    /// What keeps a connection.
    Link,
    /// What peers are for.
    Exchange,
    /// What strangers may not cost us.
    Favour,
    /// Blobs larger than those that we fetch.
    Large,
    /// What this server is.
    Public,
    /// What invites open.
    Invite,
    /// The owner's.
    Own,
    /// The owner's, and not to be given away: it decrypts, shows what was told privately, or heeds no author's blocks.
    Secret,
}

const STRANGERS: Access = Access::from(Role::Stranger);
const VOUCHED: Access = Access::from(Role::FollowedByFriend);
const FRIENDS: Access = Access::from(Role::Friend);
const FOLLOWED: Access = Access::from(Role::Followed);
const MASTERS: Access = Access::from(Role::Master);

impl Rule {
    /// Who may by this rule, in a preset.
    #[must_use]
    pub fn access(&self, preset: Preset) -> Access {
        // Whom a preset is for.
        let peers = match preset {
            Preset::Default | Preset::OpenPub => STRANGERS,
            Preset::FriendsOnly => FRIENDS,
            Preset::Private => FOLLOWED,
        };
        match self.class {
            Class::Dial | Class::Link => peers.and_rooms(),
            Class::Connect => peers.and_rooms().and_guests(),
            // The rule before decides who: ways differ only if the config says so.
            Class::Way => STRANGERS.and_rooms().and_guests(),
            Class::Exchange => peers,
            Class::Favour if preset == Preset::OpenPub => VOUCHED,
            Class::Large if preset == Preset::OpenPub => FRIENDS,
            Class::Favour | Class::Large => peers,
            Class::Public if preset == Preset::OpenPub => STRANGERS,
            Class::Invite => MASTERS.and_guests(),
            Class::Public | Class::Own | Class::Secret => MASTERS,
        }
    }

    /// The widest that the config may make it.
    pub(crate) fn widest(&self) -> Access {
        match self.class {
            Class::Secret => MASTERS,
            _ => STRANGERS.and_rooms().and_guests(),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.why)
    }
}

const fn rule(name: &'static str, class: Class, why: &'static str) -> Rule {
    Rule { name, is_method: true, why, class }
}

const fn matter(name: &'static str, class: Class, why: &'static str) -> Rule {
    Rule { name, is_method: false, why, class }
}

const READS: &str = "reads the whole log, private messages decrypted";
const ALL_FEEDS: &str = "shows every feed, whomever its author blocks";
const LOG: &str = "shows how far the feeds in our log are";
const WRITES: &str = "writes in our name";
const ADDS: &str = "puts messages into our log unasked";
const GRAPH: &str = "shows whom we know, from private messages too";
const WANTS: &str = "decides what we replicate";
const DIALS: &str = "decides whom we connect to";
const SERVER: &str = "shows how this server is set up and doing";
const PUBLIC: &str = "shows what this server is";
const DISK: &str = "manages our blobs";
const LINK: &str = "peers need it to keep a connection";
const FEEDS: &str = "peers replicate feeds with it";
const BLOBS: &str = "peers exchange blobs with it";
const SECRETS: &str = "reads or writes what is encrypted to us";
const WAY: &str = "who may come in this way, of those whom connect lets in";

/// Dialing.
pub(crate) const DIAL: &str = "dial";
/// Connecting.
pub(crate) const CONNECT: &str = "connect";
/// Exchanging a feed.
pub(crate) const EXCHANGE: &str = "feeds.exchange";
/// Giving away a blob.
pub(crate) const SERVE: &str = "blobs.serve";
/// Giving away a blob larger than what we fetch.
pub(crate) const LARGE: &str = "blobs.large";
/// Telling what blobs we look for.
pub(crate) const TELL: &str = "blobs.tellWants";
/// Looking for a blob for somebody.
pub(crate) const PASS_ON: &str = "blobs.passOn";

/// All rules. A method that isn't here can't be called.
pub const RULES: &[Rule] = &[
    matter(DIAL, Class::Dial, "whom this node dials"),
    matter(CONNECT, Class::Connect, "who may connect to this node"),
    matter("over.lan", Class::Way, WAY),
    matter("over.tcp", Class::Way, WAY),
    matter("over.rtc", Class::Way, WAY),
    matter("over.tunnel", Class::Way, WAY),
    matter("over.onion", Class::Way, WAY),
    matter(EXCHANGE, Class::Exchange, "with whom feeds are exchanged"),
    matter(SERVE, Class::Exchange, "who gets blobs"),
    matter(LARGE, Class::Large, "who gets blobs larger than blobs.max"),
    matter(TELL, Class::Favour, "who learns which blobs we look for"),
    matter(PASS_ON, Class::Favour, "for whom we look for blobs that we lack"),
    // what any peer may do: `permissions.anonymous.allow` of secret-stack, ssb-db, ssb-ebt, ssb-gossip, ssb-conn, ssb-blobs
    rule("manifest", Class::Link, LINK),
    rule("gossip.ping", Class::Link, LINK),
    rule("conn.ping", Class::Link, LINK),
    rule("ebt.replicate", Class::Exchange, FEEDS),
    rule("createHistoryStream", Class::Exchange, FEEDS),
    rule("blobs.has", Class::Exchange, BLOBS),
    rule("blobs.get", Class::Exchange, BLOBS),
    rule("blobs.getSlice", Class::Exchange, BLOBS),
    rule("blobs.changes", Class::Exchange, BLOBS),
    rule("blobs.createWants", Class::Exchange, BLOBS),
    // what the key of an invite opens: `permissions` of the codes that ssb-invite makes, but for `getAddress`, which shows
    // how this server is set up and which no guest calls
    rule("invite.use", Class::Invite, "the invite that it redeems decides"),
    // the rest is the owner's
    rule("whoami", Class::Public, PUBLIC),
    rule("version", Class::Public, PUBLIC),
    rule("address", Class::Own, SERVER),
    rule("getAddress", Class::Own, SERVER),
    rule("multiserver.address", Class::Own, SERVER),
    rule("multiserver.parse", Class::Own, SERVER),
    rule("auth", Class::Own, SERVER),
    rule("authorisation.explain", Class::Secret, GRAPH),
    rule("authorisation.table", Class::Own, SERVER),
    rule("status", Class::Own, SERVER),
    rule("progress", Class::Own, SERVER),
    rule("help", Class::Own, SERVER),
    rule("friends.help", Class::Own, SERVER),
    rule("gossip.help", Class::Own, SERVER),
    rule("replicate.help", Class::Own, SERVER),
    rule("blobs.help", Class::Own, SERVER),
    rule("hubs.help", Class::Own, SERVER),
    rule("createLogStream", Class::Secret, READS),
    rule("createFeedStream", Class::Secret, READS),
    rule("createUserStream", Class::Secret, READS),
    rule("createRawLogStream", Class::Secret, ALL_FEEDS),
    rule("createSequenceStream", Class::Own, LOG),
    rule("messagesByType", Class::Secret, READS),
    rule("links", Class::Secret, READS),
    rule("latest", Class::Own, LOG),
    rule("latestSequence", Class::Own, LOG),
    rule("get", Class::Secret, READS),
    rule("getLatest", Class::Secret, ALL_FEEDS),
    rule("getFeedState", Class::Own, LOG),
    rule("getVectorClock", Class::Own, LOG),
    rule("publish", Class::Own, WRITES),
    rule("add", Class::Own, ADDS),
    rule("createWriteStream", Class::Own, ADDS),
    rule("sbot.import", Class::Own, ADDS),
    rule("del", Class::Own, "takes messages out of our log"),
    rule("invite.create", Class::Own, "lets strangers have us follow them"),
    rule("invite.accept", Class::Own, WRITES),
    rule("invite.help", Class::Own, SERVER),
    rule("private.publish", Class::Secret, SECRETS),
    rule("private.unbox", Class::Secret, SECRETS),
    rule("private.read", Class::Secret, SECRETS),
    rule("friends.isFollowing", Class::Secret, GRAPH),
    rule("friends.isBlocking", Class::Secret, GRAPH),
    rule("friends.hops", Class::Secret, GRAPH),
    rule("friends.hopStream", Class::Secret, GRAPH),
    rule("friends.createFriendStream", Class::Secret, GRAPH),
    rule("friends.get", Class::Secret, GRAPH),
    rule("friends.stream", Class::Secret, GRAPH),
    rule("friends.onEdge", Class::Secret, GRAPH),
    rule("replicate.request", Class::Own, WANTS),
    rule("replicate.block", Class::Own, WANTS),
    rule("replicate.upto", Class::Own, WANTS),
    rule("replicate.changes", Class::Own, WANTS),
    rule("ebt.request", Class::Own, WANTS),
    rule("ebt.block", Class::Own, WANTS),
    rule("ebt.peerStatus", Class::Own, WANTS),
    rule("gossip.peers", Class::Own, DIALS),
    rule("gossip.get", Class::Own, DIALS),
    rule("gossip.add", Class::Own, DIALS),
    rule("gossip.remove", Class::Own, DIALS),
    rule("gossip.connect", Class::Own, DIALS),
    rule("gossip.disconnect", Class::Own, DIALS),
    rule("gossip.reconnect", Class::Own, DIALS),
    rule("gossip.changes", Class::Own, DIALS),
    rule("gossip.enable", Class::Own, DIALS),
    rule("gossip.disable", Class::Own, DIALS),
    rule("conn.connect", Class::Own, DIALS),
    rule("conn.disconnect", Class::Own, DIALS),
    rule("conn.remember", Class::Own, DIALS),
    rule("conn.forget", Class::Own, DIALS),
    rule("conn.dbPeers", Class::Own, DIALS),
    rule("conn.peers", Class::Own, DIALS),
    rule("conn.stagedPeers", Class::Own, DIALS),
    rule("conn.stage", Class::Own, DIALS),
    rule("conn.unstage", Class::Own, DIALS),
    rule("conn.start", Class::Own, DIALS),
    rule("conn.stop", Class::Own, DIALS),
    rule("hubs.ls", Class::Own, DIALS),
    rule("hubs.add", Class::Own, DIALS),
    rule("hubs.remove", Class::Own, DIALS),
    rule("blobs.add", Class::Own, DISK),
    rule("blobs.ls", Class::Own, DISK),
    rule("blobs.rm", Class::Own, DISK),
    rule("blobs.size", Class::Own, DISK),
    rule("blobs.meta", Class::Own, DISK),
    rule("blobs.want", Class::Own, DISK),
    rule("blobs.push", Class::Own, DISK),
    rule("blobs.pin", Class::Own, DISK),
    rule("blobs.unpin", Class::Own, DISK),
    rule("blobs.status", Class::Own, DISK),
    rule("blobs.gc", Class::Own, DISK),
];
