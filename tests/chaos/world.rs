//! A site with everything of its own: a Redis or a file, some daemons, a way to go wrong between them.
//!
//! ```text
//! producers, holders ──way──┐
//! daemon 0 ────────────way──┼──> Redis          daemons <──> guests ──> witness
//! daemon 1 ────────────way──┘
//! ```
//!
//! Each daemon has a folder of its own, and a tenant of its own for jobs that show whether it is fetching.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sandhog_broker::embedded::Embedded;
use sandhog_broker::redis::testing::{Cluster, Durability, Sentinels};
use sandhog_broker::redis::{Config, Redis as RedisBroker, Topology};
use sandhog_broker::{Broker, SystemClock};
use sandhog_core::id::{Kind, QueueName, TenantId};
use sandhog_core::job::NewJob;
use sandhog_tests::{
    Clock, Fsync, Proxy, Redis, binary, component, previous_component, tenant, with_section,
};
use tempfile::TempDir;
use tokio::sync::{Mutex as Turns, MutexGuard, RwLock};
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

use crate::check::Limits;
use crate::faults;
use crate::history::{Entry, Event, History, Run};
use crate::plan::{Backend, Hold, Job, Plan, TENANTS};
use crate::process::{Log, Process};
use crate::witness::Witness;

/// What the daemons are told.
pub(crate) const LIMITS: Limits = Limits { daemon: 6, tenants: [("acme", 4), ("globex", 3)] };

/// A tenant whose jobs take up room, and are run by nobody.
pub(crate) const BALLAST: &str = "ballast";

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// How long a lease holds.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(1);

/// What a daemon needs at most to fetch again, once it could: it looks by itself every 5 seconds, that call may be the one
/// that finds the connection dead, and the rests after it and after a failed connection are 2 seconds at most.
pub(crate) const FETCHES_WITHIN: Duration =
    Duration::from_secs(5 + 2 + 2).saturating_add(COMMAND_TIMEOUT).saturating_add(CONNECT_TIMEOUT);

/// How much longer it may take on a machine that is busy with other tests.
const BUSY: Duration = Duration::from_secs(5);

/// A start that takes longer than that will never be.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// All of it.
pub(crate) struct World {
    pub(crate) history: Arc<History>,
    /// The way of those who aren't daemons.
    pub(crate) way: Option<Proxy>,
    pub(crate) daemons: Vec<Daemon>,
    /// The broker, by that way.
    pub(crate) client: Arc<dyn Broker>,
    /// The broker, by no way that can go wrong.
    pub(crate) direct: Arc<dyn Broker>,
    /// Held by whoever takes a right from the daemons' user, and shared by those whose daemons do things by halves then.
    pub(crate) rights: RwLock<()>,
    store: Store,
    witness: Witness,
    logs: Mutex<Vec<(String, Arc<Log>)>>,
    /// Removed with this value.
    _folder: TempDir,
}

/// Where the jobs are.
enum Store {
    File,
    Redis(Turns<Redis>),
    /// With the way there, which no proxy is on: the sentinels tell everybody where to go.
    Sentinels(Turns<Sentinels>, Config),
    /// Likewise; the nodes tell.
    Cluster(Turns<Cluster>, Config),
}

/// One daemon, and its successors.
pub(crate) struct Daemon {
    nth: usize,
    folder: PathBuf,
    /// Its way to Redis.
    pub(crate) way: Option<Proxy>,
    process: tokio::sync::Mutex<Option<Process>>,
    /// Held by whoever changes its component, until that has been taken up.
    pub(crate) deploying: tokio::sync::Mutex<()>,
    /// Its calendar, if that is to be wrong.
    clock: Option<Clock>,
    /// Component of its plugins.
    handler: Vec<u8>,
    now: Mutex<Now>,
    /// Faults that touch it, or have.
    troubles: Troubles,
}

#[derive(Default)]
struct Now {
    starts: u32,
    log: Arc<Log>,
}

#[derive(Default)]
struct Troubles {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// Holds for as long as a fault touches daemons.
pub(crate) struct Trouble<'a>(Vec<&'a Daemon>);

