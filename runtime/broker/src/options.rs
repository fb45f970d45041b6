//! Stored form of a job's options: a MessagePack array with a place for each, `false` where it is absent. Places that a later
//! version has added behind those known to this one are skipped, so it has to be safe to ignore them; what isn't needs a layout
//! of its own. Changed is none of them where jobs are moved, so they stay as they are.

use sandhog_core::id::GroupKey;
use sandhog_core::job::JobOptions;

use crate::pack::{Packer, Unpacker, Unreadable};

/// Number of options that this version knows.
const PLACES: usize = 1;

/// Maximum length of the stored form, in bytes.
pub(crate) const OPTIONS_BYTES_MAX: usize = u16::MAX as usize;

/// Returns the stored form; `None` if there are no options, and so nothing is to be stored.
pub(crate) fn to_bytes(options: &JobOptions) -> Option<Vec<u8>> {
    if *options == JobOptions::default() {
        return None;
    }
    let JobOptions { group } = options;
    let mut packer = Packer::default();
    packer.array(PLACES);
    packer.optional_bytes(group.as_ref().map(|group| group.as_str().as_bytes()));
    let bytes = packer.into_bytes();
    debug_assert!(bytes.len() <= OPTIONS_BYTES_MAX, "each option is bounded");
    Some(bytes)
}

/// Reads the stored form.
pub(crate) fn read(bytes: &[u8]) -> Result<JobOptions, Unreadable> {
    let mut from = Unpacker::new(bytes);
    let mut places = Places { left: from.array()?, from: &mut from };
    Ok(JobOptions {
        group: places
            .next(|from| GroupKey::parse(from.text()?).map_err(|_| Unreadable("a group is not valid")))?,
    })
}

/// The places of a stored form, of which an earlier version has written fewer.
struct Places<'a, 'b> {
    left: usize,
    from: &'a mut Unpacker<'b>,
}

impl<'b> Places<'_, 'b> {
    fn next<T>(
        &mut self,
        read: impl FnOnce(&mut Unpacker<'b>) -> Result<T, Unreadable>,
    ) -> Result<Option<T>, Unreadable> {
        match self.left.checked_sub(1) {
            None => Ok(None),
            Some(left) => {
                self.left = left;
                self.from.optional(read)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(group in proptest::option::of("[^\\p{Cc}]{1,30}")) {
            let options = JobOptions { group: group.map(|group| GroupKey::parse(&group).expect("a valid group")) };
            match to_bytes(&options) {
                None => prop_assert_eq!(options, JobOptions::default()),
                Some(bytes) => prop_assert_eq!(read(&bytes), Ok(options)),
            }
        }

        #[test]
        fn reading_any_bytes_never_panics(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn places_of_later_versions_are_skipped_and_missing_ones_are_absent() {
        let mut later = Packer::default();
        later.array(3).bytes(b"acme").uint(7).absent();
        let group = Some(GroupKey::parse("acme").expect("a valid group"));
        assert_eq!(read(&later.into_bytes()), Ok(JobOptions { group }));
        let mut earlier = Packer::default();
        earlier.array(0);
        assert_eq!(read(&earlier.into_bytes()), Ok(JobOptions::default()));
    }
}
