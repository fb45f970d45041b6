//! `sandhog jobs`: many jobs.

use std::cmp::Reverse;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use sandhog_broker::Query;
use sandhog_core::id::TenantId;
use sandhog_core::job::{JobRecord, State};

use super::client::Client;
use super::console::{Console, Format};
use super::exit::{Exit, Failure};
use super::render::job::{self as render, CountsDocument, JobDocument, PageDocument, Tenants};
use super::wait::{Patience, wait_until_idle};
use crate::broker::Access;
use crate::config::units::parse_time;

/// List jobs, and count them by state
#[derive(Debug, Args)]
#[command(after_help = "Without --state, jobs of every state are listed, the latest first.")]
pub(super) struct Jobs {
    /// Of one state only: those waiting in the order in which they go, those final with the latest first
    #[arg(long, short, value_parser = states())]
    state: Option<State>,
    /// Of one tenant only
    #[arg(long, short, value_name = "NAME")]
    tenant: Option<TenantId>,
    /// How many at most, of each tenant
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = limit())]
    limit: u32,
    /// Wait until no job is waiting or running any more
    #[arg(long)]
    wait: bool,
    /// With --wait: no longer than this
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "wait")]
    timeout: Option<Duration>,
}

fn states() -> impl TypedValueParser<Value = State> {
    let slugs = PossibleValuesParser::new(State::ALL.map(State::slug));
    slugs.map(|slug| State::from_slug(&slug).expect("only slugs of states are possible"))
}

fn limit() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(Query::LIMIT_MAX))
}

impl Jobs {
    pub(super) async fn execute(self, config: &Path, console: &Console) -> Result<Exit, Failure> {
        let client = Client::connect(config, Access::Look).await?;
        let tenants = client.tenants(self.tenant.as_ref())?;
        if self.wait {
            wait_until_idle(&client, &tenants, Patience::new(self.timeout), console).await?;
        }
        let (mut jobs, mut counts) = (Vec::new(), Vec::new());
        for tenant in &tenants {
            jobs.extend(self.of_tenant(&client, tenant).await?);
            counts.push(client.broker.counts(tenant).await?);
        }
        let counts = tenants.iter().zip(counts);
        match console.format {
            Format::Json => {
                let jobs = jobs.into_iter().map(|job| JobDocument::new(job, None)).collect();
                let tenants = counts.map(|(tenant, counts)| CountsDocument::new(tenant, counts)).collect();
                console.json(&PageDocument { jobs, tenants })?;
            }
            Format::People => {
                let paint = console.paint();
                let lines: Vec<String> =
                    counts.map(|(tenant, counts)| render::counts(tenant, counts, paint)).collect();
                let lines = lines.join("\n");
                let several = if tenants.len() > 1 { Tenants::Several } else { Tenants::One };
                let text = match jobs.is_empty() {
                    true => lines,
                    false => format!("{}\n\n{lines}", render::jobs(&jobs, several, paint)),
                };
                console.result(&text)?;
            }
        }
        Ok(Exit::Ok)
    }

    async fn of_tenant(&self, client: &Client, tenant: &TenantId) -> Result<Vec<JobRecord>, Failure> {
        let query = |state| Query { payloads: false, ..Query::of(state, self.limit) };
        if let Some(state) = self.state {
            return Ok(client.broker.jobs(tenant, query(state)).await?.jobs);
        }
        let mut jobs = Vec::new();
        for state in State::ALL {
            jobs.extend(client.broker.jobs(tenant, query(state)).await?.jobs);
        }
        // A job may have changed its state in between, and be there twice; then what was found last counts.
        jobs.reverse();
        jobs.sort_by_key(|job| Reverse(job.id));
        jobs.dedup_by_key(|job| job.id);
        jobs.truncate(self.limit as usize);
        Ok(jobs)
    }
}
