//! `sandhog run`, and the parts that `sandhog dev` shares with it.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use sandhog_broker::Broker;
use sandhog_config::Config;
use sandhog_core::budget::Bytes;
use sandhog_daemon::app::{self, Parts};
use sandhog_daemon::broker::Access;
use sandhog_daemon::clock::Clock;
use sandhog_daemon::deploy::{self, Failing, Handle, StartError, Started};
use sandhog_daemon::http;
use sandhog_daemon::lease::broker_health::once_reached;
use sandhog_daemon::service::Service;
use sandhog_daemon::shutdown::Shutdown;
use sandhog_daemon::telemetry;
use sandhog_daemon::telemetry::metrics::Metrics;
use sandhog_daemon::telemetry::metrics::measured::Measured;
use sandhog_daemon::vitals::Vitals;
use sandhog_engine::Engine;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::commands::loading::failure;
use crate::commands::notify;
use crate::exit::{Exit, Failure};
use crate::{LogFormat, LoggedBy, Logging};

/// Run the daemon: lease jobs, and run each in a sandbox of its own
#[derive(Debug, Args)]
#[command(after_help = SIGNALS)]
pub(crate) struct Run {
    #[command(flatten)]
    log: Log,
    /// For whom to log, on standard error
    #[arg(long, value_name = "FORMAT", default_value = "pretty")]
    log_format: LogFormat,
    /// Don't start if a plugin's file is wrong, or a plugin can't be loaded and no earlier revision of it is kept
    #[arg(long)]
    strict: bool,
}

/// How much to log.
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// How much to log: error, warn, info, debug, trace, or a filter such as `info,sandhog::guest=warn`
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: String,
}

const SIGNALS: &str = "\
While the broker can't be reached, the daemon waits for it, at its start as later on.

