//! Checked configuration: every value in here is valid, and fits with the others.
//!
//! [`load`] reads the daemon's file and the folder of plugin files beside it. The daemon's file is either right as a whole,
//! or all that is wrong with it comes back at once, each problem with its place. A plugin file that is wrong is left out,
//! and reported in [`Config::broken`]: it concerns its plugin alone, unless the caller asks for [`Config::strict`]. Each
//! part is handed by value to what it configures; nothing else reads files or the environment.
//!
//! ```text
//! sandhog.toml ──┐ fields: key by key, typed;     across: what only
//! plugins.d/* ───┘ every problem with its place ─> values together get wrong ─> Config | Problems
//! ```
//!
//! Relative paths are relative to the file that they stand in. A daemon file without any `[tenants]` has the tenants
//! that its plugins name, with defaults for each; one that declares tenants has those and no others.

mod across;
mod breaker;
mod daemon;
mod deploy;
mod fields;
mod http;
mod own;
mod plugin;
mod problem;
mod reference;
mod retry;
mod schedule;
mod signer;
#[cfg(test)]
mod tests;
pub mod units;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandhog_core::access::Token;
use sandhog_core::breaker::BreakerRule;
use sandhog_core::budget::{Budget, Bytes, Caps};
use sandhog_core::canary;
use sandhog_core::compile::{CompileBudget, CompileCaps};
use sandhog_core::event::EventKeep;
use sandhog_core::grants::{GrantCaps, Grants, Ranges};
use sandhog_core::group::QueueRule;
use sandhog_core::id::{DownstreamName, Kind, PluginName, QueueName, Revision, TenantId};
use sandhog_core::keyring::Keyring;
use sandhog_core::quota::{FuelQuota, QueueBounds, StateCaps, StateQuota};
use sandhog_core::rate::{Rate, RateLimit};
use sandhog_core::redis;
use sandhog_core::retry::RetryPolicy;
use sandhog_core::schedule::Schedule;
use sandhog_core::transition::{Keep, KeepMax};
use sandhog_files::regular_file;

use fields::File;
use reference::{Follow, Outside};

pub use across::COMPONENT_MAX;
pub use fields::nearest;
pub use http::TOKENS_MAX;
pub use own::OwnBroker;
pub use problem::{Place, Problem, Problems};
pub use signer::{InvalidSigner, Signer};

/// Whole configuration of a daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Broker in which jobs are stored.
    pub broker: Broker,
    /// Times of leases.
    pub lease: Lease,
    /// Share of the machine that guests get.
    pub engine: Engine,
    /// Maximum budget of any run, and the budget of a run for which nothing else is set.
    pub limits: Budget,
    /// Maximum budget for compiling any component, and the budget for one for which nothing else is set.
    pub compile: CompileBudget,
    /// Maximum time for which running jobs may go on after the first signal to stop.
    pub grace: Duration,
    /// Settings of deploys, and the folder that remembers them.
    pub deploy: Deploy,
    /// Interface over the network. `None` if there is none.
    pub http: Option<Http>,
    /// Addresses that no plugin's requests reach, whatever it is granted.
    pub http_deny: Ranges,
    /// Folder of the plugin files.
    pub plugins_folder: PathBuf,
    /// Tenants, by id.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// Plugins of the tenants. Each pair of tenant and name is there once; so is each pair of tenant and kind, but for
    /// plugins that stay as they were (see [`load_again`]).
    pub plugins: Vec<Plugin>,
    /// Plugin files that are wrong.
    pub broken: Vec<BrokenFile>,
    /// Texts of the other plugin files.
    pub texts: FileTexts,
}

/// Texts of plugin files, each under its path.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct FileTexts(pub BTreeMap<PathBuf, Arc<str>>);

/// Leaves out the texts, which may hold payloads.
impl std::fmt::Debug for FileTexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Plugin file that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenFile {
    /// Path of the file.
    pub file: PathBuf,
    /// Tenant and name of the file's plugin. `None` if they can't be told. No other file has that plugin.
    pub plugin: Option<(TenantId, PluginName)>,
    /// All that is wrong with the file.
    pub problems: Problems,
}

