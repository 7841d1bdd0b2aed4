//! Messages published while two peers are connected.

use anyhow::Result;
use sbot_interop::{Kind, live};

#[test]
fn live_messages_go_both_ways_with_ssb_server() -> Result<()> {
    live(Kind::Classic)
}

#[test]
fn live_messages_go_both_ways_with_ssb_server_without_ebt() -> Result<()> {
    live(Kind::ClassicWithoutEbt)
}

#[test]
fn live_messages_go_both_ways_with_the_db2_stack() -> Result<()> {
    live(Kind::Db2)
}
