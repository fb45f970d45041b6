//! Small, well-behaved handlers, each for one thing that a host must get right: failures, state, further jobs.

use std::time::Duration;

use sandhog_sdk::{
    Bytes, Context, JobId, NewJob, Progress, Result, Swapped, handler, info, permanent, retry_after,
    transient,
};
use serde::{Deserialize, Serialize};

/// How to fail.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Fail {
    /// So that the job is tried again by its retry policy.
    Transient {
        /// The first so many attempts fail; all of them, if not given.
        attempts: Option<u32>,
    },
    /// So that the job is tried again after a time.
    RetryAfter {
        /// The time, in milliseconds.
        ms: u64,
        /// The first so many attempts fail; all of them, if not given.
        attempts: Option<u32>,
    },
    /// For good.
    Permanent,
}

/// What to count.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// The state key of the counter.
    pub counter: String,
}

/// What to keep.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// The state key.
    pub key: String,
    /// For so many milliseconds.
    pub ms: u64,
}

/// What to swap.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// The state key.
    pub key: String,
    /// What must be there; nothing, if not given.
    pub expected: Option<i64>,
    /// What shall be there.
    pub value: i64,
    /// How often, one after the other.
    #[serde(default = "once")]
    pub times: u64,
}

fn once() -> u64 {
    1
}

/// What a swap came to.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct SwapDone {
    /// Whether the value was the expected one.
    pub swapped: bool,
}

/// What to enqueue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spawn {
    /// The kind of the jobs.
    pub kind: String,
    /// How many.
    pub count: u32,
    /// The payload of each, as text.
    #[serde(default)]
    pub payload: String,
    /// Where they go, if not to the queue of the kind's plugin.
    pub queue: Option<String>,
    /// With it, each has a unique key of this prefix and its number.
    pub unique_prefix: Option<String>,
}

/// What to leave everywhere.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// The text.
    pub text: String,
    /// Whether to fail with it in the end.
    #[serde(default)]
    pub fail: bool,
}

/// Returns its payload: the least a job can do.
#[handler(kind = "hog.echo")]
pub fn echo(payload: Bytes) -> Result<Bytes> {
    Ok(payload)
}

/// Fails as it is told to, and returns the attempt that succeeded.
#[handler(kind = "hog.fail")]
pub fn fail(ctx: &Context, input: Fail) -> Result<u32> {
    let attempt = ctx.attempt();
    let fails = |attempts: Option<u32>| attempts.is_none_or(|attempts| attempt <= attempts);
    match input {
        Fail::Transient { attempts } if fails(attempts) => {
            Err(transient(format_args!("attempt {attempt} was told to fail")))
        }
        Fail::RetryAfter { ms, attempts } if fails(attempts) => Err(retry_after(
            Duration::from_millis(ms),
            format_args!("attempt {attempt} was told to come later"),
        )),
        Fail::Permanent => Err(permanent("was told to fail for good")),
        Fail::Transient { .. } | Fail::RetryAfter { .. } => Ok(attempt),
    }
}

/// Adds 1 to a counter in the state, once.
#[handler(kind = "hog.count")]
pub fn count(ctx: &Context, input: Count) -> Result<()> {
    Ok(ctx.state().increment(&input.counter, 1)?)
}

/// Sets a state key for a time.
#[handler(kind = "hog.keep")]
pub fn keep(ctx: &Context, input: Keep) -> Result<()> {
    Ok(ctx.state().set_for(&input.key, &true, Duration::from_millis(input.ms))?)
}

/// Compares and sets a number in the state.
#[handler(kind = "hog.swap")]
pub fn swap(ctx: &Context, input: Swap) -> Result<SwapDone> {
    let mut done = SwapDone { swapped: false };
    for _ in 0..input.times {
        let swapped = ctx.state().compare_and_set(&input.key, input.expected.as_ref(), &input.value)?;
        done.swapped = swapped == Swapped::Yes;
    }
    Ok(done)
}

/// Leaves a text wherever a handler can: in its state, log, progress, a further job and its output.
#[handler(kind = "hog.note")]
pub fn note(ctx: &Context, input: Note) -> Result<String> {
    let Note { text, fail } = input;
    info!(ctx, "{text}", text = text);
    ctx.progress(Progress::of(1, 1).message(&text));
    ctx.state().set("note", &text)?;
    ctx.enqueue(NewJob::new("hog.echo", &text))?;
    if fail { Err(permanent(text)) } else { Ok(text) }
}

