//! Circuit breakers: jobs wait while what they need fails, instead of using up their attempts.
//!
//! A breaker is a plugin's own, or that of a service outside, a *downstream*, that handlers call and say to be unavailable. It counts
//! how runs ended, by what daemons report, within a window that moves along. Where enough of enough runs failed, it opens: jobs of its
//! kinds aren't leased any more, until a time. From then on it is half-open: so many of them at once are let through as probes, which
//! close it by succeeding, or open it again, for longer.
//!
//! ```text
//!            too many failed                  its time is over
//! closed ───────────────────────> open ─────────────────────────> half-open
//!   ^                              ^ └──────── forced ┐              │ │
//!   │                              └──────────────────┼── a probe failed
//!   └────────── probes succeeded, or none came ───────┴────────────────┘
//! ```
//!
//! A store knows a breaker's [`Barrier`] alone: which kinds are held back until when, and how many of their jobs at once after that. All
//! else is this record, which daemons replace as a whole if it is still the one that they have read. So a gate opens and closes at its
//! time by itself, for a whole fleet, with nobody who looks at it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use crate::hold::{Hold, HoldReason, HoldScope};
use crate::id::{BreakerName, DownstreamName, Kind};
use crate::outcome::{Limit, Outcome, PutOff, StopReason};
use crate::schedule::Unreadable;
use crate::schedule::bytes::{In, Out};
use crate::time::Timestamp;

/// Maximum number of breakers of a tenant.
pub const BREAKERS_MAX: usize = 250;

/// Maximum number of kinds whose jobs one breaker holds back; of more, the first in the order of their names.
pub const BREAKER_KINDS_MAX: usize = 250;

/// Maximum number of probes at once, and of runs that a rule wants at least.
pub const BREAKER_COUNT_MAX: u32 = 10_000;

/// Time after which a half-open breaker of which nothing more is heard counts as closed.
pub const HALF_OPEN_MAX: Duration = Duration::from_secs(60 * 60);

/// Number of parts in which a window moves along.
pub const WINDOW_PARTS: u32 = 10;

/// Rule by which a breaker opens and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRule {
    rate: NonZeroU8,
    min: NonZeroU32,
    window: Duration,
    open: Duration,
    open_max: Duration,
    probes: NonZeroU32,
}

/// Parts of a [`BreakerRule`] that don't make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBreakerRule {
    /// The rate is no percentage above 0.
    #[error("`rate` is a percentage from 1 to 100")]
    Rate,
    /// A number is out of range.
    #[error("`{0}` is at most {BREAKER_COUNT_MAX}")]
    Count(&'static str),
    /// A time is out of range.
    #[error("`{0}` is a time from 1s to 1d")]
    Time(&'static str),
    /// The longest time is shorter than the first.
    #[error("`open_max` can't be shorter than `open`")]
    OpenMax,
}

impl Default for BreakerRule {
    fn default() -> Self {
        Self {
            rate: NonZeroU8::MIN.saturating_add(49),
            min: NonZeroU32::MIN.saturating_add(9),
            window: Duration::from_secs(60),
            open: Duration::from_secs(30),
            open_max: Duration::from_secs(10 * 60),
            probes: NonZeroU32::MIN,
        }
    }
}

impl BreakerRule {
    /// Shortest and longest window, and time for which a breaker is open.
    pub const TIMES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 60 * 60));

    /// Creates a rule: the breaker opens if at least `rate` percent of at least `min` runs within the `window` failed, first for
    /// `open`, then for twice as long each time that a probe fails, up to `open_max`. It lets so many `probes` through at once, and
    /// closes when as many have succeeded.
    ///
    /// # Errors
    /// If one of the parts is out of its range.
    pub fn new(
        rate: u8,
        min: NonZeroU32,
        window: Duration,
        (open, open_max): (Duration, Duration),
        probes: NonZeroU32,
    ) -> Result<Self, InvalidBreakerRule> {
        let (shortest, longest) = Self::TIMES;
        let rate = NonZeroU8::new(rate).filter(|rate| rate.get() <= 100).ok_or(InvalidBreakerRule::Rate)?;
        for (what, count) in [("min", min), ("probes", probes)] {
            if count.get() > BREAKER_COUNT_MAX {
                return Err(InvalidBreakerRule::Count(what));
            }
        }
        for (what, time) in [("window", window), ("open", open), ("open_max", open_max)] {
            if !(shortest..=longest).contains(&time) {
                return Err(InvalidBreakerRule::Time(what));
            }
        }
        if open_max < open {
            return Err(InvalidBreakerRule::OpenMax);
        }
        Ok(Self { rate, min, window, open, open_max, probes })
    }

    /// Returns the parts, as [`Self::new`] takes them.
    #[must_use]
    pub fn parts(&self) -> (NonZeroU8, NonZeroU32, Duration, (Duration, Duration), NonZeroU32) {
        (self.rate, self.min, self.window, (self.open, self.open_max), self.probes)
    }

    /// Returns the time for which runs count.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Returns the length of time whose runs may be summed up in one [`EndedRuns`]: short beside the window and beside the time for
    /// which the breaker is open.
    #[must_use]
    pub fn part(&self) -> Duration {
        (self.window / WINDOW_PARTS).min(self.open / 4)
    }

    fn is_broken_by(&self, tally: RunTally) -> bool {
        tally.ended() >= self.min.get().into()
            && tally.failed.saturating_mul(100) >= tally.ended().saturating_mul(self.rate.get().into())
    }

    /// Returns the time for which a breaker is open that was opened again so many times.
    fn open_for(&self, reopened: u32) -> Duration {
        let factor = 1u32.checked_shl(reopened).unwrap_or(u32::MAX);
        self.open.saturating_mul(factor).min(self.open_max)
    }
}

