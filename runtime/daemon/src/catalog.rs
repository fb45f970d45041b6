//! Catalog: the tenants and plugins in force now, built whole, then swapped in one step.
//!
//! A run holds the tenant's terms, and the version of its plugin, that were in force when it started; so a swap disturbs
//! nothing, and what nobody holds any more is gone. Only the [`ConcurrencyLimit`]s go on from one catalog to the next.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

use sandhog_broker::{Keep, KeepMax, Served};
use sandhog_core::admit::Offer;
use sandhog_core::breaker::BreakerTerms;
use sandhog_core::budget::Bytes;
use sandhog_core::canary::Side;
use sandhog_core::group::QueueRule;
use sandhog_core::id::{BreakerName, Kind, PluginName, QueueName, Revision, TenantId};
use sandhog_core::job::Job;
use sandhog_core::quota::{FuelQuota, QueueBounds, StateQuota};
use sandhog_core::rate::RateLimit;
use sandhog_core::schedule::Schedule;
use tokio::sync::watch;

use crate::capacity::concurrency::{ConcurrencyLimit, ConcurrencyLimits};
use crate::deploy::{CanaryTrial, InUse};

/// The tenants and plugins in force. `P` is the loaded code.
#[derive(Debug)]
pub struct Catalog<P> {
    tenants: BTreeMap<TenantId, Arc<Tenant<P>>>,
}

/// Receiver of the catalog that is in force at the moment.
pub type Current<P> = watch::Receiver<Arc<Catalog<P>>>;

/// Tenant in force.
#[derive(Debug)]
pub struct Tenant<P> {
    /// Its weight: the size of its share of the processors, which its runs are charged to.
    pub weight: NonZeroU32,
    /// Maximum memory of all its runs together.
    pub memory: Bytes,
    /// Fuel that all its runs together may spend.
    pub fuel: FuelQuota,
    /// Bounds on how much it may have waiting, and on the size of a payload whose kind no plugin handles.
    pub queue: QueueBounds,
    /// Its queues' rules for groups of jobs.
    pub group_rules: BTreeMap<QueueName, QueueRule>,
    /// Its breakers.
    pub breakers: BTreeMap<BreakerName, Arc<BreakerTerms>>,
    /// Maximum of its final jobs that are kept.
    pub keep_max: KeepMax,
    /// The same of the plugins that have one of their own.
    pub keep_max_of: BTreeMap<PluginName, KeepMax>,
    /// Maximum number of its runs under way at once.
    pub concurrency: NonZeroU32,
    /// Limit that has one permit for each of these runs.
    pub concurrency_limit: Arc<ConcurrencyLimit>,
    /// Its plugins by the kinds that they handle.
    pub kinds: HashMap<Kind, Arc<Plugin<P>>>,
    /// The queues that its plugins name, in order of name.
    pub queues: Vec<Queue>,
    /// Schedules of its plugins, also of those that have none.
    pub schedules: BTreeMap<PluginName, Vec<Schedule>>,
}

/// Plugin in force.
#[derive(Debug)]
pub struct Plugin<P> {
    /// Its name.
    pub name: PluginName,
    /// Queue in which its jobs wait, unless their producer says otherwise.
    pub queue: QueueName,
    /// Limit that has one permit for each of its runs under way at once, whatever their version.
    pub concurrency_limit: Arc<ConcurrencyLimit>,
    /// Whether it has a limit of its own, for all daemons together; if not, the limit is its tenant's.
    pub is_limited: bool,
    /// Limit on the number of its jobs that are leased within a time, by all daemons together.
    pub rate: Option<RateLimit>,
    /// Version that its jobs run on.
    pub stable: Arc<Version<P>>,
    /// Canary that some of its jobs run on for a trial.
    pub canary: Option<Canary<P>>,
}

/// Revision of a plugin's code, and the terms under which it runs.
#[derive(Debug)]
pub struct Version<P> {
    /// Digest of the code.
    pub revision: Revision,
    /// Kinds that it handles.
    pub kinds: Vec<Kind>,
    /// Retention of its final jobs.
    pub keep: Keep,
    /// Quota of the state that it may keep.
    pub state: StateQuota,
    /// The loaded code and its terms.
    pub offer: Offer<P>,
    /// Marker that is held along with the code; it reports when nobody holds the code any more.
    pub in_use: Arc<InUse>,
}

/// Version on trial.
#[derive(Debug)]
pub struct Canary<P> {
    /// The version.
    pub version: Arc<Version<P>>,
    /// The trial: how the version does beside the stable one, and which jobs are its.
    pub trial: Arc<CanaryTrial>,
}

/// Version that a job runs on, and the trial that its run counts in.
#[derive(Debug)]
pub(crate) struct Chosen<P> {
    pub(crate) version: Arc<Version<P>>,
    pub(crate) trial: Option<(Arc<CanaryTrial>, Side)>,
}

