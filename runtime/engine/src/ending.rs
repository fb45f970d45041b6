//! Outcomes: how a run ended, in the words of core. The one place that knows what wasmtime's errors mean.

use std::fmt::{self, Write as _};

use sandhog_core::budget::{Budget, Bytes};
use sandhog_core::id::{DownstreamName, FailureCode};
use sandhog_core::outcome::{Limit, Outcome, PutOff, StopReason};
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::imports::{Failure, RunState, cut};
use crate::run_log::{Remark, RunLog};
use crate::wasi::{explain_full, is_full};

/// Result that a handler returned.
pub(crate) type Returned = Result<Vec<u8>, Failure>;

/// Marker of an error: the instance of a run couldn't be made. Start functions are part of that, so it may still be the guest's
/// fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoInstance;

impl fmt::Display for NoInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no instance could be made")
    }
}

/// Maximum length that is kept of a guest's message about its failure, and of the description of a trap, in bytes.
const MESSAGE_MAX: usize = 4096;

/// Returns the outcome of a run that was stopped from outside.
pub(crate) fn stopped(reason: StopReason, budget: &Budget) -> Outcome {
    match reason {
        StopReason::Deadline => exceeded(Limit::Time, budget),
        StopReason::Cancelled | StopReason::Drained | StopReason::LeaseLost => Outcome::Aborted(reason),
    }
}

/// Returns the outcome of a run that came to its end, with this much fuel left by instructions.
pub(crate) fn outcome(ended: wasmtime::Result<Returned>, left: u64, mut state: RunState) -> Outcome {
    match ended {
        Ok(returned) => {
            let over = state.meter.check(left).is_err().then(|| state.meter.ended()).flatten();
            match over {
                Some(limit) => exceeded(limit, state.budget()),
                None => of_returned(returned, state),
            }
        }
        Err(error) => of_error(&error, &state),
    }
}

/// Returns the message that a handler gave for its failure.
pub(crate) fn said_by(failure: &Failure) -> &str {
    match failure {
        Failure::Transient { message, .. } | Failure::Permanent(message) => message,
        Failure::Snoozed(..) | Failure::RateLimited(..) | Failure::Unavailable(..) => "",
    }
}

/// Returns the code of a failure if it is one. The log is told of one that is not: there is no way left to tell the handler.
fn code_of(code: Option<String>, log: &RunLog) -> Option<FailureCode> {
    FailureCode::parse(&code?)
        .inspect_err(|invalid| log.remark(Remark::FailureCode, || format!("{invalid}; it counts as none")))
        .ok()
}

/// Returns the downstream that a handler names, if that is a name. The log is told of one that is not.
fn downstream_of(name: &str, log: &RunLog) -> Option<DownstreamName> {
    DownstreamName::parse(name)
        .inspect_err(|invalid| log.remark(Remark::Downstream, || format!("{invalid}; it counts as none")))
        .ok()
}

fn exceeded(limit: Limit, budget: &Budget) -> Outcome {
    Outcome::Exceeded { limit, message: limit.explain(budget) }
}

fn of_returned(returned: Returned, state: RunState) -> Outcome {
    let refused = entries_refused(&state).filter(|_| returned.is_err());
    if let Some(limit) = refused {
        // The handler was told which limit it hit, and gave up. To try again would end the same.
        return exceeded(limit, state.budget());
    }
    let said = |message| cut(state.log.redacted(message), MESSAGE_MAX);
    match returned {
        Ok(output) if Bytes::of(output.len()) > state.budget().output => {
            exceeded(Limit::Output, state.budget())
        }
        Ok(output) => Outcome::Returned { output, effects: state.held.into_effects() },
        Err(Failure::Transient { message, code, retry_after }) => {
            let code = code_of(code, &state.log);
            Outcome::FailedTransiently { message: said(message), code, retry_after }
        }
        Err(Failure::Permanent(message)) => Outcome::FailedPermanently { message: said(message) },
        Err(Failure::Snoozed(after)) => Outcome::PutOff { why: PutOff::Snoozed, after },
        Err(Failure::RateLimited(name, after)) => {
            let name = name.and_then(|name| downstream_of(&name, &state.log));
            Outcome::PutOff { why: PutOff::RateLimited(name), after }
        }
        Err(Failure::Unavailable(name, after)) => {
            Outcome::PutOff { why: PutOff::Unavailable(downstream_of(&name, &state.log)), after }
        }
    }
}

