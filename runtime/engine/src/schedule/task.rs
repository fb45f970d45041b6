//! Task: a run as the guest threads see it, a future that is polled when it is its turn.
//!
//! ```text
//!            wake                 turn                Ready
//!   Asleep ───────> Queued ───────────────> Running ─────────> Done
//!     ^                ^                     │   │
//!     │     Pending    └─ Pending, woken ────┘   │
//!     └──────────────────────────────────────────┘
//! ```

use std::any::Any;
use std::future::Future;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use sandhog_core::id::TenantId;

use super::executor::Shared;
use crate::host_work::HostTime;
use crate::run::Class;

const ASLEEP: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const WOKEN: u8 = 3;
const DONE: u8 = 4;

/// Error of a run whose future panicked: the panic's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Panicked(pub(crate) String);

enum Stage<T> {
    Going(BoxFuture<'static, T>),
    Ended(Result<T, Panicked>),
    Taken,
}

/// Claim of a run to the processors.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    /// Tenant that is charged for the run.
    pub(crate) tenant: TenantId,
    /// Weight of the tenant: the size of its share.
    pub(crate) weight: NonZeroU32,
    /// Class of the run: whether it has a share at all.
    pub(crate) class: Class,
}

/// Task of one run, shared by the guest threads, its wakers, and whoever awaits its end.
pub(crate) struct Task<T> {
    pub(super) claim: Claim,
    state: AtomicU8,
    urgent: AtomicBool,
    slept: AtomicBool,
    cpu: AtomicU64,
    /// Time of the host's work for it that is still to be charged.
    host: HostTime,
    slot: Mutex<Stage<T>>,
    /// Waker of whoever awaits the end.
    end: AtomicWaker,
    /// The queue. Weak, for the queue holds tasks.
    shared: Weak<Shared<T>>,
}

/// State of a task after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The task wants another turn at once.
    Again,
    /// The task sleeps until it is woken.
    Asleep,
    /// The task has ended.
    Ended,
}

impl<T: Send + 'static> Task<T> {
    /// Creates a task that is in the queue, or about to be put there.
    pub(super) fn new(
        claim: Claim,
        host: HostTime,
        future: BoxFuture<'static, T>,
        shared: Weak<Shared<T>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            claim,
            state: AtomicU8::new(QUEUED),
            urgent: AtomicBool::new(false),
            slept: AtomicBool::new(false),
            cpu: AtomicU64::new(0),
            host,
            slot: Mutex::new(Stage::Going(future)),
            end: AtomicWaker::new(),
            shared,
        })
    }

    /// Whether it is to end, and so goes before others.
    pub(super) fn is_urgent(&self) -> bool {
        self.urgent.load(Ordering::Acquire)
    }

    /// CPU time of all its turns, and of what the host did for it meanwhile.
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu.load(Ordering::Acquire))
    }

    /// Whether it has slept so far, until it was woken. Giving way to others is no sleep.
    pub(crate) fn has_slept(&self) -> bool {
        self.slept.load(Ordering::Acquire)
    }

    /// Whether it has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) == DONE
    }

    /// Moves its next turn before all others, because it is to end.
    pub(crate) fn hurry(self: &Arc<Self>) {
        self.urgent.store(true, Ordering::Release);
        if !self.wake_if_asleep()
            && let Some(shared) = self.shared.upgrade()
        {
            shared.hurry(self);
        }
    }

    /// Polls the future once. A panic ends the task, not the thread.
    pub(super) fn turn(self: &Arc<Self>, cx: &mut Context<'_>) -> Turn {
        self.state.store(RUNNING, Ordering::Release);
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let Stage::Going(future) = &mut *slot else { return Turn::Ended };
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        let ended = match polled {
            Ok(Poll::Pending) => {
                drop(slot);
                return self.after_pending();
            }
            Ok(Poll::Ready(value)) => Ok(value),
            Err(panic) => Err(Panicked(panic_message(&*panic))),
        };
        let future = std::mem::replace(&mut *slot, Stage::Ended(ended));
        drop(slot);
        // Dropping what the future holds may panic as well.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            let message = panic_message(&*panic);
            *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Stage::Ended(Err(Panicked(message)));
        }
        Turn::Ended
    }

    fn after_pending(&self) -> Turn {
        match self.state.compare_exchange(RUNNING, ASLEEP, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                self.slept.store(true, Ordering::Release);
                Turn::Asleep
            }
            Err(_) => {
                self.state.store(QUEUED, Ordering::Release);
                Turn::Again
            }
        }
    }

    /// Takes the time of the host's work for it that it was not charged yet.
    pub(super) fn take_host_time(&self) -> Duration {
        self.host.take()
    }

    /// Adds to the CPU time of its turns.
    pub(super) fn spent(&self, cpu: Duration) {
        let nanos = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        self.cpu.fetch_add(nanos, Ordering::AcqRel);
    }

    /// Marks it as ended, and wakes whoever awaits the end. Its CPU time is complete by then.
    pub(super) fn announce_end(&self) {
        self.state.store(DONE, Ordering::Release);
        self.end.wake();
    }

    /// Wakes it if it sleeps, or has it queued again after its turn. Returns whether nothing is left to do: false only if it is
    /// in the queue already.
    fn wake_if_asleep(self: &Arc<Self>) -> bool {
        let woken = |state| match state {
            ASLEEP => Some(QUEUED),
            RUNNING => Some(WOKEN),
            _ => None,
        };
        match self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, woken) {
            Ok(ASLEEP) => {
                if let Some(shared) = self.shared.upgrade() {
                    shared.enqueue(Arc::clone(self));
                }
                true
            }
            Ok(_) => true,
            Err(state) => state != QUEUED,
        }
    }

    /// Polls for the end of the run, which is returned once.
    fn poll_end(&self, cx: &Context<'_>) -> Poll<Result<T, Panicked>> {
        self.end.register(cx.waker());
        if self.state.load(Ordering::Acquire) != DONE {
            return Poll::Pending;
        }
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *slot, Stage::Taken) {
            Stage::Ended(ended) => Poll::Ready(ended),
            going => {
                *slot = going;
                Poll::Pending
            }
        }
    }
}

impl<T: Send + 'static> Wake for Task<T> {
    fn wake(self: Arc<Self>) {
        self.wake_if_asleep();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_if_asleep();
    }
}

/// Returns the message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Future of the end of a task. Its CPU time is that of all its turns.
pub(crate) struct End<T>(pub(super) Arc<Task<T>>);

impl<T> End<T> {
    /// The task itself.
    pub(crate) fn task(&self) -> &Arc<Task<T>> {
        &self.0
    }
}

impl<T: Send + 'static> Future for End<T> {
    type Output = Result<T, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_end(cx)
    }
}

/// Future that gives up the rest of a turn, once.
#[derive(Debug, Default)]
pub(crate) struct GiveWay {
    given: bool,
}

impl Future for GiveWay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.given {
            return Poll::Ready(());
        }
        self.given = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
