//! Settings of the engine for a configuration: with instances for runs, and for the smoke runs of deploys beside them.

use std::num::NonZeroUsize;
use std::thread;

use sandhog_config::Config;
use sandhog_engine::Compiler;

/// Creates the engine's settings for a process of the command `sandhog`. The same command is started again to compile.
#[must_use]
pub fn engine_settings(config: &Config) -> sandhog_engine::Config {
    let smoke_runs = u32::try_from(deploys_at_once().get()).unwrap_or(u32::MAX);
    sandhog_engine::Config {
        guest_threads: config.engine.threads,
        // One more instance for each smoke run.
        instances: config.engine.concurrency.saturating_add(smoke_runs),
        memory_max: config.limits.memory,
        table_elements_max: config.limits.table_elements,
        core_instances_max: config.limits.instances,
        stack: config.engine.stack,
        idle_memory: config.engine.idle_memory,
        backtrace_lines: config.engine.backtrace_lines,
        compiler: Compiler::this_program(),
        cache: Some(config.engine.cache.clone()),
        ..sandhog_engine::Config::default()
    }
}

/// Maximum number of deploys at once. Most of them wait, for their turn to compile, or for whatever their smoke run waits for.
pub(super) fn deploys_at_once() -> NonZeroUsize {
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    cores.saturating_mul(DEPLOYS_A_CORE).max(DEPLOYS_MIN)
}

const DEPLOYS_A_CORE: NonZeroUsize = NonZeroUsize::new(2).expect("it is not zero");
const DEPLOYS_MIN: NonZeroUsize = NonZeroUsize::new(4).expect("it is not zero");
