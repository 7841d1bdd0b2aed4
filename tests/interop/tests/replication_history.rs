//! 100,000 messages of 500 feeds between our node and ssb-server 16 without EBT, by createHistoryStream.

use anyhow::Result;
use sbot_interop::{Kind, from_js, to_js};

#[test]
fn all_feeds_come_from_ssb_server_without_ebt_to_us() -> Result<()> {
    from_js(Kind::ClassicWithoutEbt)
}

#[test]
fn all_feeds_go_from_us_to_ssb_server_without_ebt() -> Result<()> {
    to_js(Kind::ClassicWithoutEbt)
}
