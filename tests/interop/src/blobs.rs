//! What the tests of blobs have in common: the same exchange with JavaScript peers of either kind.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{End, JsPeer, Kind, SbotNode, network_key, wait_until};

/// Longest way of a blob. Machines that run tests are busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// Pause between two requests for the same blobs.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// The largest blob that ssb-blobs fetches: smaller than `max`.
pub const LARGEST: usize = 5 * 1024 * 1024 - 1;

/// The smallest that nobody fetches.
const TOO_LARGE: usize = 5 * 1024 * 1024 + 1;

/// The blob of no bytes.
const EMPTY: &str = "&47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=.sha256";

/// What a peer of either kind can be asked about blobs. Each method fails if the peer says so, or has gone.
pub trait BlobEnd: End {
    /// Its data directory.
    fn directory(&self) -> &Path;
    /// Stores so many bytes, which `seed` makes different from others of the same length, and returns the blob's id.
    ///
    /// # Errors
    /// The peer doesn't take it.
    fn add_blob(&mut self, size: usize, seed: &str) -> Result<String>;
    /// Begins to look for blobs.
    ///
    /// # Errors
    /// The peer has gone.
    fn want_blobs(&mut self, ids: &[String]) -> Result<()>;
    /// How many of these blobs it has.
    ///
    /// # Errors
    /// The peer doesn't answer.
    fn count_blobs(&mut self, ids: &[String]) -> Result<usize>;
    /// Has others take a blob.
    ///
    /// # Errors
    /// The peer refuses it.
    fn push_blob(&mut self, id: &str) -> Result<()>;
}

impl BlobEnd for SbotNode {
    fn directory(&self) -> &Path {
        &self.dir
    }

    fn add_blob(&mut self, size: usize, seed: &str) -> Result<String> {
        let bytes = pattern(size, seed);
        let id = id_of(&bytes);
        self.sink("blobs.add", json!([id]), &bytes)?;
        Ok(id)
    }

    fn want_blobs(&mut self, ids: &[String]) -> Result<()> {
        ids.iter().for_each(|id| self.begin("blobs.want", json!([id])));
        Ok(())
    }

    fn count_blobs(&mut self, ids: &[String]) -> Result<usize> {
        let has = self.call("blobs.has", json!([ids]))?;
        Ok(has.as_array().context("no list")?.iter().filter(|has| **has == Value::Bool(true)).count())
    }

    fn push_blob(&mut self, id: &str) -> Result<()> {
        self.call("blobs.push", json!([id])).map(|_| ())
    }
}

impl BlobEnd for JsPeer {
    fn directory(&self) -> &Path {
        &self.dir
    }

    fn add_blob(&mut self, size: usize, seed: &str) -> Result<String> {
        let id = self.ask(json!({"do": "addBlob", "size": size, "seed": seed}))?;
        Ok(id.as_str().context("no id")?.to_owned())
    }

    fn want_blobs(&mut self, ids: &[String]) -> Result<()> {
        self.ask(json!({"do": "wantBlobs", "ids": ids})).map(|_| ())
    }

    fn count_blobs(&mut self, ids: &[String]) -> Result<usize> {
        let count = self.ask(json!({"do": "countBlobs", "ids": ids}))?.as_u64().context("no number")?;
        Ok(usize::try_from(count)?)
    }

    fn push_blob(&mut self, id: &str) -> Result<()> {
        self.ask(json!({"do": "pushBlob", "blob": id})).map(|_| ())
    }
}

fn pattern(size: usize, seed: &str) -> Vec<u8> {
    seed.bytes().cycle().take(size).collect()
}

fn id_of(bytes: &[u8]) -> String {
    format!("&{}.sha256", STANDARD.encode(Sha256::digest(bytes)))
}

/// Where a blob's file lies, whoever stores it.
///
/// # Errors
/// `id` is no blob id.
pub fn file_of(dir: &Path, id: &str) -> Result<PathBuf> {
    let hash = STANDARD.decode(id.trim_start_matches('&').trim_end_matches(".sha256"))?;
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(dir.join("blobs/sha256").join(&hex[..2]).join(&hex[2..]))
}

