//! Why a job isn't running: everything that it waits for, from what its store and its configuration know.

use std::fmt;
use std::time::Duration;

use crate::group::{GroupTurns, TurnHolder};
use crate::hold::{Hold, HoldReason};
use crate::id::{GroupKey, JobId, PluginName, TenantId};
use crate::job::{JobRecord, State};
use crate::quota::{FuelQuota, FuelSpent, Verdict, Window};
use crate::rate::{FullAt, RateLimit, RateOf};
use crate::reason::Reason;
use crate::text;
use crate::time::Timestamp;

/// Maximum number of jobs that are counted before another one.
pub const AHEAD_COUNTED_MAX: u64 = 1_000;

/// Facts that a store knows about what a job waits for, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitFacts {
    /// The time by the store's clock.
    pub now: Timestamp,
    /// The holds in force that cover the job, in the order of their scopes.
    pub holds: Vec<Hold>,
    /// Number of ready jobs of its queue that go before it and aren't held back, if it is ready; [`AHEAD_COUNTED_MAX`] means that
    /// or more. 0 if it isn't ready, or is held back itself.
    pub ahead: u64,
    /// Fuel that the tenant's runs have spent.
    pub spent: FuelSpent,
    /// Number of jobs that are leased under each fleet limit, by name. Empty if the store's user may not look.
    pub limits: Vec<(PluginName, u64)>,
    /// States of the rate limits of which not all tokens are there, in their order. Empty if the store's user may not look.
    pub rates: Vec<(RateOf, FullAt)>,
    /// Turns of the group in whose line the job waits; `None` if it waits in none, or its queue has no rule for groups any more.
    pub group: Option<GroupTurns>,
}

/// Terms of a configuration that a job may have to wait for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WaitTerms {
    /// The tenant's quota of fuel.
    pub fuel: Option<FuelQuota>,
    /// The plugin whose limit the job counts against, with the maximum number of jobs that are leased at once.
    pub limit: Option<(PluginName, u32)>,
    /// The rate limit of which the job takes tokens.
    pub rate: Option<RateLimit>,
}

/// One thing that a job waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// The end of a hold.
    Hold(Hold),
    /// A plugin that handles its kind, from its queue.
    Plugin,
    /// The time that its producer chose.
    Time {
        /// The time.
        until: Timestamp,
    },
    /// The time of its next try.
    Retry {
        /// The time.
        until: Timestamp,
        /// Reason why the try before came to nothing; `None` if that isn't known.
        reason: Option<Reason>,
        /// Number of attempts that counted so far.
        attempts: u32,
    },
    /// Fuel that its tenant may spend.
    Fuel {
        /// The window whose fuel is spent.
        window: Window,
        /// The start of the next window.
        until: Timestamp,
    },
    /// A run to end that counts against the same limit.
    Limit {
        /// The plugin that has the limit.
        name: PluginName,
        /// Number of jobs that are leased under it.
        leased: u64,
        /// Maximum number of those.
        most: u32,
    },
    /// Tokens of a rate limit.
    Rate {
        /// The limit.
        of: RateOf,
        /// The time at which it lets the next job through.
        until: Timestamp,
    },
    /// A turn of its group, which other jobs of that have.
    Group {
        /// The group.
        key: GroupKey,
        /// The turns of the group; `None` if they aren't known.
        turns: Option<GroupTurns>,
    },
    /// Jobs of its flow that it comes after.
    Parents {
        /// Ids of these jobs; one at least.
        jobs: Vec<JobId>,
    },
    /// The jobs of its queue that go before it.
    Turn {
        /// Number of these jobs; [`AHEAD_COUNTED_MAX`] means that or more.
        ahead: u64,
    },
}

impl Wait {
    /// The name in the API and the docs.
    #[must_use]
    pub fn slug(&self) -> &'static str {
        match self {
            Self::Hold(hold) => hold.reason.slug(),
            Self::Plugin => Reason::NoPlugin.slug(),
            Self::Time { .. } => "time",
            Self::Retry { .. } => "retry",
            Self::Fuel { .. } => "fuel",
            Self::Limit { .. } => "limit",
            Self::Rate { .. } => "rate",
            Self::Group { .. } => "group",
            Self::Parents { .. } => "parents",
            Self::Turn { .. } => "turn",
        }
    }

    /// Returns the time at which this wait ends by itself, or `None` if there is no such time.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Hold(hold) => hold.until,
            Self::Time { until }
            | Self::Retry { until, .. }
            | Self::Fuel { until, .. }
            | Self::Rate { until, .. } => Some(*until),
            Self::Plugin
            | Self::Limit { .. }
            | Self::Group { .. }
            | Self::Parents { .. }
            | Self::Turn { .. } => None,
        }
    }
}

