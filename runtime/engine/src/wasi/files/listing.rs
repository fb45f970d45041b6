//! Directory listings and attributes of files: not too many entries, and no finer times than the clocks tell.

use std::io;
use std::time::Duration;

use cap_primitives::fs;
use sandhog_core::budget::Bytes;
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{self, ErrorCode};

use super::FilesView;
use crate::run_log::Remark;
use crate::wasi::handles::LISTED_ENTRY;

/// Maximum number of entries of a directory that is listed: the host holds them all at once.
const LISTED_MAX: usize = 50_000;

impl FilesView<'_> {
    /// Refuses a directory of too many entries. For any other, returns about what its entries take of the host's memory.
    pub(super) async fn countable(&mut self, fd: &Resource<Descriptor>) -> FsResult<Bytes> {
        let dir = self.dir(fd)?.dir;
        let counted = move || {
            let entries = fs::read_base_dir(&dir)?.take(LISTED_MAX + 1);
            let weigh = |entry: io::Result<fs::DirEntry>| {
                LISTED_ENTRY + entry.map_or(0, |entry| entry.file_name().len() as u64)
            };
            Ok(entries.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + weigh(entry))))
        };
        let (count, bytes) = self.blocking(counted).await?;
        if count > LISTED_MAX {
            self.log.remark(Remark::Listing, || {
                format!("a directory of more than {LISTED_MAX} entries can't be listed; split it up")
            });
            return Err(ErrorCode::InsufficientMemory.into());
        }
        Ok(Bytes(bytes))
    }

    fn coarse(&self, time: Option<Datetime>) -> Option<Datetime> {
        let time = time?;
        let seen = self.resolution.floor(Duration::new(time.seconds, time.nanoseconds));
        Some(Datetime { seconds: seen.as_secs(), nanoseconds: seen.subsec_nanos() })
    }

    pub(super) fn coarse_times(&self, stat: types::DescriptorStat) -> types::DescriptorStat {
        if self.resolution.is_finest() {
            return stat;
        }
        types::DescriptorStat {
            data_access_timestamp: self.coarse(stat.data_access_timestamp),
            data_modification_timestamp: self.coarse(stat.data_modification_timestamp),
            status_change_timestamp: self.coarse(stat.status_change_timestamp),
            ..stat
        }
    }
}
