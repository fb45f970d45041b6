//! Use case on metrics: telling them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sandhog_api::Problem;
use sandhog_broker::{Error, QUEUES_PAGE_MAX, QueueCensus};
use sandhog_config::Config;
use sandhog_core::breaker::BreakerState;
use sandhog_core::id::{QueueName, TenantId};
use sandhog_core::time::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::{Caller, Role, Service, breakers, schedules, tenants};
use crate::telemetry::metrics::OTHER;
use crate::telemetry::metrics::families::{
    BREAKER_STATE, BROKER_UP, JOBS, OLDEST_READY, QUEUE_JOBS, SCHEDULE_FIRED, SCHEDULE_LAST_FIRED,
    SCHEDULE_MISSED, SCHEDULE_NEXT, SCHEDULE_SKIPPED, UNREADABLE, WAITING_BYTES_LIMIT, WAITING_LIMIT,
};
#[cfg(test)]
pub(crate) use crate::telemetry::metrics::parse::parse;
pub use crate::telemetry::metrics::text::CONTENT_TYPE;
use crate::telemetry::metrics::text::Exposition;

/// Maximum time that the broker may take for all tenants of a scrape. Prometheus waits for ten seconds, if nothing else is said.
const STORE_TIME: Duration = Duration::from_secs(8);

/// States that a breaker may be in.
const BREAKER_STATES: [BreakerState; 3] = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];

/// Returns the metrics of this process and of the store, as Prometheus reads them: of the tenants in scope, and of the process as a
/// whole if all are. What of a tenant the broker can't be asked about is left out.
///
/// # Errors
/// The caller may not look.
pub async fn text(service: &Service, caller: &Caller) -> Result<String, Problem> {
    caller.needs(Role::Observe)?;
    let mut exposition = Exposition::default();
    service.metrics.expose(&mut exposition, caller.sees_all(), |tenant| caller.sees(tenant));
    let config = service.config();
    let until = Instant::now() + STORE_TIME;
    let in_scope: Vec<TenantId> = tenants::in_scope(&config, caller).cloned().collect();
    for tenant in &in_scope {
        let bounds = config.tenants.get(tenant).map(|terms| terms.queue);
        if let Some(bounds) = bounds {
            exposition.add(&WAITING_LIMIT, &[tenant.as_str()], bounds.jobs as f64);
            exposition.add(&WAITING_BYTES_LIMIT, &[tenant.as_str()], bounds.bytes.0 as f64);
        }
        let looks = async {
            of_store(service, &config, tenant, &mut exposition).await?;
            of_rules(service, caller, tenant, &mut exposition).await;
            Ok::<_, Error>(())
        };
        let is_up = match timeout_at(until, looks).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::debug!(%tenant, %error, "metrics of the store are left out");
                false
            }
            Err(_) => {
                tracing::debug!(%tenant, "metrics of the store are left out, as it takes too long");
                false
            }
        };
        exposition.add(&BROKER_UP, &[tenant.as_str()], is_up.into());
    }
    Ok(exposition.into_text())
}

/// Adds what the store tells of a tenant's jobs.
async fn of_store(
    service: &Service,
    config: &Config,
    tenant: &TenantId,
    into: &mut Exposition,
) -> Result<(), Error> {
    let name = tenant.as_str();
    let counts = service.broker.counts(tenant).await?;
    for (state, count) in counts.iter() {
        into.add(&JOBS, &[name, state.slug()], count as f64);
    }
    into.add(&UNREADABLE, &[name], counts.unreadable as f64);
    let (queues, now) = census(service, config, tenant).await?;
    for (queue, sums) in &queues {
        for (state, count) in [
            ("scheduled", sums.scheduled),
            ("ready", Some(sums.ready)),
            ("blocked", sums.blocked),
            ("leased", sums.leased),
        ] {
            if let Some(count) = count {
                into.add(&QUEUE_JOBS, &[name, queue, state], count as f64);
            }
        }
        let age = sums.oldest_ready.map_or(0.0, |at| now.since(at).as_secs_f64());
        into.add(&OLDEST_READY, &[name, queue], age);
    }
    Ok(())
}

