//! What is to be done for a schedule at a time: fire, skip, wait, or count as missed.

use std::collections::VecDeque;
use std::time::Duration;

use super::record::{Past, Progress, Record, What};
use super::{Overlap, Schedule};
use crate::id::JobId;
use crate::job::NewJob;
use crate::time::Timestamp;

/// Time up to which a nominal time counts as met: a daemon that is so late was there. All such times fire, whatever is to be
/// caught up.
pub const ON_TIME: Duration = Duration::from_secs(10);

/// Maximum number of nominal times that are counted as missed at once.
const COUNTED_MAX: usize = 10_000;

const MILLISECOND: Duration = Duration::from_millis(1);

/// Maximum number of jobs of one backfill.
pub const BACKFILL_MAX: usize = 1000;

/// Whether the queue takes the jobs of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// There is room, as far as is known.
    There,
    /// The queue has refused them: no job is enqueued, and the times are counted as missed.
    None,
}

/// Step that is to be done for a schedule, as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The record that takes the place of the one by which was decided.
    pub record: Record,
    /// Jobs to be enqueued.
    pub jobs: Vec<NewJob>,
    /// Unfinished jobs to be cancelled, before the step. Cancelling them twice does no harm.
    pub cancel: Vec<JobId>,
    /// Nominal times that are dealt with by this, oldest first, each with what becomes of it.
    pub told: Vec<Past>,
}

impl Decision {
    /// Decides to store a record, and nothing else.
    #[must_use]
    pub fn of(record: Record) -> Self {
        Self { record, jobs: Vec::new(), cancel: Vec::new(), told: Vec::new() }
    }
}

/// Reason why a range of time can't be filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackfillError {
    /// The range has more nominal times than are filled in at once.
    #[error("the range has more than {BACKFILL_MAX} nominal times; take a shorter one")]
    TooMany,
    /// The range ends in the future.
    #[error("the range ends in the future")]
    Future,
}

/// Nominal times that are due.
struct DueTimes {
    /// Those for which a job may be enqueued, and whether each is met in time.
    kept: Vec<(Timestamp, bool)>,
    /// The last of those that are missed, and how many there are.
    missed: Option<(Timestamp, u64)>,
    /// The last of all.
    last: Timestamp,
}

impl Record {
    /// Decides what is to be done for the schedule now. `unfinished`: those of [`Record::open_jobs`] that aren't finished.
    ///
    /// Asked for the same record, time and jobs, the answer is the same: which daemon asks doesn't matter.
    #[must_use]
    pub fn due(&self, now: Timestamp, unfinished: &[JobId], room: Room) -> Decision {
        let mut step = Step::of(self, now, room);
        step.progress.open.retain(|job| unfinished.contains(job));
        if !self.is_paused() {
            step.let_waiting_run();
            if let Some(due) = self.due_times(now) {
                step.progress.handled_until = due.last;
                if let Some((nominal, count)) = due.missed {
                    step.progress.counts.missed = step.progress.counts.missed.saturating_add(count);
                    step.note(nominal, What::Missed(count));
                }
                step.take_kept(due.kept);
            }
        }
        step.decided()
    }

    /// Decides to enqueue a job now, whatever the schedule's times are.
    #[must_use]
    pub fn run_now(&self, now: Timestamp, id: JobId) -> Decision {
        let mut step = Step::of(self, now, Room::There);
        step.by_hand(now, id);
        step.decided()
    }

    /// Decides to enqueue the jobs of all nominal times from `from` on and before `to`. Those that are there already, as their
    /// ids tell, stay as they are.
    ///
    /// # Errors
    /// If there are more than [`BACKFILL_MAX`], or the range ends in the future.
    pub fn backfill(
        &self,
        from: Timestamp,
        to: Timestamp,
        now: Timestamp,
    ) -> Result<Decision, BackfillError> {
        if to > now {
            return Err(BackfillError::Future);
        }
        let before = Timestamp::from_millis(from.as_millis().saturating_sub(1));
        let times = self.schedule.times.after(before).take_while(|nominal| *nominal < to);
        let times: Vec<Timestamp> = times.take(BACKFILL_MAX + 1).collect();
        if times.len() > BACKFILL_MAX {
            return Err(BackfillError::TooMany);
        }
        let mut step = Step::of(self, now, Room::There);
        times.into_iter().for_each(|nominal| step.by_hand(nominal, self.schedule.job_id(nominal)));
        // Nobody waits for them: there may be many, and they are of the past.
        step.progress.open = self.progress.open.clone();
        Ok(step.decided())
    }