/// Reason why there is no version for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoVersion {
    /// The revision that the job is pinned to is being loaded.
    Loading,
    /// The revision that the job is pinned to isn't kept.
    Gone(Revision),
}

/// Archive of the revisions that were in force once. `P` is the loaded code.
pub trait Archive<P>: Send + Sync {
    /// Returns the code of a plugin's revision. Never waits: code that isn't loaded yet is loaded meanwhile.
    fn find(&self, plugin: (TenantId, PluginName), revision: Revision) -> Archived<P>;
}

/// Answer of an archive.
#[derive(Debug)]
pub enum Archived<P> {
    /// The code is loaded.
    Here {
        /// The loaded code.
        plugin: P,
        /// See [`Version::in_use`].
        in_use: Arc<InUse>,
    },
    /// The code is kept, and being loaded.
    Loading,
    /// The code is not kept, or can't be loaded any more.
    Gone,
}

/// Queue, with the limits of all plugins whose jobs wait in it.
#[derive(Debug)]
pub struct Queue {
    /// Its name.
    pub name: QueueName,
    /// Limits by plugin.
    pub concurrency_limits: Vec<(PluginName, Arc<ConcurrencyLimit>)>,
    /// Kinds of those plugins that have a limit of their own, for all daemons together.
    pub limited: Vec<LimitedKind>,
}

/// Kind whose plugin has a limit of its own, for all daemons together.
#[derive(Debug, Clone)]
pub struct LimitedKind {
    /// The kind.
    pub kind: Kind,
    /// The plugin.
    pub plugin: PluginName,
    /// Limit on its runs under way at once.
    pub concurrency_limit: Arc<ConcurrencyLimit>,
    /// Whether that limit holds for all daemons together.
    pub is_limited: bool,
    /// Limit on its jobs that are leased within a time.
    pub rate: Option<RateLimit>,
}

/// Terms of one tenant, for [`Catalog::new`].
#[derive(Debug)]
pub struct TenantTerms<P> {
    /// Its weight: the size of its share of the processors.
    pub weight: NonZeroU32,
    /// Maximum number of its runs under way at once.
    pub concurrency: NonZeroU32,
    /// Maximum memory of all its runs together.
    pub memory: Bytes,
    /// Fuel that all its runs together may spend.
    pub fuel: FuelQuota,
    /// Bounds on how much it may have waiting.
    pub queue: QueueBounds,
    /// Its queues' rules for groups of jobs.
    pub group_rules: BTreeMap<QueueName, QueueRule>,
    /// Its breakers.
    pub breakers: BTreeMap<BreakerName, Arc<BreakerTerms>>,
    /// Maximum of its final jobs that are kept.
    pub keep_max: KeepMax,
    /// Its plugins. Where two handle the same kind, the later one gets it.
    pub plugins: Vec<PluginTerms<P>>,
}

/// Terms of one plugin, for [`Catalog::new`].
#[derive(Debug)]
pub struct PluginTerms<P> {
    /// Its name.
    pub name: PluginName,
    /// Queue in which its jobs wait.
    pub queue: QueueName,
    /// Maximum number of its runs under way at once, on all daemons together. `None` if it has no limit but its tenant's on
    /// each.
    pub concurrency: Option<NonZeroU32>,
    /// Limit on the number of its jobs that are leased within a time, by all daemons together.
    pub rate: Option<RateLimit>,
    /// Version that its jobs run on.
    pub stable: Version<P>,
    /// Version that some of them run on for a trial, and the trial.
    pub canary: Option<(Version<P>, Arc<CanaryTrial>)>,
    /// Maximum of the final jobs of its runs that are kept. `None` if it has none of its own.
    pub keep_max: Option<KeepMax>,
    /// Schedules that enqueue jobs for it.
    pub schedules: Vec<Schedule>,
}

impl<P> Catalog<P> {
    /// Builds a catalog of checked terms; it takes over those of the `concurrency_limits` that are its own.
    #[must_use]
    pub fn new(
        tenants: BTreeMap<TenantId, TenantTerms<P>>,
        concurrency_limits: &mut ConcurrencyLimits,
    ) -> Self {
        let tenants = tenants.into_iter().map(|(id, terms)| {
            let tenant = Arc::new(Tenant::new(&id, terms, concurrency_limits));
            (id, tenant)
        });
        Self { tenants: tenants.collect() }
    }

    /// Looks up a tenant in force.
    #[must_use]
    pub fn tenant(&self, id: &TenantId) -> Option<&Arc<Tenant<P>>> {
        self.tenants.get(id)
    }

