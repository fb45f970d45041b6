//! Prefetching: jobs are leased ahead of the permits for them, so that quick jobs don't wait for the broker one after the
//! other.
//!
//! As many are prefetched as have ended lately, so that each waits about as long as the broker takes to hand it out; where jobs
//! take longer than that, nothing is prefetched. If the permit doesn't come in time all the same, because something runs longer
//! than what ran before, the job goes back, and another daemon may have it.
//!
//! Where tenants wait in line for slots, one that gets a slot has a turn: it runs as many jobs in it, one after the other, as
//! need [`TURN`] by themselves. So the broker's calls carry several jobs, and a turn takes about as much for each tenant. How
//! long jobs hold their permits says little of that: the more runs share the processors, the longer each takes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sandhog_core::id::QueueName;
use sandhog_core::time::Mono;

use crate::capacity::concurrency::{ConcurrencyLimit, EndedRuns};
use crate::capacity::permits::AvailablePermits;
use crate::catalog::{Queue, Tenant};
use crate::run::turn::{Turn, WAIT_MAX};
use crate::run::worker::LeasedJob;

/// Time that a prefetched job is to wait, about.
const AHEAD: Duration = Duration::from_millis(1);

/// Time over which ended jobs are counted. Jobs that began together may well end together, and the next ones don't.
const LATELY: Duration = Duration::from_millis(20);

/// Maximum time that a prefetched job waits if it had a slot when it was asked for: that was given to others, as the broker
/// took long. It is the next in line for one.
const WAIT_WITHOUT_SLOT_MAX: Duration = Duration::from_secs(30);

/// Time that the jobs of a turn need at most, about, if nothing else wants the processors.
const TURN: Duration = Duration::from_millis(20);

/// Maximum number of jobs that one slot runs in a turn.
const TURN_JOBS_MAX: u32 = 64;

/// Minimum count of late ends; with fewer, nothing is known of how long jobs take now.
const EVIDENCE_MIN: f64 = 0.001;

/// Rate at which a queue's jobs have ended lately.
#[derive(Debug, Clone, Copy)]
struct EndRate {
    counted_at: Mono,
    /// Totals of all that had ended by then.
    ended: EndedRuns,
    /// Number of those that ended within about the last [`LATELY`].
    lately: f64,
    /// Seconds for which these held their permits.
    held: f64,
    /// Seconds that these needed by themselves.
    needed: f64,
}

impl EndRate {
    fn new(now: Mono, ended: EndedRuns) -> Self {
        Self { counted_at: now, ended, lately: 0.0, held: 0.0, needed: 0.0 }
    }

    /// Updates the rate by the totals of all that have ended. The longer ago an end is, the less it counts.
    fn count(&mut self, now: Mono, ended: EndedRuns) {
        let since = now.since_origin().saturating_sub(self.counted_at.since_origin());
        let fresh = ended.count.saturating_sub(self.ended.count);
        let held = ended.held.saturating_sub(self.ended.held);
        let needed = ended.needed.saturating_sub(self.ended.needed);
        let kept = LATELY.div_duration_f64(LATELY + since);
        *self = Self {
            counted_at: now,
            ended,
            lately: (self.lately + fresh as f64) * kept,
            held: (self.held + held.as_secs_f64()) * kept,
            needed: (self.needed + needed.as_secs_f64()) * kept,
        };
    }

    /// Number of jobs to prefetch: as many as will end while one of them waits.
    fn prefetched(&self) -> u32 {
        (self.lately * AHEAD.div_duration_f64(LATELY)) as u32
    }

    /// Number of jobs that one slot runs in a turn: one, unless they need little, and come to their end before those behind
    /// them have waited too long.
    fn turn(&self) -> u32 {
        if self.lately < EVIDENCE_MIN || self.held > WAIT_MAX.as_secs_f64() / 2.0 * self.lately {
            return 1;
        }
        ((TURN.as_secs_f64() * self.lately / self.needed) as u32).clamp(1, TURN_JOBS_MAX)
    }
}

/// A tenant's prefetched jobs, which are leased and have no permit yet, and how many more may be leased like that.
pub(crate) struct PrefetchedJobs<P> {
    end_rates: HashMap<QueueName, EndRate>,
    /// Jobs in the order in which they came, each with the time up to which it waits.
    waiting: VecDeque<(LeasedJob<P>, Mono)>,
}

impl<P> Default for PrefetchedJobs<P> {
    fn default() -> Self {
        Self { end_rates: HashMap::new(), waiting: VecDeque::new() }
    }
}

