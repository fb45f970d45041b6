//! Host work: what guests make the host do, such as timers, requests, files, names, reads of state. It runs apart from what
//! leases, renews and settles, within bounds by tenant, and at the expense of the tenant's share of the processors.
//!
//! | work | runs on | most of it at once for a tenant | charged to its share |
//! |---|---|---|---|
//! | file calls, name look-ups | the tenant's own threads, which may hang | [`BLOCKING_MAX`] | these threads' processor time |
//! | connecting, TLS, HTTP, timers | [`HostThreads`], never blocked | [`CONNECTING_MAX`], [`CONNECTIONS_MAX`] | time of polls |
//! | reads of state | the broker | as many as there are guest threads | [`STATE_READ_COST`] each |
//!
//! The charges of a run are added to the bill of its next turn on a guest thread: a guest waits for what it asks for, so the
//! charges are those between one call and the next. A run that keeps the host busy gets fewer turns, and so makes fewer calls.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use sandhog_core::id::TenantId;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::priority;
use crate::schedule::NICE;
use crate::thread_clock::ThreadClock;

/// Maximum number of threads of one tenant that may block. A file system or name server that hangs holds as many at most, and
/// no other tenant's.
pub(crate) const BLOCKING_MAX: usize = 8;

/// Nice value of these threads in the kernel's scheduler: below the threads that run guests.
const BLOCKING_NICE: i32 = 2 * NICE;

/// Time that one of them waits for more to do before it ends.
const BLOCKING_IDLE: Duration = Duration::from_secs(5);

/// Maximum number of connections that one tenant makes at once, look-up and TLS handshake included.
const CONNECTING_MAX: usize = 16;

/// Maximum number of connections that one tenant has open at once, over all of its runs.
const CONNECTIONS_MAX: usize = 256;

/// Processor time that a read of state is charged: about what it takes of the broker and of the threads in between.
const STATE_READ_COST: Duration = Duration::from_micros(30);

/// Threads on which guests' timers and requests work.
#[derive(Debug)]
pub(crate) struct HostThreads(Option<Runtime>);

impl HostThreads {
    /// Starts one thread for every two that run guests, and at least one.
    pub(crate) fn start(guest_threads: NonZeroUsize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads((guest_threads.get() / 2).max(1))
            .thread_name("sandhog-host")
            .on_thread_start(|| priority::lower(NICE))
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.0.as_ref().expect("it is taken by the drop alone").handle()
    }
}

impl Drop for HostThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // A call that hangs must not keep the caller that drops this.
            runtime.shutdown_background();
        }
    }
}

/// Host work of all tenants.
#[derive(Debug)]
pub(crate) struct HostWork {
    tenants: Mutex<HashMap<TenantId, Weak<TenantWork>>>,
    /// Maximum number of reads of state under way at once for one tenant: it has no more of the broker than it could have of
    /// the guest threads.
    state_reads: NonZeroUsize,
}

impl HostWork {
    /// Creates it with no tenant's work yet.
    pub(crate) fn new(guest_threads: NonZeroUsize) -> Self {
        Self { tenants: Mutex::default(), state_reads: guest_threads }
    }

    /// Returns the work of a tenant, the same for all of its plugins.
    pub(crate) fn of(&self, tenant: &TenantId) -> Arc<TenantWork> {
        let mut tenants = lock(&self.tenants);
        tenants.get(tenant).and_then(Weak::upgrade).unwrap_or_else(|| {
            tenants.retain(|_, work| work.strong_count() > 0);
            let work = Arc::new(TenantWork::new(self.state_reads));
            tenants.insert(tenant.clone(), Arc::downgrade(&work));
            work
        })
    }
}

/// Bounds of the host's work for one tenant.
#[derive(Debug)]
pub(crate) struct TenantWork {
    /// Threads that may block, made when they are first used: most tenants use none.
    blocking: OnceLock<BlockingThreads>,
    connecting: Semaphore,
    connections: Arc<Semaphore>,
    state_reads: Semaphore,
}

impl TenantWork {
    fn new(state_reads: NonZeroUsize) -> Self {
        Self {
            blocking: OnceLock::new(),
            connecting: Semaphore::new(CONNECTING_MAX),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            state_reads: Semaphore::new(state_reads.get()),
        }
    }

    fn blocking(&self) -> &BlockingThreads {
        self.blocking.get_or_init(BlockingThreads::new)
    }

    /// Runs a call on a thread that may block, whenever one is free. Nobody waits for it.
    pub(crate) fn later(&self, call: impl FnOnce() + Send + 'static) {
        drop(self.blocking().handle().spawn_blocking(call));
    }
}

