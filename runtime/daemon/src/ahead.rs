//! Leases jobs ahead of the room for them, so that quick jobs don't wait for the broker one after the other.
//!
//! As many are leased ahead as have ended lately, so that each waits about as long as the broker takes to hand it out;
//! where jobs take longer than that, nothing is leased ahead. If the room doesn't come in time all the same, because
//! something runs longer than what ran before, the job goes back, and another daemon may have it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sandhog_core::id::QueueName;
use sandhog_core::time::Mono;

use crate::catalog::{Queue, Tenant};
use crate::gate::Gate;
use crate::room::{Room, Vacancy};
use crate::worker::Ticket;

/// How long a job that was leased ahead is to wait, about.
const AHEAD: Duration = Duration::from_millis(1);

/// Over how long it is counted how many end. Jobs that began together may well end together, and the next ones don't.
const LATELY: Duration = Duration::from_millis(20);

/// How long it waits at most.
const PATIENCE: Duration = Duration::from_millis(50);

/// How many of a queue's jobs have ended lately.
#[derive(Debug, Clone, Copy)]
struct Pace {
    counted_at: Mono,
    /// All that had ended by then.
    ended: u64,
    /// Those of about the last [`LATELY`].
    lately: f64,
}

impl Pace {
    fn new(now: Mono, ended: u64) -> Self {
        Self { counted_at: now, ended, lately: 0.0 }
    }

    /// Takes in how many have ended in all. Those of some time ago count for less the longer ago it is.
    fn count(&mut self, now: Mono, ended: u64) {
        let since = now.since_origin().saturating_sub(self.counted_at.since_origin());
        let fresh = ended.saturating_sub(self.ended);
        let kept = LATELY.div_duration_f64(LATELY + since);
        *self = Self { counted_at: now, ended, lately: (self.lately + fresh as f64) * kept };
    }

    /// How many will end while a job that is leased ahead waits.
    fn ahead(&self) -> u32 {
        (self.lately * AHEAD.div_duration_f64(LATELY)) as u32
    }
}

/// A tenant's jobs that are leased and have no room yet, and how many more may be leased like that.
pub(crate) struct Ahead<P> {
    paces: HashMap<QueueName, Pace>,
    /// In the order in which they came, each with the time up to which it waits.
    waiting: VecDeque<(Ticket<P>, Mono)>,
}

impl<P> Default for Ahead<P> {
    fn default() -> Self {
        Self { paces: HashMap::new(), waiting: VecDeque::new() }
    }
}

impl<P> Ahead<P> {
    /// Takes in how fast the jobs of these queues have ended. Others are forgotten.
    pub(crate) fn count(&mut self, queues: &[Queue], now: Mono) {
        if self.paces.len() > queues.len() {
            self.paces.retain(|name, _| queues.iter().any(|queue| queue.name == *name));
        }
        for queue in queues {
            let ended = queue.gates.iter().map(|(_, gate)| gate.ended()).sum();
            match self.paces.get_mut(&queue.name) {
                Some(pace) => pace.count(now, ended),
                None => drop(self.paces.insert(queue.name.clone(), Pace::new(now, ended))),
            }
        }
    }

    /// How many more of a queue's jobs may be leased ahead now; none as long as half of those are left that may.
    pub(crate) fn more(&self, tenant: &Tenant<P>, queue: &Queue) -> u32 {
        let most = self.paces.get(&queue.name).map_or(0, Pace::ahead);
        // The jobs of a plugin that has less room than others would stand in the others' way.
        let narrow = |(_, gate): &(_, Arc<Gate>)| gate.limit() < tenant.gate.limit();
        let is_mixed = queue.gates.len() > 1 && queue.gates.iter().any(narrow);
        if most == 0 || is_mixed || tenant.fuel.is_bounded() {
            return 0;
        }
        let waiting = self.waiting.iter().filter(|(ticket, _)| ticket.lease.job.queue == queue.name).count();
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        if waiting > most / 2 { 0 } else { most - waiting }
    }