impl<P> PrefetchedJobs<P> {
    /// Updates how fast the jobs of these queues have ended. Other queues are forgotten.
    pub(crate) fn count(&mut self, queues: &[Queue], now: Mono) {
        if self.end_rates.len() > queues.len() {
            self.end_rates.retain(|name, _| queues.iter().any(|queue| queue.name == *name));
        }
        for queue in queues {
            let ended =
                queue.concurrency_limits.iter().map(|(_, concurrency_limit)| concurrency_limit.ends()).sum();
            match self.end_rates.get_mut(&queue.name) {
                Some(end_rate) => end_rate.count(now, ended),
                None => drop(self.end_rates.insert(queue.name.clone(), EndRate::new(now, ended))),
            }
        }
    }

    /// Number of a queue's jobs that may still be prefetched now: 0 while more than half of its maximum wait.
    pub(crate) fn more(&self, tenant: &Tenant<P>, queue: &Queue) -> u32 {
        let most = self.end_rates.get(&queue.name).map_or(0, EndRate::prefetched);
        if most == 0 || !may_wait(tenant, queue) {
            return 0;
        }
        let waiting =
            self.waiting.iter().filter(|(leased_job, _)| leased_job.lease.job.queue == queue.name).count();
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        if waiting > most / 2 { 0 } else { most - waiting }
    }

    /// Number of a queue's jobs that one slot runs in a turn.
    pub(crate) fn turn(&self, tenant: &Tenant<P>, queue: &Queue) -> u32 {
        match self.end_rates.get(&queue.name) {
            Some(end_rate) if may_wait(tenant, queue) => end_rate.turn(),
            _ => 1,
        }
    }

    /// Whether any job waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a job that is to start soon.
    pub(crate) fn push(&mut self, leased_job: LeasedJob<P>, now: Mono) {
        self.waiting.push_back((leased_job, now.after(WAIT_MAX)));
    }

    /// Adds a job whose slot was given to others while the broker was asked for it.
    pub(crate) fn push_without_slot(&mut self, leased_job: LeasedJob<P>, now: Mono) {
        self.waiting.push_back((leased_job, now.after(WAIT_WITHOUT_SLOT_MAX)));
    }

    /// Removes the jobs that there are permits for, each as the first of a turn.
    pub(crate) fn admit(&mut self, available: &mut AvailablePermits) -> Vec<Turn<P>> {
        let mut turns = Vec::new();
        for (leased_job, until) in std::mem::take(&mut self.waiting) {
            match available.permit(leased_job.plugin().map(|plugin| &**plugin)) {
                Some(permit) => turns.push(Turn::new(leased_job, permit)),
                None => self.waiting.push_back((leased_job, until)),
            }
        }
        turns
    }

    /// Moves waiting jobs into these turns, to start right after what is in them, each turn with as many as the job's queue
    /// allows.
    pub(crate) fn fill(&mut self, turns: &mut [Turn<P>], tenant: &Tenant<P>) {
        if turns.is_empty() {
            return;
        }
        let mut nth = 0;
        for (leased_job, until) in std::mem::take(&mut self.waiting) {
            let queue = tenant.queues.iter().find(|queue| queue.name == leased_job.lease.job.queue);
            let turn = &mut turns[nth % turns.len()];
            if turn.len() < queue.map_or(1, |queue| self.turn(tenant, queue)) {
                turn.push(leased_job);
                nth += 1;
            } else {
                self.waiting.push_back((leased_job, until));
            }
        }
    }

    /// Time at which the first of the waiting jobs has waited long enough. `None` if no job waits.
    pub(crate) fn until(&self) -> Option<Mono> {
        self.waiting.iter().map(|(_, until)| *until).min()
    }

    /// Removes the jobs that have waited long enough.
    pub(crate) fn overdue(&mut self, now: Mono) -> Vec<LeasedJob<P>> {
        let (overdue, waiting): (VecDeque<_>, _) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, until)| *until <= now);
        self.waiting = waiting;
        overdue.into_iter().map(|(leased_job, _)| leased_job).collect()
    }

    /// Removes all jobs.
    pub(crate) fn all(&mut self) -> Vec<LeasedJob<P>> {
        self.waiting.drain(..).map(|(leased_job, _)| leased_job).collect()
    }
}