/// Broker in which jobs are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broker {
    /// SQLite file on this machine.
    Embedded {
        /// Path of the file.
        path: PathBuf,
    },
    /// Redis or Valkey server.
    Redis(redis::Config),
}

/// Times of leases. Always `margin + renew_every < ttl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Duration of a lease, from the broker's answer on.
    pub ttl: Duration,
    /// Safety margin: the daemon stops trusting a lease this long before its end.
    pub margin: Duration,
    /// Interval at which leases are renewed, and progress and log lines stored.
    pub renew_every: Duration,
    /// Maximum number of a job's leases that may run out: when one more does, the job is buried.
    pub expiries_max: u32,
}

impl Default for Lease {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(30),
            margin: Duration::from_secs(5),
            renew_every: Duration::from_secs(5),
            expiries_max: 5,
        }
    }
}

/// Share of the machine that guests get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Number of threads that run guests and nothing else.
    pub threads: NonZeroUsize,
    /// Maximum number of runs under way at once, waiting ones included.
    pub concurrency: NonZeroU32,
    /// Size of a guest's call stack.
    pub stack: Bytes,
    /// Maximum memory of earlier runs that is kept for later ones when nothing runs.
    pub idle_memory: Bytes,
    /// Whether backtraces of traps have files and lines, where components have debug information.
    pub backtrace_lines: bool,
    /// Folder in which compiled components are kept. Only the daemon's user may write there.
    pub cache: PathBuf,
}

/// Settings of deploys, and the folder that remembers them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    /// Folder with what was deployed, and with the socket on which the daemon takes commands. Only the daemon's user may
    /// write there.
    pub folder: PathBuf,
    /// Number of revisions of each plugin that are kept, the one in force included.
    pub keep: NonZeroUsize,
    /// Interval at which the files are checked for changes where the system doesn't report any.
    pub look_every: Duration,
}

/// Interface over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Name of the installation, which pages show. `None` if it has none.
    pub name: Option<String>,
    /// Address and port that are listened on.
    pub listen: SocketAddr,
    /// Whether the operator wants it open to others without TLS or tokens.
    pub insecure: bool,
    /// Names by which it is reached, in lower case, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Path below which it is reached as well, such as `/sandhog`. Empty if there is none.
    pub base: String,
    /// Number of threads that serve requests, and nothing else.
    pub threads: NonZeroUsize,
    /// Maximum number of connections that are open at once; others wait.
    pub connections: NonZeroU32,
    /// Maximum size of a request's body, where jobs come in.
    pub body: Bytes,
    /// Limit on the requests of each token that has no other.
    pub rate: Rate,
    /// Certificate by which it is trusted. `None` if it is spoken to in plain text.
    pub tls: Option<Tls>,
    /// Tokens by which callers are known. If there are none, whoever reaches it may do everything.
    pub tokens: Vec<Token>,
    /// File from which the tokens were read. `None` if they stand in the daemon's file.
    pub tokens_file: Option<PathBuf>,
}

/// Files of a certificate, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Path of the certificate, with those that lead to its authority.
    pub certificate: PathBuf,
    /// Path of the certificate's private key.
    pub key: PathBuf,
    /// Path of the certificates of authorities one of which has to have signed the client's. `None` if clients need none.
    pub clients: Option<PathBuf>,
}

/// Tenant: a team with a share of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Share of the processors, relative to the other tenants'.
    pub weight: NonZeroU32,
    /// Maximum number of runs under way at once.
    pub concurrency: NonZeroU32,
    /// Maximum memory of all runs under way together.
    pub memory: Bytes,
    /// Signers whose components the tenant accepts. Empty if it accepts anybody's.
    pub signers: Vec<Signer>,
    /// Ceilings on the budget of each run.
    pub limits: Caps,
    /// The tenant's own connection to the broker. `None` if it uses that of all.
    pub broker: Option<OwnBroker>,
    /// Keys with which the tenant's data is encrypted. `None` if it is stored in plain text.
    pub encryption: Option<Keyring>,
    /// Ceilings on the budget for compiling each component.
    pub compile: CompileCaps,
    /// Ceilings on the state of each plugin.
    pub state: StateCaps,
    /// Fuel that all runs together may spend.
    pub fuel: FuelQuota,
    /// Bounds on what may wait in the tenant's queues, and on a payload whose kind no plugin handles.
    pub queue: QueueBounds,
    /// Rules for the breakers of downstreams; others have the default.
    pub breakers: BTreeMap<DownstreamName, BreakerRule>,
    /// Rules for groups of jobs, by queue.
    pub group_rules: BTreeMap<QueueName, QueueRule>,
    /// Retention of final jobs by number.
    pub keep_max: KeepMax,
    /// Retention of events of jobs.
    pub events: EventKeep,
    /// Policy for a plugin whose component asks for more than its TOML grants.
    pub missing_grants: MissingGrants,
    /// Ceilings on what plugins may be granted.
    pub grants: GrantCaps,
}

