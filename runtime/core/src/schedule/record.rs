//! What is stored of a schedule: its definition, and how far it has come.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Overlap, Schedule};
use crate::id::JobId;
use crate::time::Timestamp;

/// Number of the latest nominal times that are kept with what became of them.
pub const LAST_KEPT: usize = 10;

/// Maximum number of unfinished jobs that a schedule remembers.
pub(super) const OPEN_MAX: usize = 10;

/// Share of the time that a run has waited for an earlier job after which is looked again whether that is finished.
const LOOK_AGAIN: u32 = 8;
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(250);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(60);

/// A schedule and its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The schedule.
    pub schedule: Schedule,
    /// Its progress.
    pub progress: Progress,
}

/// Progress of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Time up to which all nominal times are dealt with.
    pub handled_until: Timestamp,
    /// Numbers of its nominal times, by what became of them.
    pub counts: RunCounts,
    /// The latest nominal times, each with what became of it, the latest last; at most [`LAST_KEPT`].
    pub last: VecDeque<Past>,
    /// Jobs that weren't finished when they were last looked at, the latest last. Empty if the schedule doesn't care.
    pub open: VecDeque<JobId>,
    /// Nominal times that wait for a job to finish; at most [`Overlap::WAITING_MAX`].
    pub waiting: VecDeque<Timestamp>,
    /// The pause that a command has made. `None` if there is none.
    pub pause: Option<Pause>,
}

/// Numbers of a schedule's nominal times, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunCounts {
    /// Jobs that were enqueued for a nominal time.
    pub fired: u64,
    /// Jobs that a command has enqueued.
    pub by_hand: u64,
    /// Nominal times for which there was no daemon, or no room in the queue. This is a minimum: after very long, not all are
    /// counted.
    pub missed: u64,
    /// Nominal times that were skipped as an earlier job wasn't finished.
    pub skipped: u64,
}

/// Nominal time that was dealt with, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// The nominal time; for a job that was run by hand, the time of that.
    pub nominal: Timestamp,
    /// Time at which it was dealt with.
    pub at: Timestamp,
    /// Result at that time.
    pub what: What,
}

/// Result of a nominal time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The job was enqueued.
    Fired(JobId),
    /// The job was enqueued, later than it should have been, as there was no daemon.
    CaughtUp(JobId),
    /// The job was enqueued once an earlier one had finished.
    Waited(JobId),
    /// The job was enqueued by a command.
    ByHand(JobId),
    /// Nothing, as an earlier job wasn't finished.
    Skipped,
    /// Nothing, as there was no daemon at this time and at some before it: this many in all.
    Missed(u64),
    /// Nothing, as the queue had no room.
    NoRoom,
}

impl What {
    /// Returns the job that was enqueued, or `None` if none was.
    #[must_use]
    pub fn job(self) -> Option<JobId> {
        match self {
            Self::Fired(job) | Self::CaughtUp(job) | Self::Waited(job) | Self::ByHand(job) => Some(job),
            Self::Skipped | Self::Missed(_) | Self::NoRoom => None,
        }
    }

    /// Returns a remark for people. Empty if all is as it should be.
    #[must_use]
    pub fn remark(self) -> String {
        match self {
            Self::Fired(_) => String::new(),
            Self::CaughtUp(_) => "late: no daemon was there".to_owned(),
            Self::Waited(_) => "waited for the run before".to_owned(),
            Self::ByHand(_) => "by hand".to_owned(),
            Self::Skipped => "skipped: the run before wasn't finished".to_owned(),
            Self::Missed(1) => "missed: no daemon was there".to_owned(),
            Self::Missed(count) => format!("missed, with those before {count} times: no daemon was there"),
            Self::NoRoom => "missed: the queue was full".to_owned(),
        }
    }
}

/// A pause of a schedule by a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Name of the person who paused it, as they call themselves; `None` if that is unknown.
    pub by: Option<String>,
    /// Time at which it was paused.
    pub since: Timestamp,
    /// Reason, as that person has put it. Empty if none was given.
    pub note: String,
}

impl Pause {
    /// Maximum length of [`Self::by`] and of [`Self::note`], in bytes; longer ones are cut.
    pub const TEXT_MAX: usize = 500;

    /// Creates a pause. Texts are cut to a bounded length of one line; a name without any is unknown.
    #[must_use]
    pub fn new(by: Option<&str>, since: Timestamp, note: &str) -> Self {
        let line = |text: &str| {
            let line = crate::text::line(text);
            line[..line.floor_char_boundary(Self::TEXT_MAX)].to_owned()
        };
        Self { by: by.map(line).filter(|by| !by.is_empty()), since, note: line(note) }
    }
}

impl Record {
    /// Creates the record of a schedule that begins now: its first nominal time is the next one.
    #[must_use]
    pub fn new(schedule: Schedule, now: Timestamp) -> Self {
        let progress = Progress {
            handled_until: now,
            counts: RunCounts::default(),
            last: VecDeque::new(),
            open: VecDeque::new(),
            waiting: VecDeque::new(),
            pause: None,
        };
        Self { schedule, progress }
    }

    /// Returns the record under another definition, which keeps its progress, a pause included. If its times are others, those
    /// until now are dealt with. `None` if the definition is the same.
    #[must_use]
    pub fn redefined(&self, schedule: Schedule, now: Timestamp) -> Option<Self> {
        if schedule == self.schedule {
            return None;
        }
        let old = &self.schedule;
        let same_times = schedule.times == old.times && schedule.spread == old.spread && !old.paused;
        let mut progress = self.progress.clone();
        if !same_times {
            progress.handled_until = now.max(progress.handled_until);
        }
        if schedule.overlap == Overlap::Allow {
            progress.open.clear();
        }
        Some(Self { schedule, progress })
    }

