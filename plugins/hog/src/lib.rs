//! Handlers that misbehave when told to, and some that do as little as can be: what tests and the demo run.
//!
//! | kind | input | what it does |
//! |---|---|---|
//! | `hog.spin` | `{"rounds": 1000}`, or `{}` for ever | uses the CPU |
//! | `hog.allocate` | `{"bytes": 1000000}`, or `{}` without end | takes memory and touches it |
//! | `hog.recurse` | `{"depth": 1000}`, or `{}` without end | uses the stack |
//! | `hog.panic` | `{"message": "…"}` | panics |
//! | `hog.output` | `{"bytes": 20000000}` | returns so much garbage |
//! | `hog.log` | `{"lines": 100}`, or `{}` without end | writes log lines |
//! | `hog.sleep` | `{"ms": 500}` | waits, using no CPU |
//! | `hog.fail` | `{"transient": {"attempts": 2}}`, `{"retry-after": {"ms": 500, "attempts": 1}}`, `"permanent"` | fails, the first so many attempts or always |
//! | `hog.echo` | any bytes | returns them |
//! | `hog.count` | `{"counter": "done"}` | adds 1 to a state counter |
//! | `hog.keep` | `{"key": "x", "ms": 500}` | sets a state key for a time |
//! | `hog.swap` | `{"key": "x", "expected": null, "value": 1}` | compares and sets |
//! | `hog.note` | `{"text": "…", "fail": false}` | leaves the text in state, log, progress, a further job and its output |
//! | `hog.secret` | `{"name": "TOKEN"}` | returns how long a secret is, or why it can't be had |
//! | `hog.read` | `{"path": "/in/a"}` | returns what is in a file |
//! | `hog.remember` | `null` | counts its calls in a global, and returns the count |
//! | `hog.write` | `{"path": "/data/x", "bytes": 1000}` | writes a file |
//! | `hog.cat` | `{"path": "/data/x"}` | returns what is in a file, as it is |
//! | `hog.list` | `{"path": "/data", "times": 10}` | lists a directory again and again, and returns its names |
//! | `hog.open` | `{"path": "/data/x", "times": 100}` | opens a file and keeps it open |
//! | `hog.fetch` | `{"url": "https://api.acme.example/"}` | sends a request, follows redirects, returns status and body |
//! | `hog.exchange` | `{"url": "…", "method": "POST", "send": 1000, "announced": true, "times": 10}` | sends requests with bodies, returns what came of the last |
//! | `hog.connect` | nothing | asks for a socket |
//! | `hog.tell` | `{"secret": "TOKEN", "aloud": true}` | tells a secret: in log, stdout and progress, or as its failure |
//! | `hog.clocks` | nothing | returns what the clocks say |
//! | `hog.play` | `{"attempts": [[{"get": "x"}]]}` | plays the steps of a host scenario, see `sdk/scenarios` |
//! | `hog.spawn` | `{"kind": "hog.echo", "count": 10, "payload": …}` | enqueues jobs |

mod ask;
mod effects;
mod misbehave;
mod reach;
mod requests;
mod scenario;

pub use ask::{read, remember, secret};
pub use effects::{count, echo, fail, keep, note, spawn, swap};
pub use misbehave::{allocate, log_lines, output, panics, recurse, sleep, spin};
pub use reach::{cat, clocks, connect, fetch, list, open, tell, write};
pub use requests::exchange;
pub use scenario::play;

sandhog_sdk::export!(
    allocate, cat, clocks, connect, count, echo, exchange, fail, fetch, keep, list, log_lines, note, open,
    output, panics, play, read, recurse, remember, secret, sleep, spawn, spin, swap, tell, write
);
