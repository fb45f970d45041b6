//! Schedules: jobs that are enqueued at times of a calendar or an interval, once for all daemons.
//!
//! ```text
//! cron.rs      cron expressions                times.rs   nominal times: zones, exclusions, start and end
//! record.rs    a schedule and its progress     due.rs     what is done at a time, and what becomes of the record
//! bytes.rs     the record in bytes
//! ```
//!
//! A schedule has **nominal** times, at which it is to fire. Its spread puts each off to an **effective** time, before the next
//! nominal one. A store keeps one [`Record`] for each schedule. A daemon that finds it due decides what is to be done and writes
//! the new record together with the jobs in one atomic step, if the record is still the one that it has read. So a nominal time
//! is dealt with once, whichever daemons are there. The id of a job comes from schedule and nominal time.

pub(crate) mod bytes;
mod cron;
mod due;
mod record;
mod times;

use std::num::NonZeroU64;
use std::time::Duration;

pub use bytes::Unreadable;
pub use cron::{CRON_BYTES_MAX, Cron, InvalidCron};
pub use due::{BACKFILL_MAX, BackfillError, Decision, ON_TIME, Room};
pub use record::{LAST_KEPT, Past, Pause, Progress, Record, RunCounts, What};
pub use times::{Base, CRONS_MAX, EVERY_MAX, EVERY_MIN, InvalidTimes, Times, UnknownZone, Zone};

use crate::id::{JobId, Kind, LabelName, LabelValue, PluginName, QueueName, ScheduleName};
use crate::job::{NewJob, Priority};
use crate::labels::Labels;
use crate::time::{Timestamp, millis};

/// Maximum number of schedules of a tenant.
pub const SCHEDULES_MAX: usize = 1000;

/// Maximum length of the payload of a schedule's jobs, in bytes.
pub const SCHEDULE_PAYLOAD_MAX: usize = 16 << 10;

/// Maximum spread of a schedule: a day.
pub const SPREAD_MAX: Duration = Duration::from_secs(86_400);

/// Name of the label of a schedule's jobs that has the schedule's name.
pub const NAME_LABEL: &str = "schedule";

/// Name of the label of a schedule's jobs that has the nominal time, as in RFC 3339 with the offset of the schedule's zone.
pub const TIME_LABEL: &str = "scheduled-for";

/// A schedule: when it fires, and what it enqueues then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Name, by which its tenant has it once.
    pub name: ScheduleName,
    /// Its origin.
    pub source: Source,
    /// Its nominal times.
    pub times: Times,
    /// Template of its jobs.
    pub job: Template,
    /// Maximum time by which a job is put off, different for each nominal time; up to [`SPREAD_MAX`]. It is never put off to the
    /// next nominal time.
    pub spread: Duration,
    /// Maximum number of jobs, after which the schedule is over. `None` for no such bound.
    pub times_max: Option<NonZeroU64>,
    /// Treatment of nominal times at which no daemon was there.
    pub catch_up: CatchUp,
    /// Treatment of a nominal time at which an earlier job isn't finished.
    pub overlap: Overlap,
    /// Whether it doesn't fire, as its definition says so.
    pub paused: bool,
}

/// Origin of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The file of a plugin.
    Plugin(PluginName),
    /// A command at run time.
    Command,
}

/// Template of the jobs of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Kind of the jobs.
    pub kind: Kind,
    /// Queue in which they wait.
    pub queue: QueueName,
    /// Input of the handler; up to [`SCHEDULE_PAYLOAD_MAX`].
    pub payload: Vec<u8>,
    /// Priority among the ready jobs of the queue.
    pub priority: Priority,
}

/// Treatment of nominal times that have passed without a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchUp {
    /// Maximum time since a nominal time for it to be caught up; up to [`CatchUp::WINDOW_MAX`].
    pub window: Duration,
    /// Maximum number of nominal times that are caught up, the latest ones; up to [`CatchUp::MOST_MAX`].
    pub most: u32,
}

impl CatchUp {
    /// Maximum of [`Self::window`].
    pub const WINDOW_MAX: Duration = Duration::from_secs(31 * 86_400);
    /// Maximum of [`Self::most`].
    pub const MOST_MAX: u32 = 1000;
}

/// The default catches up the latest one within an hour, so that there is no storm after a long time without a daemon.
impl Default for CatchUp {
    fn default() -> Self {
        Self { window: Duration::from_secs(3600), most: 1 }
    }
}

/// Treatment of a nominal time at which an earlier job of the schedule isn't finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// Nothing: the time is skipped.
    #[default]
    Skip,
    /// One waits for the earlier job to finish; further ones are skipped.
    QueueOne,
    /// All wait, up to [`Overlap::WAITING_MAX`], and run one after the other.
    QueueAll,
    /// The earlier job is cancelled, and this one runs when that is finished.
    CancelOther,
    /// The job is enqueued beside the earlier one.
    Allow,
}

impl Overlap {
    /// Maximum number of nominal times that wait for an earlier job.
    pub const WAITING_MAX: usize = 100;

    /// All of them.
    pub const ALL: [Self; 5] = [Self::Skip, Self::QueueOne, Self::QueueAll, Self::CancelOther, Self::Allow];

    /// Returns the name in TOML, the command line and the docs.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::QueueOne => "queue-one",
            Self::QueueAll => "queue-all",
            Self::CancelOther => "cancel-other",
            Self::Allow => "allow",
        }
    }

    /// Returns the one with this slug, or `None` if there is none.
    #[must_use]
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|overlap| overlap.slug() == slug)
    }
}

