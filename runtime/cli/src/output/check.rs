//! A checked configuration.

use std::num::NonZeroU32;
use std::path::Path;

use comfy_table::Cell;
use sandhog_broker::redis::Topology;
use sandhog_config::units::time;
use sandhog_config::{Broker, Config, Plugin, Problem};
use sandhog_core::budget::Budget;
use sandhog_core::id::Revision;
use sandhog_engine::Access;
use serde::Serialize;

use super::{Column, Paint, bytes, count, pairs, table};

/// The outcome of a check, for programs. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize)]
pub struct CheckDocument {
    /// Whether a daemon could run with it.
    pub ok: bool,
    /// What is wrong with the files.
    pub problems: Vec<ProblemDocument>,
    /// What is wrong beyond that: components that can't be loaded, a broker that isn't fit.
    pub errors: Vec<String>,
    /// What works, and yet should be looked at.
    pub warnings: Vec<String>,
    /// What would be in force; none if the files are wrong.
    pub config: Option<ConfigDocument>,
}

/// A problem with a file.
#[derive(Debug, Serialize)]
pub struct ProblemDocument {
    /// The file.
    pub file: String,
    /// 1 for the first; none if the file as a whole is meant.
    pub line: Option<usize>,
    /// 1 for the first character.
    pub column: Option<usize>,
    /// The full name of the key; may be empty.
    pub key: String,
    /// What is wrong, with the value.
    pub problem: String,
    /// The rule that is broken; may be empty.
    pub rule: String,
    /// What to do about it.
    pub help: Vec<String>,
}

/// What would be in force.
#[derive(Debug, Serialize)]
pub struct ConfigDocument {
    /// The daemon's file.
    pub file: String,
    /// Where jobs live; without the login.
    pub broker: String,
    /// Threads that run handlers.
    pub threads: usize,
    /// Runs under way at once.
    pub concurrency: u32,
    /// The tenants.
    pub tenants: Vec<TenantDocument>,
    /// Their plugins, as far as they could be loaded.
    pub plugins: Vec<LoadedDocument>,
}

/// A tenant.
#[derive(Debug, Serialize)]
pub struct TenantDocument {
    /// Its name.
    pub name: String,
    /// Its share.
    pub weight: u32,
    /// Its runs under way at once.
    pub concurrency: u32,
    /// The memory of all its runs together, in bytes.
    pub memory: u64,
}

/// A plugin that was loaded.
#[derive(Debug, Serialize)]
pub struct LoadedDocument {
    /// Whose it is.
    pub tenant: String,
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// The sha256 of its component.
    pub revision: String,
    /// What it handles.
    pub kinds: Vec<String>,
    /// Where its jobs wait.
    pub queue: String,
    /// Its runs under way at once, on all daemons together; null if it has no limit but its tenant's on each.
    pub concurrency: Option<u32>,
    /// Attempts in all.
    pub max_attempts: u32,
    /// What a run of it may spend: the narrowest of daemon, tenant and plugin.
    pub budget: BudgetDocument,
    /// What it may reach: directories as `host:guest:access`, and the names of variables and secrets.
    pub grants: GrantsDocument,
}

/// What a run may spend.
#[derive(Debug, Serialize)]
pub struct BudgetDocument {
    /// Instructions.
    pub fuel: u64,
    /// In bytes.
    pub memory: u64,
    /// Table elements.
    pub table_elements: u64,
    /// Core instances.
    pub instances: u32,
    /// In milliseconds.
    pub timeout_ms: u64,
    /// Within a second.
    pub host_calls: u64,
    /// In bytes.
    pub output: u64,
    /// In bytes.
    pub log: u64,
    /// In bytes.
    pub effects: u64,
    /// Jobs enqueued.
    pub enqueues: u32,
    /// Keys of the state written.
    pub state_writes: u32,
    /// At once.
    pub open_files: u64,
    /// At once.
    pub http_connections: u64,
    /// In bytes.
    pub http_bytes: u64,
    /// In milliseconds.
    pub http_timeout_ms: u64,
    /// In milliseconds.
    pub clock_resolution_ms: u64,
}

