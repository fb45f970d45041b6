//! Guest threads: each takes the run whose turn it is, polls it, and charges its tenant for the time.
//!
//! A run that waits for a host call holds no thread. A run that computes is made to give way by its epoch callback, which asks
//! [`Crowd`] whether another run waits. The lock is held for the queue alone, never while a guest runs.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};
use sandhog_core::id::TenantId;
use tokio::runtime::Handle;

use super::lap::Laps;
use super::policy::Policy;
use super::task::{Claim, End, Task, Turn, panic_message};
use super::ticker::Ticker;
use crate::host_work::HostTime;
use crate::priority;
use crate::run::Class;

/// Nice value of guest threads in the kernel's scheduler: below the other threads. It lets threads that lease, renew and settle
/// preempt a guest as soon as they have something to do.
pub(crate) const NICE: i32 = 5;

/// Pool of guest threads. Dropping it ends them, once the queue is empty.
pub(crate) struct Executor<T> {
    shared: Arc<Shared<T>>,
}

pub(super) struct Shared<T> {
    queue: Mutex<Queue<T>>,
    /// Notified when a run was put into the queue, or the queue was closed.
    changed: Condvar,
    crowd: Crowd,
    ticker: Ticker,
}

struct Queue<T> {
    /// Runs that have a share.
    normal: Policy<TenantId, Arc<Task<T>>>,
    /// Runs that go when no run that has a share wants to.
    idle_class: Policy<TenantId, Arc<Task<T>>>,
    /// Number of guest threads that wait for something to run.
    idle: usize,
    closed: bool,
}

/// Number of runs that wait for a guest thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crowd(Arc<AtomicUsize>);

impl Crowd {
    /// Whether another run waits, for which a run can give way.
    pub(crate) fn is_waiting(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl<T: Send + 'static> Executor<T> {
    /// Starts `threads` guest threads, in which the runtime `tokio` is entered, so that timers and I/O work. `beat` is called
    /// every `tick` while one of them is awake.
    pub(crate) fn start(
        threads: NonZeroUsize,
        tick: Duration,
        tokio: &Handle,
        beat: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new()),
            changed: Condvar::new(),
            crowd: Crowd::default(),
            ticker: Ticker::start(tick, beat)?,
        });
        let executor = Self { shared };
        for n in 0..threads.get() {
            let shared = Arc::clone(&executor.shared);
            let tokio = tokio.clone();
            thread::Builder::new().name(format!("sandhog-guest-{n}")).spawn(move || {
                let _entered = tokio.enter();
                // Runs that panic are caught one by one. A panic beside them costs a turn, and no thread.
                while let Err(panic) = catch_unwind(AssertUnwindSafe(|| shared.work())) {
                    let message = panic_message(&*panic);
                    tracing::error!(message, "a guest thread panicked between two turns and goes on");
                }
            })?;
        }
        Ok(executor)
    }

    /// Queues a run, at the expense of a tenant, which also bears the time that the host works for it.
    pub(crate) fn spawn(&self, claim: Claim, host: HostTime, run: BoxFuture<'static, T>) -> End<T> {
        let task = Task::new(claim, host, run, Arc::downgrade(&self.shared));
        self.shared.enqueue(Arc::clone(&task));
        End(task)
    }

    /// Count of waiting runs, by which running guests know whether to give way.
    pub(crate) fn crowd(&self) -> &Crowd {
        &self.shared.crowd
    }
}

impl<T> Drop for Executor<T> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        // No code of ours panics while it holds the lock; if it ever did, stopping all tenants would be worse.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Puts a task into the queue.
    pub(super) fn enqueue(&self, task: Arc<Task<T>>) {
        let mut queue = self.lock();
        queue.push(task);
        self.crowd.0.store(queue.waiting(), Ordering::Relaxed);
        let wake = queue.idle > 0;
        drop(queue);
        if wake {
            self.changed.notify_one();
        }
    }

    /// Moves a task that is in the queue before all others.
    pub(super) fn hurry(&self, task: &Arc<Task<T>>) {
        self.lock().hurry(task);
    }

    /// Runs the loop of a guest thread.
    fn work(&self) {
        priority::lower(NICE);
        let _awake = self.ticker.awake();
        let mut queue = self.lock();
        let mut laps = Laps::new(Instant::now(), cpu_clock());
        loop {
            let Some((class, task)) = queue.next() else {
                if queue.closed {
                    break;
                }
                queue = self.idle(queue);
                laps.skip(Instant::now());
                continue;
            };
            self.crowd.0.store(queue.waiting(), Ordering::Relaxed);
            drop(queue);

            let waker = Waker::from(Arc::clone(&task));
            let turn = task.turn(&mut Context::from_waker(&waker));
            // The run also bears the time that it took to get here.
            let cpu = laps.lap(Instant::now(), cpu_clock) + task.take_host_time();
            task.spent(cpu);
            if turn == Turn::Ended {
                task.announce_end();
            }

            queue = self.lock();
            let tenant = task.claim.tenant.clone();
            if turn == Turn::Again {
                queue.push(task);
            }
            queue.of(class).charge(&tenant, cpu);
        }
    }

    fn idle<'q>(&self, mut queue: MutexGuard<'q, Queue<T>>) -> MutexGuard<'q, Queue<T>> {
        queue.idle += 1;
        self.ticker.slept();
        queue = self
            .changed
            .wait_while(queue, |queue| queue.waiting() == 0 && !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        self.ticker.woke();
        queue.idle -= 1;
        queue
    }
}

impl<T> Queue<T> {
    fn new() -> Self {
        Self { normal: Policy::new(), idle_class: Policy::new(), idle: 0, closed: false }
    }

