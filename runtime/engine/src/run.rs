//! Run of a handler: a fresh instance, one call, and a report of how that ended.
//!
//! ```text
//!  Engine::run (tokio)                    execute (a guest thread)
//!  ───────────────────                    ────────────────────────
//!  spawn ───────────────────────────────> instance, call
//!  waits for: its end                       │ computes: looked at every tick (`look`)
//!             abort, timeout ── hurry ───>  │ waits for a host call: given up when polled again
//!  report <───────────────────────────────  conclude: outcome, usage
//! ```
//!
//! A guest that computes notices abort and timeout within a tick or two. One that waits in a host call is told by a timer of
//! tokio's, outside of wasmtime, and the call is dropped. So neither depends on the other, or on the guest's help.

use std::future::{Future, poll_fn};
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use futures::FutureExt;
use sandhog_core::admit::Plan;
use sandhog_core::budget::{Budget, Bytes};
use sandhog_core::id::{JobId, Kind, QueueName, TenantId};
use sandhog_core::job::JobOptions;
use sandhog_core::outcome::{Outcome, Report, StopReason, Usage};
use sandhog_core::time::Timestamp;
use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use crate::abort::Abort;
use crate::account::{Drawn, MemoryAccount};
use crate::config::Deadlines;
use crate::ending::{self, Returned};
use crate::host::Host;
use crate::host_work::RunWork;
use crate::imports::{Around, RunState};
use crate::meter::Meter;
use crate::plugin::Plugin;
use crate::schedule::{Crowd, End, GiveWay, Panicked, panic_message};
use crate::wasi::handles_and_loans_max;

/// Input of a run: what the handler gets to see of its job and attempt.
#[derive(Debug, Clone)]
pub struct Input {
    /// Id of the job.
    pub id: JobId,
    /// Kind of the job.
    pub kind: Kind,
    /// Payload of the job.
    pub payload: Vec<u8>,
    /// Tenant that owns the job.
    pub tenant: TenantId,
    /// Queue that the job came from.
    pub queue: QueueName,
    /// Number of the attempt, from 1 for the first one that counts.
    pub attempt: u32,
    /// Maximum number of attempts: when the attempt with this number has failed, there is no other.
    pub max_attempts: u32,
    /// Latest end of the attempt, as it is shown to the guest. What counts is the budget's timeout.
    pub deadline: Timestamp,
    /// Time at which the job was enqueued.
    pub enqueued_at: Timestamp,
    /// Options of the job.
    pub options: JobOptions,
}

/// Account of the machine's share that a run is charged to.
#[derive(Debug, Clone)]
pub struct Share {
    /// Tenant that is charged.
    pub tenant: TenantId,
    /// Weight of the tenant's share, relative to the others': twice the weight, twice the CPU time when both want it.
    pub weight: NonZeroU32,
    /// Memory that the tenant's runs hold together.
    pub memory: MemoryAccount,
    /// Maximum memory that the tenant's runs may hold together.
    pub memory_max: Bytes,
    /// Scheduling class of the run.
    pub class: Class,
}

/// Scheduling class: which runs come first, whatever their tenants' shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Class {
    /// The run has its tenant's share.
    #[default]
    Normal,
    /// The run gets time while no normal one wants any. Its timeout counts all the same.
    Idle,
}

/// Maximum fuel that a guest can use between two points where wasmtime's count is sure to be right. Compiled code keeps the
/// count in a register, and what is there is lost when the guest is ended from outside: without such points it would be
/// billed too little.
const FUEL_SYNC: u64 = 10_000_000;

/// Error of a run that was ended from outside.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("stopped from outside")]
struct Stopped;

/// Run that is about to start.
pub(crate) struct Run {
    pub(crate) engine: wasmtime::Engine,
    pub(crate) plan: Plan<Arc<Plugin>>,
    pub(crate) input: Input,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) work: RunWork,
    pub(crate) abort: Abort,
    pub(crate) ends: Instant,
    pub(crate) crowd: Crowd,
    pub(crate) memory: Drawn,
    pub(crate) deadlines: Deadlines,
}

impl Run {
    /// Executes the run. The times in the report, and whether the guest slept, are left to the caller, which has the clock.
    pub(crate) async fn execute(self) -> Report {
        if let Some(reason) = self.abort.stopped() {
            let outcome = ending::stopped(reason, self.plan.budget());
            return Report { outcome, usage: Usage::default(), slept: false };
        }
        let plugin = Arc::clone(self.plan.plugin());
        let Some(pre) = self.plan.plugin().code.get() else {
            return host_fault("the plugin's code is not at hand".to_owned());
        };
        let budget = *self.plan.budget();
        let abort = self.abort.clone();
        let meter = Meter::new(&budget, self.memory, Instant::now());
        let Self { host, work, abort: of_run, ends, deadlines, .. } = self;
        let around = Around { host, work, abort: of_run, ends, deadlines };
        let (state, job) = RunState::new(budget, plugin, self.input, around, meter);
        let mut store = Store::new(&self.engine, state);
        if let Err(error) = prepare(&mut store, &budget, self.crowd) {
            return host_fault(format!("{error:#}"));
        }
        let call = pre.handle(&mut store, job);
        let ended = AssertUnwindSafe(until_stopped(&abort, call)).catch_unwind().await;
        conclude(store, ended.map_err(|panic| Panicked(panic_message(&*panic))))
    }
}

