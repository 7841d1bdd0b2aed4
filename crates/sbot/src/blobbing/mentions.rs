//! Blobs that messages mention: which, by whom, and the wish for those in new messages of people near us.
//!
//! A blob is mentioned wherever its id stands in a message: in `mentions` and `image`, and in the text too. Clients of ours
//! show it there, so nothing less may decide what can be deleted.

use std::sync::Arc;

use sbot_feed::BlobId;
use sbot_store::{Direction, Record, Store, StoreError};

use super::Blobs;
use crate::config::BlobMentions;
use crate::content::{kind, raw_content};
use crate::private::Boxes;
use crate::social::Social;

/// What a blob's id ends with.
const SUFFIX: &[u8] = b".sha256";

/// Characters of a blob's id before that: the sigil and 32 bytes in base64.
const PREFIX: usize = 45;

/// Records read at a time.
const CHUNK: usize = 512;

/// A message older than this, in ms, is no news: the blobs of a whole history that comes at once are wanted when somebody
/// looks at it.
const NEWS: f64 = 30.0 * 24.0 * 60.0 * 60.0 * 1000.0;

/// The blobs that are named in a text, each once.
pub(super) fn mentioned(text: &[u8]) -> Vec<BlobId> {
    let mut found: Vec<BlobId> = memchr::memmem::find_iter(text, SUFFIX)
        .filter_map(|end| BlobId::from_ascii(text.get(end.checked_sub(PREFIX)?..end + SUFFIX.len())?).ok())
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// A message as far as we can read it.
fn readable(record: &Record, boxes: &Boxes) -> bytes::Bytes {
    boxes.reveal_record(record).unwrap_or_else(|| record.value.clone())
}

/// Goes through all messages of the log, oldest first, with the blobs that each mentions. Blocks.
pub(super) fn each_mention(
    store: &Store,
    boxes: &Boxes,
    mut take: impl FnMut(&Record, Vec<BlobId>),
) -> Result<(), StoreError> {
    let mut from = 0;
    loop {
        let records = store.read_log(from, CHUNK, Direction::Forward)?;
        let Some(last) = records.last() else { return Ok(()) };
        from = last.number + 1;
        for record in &records {
            let found = mentioned(&readable(record, boxes));
            if !found.is_empty() {
                take(record, found);
            }
        }
    }
}

/// Whose blobs are wanted by themselves, and where that is read from.
pub(crate) struct Wishing {
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) store: Store,
    pub(crate) boxes: Arc<Boxes>,
    pub(crate) social: Arc<Social>,
    pub(crate) settings: BlobMentions,
}

impl Wishing {
    /// Follows the log from now on until it is closed, and wants what is mentioned.
    pub(crate) async fn follow(self) {
        let Some(hops) = self.settings.hops else { return };
        let this = Arc::new(self);
        let (mut length, mut from) = (this.store.watch(), this.store.len());
        loop {
            let looking = Arc::clone(&this);
            match tokio::task::spawn_blocking(move || looking.look(from, i32::from(hops))).await {
                Ok(Ok(next)) => from = next,
                Ok(Err(error)) => tracing::error!(%error, "blobs in new messages can't be looked for"),
                Err(error) => tracing::error!(%error, "looking for blobs in new messages failed"),
            }
            if length.changed().await.is_err() {
                return;
            }
        }
    }

    fn look(&self, mut from: u64, hops: i32) -> Result<u64, StoreError> {
        loop {
            let records = self.store.read_log(from, CHUNK, Direction::Forward)?;
            let Some(last) = records.last() else { return Ok(from) };
            from = last.number + 1;
            let near = self.social.hops();
            let own = self.blobs.own;
            let is_near = |record: &&Record| {
                record.author == own || near.get(&record.author).is_some_and(|far| (0..=hops).contains(far))
            };
            for record in
                records.iter().filter(is_near).filter(|record| record.received - record.resolved_time() < NEWS)
            {
                let message = readable(record, &self.boxes);
                if self.is_of_type(&message) {
                    for id in mentioned(&message) {
                        self.wish(id);
                    }
                }
            }
        }
    }

    fn is_of_type(&self, message: &[u8]) -> bool {
        let types = &self.settings.types;
        types.is_empty() || kind(raw_content(message)).is_some_and(|kind| types.contains(&kind))
    }

    fn wish(&self, id: BlobId) {
        if let Err(error) = self.blobs.want_quietly(id, self.settings.max) {
            tracing::debug!(blob = %id, %error, "a blob in a new message is not looked for");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_found_wherever_they_stand_in_a_message() {
        let [one, two, three] = [1, 2, 3].map(|n| BlobId([n; 32]));
        let text = format!(
            r#"{{"content":{{"type":"post","text":"![x]({two}) .sha256","mentions":[{{"link":"{one}?unbox=abc="}}],
            "image":{{"link":"{three}"}},"again":"{one}","root":"%{}"}}}}"#,
            &two.to_string()[1..]
        );
        assert_eq!(mentioned(text.as_bytes()), [one, two, three]);
        assert!(mentioned(b".sha256").is_empty() && mentioned(b"").is_empty());
    }
}
