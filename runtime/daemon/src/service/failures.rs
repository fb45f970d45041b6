//! Use case on failures: dead jobs in groups of those that died of the same.

use std::cmp::Reverse;
use std::collections::HashMap;

use sandhog_api::{FailureDocument, FailuresDocument, Problem};
use sandhog_broker::{Filter, Page, Query};
use sandhog_core::fingerprint::{Fingerprint, pattern};
use sandhog_core::id::{Kind, TenantId};
use sandhog_core::job::{JobRecord, State};
use sandhog_core::reason::Reason;
use sandhog_core::time::Timestamp;

use super::jobs::page;
use super::{Caller, Role, Service, tenants};

/// Maximum number of dead jobs that one look groups.
pub const FAILURES_LOOKED_AT_MAX: u64 = 20_000;

/// Maximum number of pages of the broker that one look reads, whatever the filter finds on them.
const PAGES_MAX: usize = 50;

/// Maximum number of groups that are shown.
pub const FAILURES_SHOWN_MAX: usize = 1000;

/// Maximum number of revisions that a group names.
const REVISIONS_MAX: usize = 8;

/// Maximum length of the message that a group shows, in characters.
const MESSAGE_MAX: usize = 2000;

/// Dead jobs that are asked for.
#[derive(Debug, Clone, Default)]
pub struct Failed {
    /// Kind of the jobs. `None` for any.
    pub kind: Option<Kind>,
    /// Reason why they are dead. `None` for any.
    pub reason: Option<Reason>,
    /// Earliest time at which they died, inclusive.
    pub since: Option<Timestamp>,
    /// Latest time at which they died, exclusive.
    pub until: Option<Timestamp>,
}

/// Looks at the latest dead jobs of the tenants that are meant, and groups them. Shows up to `limit` groups.
///
/// # Errors
/// There is no such tenant in scope, or the broker can't be asked.
pub async fn find(
    service: &Service,
    caller: &Caller,
    tenant: Option<&TenantId>,
    failed: &Failed,
    limit: usize,
) -> Result<FailuresDocument, Problem> {
    caller.needs(Role::Observe)?;
    let tenants = tenants::find(service, caller, tenant)?;
    let (mut groups, mut complete) = (Groups::default(), true);
    for (n, tenant) in tenants.iter().enumerate() {
        // Each tenant has its part of what is left, so that one with many hides no other.
        let share = (FAILURES_LOOKED_AT_MAX - groups.looked_at).div_ceil((tenants.len() - n) as u64);
        complete &= look(service, caller, tenant, failed, share, &mut groups).await?;
    }
    Ok(groups.document(limit, complete))
}

/// Looks at up to `most` dead jobs of a tenant. Returns whether these are all.
async fn look(
    service: &Service,
    caller: &Caller,
    tenant: &TenantId,
    failed: &Failed,
    most: u64,
    groups: &mut Groups,
) -> Result<bool, Problem> {
    let Failed { kind, reason, since, until } = failed.clone();
    let mut filter = Filter { kind, reason, ..Filter::default() };
    filter.last.finished_until = until;
    let (mut after, mut left) = (None, most);
    for _ in 0..PAGES_MAX {
        let limit = u32::try_from(left).unwrap_or(u32::MAX).min(Query::LIMIT_MAX);
        if limit == 0 {
            return Ok(false);
        }
        let query = Query { filter: filter.clone(), after, payloads: false, ..Query::of(State::Dead, limit) };
        let Page { jobs, next, .. } = page(service, caller, tenant, query).await?;
        for job in &jobs {
            // The latest come first, so all others died before that as well.
            if since.is_some_and(|since| job.finished_at.is_some_and(|at| at < since)) {
                return Ok(true);
            }
            groups.add(job);
            left -= 1;
        }
        if next.is_none() {
            return Ok(true);
        }
        after = next;
    }
    Ok(false)
}

/// Groups of dead jobs, as they are found.
#[derive(Default)]
struct Groups {
    by: HashMap<(TenantId, Kind, Option<Reason>, String), FailureDocument>,
    looked_at: u64,
}

impl Groups {
    /// Adds a job that died before all those of its tenant that were added.
    fn add(&mut self, job: &JobRecord) {
        self.looked_at += 1;
        let message = job.message.as_deref().unwrap_or_default();
        let key = (job.tenant.clone(), job.kind.clone(), job.reason, pattern(message));
        let group =
            self.by.entry(key).or_insert_with_key(|(tenant, kind, reason, pattern)| FailureDocument {
                fingerprint: Fingerprint::of(kind, *reason, pattern).to_string(),
                tenant: tenant.to_string(),
                kind: kind.to_string(),
                queue: job.queue.to_string(),
                reason: reason.map(|reason| reason.slug().into()),
                message: message.chars().take(MESSAGE_MAX).collect(),
                pattern: pattern.clone(),
                jobs: 0,
                first: None,
                last: job.finished_at.map(Into::into),
                revisions: Vec::new(),
                example: job.id.to_string(),
            });
        group.jobs += 1;
        group.first = job.finished_at.map(Into::into);
        if let Some(revision) = job.revision.map(|revision| revision.to_string())
            && group.revisions.len() < REVISIONS_MAX
            && !group.revisions.contains(&revision)
        {
            group.revisions.push(revision);
        }
    }

    fn document(self, limit: usize, complete: bool) -> FailuresDocument {
        let mut groups: Vec<FailureDocument> = self.by.into_values().collect();
        groups.sort_by(|a, b| {
            let order = |group: &FailureDocument| (Reverse(group.jobs), Reverse(group.last));
            order(a).cmp(&order(b)).then_with(|| a.fingerprint.cmp(&b.fingerprint))
        });
        let left_out = groups.len().saturating_sub(limit) as u64;
        groups.truncate(limit);
        FailuresDocument { groups, left_out, looked_at: self.looked_at, complete }
    }
}
