//! Broker health by tenant, and the backoff between calls to the broker.
//!
//! Tenants may have brokers, or nodes of one, of their own. So whether the broker answers is kept by tenant, and one tenant's
//! broker that is gone doesn't look as if the others' were gone too. Every loop that calls the broker reports to
//! [`BrokerHealth`], which reports when a tenant's broker goes and when it is back, and nothing in between.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandhog_broker::Error;
use sandhog_core::id::TenantId;
use sandhog_core::retry::{Backoff, Growth, Jitter};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::telemetry::{Event, Observer, Trouble};

/// Backoff between repeated calls to the broker.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(50),
    growth: Growth::Exponential { factor: 2.0 },
    max: Duration::from_secs(2),
    jitter: Jitter::Full,
};

/// Whether the brokers can be used, as far as the latest calls have shown.
pub(crate) struct BrokerHealth {
    troubles: Mutex<Troubles>,
    observer: Arc<dyn Observer>,
}

/// Caller whose call to the broker failed or succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Caller<'a> {
    /// The loop that listens for wakes, for all tenants.
    Listener,
    /// A call for this tenant.
    Tenant(&'a TenantId),
}

impl<'a> Caller<'a> {
    fn tenant(self) -> Option<&'a TenantId> {
        match self {
            Self::Listener => None,
            Self::Tenant(tenant) => Some(tenant),
        }
    }
}

impl BrokerHealth {
    /// Creates the health of brokers that can all be used.
    pub(crate) fn new(observer: Arc<dyn Observer>) -> Self {
        Self { troubles: Mutex::default(), observer }
    }

    /// Records that a call succeeded.
    pub(crate) fn over(&self, caller: Caller<'_>) {
        // The lock is taken on each call, but only ever for this one look.
        let Some(Over { since, left }) = self.lock().over(caller) else { return };
        let (tenant, after) = (caller.tenant(), since.elapsed());
        self.observer.on(&Event::BrokerUp { tenant, after, tenants_left: left });
    }

    /// Records that a call failed.
    pub(crate) fn note(&self, caller: Caller<'_>, error: &Error) {
        let trouble = Trouble::of(error);
        let begun = self.lock().note(caller, trouble);
        match begun {
            Some(Begun { tenants }) => {
                self.observer.on(&Event::BrokerDown { tenant: caller.tenant(), trouble, tenants, error });
            }
            None => tracing::debug!(?caller, %error, "the broker can't be used yet"),
        }
    }

    /// Forgets a tenant that is gone.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.lock().tenants.remove(tenant);
    }

    fn lock(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trouble {
    /// Classifies a broker's error by what it means for those who go on calling it.
    fn of(error: &Error) -> Self {
        match error {
            // A full store takes jobs again once the janitor has removed what is past its time.
            Error::Unavailable { .. } | Error::Full { .. } => Self::Gone,
            Error::Corrupt { .. } | Error::Sealed { .. } | Error::Unfit { .. } | Error::Bug { .. } => {
                Self::Unusable
            }
        }
    }
}

/// Callers that can't use the broker, each with its trouble and when that began.
#[derive(Debug, Default)]
struct Troubles {
    listener: Option<(Trouble, Instant)>,
    tenants: BTreeMap<TenantId, (Trouble, Instant)>,
}

/// Report that a trouble has begun, or turned into another.
#[derive(Debug, PartialEq, Eq)]
struct Begun {
    /// Number of tenants that have it.
    tenants: usize,
}

/// Report that a trouble is over.
#[derive(Debug, PartialEq, Eq)]
struct Over {
    since: Instant,
    /// Number of tenants that still have one.
    left: usize,
}

impl Troubles {
    /// Records a failure. `Some` if it is news: the first of its kind that the caller meets.
    fn note(&mut self, caller: Caller<'_>, trouble: Trouble) -> Option<Begun> {
        let now = Instant::now();
        let before = match caller {
            Caller::Listener => self.listener.replace((trouble, now)),
            Caller::Tenant(tenant) => match self.tenants.get_mut(tenant) {
                Some(known) => Some(std::mem::replace(known, (trouble, now))),
                None => self.tenants.insert(tenant.clone(), (trouble, now)),
            },
        };
        if let Some((known, since)) = before {
            self.since(caller, since);
            if known == trouble {
                return None;
            }
        }
        let tenants = self.tenants.values().filter(|(known, _)| *known == trouble).count();
        Some(Begun { tenants })
    }

    /// Sets when a trouble began: one that goes on counts from its beginning, whatever it has turned into.
    fn since(&mut self, caller: Caller<'_>, since: Instant) {
        let known = match caller {
            Caller::Listener => self.listener.as_mut(),
            Caller::Tenant(tenant) => self.tenants.get_mut(tenant),
        };
        if let Some((_, begun)) = known {
            *begun = since;
        }
    }

    fn over(&mut self, caller: Caller<'_>) -> Option<Over> {
        let (_, since) = match caller {
            Caller::Listener => self.listener.take(),
            Caller::Tenant(_) if self.tenants.is_empty() => None,
            Caller::Tenant(tenant) => self.tenants.remove(tenant),
        }?;
        Some(Over { since, left: self.tenants.len() })
    }
}

/// Repeats a call until the broker can be reached, and returns its result; the log says once that it waits.
///
/// # Errors
/// Errors that time won't mend, such as a login that is refused or a server that is unfit.
pub async fn once_reached<T>(
    clock: &Clock,
    mut call: impl AsyncFnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let (mut tries, mut waiting) = (Tries::default(), None);
    loop {
        match call().await {
            Err(error @ (Error::Unavailable { .. } | Error::Full { .. })) => {
                if waiting.is_none() {
                    tracing::warn!(%error, "waiting for the broker before anything is begun");
                    waiting = Some(Instant::now());
                }
                tokio::time::sleep(tries.failed(clock)).await;
            }
            answer => {
                if let (Some(since), Ok(_)) = (waiting, &answer) {
                    tracing::info!(after = ?since.elapsed(), "the broker is there");
                }
                return answer;
            }
        }
    }
}

/// Count of one loop's failed calls in a row, which sets the wait before the next try.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    failures: u32,
}

