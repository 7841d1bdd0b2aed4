//! The `secret` file on disk: reading, creating, and refusing one that others can read.
//!
//! Its text is the affair of [`sbot_feed::secret`]; here are path, mode and durability. The mode is ssb-keys' (0400, ssb-keys
//! `storage.js`). Whoever reads the file can write in its owner's name, so a file that the group or the others may read
//! or write is refused; ssb-keys doesn't look.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use sbot_feed::{Keypair, secret};
use zeroize_text::Wiped;

/// Largest secret file that is read, in bytes; one of ssb-keys' has about 730.
const MAX_FILE: u64 = 64 * 1024;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// There is no such file.
    #[error("there is no secret file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is one already: a secret is never overwritten.
    #[error("{} exists already, and a secret is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner have rights on the file.
    #[error("the secret file {} has mode {mode:04o}: others than its owner can get at it. Run: chmod 0400 {}",
        path.display(), quoted(path))]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file's contents are no secret. It was left as it is.
    #[error("the secret file {} can't be used (it was not changed): {reason}", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never a part of it.
        reason: String,
    },
    /// The file can't be read or written.
    #[error("can't {action} the secret file {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Reads the keypair in `path`.
///
/// # Errors
/// If there is no file, others than its owner can get at it, or it holds no ed25519 keypair.
pub fn load(path: &Path) -> Result<Keypair, SecretFileError> {
    let failed = |source| SecretFileError::Io { action: "read", path: path.to_path_buf(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(SecretFileError::Missing { path: path.to_path_buf() });
        }
        Err(error) => return Err(failed(error)),
    };
    // Of the open file, so that nobody can swap it between the look and the read.
    check_mode(path, &file.metadata().map_err(failed)?)?;
    let mut bytes = Wiped(Vec::new());
    file.take(MAX_FILE + 1).read_to_end(&mut bytes.0).map_err(failed)?;
    let wrong = |reason: String| SecretFileError::Contents { path: path.to_path_buf(), reason };
    if bytes.0.len() as u64 > MAX_FILE {
        return Err(wrong(format!("it is longer than {MAX_FILE} bytes")));
    }
    if bytes.0.iter().all(u8::is_ascii_whitespace) {
        return Err(wrong("it is empty".into()));
    }
    let text = std::str::from_utf8(&bytes.0).map_err(|_| wrong("it is no text".into()))?;
    secret::parse(text).map_err(|error| wrong(error.to_string()))
}

/// Reads the keypair in `path`, or makes a new one and writes it there if there is no file.
///
/// # Errors
/// As [`load`] and [`create`].
pub fn load_or_create(path: &Path) -> Result<Keypair, SecretFileError> {
    match load(path) {
        Err(SecretFileError::Missing { .. }) => {}
        other => return other,
    }
    let keypair = Keypair::generate();
    match create(path, &keypair) {
        Ok(()) => Ok(keypair),
        // Another process was quicker: its key counts.
        Err(SecretFileError::Exists { .. }) => load(path),
        Err(error) => Err(error),
    }
}

/// Writes `keypair` to a new file `path` of mode 0400, and its directory if that is missing. The file is there whole and
/// on disk, or not at all.
///
/// # Errors
/// If there is a file already, or it can't be written.
pub fn create(path: &Path, keypair: &Keypair) -> Result<(), SecretFileError> {
    let failed = |source| SecretFileError::Io { action: "create", path: path.to_path_buf(), source };
    let exists = || SecretFileError::Exists { path: path.to_path_buf() };
    if fs::symlink_metadata(path).is_ok() {
        return Err(exists());
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    create_directory(directory).map_err(failed)?;
    let text = Wiped(secret::render(keypair).into_bytes());

    // Written under another name and linked: unlike a rename, a link never replaces what is there.
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".new-{}", std::process::id()));
    let draft = directory.join(name);
    let _ = fs::remove_file(&draft);
    write_new(&draft, &text.0).map_err(failed)?;
    let linked = fs::hard_link(&draft, path);
    let _ = fs::remove_file(&draft);
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists()),
        // A file system without links.
        Err(_) => write_new(path, &text.0)
            .map_err(|error| if error.kind() == ErrorKind::AlreadyExists { exists() } else { failed(error) })?,
    }
    sync_directory(directory).map_err(failed)
}

fn write_new(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o400);
    let mut file = options.open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// Makes the data directory, for its owner alone.
pub(crate) fn create_directory(directory: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Makes a new name in `directory` survive a crash.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    Ok(())
}

#[cfg(unix)]
fn check_mode(path: &Path, metadata: &fs::Metadata) -> Result<(), SecretFileError> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(SecretFileError::Mode { path: path.to_path_buf(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &fs::Metadata) -> Result<(), SecretFileError> {
    Ok(())
}

/// `path` as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-~+@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Key text that doesn't stay in memory.
mod zeroize_text {
    /// Bytes that are overwritten when dropped.
    pub(super) struct Wiped(pub(super) Vec<u8>);

    impl Drop for Wiped {
        fn drop(&mut self) {
            zeroize::Zeroize::zeroize(&mut self.0);
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_new_secret_is_read_back_and_only_its_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/secret");
        let made = load_or_create(&path).unwrap();
        assert_eq!(mode(&path), 0o400);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(load_or_create(&path).unwrap().id(), made.id());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left behind");
    }

    #[test]
    fn a_secret_that_others_can_get_at_is_refused_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        create(&path, &Keypair::generate()).unwrap();
        for bits in [0o440, 0o404, 0o604, 0o640, 0o420, 0o777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            let error = load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("mode {bits:04o}")), "{error}");
            assert!(error.ends_with(&format!("chmod 0400 {}", path.display())), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        load(&path).unwrap();
    }

    #[test]
    fn a_secret_with_wrong_contents_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        for (number, text) in
            ["", "\n", "hello", "# only a comment", "{\"private\": 1}", "\u{1}\u{2}"].iter().enumerate()
        {
            let path = directory.path().join(format!("secret{number}"));
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(error, SecretFileError::Contents { .. }), "{text:?}: {error}");
            assert!(error.to_string().contains(&path.display().to_string()));
            assert_eq!(fs::read_to_string(&path).unwrap(), *text);
        }
    }

    #[test]
    fn a_secret_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        fs::write(&path, "mine").unwrap();
        let error = create(&path, &Keypair::generate()).unwrap_err();
        assert!(matches!(error, SecretFileError::Exists { .. }));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        let dangling = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path().join("nowhere"), &dangling).unwrap();
        assert!(matches!(create(&dangling, &Keypair::generate()), Err(SecretFileError::Exists { .. })));
    }

    #[test]
    fn only_one_of_many_that_start_at_once_makes_the_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        // One process has one draft name, so the draft is made first and the threads race for the link alone.
        let first = load_or_create(&path).unwrap();
        let ids: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| load_or_create(&path).unwrap().id())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == first.id()));
    }
}
