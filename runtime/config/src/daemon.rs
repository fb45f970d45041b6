//! Daemon's file.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sandhog_core::breaker::BreakerRule;
use sandhog_core::budget::{Budget, Bytes, Caps, ClockResolution, LimitUnit, LimitValue};
use sandhog_core::compile::{CompileBudget, CompileCaps};
use sandhog_core::event::EventKeep;
use sandhog_core::fair::{FairRule, WEIGHT_MAX, WEIGHTS_MAX, Weight};
use sandhog_core::grants::{Access, DirCap, GrantCaps, Ranges};
use sandhog_core::group::{GROUP_CONCURRENCY_MAX, GroupRule, OnDead, QueueRule};
use sandhog_core::id::{DownstreamName, GroupKey, QueueName, RateName, TenantId};
use sandhog_core::keyring::Keyring;
use sandhog_core::quota::{FuelQuota, OnEmpty, QueueBounds, StateCaps, StateQuota};
use sandhog_core::rate::Rate;
use sandhog_core::redis::{self, ConfigError, Topology};
use sandhog_core::transition::KeepMax;
use toml::de::DeValue;

use super::fields::{Entry, Fields};
use super::own::{self, OwnBroker};
use super::problem::{Problem, Shown};
use super::reference::{Outside, Reference, text_or_reference};
use super::value::{Positive, Read, no_choice};
use super::{Broker, Deploy, Engine, Http, Lease, MissingGrants, breaker, deploy, http, plugin};
use crate::signer::Signer;
use sandhog_files::regular_file;

/// Content of the daemon's file.
pub(super) struct Daemon {
    pub(super) broker: Option<Broker>,
    pub(super) lease: Lease,
    pub(super) engine: Engine,
    pub(super) limits: Budget,
    pub(super) compile: CompileBudget,
    pub(super) state: StateQuota,
    pub(super) grace: Duration,
    pub(super) deploy: Deploy,
    pub(super) http: Option<Http>,
    pub(super) http_deny: Ranges,
    pub(super) tenants: BTreeMap<TenantId, TenantDraft>,
    /// Folder of plugin files, and whether the file names it.
    pub(super) plugins: (PathBuf, Named),
}

/// Whether the operator wrote something, or it is the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Written,
    Default,
}

/// Tenant as the file has it.
pub(super) struct TenantDraft {
    pub(super) weight: Option<NonZeroU32>,
    pub(super) concurrency: Option<NonZeroU32>,
    pub(super) memory: Option<Bytes>,
    pub(super) signers: Vec<Signer>,
    pub(super) limits: Caps,
    pub(super) compile: CompileCaps,
    pub(super) state: StateCaps,
    pub(super) fuel: FuelQuota,
    pub(super) queue: QueueBounds,
    pub(super) group_rules: BTreeMap<QueueName, QueueRule>,
    pub(super) rates: BTreeMap<RateName, Rate>,
    pub(super) breakers: BTreeMap<DownstreamName, BreakerRule>,
    pub(super) keep_max: KeepMax,
    pub(super) events: EventKeep,
    pub(super) grants: GrantCaps,
    pub(super) secrets: BTreeMap<String, Reference>,
    pub(super) broker: Option<OwnBroker>,
    pub(super) encryption: Option<Keyring>,
    pub(super) missing_grants: MissingGrants,
}

impl Default for TenantDraft {
    fn default() -> Self {
        Self {
            weight: None,
            concurrency: None,
            memory: None,
            signers: Vec::new(),
            limits: Caps::default(),
            compile: CompileCaps::default(),
            state: StateCaps::default(),
            fuel: FuelQuota::default(),
            queue: QUEUE,
            group_rules: BTreeMap::new(),
            rates: BTreeMap::new(),
            breakers: BTreeMap::new(),
            keep_max: KeepMax::default(),
            events: EventKeep::default(),
            grants: GrantCaps::default(),
            secrets: BTreeMap::new(),
            broker: None,
            encryption: None,
            missing_grants: MissingGrants::default(),
        }
    }
}