/// Returns the limit on entries of the effects for which one was refused. `None` if none was.
fn entries_refused(state: &RunState) -> Option<Limit> {
    state.meter.refused().filter(|limit| matches!(limit, Limit::Enqueues | Limit::StateWrites))
}

/// Returns the outcome of a run that ended with an error. The order matters. A stop from outside comes first, then the limit
/// that is on record; a growth that was refused, say, shows as whatever trap the guest made of it.
fn of_error(error: &wasmtime::Error, state: &RunState) -> Outcome {
    let budget = state.budget();
    if let Some(reason) = state.abort.stopped() {
        return stopped(reason, budget);
    }
    if let Some(limit) = on_record(state).or_else(|| shown_by(error)) {
        return exceeded(limit, budget);
    }
    if is_of_the_host(error) {
        let knob = if error.is::<PoolConcurrencyLimitError>() { "; raise engine.concurrency" } else { "" };
        return Outcome::HostFault { message: format!("{error:#}{knob}") };
    }
    let mut message = describe(error);
    if is_full(error) {
        message = format!("{}\n{message}", explain_full(budget));
    }
    Outcome::Trapped { message: state.log.redacted(message) }
}

/// Whether there was no instance, and that for no fault of its code: the component's needs were checked when it was loaded, so
/// the machine couldn't give them.
fn is_of_the_host(error: &wasmtime::Error) -> bool {
    error.is::<NoInstance>() && !error.is::<Trap>() && !error.is::<WasmBacktrace>()
}

fn on_record(state: &RunState) -> Option<Limit> {
    let log = || state.log.is_without_end().then_some(Limit::Log);
    state.meter.ended().or_else(log).or_else(|| state.meter.refused())
}

fn shown_by(error: &wasmtime::Error) -> Option<Limit> {
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Some(Limit::Fuel),
        Some(Trap::StackOverflow) => Some(Limit::Stack),
        _ if is_too_much_returned(error) => Some(Limit::Output),
        _ if is_too_many_instances(error) => Some(Limit::Instances),
        _ => None,
    }
}

/// Whether the handler returned more than the host takes over. Wasmtime has no type for that error; a test holds the
/// words. The same error with a backtrace is of a call that the guest made.
fn is_too_much_returned(error: &wasmtime::Error) -> bool {
    !error.is::<WasmBacktrace>()
        && error.root_cause().to_string().contains("fuel allocated for hostcalls has been exhausted")
}

/// Whether the component is made of more core instances than its budget has. Wasmtime has no type for that error
/// either.
fn is_too_many_instances(error: &wasmtime::Error) -> bool {
    error.is::<NoInstance>() && error.root_cause().to_string().contains("instance count too high")
}

fn describe(error: &wasmtime::Error) -> String {
    let mut message = match error.downcast_ref::<I32Exit>() {
        Some(exit) => format!("exited with status {} instead of returning", exit.0),
        None => error.root_cause().to_string(),
    };
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        // A headline, and then lines such as `0:  0x1a1 - main!handle`, of functions that were inlined without the place: only
        // there are the names demangled. Each may be followed by one such as `at src/lib.rs:12:5`.
        let frames = backtrace.to_string();
        for line in frames.lines().skip(1) {
            // Writing to a string can't fail.
            let _ = match line.split_once(" - ").map(|(place, function)| (place.trim(), function)) {
                Some(("", function)) => write!(message, "\n  at {function}"),
                Some((place, function)) => {
                    let offset = place.rsplit(' ').next().unwrap_or(place);
                    write!(message, "\n  at {function} ({offset})")
                }
                None => write!(message, "\n    {}", line.trim_start()),
            };
        }
    }
    cut(message, MESSAGE_MAX)
}
