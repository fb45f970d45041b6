//! State: small values that last from job to job.

use std::time::Duration;

use crate::codec::{Decode, Encode, InvalidJson};
use crate::context::Context;
use crate::host::{Host, HostCalls, RawStateError};

/// State: small values that last from job to job. [`Context::state`] returns it. Each plugin of a tenant has state of its
/// own.
///
/// Reads see what is stored plus what this run has written. Writes are held back until the job succeeds, and then happen in
/// the same step: all of them, once. A key is 1 to 256 bytes without control characters. Values are any serde type as JSON,
/// or [`Bytes`](crate::Bytes).
///
/// ```
/// # use sandhog_sdk::{Context, Result};
/// # use std::time::Duration;
/// # fn f(ctx: &Context) -> Result<()> {
/// let state = ctx.state();
/// let seen: Option<u64> = state.get("seen")?;
/// state.set_for("greeting", "hello", Duration::from_secs(3600))?;
/// state.increment("greetings", 1)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    host: &'a Host,
}

/// Reason why a state call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The key is empty, too long or otherwise invalid.
    #[error("state: {0}")]
    InvalidKey(String),
    /// The value or the number of keys is over a limit; the text names the limit.
    #[error("state: {0}")]
    Limit(String),
    /// The value to increment is not an integer, or the sum would leave the range of a signed 64-bit one.
    #[error("increment state key `{key}`: its value is not an integer, or would leave the range of 64 bits")]
    NotANumber {
        /// Key that was to be incremented.
        key: String,
    },
    /// The store can't be reached in time. Trying the job again may help.
    #[error("state: {0}")]
    Unavailable(String),
    /// The stored value is not of the type asked for, or the value to store has no JSON form.
    #[error("value of state key `{key}`")]
    InvalidValue {
        /// Key of the value.
        key: String,
        /// Error of decoding or encoding the value.
        source: InvalidJson,
    },
}

/// Result of a compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the value may not have been the expected one"]
pub enum Swapped {
    /// The value was the expected one. If another job has changed it when this one settles, this attempt is given up and
    /// the job is tried again.
    Yes,
    /// The value was another one; nothing is written.
    No,
}

impl Context {
    /// Returns the plugin's state: small values that last from job to job.
    #[must_use]
    pub fn state(&self) -> State<'_> {
        State { host: self.host() }
    }
}

impl State<'_> {
    /// Returns the value of a key; `None` if there is none.
    ///
    /// # Errors
    /// If the key is invalid, the store can't be reached, or the value isn't JSON of this type.
    pub fn get<T: Decode>(&self, key: &str) -> Result<Option<T>, StateError> {
        match self.host.state_get(key).map_err(|error| StateError::of(key, error))? {
            None => Ok(None),
            Some(bytes) => {
                T::decode(bytes).map(Some).map_err(|source| StateError::invalid_value(key, source))
            }
        }
    }

    /// Sets a key, without a time to live.
    ///
    /// # Errors
    /// If the key is invalid, a limit is exceeded, the store can't be reached, or the value has no JSON form.
    pub fn set(&self, key: &str, value: &(impl Encode + ?Sized)) -> Result<(), StateError> {
        self.set_with(key, value, None)
    }

    /// Sets a key that expires after this time, which counts in whole milliseconds, rounded up.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn set_for(
        &self,
        key: &str,
        value: &(impl Encode + ?Sized),
        ttl: Duration,
    ) -> Result<(), StateError> {
        self.set_with(key, value, Some(ttl))
    }

    /// Removes a key; a key that isn't there is no error.
    ///
    /// # Errors
    /// If the key is invalid or the store can't be reached.
    pub fn delete(&self, key: &str) -> Result<(), StateError> {
        self.host.state_delete(key).map_err(|error| StateError::of(key, error))
    }

    /// Adds to a decimal integer; a missing one counts as 0. Increments of jobs that run at the same time all count, which
    /// a `get` and a `set` can't promise. `get::<i64>` reads the value.
    ///
    /// # Errors
    /// If the key is invalid, its value isn't an integer, the sum leaves the range, or the store can't be reached.
    pub fn increment(&self, key: &str, by: i64) -> Result<(), StateError> {
        self.host.state_increment(key, by).map_err(|error| StateError::of(key, error))
    }

    /// Sets a key to `value` if it is `expected` now, and still is when the job settles; `None` expects that there is no
    /// value.
    ///
    /// The encoded bytes are compared: a type whose JSON isn't always the same, such as a `HashMap`, isn't suitable.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn compare_and_set<T: Encode + ?Sized>(
        &self,
        key: &str,
        expected: Option<&T>,
        value: &T,
    ) -> Result<Swapped, StateError> {
        self.swap_with(key, expected, value, None)
    }

    /// Sets a key as [`Self::compare_and_set`] does, to a value that expires after this time.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn compare_and_set_for<T: Encode + ?Sized>(
        &self,
        key: &str,
        expected: Option<&T>,
        value: &T,
        ttl: Duration,
    ) -> Result<Swapped, StateError> {
        self.swap_with(key, expected, value, Some(ttl))
    }

    fn set_with(
        &self,
        key: &str,
        value: &(impl Encode + ?Sized),
        ttl: Option<Duration>,
    ) -> Result<(), StateError> {
        let value = value.encode().map_err(|source| StateError::invalid_value(key, source))?;
        self.host.state_set(key, &value, ttl).map_err(|error| StateError::of(key, error))
    }

    fn swap_with<T: Encode + ?Sized>(
        &self,
        key: &str,
        expected: Option<&T>,
        value: &T,
        ttl: Option<Duration>,
    ) -> Result<Swapped, StateError> {
        let invalid = |source| StateError::invalid_value(key, source);
        let expected = expected.map(Encode::encode).transpose().map_err(invalid)?;
        let value = value.encode().map_err(invalid)?;
        self.host
            .state_compare_and_set(key, expected.as_deref(), &value, ttl)
            .map_err(|error| StateError::of(key, error))
    }
}

impl StateError {
    fn of(key: &str, error: RawStateError) -> Self {
        match error {
            RawStateError::InvalidKey(text) => Self::InvalidKey(text),
            RawStateError::Limit(text) => Self::Limit(text),
            RawStateError::NotANumber => Self::NotANumber { key: key.to_owned() },
            RawStateError::Unavailable(text) => Self::Unavailable(text),
        }
    }

    fn invalid_value(key: &str, source: InvalidJson) -> Self {
        Self::InvalidValue { key: key.to_owned(), source }
    }
}