/// Default bounds on what a tenant may have waiting. A payload says what is to be done; what it is to be done to is larger,
/// and is kept elsewhere.
pub(super) const QUEUE: QueueBounds =
    QueueBounds { jobs: 1_000_000, bytes: Bytes::mib(1024), payload: Bytes::kib(10) };

/// Default maximum of a plugin's state.
const STATE: StateQuota = StateQuota { bytes: Bytes::mib(64), keys: 100_000 };

/// Default maximum number of runs at once. With [`Budget::DEFAULT`] for each they take 8 GiB at worst, which a small machine
/// has.
const CONCURRENCY: NonZeroU32 = NonZeroU32::new(64).expect("it is not zero");

/// Default maximum memory of a tenant's runs: what [`CONCURRENCY`] runs take at worst. A higher number of runs doesn't raise
/// it.
pub(super) const TENANT_MEMORY: Bytes = Bytes::mib(8192);
/// Default size of a guest's call stack.
const STACK: Bytes = Bytes::kib(512);

/// Default maximum memory that is kept for later runs.
const IDLE_MEMORY: Bytes = Bytes::mib(1024);

const GRACE: Duration = Duration::from_secs(30);
const PLUGINS: &str = "plugins.d";
const DATABASE: &str = "sandhog.db";

/// Reads the daemon's file.
pub(super) fn read(fields: &mut Fields<'_>, outside: Outside<'_>) -> Daemon {
    let plugins = match fields.get::<PathBuf>("plugins") {
        Some(folder) => (fields.file.resolve(&folder), Named::Written),
        None => (fields.file.resolve(Path::new(PLUGINS)), Named::Default),
    };
    let broker = broker(fields, outside);
    let tenants = fields.named("tenants").into_iter();
    let tenants = tenants.filter_map(|named| tenant(named, broker.as_ref(), outside)).collect();
    let (limits, compile, state) =
        fields.table("limits", |fields| (caps(fields), compile_caps(fields), state_caps(fields)));
    Daemon {
        broker,
        lease: fields.table("lease", lease),
        engine: fields.table("engine", |fields| engine(fields, outside)),
        // The daemon's own limits may be wider than the defaults.
        limits: Budget::DEFAULT.replace(&limits),
        compile: compile_over_defaults(&compile),
        state: StateQuota {
            bytes: state.bytes.unwrap_or(STATE.bytes),
            keys: state.keys.unwrap_or(STATE.keys),
        },
        grace: fields.table("shutdown", |fields| fields.or("grace", GRACE)),
        deploy: fields.table("deploy", deploy::deploy),
        http: fields.table("http", |fields| http::http(fields, outside)),
        http_deny: fields.table("grants", |fields| {
            fields.entry("http_deny").map(plugin::ranges).unwrap_or_default().into_iter().collect()
        }),
        tenants,
        plugins,
    }
}

fn broker(fields: &mut Fields<'_>, outside: Outside<'_>) -> Option<Broker> {
    match fields.entry("broker") {
        None => Some(Broker::Embedded { path: fields.file.resolve(Path::new(DATABASE)) }),
        Some(entry) => entry.table(|fields| broker_of_type(fields, outside)),
    }
}

fn broker_of_type(fields: &mut Fields<'_>, outside: Outside<'_>) -> Option<Broker> {
    let kind = fields.or("type", "embedded".to_owned());
    let path = fields.entry("path");
    let server = Server {
        url: fields.entry("url"),
        sentinels: fields.entry("sentinels"),
        cluster: fields.entry("cluster"),
        authority: fields.entry("authority"),
        connect_timeout: fields.entry("connect_timeout"),
        command_timeout: fields.entry("command_timeout"),
        ping_interval: fields.entry("ping_interval"),
    };
    match kind.as_str() {
        "embedded" => {
            server.belongs_elsewhere();
            let path = path.map_or_else(|| Some(PathBuf::from(DATABASE)), Entry::read)?;
            Some(Broker::Embedded { path: fields.file.resolve(&path) })
        }
        "redis" => {
            belongs_elsewhere(path, "embedded");
            server.read(fields, outside).map(Broker::Redis)
        }
        other => {
            let refusal = no_choice(&format!("\"{other}\""), other, &["embedded", "redis"]);
            let key = fields.path_of("type");
            let problem = fields.file.problem(&key, refusal.problem).rule(refusal.rule);
            fields.file.note(match refusal.help {
                Some(help) => problem.help(help),
                None => problem,
            });
            None
        }
    }
}

