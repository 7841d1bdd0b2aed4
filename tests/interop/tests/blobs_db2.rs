//! Blobs between our node and secret-stack 6 with ssb-db2 8 and ssb-blobs 2.0.

use anyhow::Result;
use sbot_interop::{Kind, blobs};

#[test]
fn blobs_go_both_ways_when_we_dial() -> Result<()> {
    blobs::both_ways(Kind::Db2, true)
}

#[test]
fn blobs_go_both_ways_when_they_dial() -> Result<()> {
    blobs::both_ways(Kind::Db2, false)
}

#[test]
fn a_blob_goes_through_a_peer_that_lacks_it() -> Result<()> {
    blobs::through_the_middle(Kind::Db2)
}

#[test]
fn the_rest_of_a_blob_comes_from_another_peer_when_one_ends_in_the_middle() -> Result<()> {
    blobs::resumed(Kind::Db2)
}

#[test]
fn what_they_were_fetching_when_we_were_killed_arrives_after_the_restart() -> Result<()> {
    blobs::killed_in_the_middle(Kind::Db2)
}
