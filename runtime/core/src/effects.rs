//! Effects that a run wants written, held back until its job settles.
//!
//! A run reads through its own writes: [`Effects::read`] lays them over what is stored. The broker applies the writes
//! in the step that settles the job, in order of key, if every [`Expectation`] still holds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::budget::Bytes;
use crate::id::StateKey;
use crate::job::NewJob;
use crate::time::Timestamp;

/// Write to one key of the state. Later writes of a run fold into earlier ones, so there is one per key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateWrite {
    /// Sets the value and its time to live.
    Set {
        /// New value.
        value: Vec<u8>,
        /// Time after which the key expires; `None` if it never does.
        ttl: Option<Duration>,
    },
    /// Replaces the value, and keeps the time to live of the stored one.
    Replace(Vec<u8>),
    /// Deletes the key.
    Delete,
    /// Adds to the stored decimal integer; a missing one counts as 0. Its time to live stays.
    Add(i64),
}

/// Result of a write for its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The key has no value any more.
    Gone,
    /// The key has this value, which expires after that time; never, if that is `None`.
    Value(Vec<u8>, Option<Duration>),
    /// The key has this value, which expires when the one before would have.
    Changed(Vec<u8>),
}

impl Written {
    /// Returns the length of the resulting value in bytes; `None` if the key has no value then, as after a time to live of
    /// zero.
    #[must_use]
    pub fn length(&self) -> Option<usize> {
        match self {
            Self::Gone | Self::Value(_, Some(Duration::ZERO)) => None,
            Self::Value(value, _) | Self::Changed(value) => Some(value.len()),
        }
    }
}

impl StateWrite {
    /// Returns the result of this write, given the value that is stored under the key.
    ///
    /// # Errors
    /// If it adds to something that is not a number, or the sum leaves the range of `i64`.
    pub fn over(&self, stored: Option<&[u8]>) -> Result<Written, NotANumber> {
        Ok(match self {
            Self::Delete => Written::Gone,
            Self::Set { value, ttl } => Written::Value(value.clone(), *ttl),
            Self::Replace(value) => Written::Changed(value.clone()),
            Self::Add(by) => Written::Changed(add(stored, *by)?),
        })
    }

    /// Whether the result depends on what is stored: a sum, or the time at which the value expires.
    #[must_use]
    pub const fn needs_stored(&self) -> bool {
        matches!(self, Self::Replace(_) | Self::Add(_))
    }

    /// Returns the maximum length in bytes of the resulting value.
    #[must_use]
    pub const fn length_max(&self) -> usize {
        match self {
            Self::Set { value, .. } | Self::Replace(value) => value.len(),
            Self::Delete => 0,
            Self::Add(_) => "-9223372036854775808".len(),
        }
    }
}

/// Condition on a stored value that must still hold for the effects to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The key that was compared.
    pub key: StateKey,
    /// Value that was found; `None` if there was none.
    pub value: Option<Vec<u8>>,
}

/// Error for a number that can't be added to a value: the value isn't a number, or the sum would leave its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value is not a decimal integer of 64 bits, or would leave that range")]
pub struct NotANumber;

/// A key's value as a run sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A value that the run's own writes decide, whatever is stored; `None` if they deleted it.
    Known(Option<Vec<u8>>),
    /// The stored value plus this number; the stored value itself if that is 0.
    StoredPlus(i64),
}

/// The writes, expectations and jobs of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    writes: BTreeMap<StateKey, StateWrite>,
    expectations: BTreeMap<StateKey, Option<Vec<u8>>>,
    jobs: Vec<NewJob>,
    /// Times at which some of the jobs may start, by their places.
    starts: Vec<(usize, Timestamp)>,
}