fn belongs_elsewhere(entry: Option<Entry<'_>>, kind: &str) {
    if let Some(entry) = entry {
        let problem = format!("only a broker of type \"{kind}\" has it");
        entry.file().note(entry.problem(Shown::KeyAlone, problem));
    }
}

/// Keys of a Redis server.
struct Server<'f> {
    url: Option<Entry<'f>>,
    sentinels: Option<Entry<'f>>,
    cluster: Option<Entry<'f>>,
    authority: Option<Entry<'f>>,
    connect_timeout: Option<Entry<'f>>,
    command_timeout: Option<Entry<'f>>,
    ping_interval: Option<Entry<'f>>,
}

impl Server<'_> {
    fn belongs_elsewhere(self) {
        let Self { url, sentinels, cluster, authority, connect_timeout, command_timeout, ping_interval } =
            self;
        for entry in [url, sentinels, cluster, authority, connect_timeout, command_timeout, ping_interval] {
            belongs_elsewhere(entry, "redis");
        }
    }

    fn read(self, fields: &Fields<'_>, outside: Outside<'_>) -> Option<redis::Config> {
        let Some(url) = self.url else {
            let key = fields.path_of("url");
            let missing =
                fields.file.problem(&fields.path_of("type"), "a broker of type \"redis\" needs a `url`");
            let example =
                "add it, such as: url = { env = \"REDIS_URL\" }, or url = \"redis://127.0.0.1:6379\"";
            fields.file.note(Problem { key, ..missing }.help(example));
            return None;
        };
        let (file, key) = (url.file(), url.path.clone());
        let of_authority = self.authority.as_ref().map(|entry| entry.path.clone());
        let mut config = redis::Config::new(text_or_reference(url, outside)?.reveal());
        config.topology = topology(self.sentinels, self.cluster, outside)?;
        config.authority = match self.authority {
            Some(entry) => Some(certificate(entry)?),
            None => None,
        };
        let wait = |entry: Option<Entry<'_>>, default| {
            entry.and_then(Entry::read).map_or(default, |Positive(wait): Positive<Duration>| wait)
        };
        config.connect_timeout = wait(self.connect_timeout, config.connect_timeout);
        config.command_timeout = wait(self.command_timeout, config.command_timeout);
        config.ping_interval = wait(self.ping_interval, config.ping_interval);
        if let Err(error) = config.check() {
            if error == ConfigError::AuthorityWithoutTls {
                let place = of_authority.as_ref().unwrap_or(&key);
                file.note(file.problem(place, "").because(&error));
                return None;
            }
            let example = match config.topology {
                Topology::Server | Topology::Cluster(_) => {
                    "such as \"redis://127.0.0.1:6379\" or \"rediss://user:password@host:6380\""
                }
                Topology::Sentinels(_) => {
                    "such as \"redis://mymaster\" or \"rediss://user:password@mymaster\""
                }
            };
            file.note(file.problem(&key, "").because(&error).rule(example));
            return None;
        }
        Some(config)
    }
}

