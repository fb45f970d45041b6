//! A handler whose runs can be watched from outside, and whose effects say which run they are of: what tests of faults
//! run.
//!
//! | kind | input | what it does |
//! |---|---|---|
//! | `witness.run` | `{"hold": "100", "children": 2, "sleep": 0, "failures": 1, "end": "return"}` | shows itself, leaves every kind of effect, ends as it is told to |
//! | `witness.child` | `{"parent": "…", "number": 0, "run": "…"}` | counts itself |
//!
//! The variable `WITNESS` says where somebody watches: `127.0.0.1:4000/name`. Each run asks there for
//! `/name/TENANT/JOB/ATTEMPT/HOLD`, and is under way for as long as the answer takes. Its first line, which comes at once,
//! is the run's own name; all that the run leaves behind bears it.

#![cfg(target_family = "wasm")]

mod watched;

use std::time::Duration;

use sandhog_sdk::{Context, NewJob, OrFail, Progress, Result, handler, info, permanent, transient};
use serde::{Deserialize, Serialize};

use watched::Watched;

/// What a run is to do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Handed to whoever watches: how long the answer is to take.
    pub hold: String,
    /// How many jobs to enqueue.
    pub children: u32,
    /// How long to wait in the host beside that, in milliseconds.
    pub sleep: u64,
    /// So many attempts fail first.
    pub failures: u32,
    /// How the one after those ends.
    pub end: End,
}

/// How to end.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// With a result.
    Return,
    /// With a failure for good.
    Fail,
}

/// Whose child a job is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Child {
    /// The job that enqueued it.
    pub parent: String,
    /// Which of its children it is.
    pub number: u32,
    /// The run that enqueued it.
    pub run: String,
}

/// Leaves one of each effect, and returns its own name.
#[handler(kind = "witness.run")]
pub fn run(ctx: &Context, input: Run) -> Result<String> {
    let place = std::env::var("WITNESS").or_permanent("look where somebody watches")?;
    let (job, state) = (ctx.job_id(), ctx.state());
    let path = format!("{}/{job}/{}/{}", ctx.tenant(), ctx.attempt(), input.hold);
    let (name, watched) = Watched::begin(&place, &path).map_err(transient)?;

    info!(ctx, "begun", run = name);
    ctx.progress(Progress::of(1, 2).message(&name));
    state.increment("runs", 1)?;
    state.increment(&format!("runs/{job}"), 1)?;
    state.set(&format!("run/{job}"), &name)?;
    for number in 0..input.children {
        let child = Child { parent: job.to_string(), number, run: name.clone() };
        ctx.enqueue(NewJob::new("witness.child", &child))?;
    }
    std::thread::sleep(Duration::from_millis(input.sleep));
    watched.end().map_err(transient)?;

    ctx.progress(Progress::of(2, 2).message(&name));
    if ctx.attempt() <= input.failures {
        return Err(transient("was told to fail"));
    }
    match input.end {
        End::Return => Ok(name),
        End::Fail => Err(permanent("was told to fail for good")),
    }
}

/// Counts itself, and returns the run that it comes from.
#[handler(kind = "witness.child")]
pub fn child(ctx: &Context, input: Child) -> Result<String> {
    let Child { parent, number, run } = input;
    ctx.state().increment("children", 1)?;
    ctx.state().increment(&format!("child/{parent}/{number}"), 1)?;
    Ok(run)
}

sandhog_sdk::export!(child, run);
