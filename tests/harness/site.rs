//! Site: a folder with configuration and a broker, as an operator would have.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sandhog_broker::{Broker, Counts};
use sandhog_core::id::{JobId, Kind, QueueName, TenantId};
use sandhog_core::job::{JobRecord, NewJob};
use sandhog_core::time::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Daemon, Fsync, PATIENCE, Redis, binary, component};

/// Broker of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// SQLite in the site's folder.
    Embedded,
    /// A Redis server of the site's own.
    Redis(Fsync),
}

/// Programming language of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Compiled to Wasm.
    Rust,
    /// On SpiderMonkey.
    JavaScript,
    /// On CPython.
    Python,
}

impl Language {
    /// Returns the name of the plugin that is the hog in this language.
    fn hog(self) -> &'static str {
        match self {
            Self::Rust => "hog",
            Self::JavaScript => "hog-js",
            Self::Python => "hog-python",
        }
    }

    /// Returns the kinds that it handles, without their prefix `hog.`.
    fn hog_kinds(self) -> Vec<&'static str> {
        let more: &[&str] = match self {
            Self::Rust => &["cat", "clocks", "connect", "exchange", "fetch", "list", "open", "tell", "write"],
            Self::JavaScript => &["claim", "exchange", "fetch"],
            Self::Python => &["claim", "exchange"],
        };
        [&HOG_KINDS, more].concat()
    }
}

/// Minimum size, in bytes, of a component that contains an interpreter; no other handler is as large.
const INTERPRETER_MIN: u64 = 8 << 20;

/// Kinds of the hog in every language, without their prefix `hog.`.
const HOG_KINDS: [&str; 17] = [
    "allocate", "count", "echo", "fail", "log", "note", "output", "panic", "play", "read", "recurse",
    "remember", "secret", "sleep", "spawn", "spin", "swap",
];

/// A site. Daemons and clients find it by its configuration file.
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
    redis: Option<Redis>,
    has_interpreter: bool,
}

