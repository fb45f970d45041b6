//! Push notifications: a queue has jobs, a leased job is to be cancelled, or events were recorded.
//!
//! A wake is a hint, so the wakes that a slow listener hasn't fetched yet need no queue. They are kept as a set of tenants,
//! never larger than the set listened to, and a bounded number of jobs to be cancelled, past which [`Wake::All`] stands for
//! them. Sending never waits, and no wake is ever dropped.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandhog_core::id::{DaemonId, JobId, TenantId};
use tokio::sync::Notify;

/// A notification of work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wake {
    /// A queue of the tenant was empty and has jobs now.
    Ready {
        /// The tenant whose queue it is.
        tenant: TenantId,
        /// The one daemon, of those that were waiting, that is to look at once; `None` means all of them. The others need to
        /// look only after a while, as that one may be gone or have no room.
        named: Option<DaemonId>,
    },
    /// Cancellation of this leased job of the tenant was requested: its holder is to renew its lease, whose answer says so.
    Cancel(TenantId, JobId),
    /// A schedule of the tenant is due earlier than any was: the daemon that fires schedules has to look when.
    Due(TenantId),
    /// Events of the tenant were recorded: see [`Look::Events`](crate::Look::Events).
    Events(TenantId),
    /// Something may have been missed, say while a connection was down: ask for every tenant, and about every lease.
    All,
}

impl Wake {
    /// Returns the tenant that the wake is about, or `None` if it is for all tenants.
    pub(crate) fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Ready { tenant, .. }
            | Self::Cancel(tenant, _)
            | Self::Due(tenant)
            | Self::Events(tenant) => Some(tenant),
            Self::All => None,
        }
    }
}

/// Maximum number of cancellations that a listener may leave unfetched; past it, [`Wake::All`] stands for them.
const CANCELS_MAX: usize = 256;

/// A stream of [`Wake`]s, which ends when the broker is closed. A wake is a hint: a listener that gets one asks for leases
/// and may get none. Equal wakes that aren't fetched yet are delivered once.
#[derive(Debug)]
pub struct Wakes {
    shared: Arc<Shared>,
}

/// The sending end of a [`Wakes`]. The stream ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Waker {
    shared: Arc<Shared>,
}

/// The listeners of a broker, each with the tenants that it listens to.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    listeners: Mutex<Vec<(HashSet<TenantId>, Waker)>>,
}

#[derive(Debug, Default)]
struct Shared {
    unheard: Mutex<Unheard>,
    /// Notified when `unheard` has changed.
    news: Notify,
    /// Notified when the listener is gone.
    gone: Notify,
}

#[derive(Debug, Default)]
struct Unheard {
    all: bool,
    /// Tenants with ready jobs, in order of arrival, so that no tenant is kept waiting by busier ones.
    tenants: VecDeque<TenantId>,
    /// The daemon named for each of those tenants; `None` (all daemons) if the wakes named different ones.
    named: HashMap<TenantId, Option<DaemonId>>,
    cancels: VecDeque<(TenantId, JobId)>,
    /// Tenants of which a schedule is due earlier.
    due: BTreeSet<TenantId>,
    /// Tenants of which events were recorded.
    events: BTreeSet<TenantId>,
    /// Whether the sending end is gone, so that no more wakes come.
    ended: bool,
    /// Whether the listening end is gone, so that nobody fetches wakes any more.
    abandoned: bool,
}

impl Wakes {
    /// Creates a stream and its sending end.
    #[must_use]
    pub(crate) fn channel() -> (Waker, Self) {
        let shared = Arc::new(Shared::default());
        (Waker { shared: Arc::clone(&shared) }, Self { shared })
    }

