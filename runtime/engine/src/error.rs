//! Errors before a run: of making the engine, and of loading a component.

use std::path::PathBuf;
use std::time::Duration;

use sandhog_core::budget::Bytes;

use crate::imports::cut;

/// Maximum number of a component's problems that are shown, and maximum length of each, in bytes. A component chooses its names
/// itself, and can have thousands of them, of a hundred kilobytes each.
const PROBLEMS_SHOWN: usize = 10;
const PROBLEM_SHOWN: usize = 1000;

/// Reason why an engine couldn't be made, or a component not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine's settings don't go together, or the machine can't give what they ask for.
    #[error("can't set the engine up: {reason}")]
    Setup {
        /// Problem, and the knob, as text for people.
        reason: String,
    },
    /// The component is larger than what may be compiled.
    #[error("{plugin}: a component of {size} is larger than {max}; raise limits.component")]
    TooLarge {
        /// `plugin tenant/name`, or `component` where it has no name.
        plugin: String,
        /// Size of the component.
        size: Bytes,
        /// Maximum size.
        max: Bytes,
    },
    /// Compiling the component took too long, and was ended.
    #[error("{plugin}: compiling the component took longer than {max:?}; raise limits.compile_time")]
    CompileTime {
        /// `plugin tenant/name`, or `component` where it has no name.
        plugin: String,
        /// Maximum time.
        max: Duration,
    },
    /// Compiling the component took too much memory.
    #[error("{plugin}: compiling the component took more memory than {max}; raise limits.compile_memory")]
    CompileMemory {
        /// `plugin tenant/name`, or `component` where it has no name.
        plugin: String,
        /// Maximum memory.
        max: Bytes,
    },
    /// There was no memory left while the component was compiled, and the kernel ended that. It may go well another time.
    #[error(
        "{plugin}: the component was not compiled, as the machine or its control group ran out of memory; give it more, or let handlers take less"
    )]
    NoMemoryLeft {
        /// `plugin tenant/name`, or `component` where it has no name.
        plugin: String,
    },
    /// The compiler broke on the component.
    #[error(
        "{plugin}: the compiler broke on the component: {how}; build it differently, or without what is new in it"
    )]
    CompilerBroke {
        /// `plugin tenant/name`, or `component` where it has no name.
        plugin: String,
        /// End of the compiler's process, as text for people.
        how: String,
    },
    /// The machine doesn't allow compiling anything.
    #[error("{plugin}: can't {doing} to compile the component: {cause}")]
    NoCompiler {
        /// `plugin tenant/name`, or `component` where it has no name.
        plugin: String,
        /// Step that is not possible.
        doing: &'static str,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The bytes are no component that wasmtime can compile.
    #[error("{plugin}: {}", cut(reason.clone(), PROBLEM_SHOWN))]
    Malformed {
        /// `plugin tenant/name`, or `component` where it has no name.
        plugin: String,
        /// Problem with the bytes, and where it is.
        reason: String,
    },
    /// The bytes are a component, and yet no handler that can be run here.
    #[error("{plugin}: {}", shortened(problems))]
    NotAHandler {
        /// `plugin tenant/name`.
        plugin: String,
        /// Imports and exports that are missing, on either side.
        problems: Vec<String>,
    },
    /// A directory can't be granted.
    #[error("{plugin}: can't grant {line} under [grants]: {reason}")]
    Grant {
        /// `plugin tenant/name`.
        plugin: String,
        /// Line of TOML that grants the directory.
        line: String,
        /// Reason why it can't be granted.
        reason: std::io::Error,
    },
    /// The path of a directory leads through another one, where handlers may write.
    #[error(transparent)]
    GrantDiverted(#[from] Box<Diverted>),
}

/// Reason why a directory isn't granted whose path leads through another one: the handlers there could put a link to anywhere
/// in its way.
#[derive(Debug, thiserror::Error)]
#[error(
    "{plugin}: can't grant {line} under [grants]: the path {} of {reader} leads through {}, which {writer} may write, and \
     so could lead it anywhere; keep the two apart, or grant both the same directory",
    inner.display(),
    outer.display()
)]
pub struct Diverted {
    /// Plugin that was to be loaded, as `plugin tenant/name`.
    pub plugin: String,
    /// Line of TOML that grants its directory.
    pub line: String,
    /// Path that leads through the other directory.
    pub inner: PathBuf,
    /// Plugin that is granted it.
    pub reader: String,
    /// Directory that it leads through.
    pub outer: PathBuf,
    /// Plugin that may write there.
    pub writer: String,
}

fn shortened(problems: &[String]) -> String {
    let shown = problems.iter().take(PROBLEMS_SHOWN).map(|problem| cut(problem.clone(), PROBLEM_SHOWN));
    let mut texts: Vec<String> = shown.collect();
    if let Some(more) = problems.len().checked_sub(PROBLEMS_SHOWN).filter(|more| *more > 0) {
        texts.push(format!("and {more} more"));
    }
    texts.join("; ")
}
