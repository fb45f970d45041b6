//! Folders that are the daemon's alone: of compiled code, and of what was deployed. Whoever else could write there could
//! have it run whatever they like.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use rustix::process::{getegid, geteuid};

/// Permissions that let others write: the group, and everybody.
const GROUP_WRITES: u32 = 0o020;
const ALL_WRITE: u32 = 0o002;
/// What lies in the folder can be replaced by its owner alone, whoever may write there.
const STICKY: u32 = 0o1000;

/// Makes a folder that nobody but this user can write to, unless it is there; and says in the log if others could put
/// another one into its place.
///
/// # Errors
/// If it can't be made, or is there and others could write to it.
pub fn make_own_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = fs::metadata(folder)?;
    if metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::other(
            "it belongs to another user; name one that isn't there yet, which is made",
        ));
    }
    if metadata.mode() & (GROUP_WRITES | ALL_WRITE) != 0 {
        return Err(io::Error::other("others can write there; `chmod go-w` it"));
    }
    let whole = fs::canonicalize(folder)?;
    for above in whole.ancestors().skip(1) {
        if is_others(&fs::metadata(above)?) {
            tracing::warn!(
                folder = %folder.display(), above = %above.display(),
                "others can write to a folder above one that is the daemon's alone, and so could replace it"
            );
        }
    }
    Ok(())
}

/// Whether others could replace what lies in a folder.
fn is_others(folder: &Metadata) -> bool {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let by_group = folder.mode() & GROUP_WRITES != 0 && ![0, group].contains(&folder.gid());
    let by_all = folder.mode() & ALL_WRITE != 0;
    let is_owned = [0, user].contains(&folder.uid());
    !is_owned || ((by_group || by_all) && folder.mode() & STICKY == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_that_is_made_is_ours_alone_and_one_that_others_can_write_to_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().join("above/own");
        make_own_folder(&own).expect("it is made");
        assert_eq!(own.metadata().expect("it is there").mode() & 0o777, 0o700);
        for (mode, is_right) in [(0o700, true), (0o755, true), (0o770, false), (0o702, false)] {
            fs::set_permissions(&own, fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(make_own_folder(&own).is_ok(), is_right, "{mode:o}");
        }
    }

    #[test]
    fn one_above_is_others_if_they_can_replace_what_lies_in_it() {
        let folder = tempfile::tempdir().expect("a folder");
        for (mode, others) in [(0o755, false), (0o777, true), (0o1777, false), (0o775, false)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(is_others(&folder.path().metadata().expect("it is there")), others, "{mode:o}");
        }
    }
}
