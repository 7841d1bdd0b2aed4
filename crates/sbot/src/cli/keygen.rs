//! `sbot keygen`: a new identity, as the text of a secret file.

use std::path::Path;

use sbot_feed::{Keypair, secret};

use super::failure::Failure;
use super::output::Output;
use crate::config;

/// Prints a new key, or writes it to a new `file` and prints its id.
pub(super) fn run(file: Option<&Path>, json: bool, mut output: Output) -> Result<(), Failure> {
    let keypair = Keypair::generate();
    let id = keypair.id().to_string();
    match file {
        Some(file) => {
            config::secret::create(file, &keypair)?;
            if json {
                output.line(&serde_json::json!({ "id": id, "file": file.display().to_string() }).to_string())?;
            } else {
                output.line(&id)?;
            }
        }
        None => output.bytes(secret::render(&keypair).as_bytes())?,
    }
    Ok(output.flush()?)
}
