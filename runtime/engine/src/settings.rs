//! Wasmtime's settings: what guests may be made of, and how much of the machine is set aside for them.

use std::num::{NonZeroU32, NonZeroUsize};

use sandhog_core::budget::Bytes;
use wasmtime::{Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::config::Config;
use crate::error::Error;

/// Maximum number of memories of one component. Most have one; an adapter may bring its own.
const MEMORIES: u32 = 4;

/// Maximum number of tables of one component: its own, and one for each adapter.
const TABLES: u32 = 16;

/// Maximum size of wasmtime's data of one core instance, and of a component with all of its core instances, in bytes. Python
/// and JavaScript take some hundred KiB.
const INSTANCE_SIZE: usize = 1 << 20;
const COMPONENT_SIZE: usize = 2 << 20;

/// Stack beyond the guest's own, in bytes, for the host calls that it makes.
const HOST_STACK: u64 = 1 << 20;

/// Maximum memory of an instance that stays mapped when it is given back, in bytes, to be cleared rather than fetched anew:
/// most of the time of a job that uses some MiB goes into fetching it. `PAGEMAP_SCAN` finds the pages that were touched, so a
/// large value costs nothing but the memory. Without it all of it is cleared every time.
const MEMORY_KEPT_MAX: u64 = 8 << 20;
const MEMORY_KEPT_UNSCANNED: u64 = 64 << 10;
const TABLE_KEPT: usize = 64 << 10;

/// Number of unused places of memories that were used before, beyond which a component takes one of another component rather
/// than one that was never used.
const WARM_PLACES_MAX: u32 = 100;

/// Maximum number of frames in a backtrace.
const FRAMES_MAX: usize = 16;

/// Size of the host's pages, in bytes.
const PAGE: u64 = 4096;

/// Maximum size of a 32-bit memory, in bytes.
const MEMORY_MOST: u64 = 4 << 30;

/// Makes wasmtime's engine, with `PAGEMAP_SCAN` where the kernel has it (Linux 6.7 and later).
///
/// # Errors
/// Our settings don't go together, or the machine can't give what they ask for.
pub(crate) fn wasmtime_engine(config: &Config) -> Result<wasmtime::Engine, Error> {
    let scanning = wasmtime::Engine::new(&wasmtime_config(config, Enabled::Yes)?);
    scanning.or_else(|_| {
        wasmtime::Engine::new(&wasmtime_config(config, Enabled::No)?).map_err(|error| {
            let (instances, memory) = (config.instances, config.memory_max);
            let reason =
                format!("{error:#} (with {instances} instances of up to {memory}){}", address_space());
            Error::Setup { reason }
        })
    })
}

/// Advice for where the process may not have the address space that is set aside for guests; empty if that isn't limited.
fn address_space() -> String {
    match rustix::process::getrlimit(rustix::process::Resource::As).current {
        Some(most) => format!(
            "; this process may have {} of address space: raise that (`ulimit -v unlimited`, or LimitAS= of systemd), or lower engine.concurrency or limits.memory",
            Bytes(most)
        ),
        None => String::new(),
    }
}

fn wasmtime_config(config: &Config, pagemap_scan: Enabled) -> Result<wasmtime::Config, Error> {
    if config.memory_max.0 > MEMORY_MOST {
        let reason = format!("limits.memory is {}; no guest can have more than 4GiB", config.memory_max);
        return Err(Error::Setup { reason });
    }
    let mut wasmtime = compiling_config(config.backtrace_lines);
    wasmtime
        .wasm_backtrace_max_frames(NonZeroUsize::new(FRAMES_MAX))
        .max_wasm_stack(size(config.stack, "engine.stack")?)
        .async_stack_size(size(Bytes(config.stack.0.saturating_add(HOST_STACK)), "engine.stack")?)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config, pagemap_scan)?));
    Ok(wasmtime)
}

/// Makes an engine that sets nothing aside for guests. Its artefacts are the same as those of every engine of ours that has
/// or hasn't lines in its backtraces, as this one.
pub(crate) fn compiling_engine(backtrace_lines: bool) -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&compiling_config(backtrace_lines))
}

/// Makes the settings that the artefact of a component depends on, which are the same whatever else is set.
fn compiling_config(backtrace_lines: bool) -> wasmtime::Config {
    let details = if backtrace_lines { WasmBacktraceDetails::Enable } else { WasmBacktraceDetails::Disable };
    let mut wasmtime = wasmtime::Config::new();
    wasmtime
        .consume_fuel(true)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .wasm_backtrace_details(details)
        .concurrency_support(false);
    leave_out(&mut wasmtime);
    wasmtime
}

