//! What commands share that speak with the broker: which tenant is meant, which queue, which job.

use std::path::Path;
use std::sync::Arc;

use sandhog_broker::Broker;
use sandhog_config::{self as config, Config, Plugin, nearest};
use sandhog_core::id::{JobId, Kind, QueueName, TenantId};
use sandhog_core::job::{JobRecord, State};
use sandhog_core::quota::QueueBounds;
use sandhog_core::reason::Reason;
use sandhog_daemon::broker::Access;

use crate::exit::{Exit, Failure};

/// A configuration, and its broker.
pub(crate) struct Client {
    pub(crate) config: Config,
    pub(crate) broker: Arc<dyn Broker>,
    /// Whether plugin files are left out, as they are wrong.
    incomplete: bool,
}

/// Reads a configuration for whoever only talks to the broker, and warns of the plugin files that are left out. Says whether
/// there are any.
pub(crate) fn load(path: &Path) -> Result<(Config, bool), Failure> {
    let config = config::load_for_broker(path)?;
    for problem in config.broken.iter().flat_map(|broken| broken.problems.iter()) {
        tracing::warn!("a plugin file is left out: {}", problem.one_line());
    }
    let incomplete = !config.broken.is_empty();
    Ok((config, incomplete))
}

impl Client {
    /// Reads the configuration and connects to its broker.
    pub(crate) async fn connect(path: &Path, access: Access) -> Result<Self, Failure> {
        let (config, incomplete) = load(path)?;
        let broker = sandhog_daemon::broker::connect(&config, access).await?.broker;
        Ok(Self { config, broker, incomplete })
    }

    /// A configuration that was read already, and its broker.
    pub(crate) fn of(config: Config, broker: Arc<dyn Broker>) -> Self {
        let incomplete = !config.broken.is_empty();
        Self { config, broker, incomplete }
    }

    /// The tenant that is meant, or all of them if none is.
    pub(crate) fn tenants(&self, wanted: Option<&TenantId>) -> Result<Vec<TenantId>, Failure> {
        match wanted {
            Some(wanted) => Ok(vec![known_tenant(&self.config, wanted)?]),
            None if self.config.tenants.is_empty() => Err(no_tenants()),
            None => Ok(self.config.tenants.keys().cloned().collect()),
        }
    }

    /// Where jobs of a kind go: which tenant's they are, in which queue they wait, and which plugin handles them.
    pub(crate) fn route(&self, kind: &Kind, wanted: Wanted<'_>) -> Result<Route<'_>, Failure> {
        let tenant = match wanted.tenant {
            Some(tenant) => known_tenant(&self.config, tenant)?,
            None => self.tenant_for(kind)?,
        };
        let plugin = self.plugins_for(kind).find(|plugin| plugin.tenant == tenant);
        let queue = match (wanted.queue, plugin) {
            (Some(queue), _) => queue.clone(),
            (None, Some(plugin)) => plugin.queue.clone(),
            (None, None) => return Err(self.no_plugin(kind, &tenant)),
        };
        let bounds = self.config.tenants.get(&tenant).map_or_else(QueueBounds::default, |terms| terms.queue);
        let payload = plugin.map_or(bounds.payload, |plugin| plugin.payload);
        Ok(Route { tenant, queue, plugin, bounds: QueueBounds { payload, ..bounds } })
    }

    /// What keeps jobs of a tenant waiting, as far as the configuration tells: nobody leases from their queue, or handles
    /// their kind. Nothing is told if some of it couldn't be read.
    pub(crate) fn unserved(&self, tenant: &TenantId, queue: &QueueName, kind: &Kind) -> Vec<String> {
        if self.incomplete {
            return Vec::new();
        }
        let plugins = || self.plugins_of(tenant);
        let meant = |text: &str, names: Vec<&str>| {
            nearest(text, names.into_iter())
                .map(|meant| format!("; did you mean `{meant}`?"))
                .unwrap_or_default()
        };
        let mut told = Vec::new();
        if !self.has_queue(tenant, queue) {
            let meant = meant(queue.as_str(), plugins().map(|plugin| plugin.queue.as_str()).collect());
            told.push(format!(
                "no plugin of tenant {tenant} has the queue `{queue}`, so nobody leases from it{meant}"
            ));
        }
        if !self.handles(tenant, kind) {
            let kinds = plugins().flat_map(|plugin| &plugin.kinds).map(Kind::as_str).collect();
            let meant = meant(kind.as_str(), kinds);
            told.push(format!("no plugin of tenant {tenant} handles `{kind}`, so jobs of it wait{meant}"));
        }
        told
    }

    /// A job with the reason for which it waits: that nobody serves it, as far as the configuration tells, or else what the
    /// broker has been told.
    pub(crate) fn explained(&self, mut job: JobRecord) -> JobRecord {
        let is_served = || self.has_queue(&job.tenant, &job.queue) && self.handles(&job.tenant, &job.kind);
        if job.state == State::Ready && !self.incomplete && !is_served() {
            job.reason = Some(Reason::NoPlugin);
        }
        job
    }

    fn has_queue(&self, tenant: &TenantId, queue: &QueueName) -> bool {
        self.plugins_of(tenant).any(|plugin| plugin.queue == *queue)
    }

    fn handles(&self, tenant: &TenantId, kind: &Kind) -> bool {
        self.plugins_of(tenant).any(|plugin| plugin.kinds.contains(kind))
    }

    fn plugins_of<'c>(&'c self, tenant: &'c TenantId) -> impl Iterator<Item = &'c Plugin> + 'c {
        self.config.plugins.iter().filter(move |plugin| plugin.tenant == *tenant)
    }

