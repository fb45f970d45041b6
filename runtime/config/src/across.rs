//! Checks of what only several values together, or several files, can get wrong.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::time::Duration;

use sandhog_core::budget::{Budget, Bytes, Caps, ClockResolution, LimitKey, LimitValue};
use sandhog_core::compile::{CompileBudget, CompileCaps};
use sandhog_core::event::EventKeep;
use sandhog_core::grants::{EnvValue, GrantCaps, Grants};
use sandhog_core::id::{Kind, PluginName, ScheduleName, TenantId};
use sandhog_core::quota::{QueueBounds, StateCaps, StateQuota};
use sandhog_core::rate::{RateLimit, RateOf};
use sandhog_core::schedule::Schedule;
use sandhog_core::secret::Secret;

use super::daemon::{Daemon, TENANT_MEMORY, TenantDraft};
use super::fields::{File, nearest};
use super::plugin::PluginDraft;
use super::reference::{Follow, Outside};
use super::units::{parse_rate, time};
use super::{Plugin, Tenant, http, may_refer};
use sandhog_files::regular_file;

/// Maximum number of runs at once; the address space has no room for more.
const CONCURRENCY_MAX: u32 = 4096;
/// Maximum number of runs of one plugin at once, on all daemons together.
const FLEET_CONCURRENCY_MAX: u32 = 1_000_000;
const THREADS_MAX: usize = 1024;
/// Maximum size of a component, which is read into memory whole.
pub const COMPONENT_MAX: Bytes = Bytes::mib(1024);
const COMPILE_MEMORY_MIN: Bytes = Bytes::mib(64);
const STACK: (Bytes, Bytes) = (Bytes::kib(64), Bytes::mib(16));
const WEIGHT_MAX: u32 = 10_000;

/// Checks the daemon's file.
pub(super) fn daemon(file: &File, daemon: &Daemon) {
    let lease = &daemon.lease;
    let needed = lease.margin.saturating_add(lease.renew_every);
    if needed >= lease.ttl {
        let key = ["lease.ttl", "lease.margin", "lease.renew_every"].into_iter().find(|key| file.has(key));
        let (margin, every, ttl) = (time(lease.margin), time(lease.renew_every), time(lease.ttl));
        let problem =
            format!("a lease of {ttl} can't be renewed in time, {every} apart and {margin} before its end");
        let problem = file.problem(key.unwrap_or("lease"), problem);
        file.note(problem.rule("margin + renew_every is less than ttl"));
    }
    let engine = &daemon.engine;
    at_most(file, "engine.concurrency", engine.concurrency.get(), CONCURRENCY_MAX);
    at_most(file, "engine.threads", engine.threads.get(), THREADS_MAX);
    at_most(file, "engine.stack", engine.stack, STACK.1);
    if engine.stack < STACK.0 {
        let problem = format!("{} is too little for any handler", engine.stack);
        file.note(file.problem("engine.stack", problem).rule(format!("at least {}", STACK.0)));
    }
    if let Some(http) = daemon.http.as_ref().filter(|_| !daemon.tenants.is_empty()) {
        http::check_tenants(file, http, &daemon.tenants.keys().collect());
    }
    for (key, value) in daemon.limits.values() {
        if let Some(max) = key.max {
            at_most(file, &format!("limits.{}", key.name), Written(value), Written(max));
        }
    }
    at_most(file, "limits.component", daemon.compile.component, COMPONENT_MAX);
    if daemon.compile.memory < COMPILE_MEMORY_MIN {
        let problem = format!("{} is too little for any compiler", daemon.compile.memory);
        let problem = file.problem("limits.compile_memory", problem);
        file.note(problem.rule(format!("at least {COMPILE_MEMORY_MIN}")));
    }
    for (id, tenant) in &daemon.tenants {
        let path = format!("tenants.{id}");
        if let Some(weight) = tenant.weight {
            at_most(file, &format!("{path}.weight"), weight.get(), WEIGHT_MAX);
        }
        at_most(file, &format!("{path}.queue.payload"), tenant.queue.payload, QueueBounds::PAYLOAD_MAX);
        let EventKeep { time, max } = tenant.events;
        at_most(
            file,
            &format!("{path}.events.keep"),
            Written::time(time),
            Written::time(EventKeep::TIME_MAX),
        );
        if time < EventKeep::TIME_MIN {
            let problem = file.problem(&format!("{path}.events.keep"), "readers would be too late");
            file.note(problem.rule(format!("at least {}", Written::time(EventKeep::TIME_MIN))));
        }
        at_most(file, &format!("{path}.events.keep_max"), max, EventKeep::MAX_MAX);
        within(file, &format!("{path}."), tenant, daemon);
    }
}

