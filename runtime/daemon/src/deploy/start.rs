//! Start of deploys: what is in force when a daemon starts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use sandhog_api::{DeployEvent, DeployEventKind};
use sandhog_broker::Broker;
use sandhog_config::{self as config, Config};
use sandhog_core::id::TenantId;
use sandhog_engine::{Abort, Components, Engine, Plugin};
use sandhog_files::own_folder::OwnFolder;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::CanaryTrial;
use super::archive::Pinned;
use super::deployer::{Code, DeployTools, Deployer, Trials, Work};
use super::diff::{Entrance, entrance};
use super::engine_settings::deploys_at_once;
use super::error::Error;
use super::events::Events;
use super::files::Files;
use super::fleet::Fleet;
use super::grants;
use super::handle::Handle;
use super::history::{Origin, Record, Wanted};
use super::kept_files::KeptFiles;
use super::slot::{Deployed, Key, Slot, key};
use super::smoke::smoke;
use super::state::{Shared, State};
use super::store::{Store, StoreError};
use super::watch::Watched;
use crate::capacity::concurrency::ConcurrencyLimits;
use crate::catalog::Current;
use crate::clock::Clock;
use crate::off_thread::off_thread;
use crate::telemetry::Observer;

/// Maximum time for which a start waits for all components together that have to be compiled. What takes longer is left to
/// the deployer, whose tenants don't wait for each other.
const COMPILING_MAX: Duration = Duration::from_secs(10);

/// Deployer at its start, and the handles to it.
pub struct Started {
    /// The deployer, which the caller has to run.
    pub deployer: Deployer,
    /// Handle that sends requests to the deployer.
    pub handle: Handle,
    /// Catalog of what is in force, kept up to date.
    pub catalog: Current<Arc<Plugin>>,
    /// Files to watch, kept up to date.
    pub watched: watch::Receiver<Watched>,
    /// Folder of deploys.
    pub folder: Arc<OwnFolder>,
}

/// Reason why a daemon can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The folder of deploys can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Plugins can't be loaded, and nothing earlier of them is kept.
    #[error("{} plugins can't be loaded", .0.len())]
    Plugins(Vec<Error>),
}

/// Behaviour of a start if a plugin can't be loaded, and nothing earlier of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// The daemon starts without it, and shows why.
    LeftOut,
    /// The daemon doesn't start.
    Refused,
}

/// Loads every plugin of a configuration, and prepares the deployer. If a plugin can't be loaded, the revision that was last
/// in force is taken, if it is kept. What canaries do is reported to the other daemons through the broker.
///
/// # Errors
/// All that is wrong, not just the first.
pub async fn start(
    config: Config,
    path: PathBuf,
    engine: Engine,
    clock: Clock,
    failing: Failing,
    broker: Arc<dyn Broker>,
    observer: Arc<dyn Observer>,
) -> Result<Started, StartError> {
    let store = Arc::new(Store::open(&config.deploy.folder)?);
    engine.keep_from(Arc::clone(&store) as Arc<dyn Components>);
    let tools = DeployTools { engine, clock, store: Arc::clone(&store), files: Arc::new(Files::default()) };
    let trial_news = Arc::new(Notify::new());
    let mut opening = Opening::default();
    grants::configure(&tools.engine, &config).await;
    let (compiled, to_compile) = by_need(&tools, &config).await;
    let firsts = stream::iter(compiled).map(|terms| first(&tools, &config, terms, failing));
    let mut firsts = firsts.buffer_unordered(deploys_at_once().get());
    while let Some(first) = firsts.next().await {
        opening.add(&tools, &config, first, &trial_news);
    }
    drop(firsts);
    let deadline = Instant::now() + COMPILING_MAX;
    let firsts = stream::iter(to_compile).map(|terms| first_by(&tools, &config, terms, failing, deadline));
    let mut firsts = firsts.buffer_unordered(deploys_at_once().get());
    while let Some(first) = firsts.next().await {
        opening.add(&tools, &config, first, &trial_news);
    }
    drop(firsts);
    if failing == Failing::Refused && !opening.errors.is_empty() {
        return Err(StartError::Plugins(opening.errors));
    }
    let mut kept_files = KeptFiles::read(&store);
    if kept_files.follow(&config, tools.clock.now()) {
        kept_files.write(&store)?;
    }
    opening.add_broken(&tools, &config, &kept_files);
    let Opening { slots, failed, records, events, .. } = opening;
    // Plugins of which no file is left are forgotten, but a file that is wrong may be anybody's.
    let has_nameless = config.broken.iter().any(|broken| broken.plugin.is_none());
    store.update(|histories| {
        histories.retain(|key, _| has_nameless || failed.contains_key(key));
        histories.extend(records);
    })?;
    store.prune()?;
    let mut ring = Events::kept(store.read(super::EVENTS).unwrap_or_default(), observer);
    ring.add(&events);
    store.write(super::EVENTS, &ring.all())?;
    let folder = store.folder();
    let mut state = State {
        config: Arc::new(config.clone()),
        slots,
        failed,
        removed: BTreeMap::new(),
        concurrency_limits: ConcurrencyLimits::default(),
        events: ring,
    };
    let (swap, catalog) = watch::channel(state.catalog());
    let shared = Arc::new(Shared::new(state, store));
    let pinned = Arc::new(Pinned::default());
    let (handle, asks) = Handle::new(Arc::clone(&shared), Arc::clone(&pinned));
    let (watched, to_watch) = watch::channel(Watched::of(&path, &config));
    let work = Work::new();
    let fleet = Fleet::new(broker, tools.clock.daemon_id());
    let deployer = Deployer {
        tools,
        path,
        started: config,
        shared,
        pinned,
        swap,
        asks,
        fleet,
        trial_news,
        trials: Trials::default(),
        kept_files,
        watched,
        work,
    };
    Ok(Started { deployer, handle, catalog, watched: to_watch, folder })
}

