//! Seats for runs under way at once, shared so that no tenant can have all of them.
//!
//! Half of the seats are set aside, an equal part for each tenant: as long as a tenant has fewer runs under way than its
//! part, the others leave it the rest. The other half goes to the tenant that asks first. So a thousand handlers that
//! never end keep nobody out, and a tenant that is alone with its work may still have most of the daemon.
//!
//! With more tenants than seats nothing can be set aside: tenants then wait in line for a run to end.
//!
//! Handing a seat over costs the same however many wait: the first in line gets it. Only while a tenant waits whose part
//! isn't used up, which those that have used theirs up must let pass, is the line searched.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandhog_core::id::TenantId;
use tokio::sync::oneshot;

/// All seats of a daemon.
#[derive(Debug)]
pub(crate) struct Seats {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    sharing: Sharing,
    /// Tenants that wait for a seat, by their place; there was no seat for any of them when the line was last looked at.
    line: BTreeMap<PlaceInLine, Waiter>,
    last_place: PlaceInLine,
}

#[derive(Debug)]
struct Waiter {
    slot: Slot,
    grant: oneshot::Sender<Seat>,
}

/// A place in the line for seats; lower ones are served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlaceInLine(u64);

/// A tenant's way to the seats.
#[derive(Debug)]
pub(crate) struct Member {
    seats: Arc<Seats>,
    slot: Slot,
}

/// The right to have some runs of one tenant under way. Dropping it gives the seats back.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    slot: Slot,
    count: u32,
    place: PlaceInLine,
}

