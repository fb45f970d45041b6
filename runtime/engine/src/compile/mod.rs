//! Compiling a component to machine code, aside from everything else.
//!
//! A compiler can be made to take seconds and gigabytes by a component of some kilobytes, and nothing stops a thread
//! that compiles. So a daemon has it done by a process of its own:
//!
//! ```text
//!  daemon                              child: the same program, no environment, three files
//!  ──────                              ────────────────────────────────────────────────────
//!  component ── stdin, a file ───────> bounds itself: memory, processor time, file size, system calls
//!  waits: its end, or the deadline     compiles, at low priority
//!  artefact <── stdout, a file ─────── exit 0
//!  or why not <── stderr, a file ───── an exit code, or a signal
//! ```
//!
//! All three are files and not pipes, so neither side ever waits for the other to read or write.

mod child;
mod confine;
mod parent;
mod turns;

use std::error::Error as _;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use sandhog_core::compile::CompileBudget;

use crate::priority;
use crate::schedule::panic_message;

pub use child::{COMPILE, compile_child};
pub(crate) use turns::Turns;

/// Nice value of threads that compile: below all others, guests included.
const NICE: i32 = 10;

/// Compiler of components.
#[derive(Debug, Clone, Default)]
pub enum Compiler {
    /// Compiles on threads of this process. Of its budget only the size of the component holds: compiling here can't be
    /// stopped.
    #[default]
    InProcess,
    /// Compiles in a child process, within its budget.
    Child {
        /// Program that is started. It is given `arguments`, and then what it has to hand on to [`compile_child`].
        program: PathBuf,
        /// Its first arguments.
        arguments: Vec<OsString>,
    },
}

impl Compiler {
    /// Creates a compiler whose child is this very program, even if its file was replaced or removed since it started. The
    /// program has to call [`compile_child`] when its first argument is [`COMPILE`].
    #[must_use]
    pub fn this_program() -> Self {
        Self::Child { program: "/proc/self/exe".into(), arguments: vec![COMPILE.into()] }
    }

    /// Compiles a component for `engine` into a file, at its beginning.
    pub(crate) fn compile(
        &self,
        engine: &wasmtime::Engine,
        task: &Task<'_>,
        artefact: &File,
    ) -> Result<(), Failure> {
        match self {
            Self::InProcess => {
                let bytes = on_threads(engine, task.wasm)?;
                let mut file = artefact;
                file.write_all(&bytes).map_err(Failure::Files)
            }
            Self::Child { program, arguments } => parent::compile(program, arguments, task, artefact),
        }
    }
}

/// Component that is to be compiled.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    /// Its bytes.
    pub wasm: &'a [u8],
    /// Bounds on what that may cost.
    pub budget: &'a CompileBudget,
    /// Whether the engine that it is for has lines in its backtraces.
    pub backtrace_lines: bool,
}

/// Reason why there is no artefact.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The compiler refused the component, for this reason.
    Refused(String),
    /// Compiling took longer than the budget's time.
    TooLong,
    /// Compiling took more than the budget's memory.
    TooMuchMemory,
    /// The machine, or a control group around this process, ran out of memory, and the kernel killed the child.
    NoMemoryLeft,
    /// The child ended otherwise, in these words.
    Died(String),
    /// The child can't be started, or waited for.
    NotStarted(io::Error),
    /// Input and output of the child can't be kept in files.
    Files(io::Error),
}

/// Reason why compiling, in whatever process, yields no artefact.
#[derive(Debug)]
enum NoArtefact {
    /// The compiler refused the component, for this reason.
    Refused(String),
    /// There is no memory left.
    NoMemory,
    /// Input or output can't be read or written.
    Files(io::Error),
}

impl NoArtefact {
    /// Classifies an error of the compiler.
    fn of(error: &wasmtime::Error) -> Self {
        let of_system = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
        match of_system.map(io::Error::kind) {
            Some(io::ErrorKind::OutOfMemory) => Self::NoMemory,
            _ => Self::Refused(format!("{error:#}")),
        }
    }
}

impl From<NoArtefact> for Failure {
    fn from(why: NoArtefact) -> Self {
        match why {
            NoArtefact::Refused(reason) => Self::Refused(reason),
            NoArtefact::NoMemory => Self::TooMuchMemory,
            NoArtefact::Files(error) => Self::Files(error),
        }
    }
}

/// Compiles on all cores, and yet out of the way of everything else. A compiler that panics has met a component that it can't
/// compile, and nothing worse.
fn on_threads(engine: &wasmtime::Engine, wasm: &[u8]) -> Result<Vec<u8>, NoArtefact> {
    let threads = rayon::ThreadPoolBuilder::new()
        .thread_name(|n| format!("sandhog-compile-{n}"))
        .start_handler(|_| priority::lower(NICE))
        .build()
        .map_err(|error| match error.source().and_then(|cause| cause.downcast_ref::<io::Error>()) {
            Some(cause) if cause.kind() == io::ErrorKind::OutOfMemory => NoArtefact::NoMemory,
            _ => NoArtefact::Refused(error.to_string()),
        })?;
    let compiled = catch_unwind(AssertUnwindSafe(|| threads.install(|| engine.precompile_component(wasm))));
    match compiled {
        Ok(compiled) => compiled.map_err(|error| NoArtefact::of(&error)),
        Err(panic) => {
            // The lines after the first are of use to nobody but the compiler's authors.
            let message = panic_message(&*panic);
            let message = message.lines().next().unwrap_or("no message");
            Err(NoArtefact::Refused(format!("the compiler panicked: {message}")))
        }
    }
}