/// Determines the topology of the server from its keys.
fn topology(
    sentinels: Option<Entry<'_>>,
    cluster: Option<Entry<'_>>,
    outside: Outside<'_>,
) -> Option<Topology> {
    match (sentinels, cluster) {
        (None, None) => Some(Topology::Server),
        (Some(sentinels), None) => {
            let example = "at least one sentinel, such as [\"redis://10.0.0.1:26379\"]";
            each(sentinels, example, |entry| sentinel(entry, outside)).map(Topology::Sentinels)
        }
        (None, Some(cluster)) => {
            let example = "at least one node, such as [\"10.0.0.1:6379\"]";
            each(cluster, example, Entry::read).map(Topology::Cluster)
        }
        (Some(_), Some(cluster)) => {
            let problem = "a server is found by sentinels or in a cluster, not both";
            cluster
                .file()
                .note(cluster.problem(Shown::Line, problem).rule("either `sentinels` or `cluster`"));
            None
        }
    }
}

/// Reads a list that must not be empty. `None` if it is, or if one of its elements can't be read.
fn each<'f, T>(list: Entry<'f>, rule: &str, read: impl Fn(Entry<'f>) -> Option<T>) -> Option<Vec<T>> {
    if matches!(&list.value, DeValue::Array(elements) if elements.is_empty()) {
        list.file().note(list.problem(Shown::Line, "it names nobody").rule(rule));
        return None;
    }
    // All of them are read, so that all mistakes are found.
    let elements: Vec<Option<T>> = list.list().into_iter().map(read).collect();
    elements.into_iter().collect()
}

/// Reads the URL of a sentinel. `None` if it is wrong, which is noted.
fn sentinel(entry: Entry<'_>, outside: Outside<'_>) -> Option<String> {
    let (file, key) = (entry.file(), entry.path.clone());
    let url = text_or_reference(entry, outside)?.reveal().to_owned();
    if let Err(error) = redis::Config::new(url.as_str()).check() {
        let example = "such as \"redis://10.0.0.1:26379\"";
        file.note(file.problem(&key, "").because(&error).rule(example));
        return None;
    }
    Some(url)
}

/// Maximum size of a certificates' file. A larger one has none, or those of more authorities than there are.
const CERTIFICATES_MAX: Bytes = Bytes::mib(1);

/// Reads a certificates' file. `None` if it is wrong, which is noted.
fn certificate(entry: Entry<'_>) -> Option<Vec<u8>> {
    let (file, key) = (entry.file(), entry.path.clone());
    let path = file.resolve(&entry.read::<PathBuf>()?);
    match regular_file::read(&path, CERTIFICATES_MAX) {
        Ok(pem) if has_certificates(&pem) => Some(pem),
        Ok(_) => {
            file.note(file.problem(&key, "").because(&ConfigError::Authority));
            None
        }
        Err(cause) => {
            file.note(file.problem(&key, format!("can't read {}: {cause}", path.display())));
            None
        }
    }
}

/// Whether a PEM text has at least one certificate, and none that can't be read.
fn has_certificates(pem: &[u8]) -> bool {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.is_ok_and(|certificates| !certificates.is_empty())
}

fn lease(fields: &mut Fields<'_>) -> Lease {
    let default = Lease::default();
    Lease {
        ttl: fields.or("ttl", Positive(default.ttl)).0,
        margin: fields.or("margin", Positive(default.margin)).0,
        renew_every: fields.or("renew_every", Positive(default.renew_every)).0,
        expiries_max: fields.or("expiries_max", default.expiries_max),
    }
}

fn engine(fields: &mut Fields<'_>, outside: Outside<'_>) -> Engine {
    let cache = fields.get::<PathBuf>("cache").map(|path| fields.file.resolve(&path));
    Engine {
        threads: fields
            .get("threads")
            .unwrap_or_else(|| thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
        concurrency: fields.or("concurrency", CONCURRENCY),
        stack: fields.or("stack", Positive(STACK)).0,
        idle_memory: fields.or("idle_memory", IDLE_MEMORY),
        backtrace_lines: fields.or("backtrace_lines", false),
        cache: cache.unwrap_or_else(|| cache_folder(outside).join(COMPONENTS)),
    }
}

/// Returns the user's own cache folder, which all daemons and commands share, so that nothing is compiled twice.
pub(super) fn cache_folder(outside: Outside<'_>) -> PathBuf {
    let folder = |name: &str| (outside.env)(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let ours = folder("SANDHOG_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("sandhog")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/sandhog")));
    ours.unwrap_or_else(|| PathBuf::from(".sandhog"))
}

