//! Permits for runs: a run needs one of the daemon, of its tenant and of its plugin.
//!
//! The plugin that a job will need is not known before it is leased. A plugin without a limit of its own always has a permit
//! where the tenant has. For one with a limit, jobs are asked for by kind, and as many as its limit allows, here and on all
//! daemons together: so jobs of the others in its queue don't wait for it.

use std::sync::Arc;
use std::time::Duration;

use sandhog_broker::{FleetLimit, LaneAsk};
use sandhog_core::id::{Kind, QueueName};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::capacity::concurrency::{ConcurrencyLimit, Permits};
use crate::capacity::fair_slots::{Slots, WaitPosition};
use crate::catalog::{LimitedKind, Plugin, Queue, Tenant};

/// Permit to have one run under way. Dropping it gives back what it holds, or passes it on.
#[derive(Debug)]
pub(crate) struct RunPermit {
    // Taken in `drop`.
    held: Option<HeldPermits>,
    since: Instant,
    /// Part of the time since `since` that its run needed by itself, once it has ended.
    needed: Option<Duration>,
    next: Option<oneshot::Sender<HeldPermits>>,
}

/// Permits that a run holds. Dropping them gives all back and notifies those that wait for the tenant's.
#[derive(Debug)]
pub(crate) struct HeldPermits {
    // Taken in `drop`, so that all is back before anybody is notified.
    permits: Option<(Slots, Permits, Option<Permits>)>,
    tenant: Arc<ConcurrencyLimit>,
}

/// Receiver of the permits that a run passes on when it ends.
pub(crate) type Handover = oneshot::Receiver<HeldPermits>;

impl RunPermit {
    fn new(held: HeldPermits) -> Self {
        Self { held: Some(held), since: Instant::now(), needed: None, next: None }
    }

    /// Number of permits of the tenant that are out, this one included.
    pub(crate) fn runs(&self) -> u32 {
        self.held.as_ref().map_or(0, |held| held.tenant.used())
    }

    /// Records how long its run, which has ended, would have taken with a processor to itself.
    pub(crate) fn was_needed_for(&mut self, time: Duration) {
        self.needed = Some(time);
    }

    /// Arranges that the permits are passed on to the returned receiver when this is dropped. If nobody waits for them by then,
    /// they are given back as usual.
    pub(crate) fn pass_on(&mut self) -> Handover {
        let (next, handover) = oneshot::channel();
        self.next = Some(next);
        handover
    }

    /// Whether somebody waits for the permits to be passed on.
    pub(crate) fn is_passed_on(&self) -> bool {
        self.next.as_ref().is_some_and(|next| !next.is_closed())
    }
}

impl HeldPermits {
    /// Makes the permit for a run of this plugin. `None` if the plugin has none left.
    pub(crate) fn permit<P>(mut self, plugin: Option<&Plugin<P>>) -> Option<RunPermit> {
        let (_, _, of_plugin) = self.permits.as_mut()?;
        let is_its = |permits: &Permits| {
            plugin.is_some_and(|plugin| Arc::ptr_eq(&plugin.concurrency_limit, permits.concurrency_limit()))
        };
        if !of_plugin.as_ref().is_some_and(is_its) {
            *of_plugin = match plugin {
                Some(plugin) => Some(plugin.concurrency_limit.take_up_to(1)?),
                None => None,
            };
        }
        Some(RunPermit::new(self))
    }
}

impl Drop for RunPermit {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        if let Some((_, _, Some(plugin))) = &held.permits {
            let held = self.since.elapsed();
            plugin.concurrency_limit().count_end(held, self.needed.unwrap_or(held));
        }
        if let Some(next) = self.next.take() {
            // If the receiver is gone, the permits come back from `send` and are given back here.
            drop(next.send(held));
        }
    }
}

impl Drop for HeldPermits {
    fn drop(&mut self) {
        drop(self.permits.take());
        self.tenant.notify_freed();
    }
}

#[cfg(test)]
impl RunPermit {
    /// Makes a permit for one run, of this limit.
    pub(crate) async fn of(
        concurrency_limit: &Arc<ConcurrencyLimit>,
        tenant: &sandhog_core::id::TenantId,
    ) -> Self {
        let slots = crate::capacity::fair_slots::FairSlots::new(std::num::NonZeroU32::MIN);
        let permits = concurrency_limit.take_up_to(1).expect("it is open");
        let permits = Some((slots.join(tenant).acquire(None).await, permits, None));
        Self::new(HeldPermits { permits, tenant: Arc::clone(concurrency_limit) })
    }
}

/// Permits of the daemon and of a tenant, for runs of any plugins.
#[derive(Debug)]
pub(crate) struct AvailablePermits {
    daemon: Slots,
    tenant: Permits,
}