/// Policy for a plugin whose component asks for more than its TOML grants. Many components import all of WASI whether they
/// use it or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingGrants {
    /// The plugin is deployed. The log says what it doesn't get, and a call for that is refused.
    #[default]
    Allow,
    /// The plugin isn't deployed.
    Refuse,
}

/// Plugin: a component and its terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Name, unique within the tenant.
    pub name: PluginName,
    /// Tenant that owns the plugin.
    pub tenant: TenantId,
    /// Plugin file that it was read from, for messages.
    pub file: PathBuf,
    /// Path of the component.
    pub component: PathBuf,
    /// Only revision that may be loaded. `None` if the operator pinned none.
    pub sha256: Option<Revision>,
    /// Kinds that the plugin handles; each is unique within the tenant.
    pub kinds: Vec<Kind>,
    /// Queue in which the plugin's jobs wait, unless their producer names another.
    pub queue: QueueName,
    /// Ceilings on the budget of each run.
    pub limits: Caps,
    /// Ceilings on the budget for compiling the component.
    pub compile: CompileCaps,
    /// Maximum state: the narrowest of daemon, tenant and plugin.
    pub state: StateQuota,
    /// Maximum size of a payload.
    pub payload: Bytes,
    /// Maximum number of runs under way at once, on all daemons together. `None` if the plugin has no limit of its own.
    pub concurrency: Option<NonZeroU32>,
    /// Limit on the number of runs that start within a time, on all daemons together.
    pub rate: Option<RateLimit>,
    /// Rule of the plugin's own breaker. `None` if it has none.
    pub breaker: Option<BreakerRule>,
    /// Downstreams that its handlers call, in order of name.
    pub calls: Vec<DownstreamName>,
    /// Rules for when failed jobs are tried again.
    pub retry: RetryPolicy,
    /// Retention of final jobs by age.
    pub keep: Keep,
    /// Retention of final jobs of its runs by number; `None` if it has no bound of its own.
    pub keep_max: Option<KeepMax>,
    /// Grants: what the plugin may reach.
    pub grants: Grants,
    /// Policy for a component that asks for more than `grants`.
    pub missing_grants: MissingGrants,
    /// Smoke run that a new revision has to pass. `None` if the operator wants none.
    pub smoke: Option<Smoke>,
    /// Rules by which a new revision is tried beside the old one. `None` if it isn't.
    pub canary: Option<canary::Policy>,
    /// Schedules that enqueue jobs for the plugin, in order of name.
    pub schedules: Vec<Schedule>,
}

/// Sample job for a smoke run: a revision that fails it is not deployed.
#[derive(Clone, PartialEq, Eq)]
pub struct Smoke {
    /// Kind of the job; one of the plugin's kinds.
    pub kind: Kind,
    /// Payload of the job.
    pub payload: Vec<u8>,
}

/// Leaves out the payload.
impl std::fmt::Debug for Smoke {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Smoke({}, {})", self.kind, Bytes::of(self.payload.len()))
    }
}

/// Maximum size of a configuration file.
const FILE_MAX: Bytes = Bytes::mib(1);

/// Reads the daemon's file and the plugin files that belong to it.
///
/// # Errors
/// All that is wrong with the files, if the daemon's is among them.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_from(path, Outside { env: &from_environment, follow: Follow::All }, None)
}