    fn plugins_for(&self, kind: &Kind) -> impl Iterator<Item = &Plugin> {
        self.config.plugins.iter().filter(|plugin| plugin.kinds.contains(kind))
    }

    /// The only tenant that there is, or the only one that handles the kind.
    fn tenant_for(&self, kind: &Kind) -> Result<TenantId, Failure> {
        let handlers: Vec<&TenantId> = self.plugins_for(kind).map(|plugin| &plugin.tenant).collect();
        let all: Vec<&TenantId> = self.config.tenants.keys().collect();
        match (&all[..], &handlers[..]) {
            // Whose it is may stand in a file that is left out.
            (_, []) if self.incomplete => Err(Failure::new(format!(
                "no plugin that can be read handles `{kind}`, so it is open whose job it is"
            ))
            .help("mend the plugin files above, or name the tenant: --tenant NAME")
            .exit(Exit::Config)),
            ([], _) => Err(no_tenants()),
            ([only], _) | (_, [only]) => Ok((*only).clone()),
            (_, []) => {
                Err(Failure::new(format!("no plugin handles `{kind}`, so it is open whose job it is"))
                    .help(format!("name the tenant: --tenant {}", list(all.iter().map(|id| id.as_str())))))
            }
            (_, several) => Err(Failure::new(format!("several tenants handle `{kind}`"))
                .help(format!("name one: --tenant {}", list(several.iter().map(|id| id.as_str()))))),
        }
    }

    fn no_plugin(&self, kind: &Kind, tenant: &TenantId) -> Failure {
        let kinds: Vec<&str> =
            self.plugins_of(tenant).flat_map(|plugin| &plugin.kinds).map(Kind::as_str).collect();
        let failure = Failure::new(format!("no plugin of tenant {tenant} handles `{kind}`"));
        let failure = match nearest(kind.as_str(), kinds.iter().copied()) {
            Some(meant) => failure.help(format!("did you mean `{meant}`?")),
            None if kinds.is_empty() => {
                failure.help("it has no plugins yet; put a plugin file into plugins.d")
            }
            None => failure.help(format!("its kinds are: {}", list(kinds.iter().copied()))),
        };
        let failure = match self.incomplete {
            true => failure.help("a plugin file above that is left out may handle it").exit(Exit::Config),
            false => failure,
        };
        failure.help("to enqueue it all the same, name a queue: --queue NAME")
    }

    /// A job, whose tenant need not be named.
    pub(crate) async fn job(&self, id: JobId, tenant: Option<&TenantId>) -> Result<JobRecord, Failure> {
        let tenants = self.tenants(tenant)?;
        for tenant in &tenants {
            if let Some(job) = self.broker.job(tenant, id).await? {
                return Ok(self.explained(job));
            }
        }
        Err(self.no_job(id, &tenants))
    }

    /// None of these tenants has the job.
    pub(crate) fn no_job(&self, id: JobId, tenants: &[TenantId]) -> Failure {
        let failure = Failure::new(format!("there is no job {id} of {}", of_tenants(tenants)));
        let kept = "finished jobs are kept for as long as `[keep]` of their plugin says";
        failure.help(kept).exit(Exit::NotFound)
    }
}

/// The tenant of this name, if the configuration has it.
pub(crate) fn known_tenant(config: &Config, wanted: &TenantId) -> Result<TenantId, Failure> {
    if config.tenants.contains_key(wanted) {
        return Ok(wanted.clone());
    }
    let names = || config.tenants.keys().map(TenantId::as_str);
    let failure = Failure::new(format!("there is no tenant `{wanted}` in the configuration"));
    Err(match nearest(wanted.as_str(), names()) {
        Some(meant) => failure.help(format!("did you mean `{meant}`?")),
        None => failure.help(format!("its tenants are: {}", list(names()))),
    })
}

fn of_tenants(tenants: &[TenantId]) -> String {
    match tenants {
        [only] => format!("tenant {only}"),
        several => format!("tenants {}", list(several.iter().map(TenantId::as_str))),
    }
}

fn no_tenants() -> Failure {
    Failure::new("there is no tenant in the configuration")
        .help("add one, such as [tenants.acme], or put a plugin file into plugins.d")
}

/// Names in a message; of many, the first ones.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    const SHOWN: usize = 12;
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    let more = if names.len() > SHOWN { ", …" } else { "" };
    names.truncate(SHOWN);
    format!("{}{more}", names.join(", "))
}

/// What a producer said of where jobs go.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'w> {
    pub(crate) tenant: Option<&'w TenantId>,
    pub(crate) queue: Option<&'w QueueName>,
}

/// Where jobs go.
pub(crate) struct Route<'c> {
    pub(crate) tenant: TenantId,
    pub(crate) queue: QueueName,
    /// What handles them; none yet, if the producer named the queue.
    pub(crate) plugin: Option<&'c Plugin>,
    /// How much may wait, and how large a payload of the kind may be.
    pub(crate) bounds: QueueBounds,
}