impl Site {
    /// Creates a site whose daemon file ends with `extra`, with no plugin yet.
    ///
    /// # Panics
    /// If it can't be set up.
    #[must_use]
    pub fn new(backend: Backend, extra: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("plugins.d")).expect("a folder");
        let redis = match backend {
            Backend::Embedded => None,
            Backend::Redis(fsync) => Some(Redis::start(folder.path(), fsync)),
        };
        let broker = match &redis {
            None => "type = \"embedded\"\npath = \"jobs.db\"".to_owned(),
            Some(redis) => format!("type = \"redis\"\nurl = \"{}\"", redis.url()),
        };
        let site = Self { folder, redis, has_interpreter: false };
        // All sites of a machine share compiled components, which takes seconds off each test.
        let cache = component("hog").with_file_name("sandhog-test-cache");
        let text = format!("[broker]\n{broker}\n\n[engine]\ncache = \"{}\"\n\n{extra}\n", cache.display());
        fs::write(site.config(), text).expect("a file");
        site
    }

    /// Adds the plugin `hog` for a tenant, with these further lines of TOML.
    ///
    /// # Panics
    /// If the file can't be written.
    #[must_use]
    pub fn with_hog(self, tenant: &str, extra: &str) -> Self {
        self.with_hog_in(Language::Rust, tenant, extra)
    }

    /// Adds the plugin `hog` in its version in this language.
    ///
    /// # Panics
    /// If the file can't be written.
    #[must_use]
    pub fn with_hog_in(self, language: Language, tenant: &str, extra: &str) -> Self {
        let kinds: Vec<String> = language.hog_kinds().iter().map(|kind| format!("\"hog.{kind}\"")).collect();
        let kinds = kinds.join(", ");
        let plugin = format!("kinds = [{kinds}]\nqueue = \"hogs\"\n\n{extra}");
        self.with_plugin("hog", tenant, &component(language.hog()), &plugin)
    }

    /// Adds a plugin for a tenant. The text continues its `[plugin]` table, which still lacks the kinds and the queue.
    ///
    /// # Panics
    /// If the file can't be written.
    #[must_use]
    pub fn with_plugin(mut self, name: &str, tenant: &str, component: &Path, text: &str) -> Self {
        self.has_interpreter |= fs::metadata(component).is_ok_and(|file| file.len() > INTERPRETER_MIN);
        let text = format!(
            "[plugin]\nname = \"{name}\"\ntenant = \"{tenant}\"\ncomponent = \"{}\"\n{text}\n",
            component.display()
        );
        fs::write(self.path().join(format!("plugins.d/{name}-{tenant}.toml")), text).expect("a file");
        self
    }

    /// Adds a plugin of tenant `acme` whose component is `plugins.d/NAME.wasm`, with these further lines of TOML.
    ///
    /// # Panics
    /// If the files can't be written.
    pub fn plugin(&self, name: &str, wasm: &[u8], kinds: &[&str], extra: &str) {
        self.component(name, wasm);
        let kinds = kinds.iter().map(|kind| format!("\"{kind}\"")).collect::<Vec<_>>().join(", ");
        let head = format!("[plugin]\nname = \"{name}\"\ntenant = \"acme\"\ncomponent = \"{name}.wasm\"\n");
        self.write(
            &format!("plugins.d/{name}.toml"),
            format!("{head}kinds = [{kinds}]\nqueue = \"hogs\"\n\n{extra}\n").as_bytes(),
        );
    }

    /// Puts a component at `plugins.d/NAME.wasm`.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn component(&self, name: &str, wasm: &[u8]) {
        self.write(&format!("plugins.d/{name}.wasm"), wasm);
    }

    /// Puts a file into the folder in one step, as a careful deploy tool does.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn write(&self, name: &str, content: &[u8]) {
        let (path, aside) = (self.path().join(name), self.path().join("aside"));
        fs::write(&aside, content).expect("a file");
        fs::rename(&aside, path).expect("one folder, one file system");
    }

    /// Returns the status of a plugin of tenant `acme`, as reported by `sandhog plugins`.
    ///
    /// # Panics
    /// If there is none.
    pub fn standing(&self, name: &str) -> Value {
        let plugins = self.json(&["plugins"]);
        let plugins = plugins["plugins"].as_array().expect("a list");
        let meant = plugins.iter().find(|plugin| plugin["plugin"] == name);
        meant.unwrap_or_else(|| panic!("there is no plugin {name}: {plugins:?}")).clone()
    }

    /// Returns the folder of the site.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of the daemon file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path().join("sandhog.toml")
    }

    /// Returns the site's Redis server.
    ///
    /// # Panics
    /// If the site has none.
    pub fn redis(&mut self) -> &mut Redis {
        self.redis.as_mut().expect("a site with Redis")
    }

    /// Starts a daemon.
    #[must_use]
    pub fn daemon(&self) -> Daemon {
        self.compile_interpreters();
        Daemon::start(&self.config())
    }

    /// Starts a daemon from another `sandhog` binary.
    #[must_use]
    pub fn daemon_of(&self, program: &Path) -> Daemon {
        Daemon::start_with(self.command_of(program))
    }

    fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("--config").arg(self.config());
        command
    }

    /// Compiles interpreters, which takes many seconds of all cores: one test does it, and the others find them in the cache.
    fn compile_interpreters(&self) {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        if self.has_interpreter {
            let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            self.sandhog(&["check"]);
        }
    }

    /// Runs the `sandhog` command, and returns its output.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn sandhog(&self, arguments: &[&str]) -> Output {
        self.sandhog_of(&binary(), arguments)
    }

    /// Runs the command from another `sandhog` binary.
    ///
    /// # Panics
    /// If it can't be started, or doesn't end.
    pub fn sandhog_of(&self, program: &Path, arguments: &[&str]) -> Output {
        let mut command = self.command_of(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command can be started");
        let stdout = read_aside(child.stdout.take().expect("it is piped"));
        let stderr = read_aside(child.stderr.take().expect("it is piped"));
        let until = Instant::now() + PATIENCE;
        let mut all_of = |pipe: Receiver<Vec<u8>>| {
            pipe.recv_timeout(until.saturating_duration_since(Instant::now())).unwrap_or_else(|_| {
                // A process started for a test must not outlive it.
                child.kill().ok();
                child.wait().ok();
                panic!("sandhog {arguments:?} doesn't end")
            })
        };
        let (stdout, stderr) = (all_of(stdout), all_of(stderr));
        Output { status: child.wait().expect("a child can be waited for"), stdout, stderr }
    }

    /// Runs the command with `--json`, and returns what it prints.
    ///
    /// # Panics
    /// If it fails or prints anything else.
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.json_of(&binary(), arguments)
    }

    /// Runs the command as [`Self::json`] does, from another `sandhog` binary.
    ///
    /// # Panics
    /// If it fails or prints anything else.
    pub fn json_of(&self, program: &Path, arguments: &[&str]) -> Value {
        let output = self.sandhog_of(program, &[&["--json"], arguments].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "sandhog {arguments:?}: {stderr}");
        serde_json::from_slice(&output.stdout).expect("JSON on standard output")
    }

    /// Connects to the site's broker, for operations that would take a process each by the command.
    ///
    /// # Panics
    /// If it can't be had.
    pub async fn broker(&self) -> Arc<dyn Broker> {
        let config = sandhog_config::load(&self.config()).expect("the site's configuration is right");
        let access = sandhog_daemon::broker::Access::Serve;
        sandhog_daemon::broker::connect(&config, access).await.expect("the site's broker is up").broker
    }
}

