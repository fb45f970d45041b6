//! Engine that compiles and runs components; a process has one.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandhog_core::admit::Plan;
use sandhog_core::compile::CompileBudget;
use sandhog_core::grants::Ranges;
use sandhog_core::id::{PluginName, Revision, TenantId};
use sandhog_core::outcome::Report;

use crate::abort::Abort;
use crate::account::Drawn;
use crate::config::{Config, Deadlines};
use crate::error::Error;
use crate::host::Host;
use crate::host_work::{HostThreads, HostTime, RunWork};
use crate::load::{Components, Loader};
use crate::outgoing::trust_anew;
use crate::plugin::{Grants, Inspection, LoadSpec, Plugin};
use crate::run::{self, Input, Run, Share};
use crate::schedule::{Claim, Executor};
use crate::settings::wasmtime_engine;

/// Maximum timeout that a clock can be trusted with; a longer one counts as none.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Engine that compiles and runs components. Clones share the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    wasmtime: wasmtime::Engine,
    loader: Arc<Loader>,
    executor: Executor<Report>,
    deadlines: Deadlines,
    _host_threads: HostThreads,
}

impl Engine {
    /// Creates the engine and starts its threads: those that run guests, and those on which their host calls work.
    ///
    /// # Errors
    /// The settings don't go together, or the machine can't give what they ask for.
    pub fn new(config: Config) -> Result<Self, Error> {
        let host_threads = HostThreads::start(config.guest_threads).map_err(|error| Error::Setup {
            reason: format!("can't start the threads for host calls: {error}"),
        })?;
        let wasmtime = wasmtime_engine(&config)?;
        let loader = Arc::new(Loader::new(&config, &wasmtime)?);
        let ticked = wasmtime.clone();
        let beat = move || ticked.increment_epoch();
        let executor = Executor::start(config.guest_threads, config.tick, host_threads.handle(), beat)
            .map_err(|error| Error::Setup { reason: format!("can't start the guest threads: {error}") })?;
        let deadlines = config.deadlines;
        Ok(Self(Arc::new(Inner { wasmtime, loader, executor, deadlines, _host_threads: host_threads })))
    }

    /// Sets what all plugins of a configuration are granted, including those that aren't loaded yet or can't be: no path of
    /// a grant may lead through a directory that handlers of any may write. Without this call, only the grants of loaded
    /// plugins are known. Blocks as long as disks do; what they keep waiting is noted when they answer.
    pub fn configure_grants<'a>(
        &self,
        plugins: impl IntoIterator<Item = (&'a TenantId, &'a PluginName, &'a Grants)>,
    ) {
        self.0.loader.configure_grants(plugins);
    }

    /// Denies the requests of all plugins the addresses in these ranges, whatever is granted. This applies from now on, also
    /// to plugins that are loaded, and to runs under way when they connect next. Replaces the ranges that were denied
    /// before.
    pub fn deny_http(&self, ranges: Ranges) {
        self.0.loader.deny_http(ranges);
    }

    /// Reads the certificates that the machine trusts once more, for connections that are made from now on, if any was made
    /// before. Blocks as long as their disk does.
    pub fn trust_anew(&self) {
        trust_anew();
    }

    /// Compiles a component, or finds it compiled in the cache, and checks that it can be run. Blocks, for seconds
    /// if a large component has to be compiled.
    ///
    /// # Errors
    /// The component is malformed or too large, takes more than its budget to compile, doesn't fit the world `handler`, or a
    /// grant can't be given.
    pub fn load(&self, spec: LoadSpec) -> Result<Plugin, Error> {
        self.0.loader.load(spec)
    }

    /// Whether the cache has the compiled code of a component, so that loading it doesn't compile. Blocks as long as the
    /// cache's disk does.
    #[must_use]
    pub fn has_compiled(&self, revision: Revision) -> bool {
        self.0.loader.has_compiled(revision)
    }

    /// Sets where components are read from whose compiled code is lost or damaged, to be compiled again when they are first
    /// used. Without it, they can't run. Only the first call counts.
    pub fn keep_from(&self, components: Arc<dyn Components>) {
        self.0.loader.keep_from(components);
    }

    /// Describes a component. Blocks as [`Self::load`] does.
    ///
    /// # Errors
    /// The bytes are no component at all, or take more than the budget.
    pub fn inspect(&self, wasm: &[u8], compile: &CompileBudget) -> Result<Inspection, Error> {
        self.0.loader.inspect(wasm, compile)
    }

    /// Returns the wasmtime engine that everything runs on, for measurements of its cost without Sandhog.
    #[must_use]
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    /// Looks at every running guest now, as each tick does. For callers that control ticks instead of waiting for them, such
    /// as a test that counts how many a guest needs to end.
    pub fn tick(&self) {
        self.0.wasmtime.increment_epoch();
    }

    /// Runs a handler once, in a fresh instance, and reports how that ended. Never fails and never panics: what goes wrong
    /// is in the report. Dropping the future ends the run.
    ///
    /// The budget's timeout counts from when the code is loaded, the wait for a guest thread included.
    pub async fn run(
        &self,
        plan: Plan<Arc<Plugin>>,
        input: Input,
        host: Arc<dyn Host>,
        share: Share,
        abort: Abort,
    ) -> Report {
        if let Err(reason) = at_hand(plan.plugin()).await {
            return run::host_fault(reason);
        }
        let started = Instant::now();
        let ends = started + plan.budget().timeout.min(FOREVER);
        let Inner { wasmtime, executor, deadlines, .. } = &*self.0;
        let (engine, crowd) = (wasmtime.clone(), executor.crowd().clone());
        let memory = Drawn::new(share.memory, share.memory_max);
        let deadlines = *deadlines;
        let host_time = HostTime::default();
        let work = RunWork::new(Arc::clone(plan.plugin().work()), host_time.clone());
        let abort_run = abort.clone();
        let run = Run { engine, plan, input, host, work, abort: abort_run, ends, crowd, memory, deadlines };
        let claim = Claim { tenant: share.tenant, weight: share.weight, class: share.class };
        let end = executor.spawn(claim, host_time, Box::pin(run.execute()));
        let task = Arc::clone(end.task());
        let mut report = run::watch(end, &abort, ends).await.unwrap_or_else(run::of_panic);
        report.usage.wall = started.elapsed();
        report.usage.cpu = task.cpu();
        report.slept = task.has_slept();
        report
    }
}

/// Loads the code of a plugin that is used for the first time, off the threads that must not block.
async fn at_hand(plugin: &Arc<Plugin>) -> Result<(), String> {
    if plugin.code.get().is_some() {
        return Ok(());
    }
    let unused = Arc::clone(plugin);
    let loaded = tokio::task::spawn_blocking(move || unused.code.load()).await;
    let loaded = loaded.map_err(|error| error.to_string()).flatten();
    loaded.map_err(|reason| format!("{plugin:?}: {reason}"))
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engine")
    }
}