/// Returns all that a job waits for, what has to be seen to by somebody first. Empty if it runs, or is final.
///
/// Without `facts`, that is what its record and these holds tell: neither what goes before it, nor what is spent.
#[must_use]
pub fn waits(job: &JobRecord, holds: &[Hold], facts: Option<&WaitFacts>, terms: &WaitTerms) -> Vec<Wait> {
    if !job.waits_for.is_empty() {
        return vec![Wait::Parents { jobs: job.waits_for.clone() }];
    }
    if !job.state.waits() {
        return Vec::new();
    }
    let covering = holds.iter().filter(|hold| hold.scope.covers(&job.queue, &job.kind));
    let mut waits: Vec<Wait> = covering.cloned().map(Wait::Hold).collect();
    if job.reason == Some(Reason::NoPlugin) {
        waits.push(Wait::Plugin);
    }
    if let (State::Blocked, Some(key)) = (job.state, &job.options.group) {
        waits.push(Wait::Group { key: key.clone(), turns: facts.and_then(|facts| facts.group) });
    }
    if let (State::Scheduled, Some(until)) = (job.state, job.due_at) {
        waits.push(match (job.lease.0, job.reason) {
            (0, _) => Wait::Time { until },
            (_, reason) => Wait::Retry { until, reason, attempts: job.attempts },
        });
    }
    let Some(facts) = facts.filter(|_| job.state == State::Ready) else { return waits };
    waits.extend(terms.fuel.and_then(|quota| fuel(&job.tenant, quota, facts)));
    waits.extend(terms.limit.clone().and_then(|(name, most)| limit(name, most, facts)));
    waits.extend(terms.rate.as_ref().and_then(|limit| rate(limit, facts)));
    if waits.is_empty() {
        waits.push(Wait::Turn { ahead: facts.ahead });
    }
    waits
}

fn fuel(tenant: &TenantId, quota: FuelQuota, facts: &WaitFacts) -> Option<Wait> {
    match quota.decide(tenant, &facts.spent) {
        Verdict::Hold { window, until } => Some(Wait::Fuel { window, until: facts.now.after(until) }),
        Verdict::Run | Verdict::RunIdle(_) | Verdict::Reject { .. } => None,
    }
}

fn limit(name: PluginName, most: u32, facts: &WaitFacts) -> Option<Wait> {
    let (_, leased) = facts.limits.iter().find(|(known, _)| *known == name)?;
    (*leased >= most.into()).then_some(Wait::Limit { name, leased: *leased, most })
}

fn rate(RateLimit { of, rate }: &RateLimit, facts: &WaitFacts) -> Option<Wait> {
    let (_, full_at) = facts.rates.iter().find(|(known, _)| known == of)?;
    let wait = rate.wait(*full_at, 1, facts.now.as_micros());
    // Clocks of brokers tick by the millisecond, so a part of one is over at its end.
    let until = facts.now.after(Duration::from_millis(wait.div_ceil(1000)));
    (wait > 0).then(|| Wait::Rate { of: of.clone(), until })
}

