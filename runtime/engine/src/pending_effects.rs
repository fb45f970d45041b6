//! Pending effects of one run, held back until its job settles, within the effects limit.

use std::time::Duration;

use sandhog_core::budget::{Budget, Bytes};
use sandhog_core::effects::{Effects, NotANumber, Seen};
use sandhog_core::id::StateKey;
use sandhog_core::job::NewJob;
use sandhog_core::outcome::Limit;
use sandhog_core::time::Timestamp;

/// Pending effects, which can be added to only within the limits.
#[derive(Debug)]
pub(crate) struct PendingEffects {
    effects: Effects,
    max: Bytes,
    /// Maximum number of jobs, and of keys written. Each entry costs the host and the broker more than its bytes, so their
    /// numbers have limits of their own.
    enqueues_max: usize,
    writes_max: usize,
    /// Upper bound of the effects' size, in bytes. An exact sum is made only when this gets over the limit.
    at_most: u64,
    /// Number of entries that were gone through for exact sums, and not yet paid for.
    summed: u64,
}

/// Reason why effects can't be added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The effects would be larger than the limit: the run is over.
    TooLarge,
    /// The effects would be too many, by this limit: the handler is told.
    TooMany(Limit),
    /// The value of the key is no number: the handler is told.
    NotANumber,
}

impl From<NotANumber> for Refusal {
    fn from(NotANumber: NotANumber) -> Self {
        Self::NotANumber
    }
}

impl PendingEffects {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            effects: Effects::default(),
            max: budget.effects,
            enqueues_max: budget.enqueues as usize,
            writes_max: budget.state_writes as usize,
            at_most: 0,
            summed: 0,
        }
    }

    /// Returns what the run sees of a key.
    pub(crate) fn read(&self, key: &StateKey) -> Seen {
        self.effects.read(key)
    }

    /// Whether one more job is within the limit on their number.
    pub(crate) fn has_room_for_a_job(&self) -> bool {
        self.effects.jobs().len() < self.enqueues_max
    }

    /// Number of keys written and jobs together.
    fn entries(&self) -> usize {
        self.effects.writes().len() + self.effects.jobs().len()
    }

    pub(crate) fn set(
        &mut self,
        key: StateKey,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<(), Refusal> {
        let more = key.as_str().len() + value.len();
        self.write(key, more, |effects, key| {
            effects.set(key, value, ttl);
            Ok(())
        })
    }

    pub(crate) fn delete(&mut self, key: StateKey) -> Result<(), Refusal> {
        let more = key.as_str().len();
        self.write(key, more, |effects, key| {
            effects.delete(key);
            Ok(())
        })
    }

    pub(crate) fn increment(&mut self, key: StateKey, by: i64) -> Result<(), Refusal> {
        // The value counts as text of at most twenty bytes; as a number it has eight.
        let more = key.as_str().len() + 20;
        self.write(key, more, |effects, key| effects.increment(key, by))
    }

    /// Sets a key that was found to have the value `stored` in the store; the effects then apply only if it still has.
    pub(crate) fn swap(
        &mut self,
        key: StateKey,
        stored: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<(), Refusal> {
        let more = 2 * key.as_str().len() + value.len() + stored.as_ref().map_or(0, Vec::len);
        self.write(key, more, |effects, key| {
            effects.swap(key, stored, value, ttl);
            Ok(())
        })
    }

    /// Adds a job, which may start at the given time if there is one.
    pub(crate) fn enqueue(&mut self, job: NewJob, starts_at: Option<Timestamp>) -> Result<(), Refusal> {
        if !self.has_room_for_a_job() {
            return Err(Refusal::TooMany(Limit::Enqueues));
        }
        self.add(job.size(), |effects| {
            match starts_at {
                Some(at) => effects.enqueue_at(job, at),
                None => effects.enqueue(job),
            }
            Ok(())
        })
    }

    /// Returns the number of entries that were gone through to keep within the limit, since this was asked last.
    pub(crate) fn take_summed(&mut self) -> u64 {
        std::mem::take(&mut self.summed)
    }

    /// Returns all effects.
    pub(crate) fn into_effects(self) -> Effects {
        self.effects
    }

    /// Writes a key. A key that was written before counts once.
    fn write(
        &mut self,
        key: StateKey,
        more: usize,
        write: impl FnOnce(&mut Effects, StateKey) -> Result<(), NotANumber>,
    ) -> Result<(), Refusal> {
        if self.effects.writes().len() >= self.writes_max && !self.effects.is_written(&key) {
            return Err(Refusal::TooMany(Limit::StateWrites));
        }
        self.add(more, |effects| write(effects, key))
    }

    fn add(
        &mut self,
        more: usize,
        write: impl FnOnce(&mut Effects) -> Result<(), NotANumber>,
    ) -> Result<(), Refusal> {
        // A single large entry needs no sum: it isn't even taken over.
        if more as u64 > self.max.0 {
            return Err(Refusal::TooLarge);
        }
        write(&mut self.effects)?;
        self.at_most += more as u64;
        if self.at_most > self.max.0 {
            self.at_most = self.effects.size().0;
            self.summed += self.entries() as u64;
        }
        if self.at_most > self.max.0 { Err(Refusal::TooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(effects: Bytes) -> PendingEffects {
        PendingEffects::new(&Budget { effects, state_writes: 1000, ..Budget::DEFAULT })
    }

    fn key(n: usize) -> StateKey {
        StateKey::parse(&format!("{n:08}")).expect("a valid key")
    }

    #[test]
    fn writing_one_key_over_and_over_stays_within_the_limit() {
        let mut held = held(Bytes(100));
        for n in 0..1000 {
            held.set(key(1), vec![n as u8; 50], None).expect("58 bytes are held");
        }
        assert_eq!(held.set(key(2), vec![0; 50], None), Err(Refusal::TooLarge));
    }

    #[test]
    fn a_value_larger_than_the_limit_is_refused_before_it_is_held() {
        let mut held = held(Bytes(100));
        assert_eq!(held.set(key(1), vec![0; 200], None), Err(Refusal::TooLarge));
        assert_eq!(held.entries(), 0);
    }

    #[test]
    fn tiny_entries_are_bounded_by_number() {
        let mut held = held(Bytes::mib(100));
        for n in 0..1000 {
            held.delete(key(n)).expect("below the number");
        }
        let refused = Err(Refusal::TooMany(Limit::StateWrites));
        assert_eq!(held.delete(key(1000)), refused);
        assert_eq!(held.increment(key(1000), 1), refused);
        assert_eq!(held.set(key(1000), Vec::new(), None), refused);
        assert_eq!(held.swap(key(1000), None, Vec::new(), None), refused);
        held.set(key(999), b"1".to_vec(), None).expect("it is written already");
        held.increment(key(999), 1).expect("it is written already");
    }
}
