//! Slots for runs under way at once, shared so that no tenant can have all of them.
//!
//! Half of the slots are set aside, an equal part for each tenant: as long as a tenant has fewer runs under way than its
//! part, the others leave it the rest. The other half goes to the tenant that asks first. So a thousand handlers that
//! never end keep nobody out, and a tenant that is alone with its work may still have most of the daemon.
//!
//! With more tenants than slots nothing can be set aside: tenants then wait in line for a run to end.
//!
//! Handing a slot over costs the same however many wait: the first in line gets it. Only while a tenant waits whose part
//! isn't used up, which those that have used theirs up must let pass, is the line searched.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandhog_core::id::TenantId;
use tokio::sync::oneshot;

/// The slots of a daemon.
#[derive(Debug)]
pub(crate) struct FairSlots {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    allocator: Allocator,
    /// Tenants that wait for a slot, by their place in line; there was no slot for any of them when the line was last looked
    /// at.
    waiters: BTreeMap<WaitPosition, Waiter>,
    last_position: WaitPosition,
}

#[derive(Debug)]
struct Waiter {
    index: TenantIndex,
    grant: oneshot::Sender<Slots>,
}

/// A place in the line for slots; lower ones are served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaitPosition(u64);

/// Handle with which one tenant acquires slots.
#[derive(Debug)]
pub(crate) struct TenantSlots {
    fair_slots: Arc<FairSlots>,
    index: TenantIndex,
}

/// Slots that one tenant holds, each the right to have a run under way. Dropping them gives them back.
#[derive(Debug)]
pub(crate) struct Slots {
    fair_slots: Arc<FairSlots>,
    index: TenantIndex,
    count: u32,
    position: WaitPosition,
}