impl Drop for Trouble<'_> {
    fn drop(&mut self) {
        for daemon in &self.0 {
            daemon.troubles.ended.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl World {
    /// Starts it as a plan needs it.
    pub(crate) async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let strikes = |kind: &str| plan.faults.iter().any(|(_, fault)| fault.name() == kind);
        let folder = tempfile::tempdir()?;
        let history = Arc::new(History::new());
        let witness = Witness::start(Arc::clone(&history), LIMITS).await;
        let store = block_in_place(|| Store::start(plan.backend, folder.path()));
        let port = match &store {
            Store::Redis(redis) => Some(redis.lock().await.port()),
            _ => None,
        };
        let way = way_to(port).await;
        let direct = broker(store.config(port).as_ref(), folder.path())?;
        let client = broker(store.config(way.as_ref().map(Proxy::port)).as_ref(), folder.path())?;
        let mut of_world = Vec::new();
        // The version before may not know the contract that this one's components are of.
        let handler = match strikes(faults::version_mix::KIND.name) {
            true => previous_component("witness"),
            false => component("witness"),
        };
        for nth in 0..plan.daemons {
            let handler = fs::read(&handler).expect("it was built");
            let mut daemon = Daemon::new(nth, folder.path(), way_to(port).await, handler)?;
            if strikes(faults::clock::KIND.name) {
                daemon.clock = Some(Clock::new(daemon.folder.join("clock")));
            }
            of_world.push(daemon);
        }
        let world = Self {
            history,
            way,
            daemons: of_world,
            client,
            direct,
            rights: RwLock::default(),
            store,
            witness,
            logs: Mutex::default(),
            _folder: folder,
        };
        for daemon in &world.daemons {
            let mut process = daemon.process.lock().await;
            *process = Some(world.start_process(&binary(), daemon).await?);
        }
        Ok(world)
    }

    /// The Redis server, for whoever harms it.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) async fn redis(&self) -> MutexGuard<'_, Redis> {
        match &self.store {
            Store::Redis(redis) => redis.lock().await,
            _ => panic!("this world has no lone Redis"),
        }
    }

    /// The servers and their sentinels, for whoever harms them.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) async fn sentinels(&self) -> MutexGuard<'_, Sentinels> {
        match &self.store {
            Store::Sentinels(sentinels, _) => sentinels.lock().await,
            _ => panic!("this world has no sentinels"),
        }
    }

    /// The cluster, for whoever harms it.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) async fn cluster(&self) -> MutexGuard<'_, Cluster> {
        match &self.store {
            Store::Cluster(cluster, _) => cluster.lock().await,
            _ => panic!("this world has no cluster"),
        }
    }

    /// The calendar of a daemon, for whoever puts it wrong.
    ///
    /// # Panics
    /// If it is that of the machine.
    pub(crate) fn clock(&self, nth: usize) -> &Clock {
        self.daemons[nth].clock.as_ref().expect("its plan has a fault of the clock")
    }

    /// The process of a daemon, for whoever harms it.
    pub(crate) async fn process(&self, nth: usize) -> MutexGuard<'_, Option<Process>> {
        self.daemons[nth].process.lock().await
    }

    /// Starts a successor, as a supervisor would: until it is ready.
    pub(crate) async fn restart(&self, nth: usize, process: &mut Option<Process>) -> anyhow::Result<()> {
        self.restart_as(&binary(), nth, process).await
    }

    /// As [`Self::restart`], of another program.
    pub(crate) async fn restart_as(
        &self,
        program: &Path,
        nth: usize,
        process: &mut Option<Process>,
    ) -> anyhow::Result<()> {
        *process = Some(self.start_process(program, &self.daemons[nth]).await?);
        Ok(())
    }

    async fn start_process(&self, program: &Path, daemon: &Daemon) -> anyhow::Result<Process> {
        let starting = async {
            loop {
                let name = daemon.next();
                let config = self.store.config(daemon.way.as_ref().map(Proxy::port));
                daemon.configure(&name, self.witness.port(), config.as_ref())?;
                let mut sandhog = std::process::Command::new(program);
                sandhog.envs(daemon.clock.iter().flat_map(Clock::env));
                let process = Process::start(sandhog, &daemon.config())?;
                daemon.now().log = process.log();
                self.logs.lock().unwrap_or_else(PoisonError::into_inner).push((name, process.log()));
                if process.log().says(0, &["\"message\":\"ready\""]).await {
                    return anyhow::Ok(process);
                }
                // While there is no broker, none becomes ready.
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(STARTS_WITHIN, starting).await.context("a daemon doesn't become ready")?
    }

    /// Says that a fault touches these daemons, until the value is dropped.
    pub(crate) fn trouble(&self, daemons: &[usize]) -> Trouble<'_> {
        let touched: Vec<&Daemon> = daemons.iter().map(|nth| &self.daemons[*nth]).collect();
        for daemon in &touched {
            daemon.troubles.begun.fetch_add(1, Ordering::SeqCst);
        }
        Trouble(touched)
    }

    /// As [`Self::trouble`], for all daemons.
    pub(crate) fn trouble_of_all(&self) -> Trouble<'_> {
        self.trouble(&(0..self.daemons.len()).collect::<Vec<_>>())
    }

    /// Gives these daemons, which nothing is wrong with any more, a job each, and notes whether they begin it in time.
    pub(crate) async fn probe(&self, daemons: &[usize], fault: &'static str) -> anyhow::Result<()> {
        self.history.note(Event::Over { fault });
        self.give_jobs(daemons, fault, "until a daemon that it touched begins a new job").await
    }

    /// As [`Self::probe`], while a fault goes on that doesn't touch these.
    pub(crate) async fn probe_meanwhile(&self, daemons: &[usize], fault: &'static str) -> anyhow::Result<()> {
        self.give_jobs(daemons, fault, "until one that it doesn't touch begins a new job meanwhile").await
    }

    async fn give_jobs(
        &self,
        daemons: &[usize],
        fault: &'static str,
        what: &'static str,
    ) -> anyhow::Result<()> {
        let given_at = self.history.now();
        let mut probes = Vec::new();
        for daemon in daemons.iter().map(|nth| &self.daemons[*nth]) {
            let begun = daemon.troubles.begun.load(Ordering::SeqCst);
            // If another fault touches it, that one will ask when it is over.
            if daemon.troubles.ended.load(Ordering::SeqCst) == begun {
                let mut random = StdRng::from_rng(&mut rand::rng());
                let job = new_job(&Job::of_hold(&mut random, Hold::Millis(0)));
                let of_daemon = daemon.tenant();
                until_answered(|| self.direct.enqueue(&of_daemon, std::slice::from_ref(&job))).await;
                probes.push((daemon, begun, job.id.to_string()));
            }
        }
        for (daemon, troubles, id) in probes {
            let is_it = |event: &Event| matches!(event, Event::Began(Run { job, .. }) if *job == id);
            let find =
                |entries: &[Entry]| entries.iter().rev().find(|(_, event)| is_it(event)).map(|(at, _)| *at);
            let begun_at = timeout(FETCHES_WITHIN + BUSY, self.history.until(find)).await.ok();
            if let Some(begun_at) = begun_at {
                let time = begun_at.saturating_sub(given_at);
                self.history.note(Event::Took { fault, what, time });
            }
            // What was touched in the meantime is asked again by whoever touched it.
            if begun_at.is_some() || daemon.troubles.begun.load(Ordering::SeqCst) == troubles {
                self.history.note(Event::Probed { daemon: daemon.name(), fault, begun: begun_at.is_some() });
            }
        }
        Ok(())
    }

    /// As [`Self::probe`], of all daemons.
    pub(crate) async fn probe_all(&self, fault: &'static str) -> anyhow::Result<()> {
        self.probe(&(0..self.daemons.len()).collect::<Vec<_>>(), fault).await
    }

    /// Ends all daemons in good order, and notes which don't, and which have ended before.
    pub(crate) async fn end(&self) -> anyhow::Result<()> {
        for daemon in &self.daemons {
            let mut process = daemon.process.lock().await;
            let Some(process) = &mut *process else { continue };
            let died = |how| Event::Died { daemon: daemon.name(), how };
            if let Some(how) = process.ended() {
                self.history.note(died(how));
                continue;
            }
            process.signal(rustix::process::Signal::TERM);
            let status = timeout(STARTS_WITHIN, process.wait()).await.context("a daemon doesn't end")??;
            if !status.success() {
                self.history.note(died(crate::process::how(status)));
            }
        }
        Ok(())
    }

    /// Puts the logs of all daemons there ever were into a folder.
    pub(crate) fn keep_logs(&self, folder: &Path) -> std::io::Result<()> {
        for (name, log) in self.logs.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            fs::write(folder.join(format!("{name}.log")), log.text())?;
        }
        Ok(())
    }
}