    /// Tenants that have anything to run, each with the maximum number of its runs under way.
    pub fn busy_tenants(&self) -> impl Iterator<Item = (TenantId, NonZeroU32)> {
        let busy = self.tenants.iter().filter(|(_, tenant)| !tenant.kinds.is_empty());
        busy.map(|(id, tenant)| (id.clone(), tenant.concurrency))
    }

    /// Number of the plugins in force, and the queues that their jobs are leased from.
    pub(crate) fn about(&self) -> (u32, Served) {
        let plugins: usize = self
            .tenants
            .values()
            .flat_map(|tenant| &tenant.queues)
            .map(|queue| queue.concurrency_limits.len())
            .sum();
        let queues = self
            .tenants
            .iter()
            .flat_map(|(id, tenant)| tenant.queues.iter().map(|queue| (id.clone(), queue.name.clone())));
        (u32::try_from(plugins).unwrap_or(u32::MAX), Served::of(queues))
    }

    /// All tenants in force.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.tenants.keys()
    }
}

impl<P> Tenant<P> {
    fn new(id: &TenantId, terms: TenantTerms<P>, concurrency_limits: &mut ConcurrencyLimits) -> Self {
        let mut kinds = HashMap::new();
        let mut queues: BTreeMap<QueueName, Vec<(PluginName, Arc<ConcurrencyLimit>)>> = BTreeMap::new();
        let (mut schedules, mut keep_max_of) = (BTreeMap::new(), BTreeMap::new());
        for plugin in terms.plugins {
            keep_max_of.extend(plugin.keep_max.map(|keep_max| (plugin.name.clone(), keep_max)));
            let concurrency_limit = concurrency_limits.of(
                id,
                Some(&plugin.name),
                plugin.concurrency.unwrap_or(terms.concurrency),
            );
            queues
                .entry(plugin.queue.clone())
                .or_default()
                .push((plugin.name.clone(), Arc::clone(&concurrency_limit)));
            let canary = plugin.canary.map(|(version, trial)| Canary { version: Arc::new(version), trial });
            let handled =
                canary.as_ref().map_or(&plugin.stable.kinds, |canary| &canary.version.kinds).clone();
            schedules.insert(plugin.name.clone(), plugin.schedules);
            let entry = Arc::new(Plugin {
                name: plugin.name,
                queue: plugin.queue,
                concurrency_limit,
                is_limited: plugin.concurrency.is_some(),
                rate: plugin.rate,
                stable: Arc::new(plugin.stable),
                canary,
            });
            kinds.extend(handled.into_iter().map(|kind| (kind, Arc::clone(&entry))));
        }
        Self {
            weight: terms.weight,
            memory: terms.memory,
            concurrency: terms.concurrency,
            fuel: terms.fuel,
            queue: terms.queue,
            group_rules: terms.group_rules,
            breakers: terms.breakers,
            keep_max: terms.keep_max,
            keep_max_of,
            concurrency_limit: concurrency_limits.of(id, None, terms.concurrency),
            queues: queues
                .into_iter()
                .map(|(name, concurrency_limits)| {
                    let limited = limited(&kinds, &name);
                    Queue { name, concurrency_limits, limited }
                })
                .collect(),
            kinds,
            schedules,
        }
    }
}

/// Returns the kinds in a queue whose plugins have a limit for all daemons together, in their order. One daemon can't tell
/// whether it binds: it may be above the tenant's limit here, and below the sum of its limits on all daemons.
fn limited<P>(kinds: &HashMap<Kind, Arc<Plugin<P>>>, queue: &QueueName) -> Vec<LimitedKind> {
    let limited = kinds.iter().filter(|(_, plugin)| plugin.queue == *queue && plugin.has_fleet_limit());
    let mut limited: Vec<_> = limited.map(|(kind, plugin)| plugin.limited(kind)).collect();
    limited.sort_by(|a, b| a.kind.cmp(&b.kind));
    limited
}

impl<P> Plugin<P> {
    /// Whether it has a limit of its own, for all daemons together.
    pub(crate) fn has_fleet_limit(&self) -> bool {
        self.is_limited || self.rate.is_some()
    }

    /// Returns one of its kinds with the limits on it.
    pub(crate) fn limited(&self, kind: &Kind) -> LimitedKind {
        LimitedKind {
            kind: kind.clone(),
            plugin: self.name.clone(),
            concurrency_limit: Arc::clone(&self.concurrency_limit),
            is_limited: self.is_limited,
            rate: self.rate.clone(),
        }
    }

