//! What can go wrong before a run: making the engine, loading a component.

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
    /// The bytes are no component that can be run.
    #[error("{plugin}: {reason}")]
    Component {
        /// `tenant/name`.
        plugin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A grant can't be given.
    #[error("{plugin}: {reason}")]
    Grant {
        /// `tenant/name`.
        plugin: String,
        /// What is wrong with it, and the line of TOML that says so.
        reason: String,
    },
}
