//! Own wants, pushes, and what is remembered of blobs, over a restart.

use std::sync::Arc;

use sbot_blobs::Saved;

use super::Blobs;
use crate::state::State as Saves;

/// Where they are in the small state.
const NAME: &str = "blobs";

/// What was saved last. What can't be read is lost: clients ask again.
pub(super) fn load(saves: &Saves) -> Saved {
    let found = saves.value(NAME).map_err(|error| error.to_string());
    let read = found.and_then(|json| match json {
        Some(json) => Saved::from_json(&json).map_err(|error| error.to_string()),
        None => Ok(Saved::default()),
    });
    read.unwrap_or_else(|error| {
        tracing::error!(error, "which blobs were looked for can't be read");
        Saved::default()
    })
}

impl Blobs {
    /// Saves them.
    pub(crate) async fn save(self: &Arc<Self>) {
        let blobs = Arc::clone(self);
        let saved = tokio::task::spawn_blocking(move || {
            let Some(saves) = &blobs.saves else { return Ok(()) };
            let saved = blobs.exchange.lock().saved();
            saves.save_value(NAME, &saved.to_json())?;
            blobs.keeping.save(saves)
        });
        match saved.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "which blobs are looked for could not be saved"),
            Err(error) => tracing::error!(%error, "saving which blobs are looked for failed"),
        }
    }
}
