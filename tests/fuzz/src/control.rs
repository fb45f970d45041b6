//! The control socket: whatever comes in, each request line is read or refused, and the answer is one line.

use std::sync::OnceLock;

use sandhog_api::{Request, line};
use sandhog_daemon::control::{NoRequest, REQUEST_MAX, read_request};
use tokio::runtime::{Builder, Runtime};

use crate::Target;

/// What somebody sends who has opened the socket.
pub const TARGET: Target = Target { name: "control", run, seeds, words: WORDS };

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\n",
    "\r\n",
    "\\u0000",
    "\\ud800",
    "\u{0}",
    "\u{feff}",
    "ä",
    "😀",
    "null",
    "true",
    "-1",
    "1e999",
    "\"ask\":",
    "\"reload\"",
    "\"roll-back\"",
    "\"plugins\"",
    "\"events\"",
    "\"plugin\":",
    "\"acme/hog\"",
    "\"to\":",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "{\"ask\":{\"ask\":{\"ask\":{\"ask\":{\"ask\":",
];

fn seeds() -> Vec<Vec<u8>> {
    let requests = [
        Request::Reload,
        Request::Plugins,
        Request::Events,
        Request::RollBack { plugin: "acme/hog".into(), to: None },
        Request::RollBack { plugin: "hög\u{1}\"".into(), to: Some("00ff".into()) },
    ];
    let mut seeds: Vec<Vec<u8>> = requests.iter().map(written).collect();
    let spaces = vec![b' '; usize::try_from(REQUEST_MAX).expect("it is small") - 8];
    seeds.push([spaces.as_slice(), b"{\"ask\":\"reload\"}\n"].concat());
    seeds.push([b"{\"ask\":\"reload\"}", spaces.as_slice(), b"\n"].concat());
    seeds.push(b"[".repeat(10_000));
    seeds
}

fn run(input: &[u8]) {
    let first = input.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
    match read(input) {
        Ok(request) => {
            assert!(!is_too_long(first), "a line of {} bytes is a request", first.len());
            // A daemon of today and a command of today mean the same by it.
            let again = written(&request);
            let same = read(&again).is_ok_and(|read| read == request);
            assert!(same || is_too_long(&again), "it is another when it is sent again: {request:?}");
        }
        Err(refusal) => {
            let answer = line(&refusal.reply()).expect("a refusal can be written");
            let breaks = answer.iter().filter(|byte| **byte == b'\n').count();
            assert!(
                breaks == 1 && answer.ends_with(b"\n"),
                "an answer is one line: {}",
                answer.escape_ascii()
            );
        }
    }
}

fn read(input: &[u8]) -> Result<Request, NoRequest> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Builder::new_current_thread().build().expect("a runtime"));
    runtime.block_on(read_request(input)).expect("bytes that are there can be read")
}

fn written(request: &Request) -> Vec<u8> {
    line(request).expect("a request can be written")
}

fn is_too_long(line: &[u8]) -> bool {
    line.len() as u64 > REQUEST_MAX
}
