//! CPU time of one turn after the other, without asking the kernel after each.
//!
//! The clock of a thread's CPU time is a system call, dearer than a short turn's bookkeeping; that of the day is not. So a
//! short turn is billed by the time that went by, times the share of such time that was CPU time lately (the rest is that the
//! kernel let others run). A long turn, and the last one before [`UNREAD_MAX`] is over, is billed by the thread's own clock,
//! which also sets the share. An amount that was billed too much or too little by then goes into the next bills, so all turns
//! together are billed what the thread has spent.

use std::time::{Duration, Instant};

/// Minimum length of a turn that is billed by the thread's clock.
const LONG: Duration = Duration::from_micros(200);

/// Maximum time for which the thread's clock isn't read, while turns are short.
const UNREAD_MAX: Duration = Duration::from_millis(1);

/// Clock of a guest thread, which bills its turns.
#[derive(Debug)]
pub(super) struct Laps {
    /// Time at which the last turn ended.
    at: Instant,
    /// The thread's clock when it was last read.
    cpu: Duration,
    /// Time that went by in turns since then.
    unread: Duration,
    /// Seconds that were spent and not billed; negative if more was billed.
    debt: f64,
    /// Share of the time of turns that is CPU time.
    share: f64,
}

impl Laps {
    /// Creates the clock, with the thread's clock at `cpu`.
    pub(super) fn new(now: Instant, cpu: Duration) -> Self {
        Self { at: now, cpu, unread: Duration::ZERO, debt: 0.0, share: 1.0 }
    }

    /// Leaves out the time since the last turn.
    pub(super) fn skip(&mut self, now: Instant) {
        self.at = now;
    }

    /// Returns the CPU time of the turn that ends now. `read` reads the thread's clock.
    pub(super) fn lap(&mut self, now: Instant, read: impl FnOnce() -> Duration) -> Duration {
        let lap = now.saturating_duration_since(self.at);
        self.at = now;
        self.unread += lap;
        if lap < LONG && self.unread < UNREAD_MAX {
            let bill = lap.mul_f64(self.share);
            self.debt -= bill.as_secs_f64();
            return bill;
        }
        let cpu = read();
        let spent = cpu.saturating_sub(self.cpu).as_secs_f64();
        // CPU time that the thread spends between turns is nobody's, so there is a bound to what is made up for.
        let bound = UNREAD_MAX.as_secs_f64();
        let owed = self.debt + spent;
        let bill = owed.clamp(0.0, lap.as_secs_f64());
        self.debt = (owed - bill).clamp(-bound, bound);
        if !self.unread.is_zero() {
            self.share = ((spent + self.debt) / self.unread.as_secs_f64()).clamp(0.0, 1.0);
        }
        (self.cpu, self.unread) = (cpu, Duration::ZERO);
        Duration::from_secs_f64(bill)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// A thread that gets some of the time of each turn.
    struct Thread {
        laps: Laps,
        now: Instant,
        cpu: Duration,
        reads: usize,
        billed: Duration,
    }

    impl Thread {
        fn new() -> Self {
            let now = Instant::now();
            let laps = Laps::new(now, Duration::ZERO);
            Self { laps, now, cpu: Duration::ZERO, reads: 0, billed: Duration::ZERO }
        }

        fn turn(&mut self, lasts: Duration, cpu: Duration) -> Duration {
            self.now += lasts;
            self.cpu += cpu;
            let (cpu, reads) = (self.cpu, &mut self.reads);
            let bill = self.laps.lap(self.now, || {
                *reads += 1;
                cpu
            });
            self.billed += bill;
            bill
        }
    }

    #[test]
    fn short_turns_share_a_look_at_the_threads_clock() {
        let mut thread = Thread::new();
        for _ in 0..1_000 {
            let bill = thread.turn(micros(10), micros(10));
            assert!(bill.abs_diff(micros(10)) < Duration::from_nanos(100), "{bill:?}");
        }
        assert_eq!(thread.reads, 10);
    }

    #[test]
    fn a_long_turn_is_billed_what_it_spent() {
        let mut thread = Thread::new();
        thread.turn(micros(10), micros(10));
        let bill = thread.turn(micros(5_000), micros(3_000));
        assert!(bill.abs_diff(micros(3_000)) < micros(1), "{bill:?}");
        thread.now += micros(50_000);
        thread.laps.skip(thread.now);
        let bill = thread.turn(micros(700), micros(700));
        assert!(bill.abs_diff(micros(700)) < micros(1), "what lies between is nobody's: {bill:?}");
    }

    proptest! {
        /// However long turns are, and however much of them the kernel gives to others: nobody pays for more than went by,
        /// and all together pay what was spent, but for a few of the times between two looks.
        #[test]
        fn all_pay_what_was_spent(turns in prop::collection::vec((1..2_000u64, 0.0..=1.0f64), 1..400)) {
            let mut thread = Thread::new();
            for (lasts, share) in turns {
                let lasts = micros(lasts);
                prop_assert!(thread.turn(lasts, lasts.mul_f64(share)) <= lasts + Duration::from_nanos(1));
                let (billed, spent) = (thread.billed.as_secs_f64(), thread.cpu.as_secs_f64());
                let few = 4.0 * UNREAD_MAX.as_secs_f64();
                prop_assert!((billed - spent).abs() <= few, "{billed} of {spent}");
            }
        }

        /// Where the kernel takes the same share of each turn, the bills come to what was spent.
        #[test]
        fn a_steady_share_is_found(lasts in 1..190u64, share in 0.1..=1.0f64) {
            let mut thread = Thread::new();
            let lasts = micros(lasts);
            for _ in 0..10_000 {
                thread.turn(lasts, lasts.mul_f64(share));
            }
            let (billed, spent) = (thread.billed.as_secs_f64(), thread.cpu.as_secs_f64());
            prop_assert!((billed - spent).abs() <= 0.02 * spent + 0.002, "{billed} of {spent}");
        }
    }
}