impl Tries {
    /// Records a success: the next failure counts as the first.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Records one more failure and returns how long to wait. Never zero: a loop that fails at once must not spin.
    pub(crate) fn failed(&mut self, clock: &Clock) -> Duration {
        self.failures = self.failures.saturating_add(1);
        BACKOFF.wait(self.failures, clock.chance()).max(Duration::from_millis(10))
    }
}

#[cfg(test)]
impl Default for BrokerHealth {
    fn default() -> Self {
        Self::new(Arc::new(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: usize) -> TenantId {
        TenantId::parse(&format!("t{n}")).expect("valid")
    }

    #[test]
    fn a_tenant_whose_broker_is_gone_is_told_once_whatever_the_others_do() {
        let (mut troubles, gone, fine) = (Troubles::default(), tenant(0), tenant(1));
        let (gone, fine) = (Caller::Tenant(&gone), Caller::Tenant(&fine));
        assert_eq!(troubles.note(gone, Trouble::Gone), Some(Begun { tenants: 1 }));
        for _ in 0..10 {
            assert_eq!(troubles.over(fine), None);
            assert_eq!(troubles.note(gone, Trouble::Gone), None);
        }
        assert!(troubles.over(gone).is_some_and(|over| over.left == 0));
        assert_eq!(troubles.over(gone), None);
        assert_eq!(troubles.note(gone, Trouble::Gone), Some(Begun { tenants: 1 }));
    }

    #[test]
    fn a_trouble_that_turns_into_another_is_told_again() {
        let (mut troubles, tenant) = (Troubles::default(), tenant(0));
        let caller = Caller::Tenant(&tenant);
        assert!(troubles.note(caller, Trouble::Gone).is_some());
        let begun = troubles.tenants[&tenant].1;
        assert!(troubles.note(caller, Trouble::Unusable).is_some());
        assert!(troubles.over(caller).is_some_and(|over| over.since == begun));
    }

    #[test]
    fn of_a_broker_that_many_share_each_is_told_with_how_many_there_are() {
        let mut troubles = Troubles::default();
        let tenants: Vec<TenantId> = (0..3).map(tenant).collect();
        let note = |tenant| troubles.note(Caller::Tenant(tenant), Trouble::Gone);
        let begun: Vec<usize> = tenants.iter().filter_map(note).map(|begun| begun.tenants).collect();
        assert_eq!(begun, [1, 2, 3]);
        let over = |tenant| troubles.over(Caller::Tenant(tenant));
        let left: Vec<usize> = tenants.iter().filter_map(over).map(|over| over.left).collect();
        assert_eq!(left, [2, 1, 0]);
    }

    #[test]
    fn only_a_broker_that_cannot_be_reached_is_waited_for() {
        let unavailable = Error::Unavailable { what: "lease", cause: "no answer".into() };
        let unfit = Error::Unfit { problem: "it evicts".into() };
        let corrupt = Error::Corrupt { at: "a key".into(), problem: "no number".into() };
        let troubles = [&unavailable, &unfit, &corrupt].map(Trouble::of);
        assert_eq!(troubles, [Trouble::Gone, Trouble::Unusable, Trouble::Unusable]);
    }
}