/// Puts a blob where a peer finds it, whatever its size.
///
/// # Errors
/// The disk takes no more.
pub fn place(dir: &Path, size: usize, seed: &str) -> Result<String> {
    let bytes = pattern(size, seed);
    let id = id_of(&bytes);
    let file = file_of(dir, &id)?;
    fs::create_dir_all(file.parent().context("no directory")?)?;
    fs::write(file, bytes)?;
    Ok(id)
}

/// Waits until a peer has all of these blobs, and that their files hold them.
///
/// # Errors
/// It doesn't get them, or wrong ones.
pub fn arrive(to: &mut dyn BlobEnd, ids: &[String]) -> Result<()> {
    let arrived = wait_until("the blobs arrive", PATIENCE, || Ok(to.count_blobs(ids)? == ids.len()));
    arrived.with_context(|| {
        let absent = ids.iter().filter(|id| to.count_blobs(std::slice::from_ref(*id)).unwrap_or_default() == 0);
        format!("{:?} don't", absent.collect::<Vec<_>>())
    })?;
    for id in ids.iter().filter(|id| *id != EMPTY) {
        let bytes = fs::read(file_of(to.directory(), id)?)?;
        ensure!(id_of(&bytes) == *id, "the file of {id} holds something else");
    }
    Ok(())
}

fn world(kind: Kind) -> Result<(TempDir, String, JsPeer, SbotNode)> {
    let (key, world) = (network_key()?, tempfile::tempdir()?);
    let js = JsPeer::start(kind, &world.path().join("js"), &key, None)?;
    let ours = SbotNode::start(&world.path().join("sbot"), &key)?;
    Ok((world, key, js, ours))
}

fn connect(from: &mut dyn BlobEnd, to: &dyn BlobEnd) -> Result<()> {
    let address = to.address().to_owned();
    let mut failed = None;
    let connected = wait_until("the link is up", PATIENCE, || {
        failed = from.connect(&address).err();
        Ok(failed.is_none())
    });
    match (connected, failed) {
        (Err(late), Some(failed)) => Err(failed.context(late)),
        (connected, _) => connected.map(|_| ()),
    }
}

/// A JavaScript peer and our node get blobs from each other: a large one, a small one, none at all, many at once, one that
/// was wanted before, one that was pushed; and one that is too large they don't get.
///
/// # Errors
/// A blob doesn't arrive, or one does that must not.
pub fn both_ways(kind: Kind, ours_dials: bool) -> Result<()> {
    let (_world, _, mut js, mut ours) = world(kind)?;
    // Wanted before anybody has it, and before there is a link.
    let early = id_of(&pattern(3000, "early"));
    let [first, second]: [&mut dyn BlobEnd; 2] = if ours_dials { [&mut ours, &mut js] } else { [&mut js, &mut ours] };
    first.want_blobs(std::slice::from_ref(&early))?;
    connect(first, second)?;
    let late = id_of(&pattern(4000, "late"));
    second.want_blobs(std::slice::from_ref(&late))?;
    second.add_blob(3000, "early")?;
    second.add_blob(0, "")?;
    first.add_blob(4000, "late")?;
    arrive(first, &[early])?;
    arrive(second, &[late])?;

    for (from, to) in [(0, 1), (1, 0)] {
        let seed = format!("from {from}");
        let is_ours = ours_dials == (to == 0);
        let ends: [&mut dyn BlobEnd; 2] = [&mut *first, &mut *second];
        let mut ids = Vec::new();
        if is_ours {
            // ssb-blobs has what is empty only once it was added: `multiblob` compares it with an id without its sigil.
            ids.push(EMPTY.to_owned());
        }
        for size in [LARGEST, 1] {
            ids.push(ends[from].add_blob(size, &format!("{size} {seed}"))?);
        }
        for n in 0..200 {
            ids.push(ends[from].add_blob(10 + n, &format!("{n} {seed}"))?);
        }
        // What is too large is told of, and left.
        let too_large = place(ends[from].directory(), TOO_LARGE, &seed)?;
        ends[to].want_blobs(std::slice::from_ref(&too_large))?;
        ends[to].want_blobs(&ids)?;
        arrive(ends[to], &ids)?;
        ensure!(ends[to].count_blobs(&[too_large])? == 0, "a blob of more than 5 MB was fetched");
        let pushed = ends[from].add_blob(5000, &format!("pushed {seed}"))?;
        ends[from].push_blob(&pushed)?;
        arrive(ends[to], &[pushed])?;
    }
    Ok(())
}

