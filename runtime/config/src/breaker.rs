//! The rules of circuit breakers: `[breaker]` in a plugin's file, and a tenant's `breakers`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use sandhog_core::breaker::{BreakerRule, BreakerTerms, InvalidBreakerRule};
use sandhog_core::id::{BreakerName, DownstreamName, TenantId};

use super::Config;
use super::fields::{Entry, Fields};

/// Reads the table `breaker` of a plugin's file; `None` if there is none.
pub(super) fn own(fields: &mut Fields<'_>) -> Option<BreakerRule> {
    match fields.entry("breaker") {
        Some(entry) => entry.table(rule),
        None => {
            // So its keys are known all the same.
            fields.table("breaker", rule);
            None
        }
    }
}

/// Reads a tenant's table `breakers`: rules for the downstreams that its plugins call.
pub(super) fn of_downstreams(fields: &mut Fields<'_>) -> BTreeMap<DownstreamName, BreakerRule> {
    let entries = fields.named("breakers").into_iter();
    let read = |(name, entry): (String, Entry<'_>)| match DownstreamName::parse(&name) {
        Ok(name) => Some((name, entry.table(rule)?)),
        Err(invalid) => {
            entry.refuse(invalid.into());
            None
        }
    };
    entries.filter_map(read).collect()
}

/// Reads one rule. What isn't written is as in the default.
fn rule(fields: &mut Fields<'_>) -> Option<BreakerRule> {
    let BreakerParts { rate, min, window, open, open_max, probes } = BreakerParts::default();
    let rate = fields.or::<NonZeroU32>("rate", rate);
    let min = fields.or("min", min);
    let window = fields.or("window", window);
    let first = fields.get::<Duration>("open");
    let longest = fields.get::<Duration>("open_max");
    let open = first.unwrap_or(open);
    // A longest time that nobody has written is no shorter than the first.
    let open_max = longest.unwrap_or_else(|| open_max.max(open));
    let probes = fields.or("probes", probes);
    let rate = u8::try_from(rate.get()).unwrap_or(u8::MAX);
    match BreakerRule::new(rate, min, window, (open, open_max), probes) {
        Ok(rule) => Some(rule),
        Err(invalid) => {
            let key = match invalid {
                InvalidBreakerRule::Rate => "rate",
                InvalidBreakerRule::Count(key) | InvalidBreakerRule::Time(key) => key,
                InvalidBreakerRule::OpenMax => "open_max",
            };
            let problem = fields.file.problem(&fields.path_of(key), "it is out of range");
            fields.file.note(problem.rule(invalid.to_string()));
            None
        }
    }
}

/// The parts of the default rule.
struct BreakerParts {
    rate: NonZeroU32,
    min: NonZeroU32,
    window: Duration,
    open: Duration,
    open_max: Duration,
    probes: NonZeroU32,
}

impl Default for BreakerParts {
    fn default() -> Self {
        let (rate, min, window, (open, open_max), probes) = BreakerRule::default().parts();
        let rate = NonZeroU32::from(rate);
        Self { rate, min, window, open, open_max, probes }
    }
}

impl Config {
    /// Returns the breakers of a tenant: those of its plugins that have one, and those of all that they call.
    #[must_use]
    pub fn breakers(&self, tenant: &TenantId) -> BTreeMap<BreakerName, BreakerTerms> {
        let mut breakers: BTreeMap<BreakerName, BreakerTerms> = BTreeMap::new();
        let rules = self.tenants.get(tenant).map(|tenant| &tenant.breakers);
        for plugin in self.plugins.iter().filter(|plugin| plugin.tenant == *tenant) {
            if let Some(rule) = plugin.breaker {
                let kinds: BTreeSet<_> = plugin.kinds.iter().cloned().collect();
                breakers.insert(BreakerName::of_plugin(&plugin.name), BreakerTerms { rule, kinds });
            }
            for downstream in &plugin.calls {
                let rule = rules.and_then(|rules| rules.get(downstream)).copied().unwrap_or_default();
                let terms = breakers.entry(BreakerName::of_downstream(downstream)).or_default();
                terms.rule = rule;
                terms.kinds.extend(plugin.kinds.iter().cloned());
            }
        }
        breakers
    }
}
