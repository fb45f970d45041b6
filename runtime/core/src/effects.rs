//! What a run wants written, held back until its job settles.
//!
//! A run reads through its own writes: [`Effects::read`] lays them over what is stored. The broker applies the writes
//! in the step that settles the job, in order of key, if every [`Expectation`] still holds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::budget::Bytes;
use crate::id::StateKey;
use crate::job::NewJob;

/// What is to happen to one key. Later writes of a run fold into earlier ones, so there is one a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateWrite {
    /// Takes this value, and keeps it for the time given.
    Set {
        /// The value.
        value: Vec<u8>,
        /// After which it goes away; never, if there is none.
        ttl: Option<Duration>,
    },
    /// Takes this value; the time to live of what is there stays.
    Replace(Vec<u8>),
    /// Goes away.
    Delete,
    /// Adds to the decimal integer that is there; a missing one counts as 0. Its time to live stays.
    Add(i64),
}

/// What a write makes of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// There is nothing any more.
    Gone,
    /// There is this value, which goes away after that time; never, if there is none.
    Value(Vec<u8>, Option<Duration>),
    /// There is this value, and it goes away when the one before would have.
    Changed(Vec<u8>),
}

impl Written {
    /// How long the value is that there is then.
    #[must_use]
    pub fn length(&self) -> Option<usize> {
        match self {
            Self::Gone | Self::Value(_, Some(Duration::ZERO)) => None,
            Self::Value(value, _) | Self::Changed(value) => Some(value.len()),
        }
    }
}

impl StateWrite {
    /// What this makes of a key, given what is stored there.
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

    /// Whether it leaves something that depends on what is stored: a sum, or when the value goes away.
    #[must_use]
    pub const fn needs_stored(&self) -> bool {
        matches!(self, Self::Replace(_) | Self::Add(_))
    }

    /// How long the value is at most that it leaves.
    #[must_use]
    pub const fn length_max(&self) -> usize {
        match self {
            Self::Set { value, .. } | Self::Replace(value) => value.len(),
            Self::Delete => 0,
            Self::Add(_) => "-9223372036854775808".len(),
        }
    }
}

/// What must still be stored for the effects to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The key that was compared.
    pub key: StateKey,
    /// What was there; nothing, if there is none.
    pub value: Option<Vec<u8>>,
}

/// Why a state write was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the value is not a decimal integer of 64 bits, or would leave that range")]
pub struct NotANumber;

/// A key's value as a run sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The run's own writes decide it, whatever is stored.
    Known(Option<Vec<u8>>),
    /// What is stored, plus this much.
    StoredPlus(i64),
}

/// The writes, expectations and jobs of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    writes: BTreeMap<StateKey, StateWrite>,
    expectations: BTreeMap<StateKey, Option<Vec<u8>>>,
    jobs: Vec<NewJob>,
}

impl Effects {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.jobs.is_empty()
    }

    /// Whether the run has written this key.
    #[must_use]
    pub fn is_written(&self, key: &StateKey) -> bool {
        self.writes.contains_key(key)
    }

    /// The writes, one a key, in order of key.
    pub fn writes(&self) -> impl ExactSizeIterator<Item = (&StateKey, &StateWrite)> {
        self.writes.iter()
    }

    /// What must still hold.
    pub fn expectations(&self) -> impl ExactSizeIterator<Item = (&StateKey, Option<&[u8]>)> {
        self.expectations.iter().map(|(key, value)| (key, value.as_deref()))
    }

    /// The jobs to create, in the order in which the run asked for them.
    #[must_use]
    pub fn jobs(&self) -> &[NewJob] {
        &self.jobs
    }

    /// What the run sees under `key`. `stored` is needed only for [`Seen::StoredPlus`]; see [`Self::resolve`].
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

    /// The value that is seen, given what is stored.
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

    /// The first key on which the effects can't be applied: one whose stored value isn't what the run had relied on, or else one
    /// that is added to and can't be.
    ///
    /// # Errors
    /// If `stored` fails, which tells what is stored under a key.
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

    /// Sets a key.
    pub fn set(&mut self, key: StateKey, value: Vec<u8>, ttl: Option<Duration>) {
        self.writes.insert(key, StateWrite::Set { value, ttl });
    }

    /// Gives a key another value, and leaves it its time to live.
    pub fn replace(&mut self, key: StateKey, value: Vec<u8>) {
        self.writes.insert(key, StateWrite::Replace(value));
    }

    /// Makes it a condition of all the effects that this is still stored under the key.
    pub fn expect(&mut self, key: StateKey, stored: Option<Vec<u8>>) {
        self.expectations.insert(key, stored);
    }

    /// Removes a key.
    pub fn delete(&mut self, key: StateKey) {
        self.writes.insert(key, StateWrite::Delete);
    }

    /// Sets a key whose stored value was found to be `stored`; the effects then apply only if it still is. A value that
    /// the run itself has set is no matter of expectation; one that it has only added to still rests on the stored one.
    pub fn swap(&mut self, key: StateKey, stored: Option<Vec<u8>>, value: Vec<u8>, ttl: Option<Duration>) {
        if matches!(self.writes.get(&key), None | Some(StateWrite::Add(_))) {
            self.expectations.entry(key.clone()).or_insert(stored);
        }
        self.set(key, value, ttl);
    }

    /// Adds to a key.
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

    /// Keys, values and payloads together: what counts against [`crate::budget::Budget::effects`].
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
        let jobs: usize = self.jobs.iter().map(|job| job.payload.len() + job.kind.as_str().len()).sum();
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