impl FairSlots {
    /// Creates `total` slots, none of them set aside.
    pub(crate) fn new(total: NonZeroU32) -> Arc<Self> {
        let allocator = Allocator::new(total.get());
        let state = State { allocator, waiters: BTreeMap::new(), last_position: WaitPosition(0) };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Number of slots that are taken.
    pub(crate) fn used(&self) -> u32 {
        self.lock().allocator.used
    }

    /// Sets slots aside for these tenants, each given with the maximum number of its runs under way.
    pub(crate) fn set_aside(self: &Arc<Self>, tenants: impl IntoIterator<Item = (TenantId, NonZeroU32)>) {
        let mut state = self.lock();
        state.allocator.set_aside(tenants.into_iter().collect());
        self.serve(state);
    }

    /// Creates the handle with which a tenant asks for slots.
    pub(crate) fn join(self: &Arc<Self>, tenant: &TenantId) -> TenantSlots {
        let mut state = self.lock();
        let index = state.allocator.index(tenant);
        state.allocator.parts[index].members += 1;
        TenantSlots { fair_slots: Arc::clone(self), index }
    }

    /// Hands out free slots to those that wait.
    fn serve(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut grants = Vec::new();
        while let Some(position) = state.next_served() {
            let Some(Waiter { index, grant }) = state.waiters.remove(&position) else { break };
            state.allocator.waits_no_more(index);
            let count = state.allocator.take(index, 1);
            grants.push((grant, Slots { fair_slots: Arc::clone(self), index, count, position }));
        }
        // A slot whose receiver is gone meanwhile comes back here, for which the lock has to be free.
        drop(state);
        for (grant, slots) in grants {
            drop(grant.send(slots));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the first place in line for which there is a slot.
    fn next_served(&self) -> Option<WaitPosition> {
        let allocator = &self.allocator;
        let mut waiters = self.waiters.iter();
        let (position, _) = match () {
            () if allocator.free() == 0 => None,
            // More is free than is set aside: anybody may have it.
            () if allocator.free() > allocator.kept => waiters.next(),
            // All that is free is set aside: it goes to those who wait for their own part, if there are any.
            () if allocator.entitled == 0 => None,
            () => waiters.find(|(_, waiter)| allocator.available(waiter.index) > 0),
        }?;
        Some(*position)
    }
}

impl TenantSlots {
    /// Waits in line for one slot: at `position`, a place that this tenant had before, or else at the end.
    pub(crate) async fn acquire(&self, position: Option<WaitPosition>) -> Slots {
        let mut waiting = {
            let mut state = self.fair_slots.lock();
            let position = position.unwrap_or_else(|| state.new_position());
            if state.allocator.take(self.index, 1) == 1 {
                return self.slots(1, position);
            }
            let (grant, granted) = oneshot::channel();
            state.allocator.begins_to_wait(self.index);
            state.waiters.insert(position, Waiter { index: self.index, grant });
            Waiting { member: self, position, granted }
        };
        match (&mut waiting.granted).await {
            Ok(slots) => slots,
            // The slots outlive this call, and nobody else takes this place out of the line.
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes a slot. `None` if none is free now.
    pub(crate) fn try_acquire(&self) -> Option<Slots> {
        let mut state = self.fair_slots.lock();
        let position = state.new_position();
        (state.allocator.take(self.index, 1) == 1).then(|| self.slots(1, position))
    }

    /// Whether anybody waits for a slot.
    pub(crate) fn is_contended(&self) -> bool {
        !self.fair_slots.lock().waiters.is_empty()
    }

    fn slots(&self, count: u32, position: WaitPosition) -> Slots {
        Slots { fair_slots: Arc::clone(&self.fair_slots), index: self.index, count, position }
    }
}

impl Drop for TenantSlots {
    fn drop(&mut self) {
        self.fair_slots.lock().allocator.parts[self.index].members -= 1;
    }
}

impl State {
    fn new_position(&mut self) -> WaitPosition {
        self.last_position.0 += 1;
        self.last_position
    }
}

/// Place in line of a tenant that waits; it leaves the line when this is dropped.
struct Waiting<'a> {
    member: &'a TenantSlots,
    position: WaitPosition,
    granted: oneshot::Receiver<Slots>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.member.fair_slots.lock();
        if state.waiters.remove(&self.position).is_some() {
            state.allocator.waits_no_more(self.member.index);
        }
    }
}

impl Slots {
    /// The number of slots.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Place in line at which they were waited for.
    pub(crate) fn position(&self) -> WaitPosition {
        self.position
    }

    /// Takes up to `more` slots in addition, if they are free.
    pub(crate) fn widen(&mut self, more: u32) {
        if more > 0 {
            self.count += self.fair_slots.lock().allocator.take(self.index, more);
        }
    }

    /// Splits off one slot. `None` if none is left.
    pub(crate) fn split(&mut self) -> Option<Self> {
        self.count = self.count.checked_sub(1)?;
        Some(Self {
            fair_slots: Arc::clone(&self.fair_slots),
            index: self.index,
            count: 1,
            position: self.position,
        })
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        let mut state = self.fair_slots.lock();
        state.allocator.give_back(self.index, self.count);
        self.fair_slots.serve(state);
    }
}

/// The rule by which tenants may take slots.
#[derive(Debug)]
struct Allocator {
    total: u32,
    used: u32,
    /// Number of slots that are set aside and not in use, of all tenants together.
    kept: u32,
    /// Number of tenants that wait in line though their part isn't used up.
    entitled: u32,
    /// Parts of the tenants by index, so that a slot changes hands without a look at any name.
    parts: Vec<Part>,
    indexes: HashMap<TenantId, TenantIndex>,
    /// Indexes that are no tenant's.
    vacant: Vec<TenantIndex>,
}

/// Index of a tenant in [`Allocator::parts`].
type TenantIndex = usize;

#[derive(Debug, Default)]
struct Part {
    set_aside: u32,
    used: u32,
    /// Number of places in line at which it waits.
    waiting: u32,
    /// Number of its [`TenantSlots`].
    members: u32,
}

impl Part {
    fn kept(&self) -> u32 {
        self.set_aside.saturating_sub(self.used)
    }

    fn is_entitled(&self) -> bool {
        self.waiting > 0 && self.kept() > 0
    }

    fn is_forgettable(&self) -> bool {
        self.used == 0 && self.members == 0 && self.waiting == 0
    }
}

impl Allocator {
    fn new(total: u32) -> Self {
        let (parts, indexes, vacant) = (Vec::new(), HashMap::new(), Vec::new());
        Self { total, used: 0, kept: 0, entitled: 0, parts, indexes, vacant }
    }

    fn set_aside(&mut self, most: HashMap<TenantId, NonZeroU32>) {
        let count = u32::try_from(most.len()).unwrap_or(u32::MAX);
        let equal = match self.total.checked_div(count) {
            None | Some(0) => 0,
            Some(whole) => (whole / 2).max(1),
        };
        let Self { parts, indexes, vacant, .. } = self;
        indexes.retain(|tenant, index| {
            let goes = !most.contains_key(tenant) && parts[*index].is_forgettable();
            if goes {
                vacant.push(*index);
            }
            !goes
        });
        self.parts.iter_mut().for_each(|part| part.set_aside = 0);
        for (tenant, most) in most {
            let index = self.index(&tenant);
            self.parts[index].set_aside = equal.min(most.get());
        }
        self.kept = self.parts.iter().map(Part::kept).sum();
        self.entitled = self.parts.iter().map(|part| u32::from(part.is_entitled())).sum();
    }

    /// Returns the index of a tenant, which is given one if it has none.
    fn index(&mut self, tenant: &TenantId) -> TenantIndex {
        if let Some(index) = self.indexes.get(tenant) {
            return *index;
        }
        let index = self.vacant.pop().unwrap_or(self.parts.len());
        if index == self.parts.len() {
            self.parts.push(Part::default());
        }
        self.indexes.insert(tenant.clone(), index);
        index
    }

    fn free(&self) -> u32 {
        self.total.saturating_sub(self.used)
    }

    /// Number of slots that a tenant may take: those that are free and not set aside for others.
    fn available(&self, index: TenantIndex) -> u32 {
        self.free().saturating_sub(self.kept - self.parts[index].kept())
    }

    /// Takes the slots that are available to a tenant, at most `up_to`. Returns how many.
    fn take(&mut self, index: TenantIndex, up_to: u32) -> u32 {
        let takes = up_to.min(self.available(index));
        self.used += takes;
        self.change(index, |part| part.used += takes);
        takes
    }

    fn give_back(&mut self, index: TenantIndex, count: u32) {
        self.used -= count;
        self.change(index, |part| part.used -= count);
    }

    fn begins_to_wait(&mut self, index: TenantIndex) {
        self.change(index, |part| part.waiting += 1);
    }

    fn waits_no_more(&mut self, index: TenantIndex) {
        self.change(index, |part| part.waiting -= 1);
    }

    /// Changes one part, and the sums over all with it.
    fn change(&mut self, index: TenantIndex, change: impl FnOnce(&mut Part)) {
        let part = &mut self.parts[index];
        self.kept -= part.kept();
        self.entitled -= u32::from(part.is_entitled());
        change(part);
        self.kept += part.kept();
        self.entitled += u32::from(part.is_entitled());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    use futures::FutureExt;
    use futures::future::LocalBoxFuture;
    use proptest::prelude::*;

    fn tenant(n: usize) -> TenantId {
        TenantId::parse(&format!("t{n}")).expect("valid")
    }

    fn number(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).expect("not zero")
    }

    fn among(most: &[u32]) -> Vec<(TenantId, NonZeroU32)> {
        most.iter().enumerate().map(|(n, most)| (tenant(n), number(*most))).collect()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take { tenant: usize, up_to: u32 },
        GiveBack { tenant: usize },
        Deploy { most: Vec<u32> },
    }

    #[derive(Debug, Clone)]
    enum LineStep {
        Wait { tenant: usize },
        Leave { nth: usize },
        GiveBack { nth: usize },
        Deploy { most: Vec<u32> },
    }

    fn line_steps() -> impl Strategy<Value = Vec<LineStep>> {
        let step = prop_oneof![
            8 => (0..6usize).prop_map(|tenant| LineStep::Wait { tenant }),
            1 => (0..6usize).prop_map(|nth| LineStep::Leave { nth }),
            6 => (0..12usize).prop_map(|nth| LineStep::GiveBack { nth }),
            1 => prop::collection::vec(1..20u32, 0..6).prop_map(|most| LineStep::Deploy { most }),
        ];
        prop::collection::vec(step, 0..100)
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..6usize, 0..20u32).prop_map(|(tenant, up_to)| Step::Take { tenant, up_to }),
            6 => (0..6usize).prop_map(|tenant| Step::GiveBack { tenant }),
            1 => prop::collection::vec(1..20u32, 0..6).prop_map(|most| Step::Deploy { most }),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// Whatever tenants take and give back, and however often they change: there are never more runs under way
        /// than slots, and what the sums say is what they are sums of.
        #[test]
        fn the_sums_hold_and_no_slot_is_taken_twice(total in 1..40u32, steps in steps()) {
            let mut allocator = Allocator::new(total);
            let mut used = [0; 6];
            for step in steps {
                match step {
                    Step::Take { tenant: n, up_to } => {
                        let index = allocator.index(&tenant(n));
                        used[n] += allocator.take(index, up_to);
                    }
                    Step::GiveBack { tenant: n } => {
                        let index = allocator.index(&tenant(n));
                        allocator.give_back(index, used[n]);
                        used[n] = 0;
                    }
                    Step::Deploy { most } => allocator.set_aside(among(&most).into_iter().collect()),
                }
                prop_assert!(allocator.used <= total);
                prop_assert_eq!(allocator.used, used.iter().sum::<u32>());
                prop_assert_eq!(allocator.kept, allocator.parts.iter().map(Part::kept).sum::<u32>());
                let indexes: HashSet<TenantIndex> = allocator.indexes.values().chain(&allocator.vacant).copied().collect();
                prop_assert_eq!(indexes.len(), allocator.parts.len(), "each number is one tenant's or nobody's");
            }
        }

        /// However slots are taken, given back, waited for and set aside: nobody is left waiting for whom there is a slot,
        /// and of two that have used up their parts the one that came first is served first.
        #[test]
        fn nobody_waits_for_a_slot_that_is_free(total in 1..12u32, steps in line_steps()) {
            let fair_slots = FairSlots::new(number(total));
            let members: Vec<TenantSlots> = (0..6).map(|n| fair_slots.join(&tenant(n))).collect();
            let mut taken: Vec<(usize, Slots)> = Vec::new();
            let mut waiting: Vec<(usize, LocalBoxFuture<'_, Slots>)> = Vec::new();
            for step in steps {
                match step {
                    LineStep::Wait { tenant } => {
                        waiting.push((tenant, Box::pin(members[tenant].acquire(None))));
                    }
                    LineStep::Leave { nth } if nth < waiting.len() => drop(waiting.remove(nth)),
                    LineStep::GiveBack { nth } if nth < taken.len() => drop(taken.remove(nth)),
                    LineStep::Leave { .. } | LineStep::GiveBack { .. } => {}
                    LineStep::Deploy { most } => fair_slots.set_aside(among(&most)),
                }
                let (mut passed, mut still) = (false, Vec::new());
                for (n, mut granted) in waiting {
                    match granted.as_mut().now_or_never() {
                        Some(slots) => {
                            let state = fair_slots.lock();
                            let part = &state.allocator.parts[members[n].index];
                            prop_assert!(!passed || part.used <= part.set_aside, "one that came later went first");
                            drop(state);
                            taken.push((n, slots));
                        }
                        None => {
                            passed = true;
                            still.push((n, granted));
                        }
                    }
                }
                waiting = still;
                let state = fair_slots.lock();
                prop_assert_eq!(state.waiters.len(), waiting.len());
                for waiter in state.waiters.values() {
                    prop_assert_eq!(state.allocator.available(waiter.index), 0);
                }
                let entitled = state.allocator.parts.iter().filter(|part| part.is_entitled()).count();
                prop_assert_eq!(state.allocator.entitled as usize, entitled);
            }
        }

        /// However greedy the others are: a tenant finds its part of the slots free, at once.
        #[test]
        fn no_tenant_can_have_the_part_of_another(
            total in 1..2000u32,
            most in prop::collection::vec(1..2000u32, 1..20),
            greed in prop::collection::vec((0..20usize, 1..2000u32), 0..100),
        ) {
            let mut allocator = Allocator::new(total);
            allocator.set_aside(among(&most).into_iter().collect());
            let late = 0;
            for (n, wants) in greed {
                if n % most.len() != late {
                    let index = allocator.index(&tenant(n % most.len()));
                    allocator.take(index, wants);
                }
            }
            let count = most.len() as u32;
            let part = if total < count { 0 } else { (total / count / 2).max(1).min(most[late]) };
            let index = allocator.index(&tenant(late));
            prop_assert!(allocator.take(index, part) == part);
        }

        /// A tenant whose neighbours are idle can have half of the daemon, if there are two slots for each of them.
        #[test]
        fn what_is_not_set_aside_goes_to_the_first_that_asks(total in 1..2000u32, count in 1..20usize) {
            let mut allocator = Allocator::new(total);
            allocator.set_aside(among(&vec![total; count]).into_iter().collect());
            let index = allocator.index(&tenant(0));
            let taken = allocator.take(index, total);
            let least = if total as usize >= 2 * count { total / 2 } else { 1 };
            prop_assert!(taken >= least, "{taken} of {total}");
            if count == 1 {
                prop_assert_eq!(taken, total);
            }
        }
    }

    #[test]
    fn with_more_tenants_than_slots_nothing_is_set_aside() {
        let mut allocator = Allocator::new(3);
        allocator.set_aside(among(&[9; 4]).into_iter().collect());
        let index = allocator.index(&tenant(0));
        assert_eq!(allocator.take(index, 9), 3);
    }

    #[tokio::test]
    async fn those_that_wait_are_served_in_turn() {
        let fair_slots = FairSlots::new(number(1));
        let [one, two, three] = [0, 1, 2].map(|n| fair_slots.join(&tenant(n)));
        let first = one.acquire(None).await;
        let (mut second, mut third) = (Box::pin(two.acquire(None)), Box::pin(three.acquire(None)));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "it came later");
        drop(second.await);
        third.await;
    }

    #[tokio::test]
    async fn one_that_has_its_part_already_lets_others_pass() {
        let fair_slots = FairSlots::new(number(4));
        let [one, two] = [0, 1].map(|n| fair_slots.join(&tenant(n)));
        fair_slots.set_aside(among(&[4, 4]));
        let mut greedy = one.acquire(None).await;
        greedy.widen(9);
        assert_eq!(greedy.count(), 3, "one is the other's");
        let mut waits = Box::pin(one.acquire(None));
        assert!((&mut waits).now_or_never().is_none());
        let other = two.acquire(None).now_or_never().expect("its part is free");
        drop(other);
        assert!((&mut waits).now_or_never().is_none(), "it is still the other's");
        drop(greedy.split());
        assert!(waits.now_or_never().is_some());
    }

    #[tokio::test]
    async fn one_that_gave_its_slots_back_may_wait_at_its_old_place() {
        let fair_slots = FairSlots::new(number(1));
        let [one, two, three] = [0, 1, 2].map(|n| fair_slots.join(&tenant(n)));
        let first = one.acquire(None).await;
        let position = first.position();
        let (mut second, mut third) = (Box::pin(two.acquire(None)), Box::pin(three.acquire(None)));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        drop(first);
        let second = second.await;
        let mut again = Box::pin(one.acquire(Some(position)));
        assert!((&mut again).now_or_never().is_none());
        drop(second);
        assert!((&mut third).now_or_never().is_none(), "it came later");
        assert!(again.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_slot_that_nobody_waits_for_any_more_goes_to_the_next() {
        let fair_slots = FairSlots::new(number(1));
        let [one, two, three] = [0, 1, 2].map(|n| fair_slots.join(&tenant(n)));
        let first = one.acquire(None).await;
        let (mut gone, mut next) = (Box::pin(two.acquire(None)), Box::pin(three.acquire(None)));
        assert!((&mut gone).now_or_never().is_none() && (&mut next).now_or_never().is_none());
        // Granted, and not yet seen by who waited for it.
        drop(first);
        drop(gone);
        let slots = next.now_or_never().expect("it came back and went on");
        assert!(one.acquire(None).now_or_never().is_none(), "there is one, and it is taken");
        drop(slots);
        assert!(one.acquire(None).now_or_never().is_some());
    }
}