    /// Returns the nominal times that are due and not dealt with. `None` if there is none.
    fn due_times(&self, now: Timestamp) -> Option<DueTimes> {
        if self.runs_left() == 0 {
            return None;
        }
        let (schedule, handled_until) = (&self.schedule, self.progress.handled_until);
        let (window, most) = (schedule.catch_up.window, schedule.catch_up.most as usize);
        let until = Until { schedule, now };
        let first = schedule.times.next_after(handled_until).filter(|first| until.is_due(*first))?;
        let window = window.max(ON_TIME);
        // All nominal times up to this one have effective times from before the window.
        let before_window = back(now, window.saturating_add(schedule.spread).saturating_add(MILLISECOND));
        let latest = until.latest(handled_until.max(before_window), most.max(1));
        let last_due = latest.last().map(|(nominal, _)| *nominal);
        let in_window: Vec<_> = latest.into_iter().filter(|(_, late)| *late <= window).collect();
        // What is met in time counts, however much is to be caught up.
        let met = in_window.iter().filter(|(_, late)| *late <= ON_TIME).count();
        let kept = &in_window[in_window.len() - met.max(most).min(in_window.len())..];
        let kept: Vec<_> = kept.iter().map(|(nominal, late)| (*nominal, *late <= ON_TIME)).collect();
        let is_missed = |nominal: &Timestamp| match kept.first() {
            Some((first_kept, _)) => nominal < first_kept,
            None => until.is_due(*nominal),
        };
        let missed = schedule.times.after(handled_until).take_while(is_missed).take(COUNTED_MAX);
        let missed = missed.fold(None, |missed: Option<(Timestamp, u64)>, nominal| {
            Some((nominal, missed.map_or(1, |(_, count)| count + 1)))
        });
        // Those that are more than are counted are passed over as well.
        let is_counted = missed.is_none_or(|(_, count)| count < COUNTED_MAX as u64);
        let last = last_due.unwrap_or(if is_counted { first } else { before_window });
        let last = missed.map_or(last, |(missed, _)| last.max(missed));
        Some(DueTimes { kept, missed, last })
    }
}

/// The nominal times of a schedule that are due by now.
struct Until<'s> {
    schedule: &'s Schedule,
    now: Timestamp,
}

impl Until<'_> {
    fn effective(&self, nominal: Timestamp) -> Timestamp {
        self.schedule.effective(nominal, self.schedule.times.next_after(nominal))
    }

    fn is_due(&self, nominal: Timestamp) -> bool {
        nominal <= self.now && self.effective(nominal) <= self.now
    }

    /// Returns the latest due times after `from`, at least `most` of them if there are so many, and all that are met in time.
    /// Each with how late it is.
    ///
    /// The times are looked for in ever longer stretches that end now, so that few are looked at, however long that is.
    fn latest(&self, from: Timestamp, most: usize) -> Vec<(Timestamp, Duration)> {
        let mut stretch = self.schedule.spread.saturating_add(ON_TIME.saturating_mul(2));
        loop {
            let start = from.max(back(self.now, stretch));
            let mut found: VecDeque<Timestamp> = VecDeque::new();
            let kept = most.max(ON_TIME.as_secs() as usize + 2);
            for nominal in self.schedule.times.after(start).take_while(|nominal| self.is_due(*nominal)) {
                found.push_back(nominal);
                if found.len() > kept {
                    found.pop_front();
                }
            }
            if found.len() >= kept || start == from {
                let late = |nominal| self.now.since(self.effective(nominal));
                return found.into_iter().map(|nominal| (nominal, late(nominal))).collect();
            }
            stretch = stretch.saturating_mul(2);
        }
    }
}

fn back(from: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_millis(from.as_millis().saturating_sub(crate::time::millis(by)))
}

/// A decision that is being made.
struct Step<'r> {
    record: &'r Record,
    progress: Progress,
    now: Timestamp,
    room: Room,
    jobs: Vec<NewJob>,
    cancel: Vec<JobId>,
    told: Vec<Past>,
}