fn at_most<T: PartialOrd + Display>(file: &File, key: &str, value: T, max: T) {
    if value > max {
        file.note(file.problem(key, format!("{value} is too much")).rule(format!("at most {max}")));
    }
}

/// Checks that a tenant's terms are within the daemon's.
fn within(file: &File, path: &str, tenant: &TenantDraft, daemon: &Daemon) {
    let narrower = Narrower { file, path, above: file, above_path: "" };
    narrower.limits(&tenant.limits, &daemon.limits);
    narrower.compile(&tenant.compile, &daemon.compile);
    narrower.state(&tenant.state, &daemon.state);
    if let Some(own) = tenant.concurrency {
        narrower.at_most("concurrency", own, daemon.engine.concurrency, "engine.concurrency");
    }
}

/// Checker of limits that have to be within those set above them, by the tenant or the daemon.
struct Narrower<'c> {
    file: &'c File,
    path: &'c str,
    above: &'c File,
    above_path: &'c str,
}

impl Narrower<'_> {
    fn limits(&self, caps: &Caps, max: &Budget) {
        for ((key, own), (_, max)) in caps.values().zip(max.values()) {
            match (own, max) {
                (Some(LimitValue::Resolution(own)), LimitValue::Resolution(min)) => self.clock(key, own, min),
                (own, max) => self.limit(key.name, own.map(Written), Written(max)),
            }
        }
    }

    fn compile(&self, caps: &CompileCaps, max: &CompileBudget) {
        self.limit("component", caps.component, max.component);
        self.limit("compile_time", caps.time.map(Written::time), Written::time(max.time));
        self.limit("compile_memory", caps.memory, max.memory);
    }

    fn state(&self, caps: &StateCaps, max: &StateQuota) {
        self.limit("state_bytes", caps.bytes, max.bytes);
        self.limit("state_keys", caps.keys, max.keys);
    }

    fn limit<T: PartialOrd + Display>(&self, key: &str, value: Option<T>, max: T) {
        if let Some(value) = value {
            let key = format!("limits.{key}");
            self.at_most(&key, value, max, &self.knob(&key));
        }
    }

    /// Returns the key above that has set a limit: the tenant's if it is there, otherwise the daemon's.
    fn knob(&self, key: &str) -> String {
        let of_tenant = format!("{}{key}", self.above_path);
        if self.above.has(&of_tenant) { of_tenant } else { key.to_owned() }
    }

    fn set_by(&self, knob: &str) -> String {
        match self.above.has(knob) {
            true => format!("{knob} in {}", self.above.line_of(knob)),
            false => format!("the default of {knob} in {}", self.above.name().display()),
        }
    }

    /// Checks the clock resolution, of which the coarser is the narrower.
    fn clock(
        &self,
        key: &LimitKey,
        ClockResolution(value): ClockResolution,
        ClockResolution(min): ClockResolution,
    ) {
        let key = format!("limits.{}", key.name);
        let knob = self.knob(&key);
        if value >= min || self.above.is_spoilt(&knob) {
            return;
        }
        let key = format!("{}{key}", self.path);
        let problem = self.file.problem(&key, format!("{} is finer than is allowed", time(value)));
        let problem = problem.rule(format!("at least {}, by {}", time(min), self.set_by(&knob)));
        self.file.note(problem.help(format!("raise it, or lower {knob}")));
    }

    fn at_most<T: PartialOrd + Display>(&self, key: &str, value: T, max: T, knob: &str) {
        if value <= max || self.above.is_spoilt(knob) {
            return;
        }
        let set_by = self.set_by(knob);
        let key = format!("{}{key}", self.path);
        let problem = self.file.problem(&key, format!("{value} is more than is allowed"));
        let problem = problem.rule(format!("at most {max}, by {set_by}"));
        self.file.note(problem.help(format!("lower it, or raise {knob}")));
    }
}

/// Value that is shown as it is written in TOML.
#[derive(PartialEq, PartialOrd)]
struct Written(LimitValue);

impl Written {
    fn time(time: Duration) -> Self {
        Self(LimitValue::Time(time))
    }
}