    /// Whether the schedule doesn't fire for now, by its definition or a command.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.schedule.paused || self.progress.pause.is_some()
    }

    /// Returns the record of the schedule with a pause. A pause that it has already is replaced.
    #[must_use]
    pub fn paused(&self, pause: Pause) -> Self {
        let mut record = self.clone();
        record.progress.pause = Some(pause);
        record
    }

    /// Returns the record without the pause that a command has made. What has passed meanwhile isn't caught up. `None` if there
    /// is no such pause.
    #[must_use]
    pub fn resumed(&self, now: Timestamp) -> Option<Self> {
        self.progress.pause.as_ref()?;
        let mut record = self.clone();
        record.progress.pause = None;
        record.progress.handled_until = now.max(record.progress.handled_until);
        Some(record)
    }

    /// Whether no nominal time comes any more, and nothing waits.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.progress.waiting.is_empty() && self.next_nominal().is_none()
    }

    /// Returns how many more jobs the schedule may enqueue at its nominal times.
    pub(super) fn runs_left(&self) -> u64 {
        let Progress { counts, waiting, .. } = &self.progress;
        let bound = self.schedule.times_max.map_or(u64::MAX, |times_max| times_max.get());
        bound.saturating_sub(counts.fired).saturating_sub(waiting.len() as u64)
    }

    /// Returns the first nominal time that isn't dealt with. `None` if there is none.
    #[must_use]
    pub fn next_nominal(&self) -> Option<Timestamp> {
        if self.runs_left() == 0 { None } else { self.schedule.times.next_after(self.progress.handled_until) }
    }

    /// Returns the next nominal times, at most `count`, each with its effective time; of a paused schedule, those that it would
    /// have.
    #[must_use]
    pub fn next(&self, now: Timestamp, count: usize) -> Vec<(Timestamp, Timestamp)> {
        let after =
            if self.is_paused() { now.max(self.progress.handled_until) } else { self.progress.handled_until };
        let left = usize::try_from(self.runs_left()).unwrap_or(usize::MAX);
        self.schedule.next(after, count.min(left))
    }

    /// Returns the time at which something is to be done for the schedule. `None` if there is nothing.
    ///
    /// While a nominal time waits for a job to finish, it is looked at ever less often: an eighth of the time for which it has
    /// waited goes by between two looks.
    #[must_use]
    pub fn next_due(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_paused() {
            return None;
        }
        let nominal = self.next_nominal();
        let effective =
            nominal.map(|nominal| self.schedule.effective(nominal, self.schedule.times.next_after(nominal)));
        let look_again =
            self.progress.waiting.front().map(|since| {
                now.after((now.since(*since) / LOOK_AGAIN).clamp(LOOK_AGAIN_MIN, LOOK_AGAIN_MAX))
            });
        effective.into_iter().chain(look_again).min()
    }

    /// Returns the jobs of which has to be known whether they are finished before it can be decided what is to be done.
    #[must_use]
    pub fn open_jobs(&self) -> Vec<JobId> {
        self.progress.open.iter().copied().collect()
    }
}

impl Progress {
    /// Notes what became of a nominal time.
    pub(super) fn note(&mut self, past: Past) {
        self.last.push_back(past);
        while self.last.len() > LAST_KEPT {
            self.last.pop_front();
        }
    }

    /// Remembers a job that isn't finished.
    pub(super) fn open(&mut self, job: JobId) {
        self.open.push_back(job);
        while self.open.len() > OPEN_MAX {
            self.open.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, every};
    use super::*;

    #[test]
    fn a_new_schedule_begins_with_the_next_time() {
        let record = Record::new(every(60), at(61));
        assert_eq!((record.next_nominal(), record.next_due(at(61))), (Some(at(120)), Some(at(120))));
    }

    #[test]
    fn a_schedule_that_is_defined_anew_keeps_its_progress_and_catches_nothing_up_of_new_times() {
        let mut record = Record::new(every(60), at(0)).paused(Pause::new(Some("ann"), at(5), "moving house"));
        record.progress.counts.fired = 7;
        assert_eq!(record.redefined(every(60), at(500)), None, "nothing has changed");
        let payload =
            Schedule { job: super::super::Template { payload: Vec::new(), ..every(60).job }, ..every(60) };
        let changed = record.redefined(payload, at(500)).expect("it has changed");
        assert_eq!(changed.progress, record.progress);
        let changed = record.redefined(every(30), at(500)).expect("it has changed");
        assert_eq!(changed.progress.handled_until, at(500));
        assert!(changed.is_paused() && changed.progress.counts.fired == 7);
    }

    #[test]
    fn a_paused_schedule_is_never_due_and_catches_nothing_up() {
        let record = Record::new(every(60), at(0)).paused(Pause::new(Some("ann"), at(5), "so\nmuch"));
        assert_eq!(record.progress.pause.as_ref().map(|pause| pause.note.as_str()), Some("so\\nmuch"));
        assert_eq!(record.next_due(at(999)), None);
        let resumed = record.resumed(at(610)).expect("it was paused");
        assert_eq!(resumed.next_due(at(610)), Some(at(660)));
        assert_eq!(resumed.resumed(at(610)), None);
    }

    #[test]
    fn what_waits_is_looked_at_ever_less_often() {
        let mut record = Record::new(every(86_400), at(0));
        record.progress.waiting.push_back(at(100));
        let wait = |now| record.next_due(at(now)).expect("it waits").since(at(now));
        assert_eq!(wait(100), LOOK_AGAIN_MIN);
        assert_eq!(wait(180), Duration::from_secs(10));
        assert_eq!(wait(9000), LOOK_AGAIN_MAX);
    }
}