/// Folder of compiled components inside the cache folder.
pub(super) const COMPONENTS: &str = "components";

/// Reads `limits`.
pub(super) fn caps(fields: &mut Fields<'_>) -> Caps {
    Caps::read(|key| {
        let (name, positive) = (key.name, key.is_positive);
        match key.unit {
            LimitUnit::Count => number(fields, name, positive).map(LimitValue::Count),
            LimitUnit::SmallCount => number(fields, name, positive).map(LimitValue::SmallCount),
            LimitUnit::Size => number(fields, name, positive).map(LimitValue::Size),
            LimitUnit::Time => number(fields, name, positive).map(LimitValue::Time),
            LimitUnit::Resolution => {
                let resolution = number(fields, name, positive).map(ClockResolution);
                resolution.map(LimitValue::Resolution)
            }
        }
    })
}

fn number<T: Read>(fields: &mut Fields<'_>, name: &'static str, is_positive: bool) -> Option<T>
where
    Positive<T>: Read,
{
    match is_positive {
        true => fields.get(name).map(|Positive(number)| number),
        false => fields.get(name),
    }
}

/// Applies the daemon's own limits on compiling to the defaults. They may be wider.
fn compile_over_defaults(caps: &CompileCaps) -> CompileBudget {
    let default = CompileBudget::default();
    CompileBudget {
        component: caps.component.unwrap_or(default.component),
        time: caps.time.unwrap_or(default.time),
        memory: caps.memory.unwrap_or(default.memory),
    }
}

/// Reads the ceilings on compiling from `limits`.
pub(super) fn compile_caps(fields: &mut Fields<'_>) -> CompileCaps {
    CompileCaps {
        component: fields.get("component").map(|Positive(size)| size),
        time: fields.get("compile_time").map(|Positive(time)| time),
        memory: fields.get("compile_memory").map(|Positive(memory)| memory),
    }
}

/// Reads the ceilings on state from `limits`.
pub(super) fn state_caps(fields: &mut Fields<'_>) -> StateCaps {
    StateCaps { bytes: fields.get("state_bytes"), keys: fields.get("state_keys") }
}