impl Display for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            LimitValue::Count(number) => number.fmt(f),
            LimitValue::SmallCount(number) => number.fmt(f),
            LimitValue::Size(size) => size.fmt(f),
            LimitValue::Time(span) | LimitValue::Resolution(ClockResolution(span)) => time(span).fmt(f),
        }
    }
}

/// Returns the tenants in force: those of the daemon's file; if it has none, those that plugins name.
pub(super) fn tenants(daemon: &Daemon, drafts: &[(File, PluginDraft)]) -> BTreeMap<TenantId, Tenant> {
    let checked = |draft: &TenantDraft| Tenant {
        weight: draft.weight.unwrap_or(NonZeroU32::MIN),
        concurrency: draft.concurrency.unwrap_or(daemon.engine.concurrency),
        memory: draft.memory.unwrap_or(TENANT_MEMORY),
        signers: draft.signers.clone(),
        limits: draft.limits,
        broker: draft.broker.clone(),
        encryption: draft.encryption.clone(),
        compile: draft.compile,
        missing_grants: draft.missing_grants,
        grants: draft.grants.clone(),
        state: draft.state,
        fuel: draft.fuel,
        queue: draft.queue,
        group_rules: draft.group_rules.clone(),
        breakers: draft.breakers.clone(),
        keep_max: draft.keep_max,
        events: draft.events,
    };
    if daemon.tenants.is_empty() {
        let of_plugin = |(_, draft): &(File, PluginDraft)| draft.tenant.clone();
        return drafts.iter().map(of_plugin).map(|id| (id, checked(&TenantDraft::default()))).collect();
    }
    daemon.tenants.iter().map(|(id, draft)| (id.clone(), checked(draft))).collect()
}

/// Maker of plugins from what plugin files say, as far as nothing is wrong with them.
pub(super) struct Plugins<'c> {
    daemon_file: &'c File,
    daemon: &'c Daemon,
    tenants: &'c BTreeMap<TenantId, Tenant>,
    outside: Outside<'c>,
    /// Places where each name, kind and schedule is taken, as `file:line`.
    names: BTreeMap<(TenantId, PluginName), String>,
    kinds: BTreeMap<(TenantId, Kind), String>,
    schedules: BTreeMap<(TenantId, ScheduleName), String>,
}

impl<'c> Plugins<'c> {
    pub(super) fn new(
        daemon_file: &'c File,
        daemon: &'c Daemon,
        tenants: &'c BTreeMap<TenantId, Tenant>,
        outside: Outside<'c>,
    ) -> Self {
        Self {
            daemon_file,
            daemon,
            tenants,
            outside,
            names: BTreeMap::new(),
            kinds: BTreeMap::new(),
            schedules: BTreeMap::new(),
        }
    }

    /// Checks one more plugin; `None` if something is wrong with its file.
    pub(super) fn check(&mut self, file: &File, draft: PluginDraft) -> Option<Plugin> {
        self.unique(file, &draft);
        if let Some(payload) = draft.payload {
            at_most(file, "limits.payload", payload, QueueBounds::PAYLOAD_MAX);
        }
        if self.outside.follow == Follow::All
            && let Err(cause) = regular_file::open(&draft.component)
        {
            let shown = draft.component.display();
            let problem = match cause.kind() {
                ErrorKind::NotFound => format!("there is no file {shown}"),
                _ => format!("can't read {shown}: {cause}"),
            };
            let path = "a path that is relative to this file, or absolute";
            file.note(file.problem("plugin.component", problem).rule(path));
        }
        let secrets = self.secrets(file, &draft);
        let tenant = self.tenant(file, &draft.tenant)?;
        let above_path = format!("tenants.{}.", draft.tenant);
        let narrower = Narrower { file, path: "", above: self.daemon_file, above_path: &above_path };
        narrower.limits(&draft.limits, &self.daemon.limits.narrow(&tenant.limits));
        narrower.compile(&draft.compile, &self.daemon.compile.narrow(&tenant.compile));
        narrower.state(&draft.state, &self.daemon.state.narrow(&tenant.state));
        self.within_caps(file, &draft, &tenant.grants);
        if let Some(concurrency) = draft.concurrency {
            at_most(file, "limits.concurrency", concurrency.get(), FLEET_CONCURRENCY_MAX);
        }
        let rate = self.rate(file, &draft);
        if file.has_problems() {
            // A plugin that can't be used takes no name or kind from others.
            return None;
        }
        self.take(file, &draft);
        Some(Plugin {
            name: draft.name,
            tenant: draft.tenant,
            file: file.name().to_owned(),
            component: draft.component,
            sha256: draft.sha256,
            kinds: draft.kinds,
            queue: draft.queue,
            limits: draft.limits,
            compile: draft.compile,
            state: self.daemon.state.narrow(&tenant.state).narrow(&draft.state),
            payload: draft.payload.unwrap_or(tenant.queue.payload),
            concurrency: draft.concurrency,
            rate,
            breaker: draft.breaker,
            calls: draft.calls,
            retry: draft.retry,
            keep: draft.keep,
            keep_max: draft.keep_max,
            grants: Grants { dirs: draft.dirs, env: draft.env, secrets, http: draft.http },
            missing_grants: tenant.missing_grants,
            smoke: draft.smoke,
            canary: draft.canary,
            schedules: draft.schedules,
        })
    }

