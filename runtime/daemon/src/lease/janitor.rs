//! The janitor, which keeps the jobs of all tenants up to date: makes ready what is due, takes back leases that have run out,
//! removes what is past its time, enqueues the jobs of schedules that are due.
//!
//! A tenant is swept when something of it is due, as the latest call for it has told, and otherwise in its turn: there is one
//! turn in [`TURN_EVERY`], however many tenants there are, for the one that has waited longest. So an idle daemon costs the
//! store the same with one tenant and with thousands. A sweep takes no permit for a run and needs no plugin: tenants whose jobs
//! nobody runs, or that are known to the store alone, are swept as well. One whose broker is silent keeps no other waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use sandhog_broker::{Broker, Sweep, Swept};
use sandhog_config as config;
use sandhog_core::group::QueueRule;
use sandhog_core::id::{QueueName, TenantId};
use sandhog_core::quota::QueueBounds;
use sandhog_core::retry::{Backoff, Growth, Jitter};
use sandhog_core::time::Mono;
use tokio::sync::{Notify, watch};

use crate::catalog::Current;
use crate::clock::Clock;
use crate::lease::broker_health::{BrokerHealth, Caller};
use crate::lease::wake::{WakeSenders, notify};
use crate::schedule::fire::fire_due;
use crate::telemetry::{Event, Observer};
use crate::vitals::Vitals;

/// Minimum time from a tenant's sweep to its next turn, if nothing of it is due.
const TURN_MIN: Duration = Duration::from_secs(5);

/// Time between two turns. With more tenants, each waits longer for its own. A sweep that finds nothing is about ten commands
/// to Redis, so ten daemons cost it forty a second.
const TURN_EVERY: Duration = Duration::from_millis(2_500);

/// Time between two turns of tenants in which jobs are ready or can't be read: somebody may not have heard of them.
const READY_TURN_EVERY: Duration = Duration::from_millis(200);

/// Maximum number of sweeps under way at once. Those of silent brokers take as long as their calls may.
const SWEEPS_MAX: usize = 256;

/// Minimum time between two removals of old jobs, so that they are removed together.
const REMOVE_EVERY: Duration = Duration::from_secs(1);

/// Interval at which the store is asked which tenants it knows.
const TENANTS_EVERY: Duration = Duration::from_secs(10 * 60);

/// Interval at which a tenant's rules for groups are told to the store again, in case it has lost them.
const RULES_EVERY: Duration = Duration::from_secs(10 * 60);

/// Backoff of a tenant whose sweep has failed.
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(200),
    growth: Growth::Exponential { factor: 2.0 },
    max: Duration::from_secs(30),
    jitter: Jitter::Full,
};

/// Schedule of sweeps by tenant. Shared with the loops that learn that something is due.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    plan: Mutex<Plan>,
    /// Notified when a tenant is due sooner than it was.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Plan {
    tenants: BTreeMap<TenantId, Entry>,
    order: BTreeSet<(Mono, TenantId)>,
    /// Time of the last turn that was given out.
    last_turn: Option<Mono>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Time of its turn.
    turn: Mono,
    /// Time at which it is due. While it is swept: when it will be due again at the latest.
    at: Option<Mono>,
    is_swept: bool,
    /// Number of its sweeps in a row that have failed.
    failures: u32,
}

