//! Programs that not every machine has.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};

/// The browser; `None`, and a line that says so, where there is none.
///
/// # Errors
/// There is none, and `CI=true` says that everything has to be there.
pub fn chromium() -> Result<Option<PathBuf>> {
    let found = found("chromium").or_else(|| found("chromium-browser")).or_else(|| found("google-chrome"));
    if found.is_none() {
        pass_over("it needs Chromium (apt install chromium)")?;
    }
    Ok(found)
}

/// Where `program` is in `PATH`, or among what only root has in it.
pub(crate) fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    dirs.map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Says on standard error, whatever becomes of what a test prints, why the test is passed over.
///
/// # Errors
/// That it is, where `CI=true` says that everything has to be there.
pub(crate) fn pass_over(why: &str) -> Result<()> {
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        bail!("it would be passed over: {why}");
    }
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    writeln!(std::io::stderr(), "passed over: {test}: {why}")?;
    Ok(())
}