impl AvailablePermits {
    /// Takes all permits that are free, at most `limit`. `None` if none is free. `first` is the daemon's slot that the caller
    /// has.
    pub(crate) fn take<P>(tenant: &Tenant<P>, first: Slots, limit: u32) -> Option<Self> {
        let tenant = tenant.concurrency_limit.take_up_to(limit)?;
        let mut daemon = first;
        daemon.widen(tenant.count().saturating_sub(daemon.count()));
        Some(Self { daemon, tenant })
    }

    /// Number of runs that the permits are enough for.
    fn count(&self) -> u32 {
        self.daemon.count().min(self.tenant.count())
    }

    /// Takes the permit for a run of a plugin. `None` if all are taken, or the plugin has none left. A job without a known
    /// plugin needs no plugin's permit.
    pub(crate) fn permit<P>(&mut self, plugin: Option<&Plugin<P>>) -> Option<RunPermit> {
        if self.count() == 0 {
            return None;
        }
        let of_plugin = match plugin {
            Some(plugin) => Some(plugin.concurrency_limit.take_up_to(1)?),
            None => None,
        };
        self.split(of_plugin)
    }

    fn split(&mut self, of_plugin: Option<Permits>) -> Option<RunPermit> {
        let permits = Some((self.daemon.split()?, self.tenant.split(1)?, of_plugin));
        Some(RunPermit::new(HeldPermits { permits, tenant: Arc::clone(self.tenant.concurrency_limit()) }))
    }
}

/// Plan of what to lease of one tenant, by queue, and the permits for it.
#[derive(Debug)]
pub(crate) struct LeasePermits {
    available: Option<AvailablePermits>,
    queues: Vec<QueuePermits>,
}

#[derive(Debug)]
struct QueuePermits {
    name: QueueName,
    /// Number of jobs that there are permits for.
    count: u32,
    /// Number of jobs that are leased ahead of permits.
    prefetched: u32,
    /// Lanes of the kinds whose plugins have a limit of their own.
    lanes: Vec<LaneAsk>,
}

/// Placement of a job that was leased.
#[derive(Debug)]
pub(crate) enum Placement {
    /// The job can start.
    Run(RunPermit),
    /// The job was prefetched, and waits for a permit.
    Prefetched,
    /// The job's producer put it into the queue of another plugin, and its own has no permit left, or a limit that it wasn't
    /// counted against.
    NoPermit,
}

impl LeasePermits {
    /// Takes as many of the available permits as the `wanted` queues can use, and plans to lease as many jobs more of each as
    /// `prefetched` says for the queue and the number of permits that it gets. `None` if that comes to nothing. The queues
    /// share the permits equally, from the one at `turn` on: with another turn each time, a queue that never runs dry keeps
    /// none of the others waiting.
    pub(crate) fn take<P>(
        tenant: &Tenant<P>,
        available: Option<AvailablePermits>,
        wanted: impl Fn(&Queue) -> bool,
        prefetched: impl Fn(&Queue, u32) -> u32,
        turn: usize,
    ) -> Option<Self> {
        let mut left = available.as_ref().map_or(0, AvailablePermits::count);
        let mut wanted: Vec<&Queue> = tenant.queues.iter().filter(|queue| wanted(queue)).collect();
        let turn = turn % wanted.len().max(1);
        wanted.rotate_left(turn);
        let mut queues = Vec::new();
        for (nth, queue) in wanted.iter().enumerate() {
            let share = left.div_ceil(u32::try_from(wanted.len() - nth).unwrap_or(u32::MAX));
            if share == 0 && prefetched(queue, 0) == 0 {
                continue;
            }
            let mut of_queue = QueuePermits::new(queue, share);
            of_queue.prefetched = prefetched(queue, of_queue.count);
            left -= of_queue.count;
            if of_queue.asks() > 0 {
                queues.push(of_queue);
            }
        }
        (!queues.is_empty()).then_some(Self { available, queues })
    }

    /// Gives back all permits, so that others may have them while the broker is asked: jobs that come count as prefetched.
    /// Returns the place in line at which the slots were waited for, or `None` if there were no permits.
    pub(crate) fn give_back(&mut self) -> Option<WaitPosition> {
        for queue in &mut self.queues {
            queue.count = 0;
        }
        let available = self.available.take()?;
        let place = available.daemon.position();
        let tenant = Arc::clone(available.tenant.concurrency_limit());
        drop(available);
        tenant.notify_freed();
        Some(place)
    }

    /// Whether it holds any permits.
    pub(crate) fn has_permits(&self) -> bool {
        self.available.is_some()
    }

    /// Number of jobs to ask the broker for, by queue.
    pub(crate) fn asks(&self) -> Vec<(QueueName, u32)> {
        self.queues.iter().map(|queue| (queue.name.clone(), queue.asks())).collect()
    }

