//! Effects of a run, held back until it succeeds: reads lay them over what is stored.
//!
//! `set`, `delete` and `increment` are blind, as on the real host: an increment meets the stored value only when it is
//! written.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::enqueue::NewJob;
use crate::host::RawStateError;
use crate::state::Swapped;

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) bytes: Vec<u8>,
    /// Time at which the value expires, by the host's clock; `None` if it never does.
    pub(super) expires_at: Option<Duration>,
}

/// Stored values, by key. An expired value stays there, but isn't returned.
#[derive(Debug, Clone, Default)]
pub(super) struct Stored(BTreeMap<String, Value>);

#[derive(Debug, Clone)]
enum Write {
    Set { bytes: Vec<u8>, ttl: Option<Duration> },
    Delete,
    Add(i64),
}

/// The writes, expectations and jobs of one run.
#[derive(Debug, Default)]
pub(super) struct Effects {
    writes: BTreeMap<String, Write>,
    expectations: BTreeMap<String, Option<Vec<u8>>>,
    pub(super) jobs: Vec<(String, NewJob, Vec<u8>)>,
}

impl Stored {
    pub(super) fn get(&self, key: &str, now: Duration) -> Option<&Value> {
        self.0.get(key).filter(|value| value.expires_at.is_none_or(|at| now < at))
    }

    pub(super) fn insert(&mut self, key: String, value: Value) {
        self.0.insert(key, value);
    }

    fn bytes(&self, key: &str, now: Duration) -> Option<&[u8]> {
        self.get(key, now).map(|value| value.bytes.as_slice())
    }
}

impl Effects {
    /// Whether the run's view of a key depends on what is stored.
    pub(super) fn rests_on_stored(&self, key: &str) -> bool {
        !matches!(self.writes.get(key), Some(Write::Set { .. } | Write::Delete))
    }

    pub(super) fn is_written(&self, key: &str) -> bool {
        self.writes.contains_key(key)
    }

    pub(super) fn keys(&self) -> usize {
        self.writes.len()
    }

    /// Returns the value of a key as the run sees it.
    pub(super) fn read(
        &self,
        stored: &Stored,
        key: &str,
        now: Duration,
    ) -> Result<Option<Vec<u8>>, RawStateError> {
        match self.writes.get(key) {
            Some(Write::Set { bytes, .. }) => Ok(Some(bytes.clone())),
            Some(Write::Delete) => Ok(None),
            Some(Write::Add(by)) => add(stored.bytes(key, now), *by).map(Some),
            None => Ok(stored.bytes(key, now).map(<[u8]>::to_vec)),
        }
    }

    pub(super) fn set(&mut self, key: &str, bytes: &[u8], ttl: Option<Duration>) {
        self.writes.insert(key.to_owned(), Write::Set { bytes: bytes.to_vec(), ttl });
    }

    pub(super) fn delete(&mut self, key: &str) {
        self.writes.insert(key.to_owned(), Write::Delete);
    }

    pub(super) fn increment(&mut self, key: &str, by: i64) -> Result<(), RawStateError> {
        let folded = match self.writes.get(key) {
            None => Write::Add(by),
            Some(Write::Add(before)) => Write::Add(before.checked_add(by).ok_or(RawStateError::NotANumber)?),
            Some(Write::Delete) => Write::Set { bytes: add(None, by)?, ttl: None },
            Some(Write::Set { bytes, ttl }) => Write::Set { bytes: add(Some(bytes), by)?, ttl: *ttl },
        };
        self.writes.insert(key.to_owned(), folded);
        Ok(())
    }

    pub(super) fn swap(
        &mut self,
        stored: &Stored,
        key: &str,
        expected: Option<&[u8]>,
        bytes: &[u8],
        ttl: Option<Duration>,
        now: Duration,
    ) -> Result<Swapped, RawStateError> {
        if self.read(stored, key, now)?.as_deref() != expected {
            return Ok(Swapped::No);
        }
        if self.rests_on_stored(key) {
            let found = stored.bytes(key, now).map(<[u8]>::to_vec);
            self.expectations.entry(key.to_owned()).or_insert(found);
        }
        self.set(key, bytes, ttl);
        Ok(Swapped::Yes)
    }

    /// Returns the size of keys, values and jobs together, in bytes.
    pub(super) fn size(&self) -> usize {
        let written = |write: &Write| match write {
            Write::Set { bytes, .. } => bytes.len(),
            Write::Delete => 0,
            Write::Add(_) => size_of::<i64>(),
        };
        let writes: usize = self.writes.iter().map(|(key, write)| key.len() + written(write)).sum();
        let expected = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        let expectations: usize =
            self.expectations.iter().map(|(key, value)| key.len() + expected(value)).sum();
        let of_job = |job: &NewJob| {
            let labels = job.labels.iter().map(|(name, value)| name.len() + value.len());
            let texts = [&job.group, &job.content_type].map(|text| text.as_ref().map_or(0, String::len));
            job.kind.len() + texts.iter().sum::<usize>() + labels.sum::<usize>()
        };
        let jobs: usize = self.jobs.iter().map(|(_, job, payload)| of_job(job) + payload.len()).sum();
        writes + expectations + jobs
    }

    /// Returns the first key on which the effects can't be written; `None` if they can.
    pub(super) fn conflict(&self, stored: &Stored, now: Duration) -> Option<&str> {
        let changed =
            |(key, expected): &(&String, &Option<Vec<u8>>)| stored.bytes(key, now) != expected.as_deref();
        let no_number = |(key, write): &(&String, &Write)| match write {
            Write::Add(by) => add(stored.bytes(key, now), *by).is_err(),
            _ => false,
        };
        let changed = self.expectations.iter().find(changed).map(|(key, _)| key.as_str());
        changed.or_else(|| self.writes.iter().find(no_number).map(|(key, _)| key.as_str()))
    }

    /// Writes the state, given that there is no [`Self::conflict`]; the jobs are left to the caller.
    pub(super) fn write(&self, stored: &mut Stored, now: Duration) {
        for (key, write) in &self.writes {
            let before = stored.get(key, now).cloned();
            let after = match write {
                Write::Delete => None,
                Write::Set { ttl: Some(Duration::ZERO), .. } => None,
                Write::Set { bytes, ttl } => {
                    Some(Value { bytes: bytes.clone(), expires_at: ttl.map(|ttl| now.saturating_add(ttl)) })
                }
                Write::Add(by) => add(before.as_ref().map(|value| value.bytes.as_slice()), *by)
                    .ok()
                    .map(|bytes| Value { bytes, expires_at: before.and_then(|value| value.expires_at) }),
            };
            match after {
                Some(value) => stored.0.insert(key.clone(), value),
                None => stored.0.remove(key),
            };
        }
    }
}

/// Adds to a decimal integer as the runtime has it: no `+`, no leading zeros; a missing one counts as 0.
fn add(stored: Option<&[u8]>, by: i64) -> Result<Vec<u8>, RawStateError> {
    let before = match stored {
        None => Some(0),
        Some(bytes) => integer(bytes),
    };
    let sum = before.and_then(|before| before.checked_add(by)).ok_or(RawStateError::NotANumber)?;
    Ok(sum.to_string().into_bytes())
}

fn integer(bytes: &[u8]) -> Option<i64> {
    let value: i64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    (value.to_string().as_bytes() == bytes).then_some(value)
}
