//! What the operator wrote, checked: every value in here is valid, and fits with the others.
//!
//! [`load`] reads the daemon's file and the folder of plugin files beside it. The daemon's file is either right as a
//! whole, or all that is wrong comes back at once, each with its place. A plugin file that is wrong is left out, and comes
//! along with what is wrong with it: it is the business of its plugin alone, unless somebody asks for [`Config::strict`].
//! Each part is handed by value to whatever it configures; nobody else reads files or the environment.
//!
//! ```text
//! sandhog.toml ──┐ fields: key by key, typed;     across: what only
//! plugins.d/* ───┘ every problem with its place ─> values together get wrong ─> Config | Problems
//! ```
//!
//! Relative paths are relative to the file that they stand in. A daemon file without any `[tenants]` has the tenants
//! that its plugins name, with defaults for each; one that declares tenants has those and no others.

mod across;
mod daemon;
mod deploy;
mod fields;
mod own;
mod plugin;
mod problem;
mod reference;
pub mod regular_file;
mod signer;
#[cfg(test)]
mod tests;
pub mod units;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandhog_core::budget::{Budget, Bytes, Caps};
use sandhog_core::canary;
use sandhog_core::compile::{CompileBudget, CompileCaps};
use sandhog_core::grants::{GrantCaps, Grants, Ranges};
use sandhog_core::id::{Kind, PluginName, QueueName, Revision, TenantId};
use sandhog_core::keyring::Keyring;
use sandhog_core::quota::{FuelQuota, QueueBounds, StateCaps, StateQuota};
use sandhog_core::redis;
use sandhog_core::settle::RetryPolicy;
use sandhog_core::transition::{Keep, KeepMax};

use fields::File;
use reference::{Follow, Outside};

pub use across::COMPONENT_MAX;
pub use fields::nearest;
pub use own::OwnBroker;
pub use problem::{Place, Problem, Problems};
pub use signer::{InvalidSigner, Signer};

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where jobs live.
    pub broker: Broker,
    /// How long leases hold.
    pub lease: Lease,
    /// The machine's share for guests.
    pub engine: Engine,
    /// What any run may spend at most, and what it may spend if nobody says otherwise.
    pub limits: Budget,
    /// What compiling any component may take at most, and may take if nobody says otherwise.
    pub compile: CompileBudget,
    /// How long running jobs may go on after the first signal to stop.
    pub grace: Duration,
    /// Where deploys are remembered.
    pub deploy: Deploy,
    /// The addresses that no plugin's requests reach, whatever it is granted.
    pub http_deny: Ranges,
    /// The folder of the plugin files.
    pub plugins_folder: PathBuf,
    /// The teams.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// Their plugins. Every tenant and name pair is there once; so is every tenant and kind pair, but for plugins that stay
    /// as they were (see [`load_again`]).
    pub plugins: Vec<Plugin>,
    /// The plugin files that are wrong.
    pub broken: Vec<BrokenFile>,
    /// What the others say.
    pub texts: FileTexts,
}

/// The texts of plugin files, each under its path.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct FileTexts(pub BTreeMap<PathBuf, Arc<str>>);

/// Without the texts, which may hold payloads.
impl std::fmt::Debug for FileTexts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A plugin file that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenFile {
    /// The file.
    pub file: PathBuf,
    /// Whose plugin it has, and its name, as far as that can be told. No other file has that plugin.
    pub plugin: Option<(TenantId, PluginName)>,
    /// All that is wrong with it.
    pub problems: Problems,
}

/// Where jobs live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broker {
    /// A SQLite file on this machine.
    Embedded {
        /// The file.
        path: PathBuf,
    },
    /// A Redis or Valkey server.
    Redis(redis::Config),
}

/// How long leases hold. `margin + renew_every < ttl` always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// From the broker's answer on.
    pub ttl: Duration,
    /// So much earlier the daemon stops to trust it.
    pub margin: Duration,
    /// How often leases are renewed, and progress and log lines stored.
    pub renew_every: Duration,
    /// After this many leases of a job ran out, it is buried.
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

