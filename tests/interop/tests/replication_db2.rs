//! 100,000 messages of 500 feeds between our node and secret-stack 6 with ssb-db2 8 and ssb-ebt 9, by EBT.

use anyhow::Result;
use sbot_interop::{Kind, from_js, to_js};

#[test]
fn all_feeds_come_from_the_db2_stack_to_us() -> Result<()> {
    from_js(Kind::Db2)
}

#[test]
fn all_feeds_go_from_us_to_the_db2_stack() -> Result<()> {
    to_js(Kind::Db2)
}