impl Seats {
    /// Creates `total` seats, none of them set aside.
    pub(crate) fn new(total: NonZeroU32) -> Arc<Self> {
        let sharing = Sharing::new(total.get());
        let state = State { sharing, line: BTreeMap::new(), last_place: PlaceInLine(0) };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Sets parts aside for these tenants, each with the most runs that it may have under way.
    pub(crate) fn set_aside(self: &Arc<Self>, tenants: impl IntoIterator<Item = (TenantId, NonZeroU32)>) {
        let mut state = self.lock();
        state.sharing.set_aside(tenants.into_iter().collect());
        self.serve(state);
    }

    /// Lets a tenant ask for seats.
    pub(crate) fn join(self: &Arc<Self>, tenant: &TenantId) -> Member {
        let mut state = self.lock();
        let slot = state.sharing.slot(tenant);
        state.sharing.parts[slot].members += 1;
        Member { seats: Arc::clone(self), slot }
    }

    /// Hands out what is free to those that wait.
    fn serve(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut grants = Vec::new();
        while let Some(place) = state.next_served() {
            let Some(Waiter { slot, grant }) = state.line.remove(&place) else { break };
            state.sharing.leaves_line(slot);
            let count = state.sharing.take(slot, 1);
            grants.push((grant, Seat { seats: Arc::clone(self), slot, count, place }));
        }
        // A seat whose taker has gone meanwhile comes back here, for which the lock has to be free.
        drop(state);
        for (grant, seat) in grants {
            drop(grant.send(seat));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The first in line for whom there is a seat.
    fn next_served(&self) -> Option<PlaceInLine> {
        let sharing = &self.sharing;
        let mut line = self.line.iter();
        let (place, _) = match () {
            () if sharing.free() == 0 => None,
            // More is free than is set aside: anybody may have it.
            () if sharing.free() > sharing.kept => line.next(),
            // All that is free is set aside: it goes to those who wait for their own part, if there are any.
            () if sharing.entitled == 0 => None,
            () => line.find(|(_, waiter)| sharing.available(waiter.slot) > 0),
        }?;
        Some(*place)
    }
}

impl Member {
    /// Waits in line for one seat, at a place that this tenant had before, or else at the end.
    pub(crate) async fn acquire(&self, place: Option<PlaceInLine>) -> Seat {
        let mut waiting = {
            let mut state = self.seats.lock();
            let place = place.unwrap_or_else(|| state.new_place());
            if state.sharing.take(self.slot, 1) == 1 {
                return self.seat(1, place);
            }
            let (grant, granted) = oneshot::channel();
            state.sharing.joins_line(self.slot);
            state.line.insert(place, Waiter { slot: self.slot, grant });
            Waiting { member: self, place, granted }
        };
        match (&mut waiting.granted).await {
            Ok(seat) => seat,
            // The seats outlive this call, and nobody else takes this place out of the line.
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes a seat if one is free now.
    pub(crate) fn try_acquire(&self) -> Option<Seat> {
        let mut state = self.seats.lock();
        let place = state.new_place();
        (state.sharing.take(self.slot, 1) == 1).then(|| self.seat(1, place))
    }

    /// Whether anybody waits for a seat.
    pub(crate) fn is_contended(&self) -> bool {
        !self.seats.lock().line.is_empty()
    }

    fn seat(&self, count: u32, place: PlaceInLine) -> Seat {
        Seat { seats: Arc::clone(&self.seats), slot: self.slot, count, place }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.seats.lock().sharing.parts[self.slot].members -= 1;
    }
}

impl State {
    fn new_place(&mut self) -> PlaceInLine {
        self.last_place.0 += 1;
        self.last_place
    }
}

/// A place in line that is left when this is dropped.
struct Waiting<'a> {
    member: &'a Member,
    place: PlaceInLine,
    granted: oneshot::Receiver<Seat>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.member.seats.lock();
        if state.line.remove(&self.place).is_some() {
            state.sharing.leaves_line(self.member.slot);
        }
    }
}

impl Seat {
    /// The number of seats.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The place at which they were waited for.
    pub(crate) fn place(&self) -> PlaceInLine {
        self.place
    }

    /// Takes up to `more` seats in addition, if they are free.
    pub(crate) fn widen(&mut self, more: u32) {
        if more > 0 {
            self.count += self.seats.lock().sharing.take(self.slot, more);
        }
    }

    /// Takes one of the seats off; nothing if none is left.
    pub(crate) fn split(&mut self) -> Option<Self> {
        self.count = self.count.checked_sub(1)?;
        Some(Self { seats: Arc::clone(&self.seats), slot: self.slot, count: 1, place: self.place })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        let mut state = self.seats.lock();
        state.sharing.give_back(self.slot, self.count);
        self.seats.serve(state);
    }
}

/// The rule by which tenants may take seats.
#[derive(Debug)]
struct Sharing {
    total: u32,
    used: u32,
    /// What is set aside and not in use, of all tenants together.
    kept: u32,
    /// Tenants that wait in line though their part isn't used up.
    entitled: u32,
    /// The tenants by number, so that a seat changes hands without a look at any name.
    parts: Vec<Part>,
    slots: HashMap<TenantId, Slot>,
    /// Numbers that are nobody's.
    vacant: Vec<Slot>,
}

/// The number of a tenant.
type Slot = usize;

#[derive(Debug, Default)]
struct Part {
    set_aside: u32,
    used: u32,
    /// How often it waits in line.
    waiting: u32,
    /// How many [`Member`]s it has.
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

impl Sharing {
    fn new(total: u32) -> Self {
        let (parts, slots, vacant) = (Vec::new(), HashMap::new(), Vec::new());
        Self { total, used: 0, kept: 0, entitled: 0, parts, slots, vacant }
    }

    fn set_aside(&mut self, most: HashMap<TenantId, NonZeroU32>) {
        let count = u32::try_from(most.len()).unwrap_or(u32::MAX);
        let equal = match self.total.checked_div(count) {
            None | Some(0) => 0,
            Some(whole) => (whole / 2).max(1),
        };
        let Self { parts, slots, vacant, .. } = self;
        slots.retain(|tenant, slot| {
            let goes = !most.contains_key(tenant) && parts[*slot].is_forgettable();
            if goes {
                vacant.push(*slot);
            }
            !goes
        });
        self.parts.iter_mut().for_each(|part| part.set_aside = 0);
        for (tenant, most) in most {
            let slot = self.slot(&tenant);
            self.parts[slot].set_aside = equal.min(most.get());
        }
        self.kept = self.parts.iter().map(Part::kept).sum();
        self.entitled = self.parts.iter().map(|part| u32::from(part.is_entitled())).sum();
    }

    /// The number of a tenant, which is given one if it has none.
    fn slot(&mut self, tenant: &TenantId) -> Slot {
        if let Some(slot) = self.slots.get(tenant) {
            return *slot;
        }
        let slot = self.vacant.pop().unwrap_or(self.parts.len());
        if slot == self.parts.len() {
            self.parts.push(Part::default());
        }
        self.slots.insert(tenant.clone(), slot);
        slot
    }

    fn free(&self) -> u32 {
        self.total.saturating_sub(self.used)
    }

    /// The seats that a tenant may take: what is free and not set aside for others.
    fn available(&self, slot: Slot) -> u32 {
        self.free().saturating_sub(self.kept - self.parts[slot].kept())
    }

    /// Takes what is available to a tenant, up to a number.
    fn take(&mut self, slot: Slot, up_to: u32) -> u32 {
        let takes = up_to.min(self.available(slot));
        self.used += takes;
        self.change(slot, |part| part.used += takes);
        takes
    }

    fn give_back(&mut self, slot: Slot, count: u32) {
        self.used -= count;
        self.change(slot, |part| part.used -= count);
    }

    fn joins_line(&mut self, slot: Slot) {
        self.change(slot, |part| part.waiting += 1);
    }

    fn leaves_line(&mut self, slot: Slot) {
        self.change(slot, |part| part.waiting -= 1);
    }

    /// Changes one part, and the sums over all with it.
    fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Part)) {
        let part = &mut self.parts[slot];
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
        /// than seats, and what the sums say is what they are sums of.
        #[test]
        fn the_sums_hold_and_no_seat_is_taken_twice(total in 1..40u32, steps in steps()) {
            let mut sharing = Sharing::new(total);
            let mut used = [0; 6];
            for step in steps {
                match step {
                    Step::Take { tenant: n, up_to } => {
                        let slot = sharing.slot(&tenant(n));
                        used[n] += sharing.take(slot, up_to);
                    }
                    Step::GiveBack { tenant: n } => {
                        let slot = sharing.slot(&tenant(n));
                        sharing.give_back(slot, used[n]);
                        used[n] = 0;
                    }
                    Step::Deploy { most } => sharing.set_aside(among(&most).into_iter().collect()),
                }
                prop_assert!(sharing.used <= total);
                prop_assert_eq!(sharing.used, used.iter().sum::<u32>());
                prop_assert_eq!(sharing.kept, sharing.parts.iter().map(Part::kept).sum::<u32>());
                let slots: HashSet<Slot> = sharing.slots.values().chain(&sharing.vacant).copied().collect();
                prop_assert_eq!(slots.len(), sharing.parts.len(), "each number is one tenant's or nobody's");
            }
        }

        /// However seats are taken, given back, waited for and set aside: nobody is left waiting for whom there is a seat,
        /// and of two that have used up their parts the one that came first is served first.
        #[test]
        fn nobody_waits_for_a_seat_that_is_free(total in 1..12u32, steps in line_steps()) {
            let seats = Seats::new(number(total));
            let members: Vec<Member> = (0..6).map(|n| seats.join(&tenant(n))).collect();
            let mut taken: Vec<(usize, Seat)> = Vec::new();
            let mut waiting: Vec<(usize, LocalBoxFuture<'_, Seat>)> = Vec::new();
            for step in steps {
                match step {
                    LineStep::Wait { tenant } => {
                        waiting.push((tenant, Box::pin(members[tenant].acquire(None))));
                    }
                    LineStep::Leave { nth } if nth < waiting.len() => drop(waiting.remove(nth)),
                    LineStep::GiveBack { nth } if nth < taken.len() => drop(taken.remove(nth)),
                    LineStep::Leave { .. } | LineStep::GiveBack { .. } => {}
                    LineStep::Deploy { most } => seats.set_aside(among(&most)),
                }
                let (mut passed, mut still) = (false, Vec::new());
                for (n, mut granted) in waiting {
                    match granted.as_mut().now_or_never() {
                        Some(seat) => {
                            let state = seats.lock();
                            let part = &state.sharing.parts[members[n].slot];
                            prop_assert!(!passed || part.used <= part.set_aside, "one that came later went first");
                            drop(state);
                            taken.push((n, seat));
                        }
                        None => {
                            passed = true;
                            still.push((n, granted));
                        }
                    }
                }
                waiting = still;
                let state = seats.lock();
                prop_assert_eq!(state.line.len(), waiting.len());
                for waiter in state.line.values() {
                    prop_assert_eq!(state.sharing.available(waiter.slot), 0);
                }
                let entitled = state.sharing.parts.iter().filter(|part| part.is_entitled()).count();
                prop_assert_eq!(state.sharing.entitled as usize, entitled);
            }
        }

        /// However greedy the others are: a tenant finds its part of the seats free, at once.
        #[test]
        fn no_tenant_can_have_the_part_of_another(
            total in 1..2000u32,
            most in prop::collection::vec(1..2000u32, 1..20),
            greed in prop::collection::vec((0..20usize, 1..2000u32), 0..100),
        ) {
            let mut sharing = Sharing::new(total);
            sharing.set_aside(among(&most).into_iter().collect());
            let late = 0;
            for (n, wants) in greed {
                if n % most.len() != late {
                    let slot = sharing.slot(&tenant(n % most.len()));
                    sharing.take(slot, wants);
                }
            }
            let count = most.len() as u32;
            let part = if total < count { 0 } else { (total / count / 2).max(1).min(most[late]) };
            let slot = sharing.slot(&tenant(late));
            prop_assert!(sharing.take(slot, part) == part);
        }

        /// A tenant whose neighbours are idle can have half of the daemon, if there are two seats for each of them.
        #[test]
        fn what_is_not_set_aside_goes_to_the_first_that_asks(total in 1..2000u32, count in 1..20usize) {
            let mut sharing = Sharing::new(total);
            sharing.set_aside(among(&vec![total; count]).into_iter().collect());
            let slot = sharing.slot(&tenant(0));
            let taken = sharing.take(slot, total);
            let least = if total as usize >= 2 * count { total / 2 } else { 1 };
            prop_assert!(taken >= least, "{taken} of {total}");
            if count == 1 {
                prop_assert_eq!(taken, total);
            }
        }
    }

    #[test]
    fn with_more_tenants_than_seats_nothing_is_set_aside() {
        let mut sharing = Sharing::new(3);
        sharing.set_aside(among(&[9; 4]).into_iter().collect());
        let slot = sharing.slot(&tenant(0));
        assert_eq!(sharing.take(slot, 9), 3);
    }

    #[tokio::test]
    async fn those_that_wait_are_served_in_turn() {
        let seats = Seats::new(number(1));
        let [one, two, three] = [0, 1, 2].map(|n| seats.join(&tenant(n)));
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
        let seats = Seats::new(number(4));
        let [one, two] = [0, 1].map(|n| seats.join(&tenant(n)));
        seats.set_aside(among(&[4, 4]));
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
    async fn one_that_gave_its_seats_back_may_wait_at_its_old_place() {
        let seats = Seats::new(number(1));
        let [one, two, three] = [0, 1, 2].map(|n| seats.join(&tenant(n)));
        let first = one.acquire(None).await;
        let place = first.place();
        let (mut second, mut third) = (Box::pin(two.acquire(None)), Box::pin(three.acquire(None)));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        drop(first);
        let second = second.await;
        let mut again = Box::pin(one.acquire(Some(place)));
        assert!((&mut again).now_or_never().is_none());
        drop(second);
        assert!((&mut third).now_or_never().is_none(), "it came later");
        assert!(again.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_seat_that_nobody_waits_for_any_more_goes_to_the_next() {
        let seats = Seats::new(number(1));
        let [one, two, three] = [0, 1, 2].map(|n| seats.join(&tenant(n)));
        let first = one.acquire(None).await;
        let (mut gone, mut next) = (Box::pin(two.acquire(None)), Box::pin(three.acquire(None)));
        assert!((&mut gone).now_or_never().is_none() && (&mut next).now_or_never().is_none());
        // Granted, and not yet seen by who waited for it.
        drop(first);
        drop(gone);
        let seat = next.now_or_never().expect("it came back and went on");
        assert!(one.acquire(None).now_or_never().is_none(), "there is one, and it is taken");
        drop(seat);
        assert!(one.acquire(None).now_or_never().is_some());
    }
}