/// Terms of a breaker, as a configuration has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BreakerTerms {
    /// Rule by which it opens and closes.
    pub rule: BreakerRule,
    /// Kinds whose jobs it holds back, and whose runs it counts.
    pub kinds: BTreeSet<Kind>,
}

/// Evidence that the end of a run is to a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The service or plugin works.
    Works,
    /// The service or plugin doesn't work.
    Fails,
    /// The service takes no more calls for this long.
    Limited(Duration),
}

impl Verdict {
    /// Returns what the end of a run says to a breaker of its kind; `None` if nothing.
    ///
    /// A plugin is accused by whatever its code does wrong, and a downstream by a handler that names it. Neither is by what its host
    /// or somebody who cancels a job has done. A success speaks for all.
    #[must_use]
    pub fn of(outcome: &Outcome, breaker: &BreakerName) -> Option<Self> {
        let is_named = |downstream: &DownstreamName| downstream.as_str() == breaker.as_str();
        match outcome {
            Outcome::Returned { .. } => Some(Self::Works),
            Outcome::PutOff { why: PutOff::Unavailable(Some(name)), .. } => {
                is_named(name).then_some(Self::Fails)
            }
            Outcome::PutOff { why: PutOff::RateLimited(Some(name)), after } => {
                is_named(name).then_some(Self::Limited(*after))
            }
            Outcome::PutOff { .. } | Outcome::HostFault { .. } => None,
            Outcome::Exceeded { limit: Limit::TenantMemory, .. } => None,
            Outcome::Aborted(StopReason::Cancelled | StopReason::Drained | StopReason::LeaseLost) => None,
            Outcome::FailedTransiently { .. }
            | Outcome::FailedPermanently { .. }
            | Outcome::Trapped { .. }
            | Outcome::Exceeded { .. }
            | Outcome::Aborted(StopReason::Deadline) => breaker.is_of_plugin().then_some(Self::Fails),
        }
    }
}

/// Number of runs, by how they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunTally {
    /// Runs that succeeded.
    pub succeeded: u64,
    /// Runs that failed in a way that the breaker counts.
    pub failed: u64,
}

impl RunTally {
    /// Returns the number of all runs.
    #[must_use]
    pub fn ended(self) -> u64 {
        self.succeeded.saturating_add(self.failed)
    }

    /// Returns the sum of two tallies.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            succeeded: self.succeeded.saturating_add(other.succeeded),
            failed: self.failed.saturating_add(other.failed),
        }
    }
}

impl fmt::Display for RunTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} runs failed", self.failed, self.ended())
    }
}

/// Runs that were leased and have ended at about the same times, by the broker's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedRuns {
    /// Latest time at which they were leased.
    pub started: Timestamp,
    /// Time at which they ended.
    pub ended: Timestamp,
    /// Ends of those runs.
    pub tally: RunTally,
}

/// A daemon's report to a breaker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BreakerReport {
    /// The runs that have ended since its last report.
    pub runs: Vec<EndedRuns>,
    /// Time until which the downstream takes no more calls, as a handler has said; `None` if none has.
    pub limited_until: Option<Timestamp>,
}

/// State of a breaker at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// All jobs pass.
    Closed,
    /// No job passes.
    Open,
    /// This number of jobs at once pass, as probes.
    HalfOpen,
}

impl BreakerState {
    /// The name in the API and the docs.
    #[must_use]
    pub fn slug(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slug())
    }
}

/// A change of a breaker's state by a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The breaker has opened, or opened again.
    Opened {
        /// Time at which it lets probes through.
        until: Timestamp,
        /// The runs that have opened it.
        tally: RunTally,
    },
    /// The breaker has closed.
    Closed,
}

/// A breaker's record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Breaker {
    kinds: BTreeSet<Kind>,
    phase: Phase,
    forced: Option<Forced>,
    limited: Option<Limited>,
}

/// State to which a breaker has come by the runs that it has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Closed, with the runs of the window: by when the part of the window began in which they ended.
    Closed(VecDeque<(Timestamp, RunTally)>),
    /// Open, and half-open once the time is over.
    Open(Opened),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Closed(VecDeque::new())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Opened {
    since: Timestamp,
    until: Timestamp,
    /// Number of times that a probe has failed since.
    reopened: u32,
    probes: NonZeroU32,
    /// Number of probes that have succeeded since the time was over.
    succeeded: u64,
    tally: RunTally,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limited {
    since: Timestamp,
    until: Timestamp,
}

/// State into which somebody has put a breaker by hand. Until its end no run counts; then the breaker is closed, and counts anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forced {
    /// Whether it is open: no job passes. If not, all do.
    pub is_open: bool,
    /// Who has done it, as they call themselves; `None` if that is unknown.
    pub by: Option<String>,
    /// Their remark.
    pub note: Option<String>,
    /// Time at which it was done.
    pub since: Timestamp,
    /// Time at which it ends by itself; `None` if somebody has to end it.
    pub until: Option<Timestamp>,
}