/// The machine's share for guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Threads that run guests and nothing else.
    pub threads: NonZeroUsize,
    /// Runs that are under way at once, waiting ones included.
    pub concurrency: NonZeroU32,
    /// The call stack of a guest.
    pub stack: Bytes,
    /// The memory of earlier runs that is kept for later ones when nothing runs, at most.
    pub idle_memory: Bytes,
    /// Where compiled components are kept; only the daemon's user may write there.
    pub cache: PathBuf,
}

/// Where deploys are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    /// The folder with what was deployed, and with the socket on which the daemon takes commands. Only the daemon's
    /// user may write there.
    pub folder: PathBuf,
    /// How many revisions of each plugin are kept, the one in force included.
    pub keep: NonZeroUsize,
    /// How often the files are looked at, whether they have changed, where the system tells of no change.
    pub look_every: Duration,
}

/// A team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its share of the processors, relative to the other tenants'.
    pub weight: NonZeroU32,
    /// Its runs under way at once.
    pub concurrency: NonZeroU32,
    /// The memory of all its runs under way together.
    pub memory: Bytes,
    /// Whose components it takes; if there are none, anybody's.
    pub signers: Vec<Signer>,
    /// What each of its runs may spend at most.
    pub limits: Caps,
    /// Its own way to the broker; that of all, if it has none.
    pub broker: Option<OwnBroker>,
    /// The keys by which its data is sealed; it is stored in plain text, if there are none.
    pub encryption: Option<Keyring>,
    /// What compiling one of its components may take at most.
    pub compile: CompileCaps,
    /// What its plugins may keep at most, each of them.
    pub state: StateCaps,
    /// What all its runs together may spend.
    pub fuel: FuelQuota,
    /// How much it may have waiting, and how large a payload may be whose kind no plugin handles.
    pub queue: QueueBounds,
    /// How many of its final jobs are kept.
    pub keep_max: KeepMax,
    /// What becomes of a plugin whose component asks for more than its TOML grants.
    pub missing_grants: MissingGrants,
    /// What its plugins may be granted at most.
    pub grants: GrantCaps,
}

/// What becomes of a plugin whose component asks for more than its TOML grants. Many components import all of WASI
/// whether they use it or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingGrants {
    /// It is deployed, the log says what it doesn't get, and a call for it is refused.
    #[default]
    Allow,
    /// It isn't deployed.
    Refuse,
}

/// A component and its terms.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Its name, unique within its tenant.
    pub name: PluginName,
    /// Whose it is.
    pub tenant: TenantId,
    /// The file it is written in, for messages.
    pub file: PathBuf,
    /// The component.
    pub component: PathBuf,
    /// The only revision that may be loaded, if the operator pinned one.
    pub sha256: Option<Revision>,
    /// What it handles; unique within its tenant.
    pub kinds: Vec<Kind>,
    /// Where its jobs wait, unless their producer says otherwise.
    pub queue: QueueName,
    /// What its runs may spend at most.
    pub limits: Caps,
    /// What compiling its component may take at most.
    pub compile: CompileCaps,
    /// How much state it may keep: the narrowest of daemon, tenant and plugin.
    pub state: StateQuota,
    /// The largest payload that it takes.
    pub payload: Bytes,
    /// Its runs under way at once, on all daemons together; none if it has no limit of its own.
    pub concurrency: Option<NonZeroU32>,
    /// When its jobs are tried again.
    pub retry: RetryPolicy,
    /// How long its final jobs are kept.
    pub keep: Keep,
    /// What it may reach.
    pub grants: Grants,
    /// What becomes of it if its component asks for more.
    pub missing_grants: MissingGrants,
    /// A run that a new revision has to pass, if the operator wants one.
    pub smoke: Option<Smoke>,
    /// How a new revision is tried beside the old one, if the operator wants that.
    pub canary: Option<canary::Policy>,
}

