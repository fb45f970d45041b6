//! The effects of one run, held back until its job settles, within the effects limit.

use std::time::Duration;

use sandhog_core::budget::Bytes;
use sandhog_core::effects::{Effects, NotANumber, Seen};
use sandhog_core::id::StateKey;
use sandhog_core::job::NewJob;

/// Keys and jobs of one run together. Each costs the host and the broker more than its bytes.
pub(crate) const ENTRIES_MAX: usize = 10_000;

/// Effects that can be added to only within the limits.
#[derive(Debug)]
pub(crate) struct Held {
    effects: Effects,
    max: Bytes,
    /// No less than the size. Exact sums are made only when this gets over the limit.
    at_most: u64,
    /// Entries that were gone through for exact sums, and not yet paid for.
    summed: u64,
}

/// Why effects can't be added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// They'd be larger than the limit: the run is over.
    TooLarge,
    /// There'd be too many: the handler is told.
    TooMany,
    /// The value is no number: the handler is told.
    NotANumber,
}

impl From<NotANumber> for Refusal {
    fn from(NotANumber: NotANumber) -> Self {
        Self::NotANumber
    }
}

impl Held {
    pub(crate) fn new(max: Bytes) -> Self {
        Self { effects: Effects::default(), max, at_most: 0, summed: 0 }
    }

    /// What the run sees of a key.
    pub(crate) fn read(&self, key: &StateKey) -> Seen {
        self.effects.read(key)
    }

    /// Keys and jobs together.
    pub(crate) fn entries(&self) -> usize {
        self.effects.writes().len() + self.effects.jobs().len()
    }

    pub(crate) fn set(
        &mut self,
        key: StateKey,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<(), Refusal> {
        let more = key.as_str().len() + value.len();
        self.add(more, |effects| {
            effects.set(key, value, ttl);
            Ok(())
        })
    }

    pub(crate) fn delete(&mut self, key: StateKey) -> Result<(), Refusal> {
        self.add(key.as_str().len(), |effects| {
            effects.delete(key);
            Ok(())
        })
    }

    pub(crate) fn increment(&mut self, key: StateKey, by: i64) -> Result<(), Refusal> {
        // As a number of eight bytes, or as text of at most twenty.
        self.add(key.as_str().len() + 20, |effects| effects.increment(key, by))
    }

    /// Sets a key that was found to have a certain value in the store; the effects then apply only if it still has.
    pub(crate) fn swap(
        &mut self,
        key: StateKey,
        stored: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<(), Refusal> {
        let more = 2 * key.as_str().len() + value.len() + stored.as_ref().map_or(0, Vec::len);
        self.add(more, |effects| {
            effects.swap(key, stored, value, ttl);
            Ok(())
        })
    }

    pub(crate) fn enqueue(&mut self, job: NewJob) -> Result<(), Refusal> {
        self.add(job.payload.len() + job.kind.as_str().len(), |effects| {
            effects.enqueue(job);
            Ok(())
        })
    }

    /// The work of keeping within the limit since this was asked last, in entries that were gone through.
    pub(crate) fn take_summed(&mut self) -> u64 {
        std::mem::take(&mut self.summed)
    }

    /// All of them.
    pub(crate) fn into_effects(self) -> Effects {
        self.effects
    }

    fn add(
        &mut self,
        more: usize,
        write: impl FnOnce(&mut Effects) -> Result<(), NotANumber>,
    ) -> Result<(), Refusal> {
        if self.entries() >= ENTRIES_MAX {
            return Err(Refusal::TooMany);
        }
        // A single large one needs no sum: it isn't even taken over.
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

    fn key(n: usize) -> StateKey {
        StateKey::parse(&format!("{n:08}")).expect("a valid key")
    }

    #[test]
    fn writing_one_key_over_and_over_stays_within_the_limit() {
        let mut held = Held::new(Bytes(100));
        for n in 0..1000 {
            held.set(key(1), vec![n as u8; 50], None).expect("58 bytes are held");
        }
        assert_eq!(held.set(key(2), vec![0; 50], None), Err(Refusal::TooLarge));
    }

    #[test]
    fn a_value_larger_than_the_limit_is_refused_before_it_is_held() {
        let mut held = Held::new(Bytes(100));
        assert_eq!(held.set(key(1), vec![0; 200], None), Err(Refusal::TooLarge));
        assert_eq!(held.entries(), 0);
    }

    #[test]
    fn tiny_entries_are_bounded_by_number() {
        let mut held = Held::new(Bytes::mib(100));
        for n in 0..ENTRIES_MAX {
            held.delete(key(n)).expect("below the number");
        }
        assert_eq!(held.delete(key(ENTRIES_MAX)), Err(Refusal::TooMany));
    }
}