/// Threads of one tenant that may block. They come and go, and are no more than [`BLOCKING_MAX`] even if they hang.
#[derive(Debug)]
struct BlockingThreads {
    runtime: Option<Runtime>,
    clocks: Arc<Mutex<Clocks>>,
}

/// Clocks of some threads' processor time.
#[derive(Debug, Default)]
struct Clocks {
    running: Vec<ThreadClock>,
    /// Processor time of threads that have ended.
    ended: Duration,
    charged: Duration,
}

impl BlockingThreads {
    fn new() -> Self {
        let clocks: Arc<Mutex<Clocks>> = Arc::default();
        let (starting, ending) = (Arc::clone(&clocks), Arc::clone(&clocks));
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(BLOCKING_MAX)
            .thread_keep_alive(BLOCKING_IDLE)
            .thread_name("sandhog-blocking")
            .on_thread_start(move || {
                priority::lower(BLOCKING_NICE);
                lock(&starting).running.push(ThreadClock::of_this());
            })
            .on_thread_stop(move || {
                let own = ThreadClock::of_this();
                let mut clocks = lock(&ending);
                clocks.running.retain(|clock| *clock != own);
                clocks.ended += own.read();
            })
            .build()
            .expect("a runtime that neither waits nor does I/O needs nothing of the system");
        Self { runtime: Some(runtime), clocks }
    }

    fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("it is taken by the drop alone").handle()
    }

    /// Returns the processor time that was used since this was asked last.
    fn take_spent(&self) -> Duration {
        let mut clocks = lock(&self.clocks);
        let all = clocks.ended + clocks.running.iter().map(ThreadClock::read).sum::<Duration>();
        let spent = all.saturating_sub(clocks.charged);
        clocks.charged += spent;
        spent
    }
}

impl Drop for BlockingThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Host time that a run was not charged yet. Its clones are one and the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostTime(Arc<AtomicU64>);

impl HostTime {
    /// Adds to the time that is to be charged.
    pub(crate) fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // Nothing else depends on the order in which the sum is seen.
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Takes the time that is to be charged now.
    pub(crate) fn take(&self) -> Duration {
        if self.0.load(Ordering::Relaxed) == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.0.swap(0, Ordering::Relaxed))
    }
}

/// Host work of one run. Its clones are one and the same.
#[derive(Debug, Clone)]
pub(crate) struct RunWork {
    tenant: Arc<TenantWork>,
    time: HostTime,
}

impl RunWork {
    /// Creates the work of a run, within the bounds of a tenant, charged to `time`.
    pub(crate) fn new(tenant: Arc<TenantWork>, time: HostTime) -> Self {
        Self { tenant, time }
    }

    /// The tenant's bounds.
    pub(crate) fn tenant(&self) -> &Arc<TenantWork> {
        &self.tenant
    }