impl Breaker {
    /// Returns what is known of the runs: those of the window, or those that have opened it. `now` is the time by the broker's clock.
    #[must_use]
    pub fn tally(&self, now: Timestamp, rule: &BreakerRule) -> RunTally {
        match &self.phase {
            Phase::Closed(parts) => sum(parts.iter().filter(|(at, _)| now.since(*at) < rule.window)),
            Phase::Open(opened) => opened.tally,
        }
    }

    /// Returns the state into which somebody has put the breaker by hand; `None` if nobody has.
    #[must_use]
    pub fn forced(&self, now: Timestamp) -> Option<&Forced> {
        self.forced.as_ref().filter(|forced| forced.until.is_none_or(|until| until > now))
    }

    /// Returns the state of the breaker.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> BreakerState {
        match self.at(now).gate().map(|gate| gate.pass(now)) {
            None | Some(Pass::All) => BreakerState::Closed,
            Some(Pass::None) => BreakerState::Open,
            Some(Pass::Probes(_)) => BreakerState::HalfOpen,
        }
    }

    /// Takes in a daemon's report. Kinds are those whose jobs the breaker holds back, as the daemon knows them. Returns how the
    /// breaker's state has changed.
    ///
    /// A run that ends while the breaker is open tells of the time before, and doesn't count. Nor does what was leased before it was
    /// half-open.
    pub fn report(
        &mut self,
        rule: &BreakerRule,
        kinds: impl IntoIterator<Item = Kind>,
        report: &BreakerReport,
        now: Timestamp,
    ) -> Option<Turn> {
        *self = self.at(now);
        self.kinds = kinds.into_iter().collect::<BTreeSet<_>>().into_iter().take(BREAKER_KINDS_MAX).collect();
        if let Some(until) = report.limited_until.filter(|until| *until > now) {
            let limited = self.limited.get_or_insert(Limited { since: now, until });
            limited.until = limited.until.max(until);
        }
        if self.forced.is_some() {
            return None;
        }
        match &mut self.phase {
            Phase::Closed(parts) => {
                for runs in &report.runs {
                    count(parts, runs, rule, now);
                }
                parts.retain(|(at, _)| now.since(*at) < rule.window);
                let tally = sum(parts.iter());
                // As successes leave the window the rate rises, but only a failure says that something is wrong now.
                let has_failed = report.runs.iter().any(|runs| runs.tally.failed > 0);
                (has_failed && rule.is_broken_by(tally)).then(|| self.open(rule, now, tally))
            }
            Phase::Open(opened) if now < opened.until => None,
            Phase::Open(opened) => {
                let probes = report.runs.iter().filter(|runs| runs.started >= opened.until);
                let tally = probes.fold(RunTally::default(), |all, runs| all.and(runs.tally));
                opened.succeeded = opened.succeeded.saturating_add(tally.succeeded);
                if tally.failed > 0 {
                    opened.reopened = opened.reopened.saturating_add(1);
                    (opened.until, opened.succeeded) = (now.after(rule.open_for(opened.reopened)), 0);
                    (opened.probes, opened.tally) = (rule.probes, tally);
                    return Some(Turn::Opened { until: opened.until, tally });
                }
                if opened.succeeded < opened.probes.get().into() {
                    return None;
                }
                self.phase = Phase::default();
                Some(Turn::Closed)
            }
        }
    }

    fn open(&mut self, rule: &BreakerRule, now: Timestamp, tally: RunTally) -> Turn {
        let until = now.after(rule.open_for(0));
        let probes = rule.probes;
        self.phase = Phase::Open(Opened { since: now, until, reopened: 0, probes, succeeded: 0, tally });
        Turn::Opened { until, tally }
    }

    /// Returns the breaker as somebody puts it by hand.
    #[must_use]
    pub fn force(kinds: impl IntoIterator<Item = Kind>, forced: Forced) -> Self {
        let kinds = kinds.into_iter().collect::<BTreeSet<_>>().into_iter().take(BREAKER_KINDS_MAX).collect();
        Self { kinds, forced: Some(forced), ..Self::default() }
    }

    /// Returns the kinds whose jobs the breaker holds back.
    #[must_use]
    pub fn kinds(&self) -> &BTreeSet<Kind> {
        &self.kinds
    }

    /// Returns the breaker without what has ended by its time.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Self {
        let mut left = self.clone();
        if left.forced.is_some() && left.forced(now).is_none() {
            (left.forced, left.phase) = (None, Phase::default());
        }
        left.limited = left.limited.filter(|limited| limited.until > now);
        if matches!(&left.phase, Phase::Open(opened) if opened.until.after(HALF_OPEN_MAX) <= now) {
            left.phase = Phase::default();
        }
        left
    }

    /// Whether nothing is lost if the record is removed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let is_empty = matches!(&self.phase, Phase::Closed(parts) if parts.is_empty());
        is_empty && self.forced.is_none() && self.limited.is_none()
    }

    /// Returns the gate of the breaker; `None` if all jobs pass.
    #[must_use]
    pub fn gate(&self) -> Option<Barrier> {
        let gate =
            |reason, since, shut, probes| Barrier { kinds: self.kinds.clone(), reason, since, shut, probes };
        if let Some(Forced { is_open, since, until, .. }) = self.forced {
            let shut = until.map_or(Shut::Always, Shut::Until);
            return is_open.then(|| gate(HoldReason::Breaker, since, shut, None));
        }
        match (&self.phase, self.limited) {
            (Phase::Open(opened), limited) => {
                let until = limited.map_or(opened.until, |limited| limited.until.max(opened.until));
                let probes = Probes { most: opened.probes, until: until.after(HALF_OPEN_MAX) };
                Some(gate(HoldReason::Breaker, opened.since, Shut::Until(until), Some(probes)))
            }
            (Phase::Closed(_), Some(Limited { since, until })) => {
                Some(gate(HoldReason::RateLimited, since, Shut::Until(until), None))
            }
            (Phase::Closed(_), None) => None,
        }
    }
}

