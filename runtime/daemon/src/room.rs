//! Room for runs, as permits: nothing is leased that can't start.
//!
//! A run needs a permit of the daemon, of its tenant and of its plugin. Which plugin a leased job will need is not
//! known before it is leased, so [`Reservation`] takes permits of every plugin whose jobs wait in the queue, and gives
//! back what the jobs that came don't need.

use std::collections::BTreeMap;
use std::sync::Arc;

use sandhog_core::id::{PluginName, QueueName};

use crate::catalog::{Plugin, Queue, Tenant};
use crate::gate::{Gate, Permits};
use crate::seats::Seat;

/// The right to have one run under way. Dropping it gives the room back and says so.
#[derive(Debug)]
pub(crate) struct Room {
    // Taken in `drop`, so that all is back before anybody is told.
    held: Option<(Seat, Permits, Option<Permits>)>,
    tenant: Arc<Gate>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.held = None;
        self.tenant.say_freed();
    }
}

#[cfg(test)]
impl Room {
    /// Room for one run, by a permit of this gate.
    pub(crate) async fn of(gate: &Arc<Gate>, tenant: &sandhog_core::id::TenantId) -> Self {
        let seats = crate::seats::Seats::new(std::num::NonZeroU32::MIN);
        let permits = gate.take_up_to(1).expect("it is open");
        Self { held: Some((seats.acquire(tenant).await, permits, None)), tenant: Arc::clone(gate) }
    }
}

/// Room for some runs of one tenant, by queue.
#[derive(Debug)]
pub(crate) struct Reservation {
    daemon: Seat,
    tenant: Permits,
    queues: Vec<QueueRoom>,
}

#[derive(Debug)]
struct QueueRoom {
    name: QueueName,
    count: u32,
    plugins: BTreeMap<PluginName, Permits>,
}

impl Reservation {
    /// Takes as much room as there is for the `wanted` queues, at most `limit` in all; none if there is none. They share
    /// it equally, from the one at `turn` on: with another turn each time, a queue that never runs dry keeps none of the
    /// others waiting. `first` is the daemon's seat that the caller waited for.
    pub(crate) fn take<P>(
        tenant: &Tenant<P>,
        wanted: impl Fn(&Queue) -> bool,
        turn: usize,
        first: Seat,
        limit: u32,
    ) -> Option<Self> {
        let of_tenant = tenant.gate.take_up_to(limit)?;
        let mut left = of_tenant.count();
        let mut daemon = first;
        daemon.widen(left.saturating_sub(daemon.count()));
        left = left.min(daemon.count());
        let mut wanted: Vec<&Queue> = tenant.queues.iter().filter(|queue| wanted(queue)).collect();
        let turn = turn % wanted.len().max(1);
        wanted.rotate_left(turn);
        let mut queues = Vec::new();
        for (nth, queue) in wanted.iter().enumerate() {
            let share = left.div_ceil(u32::try_from(wanted.len() - nth).unwrap_or(u32::MAX));
            if let Some(room) = QueueRoom::take(queue, share) {
                left -= room.count;
                queues.push(room);
            }
            if left == 0 {
                break;
            }
        }
        let reservation = Self { daemon, tenant: of_tenant, queues };
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
            Some(plugin) => Some(match of_queue.plugins.get_mut(&plugin.name) {
                Some(permits) => permits.split(1)?,
                None => plugin.gate.take_up_to(1)?,
            }),
            None => None,
        };
        let held = (self.daemon.split()?, self.tenant.split(1)?, of_plugin);
        Some(Room { held: Some(held), tenant: Arc::clone(self.tenant.gate()) })
    }
}

impl QueueRoom {
    fn take(queue: &Queue, limit: u32) -> Option<Self> {
        let free = queue.gates.iter().map(|(_, gate)| gate.free()).min()?;
        let count = limit.min(free);
        let plugins: Option<BTreeMap<_, _>> = queue
            .gates
            .iter()
            .map(|(name, gate)| {
                let permits = gate.take_up_to(count).filter(|permits| permits.count() == count)?;
                Some((name.clone(), permits))
            })
            .collect();
        plugins.filter(|_| count > 0).map(|plugins| Self { name: queue.name.clone(), count, plugins })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::num::NonZeroU32;

    use sandhog_core::budget::Bytes;
    use sandhog_core::id::TenantId;
    use sandhog_core::quota::FuelQuota;

    use super::*;
    use crate::gate::Gates;
    use crate::seats::Seats;

    /// A tenant with three queues, each of a plugin of its own.
    fn tenant(id: &TenantId) -> Tenant<()> {
        let mut gates = Gates::default();
        let mut queue = |name| {
            let plugin = PluginName::parse(name).expect("a name");
            let gate = gates.of(id, Some(&plugin), NonZeroU32::MAX);
            Queue { name: QueueName::parse(name).expect("a name"), gates: vec![(plugin, gate)] }
        };
        let queues = ["a", "b", "c"].map(&mut queue).into();
        Tenant {
            weight: NonZeroU32::MIN,
            memory: Bytes(0),
            fuel: FuelQuota::default(),
            concurrency: NonZeroU32::MAX,
            gate: gates.of(id, None, NonZeroU32::MAX),
            kinds: HashMap::new(),
            queues,
        }
    }

    /// What is asked for if the daemon has so many seats.
    async fn asks(seats: u32, turn: usize) -> Vec<(String, u32)> {
        let id = TenantId::parse("acme").expect("a name");
        let seats = Seats::new(NonZeroU32::new(seats).expect("not zero"));
        let first = seats.acquire(&id).await;
        let room = Reservation::take(&tenant(&id), |_| true, turn, first, 256).expect("there is room");
        room.asks().into_iter().map(|(name, count)| (name.to_string(), count)).collect()
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