    /// Returns the rate limit that a plugin names: one of its own, or one of its tenant's.
    fn rate(&self, file: &File, draft: &PluginDraft) -> Option<RateLimit> {
        let text = draft.rate.as_deref()?;
        if text.contains('/') {
            let of = RateOf::Plugin(draft.name.clone());
            return match parse_rate(text) {
                Ok(rate) => Some(RateLimit { of, rate }),
                Err(invalid) => {
                    let problem = format!("\"{}\" is not a rate", invalid.value);
                    file.note(file.problem("limits.rate", problem).rule(invalid.rule));
                    None
                }
            };
        }
        let rates = self.daemon.tenants.get(&draft.tenant).map(|tenant| &tenant.rates);
        let found = rates.and_then(|rates| rates.iter().find(|(name, _)| name.as_str() == text));
        if found.is_none() {
            let names = rates.into_iter().flatten().map(|(name, _)| name.as_str());
            let problem = format!("tenant {} has no rate `{text}`", draft.tenant);
            let rule = format!("a rate, such as \"100/s\", or a name of tenants.{}.rates", draft.tenant);
            let problem = file.problem("limits.rate", problem).rule(rule);
            file.note(match nearest(text, names) {
                Some(meant) => problem.help(format!("did you mean \"{meant}\"?")),
                None => problem,
            });
        }
        found.map(|(name, rate)| RateLimit { of: RateOf::Named(name.clone()), rate: *rate })
    }

    /// Checks that what a plugin is granted is within what its tenant may be granted.
    fn within_caps(&self, file: &File, draft: &PluginDraft, caps: &GrantCaps) {
        let above = format!("tenants.{}.grants", draft.tenant);
        let hold = |cap: &str, n: usize, allowed: bool, grant: &dyn Display| {
            if allowed {
                return;
            }
            let problem = format!("{grant} is more than this tenant may be granted");
            let set_by = format!("{above}.{cap} in {}", self.daemon_file.line_of(&format!("{above}.{cap}")));
            let problem =
                file.problem(&format!("grants.{cap}[{n}]"), problem).rule(format!("within {set_by}"));
            file.note(problem.help("remove it, or have whoever runs the daemon allow it there"));
        };
        for (n, grant) in draft.dirs.iter().enumerate() {
            hold("dirs", n, caps.allow_dir(grant), &grant.host.display());
        }
        for (n, grant) in draft.http.iter().enumerate() {
            hold("http", n, caps.allow_http(grant), &grant.to);
        }
        for (n, name) in draft.granted.iter().enumerate() {
            hold("secrets", n, caps.allow_secret(name), &format_args!("\"{name}\""));
        }
        if may_refer(caps) {
            return;
        }
        let of_env = draft.env.iter().filter(|(_, value)| matches!(value, EnvValue::Secret(_)));
        let of_env = of_env.map(|(name, _)| format!("grants.env.{name}"));
        let of_secrets = draft.secrets.keys().map(|name| format!("secrets.{name}"));
        let of_smoke = Some("smoke.payload".to_owned()).filter(|_| file.has("smoke.payload.file"));
        for key in of_env.chain(of_secrets).chain(of_smoke) {
            let problem = file.problem(&key, "what is kept elsewhere is not for this file to name");
            let rule =
                format!("secrets come from [tenants.{}.secrets], as {above}.secrets is set", draft.tenant);
            file.note(problem.rule(rule));
        }
    }