    /// Returns the lanes of those queues to ask for: those of plugins with a limit of their own, and those of `others` that are
    /// in one of the queues. A limit holds in whatever queue a job is.
    pub(crate) fn lanes<P>(&self, tenant: &Tenant<P>, others: &[(QueueName, Kind)]) -> Vec<LaneAsk> {
        let limited = |kind: &Kind| tenant.kinds.get(kind).filter(|plugin| plugin.has_fleet_limit());
        let mut lanes = Vec::new();
        for queue in &self.queues {
            lanes.extend(queue.lanes.iter().cloned());
            let of_queue = others.iter().filter(|(name, _)| *name == queue.name);
            let more = of_queue.filter(|(_, kind)| queue.lanes.iter().all(|lane| lane.kind != *kind));
            lanes.extend(more.map(|(name, kind)| match limited(kind) {
                Some(plugin) => limited_lane(name, &plugin.limited(kind)),
                None => LaneAsk::new(name.clone(), kind.clone(), queue.asks()),
            }));
        }
        lanes
    }

    /// Places one job that was leased.
    pub(crate) fn place<P>(&mut self, queue: &QueueName, plugin: Option<&Plugin<P>>) -> Placement {
        let Some(of_queue) = self.queues.iter_mut().find(|known| known.name == *queue) else {
            return Placement::NoPermit;
        };
        if of_queue.count == 0 {
            return Placement::Prefetched;
        }
        of_queue.count -= 1;
        let permit = self.available.as_mut().and_then(|available| available.permit(plugin));
        permit.map_or(Placement::NoPermit, Placement::Run)
    }
}

impl QueuePermits {
    fn new(queue: &Queue, count: u32) -> Self {
        Self {
            name: queue.name.clone(),
            count,
            prefetched: 0,
            lanes: queue.limited.iter().map(|kind| limited_lane(&queue.name, kind)).collect(),
        }
    }

    fn asks(&self) -> u32 {
        self.count + self.prefetched
    }
}

fn limited_lane(queue: &QueueName, limited: &LimitedKind) -> LaneAsk {
    let LimitedKind { kind, plugin, concurrency_limit, is_limited, rate } = limited;
    let limit = || FleetLimit { name: plugin.clone(), most: concurrency_limit.limit() };
    LaneAsk {
        limit: is_limited.then(limit),
        rate: rate.clone(),
        ..LaneAsk::new(queue.clone(), kind.clone(), concurrency_limit.free())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;
    use std::num::NonZeroU32;

    use sandhog_broker::KeepMax;
    use sandhog_core::budget::Bytes;
    use sandhog_core::id::{PluginName, TenantId};
    use sandhog_core::quota::{FuelQuota, QueueBounds};

    use super::*;
    use crate::capacity::concurrency::ConcurrencyLimits;
    use crate::capacity::fair_slots::FairSlots;

    /// A tenant with three queues, each of a plugin of its own.
    pub(crate) fn tenant(id: &TenantId) -> Tenant<()> {
        let mut concurrency_limits = ConcurrencyLimits::default();
        let mut queue = |name| {
            let plugin = PluginName::parse(name).expect("a name");
            let concurrency_limit = concurrency_limits.of(id, Some(&plugin), NonZeroU32::MAX);
            Queue {
                name: QueueName::parse(name).expect("a name"),
                concurrency_limits: vec![(plugin, concurrency_limit)],
                limited: Vec::new(),
            }
        };
        let queues = ["a", "b", "c"].map(&mut queue).into();
        Tenant {
            weight: NonZeroU32::MIN,
            memory: Bytes(0),
            fuel: FuelQuota::default(),
            queue: QueueBounds::default(),
            group_rules: std::collections::BTreeMap::new(),
            breakers: std::collections::BTreeMap::new(),
            keep_max: KeepMax::default(),
            keep_max_of: std::collections::BTreeMap::new(),
            concurrency: NonZeroU32::MAX,
            concurrency_limit: concurrency_limits.of(id, None, NonZeroU32::MAX),
            kinds: HashMap::new(),
            queues,
            schedules: std::collections::BTreeMap::new(),
        }
    }

    /// What is asked for if the daemon has so many slots.
    async fn asks(slots: u32, turn: usize) -> Vec<(String, u32)> {
        let id = TenantId::parse("acme").expect("a name");
        let slots = FairSlots::new(NonZeroU32::new(slots).expect("not zero"));
        let first = slots.join(&id).acquire(None).await;
        let tenant = tenant(&id);
        let available = AvailablePermits::take(&tenant, first, 256);
        let permits =
            LeasePermits::take(&tenant, available, |_| true, |_, _| 0, turn).expect("there is room");
        permits.asks().into_iter().map(|(name, count)| (name.to_string(), count)).collect()
    }

    #[tokio::test]
    async fn queues_share_what_room_there_is_and_begin_in_turn() {
        let of = |asks: &[(&str, u32)]| -> Vec<(String, u32)> {
            asks.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        assert_eq!(asks(5, 0).await, of(&[("a", 2), ("b", 2), ("c", 1)]));
        assert_eq!(asks(5, 2).await, of(&[("c", 2), ("a", 2), ("b", 1)]));
        for (turn, name) in ["a", "b", "c", "a"].into_iter().enumerate() {
            assert_eq!(asks(1, turn).await, of(&[(name, 1)]));
        }
    }
}
