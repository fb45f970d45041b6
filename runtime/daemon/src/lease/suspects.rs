//! Suspects: jobs whose lease has run out before. One of them may be what ended its daemon, so a daemon has one of them at a
//! time, and the guilty one ends alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether the daemon has a suspect.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    taken: AtomicBool,
    freed: Notify,
}

/// Right to run a suspect. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Suspects>);

impl Suspects {
    /// Maximum number of suspects that may be asked for: 0 or 1.
    pub(crate) fn wanted(&self) -> u32 {
        u32::from(!self.taken.load(Ordering::Acquire))
    }

    /// Takes the right to run a suspect. `None` if it is taken.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Watch> {
        (!self.taken.swap(true, Ordering::AcqRel)).then(|| Watch(Arc::clone(self)))
    }

    /// Waits until a suspect may be asked for.
    pub(crate) async fn free(&self) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.wanted() > 0 {
                return;
            }
            freed.await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
        self.0.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn there_is_one_at_a_time_and_those_that_wait_hear_of_its_end() {
        let suspects = Arc::new(Suspects::default());
        assert_eq!(suspects.wanted(), 1);
        let watch = suspects.take().expect("there is none");
        assert_eq!(suspects.wanted(), 0);
        assert!(suspects.take().is_none());
        let mut free = Box::pin(suspects.free());
        assert!((&mut free).now_or_never().is_none());
        drop(watch);
        assert!(free.now_or_never().is_some());
        assert!(suspects.take().is_some());
    }
}