    /// Checks that its name and kinds belong to no other plugin of the tenant.
    fn unique(&self, file: &File, draft: &PluginDraft) {
        let (tenant, name) = (&draft.tenant, &draft.name);
        if let Some(first) = self.names.get(&(tenant.clone(), name.clone())) {
            let problem = format!("tenant \"{tenant}\" has a plugin \"{name}\" already");
            file.note(file.problem("plugin.name", problem).rule(format!("the other one is in {first}")));
        }
        for (n, kind) in draft.kinds.iter().enumerate() {
            if let Some(first) = self.kinds.get(&(tenant.clone(), kind.clone())) {
                let key = format!("plugin.kinds[{n}]");
                let problem = format!("tenant \"{tenant}\" has a plugin for \"{kind}\" already");
                file.note(file.problem(&key, problem).rule(format!("the other one is in {first}")));
            }
        }
        for schedule in &draft.schedules {
            if let Some(first) = self.schedules.get(&(tenant.clone(), schedule.name.clone())) {
                let key = format!("schedules.{}", schedule.name);
                let problem = format!("tenant \"{tenant}\" has a schedule \"{}\" already", schedule.name);
                file.note(file.problem(&key, problem).rule(format!("the other one is in {first}")));
            }
        }
    }

    /// Records the plugin's name and kinds as taken from now on.
    fn take(&mut self, file: &File, draft: &PluginDraft) {
        let tenant = &draft.tenant;
        self.names.insert((tenant.clone(), draft.name.clone()), file.line_of("plugin.name"));
        for (n, kind) in draft.kinds.iter().enumerate() {
            let place = file.line_of(&format!("plugin.kinds[{n}]"));
            self.kinds.insert((tenant.clone(), kind.clone()), place);
        }
        for Schedule { name, .. } in &draft.schedules {
            let place = file.line_of(&format!("schedules.{name}"));
            self.schedules.insert((tenant.clone(), name.clone()), place);
        }
    }

    fn tenant(&self, file: &File, id: &TenantId) -> Option<&'c Tenant> {
        if let Some(tenant) = self.tenants.get(id) {
            return Some(tenant);
        }
        if self.daemon_file.is_spoilt("tenants") {
            return None;
        }
        let name = self.daemon_file.name().display();
        let problem = file.problem("plugin.tenant", format!("there is no tenant \"{id}\" in {name}"));
        let problem = match nearest(id.as_str(), self.tenants.keys().map(TenantId::as_str)) {
            Some(meant) => problem.help(format!("did you mean \"{meant}\"?")),
            None => problem,
        };
        file.note(problem.help(format!("or add to {name}: [tenants.{id}]")));
        None
    }

    /// Fetches the secrets that are granted.
    fn secrets(&self, file: &File, draft: &PluginDraft) -> BTreeMap<String, Secret> {
        for name in draft.secrets.keys().filter(|name| !draft.granted.contains(name)) {
            let problem =
                file.problem(&format!("secrets.{name}"), "it is not granted, so nothing can read it");
            file.note(problem.help(format!("add it under [grants]: secrets = [\"{name}\"]")));
        }
        if !self.outside.follow.has_secrets() {
            return BTreeMap::new();
        }
        let of_tenant = self.daemon.tenants.get(&draft.tenant).map(|tenant| &tenant.secrets);
        let unspoilt = |name: &str| {
            let of_tenant = format!("tenants.{}.secrets.{name}", draft.tenant);
            !file.is_spoilt(&format!("secrets.{name}")) && !self.daemon_file.is_spoilt(&of_tenant)
        };
        let granted = draft.granted.iter().enumerate().filter(|(_, name)| unspoilt(name));
        let may_refer = self.tenants.get(&draft.tenant).is_none_or(|tenant| may_refer(&tenant.grants));
        let fetched = granted.filter_map(|(n, name)| {
            let own = draft.secrets.get(name).filter(|_| may_refer);
            let key = format!("grants.secrets[{n}]");
            match own.or_else(|| of_tenant?.get(name)).map(|reference| reference.fetch(self.outside)) {
                Some(Ok(secret)) => Some((name.clone(), secret)),
                Some(Err(cause)) => {
                    file.note(file.problem(&key, cause));
                    None
                }
                None => {
                    let problem = file.problem(&key, format!("nothing says where \"{name}\" is kept"));
                    let (tenant, above) = (&draft.tenant, self.daemon_file.name().display());
                    let here = if may_refer { "[secrets] here, or " } else { "" };
                    let of_tenant = format!("[tenants.{tenant}.secrets] in {above}");
                    let add = format!("add {name} = {{ env = \"{name}\" }} or {{ file = \"path\" }} under");
                    file.note(problem.help(format!("{add} {here}{of_tenant}")));
                    None
                }
            }
        });
        fetched.collect()
    }
}
