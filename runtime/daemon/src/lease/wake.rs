//! Dispatch of wakes: news of work goes to the intakes of the tenants that it is about, news of cancellations to the renewal
//! loop, news of schedules to the janitor.
//!
//! News of work may name one daemon. The others look a while later by themselves, since the one that is named may be gone, or
//! have no room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sandhog_broker::{Broker, Wake, Wakes};
use sandhog_core::id::{DaemonId, TenantId};
use sandhog_core::time::Mono;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::lease::broker_health::{BrokerHealth, Caller, Tries};
use crate::lease::janitor::Upkeep;
use crate::lease::renewal::LeaseTable;

/// Wake counters by tenant, which wake the intakes. A counter doesn't miss a wake that comes during a call to the broker: a
/// waiter compares it with what it was before the call.
pub(crate) type WakeSenders = BTreeMap<TenantId, Arc<watch::Sender<u64>>>;

/// Minimum time after which a daemon looks for work of which another was told; by chance up to twice that, so that not all look
/// at once.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Dispatches wakes until the process ends. A stream of wakes that can't be had, or breaks off, is opened again; until then the
/// janitor finds the work. Another set of tenants needs another stream, whose first wake is for all.
pub(crate) async fn dispatch_wakes(
    daemon: DaemonId,
    broker: Arc<dyn Broker>,
    mut wake_senders: watch::Receiver<WakeSenders>,
    lease_table: Arc<LeaseTable>,
    upkeep: Arc<Upkeep>,
    health: Arc<BrokerHealth>,
    clock: Clock,
) {
    let mut tries = Tries::default();
    loop {
        let of_now = wake_senders.borrow_and_update().clone();
        match broker.watch(of_now.keys().cloned().collect()).await {
            Ok(wakes) => {
                tries.succeeded();
                health.over(Caller::Listener);
                tokio::select! {
                    biased;
                    Ok(()) = wake_senders.changed() => continue,
                    () = pass_all_on(wakes, daemon, &of_now, &lease_table, &upkeep, &clock) => {}
                }
            }
            Err(error) => health.note(Caller::Listener, &error),
        }
        tokio::time::sleep(tries.failed(&clock)).await;
    }
}

/// Dispatches wakes until the stream ends.
async fn pass_all_on(
    mut wakes: Wakes,
    daemon: DaemonId,
    wake_senders: &WakeSenders,
    lease_table: &LeaseTable,
    upkeep: &Upkeep,
    clock: &Clock,
) {
    let mut looks = Looks::default();
    loop {
        let wake = tokio::select! {
            biased;
            wake = wakes.next() => wake,
            () = clock.reached(looks.first()) => {
                let due = looks.take(clock.mono());
                due.iter().filter_map(|tenant| wake_senders.get(tenant)).for_each(notify);
                continue;
            }
        };
        match wake {
            None => return,
            Some(Wake::Ready { tenant, named }) if named.is_none_or(|named| named == daemon) => {
                looks.forget(&tenant);
                wake_senders.get(&tenant).into_iter().for_each(notify);
            }
            Some(Wake::Ready { tenant, .. }) => {
                let later = || clock.mono().after(LOOK_AFTER.mul_f64(1.0 + clock.chance().as_f64()));
                looks.arm(tenant, later);
            }
            Some(Wake::Due(tenant)) => upkeep.due(&tenant, clock.mono()),
            // For those who observe.
            Some(Wake::Events(_)) => {}
            Some(Wake::Cancel(tenant, job)) => lease_table.renew_soon(tenant, job),
            Some(Wake::All) => {
                looks = Looks::default();
                wake_senders.values().for_each(notify);
                lease_table.renew_all_soon();
            }
        }
    }
}

/// Times at which to look for work of which others were told: one look a tenant, and no more than there are tenants.
#[derive(Debug, Default)]
struct Looks {
    at: BTreeMap<TenantId, Mono>,
    order: BTreeSet<(Mono, TenantId)>,
}

impl Looks {
    /// Schedules a look at a tenant, if none is scheduled.
    fn arm(&mut self, tenant: TenantId, later: impl FnOnce() -> Mono) {
        if !self.at.contains_key(&tenant) {
            let at = later();
            self.order.insert((at, tenant.clone()));
            self.at.insert(tenant, at);
        }
    }

    /// Cancels the scheduled look at a tenant, as it is looked at now.
    fn forget(&mut self, tenant: &TenantId) {
        if let Some(at) = self.at.remove(tenant) {
            self.order.remove(&(at, tenant.clone()));
        }
    }

    fn first(&self) -> Option<Mono> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Removes and returns the tenants that are to be looked at by now.
    fn take(&mut self, now: Mono) -> Vec<TenantId> {
        let mut due = Vec::new();
        while self.first().is_some_and(|at| at <= now)
            && let Some((_, tenant)) = self.order.pop_first()
        {
            self.at.remove(&tenant);
            due.push(tenant);
        }
        due
    }
}

pub(crate) fn notify(wakes: &Arc<watch::Sender<u64>>) {
    wakes.send_modify(|rings| *rings = rings.wrapping_add(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: u8) -> TenantId {
        TenantId::parse(&format!("t{n}")).expect("valid")
    }

    fn at(millis: u64) -> Mono {
        Mono::from_origin(Duration::from_millis(millis))
    }

    #[test]
    fn a_look_is_armed_once_until_it_is_taken() {
        let mut looks = Looks::default();
        looks.arm(tenant(1), || at(1_500));
        looks.arm(tenant(1), || at(9_000));
        looks.arm(tenant(2), || at(1_200));
        looks.arm(tenant(3), || at(1_700));
        assert_eq!(looks.first(), Some(at(1_200)));
        assert_eq!(looks.take(at(1_199)), []);
        assert_eq!(looks.take(at(1_500)), [tenant(2), tenant(1)]);
        looks.arm(tenant(1), || at(2_000));
        assert_eq!(looks.take(at(2_000)), [tenant(3), tenant(1)]);
        assert_eq!(looks.first(), None);
    }

    #[test]
    fn who_looks_at_once_has_no_need_to_look_later() {
        let mut looks = Looks::default();
        looks.arm(tenant(1), || at(1_500));
        looks.forget(&tenant(1));
        looks.forget(&tenant(2));
        assert_eq!((looks.first(), looks.take(at(9_000))), (None, Vec::new()));
    }
}