/// Adds runs to the part of the window in which they ended.
fn count(parts: &mut VecDeque<(Timestamp, RunTally)>, runs: &EndedRuns, rule: &BreakerRule, now: Timestamp) {
    let part = u64::try_from((rule.window / WINDOW_PARTS).as_millis()).unwrap_or(u64::MAX).max(1);
    let ended = runs.ended.min(now).as_millis();
    let at = Timestamp::from_millis(ended - ended % part);
    match parts.binary_search_by_key(&at, |(at, _)| *at) {
        Ok(place) => parts[place].1 = parts[place].1.and(runs.tally),
        Err(place) => parts.insert(place, (at, runs.tally)),
    }
}

fn sum<'a>(parts: impl Iterator<Item = &'a (Timestamp, RunTally)>) -> RunTally {
    parts.fold(RunTally::default(), |all, (_, tally)| all.and(*tally))
}

/// Part of a breaker that keeps jobs from being leased, as a store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Barrier {
    /// Kinds of the jobs.
    pub kinds: BTreeSet<Kind>,
    /// Why they are held back.
    pub reason: HoldReason,
    /// Time since which they are.
    pub since: Timestamp,
    /// Whether none passes.
    pub shut: Shut,
    /// Jobs that pass when it isn't shut; `None` for all.
    pub probes: Option<Probes>,
}

/// Whether and for how long no job passes a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// Jobs pass.
    No,
    /// None passes until this time.
    Until(Timestamp),
    /// None passes until somebody opens the gate.
    Always,
}

/// Bound on the jobs that pass a gate that isn't shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probes {
    /// Maximum number of them that are leased at once, over all daemons.
    pub most: NonZeroU32,
    /// Time from which all pass.
    pub until: Timestamp,
}

/// Jobs that pass a barrier at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// No job.
    None,
    /// All jobs, as long as no more than this number that have passed it are leased.
    Probes(NonZeroU32),
    /// All jobs.
    All,
}

impl Barrier {
    /// Returns what passes.
    #[must_use]
    pub fn pass(&self, now: Timestamp) -> Pass {
        match (self.shut, self.probes) {
            (Shut::Always, _) => Pass::None,
            (Shut::Until(until), _) if now < until => Pass::None,
            (_, Some(probes)) if now < probes.until => Pass::Probes(probes.most),
            _ => Pass::All,
        }
    }

    /// Returns the next time at which more jobs pass by themselves, which those who wait for jobs have to be told of; `None` if there
    /// is none.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        match self.shut {
            Shut::Always => None,
            Shut::Until(until) => Some(until),
            Shut::No => self.probes.map(|probes| probes.until),
        }
    }

    /// Returns the gate without what is over; `None` if all jobs pass.
    #[must_use]
    pub fn swept(self, now: Timestamp) -> Option<Self> {
        let gate = match self.pass(now) {
            Pass::All => return None,
            Pass::None => self,
            Pass::Probes(_) => Self { shut: Shut::No, ..self },
        };
        Some(gate)
    }

    /// Returns what is held back, as holds of each kind by the breaker of this name.
    pub fn holds(&self, name: &BreakerName, now: Timestamp) -> impl Iterator<Item = Hold> {
        let (reason, until) = match (self.pass(now), self.shut) {
            (Pass::None, Shut::Until(until)) => (Some(self.reason), Some(until)),
            (Pass::None, _) => (Some(self.reason), None),
            (Pass::Probes(_), _) => (Some(HoldReason::HalfOpen), self.probes.map(|probes| probes.until)),
            (Pass::All, _) => (None, None),
        };
        let of_kind = move |reason| {
            let (name, since) = (name.as_str().to_owned(), self.since);
            self.kinds.iter().map(move |kind| Hold {
                scope: HoldScope { queue: None, kind: Some(kind.clone()) },
                reason,
                by: Some(name.clone()),
                since,
                until,
                note: None,
            })
        };
        reason.map(of_kind).into_iter().flatten()
    }
}

