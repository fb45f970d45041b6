//! Plugin's file.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandhog_core::breaker::BreakerRule;
use sandhog_core::budget::{Bytes, Caps};
use sandhog_core::canary::Policy;
use sandhog_core::compile::CompileCaps;
use sandhog_core::grants::{Access, DirGrant, EnvValue, HttpGrant, HttpTarget, Private, Range, plain};
use sandhog_core::id::{DownstreamName, Kind, PluginName, QueueName, Revision, TenantId};
use sandhog_core::quota::StateCaps;
use sandhog_core::retry::RetryPolicy;
use sandhog_core::schedule::Schedule;
use sandhog_core::secret::Secret;
use sandhog_core::transition::{Keep, KeepMax};
use toml::de::DeValue;

use super::daemon::{caps, compile_caps, secrets, state_caps};
use super::deploy::{canary, smoke};
use super::fields::{Entry, Fields};
use super::problem::Shown;
use super::reference::{Follow, Outside, Reference, text_or_reference};
use super::schedule::{Of, schedules};
use super::value::Positive;
use super::{PluginFile, Smoke, breaker, retry};

/// Content of a plugin's file, as far as it can be told from that file alone.
pub(super) struct PluginDraft {
    pub(super) name: PluginName,
    pub(super) tenant: TenantId,
    pub(super) component: PathBuf,
    pub(super) sha256: Option<Revision>,
    pub(super) kinds: Vec<Kind>,
    pub(super) queue: QueueName,
    pub(super) limits: Caps,
    pub(super) compile: CompileCaps,
    pub(super) state: StateCaps,
    pub(super) payload: Option<Bytes>,
    pub(super) concurrency: Option<NonZeroU32>,
    /// A rate, or the name of one of the tenant's.
    pub(super) rate: Option<String>,
    /// The rule of its breaker; `None` if it has none.
    pub(super) breaker: Option<BreakerRule>,
    /// The downstreams that it calls.
    pub(super) calls: Vec<DownstreamName>,
    pub(super) retry: RetryPolicy,
    pub(super) keep: Keep,
    pub(super) keep_max: Option<KeepMax>,
    pub(super) dirs: Vec<DirGrant>,
    pub(super) http: Vec<HttpGrant>,
    pub(super) env: Vec<(String, EnvValue)>,
    /// Names of the secrets that the plugin may ask for, in the order of the file.
    pub(super) granted: Vec<String>,
    /// Sources of the secrets, by name. Empty if that is for the tenant to say.
    pub(super) secrets: BTreeMap<String, Reference>,
    pub(super) smoke: Option<Smoke>,
    pub(super) canary: Option<Policy>,
    pub(super) schedules: Vec<Schedule>,
}

impl PluginDraft {
    pub(super) fn into_plugin_file(self) -> PluginFile {
        let given = [
            ("http", !self.http.is_empty()),
            ("dirs", !self.dirs.is_empty()),
            ("env", !self.env.is_empty()),
            ("secrets", !self.granted.is_empty()),
        ];
        let granted = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
        PluginFile { component: self.component, kinds: self.kinds, granted }
    }
}

const QUEUE: &str = "default";

/// Reads a plugin's file. `None` if something is missing without which it can't be checked any further. What it refers to is
/// looked at only if `may_refer` says so of its tenant.
pub(super) fn read(
    fields: &mut Fields<'_>,
    outside: Outside<'_>,
    may_refer: impl FnOnce(&TenantId) -> bool,
) -> Option<PluginDraft> {
    let head = fields.table("plugin", head);
    let may_refer = head.as_ref().is_none_or(|head| may_refer(&head.tenant));
    let follow = if may_refer { outside.follow } else { Follow::BrokerAlone };
    let outside = Outside { follow, ..outside };
    let (limits, compile, state, payload, (concurrency, rate)) = fields.table("limits", |fields| {
        let payload = fields.get("payload").map(|Positive(payload)| payload);
        let fleet = (fields.get("concurrency"), fields.get("rate"));
        (caps(fields), compile_caps(fields), state_caps(fields), payload, fleet)
    });
    let breaker = breaker::own(fields);
    let retry = fields.table("retry", retry::retry);
    let (keep, keep_max) = fields.table("keep", keep);
    let (dirs, http, env, granted) =
        fields.table("grants", |fields| (dirs(fields), http(fields), env(fields, outside), granted(fields)));
    let secrets = secrets(fields);
    let kinds = head.as_ref().map(|head| &head.kinds[..]);
    let smoke = fields.table("smoke", |fields| smoke(fields, kinds, outside));
    let canary = fields.table("canary", canary);
    let of = head.as_ref().map(|Head { name, kinds, queue, .. }| Of { plugin: name, kinds, queue });
    let schedules = schedules(fields, of.as_ref());
    let Head { name, tenant, component, sha256, kinds, queue, calls } = head?;
    Some(PluginDraft {
        name,
        tenant,
        component,
        sha256,
        kinds,
        queue,
        limits,
        compile,
        state,
        payload,
        concurrency,
        rate,
        breaker,
        calls,
        retry,
        keep,
        keep_max,
        dirs,
        http,
        env,
        granted,
        secrets,
        smoke,
        canary,
        schedules,
    })
}