/// What a plugin may reach.
#[derive(Debug, Serialize)]
pub struct GrantsDocument {
    /// `host:guest:access`.
    pub dirs: Vec<String>,
    /// `host:port`.
    pub http: Vec<String>,
    /// Names alone.
    pub env: Vec<String>,
    /// Names alone.
    pub secrets: Vec<String>,
}

impl From<&Problem> for ProblemDocument {
    fn from(problem: &Problem) -> Self {
        Self {
            file: problem.file.display().to_string(),
            line: problem.place.as_ref().map(|place| place.line),
            column: problem.place.as_ref().map(|place| place.column),
            key: problem.key.clone(),
            problem: problem.problem.clone(),
            rule: problem.rule.clone(),
            help: problem.help.clone(),
        }
    }
}

impl From<Budget> for BudgetDocument {
    fn from(budget: Budget) -> Self {
        Self {
            fuel: budget.fuel.0,
            memory: budget.memory.0,
            table_elements: budget.table_elements,
            instances: budget.instances,
            timeout_ms: sandhog_core::time::millis(budget.timeout),
            host_calls: budget.host_calls,
            output: budget.output.0,
            log: budget.log.0,
            effects: budget.effects.0,
            enqueues: budget.enqueues,
            state_writes: budget.state_writes,
            open_files: budget.open_files,
            http_connections: budget.http_connections,
            http_bytes: budget.http_bytes.0,
            http_timeout_ms: sandhog_core::time::millis(budget.http_timeout),
            clock_resolution_ms: sandhog_core::time::millis(budget.clock_resolution.0),
        }
    }
}

impl LoadedDocument {
    /// A plugin, and the revision that was loaded.
    #[must_use]
    pub fn new(config: &Config, plugin: &Plugin, revision: Revision) -> Self {
        let grants = &plugin.grants;
        let dirs = grants.dirs.iter();
        let dirs = dirs.map(|dir| format!("{}:{}:{}", dir.host.display(), dir.guest, access(dir.access)));
        Self {
            tenant: plugin.tenant.to_string(),
            name: plugin.name.to_string(),
            file: plugin.file.display().to_string(),
            revision: revision.to_string(),
            kinds: plugin.kinds.iter().map(ToString::to_string).collect(),
            queue: plugin.queue.to_string(),
            concurrency: plugin.concurrency.map(NonZeroU32::get),
            max_attempts: plugin.retry.max_attempts.get(),
            budget: config.budget(plugin).into(),
            grants: GrantsDocument {
                dirs: dirs.collect(),
                http: grants.http.iter().map(|grant| grant.to.to_string()).collect(),
                env: grants.env.iter().map(|(name, _)| name.clone()).collect(),
                secrets: grants.secrets.keys().cloned().collect(),
            },
        }
    }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::ReadWrite => "read-write",
    }
}

impl CheckDocument {
    /// Files that are wrong.
    #[must_use]
    pub fn of_problems(problems: Vec<ProblemDocument>) -> Self {
        Self { ok: false, problems, errors: Vec::new(), warnings: Vec::new(), config: None }
    }

    /// Files that are right.
    #[must_use]
    pub fn new(file: &Path, config: &Config, plugins: Vec<LoadedDocument>, warnings: Vec<String>) -> Self {
        let tenants = config.tenants.iter().map(|(name, tenant)| TenantDocument {
            name: name.to_string(),
            weight: tenant.weight.get(),
            concurrency: tenant.concurrency.get(),
            memory: tenant.memory.0,
        });
        let config = ConfigDocument {
            file: file.display().to_string(),
            broker: broker(&config.broker),
            threads: config.engine.threads.get(),
            concurrency: config.engine.concurrency.get(),
            tenants: tenants.collect(),
            plugins,
        };
        Self { ok: true, problems: Vec::new(), errors: Vec::new(), warnings, config: Some(config) }
    }
}

fn broker(broker: &Broker) -> String {
    match broker {
        Broker::Embedded { path } => format!("embedded in {}", path.display()),
        Broker::Redis(server) => match &server.topology {
            Topology::Server => server.shown_url(),
            Topology::Cluster(nodes) => {
                format!("{} and {} further nodes of its cluster", server.shown_url(), nodes.len())
            }
            Topology::Sentinels(sentinels) => {
                format!("{}, found by {} sentinels", server.shown_url(), sentinels.len())
            }
        },
    }
}

