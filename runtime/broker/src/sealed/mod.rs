//! A layer around a broker that encrypts the data of tenants that have keys, so that the store sees only ciphertext of it.
//!
//! ```text
//! mod.rs    the layer: tenants without keys pass through as they are     envelope.rs  bytes bound to their place
//! sealer.rs  jobs, records and logs of one tenant, sealed and opened      settle.rs    effects on sealed state
//! cipher.rs what a key does
//! ```
//!
//! Payloads, outputs, values of state, failure messages, progress messages, log lines with their fields, and notes of holds are sealed. Each
//! is bound to its tenant and its place (a job's id and, for a payload, its kind; a plugin and a key), so that it doesn't
//! open if it is moved elsewhere. What the store or an operator has to go by stays in plain text: ids, kinds, queues,
//! priorities, unique keys, names of plugins and of state keys, times, states and reasons, numbers of progress and usage, and
//! the length of what is sealed. Events have nothing else, so there is nothing to seal in them.
//!
//! Somebody who can write to the store can still delete, repeat jobs, and put back an older value of the same state key.
//! Nothing here tells an old value from the latest one.
//!
//! Settling effects that compare or add to state reads that state first, and again whenever a different job was faster.

mod cipher;
mod envelope;
mod sealer;
mod settle;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sandhog_core::attempt::SettleReply;
use sandhog_core::edit::Edited;
use sandhog_core::id::{DaemonId, TenantId};
use sandhog_core::job::{Job, Lease, NewJob};
use sandhog_core::quota::QueueBounds;

pub use self::cipher::random_key;
use self::envelope::Unopened;
use self::sealer::Sealer;
use crate::{
    Broker, Command, DaemonReport, Enqueued, Error, Filter, Fleet, LeaseAsk, Leased, Look, Outcome, Query,
    Renew, Renewal, Result, Seen, Settle, Wakes,
};
pub use sandhog_core::keyring::{Key, Keyring, NoKey, Plain};

/// The keyrings of tenants.
pub trait Keys: Send + Sync + 'static {
    /// Returns the tenant's keyring, or `None` if it has no keys and its data is stored in plain text.
    fn of(&self, tenant: &TenantId) -> Option<Keyring>;
}

impl Keys for BTreeMap<TenantId, Keyring> {
    fn of(&self, tenant: &TenantId) -> Option<Keyring> {
        self.get(tenant).cloned()
    }
}

/// A broker that seals what it stores in another.
pub struct Sealed<K> {
    behind: Arc<dyn Broker>,
    keys: K,
}

impl<K: Keys> Sealed<K> {
    /// Creates a layer that seals what goes to the broker behind it for tenants with keys.
    #[must_use]
    pub fn new(behind: Arc<dyn Broker>, keys: K) -> Self {
        Self { behind, keys }
    }

    fn sealer<'t>(&self, tenant: &'t TenantId) -> Option<Sealer<'t>> {
        Some(Sealer { tenant, keys: self.keys.of(tenant)? })
    }

    /// Opens the payloads of leased jobs. A job that can't be opened is released or buried, and affects no other.
    async fn open_leases(&self, sealer: &Sealer<'_>, leases: Vec<Lease>) -> Vec<Lease> {
        let mut opened = Vec::with_capacity(leases.len());
        let mut refused = Vec::new();
        for mut lease in leases {
            match sealer.open_job(&mut lease.job) {
                Ok(()) => opened.push(lease),
                Err(why) => refused.push(self.refuse(sealer, &lease, &why)),
            }
        }
        // If this call fails, their leases run out by themselves.
        if !refused.is_empty()
            && let Err(error) = self.behind.settle(sealer.tenant, &refused).await
        {
            tracing::warn!(tenant = %sealer.tenant, %error, "jobs that can't be opened could not be given back");
        }
        opened
    }

    fn refuse(&self, sealer: &Sealer<'_>, lease: &Lease, why: &Unopened) -> Settle {
        let (tenant, job) = (sealer.tenant, lease.job.id);
        let Job { kind, unique_key, options, .. } = &lease.job;
        let place = sealer::payload_of(job, kind, unique_key.as_ref(), options);
        let settle = sealer.refusal(lease.token, lease.job.faults, place, why);
        tracing::warn!(%tenant, %job, %why, becomes = settle.settlement.slug(), "a job's payload can't be opened");
        settle
    }
}

/// Returns a query without what the store can't look for, as it is sealed there. The layer goes by it once the answer is opened.
fn without_text(look: Look) -> Look {
    match look {
        Look::Jobs(query) => {
            let filter = Filter { message: String::new(), ..query.filter };
            Look::Jobs(Query { filter, ..query })
        }
        other => other,
    }
}