    /// Whether any job waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a job that was leased at `leased_at`.
    pub(crate) fn push(&mut self, ticket: Ticket<P>, leased_at: Mono) {
        self.waiting.push_back((ticket, leased_at.after(PATIENCE)));
    }

    /// Takes out those that there is room for.
    pub(crate) fn admit(&mut self, vacancy: &mut Vacancy) -> Vec<(Ticket<P>, Room)> {
        let mut admitted = Vec::new();
        for (ticket, until) in std::mem::take(&mut self.waiting) {
            let plugin = ticket.terms.kinds.get(&ticket.lease.job.kind);
            match vacancy.room(plugin.map(|plugin| &**plugin)) {
                Some(room) => admitted.push((ticket, room)),
                None => self.waiting.push_back((ticket, until)),
            }
        }
        admitted
    }

    /// When the first of those that wait has waited long enough.
    pub(crate) fn until(&self) -> Option<Mono> {
        self.waiting.front().map(|(_, until)| *until)
    }

    /// Takes out those that have waited long enough.
    pub(crate) fn overdue(&mut self, now: Mono) -> Vec<Ticket<P>> {
        let count = self.waiting.iter().take_while(|(_, until)| *until <= now).count();
        self.waiting.drain(..count).map(|(ticket, _)| ticket).collect()
    }

    /// Takes out all of them.
    pub(crate) fn all(&mut self) -> Vec<Ticket<P>> {
        self.waiting.drain(..).map(|(ticket, _)| ticket).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use sandhog_core::id::{PluginName, TenantId};

    use super::*;
    use crate::gate::Gates;
    use crate::room::tests::tenant;

    /// What a pace comes to if so many end at once, so often and so long after each other.
    fn ahead(ends: u64, times: u32, every: Duration) -> u32 {
        let mut pace = Pace::new(Mono::from_origin(Duration::ZERO), 0);
        for n in 1..=times {
            pace.count(Mono::from_origin(every * n), ends * u64::from(n));
        }
        pace.ahead()
    }

    #[test]
    fn as_many_go_ahead_as_end_in_a_millisecond() {
        let [micros, millis] = [Duration::from_micros, Duration::from_millis];
        assert_eq!(ahead(1, 10_000, micros(100)), 9, "ten end in a millisecond, and parts don't count");
        assert_eq!(ahead(10, 1_000, millis(1)), 9);
        assert_eq!(ahead(1, 1_000, millis(2)), 0);
        assert_eq!(ahead(1, 1_000, Duration::from_secs(1)), 0);
        assert!(ahead(64, 1, millis(40)) <= 1, "they began together");
    }

    #[test]
    fn a_pace_is_forgotten_when_nothing_ends() {
        let mut pace = Pace::new(Mono::from_origin(Duration::ZERO), 0);
        pace.count(Mono::from_origin(Duration::from_millis(20)), 1_000);
        assert!(pace.ahead() >= 20);
        pace.count(Mono::from_origin(Duration::from_secs(2)), 1_000);
        assert_eq!(pace.ahead(), 0);
    }

    #[test]
    fn nothing_goes_ahead_of_a_plugin_with_less_room_that_shares_the_queue() {
        let id = TenantId::parse("acme").expect("a name");
        let mut tenant = tenant(&id);
        let narrow = PluginName::parse("narrow").expect("a name");
        let gate = Gates::default().of(&id, Some(&narrow), NonZeroU32::MIN);
        tenant.queues[1].gates = vec![(narrow.clone(), Arc::clone(&gate))];
        tenant.queues[2].gates.push((narrow, gate));
        let mut ahead = Ahead::<()>::default();
        let at = |millis| Mono::from_origin(Duration::from_millis(millis));
        ahead.count(&tenant.queues, at(0));
        for queue in &tenant.queues {
            (0..100).for_each(|_| queue.gates[0].1.count_end());
        }
        ahead.count(&tenant.queues, at(10));
        let more: Vec<u32> = tenant.queues.iter().map(|queue| ahead.more(&tenant, queue)).collect();
        assert_eq!(more, [3, 3, 0], "one that has a queue of its own stands in nobody's way");
    }
}
