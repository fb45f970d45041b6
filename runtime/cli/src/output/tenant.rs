//! Tenants, as the broker knows them.

use comfy_table::Cell;
use sandhog_broker::{Counts, Result};
use sandhog_config::Config;
use sandhog_core::id::TenantId;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Column, Paint, table};

/// Tenants, for programs.
#[derive(Debug, Serialize)]
pub struct TenantsDocument {
    /// Each of them, by name.
    pub tenants: Vec<TenantDocument>,
}

/// A tenant, for programs.
#[derive(Debug, Serialize)]
pub struct TenantDocument {
    /// Its name.
    pub tenant: String,
    /// Whether it is in the configuration.
    pub configured: bool,
    /// How many plugins it has there.
    pub plugins: u64,
    /// How many jobs it has, by the slug of their state; null if they can't be counted.
    pub counts: Option<Map<String, Value>>,
    /// Why they can't be counted.
    pub problem: Option<String>,
}

/// What was removed of a tenant, for programs.
#[derive(Debug, Serialize)]
pub struct PurgedDocument {
    /// Its name.
    pub tenant: String,
    /// How many jobs it had.
    pub jobs: u64,
}

impl TenantDocument {
    /// A tenant with these jobs.
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

/// Tenants, for people: a line each.
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
