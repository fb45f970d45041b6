//! Policy of who goes next: a fair queue of runs, by tenant. No threads and no clock in here.
//!
//! Each tenant has a virtual time: the CPU time that its runs have had, divided by its weight. The next turn goes to
//! the waiting tenant whose virtual time is least, and within it to the run that has waited longest. So tenants that
//! both want the machine get it in the ratio of their weights, whatever the number of their runs.
//!
//! Two rules keep the past from weighing on the present:
//! - A tenant that comes back from idling starts at the least virtual time of those that were active meanwhile: time
//!   that it didn't use is no credit.
//! - No tenant gets further ahead than [`LEAD`], or than its latest turn: what it had while nobody else wanted it (a
//!   second thread, say) is hardly a debt.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

/// Maximum CPU time that a tenant can be ahead of the others; more doesn't count.
const LEAD: Duration = Duration::from_millis(20);

/// Number of idle tenants that are remembered before those that can be forgotten are removed.
const IDLE_KEPT: usize = 64;

/// Virtual time: CPU nanoseconds over the weight, shifted so that the division loses nothing that matters.
type Virtual = u128;

fn virtual_time(cpu: Duration, weight: NonZeroU32) -> Virtual {
    (cpu.as_nanos() << 20) / Virtual::from(weight.get())
}

#[derive(Debug)]
struct Tenant<R> {
    had: Virtual,
    weight: NonZeroU32,
    waiting: VecDeque<R>,
    running: usize,
}

impl<R> Tenant<R> {
    fn is_active(&self) -> bool {
        self.running > 0 || !self.waiting.is_empty()
    }
}

/// Fair queue. `K` names a tenant, `R` is a run that waits for its turn.
#[derive(Debug)]
pub(crate) struct Policy<K, R> {
    tenants: HashMap<K, Tenant<R>>,
    /// Tenants with a run that waits or runs, the one that has had least first.
    active: BTreeSet<(Virtual, K)>,
    /// Runs that are to end: they go first, since all they want is to go away.
    urgent: VecDeque<(K, NonZeroU32, R)>,
    /// Least virtual time of active tenants; it only rises.
    floor: Virtual,
    waiting: usize,
}

impl<K: Clone + Ord + Hash, R> Policy<K, R> {
    pub(crate) fn new() -> Self {
        Self {
            tenants: HashMap::new(),
            active: BTreeSet::new(),
            urgent: VecDeque::new(),
            floor: 0,
            waiting: 0,
        }
    }

    /// Number of runs that wait for a turn.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Adds a run that wants a turn.
    pub(crate) fn arrive(&mut self, tenant: &K, weight: NonZeroU32, run: R) {
        self.activate(tenant, weight).waiting.push_back(run);
        self.waiting += 1;
    }

    /// Adds a run that wants a turn in order to end.
    pub(crate) fn arrive_urgently(&mut self, tenant: &K, weight: NonZeroU32, run: R) {
        self.urgent.push_back((tenant.clone(), weight, run));
        self.waiting += 1;
    }

    /// Takes a run that waits in its tenant's queue out of it, with the tenant's weight. `None` if it isn't there.
    pub(crate) fn withdraw(&mut self, tenant: &K, is_it: impl Fn(&R) -> bool) -> Option<(NonZeroU32, R)> {
        let entry = self.tenants.get_mut(tenant)?;
        let place = entry.waiting.iter().position(is_it)?;
        let run = entry.waiting.remove(place)?;
        let weight = entry.weight;
        self.waiting -= 1;
        self.rest_if_idle(tenant);
        Some((weight, run))
    }

    /// Takes the run whose turn it is. [`Self::charge`] has to follow when the turn is over.
    pub(crate) fn next(&mut self) -> Option<R> {
        let run = match self.urgent.pop_front() {
            Some((tenant, weight, run)) => {
                self.activate(&tenant, weight).running += 1;
                run
            }
            None => self.next_in_turn()?,
        };
        self.waiting -= 1;
        Some(run)
    }

    fn next_in_turn(&mut self) -> Option<R> {
        // All tenants but a few at the front have a run that waits: at most one a thread has none but those that run.
        for (_, tenant) in &self.active {
            let entry = self.tenants.get_mut(tenant).expect("active tenants are known");
            if let Some(run) = entry.waiting.pop_front() {
                entry.running += 1;
                return Some(run);
            }
        }
        None
    }

    /// Charges a tenant for a turn that is over, and took this much CPU time. If the run wants another turn, it has to arrive
    /// before this.
    pub(crate) fn charge(&mut self, tenant: &K, cpu: Duration) {
        let floor = self.floor;
        let entry = self.tenants.get_mut(tenant).expect("a tenant that runs is known");
        let cost = virtual_time(cpu, entry.weight);
        let lead = virtual_time(LEAD, entry.weight).max(cost);
        let before = entry.had;
        entry.had = (before + cost).min(floor + lead).max(before);
        entry.running -= 1;
        let now = entry.had;
        self.active.remove(&(before, tenant.clone()));
        self.active.insert((now, tenant.clone()));
        self.raise_floor();
        self.rest_if_idle(tenant);
    }