/// Numbers of jobs of a queue, or of several together.
struct Sums {
    ready: u64,
    scheduled: Option<u64>,
    blocked: Option<u64>,
    leased: Option<u64>,
    oldest_ready: Option<Timestamp>,
}

impl Default for Sums {
    fn default() -> Self {
        let none = Some(0);
        Self { ready: 0, scheduled: none, blocked: none, leased: none, oldest_ready: None }
    }
}

impl Sums {
    fn add(&mut self, census: &QueueCensus) {
        let sum = |sum: &mut Option<u64>, more: Option<u64>| {
            *sum = sum.zip(more).map(|(sum, more)| sum.saturating_add(more));
        };
        self.ready = self.ready.saturating_add(census.ready);
        sum(&mut self.scheduled, census.scheduled);
        sum(&mut self.blocked, census.blocked);
        sum(&mut self.leased, census.leased);
        self.oldest_ready = self.oldest_ready.into_iter().chain(census.oldest_ready).min();
    }
}

/// Returns the numbers of the queues that the configuration names, those of all others together, and the time of the look.
async fn census(
    service: &Service,
    config: &Config,
    tenant: &TenantId,
) -> Result<(BTreeMap<String, Sums>, Timestamp), Error> {
    let plugins = config.plugins.iter().filter(|plugin| plugin.tenant == *tenant);
    let ruled = config.tenants.get(tenant).into_iter().flat_map(|terms| terms.group_rules.keys());
    let known: BTreeSet<&QueueName> = plugins.map(|plugin| &plugin.queue).chain(ruled).collect();
    let mut sums: BTreeMap<String, Sums> =
        known.iter().map(|queue| (queue.to_string(), Sums::default())).collect();
    let mut after = None;
    loop {
        let page = service.broker.queues(tenant, after, QUEUES_PAGE_MAX).await?;
        for census in &page.queues {
            let label = if known.contains(&census.queue) { census.queue.as_str() } else { OTHER };
            sums.entry(label.to_owned()).or_default().add(census);
        }
        after = page.next;
        if after.is_none() {
            return Ok((sums, page.now));
        }
    }
}

/// Adds what the store tells of a tenant's breakers and schedules. What can't be had is left out.
async fn of_rules(service: &Service, caller: &Caller, tenant: &TenantId, into: &mut Exposition) {
    let name = tenant.as_str();
    match breakers::list(service, caller, tenant).await {
        Ok((now, found)) => {
            for found in found {
                let Ok(breaker) = found.record else { continue };
                let is = breaker.state(now);
                for state in BREAKER_STATES {
                    let labels = [name, found.name.as_str(), state.slug()];
                    into.add(&BREAKER_STATE, &labels, (state == is).into());
                }
            }
        }
        Err(problem) => tracing::debug!(%tenant, %problem, "the metrics of breakers are left out"),
    }
    match schedules::list(service, caller, tenant).await {
        Ok((_, found)) => {
            for found in found {
                let Ok(record) = found.record else { continue };
                let labels = [name, found.name.as_str()];
                let counts = record.progress.counts;
                into.add(&SCHEDULE_FIRED, &labels, counts.fired as f64);
                into.add(&SCHEDULE_MISSED, &labels, counts.missed as f64);
                into.add(&SCHEDULE_SKIPPED, &labels, counts.skipped as f64);
                let fired = record.progress.last.iter().rev().find(|past| past.what.job().is_some());
                let seconds = |at: Timestamp| at.as_millis() as f64 / 1000.0;
                if let Some(fired) = fired {
                    into.add(&SCHEDULE_LAST_FIRED, &labels, seconds(fired.nominal));
                }
                if let Some(next) = record.next_nominal().filter(|_| !record.is_paused()) {
                    into.add(&SCHEDULE_NEXT, &labels, seconds(next));
                }
            }
        }
        Err(problem) => tracing::debug!(%tenant, %problem, "the metrics of schedules are left out"),
    }
}
