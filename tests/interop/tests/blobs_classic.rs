//! Blobs between our node and ssb-server 16 (ssb-blobs 1.2).

use anyhow::Result;
use sbot_interop::{Kind, blobs};

#[test]
fn blobs_go_both_ways_when_we_dial() -> Result<()> {
    blobs::both_ways(Kind::Classic, true)
}

#[test]
fn blobs_go_both_ways_when_they_dial() -> Result<()> {
    blobs::both_ways(Kind::Classic, false)
}

#[test]
fn a_blob_goes_through_a_peer_that_lacks_it() -> Result<()> {
    blobs::through_the_middle(Kind::Classic)
}

#[test]
fn the_rest_of_a_blob_comes_from_another_peer_when_one_ends_in_the_middle() -> Result<()> {
    blobs::resumed(Kind::Classic)
}

#[test]
fn what_they_were_fetching_when_we_were_killed_arrives_after_the_restart() -> Result<()> {
    blobs::killed_in_the_middle(Kind::Classic)
}