On the first SIGTERM or SIGINT the daemon leases no more, lets jobs run for the grace time ([shutdown] in the
configuration), gives the rest back unharmed (for five seconds at most, if the broker isn't there), and exits 0. A second
signal, more than a second later, ends it at once; what it held is run again once its leases have run out. On SIGHUP, and whenever one of its files has changed, it reads its configuration again.";

impl Run {
    pub(crate) fn logging(&self) -> Logging {
        Logging { filter: self.log.log_level.clone(), format: self.log_format, by: LoggedBy::Daemon }
    }

    pub(crate) async fn execute(self, config: &Path) -> Result<Exit, Failure> {
        let failing = if self.strict { Failing::Refused } else { Failing::LeftOut };
        serve(config, deploy::load_config(config)?, failing).await
    }
}

/// Runs a daemon, whose configuration file is at `path`, until it is told to stop.
pub(crate) async fn serve(path: &Path, config: Config, failing: Failing) -> Result<Exit, Failure> {
    let config = match failing {
        Failing::Refused => config.strict()?,
        Failing::LeftOut => config,
    };
    raise_open_files();
    leave_no_core();
    let unheard = |cause| Failure::io("listen for signals", &cause);
    let mut signals = Signals::new().map_err(unheard)?;
    // Handled from the start, which may have to wait: otherwise a SIGHUP would end the process.
    let hangups = signal(SignalKind::hangup()).map_err(unheard)?;
    let connection = tokio::select! {
        connection = sandhog_daemon::broker::connect(&config, Access::Serve) => connection?,
        name = signals.next() => return Ok(stopped_early(name)),
    };
    let exit = serve_on(&connection.broker, path, (config, failing), &mut signals, hangups).await?;
    connection.close().await;
    tracing::info!("stopped");
    Ok(exit)
}

/// Serves a broker until a signal says to stop, and the leased jobs are settled or given back.
async fn serve_on(
    broker: &Arc<dyn Broker>,
    path: &Path,
    (config, failing): (Config, Failing),
    signals: &mut Signals,
    hangups: Signal,
) -> Result<Exit, Failure> {
    let metrics = Metrics::new(Clock::system().now(), config.engine.concurrency.get());
    let broker: &Arc<dyn Broker> = &(Measured::new(Arc::clone(broker), Arc::clone(&metrics)) as _);
    let (parts, started) = tokio::select! {
        prepared = prepare(broker, path, &config, failing, &metrics) => prepared?,
        name = signals.next() => return Ok(stopped_early(name)),
    };
    // The deploy tasks end when this is dropped.
    let (handle, vitals) = (started.handle.clone(), Arc::clone(&parts.vitals));
    let of_server = Arc::clone(&vitals);
    let _deploys = deploys(broker, started, hangups, &vitals, &metrics)?;
    let server = match &config.http {
        None => None,
        Some(http) => {
            let started = {
                let of = |broker| {
                    let broker = Measured::new(broker, Arc::clone(&metrics));
                    Service::of_daemon(handle, broker, of_server).with_metrics(Arc::clone(&metrics))
                };
                http::Server::start(&config, http, of).await
            };
            Some(started.map_err(|error| Failure::new(error.to_string()))?)
        }
    };
    let (tenants, plugins) = (config.tenants.len(), config.plugins.len());
    tracing::info!(tenants, plugins, concurrency = config.engine.concurrency, "ready");
    notify::ready();
    let mut feeding = pin!(notify::feed_watchdog(&vitals));
    let shutdown = Shutdown::default();
    let mut running = pin!(app::run(parts, &shutdown));
    tokio::select! {
        ended = &mut running => return ended.map(|()| Exit::Ok).map_err(of_app),
        never = &mut feeding => match never {},
        name = signals.next() => {
            tracing::info!(signal = name, grace = ?config.grace, "draining");
            notify::stopping();
            server.iter().for_each(http::Server::drain);
            shutdown.drain();
        }
    }
    tokio::select! {
        ended = running => {
            if let Some(server) = server {
                server.stop().await;
            }
            ended.map(|()| Exit::Ok).map_err(of_app)
        }
        never = feeding => match never {},
        name = signals.next_after_echoes() => {
            let message = format!("stopped at once by a second signal ({name})");
            Err(Failure::new(message).help("what was held is run again when its leases have run out"))
        }
    }
}

fn stopped_early(signal: &str) -> Exit {
    tracing::info!(signal, "stopped before it was ready");
    Exit::Ok
}

/// Creates the parts of a daemon: everything that can fail does so before the first job is leased. Waits for the broker.
async fn prepare(
    broker: &Arc<dyn Broker>,
    path: &Path,
    config: &Config,
    failing: Failing,
    metrics: &Arc<Metrics>,
) -> Result<(Parts<Engine>, Started), Failure> {
    let clock = Clock::system();
    let of_broker = once_reached(&clock, async || broker.check().await).await?;
    for warning in of_broker.into_iter().chain(warnings(config)) {
        tracing::warn!("{warning}");
    }
    let engine = Engine::new(deploy::engine_settings(config))?;
    close_memory();
    let observer = telemetry::observer(metrics);
    let started = deploy::start(
        config.clone(),
        path.to_owned(),
        engine.clone(),
        clock.clone(),
        failing,
        Arc::clone(broker),
        Arc::clone(&observer),
    );
    let started = started.await.map_err(|error| match error {
        StartError::Store(error) => Failure::new(error.to_string()),
        StartError::Plugins(errors) => failure(&errors),
    })?;
    let parts = Parts {
        broker: Arc::clone(broker),
        runner: Arc::new(engine),
        catalog: started.catalog.clone(),
        archive: Arc::new(started.handle.clone()),
        vitals: Vitals::of_this_machine(clock.clone()),
        clock,
        observer,
        concurrency: config.engine.concurrency,
        lease: config.lease,
        grace: config.grace,
    };
    Ok((parts, started))
}

/// Starts the tasks that change the plugins in force while the daemon runs.
fn deploys(
    broker: &Arc<dyn Broker>,
    started: Started,
    hangups: Signal,
    vitals: &Arc<Vitals>,
    metrics: &Arc<Metrics>,
) -> Result<JoinSet<()>, Failure> {
    let Started { deployer, handle, watched, folder, .. } = started;
    let listener = http::Listener::bind(&folder);
    let listener = listener.map_err(|error| Failure::new(error.to_string()))?;
    let service = Service::of_daemon(handle.clone(), Arc::clone(broker), Arc::clone(vitals));
    let router = http::router(service.with_metrics(Arc::clone(metrics)));
    let mut tasks = JoinSet::new();
    tasks.spawn(deployer.run());
    tasks.spawn(deploy::watch_files(watched, handle.clone()));
    tasks.spawn(listener.serve(router));
    tasks.spawn(reload_on(hangups, handle));
    Ok(tasks)
}

async fn reload_on(mut hangups: Signal, deployer: Handle) {
    while hangups.recv().await.is_some() {
        tracing::info!(signal = "SIGHUP", "reloading");
        notify::reloading();
        // What comes of it is logged; an error means that the daemon is about to end.
        let _ = deployer.reload().await;
        notify::ready();
    }
}

fn of_app(error: app::Error) -> Failure {
    Failure::new(error.to_string())
}

/// Time after the first signal to stop during which further ones count as the same one.
const ECHOES: Duration = Duration::from_secs(1);

/// The signals that end a daemon.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal that is meant as a further one. Signals within [`ECHOES`] of the first are echoes of it: for
    /// example, a supervisor passes on what the terminal has sent to both.
    async fn next_after_echoes(&mut self) -> &'static str {
        let over = Instant::now() + ECHOES;
        while tokio::time::timeout_at(over, self.next()).await.is_ok() {}
        tracing::info!("a further signal ends it at once");
        self.next().await
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Returns warnings about a configuration that works, but should be looked at.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let files_max = getrlimit(Resource::Nofile).maximum;
    let of_machine = memory_warning(config, machine_memory()).into_iter().chain(slots_warning(config));
    let of_machine = of_machine.chain(files_warning(config, files_max));
    of_machine.chain(sandhog_daemon::broker::warnings(config)).collect()
}

