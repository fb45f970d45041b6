//! Texts of plugin files as they were when last right, kept in the folder of deploys: a daemon that starts beside a file
//! that is wrong serves its plugin by that.

use std::collections::BTreeMap;
use std::path::Path;

use sandhog_api::Time;
use sandhog_config::{self as config, BrokenFile, Config, FileTexts, Problems};
use sandhog_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::store::{self, Store, StoreError};

/// Name of the file in the folder of deploys.
const FILE: &str = "plugin_files.json";

/// Kept files, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptFiles(BTreeMap<String, KeptFile>);

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct KeptFile {
    text: String,
    /// Time since which the file has had this text, in milliseconds since the Unix epoch.
    since_ms: u64,
}

/// Leaves out the text, which may hold a payload.
impl std::fmt::Debug for KeptFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeptFile(since {})", self.since_ms)
    }
}

impl KeptFiles {
    pub(super) fn read(store: &Store) -> Self {
        store.read(FILE).unwrap_or_default()
    }

    /// Updates the kept texts to the files as they are now, and forgets those that are gone. Returns whether anything has
    /// changed.
    pub(super) fn follow(&mut self, config: &Config, now: Timestamp) -> bool {
        let broken: Vec<&str> = config.broken.iter().filter_map(|broken| broken.file.to_str()).collect();
        let mut kept = Self::default();
        for (path, text) in &config.texts.0 {
            // A file whose path isn't valid UTF-8 can't be kept; its plugin is served while the file is right.
            let Some(path) = path.to_str() else { continue };
            let before = self.0.get(path).filter(|before| *before.text == **text).cloned();
            let new = || KeptFile { text: text.to_string(), since_ms: now.as_millis() };
            kept.0.insert(path.to_owned(), before.unwrap_or_else(new));
        }
        for path in broken {
            if let Some(before) = self.0.get(path) {
                kept.0.insert(path.to_owned(), before.clone());
            }
        }
        let differs = *self != kept;
        *self = kept;
        differs
    }

    pub(super) fn write(&self, store: &Store) -> Result<(), StoreError> {
        store.write(FILE, self)
    }

    /// Describes what is wrong with a file, and what is served instead if its plugin is in force.
    pub(super) fn why(&self, broken: &BrokenFile, is_in_force: bool) -> String {
        let since = broken.file.to_str().and_then(|path| self.0.get(path)).filter(|_| is_in_force);
        let listed = broken.problems.listed();
        match since.map(|kept| Time(Timestamp::from_millis(kept.since_ms))) {
            Some(since) => {
                format!("{listed}; it serves what the file said that was right, first read at {since}")
            }
            None => listed,
        }
    }

    fn texts(self) -> FileTexts {
        let text = |(path, kept): (String, KeptFile)| (path.into(), kept.text.into());
        FileTexts(self.0.into_iter().map(text).collect())
    }
}

/// Reads the configuration of a daemon that is to start. A plugin whose file is wrong is as the file was when it was last right,
/// if the folder of deploys knows that.
///
/// # Errors
/// All that is wrong with the files, if the daemon's is among them.
pub fn load_config(path: &Path) -> Result<Config, Problems> {
    let config = config::load_to_run(path)?;
    if config.broken.is_empty() {
        return Ok(config);
    }
    let kept: Option<KeptFiles> = store::read(&config.deploy.folder, FILE);
    match kept {
        Some(kept) => config::load_to_run_with(path, &kept.texts()),
        None => Ok(config),
    }
}
