//! The version before this one, as a program.

use std::path::PathBuf;

use crate::cache;

/// The commit of it.
const COMMIT: &str = include_str!("../../scripts/previous.commit");

/// The `sandhog` binary of the version before this one, if it was built by `scripts/previous.sh`.
#[must_use]
pub fn previous() -> Option<PathBuf> {
    let path = cache().join("previous").join(COMMIT.trim()).join("sandhog");
    path.exists().then_some(path)
}