/// Code that was loaded of one plugin at the start.
struct First<'c> {
    terms: &'c config::Plugin,
    record: Option<Record>,
    /// Result of loading it. `None` if it is left to the deployer.
    loaded: Option<Result<FirstCode, Error>>,
}

struct FirstCode {
    stable: Code,
    tried: Option<Code>,
    /// Reason why the code isn't what the plugin's TOML has. `None` if it is.
    failed: Option<Error>,
    origin: Origin,
}

/// Separates the plugins of which something may have to be compiled from the others, which are first in what is returned. Of
/// the former each tenant has its first one before any has its second.
async fn by_need<'c>(
    tools: &DeployTools,
    config: &'c Config,
) -> (Vec<&'c config::Plugin>, Vec<&'c config::Plugin>) {
    let looks = config.plugins.iter().map(|terms| {
        let (digest, engine) = (tools.digest(config, terms), tools.engine.clone());
        let was = tools.store.record(&key(terms)).map(|record| record.serving());
        async move {
            // One that can't be read isn't compiled either; the reason is told when it is loaded.
            let revisions = [digest.await, was];
            let are_compiled =
                move || revisions.into_iter().flatten().all(|revision| engine.has_compiled(revision));
            (terms, off_thread(are_compiled).await)
        }
    });
    let looked: Vec<_> = stream::iter(looks.collect::<Vec<_>>()).buffered(grants::LOOKS).collect().await;
    let (mut compiled, mut to_compile) = (Vec::new(), Vec::new());
    let mut of_tenant: BTreeMap<&TenantId, usize> = BTreeMap::new();
    for (terms, is_compiled) in looked {
        if is_compiled {
            compiled.push(terms);
        } else {
            let before = of_tenant.entry(&terms.tenant).or_default();
            to_compile.push((*before, terms));
            *before += 1;
        }
    }
    to_compile.sort_by_key(|(before, _)| *before);
    (compiled, to_compile.into_iter().map(|(_, terms)| terms).collect())
}

/// Loads a plugin as [`first`] does, until the deadline unless every plugin has to be loaded. If that has passed, the plugin is
/// taken as it was, if that is kept and compiled, and the rest is left to the deployer.
async fn first_by<'c>(
    tools: &DeployTools,
    config: &Config,
    terms: &'c config::Plugin,
    failing: Failing,
    deadline: Instant,
) -> First<'c> {
    let whole = first(tools, config, terms, failing);
    if failing == Failing::Refused {
        return whole.await;
    }
    if let Ok(first) = timeout_at(deadline, whole).await {
        return first;
    }
    let (tenant, plugin) = key(terms);
    tracing::info!(%tenant, %plugin, "still being compiled; the start doesn't wait for it");
    let record = tools.store.record(&key(terms));
    let mut loaded = None;
    if let Some(was) = record.as_ref().map(Record::serving) {
        let engine = tools.engine.clone();
        if off_thread(move || engine.has_compiled(was)).await {
            loaded = tools.fetch(config, terms, Origin::Kept(was)).await.ok().map(|code| Ok(plain(code)));
        }
    }
    First { terms, record, loaded }
}

async fn first<'c>(
    tools: &DeployTools,
    config: &Config,
    terms: &'c config::Plugin,
    failing: Failing,
) -> First<'c> {
    let record = tools.store.record(&key(terms));
    // A smoke run may take long, and must not delay the others.
    let smoke_run_waits = terms.smoke.is_some() && failing == Failing::LeftOut;
    let loaded = match &record {
        None if smoke_run_waits => None,
        None => Some(tools.prepare(config, terms, Origin::File, Abort::new()).await.map(plain)),
        Some(record) => again(tools, config, terms, record, smoke_run_waits).await.transpose(),
    };
    First { terms, record, loaded }
}

fn plain(stable: Code) -> FirstCode {
    FirstCode { stable, tried: None, failed: None, origin: Origin::File }
}