    /// Returns the next wake, or `None` once the broker is closed.
    pub async fn next(&mut self) -> Option<Wake> {
        loop {
            // There is one listener, so a permit that an earlier change has left is enough to hear of a later one.
            let news = self.shared.news.notified();
            {
                let mut unheard = self.shared.unheard();
                if let Some(wake) = unheard.take() {
                    return Some(wake);
                }
                if unheard.ended {
                    return None;
                }
            }
            news.await;
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.shared.unheard().abandoned = true;
        self.shared.gone.notify_one();
    }
}

impl Waker {
    /// Sends a wake to the listener. Never waits.
    pub(crate) fn wake(&self, wake: Wake) {
        self.shared.unheard().put(wake);
        self.shared.news.notify_one();
    }

    /// Whether the listener is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.unheard().abandoned
    }

    /// Returns once the listener is gone.
    pub(crate) async fn closed(&self) {
        while !self.is_closed() {
            self.shared.gone.notified().await;
        }
        // Several senders may wait for the end of one stream, and `notify_one` reaches one of them.
        self.shared.gone.notify_one();
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.shared.unheard().ended = true;
        self.shared.news.notify_one();
    }
}

impl Listeners {
    /// Adds a listener for these tenants. Its first wake is [`Wake::All`].
    pub(crate) fn listen(&self, tenants: Vec<TenantId>) -> Wakes {
        let (waker, wakes) = Wakes::channel();
        waker.wake(Wake::All);
        let mut listeners = self.lock();
        listeners.retain(|(_, waker)| !waker.is_closed());
        listeners.push((tenants.into_iter().collect(), waker));
        wakes
    }

