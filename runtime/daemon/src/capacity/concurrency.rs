//! Concurrency limits: the maximum number of runs under way at once, of a tenant or of a plugin.
//!
//! A limit outlives the catalog that it was made for: the next one takes it over, with another number if the operator
//! changed it. So what runs goes on counting across deploys, and a lower limit takes effect as runs end.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sandhog_core::id::{PluginName, TenantId};
use tokio::sync::Notify;

/// Limit of runs at once. It has no queue: a caller that finds it used up waits for [`ConcurrencyLimit::freed`] and tries
/// again.
#[derive(Debug)]
pub struct ConcurrencyLimit {
    limit: AtomicU32,
    used: AtomicU32,
    /// Number of runs that have ended so far; the total nanoseconds for which they held their permits are in `held`, those that
    /// they needed by themselves in `needed`.
    ended: AtomicU64,
    held: AtomicU64,
    needed: AtomicU64,
    freed: Notify,
}

impl ConcurrencyLimit {
    fn new(limit: NonZeroU32) -> Arc<Self> {
        Arc::new(Self {
            limit: AtomicU32::new(limit.get()),
            used: AtomicU32::new(0),
            ended: AtomicU64::new(0),
            held: AtomicU64::new(0),
            needed: AtomicU64::new(0),
            freed: Notify::default(),
        })
    }

    /// Maximum number of permits that may be out.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit. Permits that are out stay out.
    fn resize(&self, limit: NonZeroU32) {
        self.limit.store(limit.get(), Ordering::Relaxed);
    }

    /// Number of permits that are out.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// Number of permits that are free.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.limit().saturating_sub(self.used())
    }

    /// Waits until there may be more free permits than when this was last asked.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Notifies one waiter that there may be a free permit.
    pub(crate) fn notify_freed(&self) {
        self.freed.notify_one();
    }

    /// Counts a run that has ended, with the time for which it held its permit, and the part of it that it would have needed
    /// with the processors to itself.
    pub(crate) fn count_end(&self, held: Duration, needed: Duration) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.held.fetch_add(nanos(held), Ordering::Relaxed);
        self.needed.fetch_add(nanos(needed), Ordering::Relaxed);
    }

    /// Returns the totals of the runs that have ended so far.
    pub(crate) fn ends(&self) -> EndedRuns {
        let total = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Ordering::Relaxed));
        EndedRuns {
            count: self.ended.load(Ordering::Relaxed),
            held: total(&self.held),
            needed: total(&self.needed),
        }
    }

    /// Takes as many permits as are free, at most `most`. `None` if none is free.
    pub(crate) fn take_up_to(self: &Arc<Self>, most: u32) -> Option<Permits> {
        let limit = self.limit();
        let share = |used: u32| most.min(limit.saturating_sub(used));
        let taken = self.used.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
            Some(used + share(used)).filter(|_| share(used) > 0)
        });
        taken.ok().map(|used| Permits { concurrency_limit: Arc::clone(self), count: share(used) })
    }
}

/// Totals of runs that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EndedRuns {
    pub(crate) count: u64,
    /// Total time for which they held their permits.
    pub(crate) held: Duration,
    /// Part of it that they needed by themselves.
    pub(crate) needed: Duration,
}

impl Sum for EndedRuns {
    fn sum<I: Iterator<Item = Self>>(ends: I) -> Self {
        ends.fold(Self::default(), |sum, ends| Self {
            count: sum.count + ends.count,
            held: sum.held.saturating_add(ends.held),
            needed: sum.needed.saturating_add(ends.needed),
        })
    }
}

/// Permits of one limit. They are given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Permits {
    concurrency_limit: Arc<ConcurrencyLimit>,
    count: u32,
}

impl Permits {
    /// The limit that they belong to.
    pub(crate) fn concurrency_limit(&self) -> &Arc<ConcurrencyLimit> {
        &self.concurrency_limit
    }

