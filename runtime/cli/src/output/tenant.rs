//! Output of tenants, as the broker knows them.

use comfy_table::Cell;
use sandhog_broker::{Counts, Result};
use sandhog_config::Config;
use sandhog_core::id::TenantId;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Column, Paint, table};

/// JSON document of the tenants.
#[derive(Debug, Serialize)]
pub struct TenantsDocument {
    /// The tenants, by name.
    pub tenants: Vec<TenantDocument>,
}

/// JSON document of a tenant.
#[derive(Debug, Serialize)]
pub struct TenantDocument {
    /// The tenant's name.
    pub tenant: String,
    /// Whether it is in the configuration.
    pub configured: bool,
    /// Number of plugins that it has in the configuration.
    pub plugins: u64,
    /// Numbers of its jobs, by the slug of their state; null if they can't be counted.
    pub counts: Option<Map<String, Value>>,
    /// The reason why they can't be counted.
    pub problem: Option<String>,
}

/// JSON document of a tenant that was removed.
#[derive(Debug, Serialize)]
pub struct PurgedDocument {
    /// The tenant's name.
    pub tenant: String,
    /// Number of jobs that it had.
    pub jobs: u64,
}

impl TenantDocument {
    /// Creates the document of a tenant with these jobs.
    #[must_use]
    pub fn new(config: &Config, tenant: &TenantId, counts: Result<Counts>) -> Self {
        let (counts, problem) = match counts {
            Ok(counts) => (Some(counts), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let by_slug = |counts: Counts| {
            counts.iter().map(|(state, n)| (state.slug().to_owned(), n.into())).collect::<Map<_, _>>()
        };
        Self {
            tenant: tenant.to_string(),
            configured: config.tenants.contains_key(tenant),
            plugins: config.plugins.iter().filter(|plugin| plugin.tenant == *tenant).count() as u64,
            counts: counts.map(by_slug),
            problem,
        }
    }

    fn jobs(&self) -> String {
        let Some(counts) = &self.counts else { return self.problem.clone().unwrap_or_default() };
        let there = counts.iter().filter(|(_, n)| n.as_u64() != Some(0));
        let there: Vec<String> = there.map(|(state, n)| format!("{n} {state}")).collect();
        if there.is_empty() { "none".to_owned() } else { there.join(", ") }
    }
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
            Cell::new(tenant.jobs()),
        ]
    });
    table(&columns, rows, paint)
}
