//! Rights of descriptors: what each is, whose grant it belongs to, and what may be done with it.

use std::sync::Arc;

use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{Descriptor, Dir, File};
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::{FsError, FsResult};

use super::{FilesView, Known};
use crate::run_log::Remark;
use crate::wasi::directories::Granted;

impl FilesView<'_> {
    pub(super) fn known(&self, fd: &Resource<Descriptor>) -> FsResult<&Known> {
        // Every descriptor of the table was noted when it came to be.
        self.files.descriptors.get(&fd.rep()).ok_or_else(|| ErrorCode::BadDescriptor.into())
    }

    pub(super) fn granted(&self, grant: usize) -> FsResult<&Granted> {
        self.plugin.dirs.get(grant).map(Arc::as_ref).ok_or_else(|| ErrorCode::BadDescriptor.into())
    }

    pub(super) fn dir(&self, fd: &Resource<Descriptor>) -> FsResult<Dir> {
        match self.inner.table.get(fd)? {
            Descriptor::Dir(dir) => Ok(dir.clone()),
            Descriptor::File(_) => Err(ErrorCode::NotDirectory.into()),
        }
    }

    /// Returns a directory in which something is to be changed.
    pub(super) fn dir_to_change(&self, fd: &Resource<Descriptor>) -> FsResult<Dir> {
        let dir = self.dir(fd)?;
        if dir.perms.write_not_permitted() { Err(self.read_only(fd)) } else { Ok(dir) }
    }

    pub(super) fn file(&self, fd: &Resource<Descriptor>) -> FsResult<File> {
        match self.inner.table.get(fd)? {
            Descriptor::File(file) => Ok(file.clone()),
            Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    pub(super) fn read_only(&self, fd: &Resource<Descriptor>) -> FsError {
        self.log.remark(Remark::ReadOnly, || {
            let granted = self.known(fd).and_then(|known| self.granted(known.grant));
            let dir = granted.map_or("", |granted| granted.guest.as_str());
            format!(
                "a write to {dir} is refused: it is granted for reading; add `access = \"read-write\"` to it in `dirs` under [grants] of {}",
                self.plugin.place()
            )
        });
        ErrorCode::NotPermitted.into()
    }

    /// Checks that both descriptors are of one grant; or that neither has an account that the other's would have to be told of.
    pub(super) fn same_account(&self, a: &Resource<Descriptor>, b: &Resource<Descriptor>) -> FsResult<()> {
        let counted = self.quota(a)?.is_some() || self.quota(b)?.is_some();
        let same = self.known(a)?.grant == self.known(b)?.grant;
        if counted && !same { Err(ErrorCode::CrossDevice.into()) } else { Ok(()) }
    }
}
