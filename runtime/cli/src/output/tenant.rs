//! Output of tenants, as the broker knows them.

use comfy_table::Cell;
pub use sandhog_api::{TenantDocument, TenantsDocument};
use sandhog_broker::{Counts, Result};
use sandhog_config::Config;
use sandhog_core::id::TenantId;
use serde::Serialize;

use super::{Column, Paint, table};

/// JSON document of a tenant that was removed.
#[derive(Debug, Serialize)]
pub struct PurgedDocument {
    /// The tenant's name.
    pub tenant: String,
    /// Number of jobs that it had.
    pub jobs: u64,
}

/// Creates the document of a tenant with these jobs.
#[must_use]
pub fn document(config: &Config, tenant: &TenantId, counts: Result<Counts>) -> TenantDocument {
    let (counts, problem) = match counts {
        Ok(counts) => (Some(counts), None),
        Err(error) => (None, Some(error.to_string())),
    };
    TenantDocument {
        tenant: tenant.to_string(),
        configured: config.tenants.contains_key(tenant),
        plugins: config.plugins.iter().filter(|plugin| plugin.tenant == *tenant).count() as u64,
        counts: counts.map(|counts| counts.iter().collect()),
        problem,
    }
}

/// Renders the numbers of a tenant's jobs.
fn jobs(tenant: &TenantDocument) -> String {
    let Some(counts) = &tenant.counts else { return tenant.problem.clone().unwrap_or_default() };
    let there = counts.0.iter().filter(|(_, n)| *n > 0);
    let there: Vec<String> = there.map(|(state, n)| format!("{n} {state}")).collect();
    if there.is_empty() { "none".to_owned() } else { there.join(", ") }
}

/// Renders tenants for people, a line each.
#[must_use]
pub fn tenants(tenants: &[TenantDocument], paint: Paint) -> String {
    if tenants.is_empty() {
        return "there are no tenants".to_owned();
    }
    let columns =
        [Column::Left("tenant"), Column::Left("configured"), Column::Right("plugins"), Column::Left("jobs")];
    let rows = tenants.iter().map(|tenant| {
        let configured = if tenant.configured { "yes" } else { "no" };
        vec![
            Cell::new(&tenant.tenant),
            Cell::new(configured),
            Cell::new(tenant.plugins),
            Cell::new(jobs(tenant)),
        ]
    });
    table(&columns, rows, paint)
}