/// Error for bytes that aren't those of a breaker's record, or of another version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the breaker can't be read: {0}")]
pub struct UnreadableBreaker(String);

const VERSION: u8 = 1;

impl Breaker {
    /// Encodes the record: a version, then fields in a fixed order.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out(vec![VERSION]);
        let Self { kinds, phase, forced, limited } = self;
        out.list(kinds, |out, kind| {
            out.text(kind.as_str());
        });
        match phase {
            Phase::Closed(parts) => out.number(0).list(parts, |out, (at, tally)| {
                out.time(*at).number(tally.succeeded).number(tally.failed);
            }),
            Phase::Open(Opened { since, until, reopened, probes, succeeded, tally }) => {
                out.number(1).time(*since).time(*until).number((*reopened).into());
                out.number(probes.get().into()).number(*succeeded);
                out.number(tally.succeeded).number(tally.failed)
            }
        };
        match forced {
            None => out.number(0),
            Some(Forced { is_open, by, note, since, until }) => {
                out.number(1).number((*is_open).into()).time(*since).optional_time(*until);
                out.text(by.as_deref().unwrap_or_default()).text(note.as_deref().unwrap_or_default())
            }
        };
        match limited {
            None => out.number(0),
            Some(Limited { since, until }) => out.number(1).time(*since).time(*until),
        };
        out.0
    }

    /// Decodes what [`Self::to_bytes`] has made.
    ///
    /// # Errors
    /// If the bytes are cut, of another version, or not valid.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, UnreadableBreaker> {
        let mut from = In(bytes);
        let found = read(&mut from).map_err(|error| UnreadableBreaker(error.0))?;
        match from.0 {
            [] => Ok(found),
            _ => Err(UnreadableBreaker("it is longer than this version writes it".to_owned())),
        }
    }
}

impl Barrier {
    /// Encodes the gate, in the same way as a [`Breaker`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out(vec![VERSION]);
        let Self { kinds, reason, since, shut, probes } = self;
        out.list(kinds, |out, kind| {
            out.text(kind.as_str());
        });
        out.text(reason.slug()).time(*since);
        match shut {
            Shut::No => out.number(0),
            Shut::Until(until) => out.number(1).time(*until),
            Shut::Always => out.number(2),
        };
        match probes {
            None => out.number(0),
            Some(Probes { most, until }) => out.number(most.get().into()).time(*until),
        };
        out.0
    }

    /// Decodes what [`Self::to_bytes`] has made.
    ///
    /// # Errors
    /// If the bytes are cut, of another version, or not valid.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, UnreadableBreaker> {
        read_gate(&mut In(bytes)).map_err(|error| UnreadableBreaker(error.0))
    }
}

fn wrong(what: &str) -> Unreadable {
    Unreadable(what.to_owned())
}

fn read_gate(from: &mut In<'_>) -> Result<Barrier, Unreadable> {
    if from.take(1)? != [VERSION] {
        return Err(wrong("it was written by another version"));
    }
    let kinds = from.list(read_kind)?;
    let reason = HoldReason::from_slug(from.text()?).ok_or_else(|| wrong("its reason is none"))?;
    let since = from.time()?;
    let shut = match from.number()? {
        0 => Shut::No,
        1 => Shut::Until(from.time()?),
        _ => Shut::Always,
    };
    let probes = match NonZeroU32::new(u32::try_from(from.number()?).unwrap_or(u32::MAX)) {
        None => None,
        Some(most) => Some(Probes { most, until: from.time()? }),
    };
    Ok(Barrier { kinds: kinds.into_iter().collect(), reason, since, shut, probes })
}

fn read_kind(from: &mut In<'_>) -> Result<Kind, Unreadable> {
    Kind::parse(from.text()?).map_err(|error| wrong(&error.to_string()))
}

