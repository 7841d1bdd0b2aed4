//! A disk that takes no more.
//!
//! A real full disk needs a file system of one's own, which only root may mount. A limit on the size of files is met by the
//! same writes and needs nobody's leave; but it holds for a whole process, so the test runs itself again in another one.
//! There the signal that such a write sends must be ignored before the program begins: a shell does that.

use std::env;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const INSIDE: &str = "SBOT_TEST_WITH_LIMITED_FILES";

/// Lets files grow to so many bytes, or without bound again.
pub(crate) fn limit(bytes: Option<u64>) -> Result<()> {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum }).context("the limit can't be set")
}

/// Does `inside` in a process of its own, which runs the test `name` alone.
pub(crate) fn alone(name: &str, inside: impl Future<Output = Result<()>>) -> Result<()> {
    if env::var_os(INSIDE).is_some() {
        return tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(inside);
    }
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(env::current_exe()?);
    let output = shell.args(["--exact", name, "--nocapture"]).env(INSIDE, "1").output();
    let output = output.context("no shell to run this test in")?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && out.contains("1 passed"), "{}\n{out}\n{err}", output.status);
    Ok(())
}
