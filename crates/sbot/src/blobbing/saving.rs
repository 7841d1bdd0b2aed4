//! Own wants, pushes, and what is remembered of blobs, over a restart; and the passing of time.

use std::sync::Arc;
use std::time::Duration;

use sbot_blobs::{Exchange, Saved};
use tokio::time::MissedTickBehavior;

use super::Blobs;
use crate::state::State as Saves;

/// Where they are in the small state.
const NAME: &str = "blobs";

/// How often the exchange looks at the time.
const TICK: Duration = Duration::from_secs(1);

/// How often it is saved when blobs were last used: that may be forgotten.
const SAVE_USES: Duration = Duration::from_secs(60);

/// Pause before own wants are saved, so that many at once are saved once.
const SAVE_PAUSE: Duration = Duration::from_millis(500);

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
    /// Lets time pass for what is too old, and saves what has changed, until the node stops.
    pub(crate) async fn run(self: Arc<Self>) {
        let counting = Arc::clone(&self);
        if let Err(error) = tokio::task::spawn_blocking(move || counting.count()).await {
            tracing::error!(%error, "counting the blobs failed");
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut saving = tokio::time::interval(SAVE_USES);
        saving.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.with(Exchange::tick),
                _ = saving.tick(), if self.keeping.has_changed() => self.save().await,
                () = self.unsaved.notified() => {
                    // what changes meanwhile is saved with it
                    tokio::time::sleep(SAVE_PAUSE).await;
                    self.save().await;
                }
            }
        }
    }

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
