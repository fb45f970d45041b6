//! Output of a checked configuration.

use std::num::NonZeroU32;
use std::path::Path;

use comfy_table::Cell;
use sandhog_broker::redis::Topology;
use sandhog_config::units::time;
use sandhog_config::{Broker, Config, Plugin, Problem};
use sandhog_core::budget::{Budget, Bytes, ClockResolution, LimitValue};
use sandhog_core::id::Revision;
use sandhog_core::reason::Reason;
use sandhog_core::retry::{Backoff, Growth, Jitter, RetryRule};
use sandhog_core::transition::{Keep, KeepMax};
use sandhog_engine::Access;
use serde::{Serialize, Serializer};

use super::{Column, Paint, bytes, count, pairs, table};

/// JSON document of a check. Names and meanings stay as they are; more may come.
#[derive(Debug, Serialize)]
pub struct CheckDocument {
    /// Whether a daemon could run with the configuration.
    pub ok: bool,
    /// Problems with the files.
    pub problems: Vec<ProblemDocument>,
    /// Problems beyond the files: components that can't be loaded, a broker that isn't fit.
    pub errors: Vec<String>,
    /// Warnings of what works, but should be looked at.
    pub warnings: Vec<String>,
    /// The configuration that would be in force; null if the files are wrong.
    pub config: Option<ConfigDocument>,
}

/// A problem with a file.
#[derive(Debug, Serialize)]
pub struct ProblemDocument {
    /// The file.
    pub file: String,
    /// The line, from 1; null if the file as a whole is meant.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// The full name of the key; may be empty.
    pub key: String,
    /// A description of what is wrong, with the value.
    pub problem: String,
    /// The rule that was broken; may be empty.
    pub rule: String,
    /// Suggestions of what to do about it.
    pub help: Vec<String>,
}

/// The configuration that would be in force.
#[derive(Debug, Serialize)]
pub struct ConfigDocument {
    /// The daemon's file.
    pub file: String,
    /// The broker's address, without the login.
    pub broker: String,
    /// Number of threads that run handlers.
    pub threads: usize,
    /// Maximum number of runs at once.
    pub concurrency: u32,
    /// The tenants.
    pub tenants: Vec<TenantDocument>,
    /// The tenants' plugins, as far as they could be loaded.
    pub plugins: Vec<LoadedDocument>,
}

/// A tenant.
#[derive(Debug, Serialize)]
pub struct TenantDocument {
    /// The tenant's name.
    pub name: String,
    /// The tenant's share of the processors, relative to the other tenants'.
    pub weight: u32,
    /// Maximum number of the tenant's runs at once.
    pub concurrency: u32,
    /// Maximum memory of all the tenant's runs together, in bytes.
    pub memory: u64,
}

/// A plugin that was loaded.
#[derive(Debug, Serialize)]
pub struct LoadedDocument {
    /// The tenant that it belongs to.
    pub tenant: String,
    /// The plugin's name.
    pub name: String,
    /// The plugin's file.
    pub file: String,
    /// The sha256 of its component.
    pub revision: String,
    /// The kinds that it handles.
    pub kinds: Vec<String>,
    /// The queue in which its jobs wait.
    pub queue: String,
    /// Maximum number of its runs at once, on all daemons together; null if only its tenant's limit on each daemon applies.
    pub concurrency: Option<u32>,
    /// Maximum number of attempts of a job, the first included.
    pub max_attempts: u32,
    /// The waits between attempts.
    pub backoff: BackoffDocument,
    /// Rules for attempts that end for certain reasons, by reason.
    pub retry_rules: Vec<RetryRuleDocument>,
    /// Retention of its final jobs, by age and by number.
    pub keep: KeepDocument,
    /// The budget of one run: the narrowest of daemon, tenant and plugin.
    pub budget: BudgetDocument,
    /// The resources that it may reach: directories as `host:guest:access`, and the names of variables and secrets.
    pub grants: GrantsDocument,
}

/// The waits between the attempts of a job.
#[derive(Debug, Serialize)]
pub struct BackoffDocument {
    /// `fixed`, `linear` or `exponential`.
    #[serde(rename = "type")]
    pub growth: &'static str,
    /// The wait after the first failure, in milliseconds.
    pub base_ms: u64,
    /// Factor by which each further wait is longer; null unless the waits are exponential.
    pub factor: Option<f64>,
    /// The longest wait, in milliseconds.
    pub max_ms: u64,
    /// `none`, `equal`, `full` or `decorrelated`.
    pub jitter: &'static str,
}

