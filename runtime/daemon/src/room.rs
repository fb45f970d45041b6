//! Room for runs, as permits: nothing is leased that can't start.
//!
//! A run needs a permit of the daemon, of its tenant and of its plugin. Which plugin a leased job will need is not
//! known before it is leased, so [`Reservation`] takes permits of every plugin whose jobs wait in the queue, and gives
//! back what the jobs that came don't need.

use std::collections::BTreeMap;
use std::sync::Arc;

use sandhog_core::id::{PluginName, QueueName};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::catalog::{Plugin, Queue, Tenant};
use crate::slots::Slot;

/// The right to have one run under way. Dropping it gives the room back and says so.
#[derive(Debug)]
pub(crate) struct Room {
    // Taken in `drop`, so that all is back before anybody is told.
    held: Option<(Slot, [OwnedSemaphorePermit; 2])>,
    freed: Arc<Notify>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held = None;
        self.freed.notify_one();
    }
}

/// Room for some runs of one tenant, by queue.
#[derive(Debug)]
pub(crate) struct Reservation {
    daemon: Slot,
    tenant: OwnedSemaphorePermit,
    queues: Vec<QueueRoom>,
    freed: Arc<Notify>,
}

#[derive(Debug)]
struct QueueRoom {
    name: QueueName,
    count: u32,
    plugins: BTreeMap<PluginName, OwnedSemaphorePermit>,
}

impl Reservation {
    /// Takes as much room as there is for the `wanted` queues, at most `limit` in all; none if there is none.
    /// `first` is the daemon's slot that the caller waited for.
    pub(crate) fn take<P>(
        tenant: &Tenant<P>,
        wanted: impl Fn(&Queue) -> bool,
        first: Slot,
        limit: u32,
        freed: &Arc<Notify>,
    ) -> Option<Self> {
        let of_tenant = take_up_to(&tenant.gate, limit)?;
        let mut left = permits_of(&of_tenant);
        let mut daemon = first;
        daemon.widen(left.saturating_sub(daemon.count()));
        left = left.min(daemon.count());
        let mut queues = Vec::new();
        for queue in tenant.queues.iter().filter(|queue| wanted(queue)) {
            if let Some(room) = QueueRoom::take(queue, left) {
                left -= room.count;
                queues.push(room);
            }
            if left == 0 {
                break;
            }
        }
        let reservation = Self { daemon, tenant: of_tenant, queues, freed: Arc::clone(freed) };
        (!reservation.queues.is_empty()).then_some(reservation)
    }

    /// What to ask the broker for.
    pub(crate) fn asks(&self) -> Vec<(QueueName, u32)> {
        self.queues.iter().map(|queue| (queue.name.clone(), queue.count)).collect()
    }

    /// The room of one job that came; none if its producer put it into the queue of another plugin, and its own has no
    /// room. A job of no known plugin needs none of a plugin's.
    pub(crate) fn split<P>(&mut self, queue: &QueueName, plugin: Option<&Plugin<P>>) -> Option<Room> {
        let of_queue = self.queues.iter_mut().find(|room| room.name == *queue)?;
        let of_plugin = match plugin {
            Some(plugin) => match of_queue.plugins.get_mut(&plugin.name) {
                Some(permits) => permits.split(1)?,
                None => Arc::clone(&plugin.gate).try_acquire_owned().ok()?,
            },
            None => of_queue.plugins.values_mut().next()?.split(0)?,
        };
        let held = (self.daemon.split()?, [self.tenant.split(1)?, of_plugin]);
        Some(Room { held: Some(held), freed: Arc::clone(&self.freed) })
    }
}

impl QueueRoom {
    fn take(queue: &Queue, limit: u32) -> Option<Self> {
        let free = queue.gates.iter().map(|(_, gate)| gate.available_permits()).min()?;
        let count = limit.min(u32::try_from(free).unwrap_or(u32::MAX));
        let plugins: Option<BTreeMap<_, _>> = queue
            .gates
            .iter()
            .map(|(name, gate)| Some((name.clone(), Arc::clone(gate).try_acquire_many_owned(count).ok()?)))
            .collect();
        plugins.filter(|_| count > 0).map(|plugins| Self { name: queue.name.clone(), count, plugins })
    }
}

fn take_up_to(gate: &Arc<Semaphore>, limit: u32) -> Option<OwnedSemaphorePermit> {
    let count = limit.min(u32::try_from(gate.available_permits()).unwrap_or(u32::MAX));
    (count > 0).then(|| Arc::clone(gate).try_acquire_many_owned(count).ok()).flatten()
}

fn permits_of(permit: &OwnedSemaphorePermit) -> u32 {
    u32::try_from(permit.num_permits()).unwrap_or(u32::MAX)
}