/// A blob goes through a peer that lacks it, which takes it out of sympathy: a JavaScript peer between two of ours, and
/// ours between two of theirs.
///
/// # Errors
/// The blob doesn't arrive.
pub fn through_the_middle(kind: Kind) -> Result<()> {
    let (world, key, mut js, mut ours) = world(kind)?;
    let mut far = SbotNode::start(&world.path().join("far"), &key)?;
    connect(&mut ours, &js)?;
    connect(&mut far, &js)?;
    let id = far.add_blob(100_000, "far away")?;
    ours.want_blobs(std::slice::from_ref(&id))?;
    arrive(&mut ours, std::slice::from_ref(&id))?;
    arrive(&mut js, &[id])?;
    drop(far);

    let mut far = JsPeer::start(kind, &world.path().join("far-js"), &key, None)?;
    let early = id_of(&pattern(7000, "later"));
    js.want_blobs(std::slice::from_ref(&early))?;
    connect(&mut ours, &far)?;
    let id = far.add_blob(100_000, "farther")?;
    js.want_blobs(std::slice::from_ref(&id))?;
    arrive(&mut js, &[id])?;
    // Nobody has it when the want gets there.
    far.add_blob(7000, "later")?;
    arrive(&mut js, &[early])
}

/// The JavaScript peer from which our node fetches a blob ends in the middle: the rest comes from another one.
///
/// # Errors
/// The blob doesn't arrive, or all of it is fetched again.
pub fn resumed(kind: Kind) -> Result<()> {
    const SENT: usize = 1 << 20;
    let (world, key, mut js, mut ours) = world(kind)?;
    let id = js.add_blob(LARGEST, "resumed")?;
    js.ask(json!({"do": "stallBlobs", "bytes": SENT}))?;
    connect(&mut ours, &js)?;
    ours.want_blobs(std::slice::from_ref(&id))?;
    let tmp = world.path().join("sbot/blobs/tmp");
    let written = || -> Result<usize> {
        let files = fs::read_dir(&tmp)?.map(|file| Ok(file?.metadata()?.len() as usize));
        files.sum::<std::io::Result<usize>>().map_err(Into::into)
    };
    wait_until("some of the blob arrives", PATIENCE, || Ok(written()? >= SENT))?;
    ensure!(ours.count_blobs(std::slice::from_ref(&id))? == 0, "a part is shown as the whole");
    // It has no time to say goodbye.
    drop(js);
    let mut other = JsPeer::start(kind, &world.path().join("other"), &key, None)?;
    other.add_blob(LARGEST, "resumed")?;
    other.ask(json!({"do": "watchSlices"}))?;
    connect(&mut ours, &other)?;
    arrive(&mut ours, &[id])?;
    let slices = other.ask(json!({"do": "slices"}))?;
    let first = slices[0].as_u64().context("no slice was asked for")?;
    ensure!(first as usize >= SENT, "the slice begins at {first}");
    Ok(())
}

/// Our node is killed while a JavaScript peer fetches blobs from it, and starts again: the rest arrives.
///
/// # Errors
/// It doesn't.
pub fn killed_in_the_middle(kind: Kind) -> Result<()> {
    const COUNT: usize = 30;
    let (world, key, mut js, mut ours) = world(kind)?;
    let ids: Vec<String> =
        (0..COUNT).map(|n| ours.add_blob(LARGEST - n, &format!("{n} large"))).collect::<Result<_>>()?;
    js.want_blobs(&ids)?;
    connect(&mut js, &ours)?;
    wait_until("the first blobs arrive", PATIENCE, || Ok(js.count_blobs(&ids)? >= 1))?;
    // Dropping it kills it.
    drop(ours);
    let mut ours = SbotNode::start(&world.path().join("sbot"), &key)?;
    // ssb-server would dial the port that it knows.
    connect(&mut ours, &js)?;
    wait_until("the rest arrives", PATIENCE, || {
        // ssb-blobs takes note that we don't have a blob if a transfer of the former connection fails only now, and then
        // waits until it is asked again.
        js.want_blobs(&ids)?;
        thread::sleep(ASK_AGAIN);
        Ok(js.count_blobs(&ids)? == COUNT)
    })?;
    arrive(&mut js, &ids)
}
