//! Binary and components of the version before this one.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::cache;

/// The commit of that version.
const COMMIT: &str = include_str!("../../scripts/previous.commit");

/// Returns the `sandhog` binary of the version before this one, or `None` if `scripts/previous.sh` hasn't built it.
#[must_use]
pub fn previous() -> Option<PathBuf> {
    let path = folder().join("sandhog");
    path.exists().then_some(path)
}

/// Returns the path of a component of the version before this one, which both run: `hog` or `witness`. It is there if
/// [`previous`] is.
#[must_use]
pub fn previous_component(name: &str) -> PathBuf {
    folder().join(name).with_extension("wasm")
}

fn folder() -> PathBuf {
    cache().join("previous").join(COMMIT.trim())
}

/// Returns the same for a test that needs it. `None`, with a message, if it can't be built, as the checkout has no history.
///
/// # Panics
/// If it could be built and isn't.
#[must_use]
pub fn previous_if_possible() -> Option<PathBuf> {
    let built = previous();
    if built.is_none() {
        let commit = format!("{}^{{commit}}", COMMIT.trim());
        let history = Command::new("git").args(["cat-file", "-e", &commit]).stderr(Stdio::null()).status();
        let has_history = history.is_ok_and(|status| status.success());
        assert!(!has_history, "the version before isn't there: run `make previous`");
        eprintln!("not tested: this checkout has no history to build the version before from");
    }
    built
}
