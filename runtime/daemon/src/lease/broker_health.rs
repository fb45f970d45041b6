//! What the daemon says of its broker, and how long it waits for it.
//!
//! Tenants may have brokers, or nodes of one, of their own. So it is kept by tenant whether its broker answers, and one
//! whose broker is gone doesn't look as if the others' were gone too. Every loop that calls the broker reports to
//! [`Outage`]; the log has a line when a tenant's broker goes and one when it is back, none between, and few if a broker
//! goes that many tenants share.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandhog_broker::Error;
use sandhog_core::id::TenantId;
use sandhog_core::settle::{Backoff, Jitter};
use tokio::time::Instant;

use crate::clock::Ambient;

/// How calls are repeated.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(50),
    factor: 2.0,
    max: Duration::from_secs(2),
    jitter: Jitter::Full,
};

/// Whether the brokers can be used, as far as the latest calls have shown.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    troubles: Mutex<Troubles>,
}

/// Who had to do without the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Caller<'a> {
    /// The loop that listens for wakes, for all tenants.
    Listener,
    /// A call for this tenant.
    Tenant(&'a TenantId),
}

impl Outage {
    /// Takes in that a call came through.
    pub(crate) fn over(&self, caller: Caller<'_>) {
        // The lock is taken on each call, but only ever for this one look.
        let Some(Over { since, left, is_news }) = self.lock().over(caller) else { return };
        let after = since.elapsed();
        match caller {
            _ if !is_news => tracing::debug!(?caller, ?after, "the broker is back"),
            Caller::Listener => tracing::info!(?after, "the broker wakes the daemon again"),
            Caller::Tenant(tenant) => {
                tracing::info!(%tenant, tenants_left = left, ?after, "the broker is back");
            }
        }
    }

    /// Takes in that a call failed.
    pub(crate) fn note(&self, caller: Caller<'_>, error: &Error) {
        let trouble = Trouble::of(error);
        let Some(Begun { tenants }) = self.lock().note(caller, trouble) else {
            tracing::debug!(?caller, %error, "the broker can't be used yet");
            return;
        };
        match (caller, trouble) {
            (Caller::Listener, Trouble::Gone) => {
                tracing::error!(%error, "waiting for the broker to be heard again; until then work is found by looking for it");
            }
            (Caller::Listener, Trouble::Unusable) => {
                tracing::error!(%error, "the broker can't be listened to until this is put right; work is found by looking for it");
            }
            (Caller::Tenant(tenant), Trouble::Gone) => {
                tracing::error!(%tenant, tenants, %error, "waiting for the broker; nothing is lost, running jobs go on as long as their leases can be trusted");
            }
            (Caller::Tenant(tenant), Trouble::Unusable) => {
                tracing::error!(%tenant, tenants, %error, "the tenant's jobs wait until this is put right");
            }
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

/// What is wrong with a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// It can't be reached, which may end by itself.
    Gone,
    /// It answers, and can't be used. This doesn't end before somebody changes something.
    Unusable,
}

impl Trouble {
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

/// The callers that have to do without the broker, and since when.
#[derive(Debug, Default)]
struct Troubles {
    listener: Option<(Trouble, Instant)>,
    tenants: BTreeMap<TenantId, (Trouble, Instant)>,
}

/// A trouble has begun that is to be told.
#[derive(Debug, PartialEq, Eq)]
struct Begun {
    /// How many tenants have it.
    tenants: usize,
}

/// A trouble is over.
#[derive(Debug, PartialEq, Eq)]
struct Over {
    since: Instant,
    /// How many tenants still have one.
    left: usize,
    is_news: bool,
}

impl Troubles {
    /// Notes a failure. Says whether it is news: the first of its kind that the caller meets, unless many tenants have it
    /// already.
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
        (caller == Caller::Listener || is_told(tenants)).then_some(Begun { tenants })
    }

    /// A trouble that goes on counts from its beginning, whatever it has turned into.
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
        let left = self.tenants.len();
        Some(Over { since, left, is_news: caller == Caller::Listener || left == 0 || is_told(left) })
    }
}

/// Whether the log has a line when so many tenants are in trouble: one for each of the first few, then ever fewer.
fn is_told(tenants: usize) -> bool {
    tenants.is_power_of_two()
}

/// What a call yields, once the broker can be reached: until then it is repeated, and the log says so once.
///
/// # Errors
/// What time won't mend, such as a login that is refused or a server that is unfit.
pub async fn once_reached<T>(
    ambient: &Ambient,
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
                tokio::time::sleep(tries.failed(ambient)).await;
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

/// The waits between the tries of one loop.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    failures: u32,
}

impl Tries {
    /// The next try starts afresh.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure. Never zero: a loop that fails at once must not spin.
    pub(crate) fn failed(&mut self, ambient: &Ambient) -> Duration {
        self.failures = self.failures.saturating_add(1);
        BACKOFF.wait(self.failures, ambient.chance()).max(Duration::from_millis(10))
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
        assert!(troubles.over(gone).is_some_and(|over| over.is_news && over.left == 0));
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
    fn a_broker_that_many_share_makes_few_lines() {
        let mut troubles = Troubles::default();
        let tenants: Vec<TenantId> = (0..1_000).map(tenant).collect();
        let begun: Vec<usize> = tenants
            .iter()
            .filter_map(|tenant| troubles.note(Caller::Tenant(tenant), Trouble::Gone))
            .map(|begun| begun.tenants)
            .collect();
        assert_eq!(begun, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        let over: Vec<usize> = tenants
            .iter()
            .filter_map(|tenant| troubles.over(Caller::Tenant(tenant)))
            .filter(|over| over.is_news)
            .map(|over| over.left)
            .collect();
        assert_eq!(over, [512, 256, 128, 64, 32, 16, 8, 4, 2, 1, 0]);
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