/// Reads the configuration as [`load`] does, for a daemon: components need not be there, as a plugin without one is a deploy
/// that fails.
///
/// # Errors
/// All that is wrong with the files, if the daemon's is among them.
pub fn load_to_run(path: &Path) -> Result<Config, Problems> {
    load_from(path, Outside { env: &from_environment, follow: Follow::Secrets }, None)
}

/// Reads the configuration as [`load_to_run`] does, for a daemon that runs: a plugin whose file is wrong now stays as it was
/// `before`.
///
/// # Errors
/// All that is wrong with the files, if the daemon's is among them.
pub fn load_again(path: &Path, before: &Config) -> Result<Config, Problems> {
    load_from(path, Outside { env: &from_environment, follow: Follow::Secrets }, Some(before))
}

/// Reads the configuration as [`load_to_run`] does, for a daemon that has `kept` the texts of files that were right once: a
/// plugin whose file is wrong is as its kept text has it, if that is still right beside all else.
///
/// # Errors
/// All that is wrong with the files, if the daemon's is among them.
pub fn load_to_run_with(path: &Path, kept: &FileTexts) -> Result<Config, Problems> {
    load_with(path, Outside { env: &from_environment, follow: Follow::Secrets }, kept)
}

fn load_with(path: &Path, outside: Outside<'_>, kept: &FileTexts) -> Result<Config, Problems> {
    let config = load_from(path, outside, None)?;
    let wrong: BTreeSet<&Path> = config.broken.iter().map(|broken| broken.file.as_path()).collect();
    let kept_text = |path: &Path| kept.0.get(path).filter(|_| wrong.contains(path));
    if !wrong.iter().any(|path| kept_text(path).is_some()) {
        return Ok(config);
    }
    let read = |path: &Path| kept_text(path).map_or_else(|| text_of(path), |text| Ok(text.to_string()));
    let before = load_texts(path, outside, None, &read)?;
    load_from(path, outside, Some(&before))
}

/// Reads the configuration as [`load`] does, for a process that only talks to the broker: secrets are not fetched (no plugin
/// has any), and components need not be there.
///
/// # Errors
/// All that is wrong with the files, if the daemon's is among them.
pub fn load_for_broker(path: &Path) -> Result<Config, Problems> {
    load_from(path, Outside { env: &from_environment, follow: Follow::BrokerAlone }, None)
}

/// Reads the configuration as [`load_for_broker`] does, for a process that serves the interface over the network and runs no
/// jobs.
///
/// # Errors
/// All that is wrong with the files, if the daemon's is among them.
pub fn load_to_serve(path: &Path) -> Result<Config, Problems> {
    load_from(path, Outside { env: &from_environment, follow: Follow::BrokerAndTokens }, None)
}

/// Returns the folder of deploys that a daemon's file names, whatever else is wrong with the file.
///
/// # Errors
/// The file can't be read.
pub fn deploy_folder(path: &Path) -> Result<PathBuf, Problems> {
    let text =
        text_of(path).map_err(|problem| Problems::one(Problem::of_file(path, problem).help(STARTER)))?;
    let outside = Outside { env: &from_environment, follow: Follow::BrokerAlone };
    let file = File::new(path.to_owned(), &text);
    let written = file.read(|fields| daemon::read(fields, outside).deploy.folder);
    Ok(written.unwrap_or_else(|| file.resolve(Path::new(deploy::FOLDER))))
}

/// Component and grants of a plugin's file, read without the rest of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFile {
    /// Path of the component.
    pub component: PathBuf,
    /// Kinds that the file lists.
    pub kinds: Vec<Kind>,
    /// Keys of `[grants]` that grant something.
    pub granted: Vec<&'static str>,
}

/// Reads one plugin's file alone. The files and variables that it refers to need not be there.
///
/// # Errors
/// All that is wrong with the file.
pub fn load_plugin_file(path: &Path) -> Result<PluginFile, Problems> {
    let outside = Outside { env: &from_environment, follow: Follow::BrokerAlone };
    let text = text_of(path).map_err(|problem| Problems::one(Problem::of_file(path, problem)))?;
    let file = File::new(path.to_owned(), &text);
    let draft = file.read(|fields| plugin::read(fields, outside, |_| true)).flatten();
    match Problems::some(file.into_problems(), path) {
        Some(problems) => Err(problems),
        None => Ok(draft.expect("whatever kept it from being read was noted").into_plugin_file()),
    }
}

