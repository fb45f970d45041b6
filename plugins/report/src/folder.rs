//! The files of a folder, one after the other, with progress.

use std::fs::File;
use std::io::BufReader;

use sandhog_sdk::{Context, OrFailIo, Progress, Result, permanent, transient};

/// A folder is read as it was when the job began; one with more files than this is a mistake.
const FILES_MAX: usize = 10_000;

/// A file of the folder.
pub(crate) struct Found {
    pub(crate) path: String,
    pub(crate) content: BufReader<File>,
}

/// Hands each file of `dir` whose name ends with `suffix` to `read`, by name, and returns how many there were.
///
/// # Errors
/// If the folder or a file can't be read, or the host would like the job to stop.
pub(crate) fn each_file(
    ctx: &Context,
    dir: &str,
    suffix: &str,
    mut read: impl FnMut(Found) -> Result<()>,
) -> Result<u64> {
    let names = names(dir, suffix)?;
    let total = names.len() as u64;
    for (done, name) in (0..).zip(&names) {
        if let Some(reason) = ctx.stop_requested() {
            return Err(transient(format_args!("stopped before file {done} of {total}: {reason:?}")));
        }
        ctx.progress(Progress::of(done, total).message(name));
        let path = format!("{}/{name}", dir.trim_end_matches('/'));
        let content = File::open(&path).or_fail_io(format_args!("open {path}"))?;
        read(Found { path, content: BufReader::new(content) })?;
    }
    ctx.progress(Progress::of(total, total));
    Ok(total)
}

fn names(dir: &str, suffix: &str) -> Result<Vec<String>> {
    let listing = format_args!("list the folder {dir}");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).or_fail_io(listing)? {
        let entry = entry.or_fail_io(listing)?;
        let is_file = entry.file_type().or_fail_io(listing)?.is_file();
        // A name that isn't text can't end with one.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if is_file && name.ends_with(suffix) {
            names.push(name);
        }
        if names.len() > FILES_MAX {
            return Err(permanent(format_args!(
                "{dir} has more than {FILES_MAX} files that end with {suffix}"
            )));
        }
    }
    names.sort_unstable();
    Ok(names)
}
