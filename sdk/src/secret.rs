//! Secrets that the operator granted.

use std::fmt;

/// Value of a secret. It isn't shown by accident: there is no `Display`, and `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Reason why a secret can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The plugin's TOML doesn't grant it; the text names the line to add.
    #[error("{0}")]
    NotGranted(String),
}

impl Secret {
    pub(crate) fn new(value: String) -> Self {
        Self(value)
    }

    /// Returns the value, to be handed on to where it belongs. Keep it out of logs, failures, outputs and payloads.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
