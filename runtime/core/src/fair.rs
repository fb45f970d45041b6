//! Fair dispatch: the groups of a queue have their turns in proportion to their weights, whoever has more jobs waiting.
//!
//! Each job of a fair queue gets a **place** when it becomes ready, and jobs go in order of their places. The place of a group's next
//! job is one stride behind that of its last one, and never less than a stride behind the queue's **clock**, which is the highest place
//! that has been leased. So a group that comes anew is served as soon as those that have waited for long, a group gets no
//! credit for the time in which it had nothing to do, and one that has a million jobs has a million places of its own. The stride of
//! a group is the less the higher its weight. This is self-clocked fair queueing.
//!
//! Jobs of different priorities don't compete: each priority of a queue has its own clock. Jobs without a group are one group together.

use std::collections::BTreeMap;
use std::num::NonZeroU8;

use crate::id::GroupKey;
use crate::job::Priority;

/// Highest weight.
pub const WEIGHT_MAX: u8 = 100;

/// Maximum number of groups of a queue that have a weight of their own.
pub const WEIGHTS_MAX: usize = 1000;

/// Distance between the places of two jobs of a group of weight 1.
pub const STRIDE: u64 = 1000;

/// Highest place. Jobs that would come behind it share it, and go in order of their ids.
pub const PLACE_MAX: u64 = (1 << 45) - 1;

/// Share of a group: one of weight 3 starts three jobs where one of weight 1 starts one. From 1 to [`WEIGHT_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(NonZeroU8);

/// Rule of a fair queue: the weights of groups that have another one than 1.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FairRule {
    weights: BTreeMap<GroupKey, Weight>,
}

/// State of a fair queue: the clock of each priority, and the places of the groups' last jobs.
#[derive(Debug, Clone, Default)]
pub struct FairPlaces(BTreeMap<Priority, Places>);

/// State of one priority of a fair queue.
#[derive(Debug, Clone, Default)]
struct Places {
    clock: u64,
    /// Places of the last jobs of groups; `None` for the jobs that have no group.
    last: BTreeMap<Option<GroupKey>, u64>,
}

impl Weight {
    /// Weight of a group for which nothing else is said.
    pub const DEFAULT: Self = Self(NonZeroU8::MIN);

    /// Returns the weight with this number, if it is from 1 to [`WEIGHT_MAX`].
    #[must_use]
    pub fn new(weight: u8) -> Option<Self> {
        NonZeroU8::new(weight).filter(|weight| weight.get() <= WEIGHT_MAX).map(Self)
    }

    /// Returns the number, from 1 to [`WEIGHT_MAX`].
    #[must_use]
    pub fn get(self) -> u8 {
        self.0.get()
    }

    /// Returns the distance between the places of two jobs of a group of this weight, at least 1.
    #[must_use]
    pub fn stride(self) -> u64 {
        let weight = u64::from(self.get());
        (STRIDE + weight / 2) / weight
    }
}

impl FairRule {
    /// Creates a rule. Returns `None` if there are more than [`WEIGHTS_MAX`] weights.
    #[must_use]
    pub fn new(mut weights: BTreeMap<GroupKey, Weight>) -> Option<Self> {
        weights.retain(|_, weight| *weight != Weight::DEFAULT);
        (weights.len() <= WEIGHTS_MAX).then_some(Self { weights })
    }

    /// Returns the weights of the groups that have another one than 1.
    #[must_use]
    pub fn weights(&self) -> &BTreeMap<GroupKey, Weight> {
        &self.weights
    }

    /// Returns the weight of a group, or of the jobs that have none.
    #[must_use]
    pub fn weight_of(&self, group: Option<&GroupKey>) -> Weight {
        group.and_then(|group| self.weights.get(group)).copied().unwrap_or(Weight::DEFAULT)
    }
}

/// Returns the place of a group's next job: `clock` is the highest place that was leased, `last` that of the group's last job.
#[must_use]
pub fn next_place(clock: u64, last: u64, weight: Weight) -> u64 {
    clock.max(last).saturating_add(weight.stride()).min(PLACE_MAX)
}

impl FairPlaces {
    /// Takes the next place of a group, by the rule of its queue.
    pub fn next(&mut self, rule: &FairRule, priority: Priority, group: Option<&GroupKey>) -> u64 {
        let places = self.0.entry(priority).or_default();
        let last = places.last.entry(group.cloned()).or_default();
        *last = next_place(places.clock, *last, rule.weight_of(group));
        *last
    }

    /// Takes in that a job was leased that had this place.
    pub fn leased(&mut self, priority: Priority, place: u64) {
        let places = self.0.entry(priority).or_default();
        places.clock = places.clock.max(place);
        let clock = places.clock;
        // Groups that are behind the clock go from there, as those do of which nothing is known.
        places.last.retain(|_, last| *last > clock);
    }

    /// Returns the highest place that was given or leased, 0 if there is none.
    #[must_use]
    pub fn highest(&self) -> u64 {
        let all = self.0.values().flat_map(|places| places.last.values().chain([&places.clock]));
        all.copied().max().unwrap_or(0)
    }