    /// Sends a wake to the listeners that it concerns.
    pub(crate) fn wake(&self, wake: &Wake) {
        let concerns = |tenants: &HashSet<TenantId>| wake.tenant().is_none_or(|of| tenants.contains(of));
        for (_, waker) in self.lock().iter().filter(|(tenants, _)| concerns(tenants)) {
            waker.wake(wake.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(HashSet<TenantId>, Waker)>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn unheard(&self) -> MutexGuard<'_, Unheard> {
        // Every change is made in one go, so a panic elsewhere can't have left half of one.
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unheard {
    fn put(&mut self, wake: Wake) {
        match wake {
            Wake::All => self.all = true,
            Wake::Cancel(tenant, job) if self.cancels.len() < CANCELS_MAX => {
                self.cancels.push_back((tenant, job));
            }
            Wake::Cancel(..) => self.all = true,
            Wake::Due(tenant) => drop(self.due.insert(tenant)),
            Wake::Events(tenant) => drop(self.events.insert(tenant)),
            Wake::Ready { tenant, named } => match self.named.entry(tenant) {
                Entry::Occupied(mut known) if *known.get() != named => drop(known.insert(None)),
                Entry::Occupied(_) => {}
                Entry::Vacant(new) => {
                    self.tenants.push_back(new.key().clone());
                    new.insert(named);
                }
            },
        }
    }

    fn take(&mut self) -> Option<Wake> {
        if std::mem::take(&mut self.all) {
            // A listener that asks for every tenant and lease has no need of the single wakes.
            self.tenants.clear();
            self.named.clear();
            self.cancels.clear();
            self.due.clear();
            self.events.clear();
            return Some(Wake::All);
        }
        if let Some((tenant, job)) = self.cancels.pop_front() {
            return Some(Wake::Cancel(tenant, job));
        }
        if let Some(tenant) = self.due.pop_first() {
            return Some(Wake::Due(tenant));
        }
        if let Some(tenant) = self.tenants.pop_front() {
            let named = self.named.remove(&tenant).flatten();
            return Some(Wake::Ready { tenant, named });
        }
        // Work first: whoever only observes can wait.
        self.events.pop_first().map(Wake::Events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandhog_core::time::Timestamp;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).expect("a valid name")
    }

    fn ready(name: &str) -> Wake {
        Wake::Ready { tenant: tenant(name), named: None }
    }

    #[tokio::test]
    async fn of_several_daemons_that_were_named_each_is_told() {
        let (waker, mut wakes) = Wakes::channel();
        let naming = |name, daemon| {
            let named = Some(DaemonId::from_parts(Timestamp::from_millis(1), daemon));
            Wake::Ready { tenant: tenant(name), named }
        };
        for (name, daemon) in [("two", 1), ("one", 1), ("two", 2), ("one", 1)] {
            waker.wake(naming(name, daemon));
        }
        assert_eq!(wakes.next().await, Some(ready("two")));
        assert_eq!(wakes.next().await, Some(naming("one", 1)));
        waker.wake(naming("two", 1));
        assert_eq!(wakes.next().await, Some(naming("two", 1)), "what was heard is forgotten");
    }

    #[tokio::test]
    async fn a_listener_that_falls_behind_misses_no_tenant_and_grows_no_backlog() {
        let (waker, mut wakes) = Wakes::channel();
        for _ in 0..100_000 {
            waker.wake(ready("busy"));
        }
        waker.wake(ready("quiet"));
        drop(waker);
        assert_eq!(wakes.next().await, Some(ready("busy")));
        assert_eq!(wakes.next().await, Some(ready("quiet")));
        assert_eq!(wakes.next().await, None);
    }

    #[tokio::test]
    async fn of_more_cancellations_than_it_keeps_a_listener_is_told_to_ask_about_all() {
        let (waker, mut wakes) = Wakes::channel();
        let job = |n: usize| JobId::from_parts(Timestamp::from_millis(1), n as u128);
        (0..CANCELS_MAX).for_each(|n| waker.wake(Wake::Cancel(tenant("a"), job(n))));
        assert_eq!(wakes.next().await, Some(Wake::Cancel(tenant("a"), job(0))));
        (0..2).for_each(|n| waker.wake(Wake::Cancel(tenant("a"), job(n))));
        drop(waker);
        assert_eq!(wakes.next().await, Some(Wake::All));
        assert_eq!(wakes.next().await, None);
    }

    #[tokio::test]
    async fn all_stands_for_every_single_one() {
        let (waker, mut wakes) = Wakes::channel();
        waker.wake(ready("a"));
        waker.wake(Wake::All);
        waker.wake(ready("b"));
        assert_eq!(wakes.next().await, Some(Wake::All));
        waker.wake(ready("c"));
        assert_eq!(wakes.next().await, Some(ready("c")));
    }

    #[tokio::test]
    async fn a_waiting_listener_hears_of_news_from_another_thread() {
        let (waker, mut wakes) = Wakes::channel();
        let listening = tokio::spawn(async move { wakes.next().await });
        std::thread::spawn(move || waker.wake(Wake::All)).join().expect("it only tells");
        assert_eq!(listening.await.expect("it only listens"), Some(Wake::All));
    }

    #[tokio::test]
    async fn the_end_that_feeds_learns_that_nobody_listens() {
        let (waker, wakes) = Wakes::channel();
        assert!(!waker.is_closed());
        let waker = Arc::new(waker);
        let feeders: Vec<_> = (0..3)
            .map(|_| {
                let waker = Arc::clone(&waker);
                tokio::spawn(async move { waker.closed().await })
            })
            .collect();
        drop(wakes);
        for feeder in feeders {
            feeder.await.expect("it only waits");
        }
    }

    #[tokio::test]
    async fn a_listener_hears_of_its_own_tenants_only_and_of_all_first() {
        let listeners = Listeners::default();
        let mut wakes = listeners.listen(vec![tenant("a")]);
        assert_eq!(wakes.next().await, Some(Wake::All));
        let job = JobId::from_parts(Timestamp::from_millis(1), 1);
        listeners.wake(&ready("b"));
        listeners.wake(&ready("a"));
        listeners.wake(&Wake::Cancel(tenant("b"), job));
        listeners.wake(&Wake::Cancel(tenant("a"), job));
        assert_eq!(wakes.next().await, Some(Wake::Cancel(tenant("a"), job)));
        assert_eq!(wakes.next().await, Some(ready("a")));
        listeners.wake(&Wake::All);
        assert_eq!(wakes.next().await, Some(Wake::All));
        drop(listeners);
        assert_eq!(wakes.next().await, None);
    }
}
