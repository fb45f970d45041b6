//! The version before this one, as a program.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::cache;

/// The commit of it.
const COMMIT: &str = include_str!("../../scripts/previous.commit");

/// The `sandhog` binary of the version before this one, if it was built by `scripts/previous.sh`.
#[must_use]
pub fn previous() -> Option<PathBuf> {
    let path = cache().join("previous").join(COMMIT.trim()).join("sandhog");
    path.exists().then_some(path)
}

/// The same, for a test that needs it. None, which is said, where it can't be built, as the checkout has no history.
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
