//! Breakers as the store has them, and what may be leased of the kinds that they hold back.

use std::collections::{BTreeMap, HashMap};

use sandhog_broker::{BreakerWrite, BreakerWritten};
use sandhog_core::breaker::{Barrier, Pass, Shut};
use sandhog_core::id::{BreakerName, JobId, Kind, TenantId};
use sandhog_core::time::Timestamp;

/// The gates of all tenants' breakers.
#[derive(Default)]
pub(crate) struct Gates {
    gates: BTreeMap<(TenantId, BreakerName), Noted>,
    /// How often a gate was shut.
    pub(crate) shut: usize,
}

struct Noted {
    gate: Barrier,
    /// When it began to let probes through; `None` if it is shut until somebody opens it.
    half_open: Option<Timestamp>,
    /// The probes that are leased, and those that have been.
    probes: HashMap<JobId, bool>,
}

impl Gates {
    /// Takes in a write, and its answer.
    pub(crate) fn write(
        &mut self,
        tenant: &TenantId,
        write: &BreakerWrite,
        written: BreakerWritten,
        now: Timestamp,
    ) {
        if written != BreakerWritten::Done {
            return;
        }
        let key = (tenant.clone(), write.name.clone());
        let Some(gate) = write.record.as_ref().and_then(|record| record.gate.clone()) else {
            self.gates.remove(&key);
            return;
        };
        self.shut += usize::from(gate.pass(now) == Pass::None);
        let before = self.gates.remove(&key).filter(|before| before.gate.since == gate.since);
        let half_open = match gate.shut {
            Shut::Until(until) => Some(until),
            Shut::No => before.as_ref().and_then(|before| before.half_open).or(Some(now)),
            Shut::Always => None,
        };
        let probes = before.map(|before| before.probes).unwrap_or_default();
        self.gates.insert(key, Noted { gate, half_open, probes });
    }

    /// Invariant 18.
    pub(crate) fn lease(&mut self, tenant: &TenantId, job: JobId, kind: &Kind, now: Timestamp) {
        let of_kind = |((of, _), noted): &(&(TenantId, BreakerName), &mut Noted)| {
            of == tenant && noted.gate.kinds.contains(kind)
        };
        for ((_, name), noted) in self.gates.iter_mut().filter(of_kind) {
            match noted.gate.pass(now) {
                Pass::None => panic!("{job} was leased though {name} of {tenant} is open: {:?}", noted.gate),
                Pass::Probes(most) => {
                    noted.probes.insert(job, true);
                    let leased = noted.probes.values().filter(|is_leased| **is_leased).count();
                    assert!(leased <= most.get() as usize, "{leased} probes of {name}, and {most} may be");
                }
                Pass::All => {}
            }
        }
    }

    /// Takes in that a job is leased no more.
    pub(crate) fn end(&mut self, job: JobId) {
        for noted in self.gates.values_mut() {
            noted.probes.entry(job).and_modify(|is_leased| *is_leased = false);
        }
    }
}
