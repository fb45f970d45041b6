//! Room for runs, as permits: a run needs one of the daemon, of its tenant and of its plugin.
//!
//! Which plugin a job will need is not known before it is leased. A plugin without a limit of its own always has a permit where
//! the tenant has. Of one that has one, jobs are asked for by kind, and as many as it has room for, here and on all daemons
//! together: so those of the others in its queue don't wait for it.

use std::sync::Arc;
use std::time::Duration;

use sandhog_broker::{FleetLimit, LaneAsk};
use sandhog_core::id::{Kind, PluginName, QueueName};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::capacity::concurrency::{Gate, Permits};
use crate::capacity::fair_slots::{PlaceInLine, Seat};
use crate::catalog::{Plugin, Queue, Tenant};

/// The right to have one run under way. Dropping it gives the room back, or passes it on.
#[derive(Debug)]
pub(crate) struct Room {
    // Taken in `drop`.
    held: Option<Held>,
    since: Instant,
    /// The part of that which its run needed by itself, once it has ended.
    needed: Option<Duration>,
    next: Option<oneshot::Sender<Held>>,
}

/// What a run holds. Dropping it gives all back and says so.
#[derive(Debug)]
pub(crate) struct Held {
    // Taken in `drop`, so that all is back before anybody is told.
    permits: Option<(Seat, Permits, Option<Permits>)>,
    tenant: Arc<Gate>,
}

/// Room that its run passes on when it ends.
pub(crate) type Inheritance = oneshot::Receiver<Held>;

impl Room {
    fn new(held: Held) -> Self {
        Self { held: Some(held), since: Instant::now(), needed: None, next: None }
    }

    /// How many runs the tenant has room for taken, this one included.
    pub(crate) fn runs(&self) -> u32 {
        self.held.as_ref().map_or(0, |held| held.tenant.used())
    }

    /// Says how long its run, which has ended, would have taken with a processor to itself.
    pub(crate) fn was_needed_for(&mut self, time: Duration) {
        self.needed = Some(time);
    }

    /// Has the room passed on when it is given back. If nobody waits for it by then, it goes to whom it would go otherwise.
    pub(crate) fn pass_on(&mut self) -> Inheritance {
        let (next, inheritance) = oneshot::channel();
        self.next = Some(next);
        inheritance
    }

    /// Whether somebody waits for it to be passed on.
    pub(crate) fn is_passed_on(&self) -> bool {
        self.next.as_ref().is_some_and(|next| !next.is_closed())
    }
}

impl Held {
    /// Room for a run of this plugin; none if the plugin has none.
    pub(crate) fn room<P>(mut self, plugin: Option<&Plugin<P>>) -> Option<Room> {
        let (_, _, of_plugin) = self.permits.as_mut()?;
        let is_its =
            |permits: &Permits| plugin.is_some_and(|plugin| Arc::ptr_eq(&plugin.gate, permits.gate()));
        if !of_plugin.as_ref().is_some_and(is_its) {
            *of_plugin = match plugin {
                Some(plugin) => Some(plugin.gate.take_up_to(1)?),
                None => None,
            };
        }
        Some(Room::new(self))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        if let Some((_, _, Some(plugin))) = &held.permits {
            let held = self.since.elapsed();
            plugin.gate().count_end(held, self.needed.unwrap_or(held));
        }
        if let Some(next) = self.next.take() {
            // Whoever has given up waiting for it leaves it to others.
            drop(next.send(held));
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.permits.take());
        self.tenant.say_freed();
    }
}

#[cfg(test)]
impl Room {
    /// Room for one run, by a permit of this gate.
    pub(crate) async fn of(gate: &Arc<Gate>, tenant: &sandhog_core::id::TenantId) -> Self {
        let seats = crate::capacity::fair_slots::Seats::new(std::num::NonZeroU32::MIN);
        let permits = gate.take_up_to(1).expect("it is open");
        let permits = Some((seats.join(tenant).acquire(None).await, permits, None));
        Self::new(Held { permits, tenant: Arc::clone(gate) })
    }
}

/// What room the daemon and a tenant have for runs of whatever plugins.
#[derive(Debug)]
pub(crate) struct Vacancy {
    daemon: Seat,
    tenant: Permits,
}