impl<'r> Step<'r> {
    fn of(record: &'r Record, now: Timestamp, room: Room) -> Self {
        let progress = record.progress.clone();
        Self { record, progress, now, room, jobs: Vec::new(), cancel: Vec::new(), told: Vec::new() }
    }

    fn decided(self) -> Decision {
        let record = Record { schedule: self.record.schedule.clone(), progress: self.progress };
        Decision { record, jobs: self.jobs, cancel: self.cancel, told: self.told }
    }

    fn note(&mut self, nominal: Timestamp, what: What) {
        let past = Past { nominal, at: self.now, what };
        self.told.push(past.clone());
        self.progress.note(past);
    }

    /// Enqueues the job of a nominal time, if the queue has room for it.
    fn fire(&mut self, nominal: Timestamp, what: impl FnOnce(JobId) -> What) {
        let (schedule, counts) = (&self.record.schedule, &mut self.progress.counts);
        if self.room == Room::None {
            counts.missed = counts.missed.saturating_add(1);
            self.note(nominal, What::NoRoom);
            return;
        }
        counts.fired = counts.fired.saturating_add(1);
        let id = schedule.job_id(nominal);
        self.enqueue(nominal, id);
        self.note(nominal, what(id));
    }

    fn by_hand(&mut self, nominal: Timestamp, id: JobId) {
        let counts = &mut self.progress.counts;
        counts.by_hand = counts.by_hand.saturating_add(1);
        self.enqueue(nominal, id);
        self.note(nominal, What::ByHand(id));
    }

    fn enqueue(&mut self, nominal: Timestamp, id: JobId) {
        self.jobs.push(self.record.schedule.job(id, nominal));
        if self.record.schedule.overlap != Overlap::Allow {
            self.progress.open(id);
        }
    }

    /// Whether an earlier job isn't finished.
    fn is_busy(&self) -> bool {
        !self.progress.open.is_empty()
    }

    /// Enqueues the first job that waits for earlier ones, if they are finished.
    fn let_waiting_run(&mut self) {
        while !self.is_busy() {
            let Some(nominal) = self.progress.waiting.pop_front() else { return };
            self.fire(nominal, What::Waited);
        }
    }

    fn take_kept(&mut self, kept: Vec<(Timestamp, bool)>) {
        let left = usize::try_from(self.record.runs_left()).unwrap_or(usize::MAX);
        for (nominal, is_met) in kept.into_iter().take(left) {
            let what = if is_met { What::Fired } else { What::CaughtUp };
            match self.record.schedule.overlap {
                Overlap::Allow => self.fire(nominal, what),
                _ if !self.is_busy() && self.progress.waiting.is_empty() => self.fire(nominal, what),
                Overlap::Skip => self.skip(nominal),
                Overlap::QueueOne => self.wait(nominal, 1),
                Overlap::QueueAll => self.wait(nominal, Overlap::WAITING_MAX),
                Overlap::CancelOther => self.replace(nominal),
            }
        }
    }

    fn skip(&mut self, nominal: Timestamp) {
        self.progress.counts.skipped = self.progress.counts.skipped.saturating_add(1);
        self.note(nominal, What::Skipped);
    }

    fn wait(&mut self, nominal: Timestamp, most: usize) {
        if self.progress.waiting.len() < most {
            self.progress.waiting.push_back(nominal);
        } else {
            self.skip(nominal);
        }
    }