impl Upkeep {
    /// Schedules a sweep of a tenant at this time, if it isn't due before. A tenant that isn't known is left alone.
    pub(crate) fn due(&self, tenant: &TenantId, at: Mono) {
        if self.lock().hasten(tenant, at) {
            self.sooner.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    /// Moves a tenant's sweep forward to `at`. Returns whether that makes the tenant due sooner than it was.
    fn hasten(&mut self, tenant: &TenantId, at: Mono) -> bool {
        let Some(entry) = self.tenants.get_mut(tenant) else { return false };
        if entry.at.is_some_and(|planned| planned <= at) {
            return false;
        }
        let before = entry.at.replace(at);
        if entry.is_swept {
            return false;
        }
        if let Some(before) = before {
            self.order.remove(&(before, tenant.clone()));
        }
        self.order.insert((at, tenant.clone()));
        true
    }

    /// Takes over the set of tenants. New ones are due now.
    fn follow(&mut self, tenants: &BTreeSet<TenantId>, now: Mono) {
        self.tenants.retain(|tenant, entry| tenants.contains(tenant) || entry.is_swept);
        self.order.retain(|(_, tenant)| tenants.contains(tenant));
        for tenant in tenants {
            if !self.tenants.contains_key(tenant) {
                self.tenants
                    .insert(tenant.clone(), Entry { turn: now, at: Some(now), is_swept: false, failures: 0 });
                self.order.insert((now, tenant.clone()));
            }
        }
    }

    /// Takes the next tenant that is due; it counts as being swept from now on.
    fn take(&mut self, now: Mono) -> Option<TenantId> {
        let (at, _) = self.order.first()?;
        if *at > now {
            return None;
        }
        let (_, tenant) = self.order.pop_first()?;
        if let Some(entry) = self.tenants.get_mut(&tenant) {
            (entry.at, entry.is_swept) = (None, true);
        }
        Some(tenant)
    }

    /// Returns how long a tenant that was swept waits for its turn: the one that it has, or if that has come, the next that is
    /// free.
    fn turn_after(&mut self, tenant: &TenantId, now: Mono) -> Duration {
        let all = TURN_EVERY * u32::try_from(self.tenants.len()).unwrap_or(u32::MAX);
        let Some(entry) = self.tenants.get_mut(tenant) else { return TURN_MIN };
        if entry.turn <= now {
            // Turns of tenants that are gone are nobody's.
            let next = self.last_turn.map_or(now, |last| last.after(TURN_EVERY)).min(now.after(all));
            entry.turn = next.max(now.after(TURN_MIN));
            self.last_turn = Some(entry.turn);
        }
        entry.turn.since_origin().saturating_sub(now.since_origin())
    }

    /// Records that a sweep has ended, and when the next one is due.
    fn swept(&mut self, tenant: TenantId, next: Mono) {
        let Some(entry) = self.tenants.get_mut(&tenant) else { return };
        let at = entry.at.map_or(next, |meanwhile| meanwhile.min(next));
        (entry.at, entry.is_swept) = (Some(at), false);
        self.order.insert((at, tenant));
    }

    fn first(&self) -> Option<Mono> {
        self.order.first().map(|(at, _)| *at)
    }
}

/// Loop that sweeps tenants when they are due or in turn, with what it needs for that.
pub(crate) struct Janitor<P> {
    pub(crate) upkeep: Arc<Upkeep>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) catalog: Current<P>,
    pub(crate) wake_senders: watch::Receiver<WakeSenders>,
    pub(crate) lease: config::Lease,
    pub(crate) health: Arc<BrokerHealth>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) clock: Clock,
    pub(crate) rules: RulesTold,
    pub(crate) vitals: Arc<Vitals>,
}

/// Rules for groups of jobs, by queue.
type GroupRules = BTreeMap<QueueName, QueueRule>;

/// Rules for groups that this daemon has told the store, by tenant, and when.
#[derive(Debug, Default)]
pub(crate) struct RulesTold(BTreeMap<TenantId, (GroupRules, Mono)>);

impl RulesTold {
    /// Whether the store is to be told these rules of a tenant: they are new, it hasn't answered, or it was told them long ago.
    fn is_due(&self, tenant: &TenantId, rules: &GroupRules, now: Mono) -> bool {
        match self.0.get(tenant) {
            None => true,
            Some((told, at)) => told != rules || (!rules.is_empty() && at.after(RULES_EVERY) <= now),
        }
    }
}

impl<P> Janitor<P> {
    /// Sweeps tenants until the process ends.
    pub(crate) async fn run(mut self) {
        let mut stored = BTreeSet::new();
        let broker = Arc::clone(&self.broker);
        let mut sweeps = FuturesUnordered::new();
        let mut look_up = tokio::time::interval(TENANTS_EVERY);
        let mut looking_up = FuturesUnordered::<BoxFuture<'_, sandhog_broker::Result<Vec<TenantId>>>>::new();
        self.follow(&stored);
        loop {
            while sweeps.len() < SWEEPS_MAX {
                let Some(tenant) = self.upkeep.lock().take(self.clock.mono()) else { break };
                let (broker, rules, sweep) = (&broker, self.rules_to_tell(&tenant), self.sweep_of(&tenant));
                let (observer, bounds) = (Arc::clone(&self.observer), self.bounds_of(&tenant));
                sweeps.push(async move {
                    let told = match rules {
                        Some(rules) => match broker.set_group_rules(&tenant, &rules).await {
                            Ok(()) => Some(rules),
                            // The sweep meets the same error, and says so.
                            Err(_) => None,
                        },
                        None => None,
                    };
                    let swept = sweep_and_fire(&**broker, &*observer, &tenant, sweep, &bounds).await;
                    (tenant, told, swept)
                });
            }
            let first = self.upkeep.lock().first().filter(|_| sweeps.len() < SWEEPS_MAX);
            tokio::select! {
                biased;
                Some((tenant, told, swept)) = sweeps.next(), if !sweeps.is_empty() => {
                    if let Some(rules) = told {
                        self.rules.0.insert(tenant.clone(), (rules, self.clock.mono()));
                    }
                    self.learn(tenant, swept);
                }
                () = self.upkeep.sooner.notified() => {}
                () = self.clock.reached(first) => {}
                Ok(()) = self.catalog.changed() => self.follow(&stored),
                Some(found) = looking_up.next() => match found {
                    Ok(tenants) => {
                        stored = tenants.into_iter().collect();
                        self.follow(&stored);
                    }
                    Err(error) => tracing::warn!(%error, again_in = ?TENANTS_EVERY, "which tenants the broker knows can't be told; those that aren't configured may not be swept"),
                },
                _ = look_up.tick(), if looking_up.is_empty() => looking_up.push(broker.tenants()),
            }
        }
    }