/// Enqueues jobs, and returns their ids.
#[handler(kind = "hog.spawn")]
pub fn spawn(ctx: &Context, input: Spawn) -> Result<Vec<String>> {
    let payload = Bytes(input.payload.into_bytes());
    let mut ids = Vec::new();
    for number in 0..input.count {
        let mut job = NewJob::new(&input.kind, &payload);
        if let Some(queue) = &input.queue {
            job = job.queue(queue);
        }
        if let Some(prefix) = &input.unique_prefix {
            job = job.unique_key(format!("{prefix}{number}"));
        }
        ids.push(ctx.enqueue(job)?);
    }
    Ok(ids.iter().map(JobId::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_sdk::FakeHost;

    #[test]
    fn an_echo_is_its_payload() {
        let payload = b"\x00no json\xff";
        assert_eq!(FakeHost::new().run_payload::<echo>(payload).result, Ok(payload.to_vec()));
    }

    #[test]
    fn a_note_is_left_everywhere_unless_it_fails() {
        let run = FakeHost::new().run_payload::<note>(r#"{"text": "x"}"#);
        assert_eq!(run.result, Ok(b"\"x\"".to_vec()));
        assert_eq!((run.logs[0].field("text"), run.enqueued.len()), (Some("x"), 1));
        let run = FakeHost::new().run_payload::<note>(r#"{"text": "x", "fail": true}"#);
        assert_eq!(run.result, Err(permanent("x")));
    }

    #[test]
    fn failing_stops_after_the_attempts_it_was_told() {
        let at = |attempt, payload| FakeHost::new().attempt(attempt).run_payload::<fail>(payload).result;
        let twice = r#"{"transient": {"attempts": 2}}"#;
        assert_eq!(at(2, twice), Err(transient("attempt 2 was told to fail")));
        assert_eq!(at(3, twice), Ok(b"3".to_vec()));
        let later = r#"{"retry-after": {"ms": 500, "attempts": 1}}"#;
        let wait = Duration::from_millis(500);
        assert_eq!(at(1, later), Err(retry_after(wait, "attempt 1 was told to come later")));
        assert_eq!(at(2, later), Ok(b"2".to_vec()));
    }

    #[test]
    fn failing_without_a_number_never_stops() {
        let run = FakeHost::new().attempt(9).run_payload::<fail>(r#"{"transient": {}}"#);
        assert_eq!(run.result, Err(transient("attempt 9 was told to fail")));
        let run = FakeHost::new().attempt(9).run_payload::<fail>(r#""permanent""#);
        assert_eq!(run.result, Err(permanent("was told to fail for good")));
    }

    #[test]
    fn each_run_counts_once() {
        let mut host = FakeHost::new();
        for _ in 0..3 {
            assert_eq!(host.run_payload::<count>(r#"{"counter": "done"}"#).result, Ok(b"null".to_vec()));
        }
        assert_eq!(host.stored("done"), Some(3));
    }

    #[test]
    fn what_is_kept_is_in_the_state() {
        let mut host = FakeHost::new();
        assert_eq!(host.run_payload::<keep>(r#"{"key": "x", "ms": 500}"#).result, Ok(b"null".to_vec()));
        assert_eq!(host.stored("x"), Some(true));
    }

    #[test]
    fn a_swap_takes_place_only_from_the_expected_value() {
        let mut host = FakeHost::new();
        let mut swap = |payload| host.run_payload::<swap>(payload).result;
        let (yes, no) = (Ok(br#"{"swapped":true}"#.to_vec()), Ok(br#"{"swapped":false}"#.to_vec()));
        assert_eq!(swap(r#"{"key": "x", "value": 1}"#), yes);
        assert_eq!(swap(r#"{"key": "x", "value": 2}"#), no);
        assert_eq!(swap(r#"{"key": "x", "expected": 1, "value": 2}"#), yes);
        assert_eq!(host.stored("x"), Some(2));
    }

    #[test]
    fn spawning_enqueues_each_job_once() {
        let mut host = FakeHost::new();
        let payload =
            r#"{"kind": "hog.echo", "count": 2, "payload": "hi", "queue": "slow", "unique_prefix": "u"}"#;
        let run = host.run_payload::<spawn>(payload);
        let ids: Vec<_> = run.enqueued.iter().map(|job| job.id.as_str()).collect();
        assert_eq!(run.result, Ok(format!("[{:?},{:?}]", ids[0], ids[1]).into_bytes()));
        let keys: Vec<_> = run.enqueued.iter().map(|job| job.unique_key.as_deref()).collect();
        assert_eq!(keys, [Some("u0"), Some("u1")]);
        assert!(run.enqueued.iter().all(|job| job.kind == "hog.echo" && job.payload == b"hi"));
        assert!(run.enqueued.iter().all(|job| job.queue.as_deref() == Some("slow")));
    }
}
