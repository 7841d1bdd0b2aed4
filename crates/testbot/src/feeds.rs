//! Signed feeds out of nothing: the same seed makes the same messages, on every machine.
//!
//! [`Network`] holds authors and their tips. [`Network::publish`] adds a message by hand; [`Network::grow`] adds many
//! with the mix of types that the public network shows (vote 43 %, post 37 %, contact 9 %, other 11 %) and feed lengths
//! that follow a power law.

use anyhow::Result;
use bytes::Bytes;
use sbot_feed::{FeedId, FeedTip, HmacKey, Keypair, Message, MsgId, create_message};
use serde_json::{Value, json};

const WORDS: &str = "the gossip boat drifts where sailors share stories under quiet stars while islands wake slowly and \
    merchants trade salt for songs café naïve 日本語 данные 🐚 🌊 \"quoted\" back\\slash mountains carry letters \
    between harbours nobody owns the sea everyone keeps a log";

/// The first claimed timestamp, in ms since 1970; each message is a second later.
const FIRST_TIMESTAMP: f64 = 1_500_000_000_000.0;

/// How many of the newest posts replies are made to.
const RECENT_POSTS: usize = 400;

/// A small deterministic random source (splitmix64): the sequence is part of what a seed means.
#[derive(Debug, Clone)]
pub struct Draws(u64);

impl Draws {
    /// The sequence that `seed` names.
    pub fn new(seed: u64) -> Draws {
        Draws(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { (self.bits() % bound as u64) as usize }
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The keypair that `seed` and `index` name.
pub fn keypair(seed: u64, index: usize) -> Keypair {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&(index as u64).to_le_bytes());
    bytes[16] = 0x5b;
    Keypair::from_seed(bytes)
}

/// One author: its keys and how far its feed is.
#[derive(Debug, Clone)]
pub struct Author {
    /// Who signs.
    pub keys: Keypair,
    /// The newest message, if there is one.
    pub tip: Option<FeedTip>,
}

impl Author {
    /// The next message of this feed, signed.
    ///
    /// # Errors
    /// If `content` is nothing that a message may hold.
    pub fn publish(&mut self, content: &Value, hmac: Option<&HmacKey>, timestamp: f64) -> Result<Message> {
        let content = serde_json::to_vec(content)?;
        let message = create_message(&self.keys, hmac, self.tip.as_ref(), &content, timestamp)?;
        self.tip = Some(FeedTip { sequence: message.sequence, key: message.key, timestamp });
        Ok(message)
    }
}

/// Authors who publish in one order of time.
#[derive(Debug, Clone)]
pub struct Network {
    authors: Vec<Author>,
    draws: Draws,
    now: f64,
    posts: Vec<MsgId>,
    words: Vec<&'static str>,
    total_weight: f64,
}

impl Network {
    /// `authors` empty feeds.
    pub fn new(seed: u64, authors: usize) -> Network {
        Network {
            authors: (0..authors).map(|index| Author { keys: keypair(seed, index), tip: None }).collect(),
            draws: Draws::new(seed),
            now: FIRST_TIMESTAMP,
            posts: Vec::new(),
            words: WORDS.split_whitespace().collect(),
            total_weight: (0..authors).map(weight).sum(),
        }
    }

    /// The keys of author `index`.
    pub fn keys(&self, index: usize) -> &Keypair {
        &self.authors[index].keys
    }

    /// The authors' ids, by index.
    pub fn ids(&self) -> Vec<FeedId> {
        self.authors.iter().map(|author| author.keys.id()).collect()
    }

    /// The next message of author `index`.
    ///
    /// # Errors
    /// If `content` is nothing that a message may hold.
    pub fn publish(&mut self, index: usize, content: &Value) -> Result<Message> {
        self.now += 1000.0;
        self.authors[index].publish(content, None, self.now)
    }

    /// Adds `count` messages of all authors, in an order in which a peer could have received them.
    ///
    /// # Errors
    /// None that this mix of contents meets.
    pub fn grow(&mut self, count: usize) -> Result<Vec<Bytes>> {
        (0..count)
            .map(|_| {
                let index = self.any_author();
                let content = self.content();
                let message = self.publish(index, &content)?;
                if content["type"] == "post" {
                    self.posts.push(message.key);
                }
                Ok(message.value)
            })
            .collect()
    }

    fn any_author(&mut self) -> usize {
        let mut at = self.draws.unit() * self.total_weight;
        for index in 0..self.authors.len() {
            at -= weight(index);
            if at < 0.0 {
                return index;
            }
        }
        0
    }

    fn sentence(&mut self, words: usize) -> String {
        (0..words).map(|_| self.words[self.draws.below(self.words.len())]).collect::<Vec<_>>().join(" ")
    }

    fn content(&mut self) -> Value {
        let roll = self.draws.unit();
        let recent = self.posts.len().min(RECENT_POSTS);
        let reply_to = (recent > 0).then(|| self.posts[self.posts.len() - 1 - self.draws.below(recent)]);
        match reply_to {
            Some(link) if roll < 0.43 => {
                json!({"type": "vote", "vote": {"link": link, "value": 1, "expression": "❤"}})
            }
            _ if roll < 0.80 => {
                let words = 5 + (self.draws.unit().powi(3) * 220.0) as usize;
                let text = self.sentence(words);
                match reply_to {
                    Some(link) => json!({"type": "post", "text": text, "root": link, "branch": link}),
                    None => json!({"type": "post", "text": text}),
                }
            }
            _ if roll < 0.89 => {
                let index = self.draws.below(self.authors.len());
                let contact = self.authors[index].keys.id();
                json!({"type": "contact", "contact": contact, "following": self.draws.unit() < 0.9})
            }
            _ => {
                let text = self.sentence(6);
                let number = (self.draws.unit() * 1e6).round() / 8.0;
                json!({"type": "gathering", "n": number, "nested": {"list": [1, 2.5, -3e-9, null, true], "text": text}})
            }
        }
    }
}

/// Feed lengths fall off as a power of the author's rank.
fn weight(index: usize) -> f64 {
    1.0 / ((index + 1) as f64).powf(0.7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_messages() {
        let one = Network::new(7, 5).grow(50).unwrap();
        let two = Network::new(7, 5).grow(50).unwrap();
        assert_eq!(one, two);
        assert_ne!(one, Network::new(8, 5).grow(50).unwrap());
    }
}
