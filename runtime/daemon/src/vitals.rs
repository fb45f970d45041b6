//! Signs of life of a process: what it tells the fleet of itself, and whether its jobs are fetched as they should be.
//!
//! A daemon that answers requests may still have stopped to lease jobs. So the loops that do note here whenever they have leased
//! some or seen that there are none for them, and those who ask about the daemon's health go by that.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use sandhog_broker::{Broker, DAEMON_REPORT_EVERY, DaemonReport, Served};
use sandhog_core::id::DaemonId;
use sandhog_core::text;
use sandhog_core::time::Mono;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::capacity::fair_slots::FairSlots;
use crate::clock::Clock;
use crate::shutdown::{Follow, Phase};

/// Maximum time for which a daemon that has room neither leases jobs nor sees that there are none. Some of its calls may fail
/// meanwhile: they are repeated within half of it.
pub const FETCH_MAX: Duration = Duration::from_secs(60);

/// File in which Linux tells the name of the machine, or of the container around the process.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Maximum time that a process that ends waits for the broker to take that in.
const GOODBYE_MAX: Duration = Duration::from_millis(500);

/// Signs of life of a process. Shared by the loops that give them and those who go by them.
pub struct Vitals {
    id: DaemonId,
    name: String,
    clock: Clock,
    started: Mono,
    slots: OnceLock<(u32, Arc<FairSlots>)>,
    signs: Mutex<Signs>,
}

/// Times of the latest signs.
#[derive(Debug, Clone, Copy, Default)]
struct Signs {
    /// Time of the last fetch: jobs were leased, or there were none.
    fetched: Option<Mono>,
    /// Time at which a call for jobs last ended, whether or not it succeeded.
    answered: Option<Mono>,
    /// Time at which all slots were last seen to be taken, so that none can be fetched, or there was nobody to fetch for.
    excused: Option<Mono>,
}

impl Signs {
    /// Returns how long nothing was fetched that could have been; `None` if that is within [`FETCH_MAX`].
    fn overdue(self, started: Mono, now: Mono) -> Option<Duration> {
        late(self.fetched.max(self.excused).unwrap_or(started).max(started), now)
    }

    /// Whether the loops that fetch jobs still come round, even if the broker doesn't answer them.
    fn is_alive(self, started: Mono, now: Mono) -> bool {
        let latest = self.fetched.max(self.answered).max(self.excused);
        late(latest.unwrap_or(started).max(started), now).is_none()
    }
}

/// Returns the time since a sign if that is too long ago.
fn late(sign: Mono, now: Mono) -> Option<Duration> {
    Some(since(sign, now)).filter(|silent| *silent > FETCH_MAX)
}

fn since(earlier: Mono, now: Mono) -> Duration {
    now.since_origin().saturating_sub(earlier.since_origin())
}

/// Says whose it is.
impl std::fmt::Debug for Vitals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vitals").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

impl Vitals {
    /// Creates the signs of a process that starts now, under the name of its machine.
    #[must_use]
    pub fn of_this_machine(clock: Clock) -> Arc<Self> {
        let name = std::fs::read_to_string(HOST_NAME).unwrap_or_else(|_| "unknown".to_owned());
        Self::new(text::line(name.trim()).into_owned(), clock)
    }

    /// Creates the signs of a process that starts now, under this name.
    #[must_use]
    pub fn new(name: String, clock: Clock) -> Arc<Self> {
        let (id, started) = (clock.daemon_id(), clock.mono());
        Arc::new(Self { id, name, started, clock, slots: OnceLock::new(), signs: Mutex::default() })
    }

    /// Id of the process, for as long as it runs.
    #[must_use]
    pub fn id(&self) -> DaemonId {
        self.id
    }

    /// Name of the process, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns for how long the daemon has fetched no jobs though it could have; `None` if that is no longer than
    /// [`FETCH_MAX`], or it runs none.
    #[must_use]
    pub fn overdue(&self) -> Option<Duration> {
        self.slots.get()?;
        self.look().overdue(self.started, self.clock.mono())
    }