impl Vacancy {
    /// All that there is, at most `limit`; none if there is none. `first` is the daemon's seat that the caller has.
    pub(crate) fn take<P>(tenant: &Tenant<P>, first: Seat, limit: u32) -> Option<Self> {
        let tenant = tenant.gate.take_up_to(limit)?;
        let mut daemon = first;
        daemon.widen(tenant.count().saturating_sub(daemon.count()));
        Some(Self { daemon, tenant })
    }

    /// For how many runs.
    fn count(&self) -> u32 {
        self.daemon.count().min(self.tenant.count())
    }

    /// Room for a run of a plugin; none if all is taken, or the plugin has none. A job of no known plugin needs none of a
    /// plugin's.
    pub(crate) fn room<P>(&mut self, plugin: Option<&Plugin<P>>) -> Option<Room> {
        if self.count() == 0 {
            return None;
        }
        let of_plugin = match plugin {
            Some(plugin) => Some(plugin.gate.take_up_to(1)?),
            None => None,
        };
        self.split(of_plugin)
    }

    fn split(&mut self, of_plugin: Option<Permits>) -> Option<Room> {
        let permits = Some((self.daemon.split()?, self.tenant.split(1)?, of_plugin));
        Some(Room::new(Held { permits, tenant: Arc::clone(self.tenant.gate()) }))
    }
}

/// What to lease of one tenant, by queue, and the room for it.
#[derive(Debug)]
pub(crate) struct Reservation {
    vacancy: Option<Vacancy>,
    queues: Vec<QueueRoom>,
}

#[derive(Debug)]
struct QueueRoom {
    name: QueueName,
    /// For how many there is room.
    count: u32,
    /// How many are leased ahead of it.
    ahead: u32,
    /// The kinds of plugins that have a limit of their own.
    lanes: Vec<LaneAsk>,
}

/// Where a job is that was leased.
#[derive(Debug)]
pub(crate) enum Place {
    /// It can start.
    Inside(Room),
    /// It was leased ahead, and waits for room.
    Ahead,
    /// Its producer put it into the queue of another plugin, and its own has no room, or a limit that it wasn't counted
    /// against.
    Nowhere,
}

impl Reservation {
    /// Takes as much of a vacancy as the `wanted` queues can use, and plans to lease as many `ahead` of it as is said of
    /// each and the room it gets; none if that comes to nothing. They share the vacancy equally, from the one at `turn` on: with another turn
    /// each time, a queue that never runs dry keeps none of the others waiting.
    pub(crate) fn take<P>(
        tenant: &Tenant<P>,
        vacancy: Option<Vacancy>,
        wanted: impl Fn(&Queue) -> bool,
        ahead: impl Fn(&Queue, u32) -> u32,
        turn: usize,
    ) -> Option<Self> {
        let mut left = vacancy.as_ref().map_or(0, Vacancy::count);
        let mut wanted: Vec<&Queue> = tenant.queues.iter().filter(|queue| wanted(queue)).collect();
        let turn = turn % wanted.len().max(1);
        wanted.rotate_left(turn);
        let mut queues = Vec::new();
        for (nth, queue) in wanted.iter().enumerate() {
            let share = left.div_ceil(u32::try_from(wanted.len() - nth).unwrap_or(u32::MAX));
            if share == 0 && ahead(queue, 0) == 0 {
                continue;
            }
            let mut room = QueueRoom::new(queue, share);
            room.ahead = ahead(queue, room.count);
            left -= room.count;
            if room.asks() > 0 {
                queues.push(room);
            }
        }
        (!queues.is_empty()).then_some(Self { vacancy, queues })
    }

    /// Gives back all room, so that others may have it while the broker is asked: whatever comes is leased ahead. Says at
    /// which place in line the seats were waited for, if there were any.
    pub(crate) fn give_back(&mut self) -> Option<PlaceInLine> {
        for queue in &mut self.queues {
            queue.count = 0;
        }
        let vacancy = self.vacancy.take()?;
        let place = vacancy.daemon.place();
        let tenant = Arc::clone(vacancy.tenant.gate());
        drop(vacancy);
        tenant.say_freed();
        Some(place)
    }