    fn of(&mut self, class: Class) -> &mut Policy<TenantId, Arc<Task<T>>> {
        match class {
            Class::Normal => &mut self.normal,
            Class::Idle => &mut self.idle_class,
        }
    }

    /// Number of runs that wait for a turn.
    fn waiting(&self) -> usize {
        self.normal.waiting() + self.idle_class.waiting()
    }

    /// Takes the run whose turn it is. Returns it with its class, whose policy has to be charged.
    fn next(&mut self) -> Option<(Class, Arc<Task<T>>)> {
        let normal = self.normal.next().map(|task| (Class::Normal, task));
        normal.or_else(|| self.idle_class.next().map(|task| (Class::Idle, task)))
    }

    /// Moves a task that waits before all others. A run that is to end doesn't wait for any other, whatever its class.
    fn hurry(&mut self, task: &Arc<Task<T>>) {
        let is_it = |waiting: &Arc<Task<T>>| Arc::ptr_eq(waiting, task);
        let Claim { tenant, class, .. } = &task.claim;
        if let Some((weight, task)) = self.of(*class).withdraw(tenant, is_it) {
            self.normal.arrive_urgently(tenant, weight, task);
        }
    }
}

impl<T: Send + 'static> Queue<T> {
    fn push(&mut self, task: Arc<Task<T>>) {
        let Claim { tenant, weight, class } = task.claim.clone();
        if task.is_urgent() {
            self.normal.arrive_urgently(&tenant, weight, task);
        } else {
            self.of(class).arrive(&tenant, weight, task);
        }
    }
}

/// CPU time that this thread has had.
fn cpu_clock() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;
    use std::sync::atomic::AtomicBool;

    fn executor<T: Send + 'static>() -> Executor<T> {
        let one = NonZeroUsize::MIN;
        Executor::start(one, Duration::from_millis(1), &Handle::current(), || {})
            .expect("threads can be started")
    }

    fn spawn<T: Send + 'static>(
        executor: &Executor<T>,
        run: impl Future<Output = T> + Send + 'static,
    ) -> End<T> {
        let tenant = TenantId::parse("acme").expect("valid");
        let claim = Claim { tenant, weight: NonZeroU32::MIN, class: Class::Normal };
        executor.spawn(claim, HostTime::default(), Box::pin(run))
    }

    #[tokio::test]
    async fn timers_of_tokio_work_on_guest_threads() {
        let executor = executor();
        let end = spawn(&executor, async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            std::thread::current().name().map(str::to_owned)
        });
        assert_eq!(end.await, Ok(Some("sandhog-guest-0".to_owned())));
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_alone() {
        let executor = executor();
        let end = spawn(&executor, async { panic!("the {}", "end") });
        assert_eq!(end.await, Err(super::super::Panicked("the end".to_owned())));
        assert_eq!(spawn(&executor, async { 1 }).await, Ok(1));
    }

    #[tokio::test]
    async fn a_panic_while_being_dropped_ends_its_task_alone() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("on its way out");
            }
        }
        let executor = executor();
        let bomb = Bomb;
        // Ready at once, and still holding the bomb.
        let run = std::future::poll_fn(move |_| {
            let _held = &bomb;
            std::task::Poll::Ready(true)
        });
        let end = spawn(&executor, run);
        assert_eq!(end.await, Err(super::super::Panicked("on its way out".to_owned())));
        assert_eq!(spawn(&executor, async { true }).await, Ok(true));
    }

    #[tokio::test]
    async fn a_task_that_is_to_end_goes_before_those_that_give_way_for_ever() {
        let executor = executor();
        let stop = Arc::new(AtomicBool::new(false));
        let gives_way = |stop: Arc<AtomicBool>| async move {
            while !stop.load(Ordering::Relaxed) {
                super::super::GiveWay::default().await;
            }
        };
        let others: Vec<_> = (0..10).map(|_| spawn(&executor, gives_way(Arc::clone(&stop)))).collect();
        let own = Arc::new(AtomicBool::new(false));
        let hurried = spawn(&executor, gives_way(Arc::clone(&own)));
        own.store(true, Ordering::Relaxed);
        hurried.task().hurry();
        assert_eq!(hurried.await, Ok(()));
        stop.store(true, Ordering::Relaxed);
        for other in others {
            assert_eq!(other.await, Ok(()));
        }
    }

    #[tokio::test]
    async fn what_the_host_did_for_a_run_is_on_its_bill() {
        let (executor, host) = (executor(), HostTime::default());
        let tenant = TenantId::parse("acme").expect("valid");
        let claim = Claim { tenant, weight: NonZeroU32::MIN, class: Class::Normal };
        let worked = host.clone();
        let run = async move {
            for _ in 0..3 {
                worked.add(Duration::from_millis(10));
                super::super::GiveWay::default().await;
            }
        };
        let end = executor.spawn(claim, host, Box::pin(run));
        let task = Arc::clone(end.task());
        assert_eq!(end.await, Ok(()));
        assert!(task.cpu() >= Duration::from_millis(30), "{:?}", task.cpu());
    }

    #[tokio::test]
    async fn the_time_of_all_turns_is_known_at_the_end() {
        let executor = executor();
        let end = spawn(&executor, async {
            for _ in 0..3 {
                std::hint::black_box((0..100_000).fold(0_u64, |sum, n| std::hint::black_box(sum ^ n)));
                super::super::GiveWay::default().await;
            }
        });
        let task = Arc::clone(end.task());
        assert_eq!(end.await, Ok(()));
        assert!(task.cpu() > Duration::ZERO);
    }
}