#[async_trait]
impl<K: Keys> Broker for Sealed<K> {
    async fn enqueue_within(
        &self,
        tenant: &TenantId,
        jobs: &[NewJob],
        bounds: &QueueBounds,
    ) -> Result<Vec<Enqueued>> {
        match self.sealer(tenant) {
            None => self.behind.enqueue_within(tenant, jobs, bounds).await,
            Some(sealer) => {
                self.behind.enqueue_within(tenant, &sealer.jobs(jobs)?, &sealer.bounds(bounds)).await
            }
        }
    }

    async fn lease(&self, ask: LeaseAsk<'_>) -> Result<Leased> {
        let mut leased = self.behind.lease(ask).await?;
        if let Some(sealer) = self.sealer(ask.tenant) {
            leased.leases = self.open_leases(&sealer, leased.leases).await;
        }
        Ok(leased)
    }

    async fn renew(&self, tenant: &TenantId, ttl: Duration, leases: &[Renew]) -> Result<Vec<Renewal>> {
        let Some(sealer) = self.sealer(tenant) else { return self.behind.renew(tenant, ttl, leases).await };
        let sealed = leases.iter().map(|renew| sealer.renew(renew)).collect::<Result<Vec<_>>>()?;
        self.behind.renew(tenant, ttl, &sealed).await
    }

    async fn settle(&self, tenant: &TenantId, settlements: &[Settle]) -> Result<Vec<SettleReply>> {
        match self.sealer(tenant) {
            None => self.behind.settle(tenant, settlements).await,
            Some(sealer) => settle::settle(&*self.behind, &sealer, settlements).await,
        }
    }

    async fn control(&self, tenant: &TenantId, command: Command) -> Result<Outcome> {
        let command = match (command, self.sealer(tenant)) {
            (Command::Schedule(write), Some(sealer)) => Command::Schedule(Box::new(sealer.schedule(&write)?)),
            (Command::Breaker(write), Some(sealer)) => Command::Breaker(Box::new(sealer.breaker(*write)?)),
            (Command::Hold(hold), Some(sealer)) => Command::Hold(Box::new(sealer.hold(*hold)?)),
            (Command::LimitGroup { queue, group, change }, Some(sealer)) => {
                let change = Box::new(sealer.group_limit(&queue, &group, *change)?);
                Command::LimitGroup { queue, group, change }
            }
            (Command::Flow { flow, bounds }, Some(sealer)) => {
                let flow = flow.with_payloads(|job| Ok(sealer.job(job)?.payload))?;
                Command::Flow { flow: Box::new(flow), bounds: sealer.bounds(&bounds) }
            }
            (Command::Edit { job, edit, bounds }, Some(sealer)) if edit.payload.is_some() => {
                // A payload is bound to what never changes of its job.
                let edit = match self.behind.job(tenant, job).await {
                    Ok(Some(record)) => sealer.edit(*edit, &record)?,
                    Ok(None) => return Ok(Outcome::Edited(Edited::Unknown)),
                    Err(Error::Corrupt { .. }) => return Ok(Outcome::Edited(Edited::Unreadable)),
                    Err(error) => return Err(error),
                };
                Command::Edit { job, edit: Box::new(edit), bounds: sealer.bounds(&bounds) }
            }
            // The others say nothing that is anybody's secret.
            (
                plain @ (Command::Jobs { .. }
                | Command::Edit { .. }
                | Command::Sweep(_)
                | Command::Purge { .. }
                | Command::Trial(_)
                | Command::Flow { .. }
                | Command::Breaker(_)
                | Command::Hold(_)
                | Command::Lift(_)
                | Command::SetGroupRules(_)
                | Command::ReleaseGroup { .. }
                | Command::LimitGroup { .. }
                | Command::Schedule(_)
                | Command::RecordEvents(_)),
                _,
            ) => plain,
        };
        self.behind.control(tenant, command).await
    }

    async fn look(&self, tenant: &TenantId, look: Look) -> Result<Seen> {
        match self.sealer(tenant) {
            None => self.behind.look(tenant, look).await,
            Some(sealer) => {
                let seen = self.behind.look(tenant, without_text(look.clone())).await?;
                sealer.open_seen(&look, seen)
            }
        }
    }

    async fn watch(&self, tenants: Vec<TenantId>) -> Result<Wakes> {
        self.behind.watch(tenants).await
    }

    async fn tenants(&self) -> Result<Vec<TenantId>> {
        self.behind.tenants().await
    }

    async fn report_daemon(&self, id: DaemonId, report: Option<&DaemonReport>) -> Result<()> {
        self.behind.report_daemon(id, report).await
    }

    async fn daemons(&self) -> Result<Fleet> {
        self.behind.daemons().await
    }

    async fn check(&self) -> Result<Vec<String>> {
        self.behind.check().await
    }
}