    /// Whether there is any room in it.
    pub(crate) fn has_room(&self) -> bool {
        self.vacancy.is_some()
    }

    /// What to ask the broker for.
    pub(crate) fn asks(&self) -> Vec<(QueueName, u32)> {
        self.queues.iter().map(|queue| (queue.name.clone(), queue.asks())).collect()
    }

    /// Which lanes of those queues to ask for: those of plugins with a limit of their own, and those of `others` that
    /// are in one of the queues. A limit holds in whatever queue a job is.
    pub(crate) fn lanes<P>(&self, tenant: &Tenant<P>, others: &[(QueueName, Kind)]) -> Vec<LaneAsk> {
        let limited = |kind: &Kind| tenant.kinds.get(kind).filter(|plugin| plugin.is_limited);
        let mut lanes = Vec::new();
        for queue in &self.queues {
            lanes.extend(queue.lanes.iter().cloned());
            let of_queue = others.iter().filter(|(name, _)| *name == queue.name);
            let more = of_queue.filter(|(_, kind)| queue.lanes.iter().all(|lane| lane.kind != *kind));
            lanes.extend(more.map(|(name, kind)| match limited(kind) {
                Some(plugin) => limited_lane(name, kind, &plugin.name, &plugin.gate),
                None => LaneAsk { queue: name.clone(), kind: kind.clone(), room: queue.asks(), limit: None },
            }));
        }
        lanes
    }

    /// The place of one job that came.
    pub(crate) fn place<P>(&mut self, queue: &QueueName, plugin: Option<&Plugin<P>>) -> Place {
        let Some(of_queue) = self.queues.iter_mut().find(|room| room.name == *queue) else {
            return Place::Nowhere;
        };
        if of_queue.count == 0 {
            return Place::Ahead;
        }
        of_queue.count -= 1;
        let room = self.vacancy.as_mut().and_then(|vacancy| vacancy.room(plugin));
        room.map_or(Place::Nowhere, Place::Inside)
    }
}

impl QueueRoom {
    fn new(queue: &Queue, count: u32) -> Self {
        let lane = |(kind, plugin, gate): &(Kind, PluginName, Arc<Gate>)| {
            limited_lane(&queue.name, kind, plugin, gate)
        };
        Self { name: queue.name.clone(), count, ahead: 0, lanes: queue.limited.iter().map(lane).collect() }
    }

    fn asks(&self) -> u32 {
        self.count + self.ahead
    }
}

fn limited_lane(queue: &QueueName, kind: &Kind, plugin: &PluginName, gate: &Gate) -> LaneAsk {
    LaneAsk {
        queue: queue.clone(),
        kind: kind.clone(),
        room: gate.free(),
        limit: Some(FleetLimit { name: plugin.clone(), most: gate.limit() }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::HashMap;
    use std::num::NonZeroU32;

    use sandhog_broker::KeepMax;
    use sandhog_core::budget::Bytes;
    use sandhog_core::id::TenantId;
    use sandhog_core::quota::{FuelQuota, QueueBounds};

    use super::*;
    use crate::capacity::concurrency::Gates;
    use crate::capacity::fair_slots::Seats;

    /// A tenant with three queues, each of a plugin of its own.
    pub(crate) fn tenant(id: &TenantId) -> Tenant<()> {
        let mut gates = Gates::default();
        let mut queue = |name| {
            let plugin = PluginName::parse(name).expect("a name");
            let gate = gates.of(id, Some(&plugin), NonZeroU32::MAX);
            Queue {
                name: QueueName::parse(name).expect("a name"),
                gates: vec![(plugin, gate)],
                limited: Vec::new(),
            }
        };
        let queues = ["a", "b", "c"].map(&mut queue).into();
        Tenant {
            weight: NonZeroU32::MIN,
            memory: Bytes(0),
            fuel: FuelQuota::default(),
            queue: QueueBounds::default(),
            keep_max: KeepMax::default(),
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
        let first = seats.join(&id).acquire(None).await;
        let tenant = tenant(&id);
        let vacancy = Vacancy::take(&tenant, first, 256);
        let room = Reservation::take(&tenant, vacancy, |_| true, |_, _| 0, turn).expect("there is room");
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
