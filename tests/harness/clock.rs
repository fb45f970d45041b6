//! Calendar clock that is wrong only for some processes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The library of Debian's package `libfaketime`, which `scripts/setup.sh` installs.
const LIBRARY: &str = "faketime/libfaketime.so.1";

/// Calendar clock of the processes that are started with its [`Self::env`]. Their monotonic clock isn't changed, as a
/// machine's isn't when its calendar is set.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Creates a clock that is right, kept in this file.
    ///
    /// # Panics
    /// If the file can't be written.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        let clock = Self { file };
        clock.set_ahead(0);
        clock
    }

    /// Sets the clock `seconds` ahead of the right time, at once.
    ///
    /// # Panics
    /// If the file can't be written.
    pub fn set_ahead(&self, seconds: i64) {
        // Written in one step, as it is read all the time.
        let aside = self.file.with_extension("aside");
        std::fs::write(&aside, format!("{seconds:+}")).expect("the clock's file can be written");
        std::fs::rename(&aside, &self.file).expect("the clock's file can be replaced");
    }

    /// Returns the environment variables that put a process on this clock.
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
