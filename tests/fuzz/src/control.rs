//! The daemon's socket: whatever comes in, nothing is done that wasn't asked for, and what isn't done is a problem.

use std::sync::{Arc, OnceLock};

use axum::Router;
use sandhog_api::{Problem, Slug};
use sandhog_broker::SystemClock;
use sandhog_broker::memory::Memory;
use sandhog_daemon::http::{BODY_MAX, HEAD_MAX, router, serve_connection};
use sandhog_daemon::service::{Caller, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

use crate::Target;

/// What somebody sends who has opened the socket.
pub const TARGET: Target = Target { name: "control", run, seeds, words: WORDS };

const WORDS: &[&str] = &[
    "GET ",
    "POST ",
    "OPTIONS * ",
    "/v1/plugins",
    "/v1/deploy-events",
    "/v1/reload",
    "/v1/rollback",
    "?tenant=acme",
    "/../",
    "%00",
    " HTTP/1.1\r\n",
    " HTTP/2.0\r\n",
    "\r\n",
    "\r\n\r\n",
    "host: localhost\r\n",
    "content-length: 20\r\n",
    "content-length: -1\r\n",
    "content-length: 99999999999999999999\r\n",
    "content-type: application/json\r\n",
    "transfer-encoding: chunked\r\n",
    "expect: 100-continue\r\n",
    "connection: upgrade\r\n",
    "0\r\n\r\n",
    "ffffffff\r\n",
    "{",
    "}",
    "\"plugin\":",
    "\"acme/hog\"",
    "\"to\":",
    "null",
    "\u{0}",
    "\u{feff}",
    "ä",
];

fn seeds() -> Vec<Vec<u8>> {
    let rollback = |body: &str| {
        let head = "POST /v1/rollback HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
        format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let chunked = "POST /v1/rollback HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                   transfer-encoding: chunked\r\n\r\n12\r\n{\"plugin\": \"a/hog\"\r\n1\r\n}\r\n0\r\n\r\n";
    vec![
        b"GET /v1/plugins HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        b"GET /v1/deploy-events HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n".to_vec(),
        b"POST /v1/reload HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n".to_vec(),
        rollback("{\"plugin\": \"acme/hog\", \"to\": \"00ff\"}"),
        rollback("{\"plugin\": \"h\u{f6}g\\u0001\"}"),
        rollback(&"[".repeat(BODY_MAX + 1)),
        chunked.as_bytes().to_vec(),
        [b"GET /".as_slice(), &b"a".repeat(HEAD_MAX), b" HTTP/1.1\r\n\r\n"].concat(),
        b"{\"ask\": \"reload\"}\n".to_vec(),
    ]
}

struct Bed {
    runtime: Runtime,
    router: Router,
}

fn run(input: &[u8]) {
    static BED: OnceLock<Bed> = OnceLock::new();
    let Bed { runtime, router } = BED.get_or_init(bed);
    let answer = runtime.block_on(said(router.clone(), input));
    // Who breaks off, or speaks something else, may hear nothing.
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        assert!(answer.is_empty(), "half an answer: {answer}");
        return;
    };
    let status =
        head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    let status: u16 = status.unwrap_or_else(|| panic!("no status: {head}"));
    assert!(status < 500 || status == 503, "whatever is asked, nothing breaks: {head}");
    if head.contains("application/problem+json") && !body.is_empty() {
        let problem: Problem = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"));
        assert_eq!(problem.status, status);
        assert_ne!(problem.slug, Slug::Other);
    }
}

/// Everything that comes back if these bytes are sent, and nothing after them.
async fn said(router: Router, input: &[u8]) -> String {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let serving = serve_connection(theirs, router, Some(Caller::operator()));
    let (mut read, mut write) = tokio::io::split(ours);
    let send = async {
        // It may hang up early.
        write.write_all(input).await.ok();
        write.shutdown().await.ok();
    };
    let mut answer = Vec::new();
    let receive = async { read.read_to_end(&mut answer).await };
    let (_, (), received) = tokio::join!(serving, send, receive);
    received.expect("what was answered can be read");
    String::from_utf8_lossy(&answer).into_owned()
}

fn bed() -> Bed {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sandhog.toml");
    std::fs::write(&file, "").expect("ours");
    let config = sandhog_config::load_for_broker(&file).expect("an empty file is right");
    let broker = Arc::new(Memory::new(Arc::new(SystemClock)));
    let router = router(Service::without_daemon(Arc::new(config), broker));
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    Bed { runtime, router }
}