impl Schedule {
    /// Returns the effective time of a nominal one: put off by a part of the spread that comes from name and nominal time alone,
    /// and before `next`, the nominal time that follows, if there is one.
    #[must_use]
    pub fn effective(&self, nominal: Timestamp, next: Option<Timestamp>) -> Timestamp {
        let gap = next.map_or(u64::MAX, |next| next.as_millis().saturating_sub(nominal.as_millis()));
        let room = millis(self.spread).saturating_add(1).min(gap);
        if room <= 1 {
            return nominal;
        }
        let part = (self.hash(nominal, Purpose::Spread) >> 64) as u64 % room;
        nominal.after(Duration::from_millis(part))
    }

    /// Returns the id of the job of a nominal time: always the same, and in the order of nominal times.
    #[must_use]
    pub fn job_id(&self, nominal: Timestamp) -> JobId {
        JobId::from_parts(nominal, self.hash(nominal, Purpose::JobId))
    }

    /// Creates the job of a nominal time. Its labels say which schedule and which time it is of: [`NAME_LABEL`] and [`TIME_LABEL`].
    #[must_use]
    pub fn job(&self, id: JobId, nominal: Timestamp) -> NewJob {
        let Template { kind, queue, payload, priority } = self.job.clone();
        let mut job = NewJob { priority, ..NewJob::new(id, queue, kind, payload) };
        job.options.labels = self.labels(nominal);
        job
    }

    fn labels(&self, nominal: Timestamp) -> Labels {
        let time = self.times.zone().rfc3339(nominal);
        let labels = [(NAME_LABEL, Some(self.name.as_str())), (TIME_LABEL, time.as_deref())];
        let labels = labels.into_iter().filter_map(|(name, value)| {
            Some((LabelName::parse(name).ok()?, LabelValue::parse(value?).ok()?))
        });
        Labels::of(labels).unwrap_or_default()
    }

    /// Returns the first nominal times after this one, at most `count`, each with its effective time.
    #[must_use]
    pub fn next(&self, after: Timestamp, count: usize) -> Vec<(Timestamp, Timestamp)> {
        let nominal: Vec<Timestamp> = self.times.after(after).take(count.saturating_add(1)).collect();
        let next = nominal.iter().copied().skip(1).map(Some).chain([None]);
        let both = nominal.iter().copied().zip(next);
        both.take(count).map(|(nominal, next)| (nominal, self.effective(nominal, next))).collect()
    }

    fn hash(&self, nominal: Timestamp, purpose: Purpose) -> u128 {
        let halves = [0x51ed_270b_9f3a_6c15_u64, 0xcbf2_9ce4_8422_2325].map(|seed| {
            let start = mix(seed ^ nominal.as_millis().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose as u64);
            let name = self.name.as_str().bytes();
            mix(name.fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
        });
        u128::from(halves[0]) << 64 | u128::from(halves[1])
    }
}

/// What a hash is for. The numbers never change, as job ids come from them.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Spread = 1,
    JobId = 2,
}

/// Spreads a change of any bit over all bits (the finalizer of SplitMix64).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A schedule that fires at every multiple of so many seconds.
    pub(crate) fn every(seconds: u64) -> Schedule {
        let base = Base::Every { period: Duration::from_secs(seconds), phase: Duration::ZERO };
        Schedule {
            name: ScheduleName::parse("nightly").expect("a valid name"),
            source: Source::Command,
            times: Times::new(base, Vec::new(), Zone::utc(), None, None).expect("valid"),
            job: Template {
                kind: Kind::parse("report.make").expect("a valid name"),
                queue: QueueName::parse("default").expect("a valid name"),
                payload: b"{}".to_vec(),
                priority: Priority::default(),
            },
            spread: Duration::ZERO,
            times_max: None,
            catch_up: CatchUp::default(),
            overlap: Overlap::Allow,
            paused: false,
        }
    }

    pub(crate) fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::{at, every};
    use super::*;

    #[test]
    fn the_id_of_a_job_comes_from_schedule_and_nominal_time_alone() {
        let schedule = every(60);
        let changed = Schedule { spread: Duration::from_secs(9), ..every(7) };
        assert_eq!(schedule.job_id(at(60)), changed.job_id(at(60)));
        assert_eq!(schedule.job_id(at(60)).to_string(), "0000001TK0D1ZX7PCZWDCGEK1M", "it never changes");
        assert!(schedule.job_id(at(60)) < schedule.job_id(at(120)));
        let other = Schedule { name: ScheduleName::parse("nightlz").expect("valid"), ..every(60) };
        assert_ne!(schedule.job_id(at(60)), other.job_id(at(60)));
    }

    #[test]
    fn schedules_at_the_same_time_are_spread_over_all_of_the_spread() {
        let mut tenths = [0; 10];
        for n in 0..1000 {
            let name = ScheduleName::parse(&format!("report-{n}")).expect("valid");
            let schedule = Schedule { name, spread: Duration::from_secs(1800), ..every(3600) };
            let by = schedule.effective(at(7200), Some(at(10_800))).since(at(7200));
            tenths[(by.as_millis() * 10 / 1_800_001) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (70..140).contains(count)), "{tenths:?}");
    }

    proptest! {
        #[test]
        fn no_spread_reaches_the_next_nominal_time(
            period in 1..5000u64, spread in 0..86_400_000u64, after in 0..10_000_000u64,
        ) {
            let schedule = Schedule { spread: Duration::from_millis(spread), ..every(period) };
            let next = schedule.next(at(after), 5);
            prop_assert_eq!(next.len(), 5);
            for pair in next.windows(2) {
                let [(nominal, effective), (following, _)] = pair else { unreachable!() };
                prop_assert!(nominal <= effective && effective < following);
                prop_assert!(effective.since(*nominal) <= schedule.spread);
            }
            prop_assert_eq!(&schedule.next(at(after), 5), &next, "it is the same each time");
        }
    }
}