    /// Chooses the version that a job runs on: the revision that it is pinned to, if it is; the canary, if this is the first
    /// attempt of a job of its share, or only it knows the kind; else what is in force.
    ///
    /// A job that has failed is left out of the trial: a bad canary costs it one attempt at most, and neither side is
    /// judged by jobs that fail anywhere.
    pub(crate) fn choose(&self, job: &Job, archive: &dyn Archive<P>) -> Result<Chosen<P>, NoVersion>
    where
        P: Clone,
    {
        if let Some(pinned) = job.pinned {
            let version = self.pinned(job, pinned, archive)?;
            return Ok(Chosen { version, trial: None });
        }
        let stable = || Arc::clone(&self.stable);
        let Some(canary) = &self.canary else { return Ok(Chosen { version: stable(), trial: None }) };
        if !self.stable.kinds.contains(&job.kind) {
            return Ok(Chosen { version: Arc::clone(&canary.version), trial: None });
        }
        if job.attempts > 0 {
            return Ok(Chosen { version: stable(), trial: None });
        }
        let side = canary.trial.side(job.id);
        let version = match side {
            Side::Old => stable(),
            Side::New => Arc::clone(&canary.version),
        };
        Ok(Chosen { version, trial: Some((Arc::clone(&canary.trial), side)) })
    }

    /// Returns the version of the revision that a job is pinned to. One from the archive runs under the terms that are in
    /// force.
    fn pinned(
        &self,
        job: &Job,
        revision: Revision,
        archive: &dyn Archive<P>,
    ) -> Result<Arc<Version<P>>, NoVersion>
    where
        P: Clone,
    {
        let loaded = self.canary.iter().map(|canary| &canary.version).chain([&self.stable]);
        if let Some(version) = loaded.into_iter().find(|version| version.revision == revision) {
            return Ok(Arc::clone(version));
        }
        match archive.find((job.tenant.clone(), self.name.clone()), revision) {
            Archived::Here { plugin, in_use } => Ok(Arc::new(Version {
                revision,
                kinds: self.stable.kinds.clone(),
                keep: self.stable.keep,
                state: self.stable.state,
                offer: Offer { plugin, ..self.stable.offer.clone() },
                in_use,
            })),
            Archived::Loading => Err(NoVersion::Loading),
            Archived::Gone => Err(NoVersion::Gone(revision)),
        }
    }
}

#[cfg(test)]
mod tests {
    use sandhog_core::budget::Budget;

    use super::*;

    /// A plugin of one kind, which has its name.
    fn terms(tenant: &TenantId, name: &str, concurrency: Option<u32>) -> PluginTerms<()> {
        let name = PluginName::parse(name).expect("a name");
        let revision = Revision::from_sha256([1; 32]);
        PluginTerms {
            queue: QueueName::parse("default").expect("a name"),
            concurrency: concurrency.and_then(NonZeroU32::new),
            rate: None,
            stable: Version {
                revision,
                kinds: vec![Kind::parse(name.as_str()).expect("a name")],
                keep: Keep::default(),
                state: StateQuota { bytes: Bytes::mib(1), keys: 1 },
                offer: Offer {
                    plugin: (),
                    budget: Budget::DEFAULT,
                    retry: Arc::default(),
                    payload_max: Bytes::kib(10),
                },
                in_use: Arc::new(InUse::new(tenant.clone(), name.clone(), revision)),
            },
            name,
            canary: None,
            keep_max: None,
            schedules: Vec::new(),
        }
    }

    #[test]
    fn a_plugins_own_limit_is_the_fleets_also_where_it_is_above_what_the_tenant_has_here() {
        let acme = TenantId::parse("acme").expect("a name");
        let plugins = vec![
            terms(&acme, "above", Some(20)),
            terms(&acme, "below", Some(2)),
            terms(&acme, "none", None),
            terms(&acme, "same", Some(4)),
        ];
        let four = NonZeroU32::new(4).expect("not zero");
        let tenant = TenantTerms {
            weight: NonZeroU32::MIN,
            concurrency: four,
            memory: Bytes::mib(1),
            fuel: FuelQuota::default(),
            queue: QueueBounds::default(),
            group_rules: BTreeMap::new(),
            breakers: BTreeMap::new(),
            keep_max: KeepMax::default(),
            plugins,
        };
        let catalog =
            Catalog::new(BTreeMap::from([(acme.clone(), tenant)]), &mut ConcurrencyLimits::default());
        let tenant = catalog.tenant(&acme).expect("it is in force");
        let [queue] = &tenant.queues[..] else { panic!("one queue: {:?}", tenant.queues) };
        let limited: Vec<_> = queue
            .limited
            .iter()
            .map(|limited| (limited.kind.as_str(), limited.concurrency_limit.limit()))
            .collect();
        assert_eq!(limited, [("above", 20), ("below", 2), ("same", 4)]);
        let unlimited = &tenant.kinds[&Kind::parse("none").expect("a name")];
        assert_eq!(unlimited.concurrency_limit.limit(), 4, "it has a permit wherever its tenant has one");
    }
}