/// Returns a warning if there are too many tenants for each to have a slot set aside.
fn slots_warning(config: &Config) -> Option<String> {
    let tenants = config.plugins.iter().map(|plugin| &plugin.tenant).collect::<BTreeSet<_>>().len();
    let slots = config.engine.concurrency.get();
    (tenants > slots as usize).then(|| {
        format!(
            "{tenants} tenants share {slots} runs at once, so none can have one set aside, and a few can keep \
             the others waiting; raise engine.concurrency to {tenants} or more"
        )
    })
}

/// Number of files that a daemon has open itself, with some to spare: its broker, sockets, pipes, what it watches.
const OWN_FILES: u64 = 128;

/// Returns a warning if this process may not have so many files open as the plugins take: each has its compiled code open, and
/// the directories that it is granted. `max` is `None` if there is no limit.
fn files_warning(config: &Config, max: Option<u64>) -> Option<String> {
    let max = max?;
    let plugins = config.plugins.iter();
    let of_plugins: usize = plugins.map(|plugin| 1 + plugin.grants.dirs.len()).sum();
    let needed = OWN_FILES.saturating_add(of_plugins as u64);
    (needed > max).then(|| {
        format!(
            "{} plugins and their directories take up to {needed} open files, without those that handlers open, and this \
             process may have {max} (RLIMIT_NOFILE); raise LimitNOFILE= of systemd, or `ulimit -Hn`",
            config.plugins.len()
        )
    })
}

/// Raises the limit on open files of this process to its maximum: each plugin has one, and a shell usually grants 1,024.
fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "can't raise the number of open files");
    }
}

/// Disables core dumps of this process, which would hold payloads, keys and secrets.
fn leave_no_core() {
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "can't rule out a core dump, which would hold secrets");
    }
}

/// Closes the memory of this process to others, also to those of the same user, and rules out that a program is handed its core
/// dump, which no limit does. To be called after the engine is made, which opens files of `/proc/self` that belong to the
/// system's administrator from then on.
fn close_memory() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "can't close the memory of this process, which holds secrets, to others of its user");
    }
}

/// Returns a warning if the machine hasn't the memory that handlers may take together.
fn memory_warning(config: &Config, machine: Option<Bytes>) -> Option<String> {
    let (worst, machine) = (config.memory_at_worst(), machine?);
    (worst > machine).then(|| {
        let (worst, machine) = (crate::output::bytes(worst.0), crate::output::bytes(machine.0));
        format!(
            "handlers, and the host for them, may take {worst} of memory together, and this machine has {machine}; \
             lower limits.memory or limits.concurrency of plugins, tenants.NAME.memory or engine.concurrency"
        )
    })
}

/// Returns the memory of this machine, or of the container around this process if that is less. `None` if neither is known.
fn machine_memory() -> Option<Bytes> {
    let of_machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(Bytes::kib)
    });
    let of_groups = std::fs::read_to_string("/proc/self/cgroup").ok().and_then(|groups| {
        cgroup_memory(Path::new(CGROUPS), &groups, |file| std::fs::read_to_string(file).ok())
    });
    of_machine.into_iter().chain(of_groups).min()
}

/// Mount point of the hierarchies of control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Returns the lowest memory limit of the control groups that a process is in, its own and all around it, of the unified
/// hierarchy and of version 1; `groups` is the content of its `/proc/self/cgroup`. `None` if no group has a limit.
fn cgroup_memory(root: &Path, groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<Bytes> {
    let hierarchies = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, own) = (parts.next()?, parts.next()?.strip_prefix('/')?);
        match controllers {
            "" => Some((root.to_owned(), own, "memory.max")),
            // A group without a limit has the largest one that there is.
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                Some((root.join("memory"), own, "memory.limit_in_bytes"))
            }
            _ => None,
        }
    });
    let bounds = hierarchies.flat_map(|(root, own, file)| {
        let bounds = Path::new(own).ancestors().map(|group| read(&root.join(group).join(file)));
        bounds.collect::<Vec<_>>()
    });
    bounds.flatten().filter_map(|bound| bound.trim().parse().ok().map(Bytes)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_control_group_counts() {
        let bounds = [
            ("/cg/memory.max", "max\n"),
            ("/cg/system.slice/memory.max", "3000\n"),
            ("/cg/system.slice/sandhog.service/memory.max", "max\n"),
            ("/cg/small/own/memory.max", "1000\n"),
            ("/cg/small/memory.max", "2000\n"),
            ("/cg/memory/docker/one/memory.limit_in_bytes", "500\n"),
            ("/cg/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        let read = |file: &Path| {
            bounds.iter().find(|(name, _)| Path::new(name) == file).map(|(_, text)| (*text).to_owned())
        };
        let of = |groups: &str| cgroup_memory(Path::new("/cg"), groups, read).map(|bytes| bytes.0);
        assert_eq!(of("0::/system.slice/sandhog.service\n"), Some(3000), "that of a group around it");
        assert_eq!(of("1:name=systemd:/x\n0::/small/own\n"), Some(1000));
        assert_eq!(of("5:cpu,memory:/docker/one\n3:pids:/docker/one\n"), Some(500), "version 1");
        assert_eq!(of("0::/small\n5:memory:/\n"), Some(2000), "both versions side by side");
        assert_eq!(of("0::/\n"), None, "a container with no bound");
        assert_eq!(of(""), None);
    }
}
