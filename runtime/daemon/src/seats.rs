//! Seats for runs under way at once, shared so that no tenant can have all of them.
//!
//! Half of the seats are set aside, an equal part for each tenant: as long as a tenant has fewer runs under way than its
//! part, the others leave it the rest. The other half goes to whoever comes first. So a thousand handlers that never
//! end keep nobody out, and a tenant that is alone with its work may still have most of the daemon.
//!
//! With more tenants than seats nothing can be set aside: whoever waits then, waits for somebody's end, in its turn.

use std::collections::{HashMap, VecDeque};
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
    /// Those that wait, the longest waiting first; there was no seat for any of them when it was looked last.
    waiting: VecDeque<(TenantId, oneshot::Sender<Seat>)>,
}

/// The right to have some runs of one tenant under way. Dropping it gives the seats back.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    tenant: TenantId,
    count: u32,
}

impl Seats {
    /// So many seats, and nothing set aside yet.
    pub(crate) fn new(total: NonZeroU32) -> Arc<Self> {
        let state = State { sharing: Sharing::new(total.get()), waiting: VecDeque::new() };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Sets parts aside for these tenants, each with the most runs that it may have under way.
    pub(crate) fn set_aside(self: &Arc<Self>, tenants: impl IntoIterator<Item = (TenantId, NonZeroU32)>) {
        let mut state = self.lock();
        state.sharing.set_aside(tenants.into_iter().collect());
        self.serve(state);
    }

    /// Waits for one seat.
    pub(crate) async fn acquire(self: &Arc<Self>, tenant: &TenantId) -> Seat {
        let granted = {
            let mut state = self.lock();
            if state.sharing.take(tenant, 1) == 1 {
                return self.seat(tenant, 1);
            }
            let (grant, granted) = oneshot::channel();
            state.waiting.push_back((tenant.clone(), grant));
            granted
        };
        match granted.await {
            Ok(seat) => seat,
            // Whoever waits holds the seats, so its place in the line is there until it is served.
            Err(_) => std::future::pending().await,
        }
    }

    /// A seat, if one is free now.
    pub(crate) fn try_acquire(self: &Arc<Self>, tenant: &TenantId) -> Option<Seat> {
        let taken = self.lock().sharing.take(tenant, 1);
        (taken == 1).then(|| self.seat(tenant, 1))
    }

    fn seat(self: &Arc<Self>, tenant: &TenantId, count: u32) -> Seat {
        Seat { seats: Arc::clone(self), tenant: tenant.clone(), count }
    }

    /// Hands out what is free to those that wait.
    fn serve(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut grants = Vec::new();
        let State { sharing, waiting } = &mut *state;
        waiting.retain_mut(|(tenant, grant)| {
            if grant.is_closed() {
                return false;
            }
            let takes = sharing.take(tenant, 1) == 1;
            if takes {
                let (closed, _) = oneshot::channel();
                grants.push((std::mem::replace(grant, closed), self.seat(tenant, 1)));
            }
            !takes
        });
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

impl Seat {
    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Takes up to so many more, if they are free.
    pub(crate) fn widen(&mut self, more: u32) {
        self.count += self.seats.lock().sharing.take(&self.tenant, more);
    }

    /// Takes one of them for itself; none if there is none.
    pub(crate) fn split(&mut self) -> Option<Self> {
        self.count = self.count.checked_sub(1)?;
        Some(self.seats.seat(&self.tenant, 1))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        let mut state = self.seats.lock();
        state.sharing.give_back(&self.tenant, self.count);
        self.seats.serve(state);
    }
}

/// The rule: who may take how many.
#[derive(Debug)]
struct Sharing {
    total: u32,
    used: u32,
    /// What is set aside and not in use, of all tenants together.
    kept: u32,
    tenants: HashMap<TenantId, Part>,
}

#[derive(Debug, Default)]
struct Part {
    set_aside: u32,
    used: u32,
}

impl Part {
    fn kept(&self) -> u32 {
        self.set_aside.saturating_sub(self.used)
    }
}

impl Sharing {
    fn new(total: u32) -> Self {
        Self { total, used: 0, kept: 0, tenants: HashMap::new() }
    }

    fn set_aside(&mut self, most: HashMap<TenantId, NonZeroU32>) {
        let count = u32::try_from(most.len()).unwrap_or(u32::MAX);
        let equal = match self.total.checked_div(count) {
            None | Some(0) => 0,
            Some(whole) => (whole / 2).max(1),
        };
        self.tenants.retain(|_, part| part.used > 0);
        self.tenants.values_mut().for_each(|part| part.set_aside = 0);
        for (tenant, most) in most {
            self.tenants.entry(tenant).or_default().set_aside = equal.min(most.get());
        }
        self.kept = self.tenants.values().map(Part::kept).sum();
    }

    /// Takes as many as there are for a tenant, up to a number.
    fn take(&mut self, tenant: &TenantId, up_to: u32) -> u32 {
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.clone(), Part::default());
        }
        let free = self.total.saturating_sub(self.used);
        let (total_kept, part) = (self.kept, self.tenants.get_mut(tenant).expect("it is there by now"));
        let kept_before = part.kept();
        let takes = up_to.min(free.saturating_sub(total_kept - kept_before));
        part.used += takes;
        self.kept = total_kept - kept_before + part.kept();
        self.used += takes;
        takes
    }

    fn give_back(&mut self, tenant: &TenantId, count: u32) {
        let Some(part) = self.tenants.get_mut(tenant) else { return };
        let kept_before = part.kept();
        part.used -= count;
        self.kept = self.kept - kept_before + part.kept();
        self.used -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
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
                    Step::Take { tenant: n, up_to } => used[n] += sharing.take(&tenant(n), up_to),
                    Step::GiveBack { tenant: n } => {
                        sharing.give_back(&tenant(n), used[n]);
                        used[n] = 0;
                    }
                    Step::Deploy { most } => sharing.set_aside(among(&most).into_iter().collect()),
                }
                prop_assert!(sharing.used <= total);
                prop_assert_eq!(sharing.used, used.iter().sum::<u32>());
                prop_assert_eq!(sharing.kept, sharing.tenants.values().map(Part::kept).sum::<u32>());
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
                    sharing.take(&tenant(n % most.len()), wants);
                }
            }
            let count = most.len() as u32;
            let part = if total < count { 0 } else { (total / count / 2).max(1).min(most[late]) };
            prop_assert!(sharing.take(&tenant(late), part) == part);
        }

        /// A tenant whose neighbours are idle can have half of the daemon, if there are two seats for each of them.
        #[test]
        fn what_is_not_set_aside_is_whoevers_who_comes_first(total in 1..2000u32, count in 1..20usize) {
            let mut sharing = Sharing::new(total);
            sharing.set_aside(among(&vec![total; count]).into_iter().collect());
            let taken = sharing.take(&tenant(0), total);
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
        assert_eq!(sharing.take(&tenant(0), 9), 3);
    }

    #[tokio::test]
    async fn those_that_wait_are_served_in_turn() {
        let (seats, [one, two, three]) = (Seats::new(number(1)), [0, 1, 2].map(tenant));
        let first = seats.acquire(&one).await;
        let (mut second, mut third) = (Box::pin(seats.acquire(&two)), Box::pin(seats.acquire(&three)));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "it came later");
        drop(second.await);
        third.await;
    }

    #[tokio::test]
    async fn one_that_has_its_part_already_lets_others_pass() {
        let (seats, [one, two]) = (Seats::new(number(4)), [0, 1].map(tenant));
        seats.set_aside(among(&[4, 4]));
        let mut greedy = seats.acquire(&one).await;
        greedy.widen(9);
        assert_eq!(greedy.count(), 3, "one is the other's");
        let mut waits = Box::pin(seats.acquire(&one));
        assert!((&mut waits).now_or_never().is_none());
        let other = seats.acquire(&two).now_or_never().expect("its part is free");
        drop(other);
        assert!((&mut waits).now_or_never().is_none(), "it is still the other's");
        drop(greedy.split());
        assert!(waits.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_seat_that_nobody_waits_for_any_more_goes_to_the_next() {
        let (seats, [one, two, three]) = (Seats::new(number(1)), [0, 1, 2].map(tenant));
        let first = seats.acquire(&one).await;
        let (mut gone, mut next) = (Box::pin(seats.acquire(&two)), Box::pin(seats.acquire(&three)));
        assert!((&mut gone).now_or_never().is_none() && (&mut next).now_or_never().is_none());
        // Granted, and not yet seen by who waited for it.
        drop(first);
        drop(gone);
        let seat = next.now_or_never().expect("it came back and went on");
        assert!(seats.acquire(&one).now_or_never().is_none(), "there is one, and it is taken");
        drop(seat);
        assert!(seats.acquire(&one).now_or_never().is_some());
    }
}
