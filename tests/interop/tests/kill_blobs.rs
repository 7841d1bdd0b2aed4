//! kill -9 at any moment while blobs come from a peer and from a client: no file that is seen as a blob is anything else, and
//! after the restart the rest comes.
//!
//! The moments are drawn from a seed, which a failure names; `SBOT_KILL_SEED` takes another. They are bytes on disk, not
//! times: so they fall into the work on fast machines and on slow ones.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sbot_interop::blobs::{BlobEnd, arrive, file_of};
use sbot_interop::{End, SbotNode, network_key};
use sbot_testbot::feeds::Draws;
use serde_json::json;
use sha2::{Digest, Sha256};

const KILLS: usize = 50;
/// Blobs at the peer. Each kill comes before this much more of them is there.
const BLOBS: usize = 40;
const SIZE: usize = 2_000_000;
/// Most bytes between two kills.
const STEP: usize = 2 * SIZE;
/// Longest wait for a moment: nothing may be left to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two looks.
const LOOK: Duration = Duration::from_micros(200);

/// Bytes of all files below `blobs`, and that those seen as blobs are what their names say.
fn check(dir: &Path, whole: bool) -> Result<usize> {
    let mut bytes = 0;
    for first in fs::read_dir(dir.join("blobs/sha256")).into_iter().flatten() {
        let first = first?;
        for file in fs::read_dir(first.path())? {
            let file = file?;
            bytes += file.metadata()?.len() as usize;
            if whole {
                let name = format!("{}{}", first.file_name().to_string_lossy(), file.file_name().to_string_lossy());
                let hash: String =
                    Sha256::digest(fs::read(file.path())?).iter().map(|byte| format!("{byte:02x}")).collect();
                ensure!(hash == name, "{name} holds {hash}, {} bytes", file.metadata()?.len());
            }
        }
    }
    for file in fs::read_dir(dir.join("blobs/tmp")).into_iter().flatten().flatten() {
        bytes += file.metadata().map_or(0, |meta| meta.len() as usize);
    }
    Ok(bytes)
}

#[test]
fn no_part_of_a_blob_is_ever_seen_however_often_the_node_is_killed() -> Result<()> {
    let seed = std::env::var("SBOT_KILL_SEED").map_or(Ok(1), |text| text.parse())?;
    let mut draws = Draws::new(seed);
    let (world, key) = (tempfile::tempdir()?, network_key()?);
    let mut peer = SbotNode::start(&world.path().join("peer"), &key)?;
    let ids: Vec<String> = (0..BLOBS).map(|n| peer.add_blob(SIZE, &format!("blob {n}"))).collect::<Result<_>>()?;
    let dir = world.path().join("killed");
    let (mut kept, mut in_the_middle) = (Vec::new(), 0);
    let mut node = SbotNode::start(&dir, &key)?;
    for kill in 0..KILLS {
        let context = || format!("seed {seed}, kill {kill}");
        // What a client is told is stored, is.
        if kill % 5 == 0 {
            kept.push(node.add_blob(1_000 + kill, "kept").with_context(context)?);
        }
        let until = check(&dir, false)? + draws.below(STEP);
        node.want_blobs(&ids)?;
        node.connect(&peer.address)?;
        let begin = Instant::now();
        while check(&dir, false).unwrap_or_default() < until && begin.elapsed() < PATIENCE {
            thread::sleep(LOOK);
        }
        // Dropping it kills it.
        drop(node);
        in_the_middle += usize::from(fs::read_dir(dir.join("blobs/tmp"))?.count() > 0);
        check(&dir, true).with_context(context)?;
        for id in &kept {
            ensure!(file_of(&dir, id)?.exists(), "{}: {id} is lost", context());
        }
        if kill % 10 == 9 {
            // so that something is left to come
            fs::remove_dir_all(dir.join("blobs/sha256"))?;
            kept.clear();
        }
        node = SbotNode::start(&dir, &key).with_context(context)?;
        ensure!(fs::read_dir(dir.join("blobs/tmp"))?.count() == 0, "{}: parts are left over", context());
    }
    println!("{KILLS} kills, {in_the_middle} of them in the middle of a blob");
    ensure!(in_the_middle > KILLS / 5, "only {in_the_middle} kills were in the middle of a blob");
    node.want_blobs(&ids)?;
    node.connect(&peer.address)?;
    arrive(&mut node, &ids)?;
    let hash = STANDARD.encode(Sha256::digest(b""));
    ensure!(node.call("blobs.has", json!([format!("&{hash}.sha256")]))? == json!(true), "the node answers");
    Ok(())
}