/// Content of the table `plugin`.
struct Head {
    name: PluginName,
    tenant: TenantId,
    component: PathBuf,
    sha256: Option<Revision>,
    kinds: Vec<Kind>,
    queue: QueueName,
    calls: Vec<DownstreamName>,
}

fn head(fields: &mut Fields<'_>) -> Option<Head> {
    let name = fields.required("name", "\"thumbnail\"");
    let tenant = fields.required("tenant", "\"acme\"");
    let component = fields.required::<PathBuf>("component", "\"thumbnail.wasm\"");
    let sha256 = fields.get("sha256");
    let kinds = kinds(fields);
    let queue = fields.get("queue");
    let calls = calls(fields);
    Some(Head {
        name: name?,
        tenant: tenant?,
        component: fields.file.resolve(&component?),
        sha256,
        kinds,
        queue: queue.unwrap_or_else(|| QueueName::parse(QUEUE).expect("the default is a valid name")),
        calls,
    })
}

/// Reads the kinds that the plugin handles. It is noted if there are none.
fn kinds(fields: &mut Fields<'_>) -> Vec<Kind> {
    let Some(entry) = fields.entry("kinds") else {
        fields.missing("kinds", "[\"image.thumbnail\"]");
        return Vec::new();
    };
    if matches!(&entry.value, DeValue::Array(kinds) if kinds.is_empty()) {
        let problem = entry.problem(Shown::Line, "it is empty, so the plugin would never run");
        entry.file().note(problem.rule("at least one kind"));
        return Vec::new();
    }
    let (file, mut seen) = (entry.file(), BTreeSet::new());
    entry
        .list()
        .into_iter()
        .filter_map(|entry| {
            let path = entry.path.clone();
            let kind: Kind = entry.read()?;
            if !seen.insert(kind.clone()) {
                file.note(file.problem(&path, format!("\"{kind}\" stands here twice")));
            }
            Some(kind)
        })
        .collect()
}

/// Maximum number of downstreams that a plugin names.
const CALLS_MAX: usize = 20;

/// Reads the names of the services outside that the plugin calls.
fn calls(fields: &mut Fields<'_>) -> Vec<DownstreamName> {
    let Some(entry) = fields.entry("calls") else { return Vec::new() };
    let (file, path, mut seen) = (entry.file(), entry.path.clone(), BTreeSet::new());
    for entry in entry.list() {
        let path = entry.path.clone();
        let Some(name) = entry.read::<DownstreamName>() else { continue };
        if !seen.insert(name.clone()) {
            file.note(file.problem(&path, format!("\"{name}\" stands here twice")));
        }
    }
    if seen.len() > CALLS_MAX {
        file.note(file.problem(&path, "they are too many").rule(format!("at most {CALLS_MAX}")));
    }
    seen.into_iter().collect()
}

/// Reads how long final jobs are kept, and how many of them, if the plugin has a number of its own.
fn keep(fields: &mut Fields<'_>) -> (Keep, Option<KeepMax>) {
    let default = Keep::default();
    let (done, done_max) = kept(fields, "done", default.done);
    let (dead, dead_max) = kept(fields, "dead", default.dead);
    let is_counted = done_max.is_some() || dead_max.is_some();
    let all = KeepMax::ALL;
    let keep_max = KeepMax { done: done_max.unwrap_or(all.done), dead: dead_max.unwrap_or(all.dead) };
    (Keep { done, dead, is_counted }, is_counted.then_some(keep_max))
}

/// Reads how long jobs are kept that end in a way: as a time, or as a table with a time and a number.
fn kept(fields: &mut Fields<'_>, key: &'static str, default: Duration) -> (Duration, Option<u64>) {
    match fields.entry(key) {
        None => (default, None),
        Some(entry) if matches!(entry.value, DeValue::Table(_)) => {
            entry.table(|fields| (fields.or("for", default), fields.get("most")))
        }
        Some(entry) => (entry.read().unwrap_or(default), None),
    }
}

fn dirs(fields: &mut Fields<'_>) -> Vec<DirGrant> {
    let mut seen = BTreeSet::new();
    let entries = fields.list("dirs").into_iter();
    entries.filter_map(|entry| entry.table(|fields| dir(fields, &mut seen))).collect()
}

