//! How a case is run: a daemon, a hostile tenant that fires its jobs, and a neighbour who wants one done meanwhile.

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Failed;
use sandhog_broker::{Broker, Counts};
use sandhog_core::id::{JobId, PluginName, StateKey, TenantId};
use sandhog_core::job::{JobRecord, NewJob, State};
use sandhog_tests::{
    Backend, Daemon, Site, binary, component, finished, hog_job, settled, tenant, under_way,
};

use crate::case::{Case, Code, End, FileOf, HOSTILE_RUNS, NEIGHBOURS_DIGEST};

/// The state key that guests write to, when they do.
pub(crate) const KEY: &str = "k";

/// The kind of guests in WebAssembly text, which do the same whatever they are asked.
const KIND: &str = "hostile.run";

/// What nobody may read but the neighbour.
const SECRET: &str = "the neighbour's";

/// What the daemon's file says beyond its broker.
const DAEMON: &str = r#"threads = 2
concurrency = 8

[limits]
fuel = 1_000_000_000_000
memory = "16MiB"
table_elements = 10_000
timeout = "60s"
output = "256KiB"
log = "16KiB"
effects = "256KiB"
open_files = 128
"#;

/// The longest text that a component may cause, however long its names are.
const REFUSAL_MAX: usize = 16 * 1024;

const MIB: u64 = 1 << 20;

/// What a run may take: its memory, and what the host holds for it. The latter is the value of one call and its copy
/// (1 MiB and a little is the least that a call may hand over), effects, output and log.
const RUN_MAX: u64 = 16 * MIB + 2 * (MIB + MIB / 16) + 3 * MIB / 4;

/// What the daemon may take for itself beyond what it has at rest: the broker's caches, log lines on their way,
/// allocators that keep what they had.
const OWN_MAX: u64 = 32 * MIB;

/// How far the daemon may grow beyond what it has at rest: by the runs that there can be at once, one of them the
/// neighbour's.
const GROWTH_MAX: u64 = (HOSTILE_RUNS + 1) * RUN_MAX + OWN_MAX;

/// Runs a case.
pub(crate) fn run(case: &Case) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(Scene::new(case).play());
    Ok(())
}

/// What the neighbour waits for its jobs, but for the longest one in a hundred.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// By itself.
    pub(crate) alone: Duration,
    /// While the hostile tenant does its worst.
    pub(crate) beside: Duration,
}

