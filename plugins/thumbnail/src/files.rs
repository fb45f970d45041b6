//! Reading and writing in the granted folders.

use std::fs;
use std::io::Read;

use sandhog_sdk::{JobId, OrFailIo, Result, permanent};

/// Larger than any picture that is worth decoding here, and small enough for the memory of a sandbox.
const SOURCE_BYTES_MAX: u64 = 64 << 20;

pub(crate) fn read(path: &str) -> Result<Vec<u8>> {
    let reading = format_args!("read the picture {path}");
    let file = fs::File::open(path).or_fail_io(reading)?;
    // Some systems open a folder as if it were a file, and say so only when it is read, or not at all clearly.
    if file.metadata().or_fail_io(reading)?.is_dir() {
        return Err(permanent(format_args!("{path} is a folder, not a picture")));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells that there is more; the file's own word for its size may be out of date.
    file.take(SOURCE_BYTES_MAX + 1).read_to_end(&mut bytes).or_fail_io(reading)?;
    if bytes.len() as u64 > SOURCE_BYTES_MAX {
        return Err(permanent(format_args!("{path} is larger than {SOURCE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// Writes beside the file and renames: whoever looks sees the old file or the new, never a part. The name is the job's,
/// so that two jobs don't write into each other's, and what a killed attempt left is taken over by the next.
pub(crate) fn write_whole(path: &str, bytes: &[u8], job: &JobId) -> Result<()> {
    let writing = format_args!("write the thumbnail {path}");
    let partial = format!("{path}.{job}.partial");
    fs::write(&partial, bytes).or_fail_io(writing)?;
    fs::rename(&partial, path).or_fail_io(writing)
}
