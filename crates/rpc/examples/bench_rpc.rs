//! Calls and stream items a second between two sessions over a unix socket pair, all on one runtime.

use std::sync::Arc;
use std::time::Instant;

use sbot_rpc::{Body, Limits, Registry, Session};

const ITEMS: usize = 2_000_000;
const ITEM_BYTES: usize = 600;
const BATCH: usize = 256;
const CALLS: usize = 20_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let item = Body::Json(vec![b'1'; ITEM_BYTES].into());
    let registry = Registry::<()>::new().asynchronous("whoami", |_| async { Ok(Body::Json("1".into())) }).source(
        "stream",
        move |_, mut out| {
            let item = item.clone();
            async move {
                for _ in 0..ITEMS / BATCH {
                    if out.send_many(vec![item.clone(); BATCH]).await.is_err() {
                        break;
                    }
                }
                Ok(())
            }
        },
    );
    let (here, there) = tokio::net::UnixStream::pair()?;
    let (read, write) = here.into_split();
    let _server = Session::spawn(read, write, Arc::new(registry), (), Limits::LOCAL);
    let (read, write) = there.into_split();
    let peer = Session::spawn(read, write, Arc::new(Registry::<()>::new()), (), Limits::LOCAL);

    let start = Instant::now();
    for _ in 0..CALLS {
        peer.call("whoami", &[(); 0]).await?;
    }
    println!("{:>12.0} calls/s, one after another", CALLS as f64 / start.elapsed().as_secs_f64());

    let start = Instant::now();
    let mut source = peer.source("stream", &[(); 0]).await?;
    let (mut items, mut count) = (Vec::new(), 0);
    while source.recv_many(&mut items).await? > 0 {
        count += items.len();
        items.clear();
    }
    println!("{:>12.0} items/s of {ITEM_BYTES} bytes", count as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