/// A case, and what it takes to run it.
pub(crate) struct Scene<'a> {
    case: &'a Case,
    site: Site,
    hostile: TenantId,
    neighbour: TenantId,
    neighbours_jobs: Cell<u64>,
    /// Certificates of whom the daemon trusts. `None`: of whom the machine does.
    trusts: Option<PathBuf>,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(case: &'a Case) -> Self {
        Self::on(Backend::Embedded, case)
    }

    /// With its jobs in this broker.
    pub(crate) fn on(backend: Backend, case: &'a Case) -> Self {
        let site = site_on(backend, case.daemon_limits);
        let (hostile, neighbour) = (tenant("hostile"), tenant("neighbour"));
        let scene = Self { case, site, hostile, neighbour, neighbours_jobs: Cell::new(0), trusts: None };
        if !matches!(case.end, End::Refused(_)) {
            fs::write(scene.plugin_file(), scene.toml()).expect("a file");
        }
        scene
    }

    /// With a daemon that trusts servers with certificates of this authority.
    pub(crate) fn trusting(self, authority: &Path) -> Self {
        Self { trusts: Some(authority.to_owned()), ..self }
    }

    async fn play(&self) {
        let broker = self.site.broker().await;
        let mut daemon = self.site.daemon();
        // Whatever is made only once is made by now.
        self.neighbours_job(&*broker).await;
        let at_rest = daemon.resident();
        daemon.forget_peak();

        if let End::Refused(says) = self.case.end {
            self.deploy_in_vain(&mut daemon, &*broker, says).await;
        } else {
            let fired = self.fire_until_the_neighbour_had_its_turn(&*broker).await;
            for job in &fired {
                self.assert_its_end(&*broker, *job).await;
            }
            self.assert_nothing_is_left(&*broker, fired.len()).await;
        }
        self.assert_the_neighbour_is_unharmed(&*broker).await;
        assert_bounded(&daemon, at_rest);
        assert_unimpressed(&mut daemon);
        daemon.signal("TERM");
        assert_eq!(daemon.wait().code(), Some(0), "the daemon ends in good order");
    }

    /// Runs the case so often, and then as often again. Returns by how much the daemon has grown the second time.
    pub(crate) async fn repeat(&self, times: usize) -> u64 {
        let broker = self.site.broker().await;
        let daemon = self.site.daemon();
        let mut sizes = [0; 2];
        for (round, size) in (1..).zip(&mut sizes) {
            self.fire(&*broker, times).await;
            // Some enqueue what nobody handles, which waits for ever.
            let ended = |counts: &Counts| counts.total() - counts.unfinished() >= round * times as u64;
            settled(&*broker, &self.hostile, ended).await;
            *size = daemon.anonymous();
        }
        sizes[1].saturating_sub(sizes[0])
    }

    /// Measures what the neighbour waits for its jobs: alone, while the hostile tenant does its worst, and so on, in turns, until
    /// a round will do.
    pub(crate) async fn measure(
        &self,
        (rounds, jobs): (usize, usize),
        will_do: impl Fn(&Waits) -> bool,
    ) -> Vec<Waits> {
        let broker = self.site.broker().await;
        let mut command = Command::new(binary());
        command.arg("--config").arg(self.site.config());
        command.envs(self.trusts.iter().map(|authority| ("SSL_CERT_FILE", authority)));
        command.env_remove("SSL_CERT_DIR");
        let _daemon = Daemon::start_with(command);
        // Whatever is made only once is made by now.
        self.waits(&*broker, jobs).await;
        let mut measured = Vec::new();
        for _ in 0..rounds {
            let alone = self.waits(&*broker, jobs).await;
            let fired = self.fire(&*broker, self.case.runs as usize).await;
            for job in &fired {
                under_way(&*broker, &self.hostile, *job).await;
            }
            let beside = self.waits(&*broker, jobs).await;
            for job in &fired {
                broker.cancel(&self.hostile, *job).await.expect("the broker is up");
            }
            let mut at_it = 0;
            for job in &fired {
                let record = finished(&*broker, &self.hostile, *job).await;
                at_it += usize::from(record.state == State::Cancelled);
            }
            assert_eq!(at_it, fired.len(), "the hostile runs ended while they were to be at it");
            measured.push(Waits { alone, beside });
            if measured.last().is_some_and(&will_do) {
                break;
            }
        }
        measured
    }

    /// How long some of the neighbour's jobs take from being enqueued to being done, one after the other, as the broker has
    /// it: all but the longest one in a hundred take no longer.
    async fn waits(&self, broker: &dyn Broker, jobs: usize) -> Duration {
        let mut waits = Vec::new();
        for _ in 0..jobs {
            let record = self.neighbours_job(broker).await;
            let finished = record.finished_at.expect("it is done").as_millis();
            waits.push(Duration::from_millis(finished.saturating_sub(record.enqueued_at.as_millis())));
        }
        waits.sort();
        waits[(jobs * 99).div_ceil(100) - 1]
    }

    /// Deploys the component while the daemon runs; a job of the neighbour's runs meanwhile.
    async fn deploy_in_vain(&self, daemon: &mut Daemon, broker: &dyn Broker, says: &str) {
        let neighbours = self.neighbours_job(broker).await.revision.expect("it ran").to_string();
        let filled = |text: &str| text.replace(NEIGHBOURS_DIGEST, &neighbours);
        fs::write(self.plugin_file(), filled(&self.toml())).expect("a file");
        daemon.signal("HUP");
        self.neighbours_job(broker).await;
        let says = filled(says);
        let line = daemon.wait_for("deploy failed");
        assert!(line.len() <= REFUSAL_MAX, "a tenant's component made a line of {} bytes", line.len());
        assert!(line.contains("hostile") && line.contains(&says), "`{says}` isn't in: {line}");
    }

    /// The plugin's file. It has the name and the queue of the neighbour's, so that nothing but the tenant is different.
    fn toml(&self) -> String {
        toml(self.case, self.site.path(), "hog", self.case.kind())
    }

    fn plugin_file(&self) -> PathBuf {
        self.site.path().join("plugins.d/hostile.toml")
    }

    /// Has the hostile tenant run its jobs until a job of the neighbour's has started after one of them had, and ended
    /// before one of them has: as the broker has it. Most hostile jobs end at once, so there are more and more of them.
    async fn fire_until_the_neighbour_had_its_turn(&self, broker: &dyn Broker) -> Vec<JobId> {
        let mut fired = Vec::new();
        for jobs in (1..).map(|round| 1 << round) {
            let first = self.fire(broker, 1).await;
            let started = under_way(broker, &self.hostile, first[0]).await;
            let rest = self.fire(broker, jobs).await;
            let theirs = self.neighbours_job(broker).await;
            fired.extend([first, rest].concat());
            let began = started.leased_at <= theirs.leased_at;
            if began && self.is_at_it_since(broker, &theirs, &fired).await {
                break;
            }
            assert!(jobs < 4096, "thousands of hostile jobs end before one of the neighbour's has");
        }
        fired
    }

    /// Whether a hostile job was still to end when the neighbour's ended.
    async fn is_at_it_since(&self, broker: &dyn Broker, theirs: &JobRecord, fired: &[JobId]) -> bool {
        for job in fired.iter().rev() {
            let record = record(broker, &self.hostile, *job).await;
            if record.finished_at.is_none_or(|finished| Some(finished) >= theirs.finished_at) {
                return true;
            }
        }
        false
    }

    async fn fire(&self, broker: &dyn Broker, jobs: usize) -> Vec<JobId> {
        let payload = match &self.case.code {
            Code::Text(_) | Code::File(_) => "{}",
            Code::Handler(handler) => &*handler.payload,
        };
        let jobs: Vec<NewJob> = (0..jobs).map(|_| hog_job(self.case.kind(), payload)).collect();
        broker.enqueue(&self.hostile, &jobs).await.expect("the broker is up");
        jobs.iter().map(|job| job.id).collect()
    }

    async fn neighbours_job(&self, broker: &dyn Broker) -> JobRecord {
        let job = hog_job("hog.count", &format!(r#"{{"counter": "{KEY}"}}"#));
        broker.enqueue(&self.neighbour, std::slice::from_ref(&job)).await.expect("the broker is up");
        self.neighbours_jobs.set(self.neighbours_jobs.get() + 1);
        let record = finished(broker, &self.neighbour, job.id).await;
        assert_eq!(record.state, State::Succeeded, "the neighbour's job: {record:?}");
        record
    }

    /// The neighbour has its jobs, its state and its secret, and nothing else has happened to it.
    async fn assert_the_neighbour_is_unharmed(&self, broker: &dyn Broker) {
        self.neighbours_job(broker).await;
        let jobs = self.neighbours_jobs.get();
        let counts = broker.counts(&self.neighbour).await.expect("the broker is up");
        assert_eq!(counts.total(), jobs, "somebody else's jobs: {counts:?}");
        assert_eq!(self.state_of(&self.neighbour, broker).await, Some(jobs.to_string().into_bytes()));
        let outside = self.site.path();
        assert_eq!(fs::read_to_string(outside.join("secret.txt")).expect("it is there"), SECRET);
        assert!(!outside.join("escaped").exists() && !outside.join("escaped.txt").exists());
    }

    async fn state_of(&self, tenant: &TenantId, broker: &dyn Broker) -> Option<Vec<u8>> {
        let plugin = PluginName::parse("hog").expect("valid");
        let key = StateKey::parse(KEY).expect("valid");
        broker.state(tenant, &plugin, &key).await.expect("the broker is up")
    }

    async fn assert_its_end(&self, broker: &dyn Broker, job: JobId) {
        if self.case.end == End::Cancelled {
            broker.cancel(&self.hostile, job).await.expect("the broker is up");
        }
        let record = finished(broker, &self.hostile, job).await;
        let message = record.message.clone().unwrap_or_default();
        let output = String::from_utf8_lossy(record.output.as_deref().unwrap_or_default()).into_owned();
        let found = (record.state, record.reason);
        match &self.case.end {
            End::Dead(reason, says) => {
                assert_eq!(found, (State::Dead, Some(*reason)), "{message}{output}");
                assert!(message.contains(says), "`{says}` isn't in: {message}");
            }
            End::Returns(expected) => {
                assert_eq!(found, (State::Succeeded, None), "{message}");
                assert_eq!(output, *expected);
            }
            End::Cancelled => assert_eq!(found.0, State::Cancelled, "{message}"),
            End::Refused(_) => panic!("a component that is refused has no jobs"),
        }
    }

    /// Whatever a run did before it failed is not there: no state, no further jobs.
    async fn assert_nothing_is_left(&self, broker: &dyn Broker, fired: usize) {
        if matches!(self.case.end, End::Returns(_)) {
            return;
        }
        let counts = broker.counts(&self.hostile).await.expect("the broker is up");
        assert_eq!(counts.total(), fired as u64, "jobs of runs that failed: {counts:?}");
        let state = self.state_of(&self.hostile, broker).await;
        assert_eq!(state, None, "state of runs that failed");
    }
}

/// Runs cases of guests in WebAssembly text side by side, each of them so often, and then as often again. Returns by how much
/// the daemon has grown the second time.
pub(crate) async fn repeat_together(cases: &[Case], times: usize) -> u64 {
    let (site, hostile) = (site_on(Backend::Embedded, ""), tenant("hostile"));
    let kind = |case: &Case| format!("hostile.{}", case.name);
    for case in cases {
        let file = site.path().join(format!("plugins.d/{}.toml", case.name));
        fs::write(file, toml(case, site.path(), case.name, &kind(case))).expect("a file");
    }
    let broker = site.broker().await;
    let daemon = site.daemon();
    let mut sizes = [0; 2];
    for (round, size) in (1..).zip(&mut sizes) {
        for _ in 0..times {
            let jobs: Vec<NewJob> = cases.iter().map(|case| hog_job(&kind(case), "{}")).collect();
            broker.enqueue(&hostile, &jobs).await.expect("the broker is up");
        }
        let fired = (round * times * cases.len()) as u64;
        settled(&*broker, &hostile, |counts| counts.total() - counts.unfinished() >= fired).await;
        *size = daemon.anonymous();
    }
    sizes[1].saturating_sub(sizes[0])
}

impl Case {
    fn kind(&self) -> &str {
        match &self.code {
            Code::Text(_) | Code::File(_) => KIND,
            Code::Handler(handler) => handler.kind,
        }
    }
}

/// A site with a tenant that is hostile, and a neighbour.
fn site_on(backend: Backend, limits: &str) -> Site {
    let secrets = "[tenants.hostile]\n[tenants.neighbour.secrets]\nTOKEN = { file = \"secret.txt\" }\n";
    let site = Site::new(backend, &format!("{DAEMON}{limits}\n{secrets}"))
        .with_hog("neighbour", "[grants]\nsecrets = [\"TOKEN\"]");
    lay_out(site.path());
    site
}

/// The file of the plugin that a case is, with this name and kind.
fn toml(case: &Case, folder: &Path, name: &str, kind: &str) -> String {
    let component = match &case.code {
        Code::Text(text) => {
            let path = folder.join(format!("{}.wat", case.name));
            fs::write(&path, text).expect("a file");
            path
        }
        Code::Handler(handler) => component(handler.plugin),
        Code::File(file) => {
            let path = folder.join("hostile.wasm");
            write(file, &path);
            path
        }
    };
    let Case { plugin, fuel, runs, limits, toml, .. } = case;
    let memory = if limits.contains("memory") { "" } else { "memory = \"8MiB\"" };
    format!(
        r#"[plugin]
name = "{name}"
tenant = "hostile"
component = "{}"
kinds = ["{kind}"]
queue = "hogs"
{plugin}

[limits]
{memory}
concurrency = {runs}
fuel = {fuel}
{limits}

[retry]
max_attempts = 1

{toml}
"#,
        component.display()
    )
}

fn write(file: &FileOf, path: &Path) {
    match file {
        FileOf::Bytes(bytes) => fs::write(path, bytes).expect("a file"),
        FileOf::Zeros(length) => {
            fs::File::create(path).and_then(|file| file.set_len(*length)).expect("a file with a hole in it");
        }
        FileOf::MachineCode => {
            let cache = fs::read_dir(component("hog").with_file_name("sandhog-test-cache")).expect("a cache");
            let artefact = cache
                .flatten()
                .map(|entry| entry.path())
                .find(|path| path.extension().is_some_and(|extension| extension == "cwasm"));
            fs::copy(artefact.expect("what the neighbour runs is in the cache"), path).expect("a file");
        }
    }
}

/// A directory to be granted, with ways out of it, and a secret beside it.
fn lay_out(site: &Path) {
    fs::write(site.join("secret.txt"), SECRET).expect("a file");
    let granted = site.join("granted");
    fs::create_dir(&granted).expect("a folder");
    fs::create_dir(granted.join("folder")).expect("a folder");
    let many = site.join("many");
    fs::create_dir(&many).expect("a folder");
    for n in 0..2000 {
        fs::write(many.join(n.to_string()), "x").expect("a file");
    }
    fs::write(granted.join("inside.txt"), "inside").expect("a file");
    symlink("../secret.txt", granted.join("link")).expect("a link");
    symlink("/etc/passwd", granted.join("absolute-link")).expect("a link");
    symlink("..", granted.join("folder-link")).expect("a link");
    let made = Command::new("mkfifo").arg(granted.join("pipe")).status().expect("mkfifo is there");
    assert!(made.success(), "a pipe can be made");
}

async fn record(broker: &dyn Broker, of: &TenantId, job: JobId) -> JobRecord {
    broker.job(of, job).await.expect("the broker is up").expect("it is there")
}

fn assert_bounded(daemon: &Daemon, at_rest: u64) {
    let grown = daemon.peak().saturating_sub(at_rest);
    let mib = |bytes| bytes / MIB;
    assert!(grown <= GROWTH_MAX, "the daemon has grown by {} MiB, of {}", mib(grown), mib(GROWTH_MAX));
}

/// Whatever guests do is no matter for the operator's pager.
fn assert_unimpressed(daemon: &mut Daemon) {
    let mut errors = String::new();
    for line in daemon.log().iter().filter(|line| line.contains("\"level\":\"ERROR\"")) {
        // Writing to a string can't fail.
        let _ = writeln!(errors, "{line}");
    }
    assert!(errors.is_empty(), "a guest made the daemon log errors:\n{errors}");
}
