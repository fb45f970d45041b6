//! Turns: several quick jobs on one permit, one after the other. A tenant gets one for a slot where others wait in line for
//! theirs. The next job starts when the one before it gives its permit back, which is before it is settled.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use sandhog_core::reason::Reason;

use crate::capacity::permits::RunPermit;
use crate::run::runner::Runner;
use crate::run::worker::{LeasedJob, TenantContext};
use crate::shutdown::Phase;

/// Time for which a job rests whose plugin had no permit left when its turn came, or that was put into the queue of another
/// plugin.
pub(crate) const NO_ROOM_REST: Duration = Duration::from_secs(1);

/// Maximum time that a job waits for the one right before it in its turn.
pub(crate) const WAIT_MAX: Duration = Duration::from_millis(50);

/// Turn: a job with its permit, and the jobs that get the permit after it.
pub(crate) struct Turn<P> {
    first: LeasedJob<P>,
    permit: RunPermit,
    rest: VecDeque<LeasedJob<P>>,
}

impl<P> Turn<P> {
    /// Creates a turn of one job.
    pub(crate) fn new(first: LeasedJob<P>, permit: RunPermit) -> Self {
        Self { first, permit, rest: VecDeque::new() }
    }

    /// Number of its jobs.
    pub(crate) fn len(&self) -> u32 {
        u32::try_from(self.rest.len()).map_or(u32::MAX, |rest| rest.saturating_add(1))
    }

    /// Adds a job that starts after those before it.
    pub(crate) fn push(&mut self, leased_job: LeasedJob<P>) {
        self.rest.push_back(leased_job);
    }
}

/// Drives the jobs of a turn to their end. If one runs longer than expected, those behind it go back, and others may have them
/// at once.
pub(crate) async fn take<R: Runner>(context: Arc<TenantContext<R>>, turn: Turn<R::Plugin>) {
    let Turn { first, mut permit, mut rest } = turn;
    if rest.is_empty() {
        return attempt(&context, first, permit).await;
    }
    let mut freed = permit.pass_on();
    let mut under_way = FuturesUnordered::new();
    under_way.push(attempt(&context, first, permit));
    let mut draining = std::pin::pin!(context.phase.reached(Phase::Draining));
    let patience = || context.clock.reached(Some(context.clock.mono().after(WAIT_MAX)));
    let mut overdue = std::pin::pin!(patience());
    let refused = loop {
        tokio::select! {
            biased;
            () = &mut draining => break Some((Duration::ZERO, Reason::Drained)),
            () = &mut overdue => break Some((Duration::ZERO, Reason::NoRoom)),
            held = &mut freed => {
                let plugin = rest.front().and_then(LeasedJob::plugin);
                let permit = held.ok().and_then(|held| held.permit(plugin.map(|plugin| &**plugin)));
                let Some(mut permit) = permit else { break Some((NO_ROOM_REST, Reason::NoRoom)) };
                let Some(next) = rest.pop_front() else { break None };
                if !rest.is_empty() {
                    freed = permit.pass_on();
                }
                under_way.push(attempt(&context, next, permit));
                overdue.set(patience());
                if rest.is_empty() {
                    break None;
                }
            }
            Some(()) = under_way.next() => {}
        }
    };
    drop(freed);
    if let Some((after, reason)) = refused {
        rest.into_iter().for_each(|leased_job| context.give_back(leased_job, after, reason));
    }
    under_way.collect::<()>().await;
}

/// Drives one job to its end. A panic ends only the attempt that it is in; its lease runs out.
async fn attempt<R: Runner>(
    context: &Arc<TenantContext<R>>,
    leased_job: LeasedJob<R::Plugin>,
    permit: RunPermit,
) {
    AssertUnwindSafe(Arc::clone(context).attempt(leased_job, permit)).catch_unwind().map(drop).await;
}
