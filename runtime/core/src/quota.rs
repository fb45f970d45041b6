//! Quotas of what a tenant or plugin may use over all its runs together, whatever the budget of one run.

use std::fmt;
use std::time::Duration;

use crate::account::Day;
use crate::budget::{Bytes, Fuel};
use crate::id::TenantId;
use crate::job::NewJob;
use crate::reason::Reason;
use crate::time::Timestamp;

/// Quota of fuel that the runs of a tenant may spend in a minute and in a day, on all daemons together.
///
/// The quota is checked before a run starts and counted when it is settled. So the runs that are under way when it is used up
/// are seen through, and the quota is exceeded by what they spend at most: each up to its own limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FuelQuota {
    /// Maximum fuel from one full minute to the next, by the broker's clock; `None` for no bound.
    pub per_minute: Option<Fuel>,
    /// Maximum fuel from midnight to midnight in UTC, by the broker's clock; `None` for no bound.
    pub per_day: Option<Fuel>,
    /// Treatment of jobs once the quota is used up.
    pub on_empty: OnEmpty,
}

/// Treatment of a tenant's jobs once its fuel is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnEmpty {
    /// Jobs stay ready until there is fuel again.
    #[default]
    Hold,
    /// Jobs are buried.
    Reject,
    /// Jobs run when no other tenant wants the processors.
    Idle,
}

/// Time window of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    /// Minute, from one full minute to the next.
    Minute,
    /// Day, from midnight to midnight, in UTC.
    Day,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minute => "minute",
            Self::Day => "day",
        })
    }
}

/// Bounds on what a tenant may have waiting at once, in all its queues together, and on the size of one payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueBounds {
    /// Maximum number of jobs that are scheduled or ready.
    pub jobs: u64,
    /// Maximum size of their payloads together.
    pub bytes: Bytes,
    /// Maximum size of the payload of one job.
    pub payload: Bytes,
}

impl QueueBounds {
    /// Maximum payload size that any store takes, whatever is configured: one job must not hold up the others' calls.
    pub const PAYLOAD_MAX: Bytes = Bytes::mib(8);

    /// Bounds that refuse nothing but payloads over [`Self::PAYLOAD_MAX`].
    pub const NONE: Self = Self { jobs: u64::MAX, bytes: Bytes(u64::MAX), payload: Self::PAYLOAD_MAX };

    /// Returns the bound that would be exceeded if `more` came to what is `waiting` already; `None` if neither would be.
    #[must_use]
    pub fn excess(&self, waiting: Waiting, more: Waiting) -> Option<QueueExcess> {
        if more.jobs > 0 && waiting.jobs.saturating_add(more.jobs) > self.jobs {
            return Some(QueueExcess::Jobs);
        }
        (more.bytes > 0 && waiting.bytes.saturating_add(more.bytes) > self.bytes.0)
            .then_some(QueueExcess::Bytes)
    }

    /// Returns the bound that would be exceeded if a payload of `after` bytes took the place of one of `before`; `None` if none
    /// would be. One that isn't longer exceeds nothing but the bound of a single payload.
    #[must_use]
    pub fn payload_excess(&self, waiting: Waiting, before: u64, after: u64) -> Option<PayloadExcess> {
        if Bytes(after) > self.payload {
            return Some(PayloadExcess::TooLarge);
        }
        let more = Waiting { jobs: 0, bytes: after.saturating_sub(before) };
        self.excess(waiting, more).map(PayloadExcess::Full)
    }

    /// Explains for people which bound, `excess`, would be exceeded, and what would help.
    #[must_use]
    pub fn explain(&self, excess: QueueExcess) -> String {
        match excess {
            QueueExcess::Jobs => format!(
                "{} jobs wait already, and no more may; let them run, remove some, or raise queue.jobs",
                self.jobs
            ),
            QueueExcess::Bytes => format!(
                "the payloads of the jobs that wait may be {} together; let them run, remove some, or raise queue.bytes",
                self.bytes
            ),
        }
    }
}

impl Default for QueueBounds {
    fn default() -> Self {
        Self { jobs: 1_000_000, bytes: Bytes::mib(1024), payload: Self::PAYLOAD_MAX }
    }
}

/// Amount of a tenant's jobs that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Number of jobs.
    pub jobs: u64,
    /// Size of their payloads, in bytes.
    pub bytes: u64,
}

impl Waiting {
    /// Returns the amount that these jobs come to where they wait.
    #[must_use]
    pub fn of(jobs: &[NewJob]) -> Self {
        Self { jobs: jobs.len() as u64, bytes: jobs.iter().map(|job| job.payload.len() as u64).sum() }
    }
}

/// Bound that a payload would exceed which takes the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PayloadExcess {
    /// The size of a single payload.
    TooLarge,
    /// The size of all payloads of the tenant's queues.
    Full(QueueExcess),
}