impl Effects {
    /// Whether there is nothing to write and no job to create.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.jobs.is_empty()
    }

    /// Whether the run has written this key.
    #[must_use]
    pub fn is_written(&self, key: &StateKey) -> bool {
        self.writes.contains_key(key)
    }

    /// Returns the writes, one per key, in order of key.
    pub fn writes(&self) -> impl ExactSizeIterator<Item = (&StateKey, &StateWrite)> {
        self.writes.iter()
    }

    /// Returns the conditions that must still hold: keys and their expected values, `None` for a key without one.
    pub fn expectations(&self) -> impl ExactSizeIterator<Item = (&StateKey, Option<&[u8]>)> {
        self.expectations.iter().map(|(key, value)| (key, value.as_deref()))
    }

    /// Returns the jobs to create, in the order in which the run asked for them.
    #[must_use]
    pub fn jobs(&self) -> &[NewJob] {
        &self.jobs
    }

    /// Returns the value of `key` as the run sees it. What is stored is needed only for [`Seen::StoredPlus`]; see
    /// [`Self::resolve`].
    #[must_use]
    pub fn read(&self, key: &StateKey) -> Seen {
        match self.writes.get(key) {
            Some(StateWrite::Set { value, .. } | StateWrite::Replace(value)) => {
                Seen::Known(Some(value.clone()))
            }
            Some(StateWrite::Delete) => Seen::Known(None),
            Some(StateWrite::Add(by)) => Seen::StoredPlus(*by),
            None => Seen::StoredPlus(0),
        }
    }

    /// Returns the value that is seen, given the stored one; `None` if there is no value.
    ///
    /// # Errors
    /// If the run added to something that is not a number.
    pub fn resolve(seen: Seen, stored: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, NotANumber> {
        match seen {
            Seen::Known(value) => Ok(value),
            Seen::StoredPlus(0) => Ok(stored),
            Seen::StoredPlus(by) => add(stored.as_deref(), by).map(Some),
        }
    }

    /// Returns the first key on which the effects can't be applied: one whose stored value isn't the expected one, or else
    /// one that is added to and can't be. `None` if they can be applied. `stored` looks up what is stored under a key.
    ///
    /// # Errors
    /// If `stored` fails.
    pub fn conflict<V: AsRef<[u8]>, E>(
        &self,
        mut stored: impl FnMut(&StateKey) -> Result<Option<V>, E>,
    ) -> Result<Option<&StateKey>, E> {
        for (key, expected) in &self.expectations {
            if stored(key)?.as_ref().map(V::as_ref) != expected.as_deref() {
                return Ok(Some(key));
            }
        }
        for (key, write) in &self.writes {
            if let StateWrite::Add(by) = write
                && add(stored(key)?.as_ref().map(V::as_ref), *by).is_err()
            {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// Sets a key to `value`; it expires after `ttl`, or never if that is `None`.
    pub fn set(&mut self, key: StateKey, value: Vec<u8>, ttl: Option<Duration>) {
        self.writes.insert(key, StateWrite::Set { value, ttl });
    }

    /// Replaces the value of a key, and keeps its time to live.
    pub fn replace(&mut self, key: StateKey, value: Vec<u8>) {
        self.writes.insert(key, StateWrite::Replace(value));
    }

    /// Makes it a condition of all the effects that `stored` is still the value of the key; `None` means that it has none.
    pub fn expect(&mut self, key: StateKey, stored: Option<Vec<u8>>) {
        self.expectations.insert(key, stored);
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: StateKey) {
        self.writes.insert(key, StateWrite::Delete);
    }

    /// Sets a key whose stored value was found to be `stored`; the effects then apply only if it still is. No expectation
    /// is added for a value that the run itself has set; a value that it has only added to still rests on the stored one.
    pub fn swap(&mut self, key: StateKey, stored: Option<Vec<u8>>, value: Vec<u8>, ttl: Option<Duration>) {
        if matches!(self.writes.get(&key), None | Some(StateWrite::Add(_))) {
            self.expectations.entry(key.clone()).or_insert(stored);
        }
        self.set(key, value, ttl);
    }

    /// Adds `by` to the value of a key.
    ///
    /// # Errors
    /// If the run's own value of the key is not a number, or the sum leaves the range of `i64`.
    pub fn increment(&mut self, key: StateKey, by: i64) -> Result<(), NotANumber> {
        let folded = match self.writes.get(&key) {
            None => StateWrite::Add(by),
            Some(StateWrite::Add(before)) => StateWrite::Add(before.checked_add(by).ok_or(NotANumber)?),
            Some(StateWrite::Delete) => StateWrite::Set { value: add(None, by)?, ttl: None },
            Some(StateWrite::Set { value, ttl }) => {
                StateWrite::Set { value: add(Some(value), by)?, ttl: *ttl }
            }
            Some(StateWrite::Replace(value)) => StateWrite::Replace(add(Some(value), by)?),
        };
        self.writes.insert(key, folded);
        Ok(())
    }

    /// Adds a job to create.
    pub fn enqueue(&mut self, job: NewJob) {
        self.jobs.push(job);
    }

    /// Adds a job to create that may start at this time. Its delay is set by [`Self::end`].
    pub fn enqueue_at(&mut self, job: NewJob, at: Timestamp) {
        self.starts.push((self.jobs.len(), at));
        self.jobs.push(job);
    }

    /// Sets the delays of the jobs that may start at certain times, as the run has ended `now`: delays count from then.
    pub fn end(&mut self, now: Timestamp) {
        for (place, at) in std::mem::take(&mut self.starts) {
            if let Some(job) = self.jobs.get_mut(place) {
                *job = job.clone().starting_after(at.since(now));
            }
        }
    }

    /// Returns the size of keys, values and [jobs](NewJob::size) together, which counts against [`crate::budget::Budget::effects`].
    #[must_use]
    pub fn size(&self) -> Bytes {
        let written = |write: &StateWrite| match write {
            StateWrite::Set { value, .. } | StateWrite::Replace(value) => value.len(),
            StateWrite::Delete => 0,
            StateWrite::Add(_) => size_of::<i64>(),
        };
        let writes: usize = self.writes.iter().map(|(key, write)| key.as_str().len() + written(write)).sum();
        let expectations: usize = self
            .expectations
            .iter()
            .map(|(key, value)| key.as_str().len() + value.as_ref().map_or(0, Vec::len))
            .sum();
        let jobs: usize = self.jobs.iter().map(NewJob::size).sum();
        Bytes::of(writes + expectations + jobs)
    }
}

/// Adds to a stored decimal integer, by the rule that every broker follows: at most one `-`, digits without leading
/// zeros, within the range of `i64`; a missing one counts as 0.
///
/// # Errors
/// If the value is anything else, or the sum leaves the range.
pub fn add(stored: Option<&[u8]>, by: i64) -> Result<Vec<u8>, NotANumber> {
    let before = match stored {
        None => 0,
        Some(bytes) => integer(bytes).ok_or(NotANumber)?,
    };
    Ok(before.checked_add(by).ok_or(NotANumber)?.to_string().into_bytes())
}

fn integer(bytes: &[u8]) -> Option<i64> {
    let value: i64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    // "+1", "007" and "-0" parse, and yet Redis refuses to add to them.
    (value.to_string().as_bytes() == bytes).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{JobId, Kind, QueueName};
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Op {
        Set(u8, i64),
        Delete(u8),
        Increment(u8, i64),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            (0..3u8, -9..9i64).prop_map(|(key, value)| Op::Set(key, value)),
            (0..3u8).prop_map(Op::Delete),
            (0..3u8, -9..9i64).prop_map(|(key, by)| Op::Increment(key, by)),
        ];
        prop::collection::vec(op, 0..20)
    }

    fn key(n: u8) -> StateKey {
        StateKey::parse(&format!("k{n}")).expect("a valid key")
    }

    fn as_bytes(value: Option<i64>) -> Option<Vec<u8>> {
        value.map(|v| v.to_string().into_bytes())
    }

    proptest! {
        /// Reading through the effects, and applying them, both give what plain sequential writes would have given.
        #[test]
        fn held_back_writes_read_and_apply_as_if_made_at_once(ops in ops(), stored in prop::option::of(-9..9i64)) {
            let mut model: BTreeMap<u8, i64> = (0..3).filter_map(|k| stored.map(|v| (k, v))).collect();
            let mut effects = Effects::default();
            for op in ops {
                match op {
                    Op::Set(k, v) => { model.insert(k, v); effects.set(key(k), v.to_string().into(), None); }
                    Op::Delete(k) => { model.remove(&k); effects.delete(key(k)); }
                    Op::Increment(k, by) => {
                        *model.entry(k).or_default() += by;
                        effects.increment(key(k), by).expect("numbers only");
                    }
                }
            }
            for k in 0..3 {
                let expected = as_bytes(model.get(&k).copied());
                let read = Effects::resolve(effects.read(&key(k)), as_bytes(stored)).expect("numbers only");
                let applied = match effects.writes().find(|(name, _)| **name == key(k)).map(|(_, w)| w.clone()) {
                    None => as_bytes(stored),
                    Some(StateWrite::Set { value, .. } | StateWrite::Replace(value)) => Some(value),
                    Some(StateWrite::Delete) => None,
                    Some(StateWrite::Add(by)) => Some(add(as_bytes(stored).as_deref(), by).expect("numbers only")),
                };
                prop_assert_eq!(&applied, &expected);
                // Adding zero to a missing key makes it, which only applying can show.
                prop_assert!(read == expected || expected == Some(b"0".to_vec()));
            }
        }
    }

    #[test]
    fn a_job_that_may_start_at_a_time_waits_until_then_from_the_end_of_the_run() {
        let (at, second) = (Timestamp::from_millis, Duration::from_secs(1));
        let job = || {
            let (queue, kind) = (QueueName::parse("q").expect("valid"), Kind::parse("k").expect("valid"));
            let mut job = NewJob::new(JobId::from_parts(at(1), 1), queue, kind, Vec::new());
            job.options.start_within = Some(5 * second);
            job.options.deadline = Some(9 * second);
            job
        };
        let mut effects = Effects::default();
        effects.enqueue(job().starting_after(second));
        effects.enqueue_at(job().starting_after(10 * second), at(20_000));
        effects.enqueue_at(job().starting_after(10 * second), at(11_000));
        effects.end(at(12_000));
        let times =
            effects.jobs().iter().map(|job| (job.delay, job.options.start_within, job.options.deadline));
        let from = |delay: u32| (delay * second, Some((delay + 5) * second), Some((delay + 9) * second));
        assert_eq!(times.collect::<Vec<_>>(), [from(1), from(8), from(0)]);
    }

    #[test]
    fn only_the_stored_value_is_an_expectation() {
        let mut effects = Effects::default();
        effects.swap(key(0), Some(b"old".to_vec()), b"new".to_vec(), None);
        effects.swap(key(0), Some(b"new".to_vec()), b"newer".to_vec(), None);
        effects.set(key(1), b"own".to_vec(), None);
        effects.swap(key(1), Some(b"own".to_vec()), b"other".to_vec(), None);
        assert_eq!(effects.expectations().collect::<Vec<_>>(), [(&key(0), Some(&b"old"[..]))]);
    }

    #[test]
    fn a_swap_after_an_increment_still_rests_on_what_is_stored() {
        let mut effects = Effects::default();
        effects.increment(key(0), 1).expect("a number");
        effects.swap(key(0), Some(b"1".to_vec()), b"10".to_vec(), None);
        assert_eq!(effects.expectations().collect::<Vec<_>>(), [(&key(0), Some(&b"1"[..]))]);
    }

    #[test]
    fn adding_follows_the_rule_that_redis_has() {
        assert_eq!(add(None, 5), Ok(b"5".to_vec()));
        assert_eq!(add(Some(b"-3"), 5), Ok(b"2".to_vec()));
        for bad in [&b"+1"[..], b"007", b"-0", b" 1", b"", b"1.0", b"\xff", b"9223372036854775808"] {
            assert_eq!(add(Some(bad), 1), Err(NotANumber), "{bad:?}");
        }
        assert_eq!(add(Some(b"9223372036854775807"), 1), Err(NotANumber));
    }
}
