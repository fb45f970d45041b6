//! What can go wrong before a run: making the engine, loading a component.

use sandhog_core::budget::Bytes;

/// Why an engine couldn't be made, or a component not loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine's settings don't go together, or the machine can't give what they ask for.
    #[error("can't set the engine up: {reason}")]
    Setup {
        /// What is wrong, and the knob.
        reason: String,
    },
    /// The component is larger than what is compiled at all.
    #[error("{plugin}: a component of {size} is larger than {max}; raise engine.component_max")]
    TooLarge {
        /// `plugin tenant/name`, or `component` where it has no name.
        plugin: String,
        /// Its size.
        size: Bytes,
        /// The limit.
        max: Bytes,
    },
    /// The bytes are no component that wasmtime can compile.
    #[error("{plugin}: {reason}")]
    Malformed {
        /// `plugin tenant/name`, or `component` where it has no name.
        plugin: String,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// It is a component, and yet no handler that can be run here.
    #[error("{plugin}: {}", problems.join("; "))]
    NotAHandler {
        /// `plugin tenant/name`.
        plugin: String,
        /// What is missing, on either side.
        problems: Vec<String>,
    },
    /// A directory can't be granted.
    #[error("{plugin}: can't grant {line} under [grants]: {reason}")]
    Grant {
        /// `plugin tenant/name`.
        plugin: String,
        /// The line of TOML that grants it.
        line: String,
        /// Why not.
        reason: std::io::Error,
    },
}
