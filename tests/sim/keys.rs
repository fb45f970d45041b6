//! Unique keys, and who holds them.

use std::collections::{HashMap, HashSet};

use sandhog_core::id::{JobId, LeaseNo, TenantId, UniqueKey};
use sandhog_core::job::JobRecord;
use sandhog_core::unique::UniqueUntil;

/// The latest holder of each key, and the jobs that were not stored as another held theirs.
#[derive(Default)]
pub(crate) struct Keys {
    holders: HashMap<(TenantId, UniqueKey), (JobId, UniqueUntil)>,
    refused: HashSet<(TenantId, JobId)>,
    /// How often a job wasn't stored.
    pub(crate) clashes: usize,
}

impl Keys {
    /// The job that has had a key last.
    pub(crate) fn holder(&self, tenant: &TenantId, key: &UniqueKey) -> Option<(JobId, UniqueUntil)> {
        self.holders.get(&(tenant.clone(), key.clone())).copied()
    }

    /// Takes in that a job was stored that has this key.
    pub(crate) fn take(&mut self, tenant: &TenantId, key: &UniqueKey, job: JobId, until: UniqueUntil) {
        self.refused.remove(&(tenant.clone(), job));
        self.holders.insert((tenant.clone(), key.clone()), (job, until));
    }

    /// Takes in that a job wasn't stored, as another holds its key.
    pub(crate) fn refuse(&mut self, tenant: &TenantId, job: JobId) {
        self.clashes += 1;
        self.refused.insert((tenant.clone(), job));
    }

    /// How many jobs of a tenant aren't there for that reason.
    pub(crate) fn refused(&self, tenant: &TenantId) -> u64 {
        self.refused.iter().filter(|(of, _)| of == tenant).count() as u64
    }
}

/// Whether a job still holds a key that it has had, as this is its record and its rule.
pub(crate) fn holds(record: &JobRecord, until: UniqueUntil) -> bool {
    let was_leased = record.lease > LeaseNo(0);
    !record.state.is_final() && (until == UniqueUntil::Settled || !was_leased)
}