/// Creates the report of a run for which the host is to blame.
pub(crate) fn host_fault(message: String) -> Report {
    Report { outcome: Outcome::HostFault { message }, usage: Usage::default(), slept: false }
}

/// Creates the report of a run in which the host panicked.
pub(crate) fn of_panic(Panicked(message): Panicked) -> Report {
    host_fault(format!("panicked: {message}"))
}

/// Applies the budget to a store, before any guest code can run.
fn prepare(store: &mut Store<RunState>, budget: &Budget, crowd: Crowd) -> wasmtime::Result<()> {
    store.limiter(|state| &mut state.meter);
    store.set_hostcall_fuel(usize::try_from(budget.call_max().0).unwrap_or(usize::MAX));
    store.set_max_component_handles(handles_and_loans_max(budget));
    store.fuel_async_yield_interval(Some(FUEL_SYNC))?;
    store.set_fuel(budget.fuel.0)?;
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |store| look(store, &crowd));
    Ok(())
}

/// Checks on a guest that computes, once a tick. Fuel can be read here, and is at most [`FUEL_SYNC`] behind; it can't be
/// set, since the code that is interrupted has it in a register.
fn look(mut store: StoreContextMut<'_, RunState>, crowd: &Crowd) -> wasmtime::Result<UpdateDeadline> {
    let left = store.get_fuel()?;
    let state = store.data_mut();
    if Instant::now() >= state.ends {
        state.abort.stop(StopReason::Deadline);
    }
    if state.abort.stopped().is_some() {
        return Err(Stopped.into());
    }
    state.meter.check(left)?;
    if crowd.is_waiting() {
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(GiveWay::default())))
    } else {
        Ok(UpdateDeadline::Continue(1))
    }
}

/// Drops a call at the first poll after its run was stopped.
async fn until_stopped<T>(
    abort: &Abort,
    call: impl Future<Output = wasmtime::Result<T>>,
) -> wasmtime::Result<T> {
    let mut call = pin!(call);
    poll_fn(|cx| match abort.stopped() {
        Some(_) => Poll::Ready(Err(Stopped.into())),
        None => call.as_mut().poll(cx),
    })
    .await
}

/// Creates the report. What the run has used is read before the host is told of its end, so that it is billed even if
/// something panics there.
fn conclude(store: Store<RunState>, ended: Result<wasmtime::Result<Returned>, Panicked>) -> Report {
    let left = store.get_fuel().unwrap_or(0);
    let meter = &store.data().meter;
    let usage = Usage {
        fuel: meter.fuel_used(left),
        memory_peak: meter.memory_peak(),
        host_calls: meter.calls(),
        ..Usage::default()
    };
    let told = catch_unwind(AssertUnwindSafe(|| tell_the_end(store, ended, left)));
    let outcome = told.unwrap_or_else(|panic| of_panic(Panicked(panic_message(&*panic))).outcome);
    Report { outcome, usage, slept: false }
}

/// Writes what is left of the log, and returns how the run ended.
fn tell_the_end(
    store: Store<RunState>,
    ended: Result<wasmtime::Result<Returned>, Panicked>,
    left: u64,
) -> Outcome {
    let state = store.into_data();
    if let Ok(Ok(Err(failure))) = &ended {
        state.hint(ending::said_by(failure));
    }
    state.log.finish();
    match ended {
        Ok(ended) => ending::outcome(ended, left, state),
        Err(panicked) => of_panic(panicked).outcome,
    }
}

/// Waits for the end of a run, and ends it when it was stopped or its time is over. If the future is dropped, the run ends
/// as well.
pub(crate) async fn watch(end: End<Report>, abort: &Abort, ends: Instant) -> Result<Report, Panicked> {
    let mut end = StopIfDropped { end, abort };
    let mut timer = pin!(tokio::time::sleep_until(ends.into()));
    let mut told = false;
    poll_fn(|cx| {
        if let Poll::Ready(ended) = end.end.poll_unpin(cx) {
            return Poll::Ready(ended);
        }
        if !told {
            if timer.as_mut().poll(cx).is_ready() {
                abort.stop(StopReason::Deadline);
            }
            abort.register(cx.waker());
            if abort.stopped().is_some() {
                told = true;
                end.end.task().hurry();
            }
        }
        Poll::Pending
    })
    .await
}

struct StopIfDropped<'a> {
    end: End<Report>,
    abort: &'a Abort,
}

impl Drop for StopIfDropped<'_> {
    fn drop(&mut self) {
        if !self.end.task().is_done() {
            self.abort.stop(StopReason::Drained);
            self.end.task().hurry();
        }
    }
}
