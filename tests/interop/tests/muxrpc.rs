//! mux-rpc against the reference: both sides offer methods of every type and call all of the other's.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use sbot_interop::script;
use sbot_rpc::{Body, Client, Limits, Peer, Registry, RpcError, Session};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Time for all that a test does.
const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    child: Child,
    port: u16,
}

impl Node {
    fn start() -> Result<Node> {
        let mut child = script("muxrpc.js")?.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let port = line.trim().strip_prefix("port ").with_context(|| format!("{line:?} instead of a port"))?.parse()?;
        Ok(Node { child, port })
    }

    async fn connect(&self, stopped: &Arc<AtomicUsize>) -> Result<Peer> {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        socket.set_nodelay(true)?;
        let (read, write) = socket.into_split();
        Ok(Session::spawn(read, write, registry(stopped), (), Limits::REMOTE))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Counts itself when it is dropped.
struct Stopped(Arc<AtomicUsize>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn body(value: &Value) -> Body {
    Body::Json(value.to_string().into())
}

fn value(body: &Body) -> Value {
    let text = || String::from_utf8_lossy(body.bytes()).into_owned();
    match body {
        Body::Json(json) => serde_json::from_slice(json).unwrap_or_else(|error| json!([error.to_string(), text()])),
        Body::String(_) => text().into(),
        Body::Binary(bytes) => json!({ "bytes": bytes.to_vec() }),
    }
}

fn registry(stopped: &Arc<AtomicUsize>) -> Arc<Registry<()>> {
    let stopped = Arc::clone(stopped);
    let methods = Registry::new()
        .sync(
            "hello",
            |call| async move { Ok(Body::String(format!("hello {}", call.args::<[String; 1]>()?[0]).into())) },
        )
        .asynchronous("fail", |_| async { Err(RpcError::new("it failed")) })
        .asynchronous("panic", |call| async move {
            assert!(call.args.is_empty(), "on purpose");
            Ok(Body::Binary(call.args))
        })
        .asynchronous("text", |_| async { Ok(Body::String("grüße".into())) })
        .asynchronous("empty", |_| async { Ok(Body::String("".into())) })
        .asynchronous("bytes", |_| async { Ok(Body::Binary(vec![0, 1, 255].into())) })
        .source("deep.er.count", |call, mut out| async move {
            let bodies = (0..call.args::<[u32; 1]>()?[0]).map(|number| body(&number.into())).collect();
            out.send_many(bodies).await.map_err(|error| RpcError::new(error.to_string()))
        })
        .source("endless", move |_, mut out| {
            let stopped = Stopped(Arc::clone(&stopped));
            async move {
                let _stopped = stopped;
                while out.send(body(&7.into())).await.is_ok() {}
                Ok(())
            }
        })
        .source("broken", |_, mut out| async move {
            let _ = out.send(body(&0.into())).await;
            Err(RpcError::new("it broke"))
        })
        .sink("swallow", |_, mut input| async move {
            let mut items = Vec::new();
            while let Some(item) = input.recv().await {
                items.push(value(&item.map_err(|error| RpcError::new(error.to_string()))?));
            }
            Ok(())
        })
        .duplex("echo", |_, mut input, mut out| async move {
            while let Some(Ok(item)) = input.recv().await {
                if out.send(item).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
        .authorise(|(), method, _| match method {
            "hidden" => Err("method:hidden is on list of disallowed methods".into()),
            _ => Ok(()),
        });
    let manifest = Body::Json(methods.manifest().into());
    Arc::new(methods.sync("manifest", move |_| std::future::ready(Ok(manifest.clone()))))
}

async fn collect(mut source: sbot_rpc::Source) -> Vec<Value> {
    let mut items = Vec::new();
    while let Some(item) = source.recv().await {
        items.push(item.map_or_else(|error| format!("error: {error}").into(), |item| value(&item)));
    }
    items
}

async fn call(peer: &Peer, method: &str, args: Value) -> Value {
    let answer = peer.call(method, &args).await;
    answer.map_or_else(|error| format!("error: {error}").into(), |body| value(&body))
}

/// Calls `method` until it answers `wanted`.
async fn until(peer: &Peer, method: &str, wanted: Value) {
    while call(peer, method, json!([])).await != wanted {
        tokio::task::yield_now().await;
    }
}

/// Waits until no more than `left` calls are open.
async fn calls_end(peer: &Peer, left: usize) {
    while peer.counters().open > left {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_reference_answers_all_our_calls() -> Result<()> {
    let node = Node::start()?;
    tokio::time::timeout(PATIENCE, async {
        let peer = node.connect(&Arc::default()).await?;
        assert_eq!(call(&peer, "hello", json!(["us"])).await, "hello us");
        assert_eq!(call(&peer, "same", json!([{"a": [1, "ü", null]}])).await, json!({"a": [1, "ü", null]}));
        assert_eq!(call(&peer, "fail", json!([])).await, "error: it failed");
        assert_eq!(call(&peer, "text", json!([])).await, "ünïcode 🦀".repeat(10_000));
        assert_eq!(call(&peer, "bytes", json!([])).await, json!({"bytes": [0, 1, 255]}));
        assert_eq!(call(&peer, "nothing", json!([])).await, false);
        assert_eq!(call(&peer, "missing", json!([])).await, "error: no async:missing");
        assert_eq!(call(&peer, "hidden", json!([])).await, "error: method:hidden is on list of disallowed methods");
        assert_eq!(collect(peer.source("deep.er.count", &[3]).await?).await, [0, 1, 2]);
        assert_eq!(collect(peer.source("deep.er.count", &[20_000]).await?).await.len(), 20_000);
        assert_eq!(collect(peer.source("broken", &[0]).await?).await, [json!(0), json!(1), "error: it broke".into()]);
        assert_eq!(collect(peer.source("missing", &[0]).await?).await, ["error: no source:missing"]);

        let mut endless = peer.source("endless", &[0]).await?;
        assert!(matches!(endless.recv().await, Some(Ok(_))));
        drop(endless);
        until(&peer, "stopped", json!(1)).await;

        let mut sink = peer.sink("swallow", &[0]).await?;
        sink.send_many(vec![body(&json!(1)), Body::String("two".into()), Body::Binary("three".into())]).await?;
        sink.end().await?;
        assert_eq!(call(&peer, "swallowed", json!([])).await, json!([1, "two", {"bytes": "dGhyZWU="}]));
        let mut picky = peer.sink("picky", &[0]).await?;
        while picky.send(body(&json!(1))).await.is_ok() {}
        assert_eq!(picky.end().await.unwrap_err().to_string(), "enough");

        let (mut sink, mut source) = peer.duplex("echo", &[0]).await?;
        for number in 0..1000 {
            sink.send(body(&json!(number))).await?;
            assert_eq!(value(&source.recv().await.context("an echo")??), number);
        }
        drop(sink);
        assert_eq!(collect(source).await, [Value::Null; 0]);
        let (_sink, source) = peer.duplex("shout", &[0]).await?;
        assert_eq!(collect(source).await, ["a", "b"]);
        drop(_sink);
        calls_end(&peer, 0).await;

        let client = Client::new(peer.clone()).await?;
        assert_eq!(client.manifest().kind("deep.er.count"), Some(sbot_rpc::Kind::Source));
        assert_eq!(client.call("echo", &[0]).await.unwrap_err().to_string(), "echo is of type duplex");
        Ok(())
    })
    .await?
}

#[tokio::test]
async fn we_answer_all_calls_of_the_reference() -> Result<()> {
    let node = Node::start()?;
    tokio::time::timeout(PATIENCE, async {
        let stopped = Arc::default();
        let peer = node.connect(&stopped).await?;
        let report = call(&peer, "report", json!([])).await;
        let wanted = json!({
            "manifest": {
                "hello": "sync", "fail": "async", "panic": "async", "text": "async", "empty": "async", "bytes": "async",
                "deep": {"er": {"count": "source"}}, "endless": "source", "broken": "source", "swallow": "sink",
                "echo": "duplex",
            },
            "hello": "hello node",
            "fail": "error: it failed",
            "panic": "error: panic: internal error",
            "text": "grüße",
            "empty": "",
            "bytes": {"bytes": "AAH/"},
            "count": [0, 1, 2],
            "none": [],
            "many": 50_000,
            "some": [7, 7, 7],
            "broken": [0, "error: it broke"],
            "swallow": null,
            "echo": [1, "two", {"three": [3]}, {"bytes": "Zm91cg=="}],
            "taken": [0, 1],
            "missing": "error: no async:missing,method",
            "wrong": "error: no async:echo",
            "missingSource": ["error: no source:missing,stream"],
            "missingDuplex": ["error: no duplex:missing,duplex"],
            "hidden": "error: method:hidden is on list of disallowed methods",
            "hiddenSource": ["error: method:hidden is on list of disallowed methods"],
        });
        for (name, wanted) in wanted.as_object().context("an object")? {
            assert_eq!(report.get(name).unwrap_or(&Value::Null), wanted, "{name} of {report}");
        }
        while stopped.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // The reference doesn't end its side of a duplex that was refused.
        calls_end(&peer, 1).await;
        Ok(())
    })
    .await?
}

#[tokio::test]
async fn goodbyes_are_understood_both_ways() -> Result<()> {
    let node = Node::start()?;
    tokio::time::timeout(PATIENCE, async {
        let stopped = Arc::default();
        let (first, second) = (node.connect(&stopped).await?, node.connect(&stopped).await?);
        assert_eq!(call(&first, "leave", json!([])).await, true);
        assert_eq!(first.closed().await, "the other side said goodbye");
        first.gone().await;
        until(&second, "closed", json!(1)).await;
        second.close("enough");
        second.gone().await;
        until(&node.connect(&stopped).await?, "closed", json!(2)).await;
        Ok(())
    })
    .await?
}