fn dir(fields: &mut Fields<'_>, seen: &mut BTreeSet<String>) -> Option<DirGrant> {
    let host = fields.required::<PathBuf>("host", "\"/srv/acme/images\"");
    let guest = fields.required::<String>("guest", "\"/images\"");
    let access = fields.or("access", Access::Read);
    let quota = fields.get("quota").map(|Positive(quota)| quota);
    if quota.is_some() && access == Access::Read {
        let problem = fields.file.problem(&fields.path_of("quota"), "nothing can be written there");
        fields.file.note(problem.help("remove it, or add: access = \"read-write\""));
    }
    let guest = guest?;
    let path = fields.path_of("guest");
    if !guest.starts_with('/') || guest.split('/').any(|part| part == "..") {
        let problem = fields.file.problem(&path, format!("\"{guest}\" is not a path that a guest can see"));
        fields.file.note(problem.rule("an absolute path without `..`, such as \"/images\""));
    }
    if !seen.insert(guest.clone()) {
        fields.file.note(fields.file.problem(&path, format!("two directories are granted as \"{guest}\"")));
    }
    Some(DirGrant { host: whole_path(&fields.file.resolve(&host?)), guest, access, quota })
}

/// Makes a path absolute, without `..`. The path that is compared with a tenant's ceilings is the one that is opened.
pub(super) fn whole_path(path: &Path) -> PathBuf {
    // This fails only without a current folder: then a relative path lies in no ceiling, and can't be opened either.
    plain(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

/// Reads the hosts to which requests may be sent, each as a text or as a table.
pub(super) fn http(fields: &mut Fields<'_>) -> Vec<HttpGrant> {
    let entries = fields.list("http").into_iter();
    entries
        .filter_map(|entry| match &entry.value {
            DeValue::Table(_) => entry.table(|fields| {
                let to = fields.required::<HttpTarget>("to", "\"db.acme.example:8080\"");
                let private = fields.entry("private").and_then(private).unwrap_or(Private::Refuse);
                Some(HttpGrant { to: to?, private })
            }),
            _ => Some(HttpGrant { to: entry.read()?, private: Private::Refuse }),
        })
        .collect()
}

/// Reads which private addresses may be reached: none, all, or those of a list.
fn private(entry: Entry<'_>) -> Option<Private> {
    if !matches!(entry.value, DeValue::Array(_)) {
        return entry.read();
    }
    let (file, path) = (entry.file(), entry.path.clone());
    let ranges = ranges(entry);
    for (n, range) in ranges.iter().enumerate().filter(|(_, range)| !range.has_private()) {
        let problem = file.problem(&format!("{path}[{n}]"), format!("no private address lies in {range}"));
        file.note(
            problem
                .rule("ranges of this machine or of private networks; public addresses are reached anyway"),
        );
    }
    Some(Private::Within(ranges.into_iter().collect()))
}

/// Maximum number of ranges in one list.
const RANGES_MAX: usize = 256;

/// Reads a list of ranges. Empty if one of them can't be read. More than [`RANGES_MAX`] are noted as a problem.
pub(super) fn ranges(entry: Entry<'_>) -> Vec<Range> {
    let (file, path) = (entry.file(), entry.path.clone());
    // All of them are read, so that all mistakes are found.
    let ranges: Vec<Option<Range>> = entry.list().into_iter().map(Entry::read).collect();
    if ranges.len() > RANGES_MAX {
        let problem = file.problem(&path, format!("{} ranges are too many", ranges.len()));
        file.note(problem.rule(format!("at most {RANGES_MAX}")));
    }
    ranges.into_iter().collect::<Option<_>>().unwrap_or_default()
}

fn env(fields: &mut Fields<'_>, outside: Outside<'_>) -> Vec<(String, EnvValue)> {
    let entries = fields.named("env").into_iter();
    entries
        .filter_map(|(name, entry)| {
            if name.is_empty() || name.contains(['=', '\0']) {
                let problem = entry.problem(Shown::KeyAlone, "this can't be a variable's name");
                entry.file().note(problem.rule("a name without `=`"));
                return None;
            }
            // To grant the empty text is allowed, unlike elsewhere.
            if let DeValue::String(text) = &entry.value {
                return Some((name, EnvValue::Plain(text.clone().into_owned())));
            }
            let value = match outside.follow {
                Follow::All | Follow::Secrets => text_or_reference(entry, outside)?,
                Follow::BrokerAndTokens | Follow::BrokerAlone => {
                    Reference::read(entry)?;
                    Secret::new(String::new())
                }
            };
            Some((name, EnvValue::Secret(value)))
        })
        .collect()
}

/// Reads the names of secrets.
pub(super) fn granted(fields: &mut Fields<'_>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let entries = fields.list("secrets").into_iter();
    entries
        .filter_map(|entry: Entry<'_>| {
            let (file, path) = (entry.file(), entry.path.clone());
            let name: String = entry.read()?;
            if !seen.insert(name.clone()) {
                file.note(file.problem(&path, format!("\"{name}\" stands here twice")));
            }
            Some(name)
        })
        .collect()
}
