//! Writing `manifest.json`: which methods the server has, for clients such as ssb-client that read it before they
//! connect (ssb-server `bin.js`).

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::secret::sync_directory;

/// Writes `manifest`, indented by two spaces, to `path`. Readers see the old file or the new one, never a half.
///
/// # Errors
/// If the directory can't be written to.
pub fn write(path: &Path, manifest: &serde_json::Value) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".new-{}", std::process::id()));
    let draft = directory.join(name);
    let written = (|| {
        let mut file = File::create(&draft)?;
        file.write_all(serde_json::to_string_pretty(manifest)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        sync_directory(directory)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_replaces_the_old_one_and_leaves_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("manifest.json");
        fs::write(&path, "old").unwrap();
        write(&path, &serde_json::json!({"whoami": "sync", "blobs": {"get": "source"}})).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\n  \"blobs\": {\n    \"get\": \"source\"\n  },\n  \"whoami\": \"sync\"\n}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(write(&directory.path().join("no/manifest.json"), &serde_json::Value::Null).is_err());
    }
}