/// Switches off what no handler needs: most faults of runtimes are in their newest parts. (Several memories in one module are
/// on because wasmtime's own adapters, between the components of a component, have them.)
fn leave_out(wasmtime: &mut wasmtime::Config) {
    wasmtime
        .wasm_memory64(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_component_model_error_context(false)
        .wasm_component_model_map(false)
        .wasm_component_model_memory64(false)
        .wasm_component_model_fixed_length_lists(false)
        .wasm_component_model_implements(false)
        .shared_memory(false);
}

fn pool(config: &Config, pagemap_scan: Enabled) -> Result<PoolingAllocationConfig, Error> {
    let instances = config.instances;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances.get())
        .total_stacks(instances.get())
        .total_core_instances(times(instances, config.core_instances_max)?)
        .total_memories(times(instances, MEMORIES)?)
        .total_tables(times(instances, TABLES)?)
        .max_core_instances_per_component(config.core_instances_max)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memories_per_module(MEMORIES)
        .max_tables_per_module(TABLES)
        .max_memory_size(size(config.memory_max, "limits.memory")?)
        .table_elements(size(Bytes(config.table_elements_max), "limits.table_elements")?)
        .max_core_instance_size(INSTANCE_SIZE)
        .max_component_instance_size(COMPONENT_SIZE)
        .max_unused_warm_slots(warm_places(instances))
        .linear_memory_keep_resident(size(memory_kept(config, pagemap_scan), "engine.idle_memory")?)
        .table_keep_resident(TABLE_KEPT)
        .pagemap_scan(pagemap_scan);
    Ok(pool)
}

fn warm_places(instances: NonZeroU32) -> u32 {
    instances.get().min(WARM_PLACES_MAX)
}

/// Returns how much memory each place keeps. A place keeps it once it was used, and no more of them are ever used than
/// instances at once and the warm ones besides.
fn memory_kept(config: &Config, pagemap_scan: Enabled) -> Bytes {
    let places = u64::from(config.instances.get()) + u64::from(warm_places(config.instances));
    let each = config.idle_memory.0 / places;
    let most = match pagemap_scan {
        Enabled::Yes | Enabled::Auto => MEMORY_KEPT_MAX,
        Enabled::No => MEMORY_KEPT_UNSCANNED,
    };
    // Wasmtime counts in pages.
    Bytes(each.min(most) / PAGE * PAGE)
}

fn times(instances: NonZeroU32, each: u32) -> Result<u32, Error> {
    instances.get().checked_mul(each).ok_or_else(|| Error::Setup {
        reason: format!("engine.concurrency is {instances}; nothing has room for so many"),
    })
}

fn size(bytes: Bytes, knob: &str) -> Result<usize, Error> {
    usize::try_from(bytes.0).map_err(|_| Error::Setup {
        reason: format!("{knob} is {bytes}; this machine can't address so much"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{DefaultHasher, Hash, Hasher};

    #[test]
    fn what_all_places_keep_is_no_more_than_was_set() {
        for (instances, idle) in [(1, 0), (1, 64), (33, 200), (65, 1024), (256, 1024), (4097, 512)] {
            let instances = NonZeroU32::new(instances).expect("it is not zero");
            let config = Config { instances, idle_memory: Bytes::mib(idle), ..Config::default() };
            let places = u64::from(instances.get() + warm_places(instances));
            for scan in [Enabled::Yes, Enabled::No] {
                let kept = memory_kept(&config, scan);
                assert!(kept.0 * places <= config.idle_memory.0, "{instances} keep {kept} each");
                assert!(
                    idle == 0 || kept.0 >= PAGE || instances.get() > 4000,
                    "{instances} keep {kept} each"
                );
            }
        }
    }

    #[test]
    fn what_one_engine_compiles_fits_all_others() {
        let hash = |engine: wasmtime::Engine| {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        };
        let small = Config {
            instances: NonZeroU32::MIN,
            memory_max: Bytes::mib(16),
            idle_memory: Bytes(0),
            table_elements_max: 10,
            stack: Bytes::kib(64),
            ..Config::default()
        };
        for backtrace_lines in [false, true] {
            let compiling = hash(compiling_engine(backtrace_lines).expect("its settings go together"));
            let usual = Config { instances: NonZeroU32::MIN, ..Config::default() };
            for config in [&small, &usual] {
                let config = Config { backtrace_lines, ..config.clone() };
                assert_eq!(hash(wasmtime_engine(&config).expect("there is room")), compiling);
            }
        }
    }
}
