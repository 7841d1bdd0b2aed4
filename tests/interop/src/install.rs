//! The npm packages: installed once, by whoever needs them first.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use fd_lock::RwLock;

/// Oldest node that the packages work with.
const NODE: u32 = 18;
/// Lock file's version 3 needs npm 7.
const NPM: u32 = 7;
const ADVICE: &str = "install Node.js 18 or newer with npm (apt install nodejs npm, or https://nodejs.org)";

/// The directory of the scripts, with their packages installed.
///
/// # Errors
/// One line that says what is missing: node, npm, or the packages.
pub fn js() -> Result<PathBuf> {
    static DONE: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("js");
    let done = DONE.get_or_init(|| install(&dir).map_err(|error| format!("{error:#}")));
    match done {
        Ok(()) => Ok(dir),
        Err(text) => bail!("{text}"),
    }
}

/// A command that runs one of our scripts.
///
/// # Errors
/// As [`js`].
pub fn script(name: &str) -> Result<Command> {
    let mut command = Command::new("node");
    command.arg(js()?.join(name));
    Ok(command)
}

fn install(dir: &Path) -> Result<()> {
    needs("node", NODE)?;
    needs("npm", NPM)?;
    let mut lock = RwLock::new(File::create(crate::cache_dir()?.join("npm.lock"))?);
    let _alone = lock.write()?;
    for name in ["classic", "db2", "mdns", "rtc"] {
        let package = dir.join(name);
        let wanted = fs::read_to_string(package.join("package-lock.json"))?;
        let stamp = package.join("node_modules/.sbot-installed");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            continue;
        }
        let output = Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&package)
            .stdin(Stdio::null())
            .output()
            .context("npm")?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "npm ci in {} failed: {}", package.display(), text.trim());
        fs::write(stamp, wanted)?;
    }
    Ok(())
}

/// Checks that `tool` is there and not older than `oldest`.
fn needs(tool: &str, oldest: u32) -> Result<()> {
    let output = Command::new(tool).arg("--version").stdin(Stdio::null()).output();
    let Ok(output) = output else { bail!("these tests need {tool}, which isn't there: {ADVICE}") };
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim();
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    ensure!(
        major.is_some_and(|major| major >= oldest),
        "these tests need {tool} {oldest}, this is {version}: {ADVICE}"
    );
    Ok(())
}
