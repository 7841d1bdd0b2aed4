//! What `help` methods answer: `{description, commands: {method: {type, description, args}}}`, the shape that the
//! `ssb-server` command line prints (`muxrpc-usage`).

use serde_json::{Map, Value, json};

/// One argument: name, type, whether it may be left out, and what it does.
type Argument = (&'static str, &'static str, bool, &'static str);
/// One method: name, kind, what it does, its arguments.
type Command = (&'static str, &'static str, &'static str, &'static [Argument]);

fn render(description: &str, commands: &[Command]) -> Value {
    let commands: Map<String, Value> = commands
        .iter()
        .map(|(name, kind, what, arguments)| {
            let args: Map<String, Value> = arguments
                .iter()
                .map(|(name, kind, optional, what)| {
                    ((*name).to_owned(), json!({"type": kind, "optional": optional, "description": what}))
                })
                .collect();
            ((*name).to_owned(), json!({"type": kind, "description": what, "args": args}))
        })
        .collect();
    json!({"description": description, "commands": commands})
}

const ID: Argument = ("id", "FeedId", false, "the feed");
const LIVE: Argument = ("live", "boolean", true, "go on with what comes later");
const OLD: Argument = ("old", "boolean", true, "start with what is there already (default true)");
const KEYS: Argument = ("keys", "boolean", true, "show message ids (default true)");
const VALUES: Argument = ("values", "boolean", true, "show messages (default true)");
const LIMIT: Argument = ("limit", "number", true, "stop after so many old messages");
const REVERSE: Argument = ("reverse", "boolean", true, "newest first");
const GT: Argument = ("gt", "number", true, "only what lies after this");
const LT: Argument = ("lt", "number", true, "only what lies before this");
const PRIVATE: Argument = ("private", "boolean", true, "decrypt private messages to us (default false)");

/// `help`.
pub(crate) fn server() -> Value {
    const STREAM: &[Argument] = &[GT, LT, REVERSE, LIVE, OLD, LIMIT, KEYS, VALUES, PRIVATE];
    render(
        "the log of messages: read it, follow it, add to it",
        &[
            ("createLogStream", "source", "all messages in the order in which they came here", STREAM),
            ("createFeedStream", "source", "all messages by the time that their authors claim", STREAM),
            (
                "createHistoryStream",
                "source",
                "the messages of one feed, from a sequence number on",
                &[ID, ("seq", "number", true, "the first sequence number to show"), LIMIT, LIVE, OLD, KEYS, VALUES],
            ),
            (
                "createUserStream",
                "source",
                "the messages of one feed, within bounds",
                &[ID, GT, LT, REVERSE, LIVE, LIMIT, KEYS, VALUES, PRIVATE],
            ),
            (
                "messagesByType",
                "source",
                "the messages of one type",
                &[
                    ("type", "string", false, "as in the content"),
                    GT,
                    LT,
                    REVERSE,
                    LIVE,
                    OLD,
                    LIMIT,
                    KEYS,
                    VALUES,
                    PRIVATE,
                ],
            ),
            (
                "links",
                "source",
                "links between feeds, messages and blobs",
                &[
                    ("source", "FeedId", true, "who links, or @"),
                    ("dest", "Id", true, "what is linked to, or one of @ % &"),
                    ("rel", "string", true, "the field that holds the link"),
                    ("meta", "boolean", true, "show source, rel and dest (default true)"),
                    KEYS,
                    ("values", "boolean", true, "show messages (default false)"),
                    LIVE,
                    REVERSE,
                ],
            ),
            (
                "get",
                "async",
                "one message by its id",
                &[
                    ("id", "MsgId", false, "the message"),
                    PRIVATE,
                    ("meta", "boolean", true, "show id and time of arrival too"),
                ],
            ),
            ("getLatest", "async", "the newest message of a feed", &[ID]),
            ("latestSequence", "async", "the newest sequence number of a feed", &[ID]),
            ("getFeedState", "async", "id and sequence number of a feed's newest message", &[ID]),
            ("getVectorClock", "async", "the newest sequence number of every feed", &[]),
            ("publish", "async", "sign a content and append it to our own feed", &[]),
            ("add", "async", "check a signed message and append it to the log", &[]),
            ("whoami", "sync", "our own id", &[]),
            ("version", "sync", "the version of this server", &[]),
            ("address", "sync", "where this server listens", &[]),
            ("status", "sync", "what the server is doing", &[]),
            ("progress", "sync", "how far indexing and replication are", &[]),
            ("manifest", "sync", "all methods and their kinds", &[]),
        ],
    )
}

/// `friends.help`.
pub(crate) fn friends() -> Value {
    const EDGE: &[Argument] =
        &[("source", "FeedId", false, "who said it"), ("dest", "FeedId", false, "of whom it was said")];
    const HOPS: &[Argument] = &[
        ("start", "FeedId", true, "where to start (default: we)"),
        ("max", "number", true, "how far to go"),
        ("reverse", "boolean", true, "go from the followed to the followers"),
    ];
    const STREAM: &[Argument] = &[LIVE, OLD];
    render(
        "who follows and who blocks whom",
        &[
            ("isFollowing", "async", "whether one feed follows another", EDGE),
            ("isBlocking", "async", "whether one feed blocks another", EDGE),
            ("hops", "async", "how far away every feed is; negative for those that are blocked", HOPS),
            ("hopStream", "source", "the map of hops, then what changes in it", STREAM),
            ("get", "async", "the whole graph, or one feed's part: true follows, false blocks, null neither", EDGE),
            ("stream", "source", "the whole graph, then every change as {from, to, value}", STREAM),
            (
                "createFriendStream",
                "source",
                "the feeds within reach, one by one",
                &[("meta", "boolean", true, "show hops too"), LIVE, OLD],
            ),
        ],
    )
}

/// `gossip.help`.
pub(crate) fn gossip() -> Value {
    const ADDRESS: Argument = ("address", "MultiServerAddress", false, "where the peer listens");
    const PEER: Argument = ("id", "FeedId", false, "the peer, or an address");
    const KIND: Argument = ("type", "string", true, "local or global (default global), until the server stops");
    render(
        "known peers and connections to them",
        &[
            ("peers", "sync", "all known peers", &[]),
            ("get", "sync", "one known peer", &[PEER]),
            ("add", "sync", "remember a peer", &[ADDRESS, ("source", "string", true, "where the address comes from")]),
            ("remove", "sync", "forget a peer", &[PEER]),
            ("connect", "async", "remember a peer and dial it", &[PEER]),
            ("disconnect", "async", "hang up", &[PEER]),
            ("reconnect", "sync", "hang up on everyone and dial again", &[]),
            ("changes", "source", "peers found, connected, lost and forgotten", &[]),
            (
                "ping",
                "duplex",
                "clock readings back and forth",
                &[("timeout", "number", true, "milliseconds between two")],
            ),
            ("enable", "sync", "switch a kind of discovery on", &[KIND]),
            ("disable", "sync", "switch a kind of discovery off", &[KIND]),
        ],
    )
}

/// `invite.help`.
pub(crate) fn invite() -> Value {
    render(
        "invites to pubs: made by the pub, accepted by its guests",
        &[
            (
                "create",
                "async",
                "make an invite code for a pub that others can reach",
                &[
                    ("uses", "number", true, "how often it can be used (default 1)"),
                    ("note", "any", true, "what to say in the follow of whoever uses it"),
                    ("external", "Host", true, "the host to name in place of our own"),
                    ("modern", "boolean", true, "make it a multiserver address with a websocket, for one use"),
                    ("expires", "number", true, "from when on it can't be used, in milliseconds since 1970"),
                ],
            ),
            (
                "accept",
                "async",
                "have a pub follow us by its invite, and follow it",
                &[("invite", "InviteCode", false, "the invite code")],
            ),
            (
                "use",
                "async",
                "what accept calls at the pub, with the key that is in the code",
                &[("feed", "FeedId", false, "the feed to follow")],
            ),
        ],
    )
}

/// `replicate.help`.
pub(crate) fn replicate() -> Value {
    render(
        "which feeds are fetched and served",
        &[
            (
                "request",
                "sync",
                "fetch and serve a feed whatever the graph says, or stop doing so",
                &[ID, ("replicate", "boolean", true, "false to stop (default true)")],
            ),
            (
                "block",
                "sync",
                "keep a feed's messages from a peer",
                &[
                    ("from", "FeedId", false, "the feed"),
                    ("to", "FeedId", false, "the peer"),
                    ("blocking", "boolean", true, "true to block (default false)"),
                ],
            ),
            ("upto", "source", "every wanted feed and how far we have it", &[LIVE]),
            ("changes", "source", "how far replication is, whenever that changes", &[]),
        ],
    )
}

/// `blobs.help`.
pub(crate) fn blobs() -> Value {
    const BLOB: Argument = ("id", "BlobId", false, "the blob");
    const MAYBE: Argument = ("id", "BlobId", true, "what the blob's id has to be");
    const SIZE: Argument = ("size", "number", true, "what the blob's size has to be");
    const MAX: Argument = ("max", "number", true, "what the blob's size may be at most");
    render(
        "files by their hash",
        &[
            ("add", "sink", "store what is sent as a blob; answers its id", &[MAYBE]),
            ("get", "source", "the bytes of a blob", &[BLOB, SIZE, MAX]),
            (
                "getSlice",
                "source",
                "some of the bytes of a blob",
                &[
                    BLOB,
                    ("start", "number", false, "the first byte"),
                    ("end", "number", false, "the first byte not to send"),
                    SIZE,
                    MAX,
                ],
            ),
            ("has", "async", "whether a blob is here, or a list of them", &[BLOB]),
            ("size", "async", "the size of a blob, or of a list of them; null if it isn't here", &[BLOB]),
            ("meta", "async", "id, size and time of a blob", &[BLOB]),
            (
                "ls",
                "source",
                "the blobs that are here",
                &[LIVE, OLD, ("meta", "boolean", true, "show size and time too")],
            ),
            ("rm", "async", "delete a blob", &[BLOB]),
            ("want", "async", "wait until a blob is here", &[BLOB]),
            ("push", "async", "ask peers to take a blob", &[BLOB]),
            ("changes", "source", "the ids of blobs as they come", &[]),
            ("createWants", "source", "which blobs are looked for, and which have come", &[]),
        ],
    )
}

/// `hubs.help`.
pub(crate) fn hubs() -> Value {
    const HUB: &[Argument] = &[("hub", "string", false, "https://HOST[:PORT] or http://HOST[:PORT]")];
    render(
        "signalling hubs, where peers are met that can't be dialed",
        &[
            ("ls", "sync", "the hubs, what is going on with them, and who is there", &[]),
            ("add", "sync", "use a hub; answers whether it wasn't used before", HUB),
            ("remove", "sync", "use a hub no longer; answers whether it was used", HUB),
        ],
    )
}
