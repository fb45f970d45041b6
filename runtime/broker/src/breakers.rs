//! Breakers as stores keep them: a record for each, which means nothing to the store but for its gate.

use std::num::NonZeroU32;

use sandhog_core::breaker::{Barrier, Breaker, Pass};
use sandhog_core::hold::Hold;
use sandhog_core::id::{BreakerName, Kind};
use sandhog_core::time::Timestamp;

/// A change of a breaker's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerWrite {
    /// The breaker.
    pub name: BreakerName,
    /// Version that the stored record has to have; `None` if there has to be none.
    pub expected: Option<u64>,
    /// The record to be stored, or `None` to remove it, and the gate with it.
    pub record: Option<BreakerRecord>,
}

/// The record of a breaker, as it is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerRecord {
    /// The record: see [`Breaker::to_bytes`].
    pub bytes: Vec<u8>,
    /// Barrier that keeps jobs from being leased; `None` if there is none.
    pub gate: Option<Barrier>,
}

impl BreakerRecord {
    /// Returns what is to be stored of a breaker at this time; `None` if nothing has to be.
    #[must_use]
    pub fn of(breaker: &Breaker, now: Timestamp) -> Option<Self> {
        let breaker = breaker.at(now);
        let gate = breaker.gate().and_then(|gate| gate.swept(now));
        (!breaker.is_idle()).then(|| Self { bytes: breaker.to_bytes(), gate })
    }
}

/// Result of a [`BreakerWrite`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerWritten {
    /// The record was written.
    Done,
    /// The stored record has another version, as somebody else was faster. Nothing was changed.
    Stale,
    /// The tenant has [`BREAKERS_MAX`](sandhog_core::breaker::BREAKERS_MAX) breakers already. Nothing was changed.
    TooMany,
}

/// Breakers of a tenant that are stored: those of which something is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breakers {
    /// Time of the look, by the store's clock, from which all decisions are made.
    pub now: Timestamp,
    /// The breakers, in the order of their names.
    pub breakers: Vec<StoredBreaker>,
}

/// A breaker that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBreaker {
    /// The breaker.
    pub name: BreakerName,
    /// Version of the record, which rises with each write.
    pub version: u64,
    /// The record, or the reason why it can't be opened.
    pub record: Result<Vec<u8>, String>,
}

impl StoredBreaker {
    /// Reads the record.
    ///
    /// # Errors
    /// The reason why it can't be read.
    pub fn read(&self) -> Result<Breaker, String> {
        let bytes = self.record.as_ref().map_err(String::clone)?;
        Breaker::from_bytes(bytes).map_err(|error| error.to_string())
    }
}

/// The gates of a tenant's breakers at a time.
#[derive(Debug, Clone)]
pub(crate) struct Barriers {
    gates: Vec<(BreakerName, Barrier)>,
    now: Timestamp,
}

impl Barriers {
    /// Creates those of these gates that don't let all jobs pass.
    pub(crate) fn new(gates: impl IntoIterator<Item = (BreakerName, Barrier)>, now: Timestamp) -> Self {
        let gates = gates.into_iter().filter(|(_, gate)| gate.pass(now) != Pass::All).collect();
        Self { gates, now }
    }

    fn of<'a>(&'a self, kind: &'a Kind) -> impl Iterator<Item = (&'a BreakerName, Pass)> {
        let covers = self.gates.iter().filter(move |(_, gate)| gate.kinds.contains(kind));
        covers.map(|(name, gate)| (name, gate.pass(self.now)))
    }

    /// Whether all jobs pass.
    pub(crate) fn are_open(&self) -> bool {
        self.gates.is_empty()
    }

    /// Whether no job of this kind passes.
    pub(crate) fn is_shut(&self, kind: &Kind) -> bool {
        self.of(kind).any(|(_, pass)| pass == Pass::None)
    }

    /// Returns the breakers that let jobs of this kind through as probes, each with the maximum number at once.
    pub(crate) fn probing<'a>(
        &'a self,
        kind: &'a Kind,
    ) -> impl Iterator<Item = (&'a BreakerName, NonZeroU32)> {
        self.of(kind).filter_map(|(name, pass)| match pass {
            Pass::Probes(most) => Some((name, most)),
            Pass::None | Pass::All => None,
        })
    }

    /// Returns what is held back, as holds.
    pub(crate) fn holds(&self) -> impl Iterator<Item = Hold> {
        self.gates.iter().flat_map(|(name, gate)| gate.holds(name, self.now))
    }
}

/// Puts holds into the order in which they are listed.
pub(crate) fn sort_holds(holds: &mut [Hold]) {
    holds.sort_by(|one, other| {
        (&one.scope, one.reason, &one.by).cmp(&(&other.scope, other.reason, &other.by))
    });
}