/// Returns the user's own cache folder for Sandhog.
#[must_use]
pub fn cache_folder() -> PathBuf {
    daemon::cache_folder(Outside { env: &from_environment, follow: Follow::BrokerAlone })
}

/// Returns the folder in which compiled components are kept if no configuration names one.
#[must_use]
pub fn default_cache() -> PathBuf {
    cache_folder().join(daemon::COMPONENTS)
}

fn from_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn load_from(path: &Path, outside: Outside<'_>, before: Option<&Config>) -> Result<Config, Problems> {
    load_texts(path, outside, before, &text_of)
}

/// Reads plugin files as `read` has them.
fn load_texts(
    path: &Path,
    outside: Outside<'_>,
    before: Option<&Config>,
    read: &dyn Fn(&Path) -> Result<String, String>,
) -> Result<Config, Problems> {
    let daemon_file = match text_of(path) {
        Ok(text) => File::new(path.to_owned(), &text),
        Err(problem) => return Err(Problems::one(Problem::of_file(path, problem).help(STARTER))),
    };
    let daemon = daemon_file.read(|fields| daemon::read(fields, outside));
    let mut drafts = Vec::new();
    let (mut broken, mut texts) = (Vec::new(), FileTexts::default());
    let paths = match &daemon {
        Some(daemon) => plugin_files(&daemon_file, daemon),
        None => Vec::new(),
    };
    for path in paths {
        match read(&path) {
            Ok(text) => {
                let file = File::new(path.clone(), &text);
                texts.0.insert(path, text.into());
                let caps_of = |tenant: &TenantId| Some(&daemon.as_ref()?.tenants.get(tenant)?.grants);
                let may_refer = |tenant: &TenantId| caps_of(tenant).is_none_or(may_refer);
                match file.read(|fields| plugin::read(fields, outside, may_refer)).flatten() {
                    Some(draft) => drafts.push((file, draft)),
                    None => broken.push(BrokenFile::new(file, None)),
                }
            }
            Err(problem) => {
                let problems = Problems::one(Problem::of_file(&path, problem));
                broken.push(BrokenFile { file: path, plugin: None, problems });
            }
        }
    }
    let config =
        daemon.and_then(|daemon| assemble(&daemon_file, daemon, &mut broken, drafts, outside, before));
    let of_daemon = daemon_file.into_problems();
    match config {
        Some(config) if of_daemon.is_empty() => {
            broken.iter().for_each(|broken| drop(texts.0.remove(&broken.file)));
            Ok(Config { broken, texts, ..config })
        }
        _ => {
            let of_plugins = broken.iter().flat_map(|broken| broken.problems.iter().cloned());
            let problems = of_daemon.into_iter().chain(of_plugins).collect();
            Err(Problems::some(problems, path).expect("whatever kept it from being read was noted"))
        }
    }
}

/// Whether the plugin files of a tenant with these ceilings may say where secrets and samples are kept.
fn may_refer(caps: &GrantCaps) -> bool {
    caps.secrets.is_none()
}

impl BrokenFile {
    /// Creates the entry of a file that was read and is wrong.
    fn new(file: File, plugin: Option<(TenantId, PluginName)>) -> Self {
        let name = file.name().to_owned();
        let problems = Problems::some(file.into_problems(), &name);
        Self { file: name, plugin, problems: problems.expect("whatever kept it from being used was noted") }
    }
}

const STARTER: &str = "`sandhog dev` writes one to start with; `--config PATH` names another";