/// A sample job: a revision that fails it is not deployed.
#[derive(Clone, PartialEq, Eq)]
pub struct Smoke {
    /// What it asks for; one of the plugin's kinds.
    pub kind: Kind,
    /// Its input.
    pub payload: Vec<u8>,
}

/// Without the payload.
impl std::fmt::Debug for Smoke {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Smoke({}, {})", self.kind, Bytes::of(self.payload.len()))
    }
}

/// A larger file is no configuration.
const FILE_MAX: Bytes = Bytes::mib(1);

/// Reads the daemon's file and the plugin files that belong to it.
///
/// # Errors
/// All that is wrong with the files, if the daemon's is among them.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_from(path, Outside { env: &from_environment, follow: Follow::All }, None)
}

/// As [`load`], for a daemon: components need not be there, as a plugin without one is a deploy that fails.
///
/// # Errors
/// All that is wrong with the files, if the daemon's is among them.
pub fn load_to_run(path: &Path) -> Result<Config, Problems> {
    load_from(path, Outside { env: &from_environment, follow: Follow::Secrets }, None)
}

/// As [`load_to_run`], for a daemon that runs: a plugin whose file is wrong now stays as it was `before`.
///
/// # Errors
/// All that is wrong with the files, if the daemon's is among them.
pub fn load_again(path: &Path, before: &Config) -> Result<Config, Problems> {
    load_from(path, Outside { env: &from_environment, follow: Follow::Secrets }, Some(before))
}

/// As [`load_to_run`], for a daemon that has kept what files said that were right once: a plugin whose file is wrong is as the
/// kept text has it, if that is still right beside all else.
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

/// As [`load`], for whoever only talks to the broker: secrets are not fetched (no plugin has any), and components need
/// not be there.
///
/// # Errors
/// All that is wrong with the files, if the daemon's is among them.
pub fn load_for_broker(path: &Path) -> Result<Config, Problems> {
    load_from(path, Outside { env: &from_environment, follow: Follow::BrokerAlone }, None)
}

/// The folder of deploys that a daemon's file names, whatever else is wrong with it.
///
/// # Errors
/// If the file can't be read.
pub fn deploy_folder(path: &Path) -> Result<PathBuf, Problems> {
    let text =
        text_of(path).map_err(|problem| Problems::one(Problem::of_file(path, problem).help(STARTER)))?;
    let outside = Outside { env: &from_environment, follow: Follow::BrokerAlone };
    let file = File::new(path.to_owned(), &text);
    let written = file.read(|fields| daemon::read(fields, outside).deploy.folder);
    Ok(written.unwrap_or_else(|| file.resolve(Path::new(deploy::FOLDER))))
}

/// What a plugin's file says of its component and its grants, without anything else of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFile {
    /// The component that it names.
    pub component: PathBuf,
    /// The kinds that it lists.
    pub kinds: Vec<Kind>,
    /// The keys of `[grants]` that give something.
    pub granted: Vec<&'static str>,
}

/// Reads one plugin's file alone. What it refers to need not be there.
///
/// # Errors
/// All that is wrong with it.
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

/// The user's own cache folder for Sandhog.
#[must_use]
pub fn cache_folder() -> PathBuf {
    daemon::cache_folder(Outside { env: &from_environment, follow: Follow::BrokerAlone })
}

/// Where compiled components are kept if no configuration says so.
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
    /// A file that was read, and something is wrong with.
    fn new(file: File, plugin: Option<(TenantId, PluginName)>) -> Self {
        let name = file.name().to_owned();
        let problems = Problems::some(file.into_problems(), &name);
        Self { file: name, plugin, problems: problems.expect("whatever kept it from being used was noted") }
    }
}

const STARTER: &str = "`sandhog dev` writes one to start with; `--config PATH` names another";