/// Rule for attempts that end for one reason.
#[derive(Debug, Serialize)]
pub struct RetryRuleDocument {
    /// The reason.
    pub on: &'static str,
    /// `retry` or `bury`.
    pub action: &'static str,
    /// Maximum number of attempts of a job; null if it is buried at once.
    pub max_attempts: Option<u32>,
    /// The waits between attempts; null if it is buried at once.
    pub backoff: Option<BackoffDocument>,
}

/// Retention of final jobs.
#[derive(Debug, Serialize)]
pub struct KeepDocument {
    /// Of jobs that succeeded or were cancelled.
    pub done: KeptDocument,
    /// Of dead letters.
    pub dead: KeptDocument,
}

/// Retention of jobs that end in one way.
#[derive(Debug, Serialize)]
pub struct KeptDocument {
    /// Time for which they are kept, in milliseconds.
    pub for_ms: u64,
    /// Maximum number of them; null if the plugin has none of its own.
    pub most: Option<u64>,
}

/// The budget of one run: the maximum of each resource, by its key under `limits`. Sizes are in bytes; those of times have
/// `_ms` behind their key, and are in milliseconds.
#[derive(Debug)]
pub struct BudgetDocument(Budget);

impl Serialize for BudgetDocument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.values().map(|(key, value)| match value {
            LimitValue::Count(number) | LimitValue::Size(Bytes(number)) => (key.name.to_owned(), number),
            LimitValue::SmallCount(number) => (key.name.to_owned(), number.into()),
            LimitValue::Time(time) | LimitValue::Resolution(ClockResolution(time)) => {
                (format!("{}_ms", key.name), sandhog_core::time::millis(time))
            }
        }))
    }
}

/// The resources that a plugin may reach.
#[derive(Debug, Serialize)]
pub struct GrantsDocument {
    /// Directories, as `host:guest:access`.
    pub dirs: Vec<String>,
    /// HTTP destinations, as `host:port`.
    pub http: Vec<String>,
    /// Environment variables, by name, without their values.
    pub env: Vec<String>,
    /// Secrets, by name, without their values.
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

impl From<&Backoff> for BackoffDocument {
    fn from(backoff: &Backoff) -> Self {
        let (growth, factor) = match backoff.growth {
            Growth::Fixed => ("fixed", None),
            Growth::Linear => ("linear", None),
            Growth::Exponential { factor } => ("exponential", Some(factor)),
        };
        let jitter = match backoff.jitter {
            Jitter::None => "none",
            Jitter::Equal => "equal",
            Jitter::Full => "full",
            Jitter::Decorrelated => "decorrelated",
        };
        let [base_ms, max_ms] = [backoff.base, backoff.max].map(sandhog_core::time::millis);
        Self { growth, base_ms, factor, max_ms, jitter }
    }
}

impl RetryRuleDocument {
    /// Creates the document of the rule for a reason.
    #[must_use]
    pub fn new(reason: Reason, rule: &RetryRule) -> Self {
        let (action, max_attempts, backoff) = match rule {
            RetryRule::Bury => ("bury", None, None),
            RetryRule::Retry { max_attempts, backoff } => {
                ("retry", Some(max_attempts.get()), Some(backoff.into()))
            }
        };
        Self { on: reason.slug(), action, max_attempts, backoff }
    }
}

impl KeepDocument {
    fn new(keep: Keep, keep_max: Option<KeepMax>) -> Self {
        let kept = |time, most: Option<u64>| KeptDocument {
            for_ms: sandhog_core::time::millis(time),
            most: most.filter(|most| *most < u64::MAX),
        };
        Self {
            done: kept(keep.done, keep_max.map(|keep_max| keep_max.done)),
            dead: kept(keep.dead, keep_max.map(|keep_max| keep_max.dead)),
        }
    }
}

impl From<Budget> for BudgetDocument {
    fn from(budget: Budget) -> Self {
        Self(budget)
    }
}

impl LoadedDocument {
    /// Creates the document of a plugin, with the revision that was loaded.
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
            backoff: (&plugin.retry.backoff).into(),
            retry_rules: plugin
                .retry
                .rules
                .iter()
                .map(|(reason, rule)| RetryRuleDocument::new(*reason, rule))
                .collect(),
            keep: KeepDocument::new(plugin.keep, plugin.keep_max),
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
    /// Creates the document of files that are wrong.
    #[must_use]
    pub fn of_problems(problems: Vec<ProblemDocument>) -> Self {
        Self { ok: false, problems, errors: Vec::new(), warnings: Vec::new(), config: None }
    }