/// Assembles the configuration from what was read. Plugin files that turn out to be wrong go to `broken`.
fn assemble(
    daemon_file: &File,
    daemon: daemon::Daemon,
    broken: &mut Vec<BrokenFile>,
    drafts: Vec<(File, plugin::PluginDraft)>,
    outside: Outside<'_>,
    before: Option<&Config>,
) -> Option<Config> {
    across::daemon(daemon_file, &daemon);
    let mut tenants = across::tenants(&daemon, &drafts);
    let mut checked = across::Plugins::new(daemon_file, &daemon, &tenants, outside);
    let mut plugins = Vec::new();
    for (file, draft) in drafts {
        let key = (draft.tenant.clone(), draft.name.clone());
        match checked.check(&file, draft) {
            Some(plugin) => plugins.push(plugin),
            None if file.has_problems() => broken.push(BrokenFile::new(file, Some(key))),
            // The problem is in the daemon's file.
            None => {}
        }
    }
    broken.sort_by(|a, b| a.file.cmp(&b.file));
    for plugin in staying(&plugins, broken, &tenants, before) {
        // The plugins name the tenants, if the daemon's file doesn't.
        let terms = before.and_then(|before| before.tenants.get(&plugin.tenant));
        if let (true, Some(terms)) = (daemon.tenants.is_empty(), terms) {
            tenants.entry(plugin.tenant.clone()).or_insert_with(|| terms.clone());
        }
        if tenants.contains_key(&plugin.tenant) {
            plugins.push(plugin);
        }
    }
    plugins.sort_by(|a, b| a.file.cmp(&b.file));
    Some(Config {
        broker: daemon.broker?,
        lease: daemon.lease,
        engine: daemon.engine,
        limits: daemon.limits,
        compile: daemon.compile,
        grace: daemon.grace,
        deploy: daemon.deploy,
        http: daemon.http,
        http_deny: daemon.http_deny,
        plugins_folder: daemon.plugins.0,
        tenants,
        plugins,
        broken: Vec::new(),
        texts: FileTexts::default(),
    })
}

/// Returns the plugins of `before` whose files are wrong now. Sets the plugin of each broken file: that one, or the one that
/// the file names itself; `None` if another file has that. If a tenant may be granted something else than before, its
/// plugins don't stay: they may have more than that.
fn staying(
    right: &[Plugin],
    broken: &mut [BrokenFile],
    tenants: &BTreeMap<TenantId, Tenant>,
    before: Option<&Config>,
) -> Vec<Plugin> {
    let caps_before = |tenant: &TenantId| Some(&before?.tenants.get(tenant)?.grants);
    let is_as_before = |tenant: &TenantId| {
        tenants.get(tenant).is_none_or(|terms| caps_before(tenant).is_none_or(|caps| *caps == terms.grants))
    };
    let mut taken: BTreeSet<(TenantId, PluginName)> =
        right.iter().map(|plugin| (plugin.tenant.clone(), plugin.name.clone())).collect();
    let mut stay = Vec::new();
    for BrokenFile { file, plugin, .. } in broken {
        let before = before.iter().flat_map(|before| &before.plugins).find(|before| before.file == *file);
        let key = before.map(|before| (before.tenant.clone(), before.name.clone())).or_else(|| plugin.take());
        *plugin = key.filter(|key| taken.insert(key.clone()));
        stay.extend(before.filter(|before| plugin.is_some() && is_as_before(&before.tenant)).cloned());
    }
    stay
}

/// Lists the plugin files, in order of name.
fn plugin_files(daemon_file: &File, daemon: &daemon::Daemon) -> Vec<PathBuf> {
    let (folder, named) = &daemon.plugins;
    let listed = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>());
    match listed {
        Ok(mut paths) => {
            paths.retain(|path| is_plugin_file(path));
            paths.sort();
            paths
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && *named == daemon::Named::Default => {
            Vec::new()
        }
        Err(cause) => {
            let problem = format!("can't list the folder {}: {cause}", folder.display());
            daemon_file.note(daemon_file.problem("plugins", problem));
            Vec::new()
        }
    }
}

/// Whether a path in the folder of plugin files is that of a plugin file. Editors leave hidden files behind; those don't
/// count.
#[must_use]
pub fn is_plugin_file(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "toml")
}

/// Reads a file as text. The error says why it can't be read.
fn text_of(path: &Path) -> Result<String, String> {
    let refuse = |cause: &dyn std::fmt::Display| format!("can't read the file: {cause}");
    let bytes = regular_file::read(path, FILE_MAX).map_err(|cause| refuse(&cause))?;
    String::from_utf8(bytes).map_err(|cause| {
        let valid = cause.utf8_error().valid_up_to();
        let line = cause.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        refuse(&format!("line {line} is not UTF-8"))
    })
}

