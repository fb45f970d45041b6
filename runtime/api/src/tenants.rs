//! Tenants, as programs read them.

use serde::{Deserialize, Serialize};

use crate::StateCounts;

/// JSON document of the tenants.
#[derive(Debug, Serialize, Deserialize)]
pub struct TenantsDocument {
    /// The tenants, by name.
    pub tenants: Vec<TenantDocument>,
}

/// JSON document of a tenant.
#[derive(Debug, Serialize, Deserialize)]
pub struct TenantDocument {
    /// The tenant's name.
    pub tenant: String,
    /// Whether it is in the configuration.
    pub configured: bool,
    /// Number of plugins that it has in the configuration.
    pub plugins: u64,
    /// Numbers of its jobs, by the slug of their state; null if they can't be counted.
    pub counts: Option<StateCounts>,
    /// The reason why they can't be counted.
    pub problem: Option<String>,
}
