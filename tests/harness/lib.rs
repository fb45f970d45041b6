//! Harness of the whole-system tests: a site (a folder with configuration, and a broker), daemons in real processes, and
//! the `sandhog` command.
//!
//! Nothing here sleeps for a fixed time: every wait is for a log line, an exit, or a state of the broker, with a limit far
//! beyond the usual time, so that a hang is a failure with a reason.

mod clock;
mod components;
mod daemon;
mod disks;
mod previous;
mod proxy;
mod redis;
mod site;
mod web;

pub use clock::Clock;
pub use components::{burn, component_of, with_section};
pub use daemon::Daemon;
pub use disks::{HungDisk, SilentNames, SmallDisk, StallingDisk};
pub use previous::{previous, previous_component, previous_if_possible};
pub use proxy::{Direction, Flow, Proxy};
pub use redis::{Fsync, Redis};
pub use sandhog_guests::{ECHO, SPIN, TRAP};
pub use site::{Backend, Language, Site, all_final, finished, hog_job, once, settled, tenant, under_way};
pub use web::{BackgroundWeb, Reply, Web, authority};

use std::path::PathBuf;
use std::time::Duration;

/// Time limit of every wait: long enough for any machine.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Returns the path of this build's `sandhog` binary.
///
/// # Panics
/// If it isn't there.
#[must_use]
pub fn binary() -> PathBuf {
    let mut path = std::env::current_exe().expect("a test has a path");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.push("sandhog");
    assert!(path.exists(), "{} is missing: run `make build`", path.display());
    path
}

/// Returns the path of the component of a plugin in `plugins/`.
///
/// # Panics
/// If it isn't there.
#[must_use]
pub fn component(name: &str) -> PathBuf {
    let folder = std::env::var_os("SANDHOG_PLUGINS").map_or_else(default_components, PathBuf::from);
    let path = folder.join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `make plugins`", path.display());
    path
}

fn default_components() -> PathBuf {
    cache().join("guest-target/wasm32-wasip2/release")
}

/// Returns the folder outside the checkout that build artefacts and toolchains are kept in.
///
/// # Panics
/// If there is no home folder either.
#[must_use]
pub fn cache() -> PathBuf {
    std::env::var_os("SANDHOG_CACHE").map_or_else(default_cache, PathBuf::from)
}

fn default_cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    cache.or(home).expect("a home folder").join("sandhog")
}

/// The examples of the README are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