    fn follow(&mut self, stored: &BTreeSet<TenantId>) {
        let mut tenants = stored.clone();
        let now = self.clock.mono();
        let catalog = self.catalog.borrow_and_update();
        tenants.extend(catalog.tenants().cloned());
        let mut plan = self.upkeep.lock();
        plan.follow(&tenants, now);
        for tenant in catalog.tenants() {
            let rules = catalog.tenant(tenant).map(|terms| &terms.group_rules);
            if rules.is_some_and(|rules| self.rules.is_due(tenant, rules, now)) {
                plan.hasten(tenant, now);
            }
        }
    }

    /// Takes a tenant's rules for groups if the store is to be told them. Those of a tenant that is in no configuration stay as
    /// they are.
    fn rules_to_tell(&mut self, tenant: &TenantId) -> Option<GroupRules> {
        let catalog = self.catalog.borrow();
        let rules = &catalog.tenant(tenant)?.group_rules;
        if !self.rules.is_due(tenant, rules, self.clock.mono()) {
            return None;
        }
        // Until it has answered, the store may have these or those from before.
        self.rules.0.remove(tenant);
        Some(rules.clone())
    }

    /// Returns the settings of a tenant's sweep. Jobs left by a tenant that is in no configuration any more are kept as by
    /// default.
    fn sweep_of(&self, tenant: &TenantId) -> Sweep {
        let catalog = self.catalog.borrow();
        let terms = catalog.tenant(tenant);
        Sweep {
            keep_max: terms.map(|terms| terms.keep_max).unwrap_or_default(),
            keep_max_of: terms.map(|terms| terms.keep_max_of.clone()).unwrap_or_default(),
            ..Sweep::new(self.lease.expiries_max)
        }
    }

    /// Returns the bounds of what a tenant may have waiting.
    fn bounds_of(&self, tenant: &TenantId) -> QueueBounds {
        self.catalog.borrow().tenant(tenant).map(|terms| terms.queue).unwrap_or_default()
    }

    fn learn(&self, tenant: TenantId, swept: sandhog_broker::Result<Swept>) {
        let now = self.clock.mono();
        let mut plan = self.upkeep.lock();
        let failures = match &swept {
            Ok(_) => 0,
            Err(_) => plan.tenants.get(&tenant).map_or(1, |entry| entry.failures.saturating_add(1)),
        };
        if let Some(entry) = plan.tenants.get_mut(&tenant) {
            entry.failures = failures;
        }
        let count = u32::try_from(plan.tenants.len()).unwrap_or(u32::MAX);
        let turn = plan.turn_after(&tenant, now);
        drop(plan);
        let wait = match swept {
            Ok(swept) => {
                self.health.over(Caller::Tenant(&tenant));
                for job in &swept.buried {
                    self.observer.on(&Event::Expired { tenant: &tenant, job: *job });
                }
                match swept.has_ready {
                    true => self.vitals.answered(),
                    false => self.vitals.fetched(),
                }
                if swept.has_ready {
                    self.wake_senders.borrow().get(&tenant).into_iter().for_each(notify);
                }
                let removal = swept.next_removal.map(|after| after.max(REMOVE_EVERY));
                let of_ready = (swept.has_ready || swept.unreadable > 0).then(|| {
                    (READY_TURN_EVERY * count).max(TURN_MIN).mul_f64(1.0 + 0.2 * self.clock.chance().as_f64())
                });
                let scheduled = swept.next_due.into_iter().chain(swept.next_schedule);
                scheduled.chain(removal).chain(of_ready).fold(turn, Duration::min)
            }
            Err(error) => {
                self.vitals.answered();
                self.health.note(Caller::Tenant(&tenant), &error);
                BACKOFF.wait(failures, self.clock.chance()).max(Duration::from_millis(50))
            }
        };
        self.upkeep.lock().swept(tenant, now.after(wait));
    }
}