    /// Number of permits.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Splits off `count` permits. `None` if there are fewer.
    pub(crate) fn split(&mut self, count: u32) -> Option<Self> {
        self.count = self.count.checked_sub(count)?;
        Some(Self { concurrency_limit: Arc::clone(&self.concurrency_limit), count })
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.concurrency_limit.used.fetch_sub(self.count, Ordering::AcqRel);
    }
}

/// Limits that are in use, by tenant and plugin: a tenant's own limit has no plugin.
#[derive(Debug, Default)]
pub struct ConcurrencyLimits {
    known: BTreeMap<(TenantId, Option<PluginName>), Weak<ConcurrencyLimit>>,
}

impl ConcurrencyLimits {
    /// Returns the limit of a tenant or plugin, which is `limit` from now on. Runs that are still under way count, even if
    /// their plugin was gone in between.
    pub fn of(
        &mut self,
        tenant: &TenantId,
        plugin: Option<&PluginName>,
        limit: NonZeroU32,
    ) -> Arc<ConcurrencyLimit> {
        let known = self.known.entry((tenant.clone(), plugin.cloned())).or_default();
        if let Some(concurrency_limit) = known.upgrade() {
            concurrency_limit.resize(limit);
            return concurrency_limit;
        }
        let concurrency_limit = ConcurrencyLimit::new(limit);
        *known = Arc::downgrade(&concurrency_limit);
        concurrency_limit
    }

    /// Removes limits that nobody has any more.
    pub fn prune(&mut self) {
        self.known.retain(|_, concurrency_limit| concurrency_limit.strong_count() > 0);
    }

    /// Number of runs under way of a plugin, whether it is deployed any more or not.
    #[must_use]
    pub fn running(&self, tenant: &TenantId, plugin: &PluginName) -> u32 {
        let known = self.known.get(&(tenant.clone(), Some(plugin.clone())));
        known.and_then(Weak::upgrade).map_or(0, |concurrency_limit| concurrency_limit.used())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(limit: u32) -> NonZeroU32 {
        NonZeroU32::new(limit).expect("not zero")
    }

    fn acme() -> TenantId {
        TenantId::parse("acme").expect("valid")
    }

    #[test]
    fn a_gate_outlives_its_catalog_and_counts_what_still_runs() {
        let mut concurrency_limits = ConcurrencyLimits::default();
        let concurrency_limit = concurrency_limits.of(&acme(), None, limit(3));
        let running = concurrency_limit.take_up_to(2).expect("it is open");
        drop(concurrency_limit);
        concurrency_limits.prune();
        let concurrency_limit = concurrency_limits.of(&acme(), None, limit(2));
        assert_eq!((concurrency_limit.used(), concurrency_limit.free()), (2, 0));
        assert!(concurrency_limit.take_up_to(1).is_none(), "two still run");
        drop(running);
        assert_eq!(concurrency_limit.take_up_to(9).map(|permits| permits.count()), Some(2));
        drop(concurrency_limit);
        concurrency_limits.prune();
        assert!(concurrency_limits.known.is_empty());
    }

    proptest! {
        #[test]
        fn no_more_permits_are_out_than_the_widest_limit_and_all_come_back(
            steps in prop::collection::vec((1..20u32, 1..20u32, any::<bool>()), 1..60)
        ) {
            let mut concurrency_limits = ConcurrencyLimits::default();
            let concurrency_limit = concurrency_limits.of(&acme(), None, limit(1));
            let mut out: Vec<Permits> = Vec::new();
            for (size, most, gives_back) in steps {
                let used = concurrency_limit.used();
                prop_assert_eq!(used, out.iter().map(Permits::count).sum::<u32>());
                concurrency_limits.of(&acme(), None, limit(size));
                if gives_back {
                    out.pop();
                } else if let Some(mut permits) = concurrency_limit.take_up_to(most) {
                    prop_assert!(permits.count() <= most && used + permits.count() <= size);
                    let whole = permits.count();
                    prop_assert!(permits.split(whole + 1).is_none());
                    out.extend(permits.split(1));
                    out.push(permits);
                } else {
                    prop_assert!(used >= size);
                }
            }
            out.clear();
            prop_assert_eq!(concurrency_limit.used(), 0);
        }
    }
}
