//! A calendar that is wrong for some processes alone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Debian's package `libfaketime`, which `scripts/setup.sh` installs.
const LIBRARY: &str = "faketime/libfaketime.so.1";

/// The calendar of the processes that have its [`Self::env`]. Their monotonic clock is left alone, as a machine's is.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// One that is right, kept in this file.
    ///
    /// # Panics
    /// If the file can't be written.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        let clock = Self { file };
        clock.set_ahead(0);
        clock
    }

    /// Puts it so many seconds ahead of the truth, at once.
    ///
    /// # Panics
    /// If the file can't be written.
    pub fn set_ahead(&self, seconds: i64) {
        // In one step: it is read all the time.
        let aside = self.file.with_extension("aside");
        std::fs::write(&aside, format!("{seconds:+}")).expect("the clock's file can be written");
        std::fs::rename(&aside, &self.file).expect("the clock's file can be replaced");
    }

    /// What a process needs in its environment.
    ///
    /// # Panics
    /// If the library isn't there.
    #[must_use]
    pub fn env(&self) -> [(&'static str, OsString); 4] {
        [
            ("LD_PRELOAD", library().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.clone().into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

fn library() -> PathBuf {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"];
    let found = folders.iter().map(|folder| Path::new(folder).join(LIBRARY)).find(|path| path.exists());
    found.expect("libfaketime is installed: run `make setup`")
}