    fn activate(&mut self, tenant: &K, weight: NonZeroU32) -> &mut Tenant<R> {
        if !self.tenants.contains_key(tenant) {
            self.forget_idle();
            let new = Tenant { had: self.floor, weight, waiting: VecDeque::new(), running: 0 };
            self.tenants.insert(tenant.clone(), new);
        }
        let entry = self.tenants.get_mut(tenant).expect("it was there or put there just now");
        if !entry.is_active() {
            entry.had = entry.had.max(self.floor);
            self.active.insert((entry.had, tenant.clone()));
        }
        entry.weight = weight;
        entry
    }

    fn rest_if_idle(&mut self, tenant: &K) {
        if let Some(entry) = self.tenants.get(tenant)
            && !entry.is_active()
        {
            self.active.remove(&(entry.had, tenant.clone()));
            self.raise_floor();
        }
    }

    fn raise_floor(&mut self) {
        if let Some((least, _)) = self.active.first() {
            self.floor = self.floor.max(*least);
        }
    }

    /// Forgets idle tenants that are not ahead, once there are [`IDLE_KEPT`] more tenants than active ones: such a tenant is as
    /// good as a new one.
    fn forget_idle(&mut self) {
        if self.tenants.len() >= self.active.len() + IDLE_KEPT {
            let floor = self.floor;
            self.tenants.retain(|_, tenant| tenant.is_active() || tenant.had > floor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weight(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).expect("weights in tests aren't zero")
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Plays runs that never end on some threads: each turn takes the next of `turns`, and the thread that is free
    /// first takes the next run. Says how much CPU time each tenant has had when the turns are over.
    struct Play {
        policy: Policy<u32, u32>,
        weights: HashMap<u32, NonZeroU32>,
        had: HashMap<u32, Duration>,
        /// When each thread is free, and the tenant whose turn ends then, with how long it took.
        threads: Vec<(Duration, Option<(u32, Duration)>)>,
    }

    impl Play {
        fn new(threads: usize) -> Self {
            Self {
                policy: Policy::new(),
                weights: HashMap::new(),
                had: HashMap::new(),
                threads: vec![(Duration::ZERO, None); threads],
            }
        }

        fn add(&mut self, tenant: u32, weight: NonZeroU32, runs: usize) {
            self.weights.insert(tenant, weight);
            self.had.entry(tenant).or_default();
            for _ in 0..runs {
                self.policy.arrive(&tenant, weight, tenant);
            }
        }

        /// The thread that is free first gives its run back and takes the next one, if there is one. Says whose turn
        /// it is.
        fn turn(&mut self, takes: Duration) -> Option<u32> {
            let free = (0..self.threads.len()).min_by_key(|i| self.threads[*i].0).expect("there are threads");
            let (at, before) = self.threads[free];
            if let Some((tenant, took)) = before {
                self.policy.arrive(&tenant, self.weights[&tenant], tenant);
                self.policy.charge(&tenant, took);
            }
            let next = self.policy.next();
            if let Some(tenant) = next {
                *self.had.get_mut(&tenant).expect("tenants were added") += takes;
            }
            self.threads[free] = (at + takes, next.map(|tenant| (tenant, takes)));
            next
        }
    }

    fn turns() -> impl Strategy<Value = Vec<Duration>> {
        prop::collection::vec((500..1500u64).prop_map(Duration::from_micros), 500..1500)
    }

    const LONGEST_TURN: Duration = Duration::from_micros(1500);

    proptest! {
        /// However many runs each has: what two tenants have had, by weight, differs by no more than a turn of each.
        #[test]
        fn tenants_share_a_thread_in_the_ratio_of_their_weights(
            weights in prop::collection::vec(1..20u32, 2..6),
            runs in prop::collection::vec(1..9usize, 6),
            turns in turns(),
        ) {
            let mut play = Play::new(1);
            for (tenant, w) in weights.iter().enumerate() {
                play.add(tenant as u32, weight(*w), runs[tenant]);
            }
            for takes in turns {
                play.turn(takes);
            }
            let by_weight = |tenant: u32| play.had[&tenant].as_secs_f64() / f64::from(weights[tenant as usize]);
            let turn = |tenant: u32| LONGEST_TURN.as_secs_f64() / f64::from(weights[tenant as usize]);
            for a in 0..weights.len() as u32 {
                for b in 0..a {
                    let apart = (by_weight(a) - by_weight(b)).abs();
                    prop_assert!(apart <= turn(a) + turn(b) + 1e-9, "{apart} between {a} and {b}");
                }
            }
        }

        /// A tenant waits for no more than the others' turns that fit into one turn of its own, by weight.
        #[test]
        fn nobody_starves(
            weights in prop::collection::vec(1..20u32, 2..6),
            threads in 1..4usize,
            runs in prop::collection::vec(1..9usize, 6),
            turns in turns(),
        ) {
            let mut play = Play::new(threads);
            for (tenant, w) in weights.iter().enumerate() {
                play.add(tenant as u32, weight(*w), runs[tenant]);
            }
            let total: u32 = weights.iter().sum();
            // While it waits off a lead of 20 ms, the others have up to 40 turns for each part of their weights.
            let patience = |tenant: u32| 50 * (total / weights[tenant as usize] + 1) as usize * threads;
            let mut waited: HashMap<u32, usize> = HashMap::new();
            for takes in turns {
                let Some(served) = play.turn(takes) else { continue };
                let is_running = |tenant| play.threads.iter().any(|(_, run)| run.is_some_and(|(t, _)| t == tenant));
                for tenant in 0..weights.len() as u32 {
                    let waited = waited.entry(tenant).or_default();
                    *waited = if tenant == served || is_running(tenant) { 0 } else { *waited + 1 };
                    prop_assert!(*waited <= patience(tenant), "{tenant} waited {waited} turns");
                }
            }
        }

        /// However long a tenant was away, when it comes back it gets no more than its share.
        #[test]
        fn idling_is_no_credit(away in 1..1000u64, turns in turns()) {
            let mut play = Play::new(1);
            play.add(1, weight(1), 1);
            for _ in 0..away {
                play.turn(ms(1));
            }
            play.add(2, weight(1), 3);
            let before = play.had[&1];
            for takes in turns {
                play.turn(takes);
            }
            let (stayed, came) = (play.had[&1] - before, play.had[&2]);
            prop_assert!(came <= stayed + 2 * LONGEST_TURN, "{came:?} against {stayed:?}");
            prop_assert!(stayed <= came + 2 * LONGEST_TURN, "{stayed:?} against {came:?}");
        }
    }

    #[test]
    fn what_nobody_else_wanted_is_hardly_a_debt() {
        let mut policy = Policy::new();
        // One runs all the time at a weight that makes its time cheap; the other has all of a second thread.
        policy.arrive(&"cheap", weight(1000), ());
        policy.arrive(&"dear", weight(1), ());
        policy.next();
        policy.next();
        for _ in 0..10_000 {
            for tenant in ["cheap", "dear"] {
                let w = if tenant == "cheap" { 1000 } else { 1 };
                policy.arrive(&tenant, weight(w), ());
                policy.charge(&tenant, ms(1));
                policy.next();
            }
        }
        let ahead = policy.tenants["dear"].had - policy.tenants["cheap"].had;
        assert!(ahead <= virtual_time(LEAD, weight(1)), "{ahead}");
    }

    #[test]
    fn a_turn_longer_than_the_lead_is_charged_in_full() {
        let mut policy = Policy::new();
        policy.arrive(&"long", weight(1), ());
        policy.arrive(&"short", weight(1), ());
        policy.next();
        policy.arrive(&"long", weight(1), ());
        policy.charge(&"long", ms(100));
        assert_eq!(policy.tenants["long"].had, virtual_time(ms(100), weight(1)));
    }

    #[test]
    fn within_a_tenant_the_longest_waiting_run_goes_first() {
        let mut policy = Policy::new();
        for run in 0..3 {
            policy.arrive(&"acme", weight(1), run);
        }
        let mut order = Vec::new();
        for _ in 0..6 {
            let run = policy.next().expect("three wait");
            order.push(run);
            policy.arrive(&"acme", weight(1), run);
            policy.charge(&"acme", ms(1));
        }
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_run_that_is_to_end_goes_before_all_others() {
        let mut policy = Policy::new();
        policy.arrive(&"a", weight(1), 1);
        policy.arrive(&"b", weight(1), 2);
        policy.arrive(&"b", weight(1), 3);
        let (weight, run) = policy.withdraw(&"b", |run| *run == 3).expect("it waits");
        policy.arrive_urgently(&"b", weight, run);
        assert_eq!(policy.waiting(), 3);
        assert_eq!(policy.next(), Some(3));
        policy.charge(&"b", ms(1));
        assert_eq!((policy.next(), policy.next(), policy.next()), (Some(1), Some(2), None));
    }

    #[test]
    fn tenants_that_went_away_are_forgotten() {
        let mut policy = Policy::new();
        for tenant in 0..10_000 {
            policy.arrive(&tenant, weight(1), ());
            policy.next();
            policy.charge(&tenant, ms(1));
        }
        assert!(policy.tenants.len() <= IDLE_KEPT + 1, "{}", policy.tenants.len());
        assert!(policy.active.is_empty());
    }
}