fn tenant(
    (name, entry): (String, Entry<'_>),
    broker: Option<&Broker>,
    outside: Outside<'_>,
) -> Option<(TenantId, TenantDraft)> {
    let id = match TenantId::parse(&name) {
        Ok(id) => Some(id),
        Err(invalid) => {
            entry.refuse(invalid.into());
            None
        }
    };
    let draft = entry.table(|fields| {
        let (limits, compile, state) =
            fields.table("limits", |fields| (caps(fields), compile_caps(fields), state_caps(fields)));
        let (queue, keep_max) = fields.table("queue", queue);
        TenantDraft {
            weight: fields.get("weight"),
            concurrency: fields.get("concurrency"),
            memory: fields.get("memory").map(|Positive(memory)| memory),
            signers: signers(fields),
            limits,
            compile,
            state,
            fuel: fields.table("fuel", fuel_quota),
            queue,
            group_rules: group_rules(fields),
            rates: rates(fields),
            breakers: breaker::of_downstreams(fields),
            keep_max,
            events: fields.table("events", event_keep),
            grants: fields.table("grants", grant_caps),
            secrets: secrets(fields),
            broker: fields
                .entry("broker")
                .zip(id.as_ref())
                .and_then(|(entry, id)| own::broker(entry, id, broker, outside)),
            missing_grants: fields.or("missing_grants", MissingGrants::default()),
            encryption: fields.entry("encryption").and_then(|entry| own::encryption(entry, outside)),
        }
    });
    Some((id?, draft))
}

/// Reads `signers`, whose components are accepted. An empty list is a mistake, as it can't be meant that nobody's are.
fn signers(fields: &mut Fields<'_>) -> Vec<Signer> {
    let Some(entry) = fields.entry("signers") else { return Vec::new() };
    if matches!(&entry.value, DeValue::Array(signers) if signers.is_empty()) {
        let problem = entry.problem(Shown::Line, "it is empty, so no component could be loaded");
        entry
            .file()
            .note(problem.rule("at least one key; or no such line, if anybody's components are taken"));
        return Vec::new();
    }
    entry.list().into_iter().filter_map(Entry::read).collect()
}

/// Reads a tenant's table `fuel`.
fn fuel_quota(fields: &mut Fields<'_>) -> FuelQuota {
    FuelQuota {
        per_minute: fields.get("per_minute").map(|Positive(fuel)| fuel),
        per_day: fields.get("per_day").map(|Positive(fuel)| fuel),
        on_empty: fields.or("on_empty", OnEmpty::default()),
    }
}

/// Reads a tenant's table `queue`.
fn queue(fields: &mut Fields<'_>) -> (QueueBounds, KeepMax) {
    let kept = KeepMax::default();
    let bounds = QueueBounds {
        jobs: fields.or("jobs", Positive(QUEUE.jobs)).0,
        bytes: fields.or("bytes", Positive(QUEUE.bytes)).0,
        payload: fields.or("payload", Positive(QUEUE.payload)).0,
    };
    let keep_max =
        KeepMax { done: fields.or("keep_done", kept.done), dead: fields.or("keep_dead", kept.dead) };
    (bounds, keep_max)
}

/// Reads a tenant's table `events`.
fn event_keep(fields: &mut Fields<'_>) -> EventKeep {
    let default = EventKeep::default();
    EventKeep {
        time: fields.or("keep", default.time),
        max: fields.get::<NonZeroU32>("keep_max").map_or(default.max, NonZeroU32::get),
    }
}

/// Order in which the jobs of a group run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Order {
    /// The order of the queue.
    #[default]
    Any,
    /// The order of arrival, one job at a time.
    Strict,
    /// In proportion to the weights of their groups.
    Fair,
}

/// Reads a tenant's table `queues`: for each queue, its rule for groups, if it has one.
fn group_rules(fields: &mut Fields<'_>) -> BTreeMap<QueueName, QueueRule> {
    let entries = fields.named("queues").into_iter();
    let read = |(name, entry): (String, Entry<'_>)| {
        let queue = match QueueName::parse(&name) {
            Ok(queue) => Some(queue),
            Err(invalid) => {
                entry.refuse(invalid.into());
                None
            }
        };
        Some((queue?, entry.table(group_rule)?))
    };
    entries.filter_map(read).collect()
}

/// Reads a tenant's table `rates`: rate limits by their names.
fn rates(fields: &mut Fields<'_>) -> BTreeMap<RateName, Rate> {
    let entries = fields.named("rates").into_iter();
    let read = |(name, entry): (String, Entry<'_>)| match RateName::parse(&name) {
        Ok(name) => Some((name, entry.read()?)),
        Err(invalid) => {
            entry.refuse(invalid.into());
            None
        }
    };
    entries.filter_map(read).collect()
}