/// Tells a wait to people. Times come from `clock`, as this doesn't know how they are written.
pub struct Told<'a> {
    /// The wait.
    pub wait: &'a Wait,
    /// Function that writes a time.
    pub clock: fn(Timestamp) -> String,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clock = self.clock;
        match self.wait {
            Wait::Hold(Hold { scope, reason, by, since, until, note }) => {
                match (reason, by) {
                    (HoldReason::Paused, None) => write!(f, "{reason} {scope}")?,
                    (HoldReason::Paused, Some(by)) => write!(f, "{reason} {scope} by {}", text::line(by))?,
                    (reason, by) => {
                        let by = text::line(by.as_deref().unwrap_or_default());
                        let what = match reason {
                            HoldReason::RateLimited => "takes no calls",
                            HoldReason::HalfOpen => "is half-open",
                            HoldReason::Paused | HoldReason::Breaker => "is open",
                        };
                        write!(f, "breaker {by} {what}")?;
                    }
                }
                write!(f, " since {}", clock(*since))?;
                if let Some(until) = until {
                    write!(f, " until {}", clock(*until))?;
                }
                match note {
                    Some(note) => write!(f, " (\"{}\")", text::line(note)),
                    None => Ok(()),
                }
            }
            Wait::Plugin => f.write_str("no plugin handles its kind from its queue"),
            Wait::Time { until } => write!(f, "scheduled for {}", clock(*until)),
            Wait::Retry {
                until,
                reason: Some(reason @ (Reason::Snoozed | Reason::RateLimited | Reason::Unavailable)),
                ..
            } => {
                write!(f, "put off by its handler until {} ({reason})", clock(*until))
            }
            Wait::Retry { until, reason, attempts } => {
                write!(f, "waits for a retry until {} ({attempts} attempts", clock(*until))?;
                match reason {
                    Some(reason) => write!(f, ", {reason})"),
                    None => f.write_str(")"),
                }
            }
            Wait::Fuel { window, until } => {
                write!(f, "the tenant's fuel of the {window} is spent until {}", clock(*until))
            }
            Wait::Limit { name, leased, most } => write!(f, "limit {name} ({leased} of {most})"),
            Wait::Rate { of, until } => write!(f, "rate {of} until {}", clock(*until)),
            Wait::Group { key, turns } => {
                let key = text::line(key.as_str());
                match turns {
                    Some(GroupTurns { most: 1, holder: Some(TurnHolder { job, is_dead }), .. }) => {
                        write!(
                            f,
                            "group {key} held by {job}{}",
                            if *is_dead { ", which is dead" } else { "" }
                        )
                    }
                    Some(GroupTurns { taken, most, .. }) => write!(f, "group {key} ({taken} of {most})"),
                    None => write!(f, "waits for others of group {key}"),
                }
            }
            Wait::Parents { jobs } => match jobs.as_slice() {
                [only] => write!(f, "waits for job {only} of its flow"),
                jobs => write!(f, "waits for {} jobs of its flow", jobs.len()),
            },
            Wait::Turn { ahead: 0 } => f.write_str("first of its queue: waits for a daemon with room"),
            Wait::Turn { ahead: 1 } => f.write_str("behind 1 job"),
            Wait::Turn { ahead } if *ahead >= AHEAD_COUNTED_MAX => write!(f, "behind {ahead} jobs or more"),
            Wait::Turn { ahead } => write!(f, "behind {ahead} jobs"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::budget::Fuel;
    use crate::hold::{HoldEnd, HoldScope, NewHold};
    use crate::id::{JobId, LeaseNo};
    use crate::job::{JobOptions, NewJob};
    use crate::rate::Rate;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn job(delay: u64) -> JobRecord {
        let [queue, kind] = ["mail", "send"];
        let (queue, kind) = (queue.parse().expect("valid"), kind.parse().expect("valid"));
        let job = NewJob::new(JobId::from_parts(at(1), 1), queue, kind, Vec::new());
        let tenant = "acme".parse().expect("valid");
        JobRecord::of(NewJob { delay: Duration::from_secs(delay), ..job }, tenant, at(100))
    }

    fn facts() -> WaitFacts {
        let spent = FuelSpent::at(at(90), Fuel(7), Fuel(7));
        let (holds, limits, rates) = (Vec::new(), Vec::new(), Vec::new());
        WaitFacts { now: at(90), holds, ahead: 12, spent, limits, rates, group: None }
    }

    fn told(waits: &[Wait]) -> String {
        let clock = |at: Timestamp| format!("T{}", at.as_millis() / 1000);
        let texts: Vec<String> = waits.iter().map(|wait| Told { wait, clock }.to_string()).collect();
        texts.join("; ")
    }

    fn pause(queue: &str, kind: Option<&str>) -> Hold {
        let scope = HoldScope {
            queue: Some(queue.parse().expect("valid")),
            kind: kind.map(|kind| kind.parse().expect("valid")),
        };
        let (by, note) = (Some("ana".to_owned()), Some("provider\ndown".to_owned()));
        NewHold { by, note, end: HoldEnd::At(at(99)), ..NewHold::pause(scope) }.made(None, at(50))
    }

    fn plain(job: &JobRecord, facts: &WaitFacts) -> String {
        told(&waits(job, &facts.holds, Some(facts), &WaitTerms::default()))
    }

    #[test]
    fn a_ready_job_waits_for_those_before_it() {
        for (ahead, text) in [
            (0, "first of its queue: waits for a daemon with room"),
            (1, "behind 1 job"),
            (12, "behind 12 jobs"),
            (AHEAD_COUNTED_MAX, "behind 1000 jobs or more"),
        ] {
            assert_eq!(plain(&job(0), &WaitFacts { ahead, ..facts() }), text);
        }
    }

    #[test]
    fn a_blocked_job_waits_for_its_group() {
        let options = JobOptions { group: Some("acme".parse().expect("valid")), ..JobOptions::default() };
        let blocked = JobRecord { state: State::Blocked, options, ..job(0) };
        assert_eq!(plain(&blocked, &facts()), "waits for others of group acme");
        let id = JobId::from_parts(at(1), 2);
        let held = |taken, most, is_dead| {
            let holder = Some(TurnHolder { job: id, is_dead });
            plain(&blocked, &WaitFacts { group: Some(GroupTurns { taken, most, holder }), ..facts() })
        };
        assert_eq!(held(1, 1, false), format!("group acme held by {id}"));
        assert_eq!(held(1, 1, true), format!("group acme held by {id}, which is dead"));
        assert_eq!(held(5, 5, false), "group acme (5 of 5)");
    }

    #[test]
    fn what_runs_or_is_final_waits_for_nothing() {
        for state in [State::Leased, State::Succeeded, State::Dead, State::Cancelled] {
            let holds = vec![pause("mail", None)];
            assert_eq!(plain(&JobRecord { state, ..job(0) }, &WaitFacts { holds, ..facts() }), "");
        }
    }

    #[test]
    fn holds_are_told_with_who_made_them_and_why() {
        let holds = vec![pause("mail", None), pause("mail", Some("sort")), pause("other", None)];
        let facts = WaitFacts { holds, ..facts() };
        let text = "paused queue mail by ana since T50 until T99 (\"provider\\ndown\")";
        assert_eq!(plain(&job(0), &facts), text, "and nothing of those that don't cover it");
        assert_eq!(plain(&job(60), &facts), format!("{text}; scheduled for T160"), "both have to end");
    }

    #[test]
    fn a_blocked_job_waits_for_those_that_it_comes_after() {
        let id = JobId::from_parts(at(1), 2);
        let blocked = |waits_for| JobRecord { state: State::Blocked, waits_for, ..job(0) };
        assert_eq!(plain(&blocked(vec![id]), &facts()), format!("waits for job {id} of its flow"));
        assert_eq!(plain(&blocked(vec![id, id]), &facts()), "waits for 2 jobs of its flow");
    }

    #[test]
    fn a_retry_is_told_from_a_time_that_was_chosen() {
        let again = JobRecord { lease: LeaseNo(3), attempts: 2, reason: Some(Reason::Failed), ..job(60) };
        assert_eq!(plain(&again, &facts()), "waits for a retry until T160 (2 attempts, failed)");
        let put_off = JobRecord { reason: Some(Reason::RateLimited), ..again };
        assert_eq!(plain(&put_off, &facts()), "put off by its handler until T160 (rate-limited)");
    }

    #[test]
    fn nobody_serves_it() {
        let unserved = JobRecord { reason: Some(Reason::NoPlugin), ..job(0) };
        assert_eq!(plain(&unserved, &facts()), "no plugin handles its kind from its queue");
    }

    #[test]
    fn spent_fuel_and_full_limits_are_told() {
        let name: PluginName = "thumbnails".parse().expect("valid");
        let facts = WaitFacts { limits: vec![(name.clone(), 12)], ..facts() };
        let quota = FuelQuota { per_minute: Some(Fuel(7)), ..FuelQuota::default() };
        let with =
            |fuel, limit| told(&waits(&job(0), &[], Some(&facts), &WaitTerms { fuel, limit, rate: None }));
        assert_eq!(with(Some(quota), None), "the tenant's fuel of the minute is spent until T120");
        assert_eq!(with(None, Some((name.clone(), 12))), "limit thumbnails (12 of 12)");
        assert_eq!(with(None, Some((name, 13))), "behind 12 jobs", "there is room");
    }

    #[test]
    fn a_rate_is_told_with_the_time_of_its_next_token() {
        let of = RateOf::Named("stripe".parse().expect("valid"));
        let each_ten_seconds = Rate::new(NonZeroU32::MIN, 10_000_000, None).expect("a valid rate");
        let terms = WaitTerms {
            rate: Some(RateLimit { of: of.clone(), rate: each_ten_seconds }),
            ..WaitTerms::default()
        };
        let with = |full_at| {
            let facts = WaitFacts { rates: vec![(of.clone(), FullAt(full_at))], ..facts() };
            waits(&job(0), &[], Some(&facts), &terms)
        };
        assert_eq!(told(&with(97_000_000)), "rate stripe until T97");
        let until = Timestamp::from_millis(97_001);
        assert_eq!(with(97_000_001), [Wait::Rate { of: of.clone(), until }], "not a moment before");
        assert_eq!(told(&with(90_000_000)), "behind 12 jobs", "there is a token");
    }

    #[test]
    fn a_list_tells_what_needs_no_further_look() {
        let told = |job| told(&waits(&job, &[pause("mail", None)], None, &WaitTerms::default()));
        assert!(told(job(0)).starts_with("paused queue mail"));
        assert!(told(job(60)).ends_with("scheduled for T160"));
    }
}