/// Sweeps a tenant, and enqueues the jobs of its schedules that are due.
async fn sweep_and_fire(
    broker: &dyn Broker,
    observer: &dyn Observer,
    tenant: &TenantId,
    sweep: Sweep,
    bounds: &QueueBounds,
) -> sandhog_broker::Result<Swept> {
    let mut swept = broker.sweep(tenant, sweep).await?;
    if swept.next_schedule == Some(Duration::ZERO) {
        swept.next_schedule = Some(fire_due(broker, observer, tenant, bounds).await?);
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tenant(n: u8) -> TenantId {
        TenantId::parse(&format!("t{n}")).expect("valid")
    }

    fn at(millis: u64) -> Mono {
        Mono::from_origin(Duration::from_millis(millis))
    }

    /// How often each of so many tenants is swept in a while in which nothing is due, after they have all been swept at once.
    fn turns(tenants: u8, within: Duration) -> BTreeMap<TenantId, u32> {
        let mut plan = Plan::default();
        plan.follow(&(0..tenants).map(tenant).collect(), at(0));
        let mut counts = BTreeMap::new();
        let (mut now, end) = (at(0), at(0).after(within));
        while now <= end {
            while let Some(tenant) = plan.take(now) {
                let wait = plan.turn_after(&tenant, now);
                *counts.entry(tenant.clone()).or_default() += 1;
                plan.swept(tenant, now.after(wait));
            }
            now = plan.first().expect("all have a turn");
        }
        counts
    }

    #[test]
    fn all_tenants_together_have_so_many_turns_and_each_has_its_own() {
        let hour = Duration::from_secs(3_600);
        for tenants in [1, 2, 10, 200] {
            let counts = turns(tenants, hour);
            let all: u32 = counts.values().sum();
            let most =
                u32::from(tenants) + u32::try_from(hour.as_millis() / TURN_EVERY.as_millis()).expect("few");
            assert!(all <= most && counts.len() == usize::from(tenants), "{tenants} tenants: {all} turns");
            let (least, highest) = (counts.values().min(), counts.values().max());
            assert!(least.zip(highest).is_some_and(|(least, highest)| highest - least <= 1), "{counts:?}");
        }
        assert_eq!(turns(1, hour).values().sum::<u32>(), 1 + 720, "one tenant has its turn in five seconds");
    }

    #[test]
    fn whoever_is_swept_for_something_else_keeps_its_turn() {
        let mut plan = Plan::default();
        plan.follow(&(0..10).map(tenant).collect(), at(0));
        let all: Vec<TenantId> = std::iter::from_fn(|| plan.take(at(0))).collect();
        let waits: Vec<Duration> = all.iter().map(|tenant| plan.turn_after(tenant, at(0))).collect();
        for second in 1..5 {
            assert_eq!(plan.turn_after(&all[9], at(second * 1_000)), waits[9] - Duration::from_secs(second));
        }
        plan.follow(&[all[9].clone()].into(), at(5_000));
        let later = at(0).after(waits[9]);
        assert_eq!(
            plan.turn_after(&all[9], later),
            TURN_MIN,
            "the turns of those that are gone are nobody's"
        );
    }

    #[test]
    fn what_becomes_due_while_a_tenant_is_swept_is_not_forgotten() {
        let mut plan = Plan::default();
        plan.follow(&[tenant(1)].into(), at(0));
        let swept = plan.take(at(0)).expect("it is due");
        assert!(!plan.hasten(&swept, at(7)), "it is looked at after the sweep");
        plan.swept(swept, at(5_000));
        assert_eq!(plan.first(), Some(at(7)));
    }

    #[test]
    fn a_tenant_that_is_gone_is_swept_no_more_and_one_that_comes_at_once() {
        let mut plan = Plan::default();
        plan.follow(&[tenant(1), tenant(2)].into(), at(0));
        plan.follow(&[tenant(2), tenant(3)].into(), at(9));
        assert_eq!(
            [plan.take(at(9)), plan.take(at(9)), plan.take(at(9))],
            [Some(tenant(2)), Some(tenant(3)), None]
        );
    }

    proptest! {
        #[test]
        fn every_tenant_is_swept_or_due_and_never_later_than_asked(
            steps in prop::collection::vec((0..3u8, 0..4u8, 0..100u64), 1..100)
        ) {
            let mut plan = Plan::default();
            let all: BTreeSet<TenantId> = (0..4).map(tenant).collect();
            plan.follow(&all, at(0));
            let mut under_way = BTreeSet::new();
            for (what, n, millis) in steps {
                let tenant = tenant(n);
                match what {
                    0 => under_way.extend(plan.take(at(millis))),
                    1 => {
                        plan.hasten(&tenant, at(millis));
                        prop_assert!(plan.tenants[&tenant].at.is_some_and(|planned| planned <= at(millis)));
                    }
                    _ => if under_way.remove(&tenant) {
                        plan.swept(tenant, at(millis));
                    }
                }
                let due: BTreeSet<TenantId> = plan.order.iter().map(|(_, tenant)| tenant.clone()).collect();
                prop_assert_eq!(due.len(), plan.order.len());
                prop_assert!(due.is_disjoint(&under_way));
                prop_assert_eq!(due.union(&under_way).cloned().collect::<BTreeSet<_>>(), all.clone());
            }
        }
    }
}