/// Reads the rule of one queue for groups.
fn group_rule(fields: &mut Fields<'_>) -> Option<QueueRule> {
    let order = fields.or("order", Order::default());
    let on_dead = fields.get::<OnDead>("on_dead");
    let concurrency = fields.get::<NonZeroU32>("group_concurrency");
    let weights = weights(fields, order);
    let note = |key: &'static str, problem: &str, rule: &str| {
        let key = fields.path_of(key);
        fields.file.note(fields.file.problem(&key, problem).rule(rule));
    };
    if on_dead.is_some() && order != Order::Strict {
        note(
            "on_dead",
            "without a strict order, no dead job is in a group's way",
            "with order = \"strict\" alone",
        );
    }
    match (order, concurrency) {
        (Order::Fair, Some(_)) => {
            note(
                "group_concurrency",
                "in a fair order any number of jobs of a group run at once",
                "no such line, or no order = \"fair\"",
            );
            None
        }
        (Order::Fair, None) => {
            let rule = FairRule::new(weights);
            if rule.is_none() {
                note("weights", "there are too many", &format!("at most {WEIGHTS_MAX}"));
            }
            rule.map(QueueRule::Fair)
        }
        (Order::Strict, Some(concurrency)) if concurrency != NonZeroU32::MIN => {
            note(
                "group_concurrency",
                "a strict order lets one job of a group run at a time",
                "1, or no such line",
            );
            None
        }
        (Order::Strict, _) => Some(GroupRule::Strict(on_dead.unwrap_or_default()).into()),
        (Order::Any, concurrency) => {
            let turns =
                u16::try_from(concurrency?.get()).ok().filter(|turns| *turns <= GROUP_CONCURRENCY_MAX);
            if turns.is_none() {
                note("group_concurrency", "it is too high", &format!("at most {GROUP_CONCURRENCY_MAX}"));
            }
            turns.and_then(NonZeroU16::new).map(|turns| GroupRule::Concurrency(turns).into())
        }
    }
}

/// Reads the weights of groups, by their keys, of a queue with this order.
fn weights(fields: &mut Fields<'_>, order: Order) -> BTreeMap<GroupKey, Weight> {
    let entries = fields.named("weights").into_iter();
    let read = |(name, entry): (String, Entry<'_>)| {
        let key = match GroupKey::parse(&name) {
            Ok(key) => key,
            Err(invalid) => {
                entry.refuse(invalid.into());
                return None;
            }
        };
        let file = entry.file();
        if order != Order::Fair {
            let problem = entry.problem(Shown::Line, "groups share by weight in a fair order alone");
            file.note(problem.rule("with order = \"fair\" alone"));
            return None;
        }
        let problem = entry.problem(Shown::Line, "it is no weight");
        let weight = entry.read::<NonZeroU32>()?;
        let weight = u8::try_from(weight.get()).ok().and_then(Weight::new);
        if weight.is_none() {
            file.note(problem.rule(format!("from 1 to {WEIGHT_MAX}")));
        }
        Some((key, weight?))
    };
    entries.filter_map(read).collect()
}

/// Reads a tenant's table `grants`.
fn grant_caps(fields: &mut Fields<'_>) -> GrantCaps {
    let is_there = |fields: &Fields<'_>, key: &str| fields.file.has(&fields.path_of(key));
    let (dirs, http, secrets) = (dir_caps(fields), plugin::http(fields), plugin::granted(fields));
    GrantCaps {
        dirs: is_there(fields, "dirs").then_some(dirs),
        http: is_there(fields, "http").then_some(http),
        secrets: is_there(fields, "secrets").then(|| secrets.into_iter().collect()),
    }
}

/// Reads directories of the host, each as a text or, if what lies there may be changed, as a table.
fn dir_caps(fields: &mut Fields<'_>) -> Vec<DirCap> {
    let entries = fields.list("dirs").into_iter();
    let read = |entry: Entry<'_>| {
        let file = entry.file();
        let (host, access) = match &entry.value {
            DeValue::Table(_) => entry.table(|fields| {
                let host = fields.required::<PathBuf>("host", "\"/srv/acme\"");
                (host, fields.or("access", Access::Read))
            }),
            _ => (entry.read::<PathBuf>(), Access::Read),
        };
        Some(DirCap { host: plugin::whole_path(&file.resolve(&host?)), access })
    };
    entries.filter_map(read).collect()
}

/// Reads a table `secrets`: for each secret, where it comes from.
pub(super) fn secrets(fields: &mut Fields<'_>) -> BTreeMap<String, Reference> {
    let entries = fields.named("secrets").into_iter();
    entries.filter_map(|(name, entry)| Some((name, Reference::read(entry)?))).collect()
}
