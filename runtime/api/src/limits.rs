//! Limits, as programs read them.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use sandhog_core::group_limit::{GroupLimit, LimitsUse};
use sandhog_core::id::{PluginName, QueueName, TenantId};
use sandhog_core::rate::{FullAt, RateLimit, RateOf};
use sandhog_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::time::at_of;

/// JSON document of limits, and how far they are used.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct LimitsDocument {
    /// The limits that queues give to each of their groups, by tenant and queue.
    pub queues: Vec<QueueLimitDocument>,
    /// The limits of single groups, by tenant, queue and group.
    pub groups: Vec<GroupLimitDocument>,
    /// The limits on runs of plugins at once, by tenant and plugin.
    pub plugins: Vec<PluginLimitDocument>,
    /// The rate limits, by tenant and name.
    pub rates: Vec<RateLimitDocument>,
}

/// JSON document of the limit that a queue gives to each of its groups.
#[derive(Debug, Serialize, Deserialize)]
pub struct QueueLimitDocument {
    /// The tenant.
    pub tenant: String,
    /// The queue.
    pub queue: String,
    /// Maximum number of jobs of a group that are ready or leased at once.
    pub concurrency: NonZeroU16,
}

/// JSON document of the limit of a single group.
#[derive(Debug, Serialize, Deserialize)]
pub struct GroupLimitDocument {
    /// The tenant.
    pub tenant: String,
    /// The queue.
    pub queue: String,
    /// The group.
    pub group: String,
    /// Maximum number of jobs of the group that are ready or leased at once.
    pub concurrency: NonZeroU16,
    /// Number of jobs of the group that are.
    pub used: u16,
    /// The limit that it stands in place of, of each group of its queue; null if the queue has no such limit any more, and this one so
    /// doesn't count.
    pub instead_of: Option<NonZeroU16>,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Name of the person who set it, as they call themselves; null if that is unknown.
    pub by: Option<String>,
    /// Time at which it was set. All times are RFC 3339, in UTC.
    pub since: Option<String>,
    /// Time at which it ends by itself; null if somebody has to remove it.
    pub until: Option<String>,
    /// The remark of who set it.
    pub note: Option<String>,
}

/// JSON document of the limit on runs of a plugin at once.
#[derive(Debug, Serialize, Deserialize)]
pub struct PluginLimitDocument {
    /// The tenant.
    pub tenant: String,
    /// The plugin.
    pub plugin: String,
    /// Maximum number of its jobs that are leased at once.
    pub concurrency: u32,
    /// Number of its jobs that are.
    pub used: u64,
}

/// JSON document of a rate limit.
#[derive(Debug, Serialize, Deserialize)]
pub struct RateLimitDocument {
    /// The tenant.
    pub tenant: String,
    /// Name of the limit, or of the plugin whose own it is.
    pub name: String,
    /// Whether it is a plugin's own.
    pub is_of_plugin: bool,
    /// Time between two tokens, in microseconds.
    pub interval_us: u64,
    /// Maximum number of tokens that are taken at once.
    pub burst: u32,
    /// Number of tokens that may be taken now.
    pub left: u32,
    /// Time at which it lets the next job through; null if it does now.
    pub next_at: Option<String>,
}

impl LimitsDocument {
    /// Creates the document of a tenant's limits, by what is used of them and by its configuration: what its queues give to each of
    /// their groups, how many jobs of plugins may be leased at once, and its rates.
    #[must_use]
    pub fn new<'r>(
        tenant: &TenantId,
        used: LimitsUse,
        queues: &BTreeMap<&QueueName, NonZeroU16>,
        plugins: &BTreeMap<&PluginName, u32>,
        rates: impl Iterator<Item = &'r RateLimit>,
    ) -> Self {
        let rates: BTreeMap<&RateOf, &RateLimit> = rates.map(|limit| (&limit.of, limit)).collect();
        let of_rate = |limit: &RateLimit| {
            let spent = used.rates.iter().find(|(of, _)| *of == limit.of);
            let full_at = spent.map(|(_, full_at)| *full_at).unwrap_or_default();
            RateLimitDocument::new(tenant, limit, full_at, used.now)
        };
        let of_plugin = |(name, concurrency): (&&PluginName, &u32)| PluginLimitDocument {
            tenant: tenant.to_string(),
            plugin: name.to_string(),
            concurrency: *concurrency,
            used: used.leased.iter().find(|(own, _)| own == *name).map_or(0, |(_, leased)| *leased),
        };
        let of_queue = |(queue, concurrency): (&&QueueName, &NonZeroU16)| QueueLimitDocument {
            tenant: tenant.to_string(),
            queue: queue.to_string(),
            concurrency: *concurrency,
        };
        Self {
            queues: queues.iter().map(of_queue).collect(),
            plugins: plugins.iter().map(of_plugin).collect(),
            rates: rates.into_values().map(of_rate).collect(),
            groups: used
                .groups
                .into_iter()
                .map(|(limit, taken)| {
                    let instead_of = queues.get(&limit.queue).copied();
                    GroupLimitDocument::new(tenant, limit, taken, instead_of)
                })
                .collect(),
        }
    }

    /// Adds the limits of another tenant.
    pub fn append(&mut self, mut other: Self) {
        self.queues.append(&mut other.queues);
        self.groups.append(&mut other.groups);
        self.plugins.append(&mut other.plugins);
        self.rates.append(&mut other.rates);
    }
}

impl GroupLimitDocument {
    fn new(tenant: &TenantId, limit: GroupLimit, used: u16, instead_of: Option<NonZeroU16>) -> Self {
        let GroupLimit { queue, group, concurrency, is_on, by, since, until, note } = limit;
        Self {
            tenant: tenant.to_string(),
            queue: queue.to_string(),
            group: group.to_string(),
            concurrency,
            used,
            instead_of,
            enabled: is_on,
            by,
            since: at_of(since),
            until: until.and_then(at_of),
            note,
        }
    }
}

impl RateLimitDocument {
    fn new(tenant: &TenantId, RateLimit { of, rate }: &RateLimit, full_at: FullAt, now: Timestamp) -> Self {
        let wait = rate.wait(full_at, 1, now.as_micros());
        Self {
            tenant: tenant.to_string(),
            name: of.to_string(),
            is_of_plugin: matches!(of, RateOf::Plugin(_)),
            interval_us: rate.interval(),
            burst: rate.burst().get(),
            left: rate.left(full_at, now.as_micros()),
            next_at: (wait > 0)
                .then(|| now.after(Duration::from_millis(wait.div_ceil(1000))))
                .and_then(at_of),
        }
    }
}