/// Bound on a tenant's queues that would be exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueExcess {
    /// The number of jobs.
    Jobs,
    /// The size of payloads.
    Bytes,
}

const MINUTE_MILLIS: u64 = 60_000;

/// Returns the minute of a point in time, as the number of minutes since 1970.
#[must_use]
pub fn minute_of(at: Timestamp) -> u64 {
    at.as_millis() / MINUTE_MILLIS
}

/// Fuel that a tenant's runs have spent so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FuelSpent {
    /// Fuel spent in the present minute.
    pub minute: Fuel,
    /// Fuel spent on the present day.
    pub day: Fuel,
    /// Time left of the present minute.
    pub minute_left: Duration,
    /// Time left of the present day.
    pub day_left: Duration,
}

impl FuelSpent {
    /// Creates the amounts spent in the minute and on the day of the time `now`.
    #[must_use]
    pub fn at(now: Timestamp, minute: Fuel, day: Fuel) -> Self {
        let left = |window: u64| Duration::from_millis(window - now.as_millis() % window);
        Self { minute, day, minute_left: left(MINUTE_MILLIS), day_left: left(Day::MILLIS) }
    }
}

/// Decision about a tenant's jobs by its fuel quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Run the jobs: there is fuel.
    Run,
    /// Run the jobs when no other tenant wants the processors, as the fuel of this window is used up.
    RunIdle(Window),
    /// Leave the jobs where they are.
    Hold {
        /// Window whose fuel is used up.
        window: Window,
        /// Time until there is fuel again.
        until: Duration,
    },
    /// Bury the jobs.
    Reject {
        /// Window whose fuel is used up.
        window: Window,
        /// Reason to record.
        reason: Reason,
        /// Full explanation, for people.
        message: String,
    },
}

impl FuelQuota {
    /// Decides about the tenant's jobs, given the fuel it has spent.
    #[must_use]
    pub fn decide(&self, tenant: &TenantId, spent: &FuelSpent) -> Verdict {
        let Some((window, quota, until)) = self.used_up(spent) else { return Verdict::Run };
        match self.on_empty {
            OnEmpty::Hold => Verdict::Hold { window, until },
            OnEmpty::Idle => Verdict::RunIdle(window),
            OnEmpty::Reject => {
                let message = format!(
                    "tenant {tenant} has spent its {quota} units of fuel of this {window}; raise \
                     tenants.{tenant}.fuel.per_{window}, or choose another on_empty"
                );
                Verdict::Reject { window, reason: Reason::OutOfBudget, message }
            }
        }
    }

    /// Whether the quota has any bound at all.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.per_minute.is_some() || self.per_day.is_some()
    }

    /// Whether jobs are to be left where they are, as the fuel is used up.
    #[must_use]
    pub fn holds(&self, spent: &FuelSpent) -> bool {
        self.on_empty == OnEmpty::Hold && self.used_up(spent).is_some()
    }

    /// Returns the window that is used up, its quota, and the time until it starts anew. A tenant whose day is used up
    /// waits for the next day, whatever the minute.
    fn used_up(&self, spent: &FuelSpent) -> Option<(Window, Fuel, Duration)> {
        let day = self.per_day.filter(|quota| spent.day >= *quota);
        let minute = self.per_minute.filter(|quota| spent.minute >= *quota);
        let day = day.map(|quota| (Window::Day, quota, spent.day_left));
        day.or_else(|| minute.map(|quota| (Window::Minute, quota, spent.minute_left)))
    }
}

/// Quota of state that a plugin may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateQuota {
    /// Maximum size of keys and values together.
    pub bytes: Bytes,
    /// Maximum number of keys.
    pub keys: u64,
}

impl StateQuota {
    /// Quota without limits.
    pub const NONE: Self = Self { bytes: Bytes(u64::MAX), keys: u64::MAX };
}

/// Upper bounds that one party sets on a plugin's state; `None` leaves that limit as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateCaps {
    /// See [`StateQuota::bytes`].
    pub bytes: Option<Bytes>,
    /// See [`StateQuota::keys`].
    pub keys: Option<u64>,
}

/// Limit of a plugin's state that would be exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateExcess {
    /// More than [`StateQuota::bytes`].
    Bytes,
    /// More than [`StateQuota::keys`].
    Keys,
}

/// Size of a plugin's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateSize {
    /// Size of keys and values together.
    pub bytes: Bytes,
    /// Number of keys.
    pub keys: u64,
}

impl StateQuota {
    /// Returns this quota with each limit lowered to the one in `caps`, if that is lower.
    #[must_use]
    pub fn narrow(self, caps: &StateCaps) -> Self {
        Self {
            bytes: caps.bytes.map_or(self.bytes, |cap| cap.min(self.bytes)),
            keys: caps.keys.map_or(self.keys, |cap| cap.min(self.keys)),
        }
    }