impl Config {
    /// Returns the configuration if no plugin file is wrong.
    ///
    /// # Errors
    /// All that is wrong with plugin files.
    pub fn strict(self) -> Result<Self, Problems> {
        match self.problems() {
            None => Ok(self),
            Some(problems) => Err(problems),
        }
    }

    /// Returns all that is wrong with plugin files. `None` if nothing is.
    #[must_use]
    pub fn problems(&self) -> Option<Problems> {
        let problems = self.broken.iter().flat_map(|broken| broken.problems.iter().cloned());
        Problems::some(problems.collect(), Path::new(""))
    }

    /// Returns the budget of a plugin's run: the narrowest of daemon, tenant and plugin. No run may exceed alone what all
    /// runs of its tenant may take together.
    #[must_use]
    pub fn budget(&self, plugin: &Plugin) -> Budget {
        let of_tenant = self.tenants.get(&plugin.tenant).map(|tenant| {
            let together = Caps { memory: Some(tenant.memory), ..Caps::default() };
            self.limits.narrow(&tenant.limits).narrow(&together)
        });
        of_tenant.unwrap_or(self.limits).narrow(&plugin.limits)
    }

    /// Returns the budget for compiling a plugin's component: the narrowest of daemon, tenant and plugin.
    #[must_use]
    pub fn compile_budget(&self, plugin: &Plugin) -> CompileBudget {
        let tenant = self.tenants.get(&plugin.tenant).map(|tenant| tenant.compile).unwrap_or_default();
        self.compile.narrow(&tenant).narrow(&plugin.compile)
    }

    /// Returns the signers whose components a plugin's tenant accepts. Empty if it accepts anybody's.
    #[must_use]
    pub fn signers(&self, plugin: &Plugin) -> &[Signer] {
        self.tenants.get(&plugin.tenant).map_or(&[], |tenant| &tenant.signers)
    }

    /// Returns the memory that is in use if as many runs of every plugin are under way as may be, and each takes all that it
    /// may: its own, and what the host holds for it.
    #[must_use]
    pub fn memory_at_worst(&self) -> Bytes {
        let own = self.at_worst(|plugin| self.budget(plugin).memory, |tenant| tenant.memory);
        let host = |plugin: &Plugin| self.budget(plugin).host_memory(plugin.payload, &plugin.grants);
        Bytes(own.0.saturating_add(self.at_worst(host, |_| Bytes(u64::MAX)).0))
    }

    /// Sums `of` over the runs that can be under way at once, those first that take the most, up to `bound` for each
    /// tenant's.
    fn at_worst(&self, of: impl Fn(&Plugin) -> Bytes, bound: impl Fn(&Tenant) -> Bytes) -> Bytes {
        let mut left = u64::from(self.engine.concurrency.get());
        let mut wants: Vec<(Bytes, u64)> = Vec::new();
        let mut together = 0_u64;
        for (id, tenant) in &self.tenants {
            let of_tenant = self.plugins.iter().filter(|plugin| plugin.tenant == *id);
            let at_once = |plugin: &Plugin| plugin.concurrency.unwrap_or(tenant.concurrency).get().into();
            let wanted = of_tenant.map(|plugin| (of(plugin), at_once(plugin)));
            let wanted = most_of(wanted.collect(), &mut tenant.concurrency.get().into());
            together = together.saturating_add(total(&wanted).min(bound(tenant).0));
            wants.extend(wanted);
        }
        Bytes(total(&most_of(wants, &mut left)).min(together))
    }
}

/// Sums up the memory of runs, given as pairs of memory per run and number of runs. The sum saturates.
fn total(wants: &[(Bytes, u64)]) -> u64 {
    wants.iter().map(|(memory, runs)| memory.0.saturating_mul(*runs)).fold(0, u64::saturating_add)
}

/// Picks, of runs given as pairs of memory per run and number of runs, the `left` ones that take the most.
fn most_of(mut wants: Vec<(Bytes, u64)>, left: &mut u64) -> Vec<(Bytes, u64)> {
    wants.sort_by_key(|(memory, _)| std::cmp::Reverse(*memory));
    for (_, runs) in &mut wants {
        *runs = (*runs).min(*left);
        *left -= *runs;
    }
    wants
}