/// Whether a queue's jobs may be leased without permits of their own.
fn may_wait<P>(tenant: &Tenant<P>, queue: &Queue) -> bool {
    // The jobs of a plugin with a lower limit than others would stand in the others' way.
    let narrow = |(_, concurrency_limit): &(_, Arc<ConcurrencyLimit>)| {
        concurrency_limit.limit() < tenant.concurrency_limit.limit()
    };
    let is_mixed = queue.concurrency_limits.len() > 1 && queue.concurrency_limits.iter().any(narrow);
    !is_mixed && !tenant.fuel.is_bounded()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use sandhog_core::id::{PluginName, TenantId};

    use super::*;
    use crate::capacity::concurrency::ConcurrencyLimits;
    use crate::capacity::permits::tests::tenant;

    fn ends(count: u64, each: Duration) -> EndedRuns {
        let held = each * u32::try_from(count).expect("few");
        EndedRuns { count, held, needed: held }
    }

    /// What a pace comes to if so many end at once, so often and so long after each other.
    fn prefetched(count: u64, times: u32, every: Duration) -> u32 {
        let mut end_rate = EndRate::new(Mono::from_origin(Duration::ZERO), EndedRuns::default());
        for n in 1..=times {
            end_rate.count(Mono::from_origin(every * n), ends(count * u64::from(n), Duration::ZERO));
        }
        end_rate.prefetched()
    }

    #[test]
    fn as_many_go_ahead_as_end_in_a_millisecond() {
        let [micros, millis] = [Duration::from_micros, Duration::from_millis];
        assert_eq!(prefetched(1, 10_000, micros(100)), 9, "ten end in a millisecond, and parts don't count");
        assert_eq!(prefetched(10, 1_000, millis(1)), 9);
        assert_eq!(prefetched(1, 1_000, millis(2)), 0);
        assert_eq!(prefetched(1, 1_000, Duration::from_secs(1)), 0);
        assert!(prefetched(64, 1, millis(40)) <= 1, "they began together");
    }

    #[test]
    fn a_pace_is_forgotten_when_nothing_ends() {
        let mut end_rate = EndRate::new(Mono::from_origin(Duration::ZERO), EndedRuns::default());
        let quick = ends(1_000, Duration::from_millis(1));
        end_rate.count(Mono::from_origin(Duration::from_millis(20)), quick);
        assert!(end_rate.prefetched() >= 20);
        end_rate.count(Mono::from_origin(Duration::from_secs(2)), quick);
        assert_eq!(end_rate.prefetched(), 0);
        assert_eq!(end_rate.turn(), 20, "how long they took is known a little longer");
        for seconds in 3..10 {
            end_rate.count(Mono::from_origin(Duration::from_secs(seconds)), quick);
        }
        assert_eq!(end_rate.turn(), 1);
    }

    #[test]
    fn a_turn_has_as_many_jobs_as_end_in_it() {
        let turn = |each| {
            let mut end_rate = EndRate::new(Mono::from_origin(Duration::ZERO), EndedRuns::default());
            assert_eq!(end_rate.turn(), 1, "nothing is known of them");
            end_rate.count(Mono::from_origin(Duration::from_millis(100)), ends(3, each));
            end_rate.turn()
        };
        let [micros, millis] = [Duration::from_micros, Duration::from_millis];
        assert_eq!([Duration::ZERO, micros(10), micros(300)].map(turn), [TURN_JOBS_MAX; 3]);
        assert_eq!(
            [micros(900), micros(4_900), micros(19_000), millis(30), Duration::from_secs(9)].map(turn),
            [22, 4, 1, 1, 1]
        );
    }

    #[test]
    fn a_turn_is_as_long_however_many_share_the_processors_unless_those_behind_would_wait_too_long() {
        let turn = |held| {
            let mut end_rate = EndRate::new(Mono::from_origin(Duration::ZERO), EndedRuns::default());
            let each = Duration::from_millis(2);
            end_rate
                .count(Mono::from_origin(Duration::from_millis(100)), EndedRuns { held, ..ends(3, each) });
            end_rate.turn()
        };
        let millis = Duration::from_millis;
        assert_eq!([millis(6), millis(30), millis(74), millis(76)].map(turn), [10, 10, 10, 1]);
    }

    #[test]
    fn nothing_goes_ahead_of_a_plugin_with_less_room_that_shares_the_queue() {
        let id = TenantId::parse("acme").expect("a name");
        let mut tenant = tenant(&id);
        let narrow = PluginName::parse("narrow").expect("a name");
        let concurrency_limit = ConcurrencyLimits::default().of(&id, Some(&narrow), NonZeroU32::MIN);
        tenant.queues[1].concurrency_limits = vec![(narrow.clone(), Arc::clone(&concurrency_limit))];
        tenant.queues[2].concurrency_limits.push((narrow, concurrency_limit));
        let mut prefetched = PrefetchedJobs::<()>::default();
        let at = |millis| Mono::from_origin(Duration::from_millis(millis));
        prefetched.count(&tenant.queues, at(0));
        for queue in &tenant.queues {
            (0..100).for_each(|_| queue.concurrency_limits[0].1.count_end(Duration::ZERO, Duration::ZERO));
        }
        prefetched.count(&tenant.queues, at(10));
        let more: Vec<u32> = tenant.queues.iter().map(|queue| prefetched.more(&tenant, queue)).collect();
        assert_eq!(more, [3, 3, 0], "one that has a queue of its own stands in nobody's way");
        let turns: Vec<u32> = tenant.queues.iter().map(|queue| prefetched.turn(&tenant, queue)).collect();
        assert_eq!(turns, [TURN_JOBS_MAX, TURN_JOBS_MAX, 1]);
    }
}
