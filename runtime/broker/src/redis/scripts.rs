//! The Lua scripts, put together at build time from the pieces in `lua/`.
//!
//! Each transition of jobs is one script, and so is each look at more than one key: Redis runs a script whole, with
//! nothing in between. A script reads first and writes when nothing is left that could go wrong, since Redis takes
//! nothing back.

use redis::Cmd;

/// A script, and the digest by which Redis knows it once it was loaded.
#[derive(Debug, Clone)]
pub(super) struct Script {
    pub(super) source: &'static str,
    pub(super) digest: String,
}

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, digest: redis::Script::new(source).get_hash().to_owned() }
    }

    /// A call of this script by its digest, as one that has the source in it. It, too, makes the server know the script.
    pub(super) fn with_source(&self, by_digest: &Cmd) -> Cmd {
        let mut by_source = redis::cmd("EVAL");
        by_source.arg(self.source);
        for argument in by_digest.args_iter().skip(2) {
            if let redis::Arg::Simple(bytes) = argument {
                by_source.arg(bytes);
            }
        }
        by_source
    }
}

/// The head line makes Redis refuse a script at its start, rather than in its midst, where it can't write, and hold it
/// to keys of one slot.
macro_rules! script {
    (writes: $($piece:literal)+) => { Script::new(script!("#!lua\n", $($piece)+)) };
    (reads: $($piece:literal)+) => { Script::new(script!("#!lua flags=no-writes\n", $($piece)+)) };
    ($head:literal, $($piece:literal)+) => {
        concat!($head, $(include_str!(concat!("lua/", $piece, ".lua"))),+)
    };
}

/// All scripts.
#[derive(Debug, Clone)]
pub(super) struct Scripts {
    pub(super) enqueue: Script,
    pub(super) lease: Script,
    pub(super) renew: Script,
    pub(super) settle: Script,
    pub(super) cancel: Script,
    pub(super) redrive: Script,
    pub(super) job: Script,
    pub(super) log: Script,
    pub(super) jobs: Script,
    pub(super) counts: Script,
    pub(super) state: Script,
    pub(super) usage: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            enqueue: script!(
                writes: "start" "order" "creation" "enqueue_plainly" "ready" "schedule" "create" "enqueue"
            ),
            lease: script!(
                writes: "start" "layout" "queues" "leasing" "lease_plainly"
                    "run" "order" "ready" "final" "state" "write_state" "days"
                    "lease"
            ),
            renew: script!(writes: "start" "layout" "run" "report" "renew"),
            settle: script!(
                writes: "start" "layout" "days" "account" "settlement" "settle_plainly"
                    "run" "order" "ready" "schedule" "creation" "create" "final" "report" "state" "write_state" "add" "usage"
                    "account_runs" "settle"
            ),
            cancel: script!(
                writes: "start" "layout" "run" "queues" "order" "ready" "schedule" "final" "cancel"
            ),
            redrive: script!(writes: "start" "layout" "run" "order" "ready" "schedule" "final" "redrive"),
            job: script!(reads: "start" "layout" "run" "order" "ready" "schedule" "record" "job"),
            log: script!(reads: "start" "log"),
            jobs: script!(reads: "start" "layout" "run" "order" "ready" "schedule" "final" "record" "jobs"),
            counts: script!(reads: "start" "layout" "run" "final" "counts"),
            state: script!(reads: "start" "state" "read_state"),
            usage: script!(reads: "start" "days" "account_days"),
        }
    }
}
