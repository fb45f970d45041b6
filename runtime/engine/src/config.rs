//! Settings that an engine is made with.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use sandhog_core::budget::{Budget, Bytes};

use crate::compile::Compiler;

/// Settings of an [`Engine`](crate::Engine), the same for all that it runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Number of threads that run guests, and nothing else. By default one a core.
    pub guest_threads: NonZeroUsize,
    /// Maximum number of runs alive at once, including those that wait for a host call. The caller sees to it that there are
    /// never more; one that is too much ends as a host fault.
    pub instances: NonZeroU32,
    /// Largest memory budget of any run; address space is set aside for it.
    pub memory_max: Bytes,
    /// Maximum memory that is kept for runs to come when there are none, if components have one linear memory each. It is
    /// memory that earlier runs have used, cleared: a run that finds some starts much faster.
    pub idle_memory: Bytes,
    /// Largest table budget of any run, in elements.
    pub table_elements_max: u64,
    /// Largest instance budget of any run, in core instances.
    pub core_instances_max: u32,
    /// Stack of a guest, which bounds how deep it may recurse; the same for all.
    pub stack: Bytes,
    /// Interval at which a running guest is looked at: whether it must end, or let another run.
    pub tick: Duration,
    /// Whether a trap's backtrace has files and lines, where the component has debug information. To read that takes memory and
    /// processor time of this process, of which the component's author decides how much.
    pub backtrace_lines: bool,
    /// Maximum times that host calls may wait.
    pub deadlines: Deadlines,
    /// Compiler of components: in this process or in a child.
    pub compiler: Compiler,
    /// Folder in which compiled components are kept. `None` to keep none. Only our own user may be able to write there, because
    /// to load a compiled component is to trust it.
    pub cache: Option<PathBuf>,
}

/// Maximum time that a host call may wait, by what it waits for: neither fuel nor ticks cover that time. A request to another
/// host has its limit in the budget, and sleep that of the run.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Maximum wait for the store of state.
    pub state: Duration,
    /// Maximum wait for the file system.
    pub files: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { state: Duration::from_secs(5), files: Duration::from_secs(30) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            guest_threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            instances: NonZeroU32::new(256).expect("256 is not zero"),
            memory_max: Bytes::mib(1024),
            idle_memory: Bytes::mib(1024),
            table_elements_max: Budget::DEFAULT.table_elements,
            core_instances_max: Budget::DEFAULT.instances,
            stack: Bytes::kib(512),
            tick: Duration::from_millis(1),
            backtrace_lines: false,
            deadlines: Deadlines::default(),
            compiler: Compiler::default(),
            cache: None,
        }
    }
}