/// A configuration that is right, for people.
#[must_use]
pub fn check(config: &Config, document: &CheckDocument, paint: Paint) -> String {
    let mut parts = vec![head(config, paint)];
    if let Some(config) = &document.config {
        parts.push(tenants(config, paint));
        if !config.plugins.is_empty() {
            parts.push(plugins(config, paint));
        }
    }
    let warnings = document.warnings.iter().map(|warning| format!("{}: {warning}", paint.bold("warning")));
    parts.extend(warnings);
    parts.push(paint.green("all is right"));
    parts.join("\n\n")
}

fn head(config: &Config, paint: Paint) -> String {
    let (lease, engine, limits) = (&config.lease, &config.engine, &config.limits);
    let lines = [
        ("broker", broker(&config.broker)),
        (
            "leases",
            format!(
                "{}, renewed every {}, trusted until {} before their end",
                time(lease.ttl),
                time(lease.renew_every),
                time(lease.margin)
            ),
        ),
        (
            "handlers",
            format!(
                "on {}, {} runs at once",
                super::of(engine.threads.get() as u64, "thread"),
                engine.concurrency
            ),
        ),
        (
            "a run",
            format!(
                "at most fuel {}, memory {}, time {}, output {}",
                count(limits.fuel.0),
                bytes(limits.memory.0),
                time(limits.timeout),
                bytes(limits.output.0)
            ),
        ),
        ("grace", time(config.grace)),
        ("cache", engine.cache.display().to_string()),
    ];
    pairs(lines, paint)
}

fn tenants(config: &ConfigDocument, paint: Paint) -> String {
    let rows = config.tenants.iter().map(|tenant| {
        let plugins = config.plugins.iter().filter(|plugin| plugin.tenant == tenant.name).count();
        vec![
            Cell::new(&tenant.name),
            Cell::new(tenant.weight),
            Cell::new(tenant.concurrency),
            Cell::new(bytes(tenant.memory)),
            Cell::new(plugins),
        ]
    });
    let columns = [
        Column::Left("tenant"),
        Column::Right("weight"),
        Column::Right("at once"),
        Column::Right("memory"),
        Column::Right("plugins"),
    ];
    table(&columns, rows, paint)
}

fn plugins(config: &ConfigDocument, paint: Paint) -> String {
    let rows = config.plugins.iter().map(|plugin| {
        vec![
            Cell::new(format!("{}/{}", plugin.tenant, plugin.name)),
            Cell::new(plugin.kinds.join(" ")),
            Cell::new(&plugin.queue),
            Cell::new(count(plugin.budget.fuel)),
            Cell::new(bytes(plugin.budget.memory)),
            Cell::new(time(std::time::Duration::from_millis(plugin.budget.timeout_ms))),
            Cell::new(plugin.concurrency.map_or_else(|| "-".to_owned(), |most| most.to_string())),
            Cell::new(plugin.max_attempts),
            Cell::new(reaches(&plugin.grants)),
            Cell::new(plugin.revision.get(..12).unwrap_or_default()),
        ]
    });
    let columns = [
        Column::Left("plugin"),
        Column::Left("kinds"),
        Column::Left("queue"),
        Column::Right("fuel"),
        Column::Right("memory"),
        Column::Right("time"),
        Column::Right("at once"),
        Column::Right("attempts"),
        Column::Left("reaches"),
        Column::Left("revision"),
    ];
    table(&columns, rows, paint)
}

fn reaches(grants: &GrantsDocument) -> String {
    let parts = [
        (&grants.dirs, "dir"),
        (&grants.http, "host"),
        (&grants.env, "variable"),
        (&grants.secrets, "secret"),
    ];
    let there = parts.iter().filter(|(names, _)| !names.is_empty());
    let there: Vec<String> = there.map(|(names, what)| super::of(names.len() as u64, what)).collect();
    if there.is_empty() { "nothing".to_owned() } else { there.join(", ") }
}
