//! Case `plugins`: start time and memory of a daemon with 1,000 plugins of 100 tenants, each with a component of its own, of
//! which ten are used.
//!
//! The components are `plugins/hog`, each with a section of other bytes, so that each is compiled, cached and loaded by
//! itself. They are compiled before the first start of the daemon, unless an earlier run of this case has done so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use sandhog_core::job::State;
use sandhog_tests::{Daemon, binary, component, finished, hog_job, tenant};

use crate::figures::Figures;

const TENANTS: usize = 100;
/// Kinds of job; each tenant has one plugin for each.
const KINDS: [&str; 10] =
    ["echo", "count", "fail", "log", "output", "panic", "recurse", "sleep", "spawn", "swap"];
const USED: usize = 10;
const STARTS: usize = 5;

/// Runs the case.
pub(crate) fn run(figures: &mut Figures) {
    let site = Site::new();
    site.compile();
    let starts: Vec<Start> = (0..STARTS).map(|_| site.use_some()).collect();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut add = |metric, of: &dyn Fn(&Start) -> f64| {
        let rounds: Vec<f64> = starts.iter().map(of).collect();
        figures.add("plugins/1000", "sandhog", metric, &rounds);
    };
    add("start_ms", &|start| start.ready.as_secs_f64() * 1e3);
    add("resident_unused_mib", &|start| mib(start.at_rest));
    add("resident_mib", &|start| mib(start.after_use));
    add("anonymous_mib", &|start| mib(start.anonymous));
}

/// Measurements of one start of the daemon, with a warm cache.
struct Start {
    /// Time until the daemon was ready.
    ready: Duration,
    /// Resident memory before any plugin was used, in bytes.
    at_rest: u64,
    /// Resident memory after ten plugins were used, in bytes.
    after_use: u64,
    /// Anonymous part of that memory, which isn't backed by a file, in bytes.
    anonymous: u64,
}

/// Folder with the configuration and all plugins.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let site = Self(folder);
        let plugins = site.path("plugins.d");
        fs::create_dir(&plugins).expect("a folder");
        let cache = component("hog").with_file_name("sandhog-bench-plugins");
        let head = format!("[engine]\ncache = \"{}\"\n", cache.display());
        let tenants = (0..TENANTS).map(|n| format!("[tenants.t{n}]\n")).collect::<String>();
        fs::write(site.config(), head + &tenants).expect("a file");
        let hog = fs::read(component("hog")).expect("it is there");
        for tenant in 0..TENANTS {
            for kind in KINDS {
                write_plugin(&plugins, &hog, tenant, kind);
            }
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.path("sandhog.toml")
    }

    /// Compiles all components, and waits for it.
    fn compile(&self) {
        let mut check = Command::new(binary());
        let checked = check.arg("--config").arg(self.config()).args(["check", "--offline"]).output();
        let checked = checked.expect("the command can be started");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }

    /// Starts a daemon, and uses ten plugins.
    fn use_some(&self) -> Start {
        let began = Instant::now();
        let daemon = Daemon::start(&self.config());
        let ready = began.elapsed();
        let at_rest = daemon.resident();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let config = sandhog_config::load(&self.config()).expect("it is right");
            let access = sandhog_daemon::broker::Access::Serve;
            let broker = sandhog_daemon::broker::connect(&config, access).await.expect("it is there").broker;
            for n in 0..USED {
                let (of, job) = (tenant(&format!("t{}", n * (TENANTS / USED))), hog_job("hog.echo", "1"));
                broker.enqueue(&of, std::slice::from_ref(&job)).await.expect("the broker is up");
                assert_eq!(finished(&*broker, &of, job.id).await.state, State::Succeeded);
            }
        });
        Start { ready, at_rest, after_use: daemon.resident(), anonymous: daemon.anonymous() }
    }
}

/// Writes a plugin's TOML, and its component, which differs from all others.
fn write_plugin(folder: &Path, hog: &[u8], tenant: usize, kind: &str) {
    let name = format!("{kind}-{tenant}");
    // A custom section: its id, its size, and its name with the length before it.
    let section = [&[0, name.len() as u8 + 1, name.len() as u8][..], name.as_bytes()].concat();
    let wasm = [hog, &section].concat();
    fs::write(folder.join(format!("{name}.wasm")), wasm).expect("a file");
    let toml = format!(
        "[plugin]\nname = \"{kind}\"\ntenant = \"t{tenant}\"\ncomponent = \"{name}.wasm\"\nkinds = [\"hog.{kind}\"]\nqueue = \"hogs\"\n"
    );
    fs::write(folder.join(format!("{name}.toml")), toml).expect("a file");
}