    /// Creates the document of files that are right.
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

/// Renders a configuration that is right, for people.
#[must_use]
pub fn check(config: &Config, document: &CheckDocument, paint: Paint) -> String {
    let mut parts = vec![head(config, paint)];
    if let Some(config) = &document.config {
        parts.push(tenants(config, paint));
        if !config.plugins.is_empty() {
            parts.push(plugins(config, paint));
            parts.extend(retry_rules(config, paint));
            parts.extend(kept(config, paint));
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
            Cell::new(count(plugin.budget.0.fuel.0)),
            Cell::new(bytes(plugin.budget.0.memory.0)),
            Cell::new(time(plugin.budget.0.timeout)),
            Cell::new(plugin.concurrency.map_or_else(|| "-".to_owned(), |most| most.to_string())),
            Cell::new(plugin.max_attempts),
            Cell::new(waits(&plugin.backoff)),
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
        Column::Left("waits"),
        Column::Left("reaches"),
        Column::Left("revision"),
    ];
    table(&columns, rows, paint)
}

/// Renders the rules of all plugins for single reasons; `None` if there are none.
fn retry_rules(config: &ConfigDocument, paint: Paint) -> Option<String> {
    let rules =
        config.plugins.iter().flat_map(|plugin| plugin.retry_rules.iter().map(move |rule| (plugin, rule)));
    let rows: Vec<Vec<Cell>> = rules
        .map(|(plugin, rule)| {
            vec![
                Cell::new(format!("{}/{}", plugin.tenant, plugin.name)),
                Cell::new(rule.on),
                Cell::new(rule.max_attempts.map_or_else(|| rule.action.to_owned(), |most| most.to_string())),
                Cell::new(rule.backoff.as_ref().map_or_else(|| "-".to_owned(), waits)),
            ]
        })
        .collect();
    let columns =
        [Column::Left("plugin"), Column::Left("after"), Column::Right("attempts"), Column::Left("waits")];
    (!rows.is_empty()).then(|| table(&columns, rows, paint))
}

/// Renders what is kept of plugins that keep no more than a number; `None` if none does.
fn kept(config: &ConfigDocument, paint: Paint) -> Option<String> {
    let rows: Vec<Vec<Cell>> = config
        .plugins
        .iter()
        .flat_map(|plugin| {
            [("done", &plugin.keep.done), ("dead", &plugin.keep.dead)].map(|end| (plugin, end))
        })
        .filter_map(|(plugin, (end, kept))| {
            let most = kept.most?;
            Some(vec![
                Cell::new(format!("{}/{}", plugin.tenant, plugin.name)),
                Cell::new(end),
                Cell::new(time(std::time::Duration::from_millis(kept.for_ms))),
                Cell::new(most),
            ])
        })
        .collect();
    let columns =
        [Column::Left("plugin"), Column::Left("ended"), Column::Right("kept for"), Column::Right("at most")];
    (!rows.is_empty()).then(|| table(&columns, rows, paint))
}

/// Renders waits between attempts, such as `2s x2 to 10m, full jitter`.
fn waits(backoff: &BackoffDocument) -> String {
    let [base, max] = [backoff.base_ms, backoff.max_ms].map(|ms| time(std::time::Duration::from_millis(ms)));
    let grown = match (backoff.jitter, backoff.growth, backoff.factor) {
        ("decorrelated", ..) => format!("{base} to {max}"),
        (_, "linear", _) => format!("{base} +{base} to {max}"),
        (_, _, Some(factor)) => format!("{base} x{factor} to {max}"),
        _ => base,
    };
    if backoff.jitter == "none" { grown } else { format!("{grown}, {} jitter", backoff.jitter) }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn waits_are_shown_by_how_they_grow_and_spread() {
        let backoff = Backoff::default();
        let shown = |backoff: Backoff| waits(&BackoffDocument::from(&backoff));
        let base = Duration::from_secs(60);
        for (backoff, text) in [
            (backoff, "2s x2 to 10m, full jitter"),
            (Backoff { growth: Growth::Linear, jitter: Jitter::None, ..backoff }, "2s +2s to 10m"),
            (Backoff { growth: Growth::Fixed, base, jitter: Jitter::Equal, ..backoff }, "1m, equal jitter"),
            (Backoff { jitter: Jitter::Decorrelated, ..backoff }, "2s to 10m, decorrelated jitter"),
        ] {
            assert_eq!(shown(backoff), text);
        }
    }
}
