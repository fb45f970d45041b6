//! Circuit breakers, as programs read them.

use std::borrow::Cow;

use sandhog_core::breaker::{Breaker, BreakerTerms};
use sandhog_core::id::{BreakerName, TenantId};
use sandhog_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::time::{at_of, parse_time};

/// JSON document of a breaker. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize, Deserialize)]
pub struct BreakerDocument {
    /// The tenant.
    pub tenant: String,
    /// Name of the breaker: a downstream, or `plugin/` and the name of a plugin.
    pub name: String,
    /// `closed`, `open` or `half-open`; null if the record can't be read.
    pub state: Option<Cow<'static, str>>,
    /// Kinds whose jobs it holds back while it isn't closed.
    pub kinds: Vec<String>,
    /// Number of runs that failed: those within its window, or those that have opened it.
    pub failed: u64,
    /// Number of all of those runs.
    pub ended: u64,
    /// Time since which it isn't closed; null if it is.
    pub since: Option<String>,
    /// Time at which its state changes by itself; null if there is none.
    pub until: Option<String>,
    /// Whether somebody has opened or closed it by hand.
    pub is_forced: bool,
    /// Name of the person who has; null if nobody has, or that is unknown.
    pub by: Option<String>,
    /// Their remark.
    pub note: Option<String>,
    /// Reason why the record can't be read; null if it can be.
    pub problem: Option<String>,
}

/// JSON document of breakers.
#[derive(Debug, Serialize, Deserialize)]
pub struct BreakersDocument {
    /// The breakers, by tenant and name.
    pub breakers: Vec<BreakerDocument>,
}

impl BreakerDocument {
    /// Creates the document of a tenant's breaker with these terms and this record, as it is at this time.
    #[must_use]
    pub fn new(
        tenant: &TenantId,
        name: &BreakerName,
        terms: Option<&BreakerTerms>,
        record: &Result<Breaker, String>,
        now: Timestamp,
    ) -> Self {
        let breaker = record.as_ref().ok().map(|breaker| breaker.at(now));
        let terms = terms.cloned().unwrap_or_default();
        let kinds = if terms.kinds.is_empty() {
            breaker.as_ref().map(|breaker| breaker.kinds().clone()).unwrap_or_default()
        } else {
            terms.kinds
        };
        let tally = breaker.as_ref().map(|breaker| breaker.tally(now, &terms.rule)).unwrap_or_default();
        let forced = breaker.as_ref().and_then(|breaker| breaker.forced(now));
        let gate = breaker.as_ref().and_then(|breaker| breaker.gate()?.swept(now));
        let until_time = match forced {
            Some(forced) => forced.until,
            None => gate.as_ref().and_then(|gate| gate.next()),
        };
        Self {
            tenant: tenant.to_string(),
            name: name.to_string(),
            state: breaker.as_ref().map(|breaker| breaker.state(now).slug().into()),
            kinds: kinds.iter().map(ToString::to_string).collect(),
            failed: tally.failed,
            ended: tally.ended(),
            since: gate.as_ref().and_then(|gate| at_of(gate.since)),
            until: until_time.and_then(at_of),
            is_forced: forced.is_some(),
            by: forced.and_then(|forced| forced.by.clone()),
            note: forced.and_then(|forced| forced.note.clone()),
            problem: record.as_ref().err().cloned(),
        }
    }

    /// Returns the time at which its state changes by itself; `None` if there is none.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        parse_time(self.until.as_deref()?).ok()
    }
}