    /// Whether the loops that fetch jobs still come round. An outage of the broker doesn't keep them from that.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.slots.get().is_none() || self.look().is_alive(self.started, self.clock.mono())
    }

    /// Takes over the slots for runs that the daemon has.
    pub(crate) fn serve(&self, total: u32, slots: Arc<FairSlots>) {
        // There is one daemon in a process; a second one is a test's, and has signs of its own.
        let _first = self.slots.set((total, slots));
    }

    /// Records that jobs were leased, or that there were none.
    pub(crate) fn fetched(&self) {
        let now = self.clock.mono();
        let mut signs = self.signs();
        (signs.fetched, signs.answered) = (Some(now), Some(now));
    }

    /// Records that a call for jobs has ended, whatever it brought.
    pub(crate) fn answered(&self) {
        self.signs().answered = Some(self.clock.mono());
    }

    /// Records that nothing has to be fetched now.
    fn excuse(&self) {
        self.signs().excused = Some(self.clock.mono());
    }

    /// Returns the signs as they are; if all slots are taken, that is one of them.
    fn look(&self) -> Signs {
        if self.slots.get().is_some_and(|(total, slots)| slots.used() >= *total) {
            self.excuse();
        }
        *self.signs()
    }

    /// Describes the process as it is now.
    fn report(&self, about: About) -> DaemonReport {
        let now = self.clock.mono();
        if about.served.queues().is_empty() {
            self.excuse();
        }
        let signs = self.look();
        let (slots, slots_used) = self.slots.get().map_or((0, 0), |(total, slots)| (*total, slots.used()));
        DaemonReport {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            age: since(self.started, now),
            fetched: signs.fetched.map(|at| since(at, now)),
            slots,
            slots_used,
            is_draining: about.is_draining,
            plugins: about.plugins,
            served: about.served,
        }
    }

    fn signs(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Part of a report that others than the [`Vitals`] know.
#[derive(Debug, Default)]
struct About {
    plugins: u32,
    served: Served,
    is_draining: bool,
}

/// Tells the fleet of a process every few seconds, and at once when it drains, for as long as it is polled. `about` says how many
/// plugins are in force, and which queues are served.
pub async fn roll_call(
    broker: &dyn Broker,
    vitals: &Vitals,
    phase: &Follow,
    about: impl Fn() -> (u32, Served) + Send,
) {
    let mut every = interval(DAEMON_REPORT_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut is_draining, mut has_failed) = (false, false);
    loop {
        tokio::select! {
            biased;
            () = phase.reached(Phase::Draining), if !is_draining => is_draining = true,
            _ = every.tick() => {}
        }
        let (plugins, served) = about();
        let report = vitals.report(About { plugins, served, is_draining });
        match broker.report_daemon(vitals.id, Some(&report)).await {
            Ok(()) => has_failed = false,
            // Other calls say that the broker is gone; what else there may be is said once.
            Err(error @ sandhog_broker::Error::Unavailable { .. }) => {
                tracing::debug!(%error, "the fleet can't be told of this process yet");
            }
            Err(error) => {
                if !has_failed {
                    tracing::warn!(%error, "the fleet can't be told of this process; `sandhog status` doesn't show it");
                }
                has_failed = true;
            }
        }
    }
}

/// Tells the fleet that a process is gone. If the broker doesn't take that in at once, the entry lapses by itself.
pub async fn leave(broker: &dyn Broker, vitals: &Vitals) {
    match timeout(GOODBYE_MAX, broker.report_daemon(vitals.id, None)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the fleet can't be told that this process is gone"),
        Err(_) => tracing::debug!("the fleet wasn't told in time that this process is gone"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> Mono {
        Mono::from_origin(Duration::from_secs(secs))
    }

    proptest! {
        #[test]
        fn a_daemon_is_overdue_only_if_nothing_excuses_it_and_alive_whenever_it_is_not(
            fetched in proptest::option::of(0..200u64), answered in proptest::option::of(0..200u64),
            excused in proptest::option::of(0..200u64), started in 0..200u64, more in 0..200u64,
        ) {
            let now = at(200 + more);
            let signs = Signs { fetched: fetched.map(at), answered: answered.map(at), excused: excused.map(at) };
            let latest = fetched.max(excused).unwrap_or(0).max(started);
            let silent = 200 + more - latest;
            prop_assert_eq!(signs.overdue(at(started), now).is_some(), silent > FETCH_MAX.as_secs());
            prop_assert!(signs.overdue(at(started), now).is_some() || signs.is_alive(at(started), now));
            let spoke = answered.unwrap_or(0).max(latest);
            prop_assert_eq!(signs.is_alive(at(started), now), 200 + more - spoke <= FETCH_MAX.as_secs());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_with_all_slots_taken_is_not_overdue_and_one_with_room_is() {
        let vitals = Vitals::new("one".to_owned(), Clock::system());
        tokio::time::advance(2 * FETCH_MAX).await;
        assert_eq!((vitals.overdue(), vitals.is_alive()), (None, true), "it runs no jobs");
        let total = std::num::NonZeroU32::new(1).expect("at least one");
        let slots = FairSlots::new(total);
        let tenant = sandhog_core::id::TenantId::parse("acme").expect("valid");
        slots.set_aside([(tenant.clone(), total)]);
        vitals.serve(1, Arc::clone(&slots));
        assert_eq!((vitals.overdue(), vitals.is_alive()), (Some(2 * FETCH_MAX), false));
        vitals.answered();
        assert_eq!((vitals.overdue(), vitals.is_alive()), (Some(2 * FETCH_MAX), true), "its calls fail");
        let of_tenant = slots.join(&tenant);
        let taken = of_tenant.try_acquire().expect("it is free");
        assert_eq!(vitals.overdue(), None);
        tokio::time::advance(2 * FETCH_MAX).await;
        assert_eq!((vitals.overdue(), vitals.is_alive()), (None, true));
        drop(taken);
        assert_eq!(vitals.overdue(), None, "it has had no time yet");
        tokio::time::advance(2 * FETCH_MAX).await;
        assert!(vitals.overdue().is_some());
        vitals.fetched();
        assert_eq!((vitals.overdue(), vitals.is_alive()), (None, true));
    }
}