/// Loads a plugin that was in force before. One that has to go through a smoke run that waits is taken as it was; `None` if
/// that isn't kept.
async fn again(
    tools: &DeployTools,
    config: &Config,
    terms: &config::Plugin,
    record: &Record,
    smoke_run_waits: bool,
) -> Result<Option<FirstCode>, Error> {
    let serving = Origin::Kept(record.serving());
    if record.is_held() {
        let (file, pin) = (tools.digest(config, terms).await, terms.sha256);
        if record.origin(Wanted { file, pin }) == serving {
            let stable = tools.fetch(config, terms, serving).await?;
            return Ok(Some(FirstCode { origin: serving, ..plain(stable) }));
        }
    }
    let mut fetched = tools.fetch(config, terms, Origin::File).await;
    if let Ok(code) = &fetched
        && code.revision != record.serving()
    {
        if smoke_run_waits {
            return Ok(tools.fetch(config, terms, serving).await.ok().map(plain));
        }
        let passed = smoke(&tools.engine, &tools.clock, config, terms, code, Abort::new()).await;
        fetched = passed.and(fetched);
    }
    let code = match fetched {
        Ok(code) => code,
        Err(error) => {
            return match tools.fetch(config, terms, serving).await {
                Ok(stable) => Ok(Some(FirstCode { failed: Some(error), ..plain(stable) })),
                // The operator has to know what is wrong with the component.
                Err(_) => Err(error),
            };
        }
    };
    if let Entrance::Canary(_) = entrance(terms, Some(record.serving()), Origin::File, code.revision)
        && let Ok(stable) = tools.fetch(config, terms, serving).await
    {
        return Ok(Some(FirstCode { tried: Some(code), ..plain(stable) }));
    }
    Ok(Some(plain(code)))
}

/// State that a daemon starts with, collected plugin by plugin.
#[derive(Default)]
struct Opening {
    slots: BTreeMap<Key, Slot<Arc<Plugin>>>,
    failed: BTreeMap<Key, String>,
    records: BTreeMap<Key, Record>,
    events: Vec<DeployEvent>,
    errors: Vec<Error>,
}

impl Opening {
    fn failed(&mut self, tools: &DeployTools, key: &Key, why: String) {
        self.events.push(
            DeployEvent::of_plugin(tools.clock.now(), DeployEventKind::Failed, key).message(why.clone()),
        );
        self.failed.insert(key.clone(), why);
    }

    /// Adds the plugin files that are wrong, each with the reason.
    fn add_broken(&mut self, tools: &DeployTools, config: &Config, kept_files: &KeptFiles) {
        for broken in &config.broken {
            match &broken.plugin {
                Some(key) => {
                    let why = kept_files.why(broken, self.slots.contains_key(key));
                    self.failed(tools, key, why);
                }
                None => {
                    let event = DeployEvent::new(tools.clock.now(), DeployEventKind::Failed);
                    self.events.push(event.message(broken.problems.listed()));
                }
            }
        }
    }

    fn add(&mut self, tools: &DeployTools, config: &Config, first: First<'_>, trial_news: &Arc<Notify>) {
        let First { terms, record, loaded } = first;
        let (key, now, keep) = (key(terms), tools.clock.now(), config.deploy.keep.get());
        let FirstCode { stable, tried, failed, origin } = match loaded {
            Some(Ok(code)) => code,
            Some(Err(error)) => {
                self.failed(tools, &key, error.to_string());
                return self.errors.push(error);
            }
            None => return self.records.extend(record.map(|record| (key, record))),
        };
        let (tenant, name) = &key;
        let (revision, source) = (stable.revision, stable.plugin.source());
        tracing::info!(%tenant, plugin = %name, revision = %revision.short(), ?source, "loaded");
        let was = record.as_ref().map(Record::serving).filter(|was| *was != revision);
        let mut record = record.unwrap_or_else(|| Record::first(revision, now));
        if let Some(error) = failed {
            let event = DeployEvent::of_plugin(now, DeployEventKind::Failed, &key).revision(revision);
            self.events.push(event.message(format!("{error}; starting with the revision that is kept")));
            self.failed.insert(key.clone(), error.to_string());
        } else if origin == Origin::File && tried.is_none() {
            if was.is_some() {
                self.events.push(
                    DeployEvent::of_plugin(now, DeployEventKind::Deployed, &key).revision(revision).was(was),
                );
            }
            record.deployed(revision, now, keep);
        }
        let signers = config.signers(terms);
        let deployed = |code| Deployed { terms: terms.clone(), signers: signers.to_vec(), code };
        let trial = tried.zip(terms.canary).map(|(code, policy)| {
            record.keep(code.revision, keep);
            let event =
                DeployEvent::of_plugin(now, DeployEventKind::CanaryStarted, &key).revision(code.revision);
            let event = event.was(Some(revision));
            self.events.push(event.message(format!("it gets {} of the jobs", policy.share)));
            let trial = Arc::new(CanaryTrial::new(policy, code.revision, Arc::clone(trial_news)));
            (deployed(code), trial)
        });
        self.records.insert(key.clone(), record);
        self.slots.insert(key, Slot { stable: deployed(stable), trial });
    }
}
