//! The tenants and plugins in force now: built whole, then swapped in one step.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

use sandhog_broker::Keep;
use sandhog_core::admit::Offer;
use sandhog_core::budget::Bytes;
use sandhog_core::id::{Kind, PluginName, QueueName, Revision, TenantId};
use tokio::sync::{Semaphore, watch};

/// The tenants and plugins in force. `P` is the loaded code.
#[derive(Debug)]
pub struct Catalog<P> {
    tenants: BTreeMap<TenantId, Arc<Tenant<P>>>,
}

/// Where the loops find the catalog of the moment.
pub type Current<P> = watch::Receiver<Arc<Catalog<P>>>;

/// A team in force.
#[derive(Debug)]
pub struct Tenant<P> {
    /// Whose share of the processors its runs are charged to, and how large it is.
    pub weight: NonZeroU32,
    /// The memory of all its runs together.
    pub memory: Bytes,
    /// Its runs under way at once.
    pub concurrency: NonZeroU32,
    /// One permit for each of them.
    pub gate: Arc<Semaphore>,
    /// By what they handle.
    pub kinds: HashMap<Kind, Arc<Plugin<P>>>,
    /// The queues that its plugins name, in order of name.
    pub queues: Vec<Queue>,
}

/// A plugin in force.
#[derive(Debug)]
pub struct Plugin<P> {
    /// Its name.
    pub name: PluginName,
    /// Its code.
    pub revision: Revision,
    /// Where its jobs wait, unless their producer says otherwise.
    pub queue: QueueName,
    /// How long its final jobs are kept.
    pub keep: Keep,
    /// The loaded code and its terms.
    pub offer: Offer<P>,
    /// One permit for each of its runs under way at once.
    pub gate: Arc<Semaphore>,
}

/// A queue, with the gates of all plugins whose jobs wait in it.
#[derive(Debug)]
pub struct Queue {
    /// Its name.
    pub name: QueueName,
    /// The gates by plugin.
    pub gates: Vec<(PluginName, Arc<Semaphore>)>,
}

/// The terms of one tenant, for [`Catalog::new`].
#[derive(Debug)]
pub struct TenantTerms<P> {
    /// Its share.
    pub weight: NonZeroU32,
    /// Its runs under way at once.
    pub concurrency: NonZeroU32,
    /// The memory of all its runs together.
    pub memory: Bytes,
    /// Its plugins.
    pub plugins: Vec<PluginTerms<P>>,
}

/// The terms of one plugin, for [`Catalog::new`].
#[derive(Debug)]
pub struct PluginTerms<P> {
    /// Its name.
    pub name: PluginName,
    /// Its code.
    pub revision: Revision,
    /// What it handles; a kind has one plugin of its tenant.
    pub kinds: Vec<Kind>,
    /// Where its jobs wait.
    pub queue: QueueName,
    /// How long its final jobs are kept.
    pub keep: Keep,
    /// Its runs under way at once.
    pub concurrency: NonZeroU32,
    /// The loaded code and its terms.
    pub offer: Offer<P>,
}

impl<P> Catalog<P> {
    /// Builds a catalog of checked terms.
    #[must_use]
    pub fn new(tenants: BTreeMap<TenantId, TenantTerms<P>>) -> Self {
        Self { tenants: tenants.into_iter().map(|(id, terms)| (id, Arc::new(Tenant::new(terms)))).collect() }
    }

    /// A tenant in force.
    #[must_use]
    pub fn tenant(&self, id: &TenantId) -> Option<&Arc<Tenant<P>>> {
        self.tenants.get(id)
    }

    /// The tenants that have anything to run, each with the most runs that it may have under way.
    pub fn busy_tenants(&self) -> impl Iterator<Item = (TenantId, NonZeroU32)> {
        let busy = self.tenants.iter().filter(|(_, tenant)| !tenant.kinds.is_empty());
        busy.map(|(id, tenant)| (id.clone(), tenant.concurrency))
    }

    /// Every tenant in force.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.tenants.keys()
    }
}

impl<P> Tenant<P> {
    fn new(terms: TenantTerms<P>) -> Self {
        let mut kinds = HashMap::new();
        let mut queues: BTreeMap<QueueName, Vec<(PluginName, Arc<Semaphore>)>> = BTreeMap::new();
        for plugin in terms.plugins {
            let gate = Arc::new(Semaphore::new(plugin.concurrency.get() as usize));
            queues.entry(plugin.queue.clone()).or_default().push((plugin.name.clone(), Arc::clone(&gate)));
            let entry = Arc::new(Plugin {
                name: plugin.name,
                revision: plugin.revision,
                queue: plugin.queue,
                keep: plugin.keep,
                offer: plugin.offer,
                gate,
            });
            kinds.extend(plugin.kinds.into_iter().map(|kind| (kind, Arc::clone(&entry))));
        }
        Self {
            weight: terms.weight,
            memory: terms.memory,
            concurrency: terms.concurrency,
            gate: Arc::new(Semaphore::new(terms.concurrency.get() as usize)),
            kinds,
            queues: queues.into_iter().map(|(name, gates)| Queue { name, gates }).collect(),
        }
    }
}