    /// Enters the threads that may block: what is spawned to block while this is held is run by them.
    pub(crate) fn enter(&self) -> tokio::runtime::EnterGuard<'_> {
        self.tenant.blocking().handle().enter()
    }

    /// Polls a call whose blocking parts are to be done on the tenant's threads. It must not use timers or sockets.
    pub(crate) async fn on_blocking_threads<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        let ended = poll_fn(|cx| {
            let _entered = self.enter();
            call.as_mut().poll(cx)
        });
        let ended = ended.await;
        self.time.add(self.tenant.blocking().take_spent());
        ended
    }

    /// Runs a call on a thread of the tenant's that may block. `None` if there are no threads any more, or the call panicked.
    pub(crate) async fn block<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let called = self.tenant.blocking().handle().spawn_blocking(call).await;
        self.time.add(self.tenant.blocking().take_spent());
        called.ok()
    }

    /// Runs work, and charges the time of each poll.
    pub(crate) async fn metered<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let began = Instant::now();
            let polled = work.as_mut().poll(cx);
            self.time.add(began.elapsed());
            polled
        })
        .await
    }

    /// Waits for the run's turn to connect, which is over when the permit is dropped.
    pub(crate) async fn turn_to_connect(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.tenant.connecting.acquire().await.ok()
    }

    /// Takes one more connection. `None` if the tenant may not have one now. Dropping the permit gives it back.
    pub(crate) fn try_connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.tenant.connections).try_acquire_owned().ok()
    }

    /// Waits until the tenant may have one more connection. Dropping the permit gives it back.
    pub(crate) async fn connection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.tenant.connections).acquire_owned().await.ok()
    }

    /// Waits for the run's turn to read state, and reads.
    pub(crate) async fn state_read<T>(&self, read: impl Future<Output = T>) -> T {
        // The semaphore is never closed.
        let _turn = self.tenant.state_reads.acquire().await;
        self.time.add(STATE_READ_COST);
        read.await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No change that is made under these locks is left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt;

    use super::*;

    const THREADS: NonZeroUsize = NonZeroUsize::new(2).expect("two is not zero");

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).expect("a name")
    }

    fn run_of(work: &HostWork, name: &str) -> RunWork {
        RunWork::new(work.of(&tenant(name)), HostTime::default())
    }

    #[tokio::test]
    async fn a_tenant_whose_calls_hang_keeps_its_own_threads_and_no_others() {
        let work = HostWork::new(THREADS);
        let (began, begun) = mpsc::channel();
        let mut ends = Vec::new();
        let mut hanging = Vec::new();
        for _ in 0..4 * BLOCKING_MAX {
            let (end, ended) = mpsc::channel::<()>();
            ends.push(end);
            let (run, began) = (run_of(&work, "hangs"), began.clone());
            hanging.push(tokio::spawn(async move {
                run.block(move || {
                    began.send(()).expect("the test waits");
                    ended.recv().is_err()
                })
                .await
            }));
        }
        for _ in 0..BLOCKING_MAX {
            while begun.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        }
        // Whoever gives up leaves its thread where it is.
        for gives_up in &hanging {
            gives_up.abort();
        }
        assert_eq!(run_of(&work, "works").block(|| 1).await, Some(1));
        assert!(begun.try_recv().is_err(), "more than its threads have begun");
        assert!(run_of(&work, "hangs").block(|| ()).now_or_never().is_none());
        drop(ends);
        assert_eq!(run_of(&work, "hangs").block(|| 1).await, Some(1));
    }

    #[tokio::test]
    async fn what_threads_of_the_tenant_compute_is_charged_once() {
        let work = HostWork::new(THREADS);
        let run = run_of(&work, "acme");
        let spin = || {
            let clock = ThreadClock::of_this();
            let until = clock.read() + Duration::from_millis(20);
            while clock.read() < until {}
        };
        run.block(spin).await;
        let charged = run.time.take();
        assert!(charged >= Duration::from_millis(20), "{charged:?}");
        assert_eq!(run.time.take(), Duration::ZERO);
        let through = run.on_blocking_threads(async { tokio::task::spawn_blocking(spin).await.is_ok() });
        assert!(through.await);
        let charged = run.time.take();
        assert!(charged >= Duration::from_millis(20), "{charged:?}");
    }

    #[tokio::test]
    async fn only_so_many_of_a_tenant_connect_or_read_state_at_once() {
        let work = HostWork::new(THREADS);
        let (run, other) = (run_of(&work, "acme"), run_of(&work, "globex"));
        let mut connections: Vec<_> = (0..CONNECTIONS_MAX).map(|_| run.try_connection()).collect();
        assert!(connections.iter().all(Option::is_some) && run.try_connection().is_none());
        assert!(run_of(&work, "acme").try_connection().is_none(), "over all of its runs");
        assert!(run.connection().now_or_never().is_none() && other.try_connection().is_some());
        connections.pop();
        assert!(run.try_connection().is_some(), "the one that was given back");
        let turns: Vec<_> = (0..CONNECTING_MAX).map(|_| run.turn_to_connect().now_or_never()).collect();
        assert!(turns.iter().all(Option::is_some) && run.turn_to_connect().now_or_never().is_none());
        assert!(other.turn_to_connect().now_or_never().is_some());
        drop(turns);
        assert!(run.turn_to_connect().now_or_never().is_some());
        let mut reading: Vec<_> = (0..THREADS.get())
            .map(|_| {
                let run = run.clone();
                Box::pin(async move { run.state_read(std::future::pending::<()>()).await })
            })
            .collect();
        assert!(reading.iter_mut().all(|reading| reading.now_or_never().is_none()));
        assert!(run.state_read(async {}).now_or_never().is_none());
        assert!(other.state_read(async {}).now_or_never().is_some());
    }

    #[test]
    fn tenants_that_are_gone_are_forgotten() {
        let work = HostWork::new(THREADS);
        let stays = work.of(&tenant("stays"));
        for n in 0..1000 {
            work.of(&tenant(&format!("t{n}")));
        }
        assert!(lock(&work.tenants).len() <= 2);
        assert!(Arc::ptr_eq(&stays, &work.of(&tenant("stays"))));
    }
}