    /// Returns the limit that keeps a plugin's state from changing from `before` to `after`; `None` if it may. State that
    /// doesn't grow may always change, so that a plugin whose quota was lowered can make room.
    #[must_use]
    pub fn excess(&self, before: StateSize, after: StateSize) -> Option<StateExcess> {
        if after.bytes > self.bytes && after.bytes > before.bytes {
            return Some(StateExcess::Bytes);
        }
        (after.keys > self.keys && after.keys > before.keys).then_some(StateExcess::Keys)
    }

    /// Explains which limit was hit and which line of TOML to change, with the value that was in force.
    #[must_use]
    pub fn explain(&self, excess: StateExcess) -> String {
        match excess {
            StateExcess::Bytes => format!("the state is full at {}; raise limits.state_bytes", self.bytes),
            StateExcess::Keys => format!("the state is full at {} keys; raise limits.state_keys", self.keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acme() -> TenantId {
        TenantId::parse("acme").expect("a valid name")
    }

    fn quota(per_minute: Option<u64>, per_day: Option<u64>, on_empty: OnEmpty) -> FuelQuota {
        FuelQuota { per_minute: per_minute.map(Fuel), per_day: per_day.map(Fuel), on_empty }
    }

    /// Twenty seconds into a minute, an hour before midnight.
    fn spent(minute: u64, day: u64) -> FuelSpent {
        let now = Timestamp::from_millis(3 * Day::MILLIS - 3_600_000 + 20_000);
        FuelSpent::at(now, Fuel(minute), Fuel(day))
    }

    #[test]
    fn a_quota_is_used_up_when_all_of_it_is_spent() {
        let quota = quota(Some(100), Some(1000), OnEmpty::Hold);
        assert_eq!(quota.decide(&acme(), &spent(99, 999)), Verdict::Run);
        let minute = Verdict::Hold { window: Window::Minute, until: Duration::from_secs(40) };
        assert_eq!(quota.decide(&acme(), &spent(100, 999)), minute);
        let day = Verdict::Hold { window: Window::Day, until: Duration::from_secs(3_580) };
        assert_eq!(quota.decide(&acme(), &spent(100, 1000)), day, "the longer wait counts");
    }

    #[test]
    fn who_has_no_quota_is_never_out_of_it() {
        for on_empty in [OnEmpty::Hold, OnEmpty::Reject, OnEmpty::Idle] {
            let none = quota(None, None, on_empty);
            assert_eq!(none.decide(&acme(), &spent(u64::MAX, u64::MAX)), Verdict::Run);
        }
    }

    #[test]
    fn what_happens_then_is_chosen() {
        let of = |on_empty| quota(None, Some(7), on_empty).decide(&acme(), &spent(0, 9));
        assert_eq!(of(OnEmpty::Idle), Verdict::RunIdle(Window::Day));
        let Verdict::Reject { reason, message, .. } = of(OnEmpty::Reject) else { panic!("it is rejected") };
        assert_eq!(reason, Reason::OutOfBudget);
        assert!(message.contains("7 units") && message.contains("tenants.acme.fuel.per_day"), "{message}");
    }

    proptest! {
        #[test]
        fn holding_is_what_is_decided(
            minute in prop::option::of(0..9u64), day in prop::option::of(0..9u64), m in 0..9u64, d in 0..9u64,
        ) {
            for on_empty in [OnEmpty::Hold, OnEmpty::Reject, OnEmpty::Idle] {
                let (quota, spent) = (quota(minute, day, on_empty), spent(m, d));
                let decided = quota.decide(&acme(), &spent);
                prop_assert_eq!(quota.holds(&spent), matches!(decided, Verdict::Hold { .. }));
            }
        }

        #[test]
        fn state_that_does_not_grow_may_always_change(
            max in (0..9u64, 0..9u64), before in (0..20u64, 0..20u64), after in (0..20u64, 0..20u64),
        ) {
            let size = |(bytes, keys)| StateSize { bytes: Bytes(bytes), keys };
            let quota = StateQuota { bytes: Bytes(max.0), keys: max.1 };
            let excess = quota.excess(size(before), size(after));
            prop_assert!(excess.is_none() || after.0 > before.0 || after.1 > before.1);
            prop_assert!(excess.is_some() || after.0 <= max.0.max(before.0));
            prop_assert!(excess.is_some() || after.1 <= max.1.max(before.1));
        }
    }

    #[test]
    fn windows_end_at_full_minutes_and_midnight() {
        let at = |millis| FuelSpent::at(Timestamp::from_millis(millis), Fuel(0), Fuel(0));
        assert_eq!(
            (at(0).minute_left, at(0).day_left),
            (Duration::from_secs(60), Duration::from_secs(86_400))
        );
        assert_eq!(at(59_999).minute_left, Duration::from_millis(1));
        assert_eq!(minute_of(Timestamp::from_millis(60_000)), 1);
    }
}
