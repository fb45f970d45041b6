//! The guest threads: each takes the run whose turn it is, polls it, and charges its tenant for the time.
//!
//! A run that waits for a host call holds no thread. A run that computes is made to give way by its epoch callback,
//! which asks [`Crowd`] whether anybody waits. The lock is held for the queue alone, never while a guest runs.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use futures::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};
use sandhog_core::id::TenantId;
use tokio::runtime::Handle;

use super::policy::Policy;
use super::task::{End, Task, Turn};
use super::ticker::Ticker;

/// How much guest threads are below the others in the eyes of the kernel. It lets threads that lease, renew and
/// settle preempt a guest as soon as they have something to do.
const NICE: i32 = 5;

/// The guest threads. Dropping it lets them go.
pub(crate) struct Executor<T> {
    shared: Arc<Shared<T>>,
}

pub(super) struct Shared<T> {
    queue: Mutex<Queue<T>>,
    /// Something was put into the queue, or it was closed.
    changed: Condvar,
    crowd: Crowd,
    ticker: Ticker,
}

struct Queue<T> {
    policy: Policy<TenantId, Arc<Task<T>>>,
    /// Guest threads that wait for something to run.
    idle: usize,
    closed: bool,
}

/// How many runs wait for a guest thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crowd(Arc<AtomicUsize>);

impl Crowd {
    /// Whether a run that gives way makes room for another one.
    pub(crate) fn is_waiting(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl<T: Send + 'static> Executor<T> {
    /// Starts `threads` guest threads, on which the timers and I/O of `tokio` work. `beat` is called every `tick`
    /// while one of them is awake.
    pub(crate) fn start(
        threads: NonZeroUsize,
        tick: Duration,
        tokio: &Handle,
        beat: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue { policy: Policy::new(), idle: 0, closed: false }),
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
                shared.work();
            })?;
        }
        Ok(executor)
    }

    /// Queues a run, at the expense of a tenant.
    pub(crate) fn spawn(&self, tenant: TenantId, weight: NonZeroU32, run: BoxFuture<'static, T>) -> End<T> {
        let task = Task::new(tenant, weight, run, Arc::downgrade(&self.shared));
        self.shared.enqueue(Arc::clone(&task));
        End(task)
    }

    /// Tells running guests whether anybody waits.
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
        // Nothing of ours panics while it holds the lock; if it ever did, stopping all tenants would be worse.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Puts a task into the queue.
    pub(super) fn enqueue(&self, task: Arc<Task<T>>) {
        let mut queue = self.lock();
        queue.push(task);
        self.crowd.0.store(queue.policy.waiting(), Ordering::Relaxed);
        let wake = queue.idle > 0;
        drop(queue);
        if wake {
            self.changed.notify_one();
        }
    }

    /// Moves a task that is in the queue before all others.
    pub(super) fn hurry(&self, task: &Arc<Task<T>>) {
        self.lock().policy.hurry(&task.tenant, |waiting| Arc::ptr_eq(waiting, task));
    }

    /// The life of a guest thread.
    fn work(&self) {
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::warn!(%error, "guest threads run at the priority of all others");
        }
        self.ticker.woke();
        let mut queue = self.lock();
        let mut clock = cpu_clock();
        loop {
            let Some(task) = queue.policy.next() else {
                if queue.closed {
                    break;
                }
                queue = self.idle(queue);
                clock = cpu_clock();
                continue;
            };
            self.crowd.0.store(queue.policy.waiting(), Ordering::Relaxed);
            drop(queue);

            let waker = Waker::from(Arc::clone(&task));
            let turn = task.turn(&mut Context::from_waker(&waker));
            let now = cpu_clock();
            let cpu = now.saturating_sub(clock);
            clock = now;
            task.spent(cpu);
            if turn == Turn::Ended {
                task.announce_end();
            }

            queue = self.lock();
            let tenant = task.tenant.clone();
            if turn == Turn::Again {
                queue.push(task);
            }
            queue.policy.charge(&tenant, cpu);
        }
        drop(queue);
        self.ticker.slept();
    }

    fn idle<'q>(&self, mut queue: MutexGuard<'q, Queue<T>>) -> MutexGuard<'q, Queue<T>> {
        queue.idle += 1;
        self.ticker.slept();
        queue = self
            .changed
            .wait_while(queue, |queue| queue.policy.waiting() == 0 && !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        self.ticker.woke();
        queue.idle -= 1;
        queue
    }
}

impl<T: Send + 'static> Queue<T> {
    fn push(&mut self, task: Arc<Task<T>>) {
        if task.is_urgent() {
            let (tenant, weight) = (task.tenant.clone(), task.weight);
            self.policy.arrive_urgently(&tenant, weight, task);
        } else {
            let (tenant, weight) = (task.tenant.clone(), task.weight);
            self.policy.arrive(&tenant, weight, task);
        }
    }
}

/// The CPU time that this thread has had.
fn cpu_clock() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