/// Puts together what was read. Plugin files that turn out to be wrong go to `broken`.
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
            // What is wrong is in the daemon's file.
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
        http_deny: daemon.http_deny,
        plugins_folder: daemon.plugins.0,
        tenants,
        plugins,
        broken: Vec::new(),
        texts: FileTexts::default(),
    })
}

/// The plugins of before whose files are wrong now. Each broken file gets to know which plugin it has: that one, or the one
/// that it names itself; none if another file has that. If a tenant may be granted something else than before, its plugins
/// don't stay: they may have more than that.
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

/// The plugin files, in order of name.
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

/// Whether a path in the folder of plugin files is that of one. Editors leave hidden files behind; those are not meant.
#[must_use]
pub fn is_plugin_file(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "toml")
}

/// What is in a file, or why it can't be had.
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
    /// The configuration, if no plugin file is wrong.
    ///
    /// # Errors
    /// All that is wrong with plugin files.
    pub fn strict(self) -> Result<Self, Problems> {
        match self.problems() {
            None => Ok(self),
            Some(problems) => Err(problems),
        }
    }

    /// All that is wrong with plugin files, if anything is.
    #[must_use]
    pub fn problems(&self) -> Option<Problems> {
        let problems = self.broken.iter().flat_map(|broken| broken.problems.iter().cloned());
        Problems::some(problems.collect(), Path::new(""))
    }

    /// What a run of a plugin may spend: the narrowest of daemon, tenant and plugin. What all runs of a tenant may
    /// take together, none may exceed alone.
    #[must_use]
    pub fn budget(&self, plugin: &Plugin) -> Budget {
        let of_tenant = self.tenants.get(&plugin.tenant).map(|tenant| {
            let together = Caps { memory: Some(tenant.memory), ..Caps::default() };
            self.limits.narrow(&tenant.limits).narrow(&together)
        });
        of_tenant.unwrap_or(self.limits).narrow(&plugin.limits)
    }

    /// What compiling a plugin's component may take: the narrowest of daemon, tenant and plugin.
    #[must_use]
    pub fn compile_budget(&self, plugin: &Plugin) -> CompileBudget {
        let tenant = self.tenants.get(&plugin.tenant).map(|tenant| tenant.compile).unwrap_or_default();
        self.compile.narrow(&tenant).narrow(&plugin.compile)
    }

    /// Whose components a plugin's tenant takes; if there are none, anybody's.
    #[must_use]
    pub fn signers(&self, plugin: &Plugin) -> &[Signer] {
        self.tenants.get(&plugin.tenant).map_or(&[], |tenant| &tenant.signers)
    }

    /// The memory that is in use if every plugin runs as often at once as it may, and each run takes all that it may: its own,
    /// and what the host holds for it.
    #[must_use]
    pub fn memory_at_worst(&self) -> Bytes {
        let own = self.at_worst(|plugin| self.budget(plugin).memory, |tenant| tenant.memory);
        let host = |plugin: &Plugin| self.budget(plugin).host_memory(plugin.payload, &plugin.grants);
        Bytes(own.0.saturating_add(self.at_worst(host, |_| Bytes(u64::MAX)).0))
    }

    /// The sum over the runs that can be under way at once, those first that take the most, with a bound for each tenant's.
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

/// The memory of so many runs with so much each.
fn total(wants: &[(Bytes, u64)]) -> u64 {
    wants.iter().map(|(memory, runs)| memory.0.saturating_mul(*runs)).fold(0, u64::saturating_add)
}

/// Of runs with so much memory each, those `left` that take the most.
fn most_of(mut wants: Vec<(Bytes, u64)>, left: &mut u64) -> Vec<(Bytes, u64)> {
    wants.sort_by_key(|(memory, _)| std::cmp::Reverse(*memory));
    for (_, runs) in &mut wants {
        *runs = (*runs).min(*left);
        *left -= *runs;
    }
    wants
}