impl Daemon {
    fn new(nth: usize, site: &Path, way: Option<Proxy>, handler: Vec<u8>) -> anyhow::Result<Self> {
        let folder = site.join(format!("d{nth}"));
        fs::create_dir_all(folder.join("plugins.d"))?;
        let daemon = Self {
            nth,
            folder,
            way,
            process: tokio::sync::Mutex::default(),
            deploying: tokio::sync::Mutex::default(),
            clock: None,
            handler,
            now: Mutex::default(),
            troubles: Troubles::default(),
        };
        daemon.deploy(&daemon.revision(0))?;
        Ok(daemon)
    }

    /// Its name and that of its process.
    pub(crate) fn name(&self) -> String {
        format!("d{}.{}", self.nth, self.now().starts)
    }

    fn next(&self) -> String {
        self.now().starts += 1;
        self.name()
    }

    /// What its process says.
    pub(crate) fn log(&self) -> Arc<Log> {
        Arc::clone(&self.now().log)
    }

    /// Its file.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.join("sandhog.toml")
    }

    /// The tenant that no other daemon has.
    pub(crate) fn tenant(&self) -> TenantId {
        tenant(&format!("probe-{}", self.nth))
    }

    /// The code of the handler, as one revision or another.
    pub(crate) fn revision(&self, number: u8) -> Vec<u8> {
        with_section(&self.handler, &number.to_string())
    }

    /// Puts another component into its folder, in one step.
    pub(crate) fn deploy(&self, wasm: &[u8]) -> std::io::Result<()> {
        self.write("plugins.d/witness.wasm", wasm)
    }

    fn configure(&self, name: &str, witness: u16, server: Option<&Config>) -> std::io::Result<()> {
        let of_tenants = self.tenant();
        let broker = match server {
            Some(server) => in_toml(server),
            None => "type = \"embedded\"\npath = \"../jobs.db\"".to_owned(),
        };
        let Limits { daemon, tenants: [(_, of_acme), (_, of_globex)] } = LIMITS;
        // All worlds share compiled components.
        let cache = component("witness").with_file_name("sandhog-test-cache");
        let ttl = LEASE_TTL.as_millis();
        let text = format!(
            "[broker]\n{broker}\n\n\
             [lease]\nttl = \"{ttl}ms\"\nmargin = \"250ms\"\nrenew_every = \"250ms\"\n\n\
             [engine]\nthreads = 1\nconcurrency = {daemon}\ncache = \"{}\"\n\n\
             [limits]\ntimeout = \"2s\"\n\n[shutdown]\ngrace = \"500ms\"\n\n\
             [tenants.acme]\nconcurrency = {of_acme}\n[tenants.globex]\nconcurrency = {of_globex}\n[tenants.{of_tenants}]\n[tenants.{BALLAST}]\n",
            cache.display()
        );
        self.write("sandhog.toml", text.as_bytes())?;
        for (of, limits) in [
            (TENANTS[0], String::new()),
            // Fewer than one daemon may have under way: it holds for all of them together.
            (TENANTS[1], format!("[limits]\nconcurrency = {}\n", of_globex - 1)),
            (of_tenants.as_str(), String::new()),
        ] {
            let text = format!(
                "[plugin]\nname = \"witness\"\ntenant = \"{of}\"\ncomponent = \"witness.wasm\"\n\
                 kinds = [\"witness.run\", \"witness.child\"]\nqueue = \"work\"\n\n{limits}\n\
                 [retry]\nmax_attempts = 30\nbackoff = {{ base = \"50ms\", factor = 1.5, max = \"300ms\" }}\n\n\
                 [grants]\nhttp = [{{ to = \"127.0.0.1:{witness}\", private = \"allow\" }}]\n\n\
                 [grants.env]\nWITNESS = \"127.0.0.1:{witness}/{name}\"\n"
            );
            self.write(&format!("plugins.d/{of}.toml"), text.as_bytes())?;
        }
        Ok(())
    }

    fn write(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        let path = self.folder.join(name);
        // One for each file: a deploy may write at the same time as a start.
        let aside = self.folder.join(name.replace('/', "-")).with_extension("aside");
        fs::write(&aside, content)?;
        fs::rename(&aside, path)
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a producer asks for.
pub(crate) fn new_job(job: &Job) -> NewJob {
    NewJob {
        delay: job.delay,
        priority: job.priority,
        ..NewJob::new(
            job.id,
            QueueName::parse("work").expect("a queue"),
            Kind::parse("witness.run").expect("a kind"),
            job.payload(),
        )
    }
}

async fn way_to(port: Option<u16>) -> Option<Proxy> {
    match port {
        Some(port) => Some(Proxy::to(port).await),
        None => None,
    }
}

/// A connection to the broker: to a server, or to the file.
fn broker(server: Option<&Config>, folder: &Path) -> anyhow::Result<Arc<dyn Broker>> {
    Ok(match server {
        Some(server) => Arc::new(RedisBroker::new(server)?),
        None => Arc::new(Embedded::open(&folder.join("jobs.db"), Arc::new(SystemClock))?),
    })
}

/// What a daemon's file says of a server.
fn in_toml(server: &Config) -> String {
    let millis = |time: Duration| format!("\"{}ms\"", time.as_millis());
    let found = match &server.topology {
        Topology::Server => String::new(),
        Topology::Sentinels(urls) => format!("sentinels = {urls:?}"),
        Topology::Cluster(nodes) => {
            format!("cluster = {:?}", nodes.iter().map(ToString::to_string).collect::<Vec<_>>())
        }
    };
    format!(
        "type = \"redis\"\nurl = \"{}\"\n{found}\nconnect_timeout = {}\ncommand_timeout = {}\nping_interval = {}",
        server.url,
        millis(server.connect_timeout),
        millis(server.command_timeout),
        millis(server.ping_interval)
    )
}

impl Store {
    fn start(backend: Backend, folder: &Path) -> Self {
        match backend {
            Backend::Embedded => Self::File,
            Backend::Redis => Self::Redis(Turns::new(Redis::start(folder, Fsync::Always))),
            Backend::Sentinels => {
                let sentinels = Sentinels::start(Durability::EverySecond);
                let config = impatiently(sentinels.config());
                Self::Sentinels(Turns::new(sentinels), config)
            }
            Backend::Cluster => {
                let cluster = Cluster::start(Durability::EverySecond);
                let config = impatiently(cluster.config());
                Self::Cluster(Turns::new(cluster), config)
            }
        }
    }

    /// The way there; to a lone Redis, by this port.
    fn config(&self, port: Option<u16>) -> Option<Config> {
        match self {
            Self::File => None,
            Self::Redis(_) => port.map(|port| impatiently(Config::new(format!("redis://127.0.0.1:{port}")))),
            Self::Sentinels(_, config) | Self::Cluster(_, config) => Some(config.clone()),
        }
    }
}

fn impatiently(config: Config) -> Config {
    Config {
        connect_timeout: CONNECT_TIMEOUT,
        command_timeout: COMMAND_TIMEOUT,
        ping_interval: PING_INTERVAL,
        ..config
    }
}

/// Repeats a call until there is an answer, as each caller of a broker may.
pub(crate) async fn until_answered<T, F: Future<Output = sandhog_broker::Result<T>>>(
    call: impl Fn() -> F,
) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}