/// Reads a pipe to its end, on a thread of its own.
fn read_aside(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (all, whole) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // The pipe of a killed process may end in any way, and the receiver may be gone.
        pipe.read_to_end(&mut bytes).ok();
        all.send(bytes).ok();
    });
    whole
}

/// Creates a job for the plugin `hog`.
///
/// # Panics
/// If the kind isn't a valid name.
#[must_use]
pub fn hog_job(kind: &str, payload: &str) -> NewJob {
    NewJob::new(
        JobId::from_parts(Timestamp::from_millis(1), rand::random()),
        QueueName::parse("hogs").expect("a queue"),
        Kind::parse(kind).expect("a kind"),
        payload.as_bytes().to_vec(),
    )
}

/// Returns the tenant's id for a name.
///
/// # Panics
/// If the name isn't valid.
#[must_use]
pub fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("a tenant")
}

/// Waits until all jobs of the tenant are final, and returns the number of jobs in each state.
///
/// # Panics
/// If that takes too long.
pub async fn all_final(broker: &dyn Broker, of: &TenantId) -> Counts {
    settled(broker, of, |counts| counts.unfinished() == 0).await
}

/// Waits until the tenant's counts satisfy `wanted`, and returns them.
///
/// # Panics
/// If that takes too long.
pub async fn settled(broker: &dyn Broker, of: &TenantId, wanted: impl Fn(&Counts) -> bool) -> Counts {
    let until = Instant::now() + PATIENCE;
    loop {
        let counts = broker.counts(of).await;
        match counts {
            Ok(counts) if wanted(&counts) => return counts,
            // While a test holds the broker down, it can't answer.
            _ => assert!(Instant::now() < until, "jobs of {of} are still under way: {counts:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Waits until a job has been leased for the first time, and returns its record.
///
/// # Panics
/// If that takes too long, or there is no such job.
pub async fn under_way(broker: &dyn Broker, of: &TenantId, job: JobId) -> JobRecord {
    once(broker, of, job, |record| record.leased_at.is_some()).await
}

/// Waits until a job is final, and returns its record.
///
/// # Panics
/// If that takes too long, or there is no such job.
pub async fn finished(broker: &dyn Broker, of: &TenantId, job: JobId) -> JobRecord {
    once(broker, of, job, |record| record.state.is_final()).await
}

/// Waits until the record of a job satisfies the condition, and returns it.
///
/// # Panics
/// If that takes too long, or there is no such job.
pub async fn once(
    broker: &dyn Broker,
    of: &TenantId,
    job: JobId,
    wanted: impl Fn(&JobRecord) -> bool,
) -> JobRecord {
    let until = Instant::now() + PATIENCE;
    loop {
        let record = broker.job(of, job).await.expect("the broker answers").expect("the job is there");
        if wanted(&record) {
            return record;
        }
        assert!(Instant::now() < until, "{job} is still {}", record.state);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