fn read(from: &mut In<'_>) -> Result<Breaker, Unreadable> {
    if from.take(1)? != [VERSION] {
        return Err(wrong("it was written by another version"));
    }
    let kinds = from.list(read_kind)?;
    let tally = |from: &mut In<'_>| Ok(RunTally { succeeded: from.number()?, failed: from.number()? });
    let number = |from: &mut In<'_>| from.number().map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    let phase = match from.number()? {
        0 => Phase::Closed(from.list(|from| Ok((from.time()?, tally(from)?)))?.into()),
        _ => Phase::Open(Opened {
            since: from.time()?,
            until: from.time()?,
            reopened: number(from)?,
            probes: NonZeroU32::new(number(from)?).ok_or_else(|| wrong("it lets no probes through"))?,
            succeeded: from.number()?,
            tally: tally(from)?,
        }),
    };
    let text =
        |from: &mut In<'_>| from.text().map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()));
    let forced = match from.number()? {
        0 => None,
        _ => {
            let (is_open, since, until) = (from.number()? == 1, from.time()?, from.optional_time()?);
            Some(Forced { is_open, since, until, by: text(from)?, note: text(from)? })
        }
    };
    let limited = match from.number()? {
        0 => None,
        _ => Some(Limited { since: from.time()?, until: from.time()? }),
    };
    Ok(Breaker { kinds: kinds.into_iter().collect(), phase, forced, limited })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000 + seconds * 1000)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn not_zero(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).expect("not zero")
    }

    /// Half of at least four runs in a minute; open for 10, 20, then 30 s; two probes.
    fn rule() -> BreakerRule {
        BreakerRule::new(50, not_zero(4), secs(60), (secs(10), secs(30)), not_zero(2)).expect("valid")
    }

    fn kind() -> Kind {
        Kind::parse("send").expect("valid")
    }

    fn runs(second: u64, succeeded: u64, failed: u64) -> BreakerReport {
        let runs =
            EndedRuns { started: at(second), ended: at(second), tally: RunTally { succeeded, failed } };
        BreakerReport { runs: vec![runs], limited_until: None }
    }

    impl Breaker {
        fn hears(&mut self, second: u64, report: &BreakerReport) -> Option<Turn> {
            self.report(&rule(), [kind()], report, at(second))
        }

        fn passes(&self, second: u64) -> Pass {
            self.gate().map_or(Pass::All, |gate| gate.pass(at(second)))
        }
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::default();
        let turn = breaker.hears(0, &runs(0, 0, 4));
        assert_eq!(turn, Some(Turn::Opened { until: at(10), tally: RunTally { succeeded: 0, failed: 4 } }));
        breaker
    }

    #[test]
    fn it_opens_at_the_rate_once_enough_runs_have_ended() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.hears(0, &runs(0, 0, 3)), None, "too few");
        assert_eq!(breaker.hears(1, &runs(1, 4, 0)), None, "three of seven");
        assert_eq!(breaker.passes(1), Pass::All);
        assert!(matches!(breaker.hears(2, &runs(2, 0, 1)), Some(Turn::Opened { .. })), "four of eight");
        assert_eq!([2, 11].map(|second| breaker.passes(second)), [Pass::None; 2]);
        assert_eq!(breaker.passes(12), Pass::Probes(not_zero(2)), "at its time and by itself");
    }

    #[test]
    fn runs_before_the_window_do_not_count() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.hears(0, &runs(0, 0, 3)), None);
        assert_eq!(breaker.hears(61, &runs(61, 0, 3)), None);
        assert_eq!(breaker.hears(62, &runs(1, 0, 3)), None, "told too late");
        assert!(breaker.hears(63, &runs(63, 0, 1)).is_some());
    }

    #[test]
    fn probes_close_it_and_what_was_leased_before_says_nothing() {
        let mut breaker = opened();
        assert_eq!(breaker.hears(5, &runs(5, 9, 9)), None, "it is open");
        assert_eq!(breaker.hears(11, &runs(0, 9, 9)), None, "leased before it was open");
        assert_eq!(breaker.hears(12, &runs(11, 1, 0)), None);
        assert_eq!(breaker.state(at(12)), BreakerState::HalfOpen);
        assert_eq!(breaker.hears(13, &runs(12, 1, 0)), Some(Turn::Closed));
        assert_eq!((breaker.gate(), breaker.is_idle()), (None, true));
    }

    #[test]
    fn each_probe_that_fails_opens_it_for_longer_up_to_a_bound() {
        let (mut breaker, mut second) = (opened(), 10);
        for open in [20, 30, 30, 30] {
            let Some(Turn::Opened { until, .. }) = breaker.hears(second, &runs(second, 5, 1)) else {
                panic!("it opens again");
            };
            assert_eq!(until, at(second + open));
            second += open;
        }
        breaker.hears(second, &runs(second, 2, 0));
        let again = breaker.hears(second, &runs(second, 0, 4));
        assert!(
            matches!(again, Some(Turn::Opened { until, .. }) if until == at(second + 10)),
            "it begins anew"
        );
    }

    #[test]
    fn a_half_open_one_of_which_nothing_is_heard_is_closed_in_the_end() {
        let breaker = opened();
        let closed = 10 + HALF_OPEN_MAX.as_secs();
        assert_eq!(breaker.state(at(closed - 1)), BreakerState::HalfOpen);
        assert_eq!(breaker.state(at(closed)), BreakerState::Closed);
        assert_eq!(breaker.at(at(closed)).gate(), None);
    }

    #[test]
    fn what_was_done_by_hand_holds_until_its_end() {
        for is_open in [true, false] {
            let forced =
                Forced { is_open, by: None, note: Some("why".into()), since: at(0), until: Some(at(100)) };
            let mut breaker = Breaker::force([kind()], forced);
            assert_eq!(breaker.hears(1, &runs(1, 0, 100)), None, "no run counts");
            assert_eq!(breaker.passes(99), if is_open { Pass::None } else { Pass::All });
            assert_eq!(breaker.passes(100), Pass::All);
            assert!(breaker.hears(100, &runs(100, 0, 100)).is_some(), "it counts anew");
        }
        let forced = Forced { is_open: true, by: None, note: None, since: at(0), until: None };
        assert_eq!(Breaker::force([kind()], forced).passes(u64::from(u32::MAX)), Pass::None);
    }

    #[test]
    fn a_downstream_that_takes_no_more_calls_is_left_alone_until_its_time() {
        let limited = |second| BreakerReport { runs: Vec::new(), limited_until: Some(at(second)) };
        let mut breaker = Breaker::default();
        assert_eq!(breaker.hears(0, &limited(5)), None);
        breaker.hears(1, &limited(3));
        assert_eq!(
            [4, 5].map(|second| breaker.passes(second)),
            [Pass::None, Pass::All],
            "the latest time counts"
        );
        assert_eq!(breaker.gate().map(|gate| gate.reason), Some(HoldReason::RateLimited));
        let mut breaker = opened();
        breaker.hears(1, &limited(20));
        assert_eq!(breaker.passes(19), Pass::None);
        assert_eq!(breaker.passes(20), Pass::Probes(not_zero(2)));
    }

    #[test]
    fn a_gate_tells_of_each_change_once() {
        let gate = opened().gate().expect("it is open");
        assert_eq!(gate.next(), Some(at(10)));
        assert_eq!(gate.clone().swept(at(9)), Some(gate.clone()));
        let half_open = gate.swept(at(10)).expect("probes pass");
        assert_eq!(half_open.next(), Some(at(10).after(HALF_OPEN_MAX)));
        assert_eq!(half_open.clone().swept(at(11)), Some(half_open.clone()));
        assert_eq!(half_open.swept(at(10).after(HALF_OPEN_MAX)), None);
    }

    #[test]
    fn a_gate_is_listed_as_holds_of_its_kinds() {
        let (gate, name) =
            (opened().gate().expect("it is open"), BreakerName::parse("stripe").expect("valid"));
        let told = |second| {
            let holds: Vec<_> = gate.holds(&name, at(second)).collect();
            holds.first().map(|hold| (hold.scope.clone(), hold.reason, hold.by.clone(), hold.until))
        };
        let (scope, by) = (HoldScope { queue: None, kind: Some(kind()) }, Some("stripe".to_owned()));
        assert_eq!(told(9), Some((scope.clone(), HoldReason::Breaker, by.clone(), Some(at(10)))));
        let closes = Some(at(10).after(HALF_OPEN_MAX));
        assert_eq!(told(10), Some((scope, HoldReason::HalfOpen, by, closes)));
        assert_eq!(told(10 + HALF_OPEN_MAX.as_secs()), None);
    }

    #[test]
    fn only_what_accuses_it_counts() {
        let name = |text: &str| BreakerName::parse(text).expect("valid");
        let downstream = |text: &str| DownstreamName::parse(text).expect("valid");
        let (plugin, stripe, smtp) = (name("plugin/mail"), name("stripe"), name("smtp"));
        let said = |outcome: Outcome| [&plugin, &stripe, &smtp].map(|of| Verdict::of(&outcome, of));
        let put_off = |why| Outcome::PutOff { why, after: secs(7) };
        let message = String::new;
        let fails = Some(Verdict::Fails);
        let returned = Outcome::Returned { output: Vec::new(), effects: crate::effects::Effects::default() };
        assert_eq!(said(returned), [Some(Verdict::Works); 3]);
        let failed = Outcome::FailedTransiently { message: message(), code: None, retry_after: None };
        for outcome in [
            failed,
            Outcome::FailedPermanently { message: message() },
            Outcome::Trapped { message: message() },
            Outcome::Exceeded { limit: Limit::Fuel, message: message() },
            Outcome::Exceeded { limit: Limit::Time, message: message() },
            Outcome::Aborted(StopReason::Deadline),
        ] {
            assert_eq!(said(outcome), [fails, None, None]);
        }
        for outcome in [
            Outcome::Exceeded { limit: Limit::TenantMemory, message: message() },
            Outcome::Aborted(StopReason::Cancelled),
            Outcome::Aborted(StopReason::Drained),
            Outcome::Aborted(StopReason::LeaseLost),
            Outcome::HostFault { message: message() },
            put_off(PutOff::Snoozed),
            put_off(PutOff::RateLimited(None)),
        ] {
            assert_eq!(said(outcome), [None; 3]);
        }
        assert_eq!(said(put_off(PutOff::Unavailable(Some(downstream("stripe"))))), [None, fails, None]);
        let limited = Some(Verdict::Limited(secs(7)));
        assert_eq!(said(put_off(PutOff::RateLimited(Some(downstream("smtp"))))), [None, None, limited]);
    }

    #[test]
    fn rules_out_of_range_are_refused() {
        let new = |rate, min, window, open, probes| {
            BreakerRule::new(rate, not_zero(min), secs(window), open, not_zero(probes))
        };
        let ok = (secs(1), secs(2));
        assert!(
            new(1, 1, 1, ok, 1).is_ok() && new(100, BREAKER_COUNT_MAX, 86_400, ok, BREAKER_COUNT_MAX).is_ok()
        );
        for (rule, text) in [
            (new(0, 1, 1, ok, 1), "`rate`"),
            (new(101, 1, 1, ok, 1), "`rate`"),
            (new(1, BREAKER_COUNT_MAX + 1, 1, ok, 1), "`min`"),
            (new(1, 1, 1, ok, BREAKER_COUNT_MAX + 1), "`probes`"),
            (new(1, 1, 0, ok, 1), "`window`"),
            (new(1, 1, 1, (secs(0), secs(1)), 1), "`open`"),
            (new(1, 1, 1, (secs(2), secs(86_401)), 1), "`open_max`"),
            (new(1, 1, 1, (secs(2), secs(1)), 1), "`open_max`"),
        ] {
            assert!(rule.is_err_and(|error| error.to_string().starts_with(text)), "{text}");
        }
    }

    /// What may happen to a breaker, and how many milliseconds after what happened before.
    #[derive(Debug, Clone)]
    enum Step {
        Report(BreakerReport),
        Force { is_open: bool, lasts: Option<u64> },
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
        let ended = (0..90_000u64, 0..90_000u64, 0..5u64, 0..5u64, prop::option::weighted(0.1, 0..60_000u64));
        let report = ended.prop_map(|(lasted, before, succeeded, failed, limited)| {
            // Ages for now; the times come from the step's own.
            let ended = EndedRuns {
                started: Timestamp::from_millis(lasted + before),
                ended: Timestamp::from_millis(before),
                tally: RunTally { succeeded, failed },
            };
            Step::Report(BreakerReport {
                runs: vec![ended],
                limited_until: limited.map(Timestamp::from_millis),
            })
        });
        let force = (any::<bool>(), prop::option::of(0..60_000u64))
            .prop_map(|(is_open, lasts)| Step::Force { is_open, lasts });
        prop::collection::vec((0..20_000u64, prop_oneof![9 => report, 1 => force]), 1..60)
    }

    fn take(breaker: &mut Breaker, step: Step, now: Timestamp) -> Option<Turn> {
        let ago = |age: Timestamp| Timestamp::from_millis(now.as_millis() - age.as_millis());
        match step {
            Step::Report(mut report) => {
                for runs in &mut report.runs {
                    (runs.started, runs.ended) = (ago(runs.started), ago(runs.ended));
                }
                let limited =
                    report.limited_until.map(|time| now.after(Duration::from_millis(time.as_millis())));
                report.limited_until = limited;
                breaker.report(&rule(), [kind()], &report, now)
            }
            Step::Force { is_open, lasts } => {
                let until = lasts.map(|lasts| now.after(Duration::from_millis(lasts)));
                *breaker =
                    Breaker::force([kind()], Forced { is_open, by: None, note: None, since: now, until });
                None
            }
        }
    }

    proptest! {
        #[test]
        fn its_laws_hold_whatever_happens(steps in steps()) {
            let (mut breaker, mut now) = (Breaker::default(), at(1000));
            for (wait, step) in steps {
                now = now.after(Duration::from_millis(wait));
                let before = breaker.at(now);
                let is_report = matches!(step, Step::Report(_));
                let failed = matches!(&step, Step::Report(report) if report.runs.iter().any(|runs| runs.tally.failed > 0));
                let turn = take(&mut breaker, step, now);
                prop_assert_eq!(Breaker::from_bytes(&breaker.to_bytes()), Ok(breaker.clone()));
                match turn {
                    Some(Turn::Opened { until, .. }) => {
                        prop_assert!(failed, "only what fails opens it");
                        prop_assert!(until >= now.after(rule().open) && until <= now.after(rule().open_max));
                        prop_assert_eq!(breaker.state(now), BreakerState::Open);
                        prop_assert!(before.forced.is_none());
                    }
                    Some(Turn::Closed) => {
                        prop_assert!(!failed || before.state(now) == BreakerState::HalfOpen);
                        prop_assert!(matches!(before.phase, Phase::Open(_)));
                    }
                    // What isn't told as a change lets no more jobs through.
                    None if is_report => prop_assert_eq!(
                        matches!(before.phase, Phase::Open(_)), matches!(breaker.phase, Phase::Open(_))
                    ),
                    None => {}
                }
                // A gate lets ever more through as time goes by, and each time is told before.
                if let Some(gate) = breaker.gate() {
                    prop_assert_eq!(Barrier::from_bytes(&gate.to_bytes()), Ok(gate.clone()));
                    let rank = |pass| match pass { Pass::None => 0, Pass::Probes(_) => 1, Pass::All => 2 };
                    let (mut time, mut shown, mut last) = (now, Some(gate.clone()), rank(gate.pass(now)));
                    while let Some(next) = shown.as_ref().and_then(Barrier::next) {
                        let before = Timestamp::from_millis(next.as_millis().saturating_sub(1)).max(time);
                        prop_assert_eq!(rank(gate.pass(before)), last);
                        time = next.max(time);
                        last = rank(gate.pass(time));
                        shown = shown.and_then(|gate| gate.swept(time));
                        prop_assert_eq!(shown.as_ref().map_or(2, |gate| rank(gate.pass(time))), last);
                    }
                }
                if let Phase::Closed(parts) = &breaker.phase {
                    prop_assert!(parts.len() <= WINDOW_PARTS as usize + 1);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, cut in any::<prop::sample::Index>()) {
            let _ = (Breaker::from_bytes(&bytes), Barrier::from_bytes(&bytes));
            let whole = opened().to_bytes();
            prop_assert!(Breaker::from_bytes(&whole[..cut.index(whole.len())]).is_err());
        }
    }
}