    /// Forgets everything, which is for a queue in which nothing is ready.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the number of groups of which something is known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.0.values().map(|places| places.last.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn group(n: usize) -> GroupKey {
        GroupKey::parse(&format!("g{n}")).expect("a valid key")
    }

    fn weight(n: u8) -> Weight {
        Weight::new(n).expect("it is in range")
    }

    fn rule(weights: &[(usize, u8)]) -> FairRule {
        FairRule::new(weights.iter().map(|(n, of)| (group(*n), weight(*of))).collect()).expect("they are few")
    }

    /// A queue that gives out its jobs in the order of their places, and of coming where these are the same.
    #[derive(Default)]
    struct Queue {
        places: FairPlaces,
        rule: FairRule,
        ready: BTreeSet<(u64, usize, usize)>,
        came: usize,
    }

    impl Queue {
        fn come(&mut self, n: usize) {
            let place = self.places.next(&self.rule, Priority::default(), Some(&group(n)));
            self.ready.insert((place, self.came, n));
            self.came += 1;
        }

        fn lease(&mut self) -> Option<usize> {
            let (place, _, n) = self.ready.pop_first()?;
            self.places.leased(Priority::default(), place);
            Some(n)
        }
    }

    #[test]
    fn strides_are_the_less_the_higher_the_weight_and_never_0() {
        assert_eq!(weight(1).stride(), STRIDE);
        assert_eq!(weight(2).stride(), 500);
        assert_eq!(weight(WEIGHT_MAX).stride(), 10);
        assert!((1..WEIGHT_MAX).all(|n| weight(n).stride() >= weight(n + 1).stride()));
        assert_eq!((Weight::new(0), Weight::new(WEIGHT_MAX + 1)), (None, None));
    }

    #[test]
    fn a_group_with_many_jobs_delays_no_first_one() {
        let mut queue = Queue::default();
        (0..5000).for_each(|_| queue.come(0));
        (0..700).for_each(|_| assert_eq!(queue.lease(), Some(0)));
        (1..=1000).for_each(|n| queue.come(n));
        let first: BTreeSet<usize> = (0..1001).filter_map(|_| queue.lease()).collect();
        assert_eq!(first.len(), 1001, "each had its first turn within one round");
    }

    /// Also while jobs go on coming of the group that has so many, and of groups that nobody knew.
    #[test]
    fn a_thousand_groups_start_within_2_500_beside_one_with_a_million() {
        let mut queue = Queue::default();
        (0..1_000_000).for_each(|_| queue.come(0));
        (0..1000).for_each(|_| {
            queue.lease();
        });
        (1..=1000).for_each(|n| queue.come(n));
        let mut started = BTreeSet::new();
        for nth in 0..2500 {
            queue.come(if nth % 5 == 0 { 10_000 + nth } else { 0 });
            started.extend(queue.lease().filter(|n| (1..=1000).contains(n)));
        }
        assert_eq!(started.len(), 1000);
    }

    /// However many groups there are that nobody knew.
    #[test]
    fn new_groups_starve_none_that_waits() {
        let mut queue = Queue::default();
        (0..100).for_each(|_| queue.come(0));
        for n in 1..=2000 {
            queue.come(2 * n);
            queue.come(2 * n + 1);
            queue.lease();
        }
        let left = queue.ready.iter().filter(|(_, _, n)| *n == 0).count();
        assert!(left < 95, "{left} of 100 are left");
    }

    #[test]
    fn whoever_had_nothing_to_do_has_no_credit() {
        let mut queue = Queue::default();
        (0..100).for_each(|_| queue.come(0));
        (0..50).for_each(|_| assert_eq!(queue.lease(), Some(0)));
        (0..50).for_each(|_| queue.come(1));
        let next: Vec<_> = (0..50).filter_map(|_| queue.lease()).collect();
        assert!(next.iter().filter(|n| **n == 0).count().abs_diff(25) <= 1, "{next:?}");
    }

    #[test]
    fn what_is_known_is_bounded_by_what_waits() {
        let mut queue = Queue::default();
        for n in 0..10_000 {
            queue.come(n);
            assert_eq!(queue.lease(), Some(n));
            assert!(queue.places.known() <= 1);
        }
    }

    #[test]
    fn places_end_at_the_highest_one() {
        assert_eq!(next_place(PLACE_MAX - 1, 0, Weight::DEFAULT), PLACE_MAX);
        assert_eq!(next_place(0, u64::MAX, Weight::DEFAULT), PLACE_MAX);
    }

    proptest! {
        /// However the jobs come, while two groups both have jobs waiting they start jobs as their weights say, but for about one each.
        #[test]
        fn groups_that_wait_share_by_weight(a in 1..=10u8, b in 1..=10u8, lead in 0..200usize, n in 50..200usize) {
            let mut queue = Queue { rule: rule(&[(0, a), (1, b)]), ..Queue::default() };
            (0..lead + 2000).for_each(|_| queue.come(0));
            (0..lead).for_each(|_| { queue.lease(); });
            (0..2000).for_each(|_| queue.come(1));
            let of_b = (0..n).filter(|_| queue.lease() == Some(1)).count() as f64;
            let (a, b) = (f64::from(a), f64::from(b));
            let share = n as f64 * b / (a + b);
            prop_assert!((of_b - share).abs() <= 2.0 + n as f64 * 0.02, "{of_b} of {share}");
        }

        /// Jobs of a group keep the order in which they came, and nothing is lost.
        #[test]
        fn jobs_of_a_group_keep_their_order(steps in vec(0..5usize, 1..300)) {
            let mut queue = Queue { rule: rule(&[(1, 7), (2, 100)]), ..Queue::default() };
            let (mut came, mut gone) = (0, Vec::new());
            for step in steps {
                match step {
                    4 => gone.extend(queue.ready.first().copied().inspect(|_| { queue.lease(); })),
                    n => { queue.come(n); came += 1; }
                }
            }
            while let Some(first) = queue.ready.first().copied() {
                queue.lease();
                gone.push(first);
            }
            prop_assert_eq!(gone.len(), came);
            for n in 0..4 {
                let of: Vec<usize> = gone.iter().filter(|(_, _, of)| *of == n).map(|(_, nth, _)| *nth).collect();
                prop_assert!(of.is_sorted());
            }
        }
    }
}
