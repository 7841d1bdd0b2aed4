//! The data directory, opened.

use std::path::Path;
use std::sync::Arc;

use sbot_feed::Keypair;
use sbot_store::{BlobStore, Store, StoreOptions};

use crate::api::Blobs;
use crate::config::Config;
use crate::inviting::Given;
use crate::node::StartError;
use crate::peers::import_files;
use crate::private::Boxes;
use crate::publish::Clock;
use crate::social::Social;
use crate::state::State as Saves;

/// What is opened in the data directory, blocking.
pub(crate) struct Opened {
    /// Who we are.
    pub(crate) keys: Keypair,
    /// The log.
    pub(crate) store: Store,
    /// Small state.
    pub(crate) saves: Arc<Saves>,
    /// Private messages.
    pub(crate) boxes: Arc<Boxes>,
    /// Whom we follow and block.
    pub(crate) social: Arc<Social>,
    /// The blobs.
    pub(crate) blobs: Arc<Blobs>,
    /// The invites that we gave out.
    pub(crate) given: Arc<Given>,
}

impl Opened {
    /// Opens it all; makes what isn't there.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) fn open(config: &Config, clock: Clock) -> Result<Opened, StartError> {
        crate::config::secret::create_directory(&config.path)
            .map_err(|source| StartError::Directory { path: config.path.clone(), source })?;
        let keys = config.identity()?;
        let options = StoreOptions { hmac: config.caps.sign, clock: Arc::clone(&clock), ..StoreOptions::default() };
        let mut told = 0;
        let store = Store::open(&config.store_path(), options, &mut |progress| {
            let percent = progress.done * 100 / progress.total.max(1);
            if percent >= told + 10 {
                told = percent;
                tracing::info!(percent, "reading the log");
            }
        })?;
        let saves = open_saves(&config.path.join("state.redb"))?;
        import_files(&config.path, &saves, keys.id());
        let saves = Arc::new(saves);
        let blobs = BlobStore::open(&config.path.join("blobs"), config.blobs.max)?;
        let blobs = Blobs::open(blobs, &config.blobs, Some(Arc::clone(&saves)), clock, keys.id());
        let readable = config.path.join("readable");
        let boxes = Arc::new(Boxes::new(keys.clone(), store.clone(), Some(readable)));
        let hops = i32::from(config.friends.hops);
        let social = Social::load(store.clone(), Arc::clone(&boxes), keys.id(), hops)?;
        let given = Arc::new(Given::load(Arc::clone(&saves)));
        Ok(Opened { keys, store, saves, boxes, social, blobs, given })
    }
}

/// Opens the small state. A file that can't be read is kept under another name, and a new one made: what it held can be
/// found again or made anew.
fn open_saves(path: &Path) -> Result<Saves, StartError> {
    let failed = |source: redb::Error| StartError::State { path: path.to_owned(), source: Box::new(source) };
    match Saves::open(path) {
        Ok(saves) => Ok(saves),
        Err(error) if !is_damage(&error) => Err(failed(error)),
        Err(error) => {
            let aside = path.with_extension("damaged");
            tracing::error!(%error, aside = %aside.display(), "the state file is damaged: starting with a new one");
            if let Err(error) = std::fs::rename(path, aside) {
                return Err(failed(redb::Error::Io(error)));
            }
            Saves::open(path).map_err(failed)
        }
    }
}

/// Whether the file itself is at fault, and not the disk or somebody else who has it open. What is no database of redb's
/// at all is told as an error of input.
fn is_damage(error: &redb::Error) -> bool {
    match error {
        redb::Error::Io(error) => {
            matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
        }
        redb::Error::DatabaseAlreadyOpen => false,
        _ => true,
    }
}
