//! Account of the memory that several runs take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sandhog_core::budget::Bytes;

/// Account on which runs draw memory while they last: all those of a tenant, say. Its clones are one and the same.
#[derive(Debug, Clone, Default)]
pub struct MemoryAccount(Arc<AtomicU64>);

impl MemoryAccount {
    /// Memory that the runs under way hold together.
    #[must_use]
    pub fn in_use(&self) -> Bytes {
        Bytes(self.0.load(Ordering::Relaxed))
    }
}

/// Memory that one run has drawn. It is given back when the run is dropped, however it ended.
#[derive(Debug)]
pub(crate) struct Drawn {
    account: MemoryAccount,
    /// Maximum memory that all runs may have drawn together.
    max: Bytes,
    own: u64,
}

impl Drawn {
    /// Creates a draw of nothing yet.
    pub(crate) fn new(account: MemoryAccount, max: Bytes) -> Self {
        Self { account, max, own: 0 }
    }

    /// Draws more, unless all runs together would have more than `max` then. Returns whether it did.
    pub(crate) fn draw(&mut self, more: u64) -> bool {
        let fits = |sum: u64| sum.checked_add(more).filter(|sum| *sum <= self.max.0);
        // Nothing else hangs on the order in which runs see each other's draws.
        let drawn = self.account.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if drawn {
            self.own += more;
        }
        drawn
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        self.account.0.fetch_sub(self.own, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::thread;

    proptest! {
        /// Runs on several threads draw and end as they like: together they never hold more than the most that any of
        /// them may see, and nothing is left in the end.
        #[test]
        fn what_was_drawn_never_exceeds_the_limit_and_goes_back_to_zero(
            max in 1..1000u64,
            threads in prop::collection::vec(prop::collection::vec((0..400u64, any::<bool>()), 0..50), 1..4),
        ) {
            let account = MemoryAccount::default();
            thread::scope(|scope| {
                for draws in threads {
                    let account = account.clone();
                    scope.spawn(move || {
                        let mut run = Drawn::new(account.clone(), Bytes(max));
                        for (more, ends) in draws {
                            let before = run.own;
                            let drawn = run.draw(more);
                            assert_eq!(run.own, before + if drawn { more } else { 0 });
                            assert!(run.own <= max && account.in_use().0 <= max);
                            if ends {
                                run = Drawn::new(account.clone(), Bytes(max));
                            }
                        }
                    });
                }
            });
            prop_assert_eq!(account.in_use(), Bytes(0));
        }
    }

    #[test]
    fn what_one_run_gives_back_another_can_draw() {
        let account = MemoryAccount::default();
        let (mut one, mut two) =
            (Drawn::new(account.clone(), Bytes(100)), Drawn::new(account.clone(), Bytes(100)));
        assert!(one.draw(60) && !two.draw(60) && two.draw(40));
        drop(one);
        assert!(two.draw(60));
        assert_eq!(account.in_use(), Bytes(100));
    }

    #[test]
    fn a_limit_that_was_lowered_meanwhile_refuses_and_takes_nothing_away() {
        let account = MemoryAccount::default();
        let mut before = Drawn::new(account.clone(), Bytes(100));
        assert!(before.draw(80));
        assert!(!Drawn::new(account.clone(), Bytes(50)).draw(1));
        assert_eq!(account.in_use(), Bytes(80));
    }
}