    /// Cancels what runs; the job of this time takes the place of those that wait.
    fn replace(&mut self, nominal: Timestamp) {
        for waiting in std::mem::take(&mut self.progress.waiting) {
            self.skip(waiting);
        }
        // A job of this very step is there only once the step is done: the next look cancels it, if it is still to be.
        let new: Vec<JobId> = self.jobs.iter().map(|job| job.id).collect();
        self.cancel = self.progress.open.iter().copied().filter(|job| !new.contains(job)).collect();
        self.progress.waiting.push_back(nominal);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use proptest::prelude::*;

    use super::super::testing::{at, every};
    use super::super::{CatchUp, Schedule};
    use super::*;

    fn with(overlap: Overlap) -> Record {
        Record::new(Schedule { overlap, ..every(60) }, at(0))
    }

    fn due(record: &Record, seconds: u64, unfinished: &[JobId]) -> Decision {
        record.due(at(seconds), unfinished, Room::There)
    }

    fn fired(decision: &Decision) -> Vec<Timestamp> {
        let fired = decision.told.iter().filter(|past| past.what.job().is_some());
        let nominal: Vec<Timestamp> = fired.map(|past| past.nominal).collect();
        assert_eq!(nominal.len(), decision.jobs.len());
        nominal
    }

    #[test]
    fn it_fires_at_each_nominal_time_once() {
        let record = with(Overlap::Allow);
        assert_eq!(due(&record, 59, &[]).jobs, []);
        let first = due(&record, 60, &[]);
        assert_eq!(fired(&first), [at(60)]);
        assert_eq!(first.jobs[0].id, record.schedule.job_id(at(60)));
        assert_eq!(due(&first.record, 61, &[]).jobs, [], "this time is dealt with");
        assert_eq!(fired(&due(&first.record, 125, &[])), [at(120)]);
    }

    #[test]
    fn two_daemons_that_read_the_same_decide_the_same() {
        let record = with(Overlap::Skip);
        assert_eq!(due(&record, 61, &[]), due(&record, 61, &[]));
        // One that reads the clock later makes the same jobs of the same time.
        assert_eq!(due(&record, 61, &[]).jobs, due(&record, 63, &[]).jobs);
    }

    #[test]
    fn after_a_long_time_without_a_daemon_the_latest_within_an_hour_is_caught_up() {
        let decision = due(&with(Overlap::Allow), 7 * 3600 + 30, &[]);
        assert_eq!(fired(&decision), [at(7 * 3600)]);
        assert!(matches!(
            decision.told[..],
            [Past { what: What::Missed(419), .. }, Past { what: What::CaughtUp(_), .. }]
        ));
        assert_eq!(decision.record.progress.counts.missed, 419);
        assert_eq!(decision.record.next_due(at(7 * 3600 + 30)), Some(at(7 * 3600 + 60)));
        // A daily one, three hours late: nothing.
        let daily = Record::new(every(86_400), at(0));
        let decision = due(&daily, 86_400 + 3 * 3600, &[]);
        assert_eq!((decision.jobs.len(), decision.record.progress.counts.missed), (0, 1));
        assert_eq!(decision.record.next_due(at(86_400 + 3 * 3600)), Some(at(2 * 86_400)));
        // And half an hour late.
        assert_eq!(fired(&due(&daily, 86_400 + 1800, &[])), [at(86_400)]);
    }

    #[test]
    fn so_many_are_caught_up_as_is_said_and_none_if_that_is_said() {
        let catching = |most, window| {
            let catch_up = CatchUp { most, window: Duration::from_secs(window) };
            due(&Record::new(Schedule { catch_up, ..every(60) }, at(0)), 3630, &[])
        };
        assert_eq!(fired(&catching(3, 3600)), [at(3480), at(3540), at(3600)]);
        assert_eq!(fired(&catching(1000, 180)), [at(3480), at(3540), at(3600)]);
        assert_eq!(catching(1000, 180).record.progress.counts.missed, 57);
        assert_eq!(fired(&catching(0, 3600)), []);
        assert_eq!(catching(0, 3600).record.progress.counts.missed, 60);
        assert_eq!(fired(&catching(5, 0)), [], "it is more than a little late");
    }

    #[test]
    fn a_daemon_that_is_a_little_late_was_there() {
        let record = Record::new(every(1), at(100));
        let decision = due(&record, 104, &[]);
        assert_eq!(fired(&decision), [at(101), at(102), at(103), at(104)]);
        assert_eq!(decision.record.progress.counts.missed, 0);
    }

    #[test]
    fn years_of_seconds_are_passed_over_at_once() {
        let record = Record::new(every(1), at(1));
        let started = std::time::Instant::now();
        let decision = due(&record, 5 * 366 * 86_400, &[]);
        assert_eq!(decision.jobs.len(), 11);
        assert_eq!(decision.record.progress.counts.missed, COUNTED_MAX as u64, "as far as is counted");
        assert_eq!(decision.record.progress.handled_until, at(5 * 366 * 86_400));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        let none = CatchUp { most: 0, window: Duration::ZERO };
        let record = Record::new(Schedule { catch_up: none, ..every(7) }, at(1));
        let decision = due(&record, 5 * 366 * 86_400 - 1, &[]);
        assert!(
            decision
                .record
                .next_due(at(5 * 366 * 86_400 - 1))
                .is_some_and(|due| due > at(5 * 366 * 86_400 - 60))
        );
    }

    #[test]
    fn it_fires_at_the_effective_time_and_not_before() {
        let record = Record::new(Schedule { spread: Duration::from_secs(3600), ..every(86_400) }, at(0));
        let effective = record.next_due(at(0)).expect("it has a time");
        assert!(effective > at(86_400) && effective < at(86_400 + 3600));
        let before = Timestamp::from_millis(effective.as_millis() - 1);
        assert_eq!(record.due(before, &[], Room::There).jobs, []);
        let decision = record.due(effective, &[], Room::There);
        assert_eq!(fired(&decision), [at(86_400)]);
        assert!(matches!(decision.told[0].what, What::Fired(_)), "it is in time");
    }

    #[test]
    fn it_is_over_after_so_many_jobs() {
        let record = Record::new(Schedule { times_max: NonZeroU64::new(2), ..every(60) }, at(0));
        let first = due(&record, 60, &[]).record;
        assert!(!first.is_over());
        let second = due(&first, 120, &[]).record;
        assert!(second.is_over() && second.next_due(at(120)).is_none());
        assert_eq!(due(&second, 180, &[]).jobs, []);
        assert_eq!(fired(&due(&second.run_now(at(180), JobId::from_parts(at(180), 1)).record, 240, &[])), []);
    }

    #[test]
    fn by_default_a_time_is_skipped_while_a_job_is_not_finished() {
        let first = due(&with(Overlap::Skip), 60, &[]);
        let open = first.record.open_jobs();
        assert_eq!(open, [first.jobs[0].id]);
        let second = due(&first.record, 120, &open);
        assert_eq!((second.jobs.len(), second.record.progress.counts.skipped), (0, 1));
        assert_eq!(second.record.next_due(at(120)), Some(at(180)));
        let third = due(&second.record, 180, &[]);
        assert_eq!(fired(&third), [at(180)]);
        assert_eq!(third.record.open_jobs(), [third.jobs[0].id]);
    }

    #[test]
    fn one_waits_for_the_job_before_it_and_the_others_are_skipped() {
        let first = due(&with(Overlap::QueueOne), 60, &[]).record;
        let open = first.open_jobs();
        let second = due(&due(&first, 120, &open).record, 180, &open).record;
        assert_eq!((second.progress.waiting.len(), second.progress.counts.skipped), (1, 1));
        assert!(second.next_due(at(180)).is_some_and(|again| again < at(240)));
        let third = due(&second, 190, &[]);
        assert_eq!(fired(&third), [at(120)]);
        assert!(matches!(third.told[0].what, What::Waited(_)));
        assert_eq!(third.record.open_jobs(), [third.jobs[0].id], "the next one waits for this one");
    }

    #[test]
    fn all_wait_and_run_one_after_the_other_up_to_a_bound() {
        let mut record = due(&with(Overlap::QueueAll), 60, &[]).record;
        let open = record.open_jobs();
        for n in 2..=110 {
            record = due(&record, 60 * n, &open).record;
        }
        assert_eq!((record.progress.waiting.len(), record.progress.counts.skipped), (100, 9));
        for n in 2..5 {
            let decision = due(&record, 60 * 110 + n, &[]);
            assert_eq!(fired(&decision), [at(60 * n)]);
            record = decision.record;
        }
    }

    #[test]
    fn the_other_is_cancelled_and_the_job_runs_when_that_is_finished() {
        let first = due(&with(Overlap::CancelOther), 60, &[]).record;
        let open = first.open_jobs();
        let second = due(&first, 120, &open);
        assert_eq!((second.jobs.len(), &second.cancel), (0, &open));
        let third = due(&second.record, 180, &open);
        assert_eq!(
            (&third.cancel, third.record.progress.counts.skipped),
            (&open, 1),
            "the latest one counts"
        );
        assert_eq!(fired(&due(&third.record, 181, &[])), [at(180)]);
    }

    #[test]
    fn a_queue_without_room_costs_a_time_and_is_told() {
        let decision = with(Overlap::Skip).due(at(60), &[], Room::None);
        assert_eq!((decision.jobs.len(), decision.record.progress.counts.missed), (0, 1));
        assert_eq!(decision.told[0].what, What::NoRoom);
        assert_eq!(decision.record.open_jobs(), []);
    }

    #[test]
    fn a_job_knows_its_schedule_and_its_nominal_time() {
        let record = with(Overlap::Allow);
        let labels = |decision: Decision| -> Vec<String> {
            let labels = decision.jobs[0].options.labels.iter();
            labels.map(|(name, value)| format!("{}={}", name.as_str(), value.as_str())).collect()
        };
        let fired = labels(due(&record, 60, &[]));
        let name = format!("schedule={}", record.schedule.name);
        assert_eq!(fired, [name.clone(), "scheduled-for=1970-01-01T00:01:00+00:00".to_owned()]);
        let by_hand = labels(record.run_now(at(30), JobId::from_parts(at(30), 7)));
        assert_eq!(by_hand, [name, "scheduled-for=1970-01-01T00:00:30+00:00".to_owned()]);
    }

    #[test]
    fn a_job_by_hand_counts_apart_and_is_not_overlapped() {
        let record = with(Overlap::Skip);
        let id = JobId::from_parts(at(30), 7);
        let decision = record.run_now(at(30), id);
        assert_eq!(decision.jobs[0].id, id);
        assert_eq!((decision.record.progress.counts.by_hand, decision.record.progress.counts.fired), (1, 0));
        assert_eq!(due(&decision.record, 60, &[id]).record.progress.counts.skipped, 1);
    }

    #[test]
    fn a_range_is_filled_in_with_the_jobs_that_would_have_been() {
        let record = Record::new(every(60), at(3600));
        let decision = record.backfill(at(120), at(300), at(3600)).expect("a range of the past");
        assert_eq!(fired(&decision), [at(120), at(180), at(240)]);
        assert_eq!(decision.jobs[0].id, record.schedule.job_id(at(120)));
        assert_eq!(record.backfill(at(0), at(3601), at(3600)), Err(BackfillError::Future));
        let dense = Record::new(every(1), at(3600));
        assert_eq!(dense.backfill(at(0), at(3600), at(3600)), Err(BackfillError::TooMany));
    }

    fn overlap() -> impl Strategy<Value = Overlap> {
        (0..Overlap::ALL.len()).prop_map(|n| Overlap::ALL[n])
    }

    proptest! {
        /// Whatever the delays are: no nominal time fires twice, all that rise do so in order, and each becomes one thing.
        #[test]
        fn each_nominal_time_becomes_one_thing(
            overlap in overlap(), period in 1..200u64, spread in 0..300u64, most in 0..5u32, window in 0..1000u64,
            steps in prop::collection::vec((0..500u64, 0..4u8), 1..40),
        ) {
            let catch_up = CatchUp { window: Duration::from_secs(window), most };
            let schedule = Schedule { overlap, spread: Duration::from_secs(spread), catch_up, ..every(period) };
            let (mut record, mut now) = (Record::new(schedule, at(1000)), 1000);
            let mut seen = std::collections::BTreeSet::new();
            for (wait, finishes) in steps {
                now += wait;
                let open = record.open_jobs();
                let unfinished: Vec<JobId> = open.iter().copied().filter(|_| finishes > 0).collect();
                let decision = record.due(at(now), &unfinished, if finishes == 3 { Room::None } else { Room::There });
                for job in &decision.jobs {
                    prop_assert!(seen.insert(job.id), "it fires once");
                }
                prop_assert!(decision.cancel.iter().all(|job| open.contains(job)));
                record = decision.record;
                let progress = &record.progress;
                let all = progress.counts.fired + progress.counts.missed + progress.counts.skipped + progress.waiting.len() as u64;
                let passed = record.schedule.times.after(at(1000)).take_while(|nominal| *nominal <= progress.handled_until).count();
                prop_assert_eq!(all, passed as u64);
                prop_assert!(record.next_due(at(now)).is_some_and(|due| due > at(now)), "nothing that is due is left");
                prop_assert!(overlap == Overlap::Allow || progress.open.len() <= 1);
            }
        }
    }
}
