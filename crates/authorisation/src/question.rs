//! What is asked.

use crate::Came;
use crate::rules::{CONNECT, DIAL, EXCHANGE, LARGE, PASS_ON, SERVE, TELL};

/// What is asked about an [`crate::Asker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// May we dial it by ourselves or when a client asks for it?
    Dial,
    /// May it connect to us, and stay connected?
    Connect,
    /// May it call this method, dots between the parts of its name, with arguments that are about this?
    Call {
        /// The method's name.
        method: &'a str,
        /// What its arguments name.
        about: About,
    },
    /// May this feed be exchanged with it, and given to it?
    Replicate(Feed),
    /// May it have this blob, of so many bytes?
    ServeBlob {
        /// The blob's size in bytes.
        size: u64,
    },
    /// May it learn which blobs we look for?
    TellWants,
    /// May we look for a blob because it wants it?
    PassWantOn,
}

impl<'a> Question<'a> {
    /// What the rule with this name answers; a call of a method if it is none of the others. For a rule about a way of
    /// coming, also that way.
    #[must_use]
    pub fn of_rule(name: &'a str, about: About) -> (Question<'a>, Option<Came>) {
        let question = match name {
            DIAL => Question::Dial,
            CONNECT => Question::Connect,
            EXCHANGE => Question::Replicate(about.feed.unwrap_or(Feed::OURS)),
            SERVE => Question::ServeBlob { size: about.blob.unwrap_or(0) },
            LARGE => Question::ServeBlob { size: about.blob.unwrap_or(u64::MAX) },
            TELL => Question::TellWants,
            PASS_ON => Question::PassWantOn,
            way => {
                let way = Came::ALL.into_iter().find(|came| came.rule() == Some(way));
                return match way {
                    Some(_) => (Question::Connect, way),
                    None => (Question::Call { method: name, about }, None),
                };
            }
        };
        (question, None)
    }
}

/// What a call's arguments name, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct About {
    /// The feed that is asked for.
    pub feed: Option<Feed>,
    /// The size in bytes of the blob that is asked for, if we have it.
    pub blob: Option<u64>,
}

impl About {
    /// The method alone counts.
    pub const NOTHING: About = About { feed: None, blob: None };
}

/// A feed that is asked for, with the facts about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feed {
    /// Its author blocks the asker.
    pub blocks_asker: bool,
    /// Its distance from us, as that of an [`crate::Asker`]; 0 is our own.
    pub hops: Option<i32>,
    /// The owner has asked for it by name (`replicate.request`).
    pub requested: bool,
}

impl Feed {
    /// Our own: whoever may not have that may have none.
    pub const OURS: Feed = Feed { blocks_asker: false, hops: Some(0), requested: false };
}
