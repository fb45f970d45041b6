//! Description of the machine and the versions that the figures were measured on.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde::Serialize;

use crate::peers;

/// The machine and the versions.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Model of the processors.
    pub(crate) processor: String,
    /// Number of processors.
    pub(crate) processors: usize,
    /// Memory in GiB.
    pub(crate) memory_gib: u64,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// The systems compared, each with its version.
    pub(crate) versions: BTreeMap<String, String>,
}

impl Machine {
    /// Describes this machine.
    pub(crate) fn this() -> Self {
        let of_file = |path: &str, key: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
            line.and_then(|line| line.split_once(':').map(|(_, value)| value.trim().to_owned()))
                .unwrap_or_default()
        };
        let memory_kib = of_file("/proc/meminfo", "MemTotal");
        let memory_kib: u64 = memory_kib.trim_end_matches(" kB").parse().unwrap_or_default();
        let mut versions = BTreeMap::from([("sandhog".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
        for (name, command) in [
            ("redis", ["redis-server", "--version"]),
            ("node", ["node", "--version"]),
            ("python", ["python3", "--version"]),
            ("rustc", ["rustc", "--version"]),
        ] {
            versions.insert(name.to_owned(), said(&command).unwrap_or_else(|| "not there".to_owned()));
        }
        versions.extend(peers::versions());
        Self {
            processor: of_file("/proc/cpuinfo", "model name"),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: (memory_kib + (1 << 19)) >> 20,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            versions,
        }
    }
}

fn said(command: &[&str]) -> Option<String> {
    let output = Command::new(command[0]).args(&command[1..]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // In `Redis server v=7.0.15 sha=…` as in `Python 3.11.2`, the version is in the first word with a digit.
    let version = text.split_whitespace().find(|word| word.contains(|c: char| c.is_ascii_digit()))?;
    Some(version.trim_start_matches("v=").trim_start_matches('v').to_owned())
}
