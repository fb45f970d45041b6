//! Deployer: the one task that changes what is in force. What takes time is done beside it, in a task for each plugin.
//!
//! ```text
//!  files changed ─┐                          ┌─ the daemon's file is wrong: rejected, nothing changes
//!  SIGHUP         ├─> read, hash ─> config ──┤
//!  sandhog reload ┘                          └─ each changed plugin, a few at once: read, hash, pin, compile, smoke
//!                                                 │ failed: what was in force stays
//!  sandhog plugin rollback ──> kept copy ─────────┤
//!  a trial is decided ────────────────────────────┴─> one swap of the catalog ─> history, events
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use futures::{future, stream};
use sandhog_api::Reloaded;
use sandhog_api::{DeployEvent, DeployEventKind};
use sandhog_config::{self as config, Config, Problems};
use sandhog_core::id::{Kind, Revision, TenantId};
use sandhog_core::time::Timestamp;
use sandhog_core::trial::{Decision, Pair};
use sandhog_engine::{Abort, Engine, Plugin};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::CanaryTrial;
use super::archive::Pinned;
use super::catalog_update::CatalogUpdate;
use super::diff::{gives_up, is_in_force, settings_differ, within_reach};
use super::engine_settings::deploys_at_once;
use super::error::Error;
use super::files::Files;
use super::fleet::{Decided, Fleet, Ongoing, REPORT_AGAIN, REPORT_EVERY};
use super::grants;
use super::handle::{Ask, Refusal, RollBack};
use super::history::{Origin, Record, Wanted};
use super::kept_files::KeptFiles;
use super::queue::Queue;
use super::slot::{Deployed, Key, Loaded, Slot, Slots, key};
use super::smoke::smoke;
use super::state::Shared;
use super::steps::{self, Demands};
use super::store::Store;
use super::watch::Watched;
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::off_thread::off_thread;

/// Loaded code of a plugin.
pub(super) type Code = Loaded<Arc<Plugin>>;

/// Tools with which plugins are loaded.
#[derive(Clone)]
pub(super) struct DeployTools {
    pub(super) engine: Engine,
    pub(super) clock: Clock,
    pub(super) store: Arc<Store>,
    pub(super) files: Arc<Files>,
}

/// Deployer task.
pub struct Deployer {
    pub(super) tools: DeployTools,
    /// Path of the daemon's file.
    pub(super) path: PathBuf,
    /// Configuration that the daemon was started with.
    pub(super) started: Config,
    pub(super) shared: Arc<Shared<Arc<Plugin>>>,
    /// Kept revisions for jobs that are pinned to one.
    pub(super) pinned: Arc<Pinned>,
    pub(super) swap: watch::Sender<Arc<Catalog<Arc<Plugin>>>>,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) fleet: Fleet,
    /// Notified when a trial has to be reported at once.
    pub(super) trial_news: Arc<Notify>,
    pub(super) trials: Trials,
    pub(super) kept_files: KeptFiles,
    pub(super) watched: watch::Sender<Watched>,
    pub(super) work: Work,
}

/// Reports and ends of trials, beside what is in force.
#[derive(Default)]
pub(super) struct Trials {
    /// Whether the trials are being reported.
    is_reporting: bool,
    /// Time of the latest report. `None` before the first.
    reported: Option<Instant>,
    /// Whether they have to be reported again at once.
    has_news: bool,
    /// Latest trial of each plugin that has ended: its pair, and the time at which it had begun, by the store's clock.
    ended: BTreeMap<Key, (Pair, Timestamp)>,
}

/// Sender of the answer to a request for an earlier revision.
type Reply = oneshot::Sender<Result<DeployEvent, Refusal>>;

/// Work that goes on beside the deployer, and the requests that wait for it.
pub(super) struct Work {
    tasks: JoinSet<Done>,
    deploys: Queue<Target>,
    /// Plugins of which an earlier revision is being loaded.
    returns: BTreeSet<Key>,
    /// Number of revisions that are being loaded for jobs that are pinned to them.
    fetches: usize,
    /// Requests for the read of the configuration that is under way. `None` if none is.
    reading: Option<Vec<oneshot::Sender<Reloaded>>>,
    /// Requests that came since, for another read. `None` if there are none.
    read_again: Option<Vec<oneshot::Sender<Reloaded>>>,
    reloads: Vec<Reload>,
}

impl Work {
    pub(super) fn new() -> Self {
        Self {
            tasks: JoinSet::new(),
            deploys: Queue::new(deploys_at_once().get()),
            returns: BTreeSet::new(),
            fetches: 0,
            reading: None,
            read_again: None,
            reloads: Vec::new(),
        }
    }
}

/// Maximum number of revisions that are loaded at once for jobs that are pinned to them. The others are asked for again by
/// their jobs.
const FETCHES_MAX: usize = 4;

/// Target of a deploy: what a plugin's TOML asks for.
#[derive(Debug, Clone, PartialEq)]
struct Target {
    terms: config::Plugin,
    origin: Origin,
    /// Digest of the component. `None` if it couldn't be read.
    file: Option<Revision>,
    demands: Demands,
}

/// Reload of which some plugins aren't settled yet.
struct Reload {
    /// Requests that wait for the outcome.
    replies: Vec<oneshot::Sender<Reloaded>>,
    left: BTreeSet<Key>,
    changes: Vec<DeployEvent>,
    needs_restart: Vec<String>,
}

/// Return to an earlier revision, which is to be in force again.
struct Return {
    key: Key,
    terms: config::Plugin,
    to: Revision,
    why: ReturnFor,
}

/// Reason for a return.
enum ReturnFor {
    /// The operator's command.
    Command(Reply),
    /// The end of a trial.
    Trial { tried: Revision, why: String, reply: Option<Reply> },
}

/// Load of a kept revision for jobs that are pinned to it.
struct Fetch {
    key: Key,
    revision: Revision,
    terms: config::Plugin,
}

/// Result of work that went on beside the deployer.
enum Done {
    Read(Result<Box<Reading>, Problems>),
    Deployed(Key, Result<Code, Error>),
    /// An earlier revision, with the digest of the plugin's component.
    Returned(Box<Return>, Result<(Code, Option<Revision>), Error>),
    Fetched(Box<Fetch>, Result<Code, Error>),
    /// Trials that were found to be over when all were reported.
    Reported(Vec<Decided>),
}

/// Result of a read of the configuration.
struct Reading {
    config: Config,
    /// Digests of components.
    files: BTreeMap<Key, Revision>,
    /// Plugins some of whose granted directories are elsewhere by now.
    moved: BTreeSet<Key>,
}

impl DeployTools {
    /// Returns the digest of a plugin's component, as it is then. `None` if it can't be read.
    pub(super) fn digest(
        &self,
        config: &Config,
        terms: &config::Plugin,
    ) -> impl Future<Output = Option<Revision>> + use<> {
        let (files, component) = (Arc::clone(&self.files), terms.component.clone());
        let max = config.compile_budget(terms).component;
        // The reason why it can't be read is reported when the component is loaded.
        async move { off_thread(move || files.digest(&component, max)).await.ok() }
    }

    /// Goes through all steps up to the one that puts a plugin into force. `abort` ends the smoke run.
    pub(super) async fn prepare(
        &self,
        config: &Config,
        terms: &config::Plugin,
        origin: Origin,
        abort: Abort,
    ) -> Result<Code, Error> {
        let code = self.fetch(config, terms, origin).await?;
        if origin == Origin::File {
            smoke(&self.engine, &self.clock, config, terms, &code, abort).await?;
        }
        Ok(code)
    }

    /// Loads a plugin, off the threads that must not block.
    pub(super) async fn fetch(
        &self,
        config: &Config,
        terms: &config::Plugin,
        origin: Origin,
    ) -> Result<Code, Error> {
        let (tools, terms, demands) = (self.clone(), terms.clone(), Demands::of(config, terms));
        off_thread(move || steps::fetch(&tools.engine, &tools.store, &terms, origin, &demands)).await
    }

    /// Reads the configuration, over that of `before`, and looks at all files that it names.
    async fn read(
        self,
        path: PathBuf,
        before: Arc<Config>,
        slots: Slots<Arc<Plugin>>,
    ) -> Result<Reading, Problems> {
        let config = off_thread(move || config::load_again(&path, &before)).await?;
        self.files.retain(&config.plugins.iter().map(|terms| terms.component.as_path()).collect());
        let digests = config.plugins.iter().map(|terms| {
            let (key, digest) = (key(terms), self.digest(&config, terms));
            async move { Some((key, digest.await?)) }
        });
        let digests = stream::iter(digests.collect::<Vec<_>>());
        let files = digests.buffer_unordered(grants::LOOKS).filter_map(future::ready).collect().await;
        grants::configure(&self.engine, &config).await;
        let plugins = slots.into_iter().map(|(key, slot)| (key, Arc::clone(&slot.latest().code.plugin)));
        let moved = grants::moved(plugins).await;
        Ok(Reading { config, files, moved })
    }
}

impl Deployer {
    /// Runs until the daemon ends.
    pub async fn run(mut self) {
        let mut asked = Vec::new();
        loop {
            let next_report = self.next_report();
            tokio::select! {
                biased;
                () = self.trial_news.notified(), if !self.trials.has_news => self.trials.has_news = true,
                () = until(next_report) => self.report_trials(),
                Some(done) = self.work.tasks.join_next() => self.finish(done).await,
                // All requests come through a handle; without any, none can come any more.
                count = self.asks.recv_many(&mut asked, usize::MAX) => match count {
                    0 => return,
                    _ => self.answer(std::mem::take(&mut asked)).await,
                },
            }
            self.begin();
        }
    }

    async fn answer(&mut self, asks: Vec<Ask>) {
        for ask in asks {
            match ask {
                Ask::Reload(reply) => self.work.read_again.get_or_insert_default().extend(reply),
                Ask::RollBack(ask, reply) => self.roll_back(&ask, reply).await,
                Ask::Fetch(key, revision) => self.fetch(key, revision),
            }
        }
    }

    /// Starts what can go on beside the deployer.
    fn begin(&mut self) {
        if self.work.reading.is_none()
            && let Some(replies) = self.work.read_again.take()
        {
            // What is written from now on may be read or not, and is asked for again.
            self.work.reading = Some(replies);
            let (tools, path, before) = (self.tools.clone(), self.path.clone(), self.config());
            let slots = self.shared.state().slots.clone();
            self.work
                .tasks
                .spawn(async move { Done::Read(tools.read(path, before, slots).await.map(Box::new)) });
        }
        let held_back = self.held_back();
        while let Some((key, target, abort)) = self.work.deploys.begin(&held_back) {
            let (tools, config) = (self.tools.clone(), self.config());
            self.work.tasks.spawn(async move {
                let prepared = tools.prepare(&config, &target.terms, target.origin, abort).await;
                Done::Deployed(key, prepared)
            });
        }
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.shared.state().config)
    }

    /// Returns the plugins whose kinds go to another one that isn't ready yet: until then, they handle them as before. A
    /// plugin that waits for another to give up a kind doesn't give up any itself, so they don't wait for each other.
    fn held_back(&self) -> BTreeSet<Key> {
        let state = self.shared.state();
        let mut giving: Vec<(&Key, BTreeSet<&Kind>)> = Vec::new();
        let mut taken: BTreeSet<(&TenantId, &Kind)> = BTreeSet::new();
        for (key, target) in self.work.deploys.wanted() {
            let given = state.slots.get(key).map(|slot| gives_up(slot, &target.terms)).unwrap_or_default();
            match given.is_empty() {
                true => taken.extend(target.terms.kinds.iter().map(|kind| (&key.0, kind))),
                false => giving.push((key, given)),
            }
        }
        let waits = |(key, given): &(&Key, BTreeSet<&Kind>)| {
            given.iter().any(|kind| taken.contains(&(&key.0, *kind)))
        };
        giving.iter().filter(|giving| waits(giving)).map(|(key, _)| (*key).clone()).collect()
    }

    /// Applies all results that have come by now; all of them come into force in one step.
    async fn finish(&mut self, first: Result<Done, JoinError>) {
        let (mut update, mut answers, mut reading) = (self.update(), Vec::new(), None);
        let mut decided = Vec::new();
        let mut next = Some(first);
        while let Some(done) = next {
            match done.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic())) {
                Done::Read(read) => reading = Some(read),
                Done::Deployed(key, prepared) => self.deployed(&mut update, key, prepared),
                Done::Returned(of, loaded) => answers.extend(self.returned(&mut update, *of, loaded)),
                Done::Fetched(of, loaded) => self.fetched(*of, loaded),
                Done::Reported(over) => {
                    self.trials.is_reporting = false;
                    self.trials.reported = Some(Instant::now());
                    decided = over;
                }
            }
            next = self.work.tasks.try_join_next();
        }
        self.publish(update).await;
        for (reply, answer) in answers {
            say(reply, answer);
        }
        self.end_trials(decided).await;
        let replies = reading.as_ref().and_then(|_| self.work.reading.take());
        match (reading, replies.unwrap_or_default()) {
            (Some(Ok(reading)), replies) => self.apply(*reading, replies).await,
            (Some(Err(problems)), replies) => self.reject(&problems, replies),
            (None, _) => {}
        }
    }

    fn reject(&self, problems: &Problems, replies: Vec<oneshot::Sender<Reloaded>>) {
        let problems = problems.to_string();
        let event =
            DeployEvent::new(self.tools.clock.now(), DeployEventKind::Rejected).message(problems.clone());
        self.remember(&[event]);
        for reply in replies {
            say(reply, Reloaded::rejected(problems.clone()));
        }
    }

    /// Puts into force what can be at once, and starts the deploys of the rest.
    async fn apply(&mut self, reading: Reading, replies: Vec<oneshot::Sender<Reloaded>>) {
        let Reading { config, files, moved } = reading;
        let watched = Watched::of(&self.path, &config);
        // The watcher has the files read once more when it is notified.
        self.watched.send_if_modified(|now| {
            let differs = *now != watched;
            *now = watched;
            differs
        });
        let (new, needs_restart) = within_reach(&self.started, config);
        for key in &needs_restart {
            tracing::warn!(key, "needs a restart of the daemon; the rest is in force");
        }
        let before = self.config();
        let mut update = self.update();
        update.config = Arc::new(new);
        let new = Arc::clone(&update.config);
        update.tenants(&before);
        if settings_differ(&before, &new) {
            update.events.push(
                DeployEvent::new(update.now, DeployEventKind::Changed).message("settings of the daemon"),
            );
        }
        let broken: BTreeSet<&Key> = new.broken.iter().filter_map(|broken| broken.plugin.as_ref()).collect();
        self.keep_files(&new).await;
        for broken in &new.broken {
            match &broken.plugin {
                Some(key) => {
                    let why = self.kept_files.why(broken, update.slots.contains_key(key));
                    update.fail(key.clone(), why);
                }
                None => {
                    let event = DeployEvent::new(update.now, DeployEventKind::Failed);
                    update.events.push(event.message(broken.problems.listed()));
                }
            }
        }
        let known: BTreeSet<Key> =
            new.plugins.iter().map(key).chain(broken.iter().copied().cloned()).collect();
        update.failed.retain(|key, _| known.contains(key));
        let mut left: BTreeSet<Key> =
            update.slots.keys().filter(|key| !known.contains(*key)).cloned().collect();
        left.iter().for_each(|gone| self.work.deploys.forget(gone));
        for terms in &new.plugins {
            let key = key(terms);
            if broken.contains(&key) {
                // The plugin stays as it is.
                self.work.deploys.forget(&key);
                continue;
            }
            let file = files.get(&key).copied();
            let wanted = Wanted { file, pin: terms.sha256 };
            let origin = update.record(&key).map_or(Origin::File, |record| record.origin(wanted));
            let slot = update.slots.get(&key).filter(|_| !moved.contains(&key));
            if slot.is_some_and(|slot| is_in_force(slot, terms, new.signers(terms), origin, file)) {
                self.work.deploys.forget(&key);
                update.failed.remove(&key);
                update.settled.insert(key);
            } else {
                let target = Target { terms: terms.clone(), origin, file, demands: Demands::of(&new, terms) };
                self.work.deploys.want(key.clone(), target);
                left.insert(key);
            }
        }
        // A reload that nobody waits for isn't kept: files may change as often as they like while a deploy goes on.
        if left.is_empty() || !replies.is_empty() {
            self.work.reloads.push(Reload { replies, left, changes: update.events.clone(), needs_restart });
        }
        self.publish(update).await;
    }

    /// Creates a draft of what is in force as it is.
    fn update(&self) -> CatalogUpdate {
        let state = self.shared.state();
        CatalogUpdate {
            config: Arc::clone(&state.config),
            slots: state.slots.clone(),
            failed: state.failed.clone(),
            records: BTreeMap::new(),
            removed: state.removed.clone(),
            events: Vec::new(),
            settled: BTreeSet::new(),
            now: self.tools.clock.now(),
            store: Arc::clone(&self.shared.store),
            trial_news: Arc::clone(&self.trial_news),
        }
    }

    fn deployed(&mut self, update: &mut CatalogUpdate, key: Key, prepared: Result<Code, Error>) {
        // A deploy that isn't wanted any more is followed by another one, or by none.
        let Some(Target { terms, origin, demands, .. }) = self.work.deploys.ended(&key) else { return };
        match prepared {
            Ok(code) => update.enter(key, Deployed { terms, signers: demands.signers, code }, origin),
            Err(error) => update.fail(key, error.to_string()),
        }
    }

    async fn roll_back(&mut self, ask: &RollBack, reply: Reply) {
        match self.find_return(ask) {
            Ok((key, Some((terms, to)))) => {
                self.begin_return(Return { key, terms, to, why: ReturnFor::Command(reply) });
            }
            Ok((key, None)) => self.end_trial(key, "by command".to_owned(), Some(reply)).await,
            Err(refusal) => say(reply, Err(refusal)),
        }
    }

    /// Finds the plugin that is to go back, and the revision and terms that it is to go back to; `None` for these if it is
    /// to end its trial.
    fn find_return(&self, ask: &RollBack) -> Result<(Key, Option<(config::Plugin, Revision)>), Refusal> {
        let key = ask.plugin.clone();
        let text = |why: &dyn std::fmt::Display| format!("plugin {}: {why}", named(&key));
        let refuse = |why: &dyn std::fmt::Display| Refusal::Conflict(text(why));
        let terms = self.config().plugins.iter().find(|terms| key == self::key(terms)).cloned();
        let terms = terms.ok_or_else(|| Refusal::Unknown(text(&"it isn't in the configuration any more")))?;
        if self.work.returns.contains(&key) {
            return Err(refuse(&"an earlier revision of it is being loaded already"));
        }
        let has_trial = self.shared.state().slots.get(&key).map(|slot| slot.trial.is_some());
        let has_trial = has_trial.ok_or_else(|| refuse(&"it is not in force"))?;
        if has_trial && ask.to.is_none() {
            return Ok((key, None));
        }
        let record = self.shared.store.record(&key).ok_or_else(|| refuse(&"it has no history"))?;
        let to = record.find(ask.to.as_deref()).map_err(|why| Refusal::Unknown(text(&why)))?;
        Ok((key, Some((terms, to))))
    }

    /// Starts loading an earlier revision. It waits for no deploy.
    fn begin_return(&mut self, of: Return) {
        self.work.returns.insert(of.key.clone());
        let (tools, config) = (self.tools.clone(), self.config());
        self.work.tasks.spawn(async move {
            let loaded = tools.fetch(&config, &of.terms, Origin::Kept(of.to)).await;
            let file = tools.digest(&config, &of.terms).await;
            Done::Returned(Box::new(of), loaded.map(|code| (code, file)))
        });
    }

    /// Puts an earlier revision into force that was loaded, and answers the request for it.
    fn returned(
        &mut self,
        update: &mut CatalogUpdate,
        of: Return,
        loaded: Result<(Code, Option<Revision>), Error>,
    ) -> Option<(Reply, Result<DeployEvent, Refusal>)> {
        let Return { key, terms, why, .. } = of;
        self.work.returns.remove(&key);
        let signers = update.config.signers(&terms).to_vec();
        let deployed = |code| Deployed { terms: terms.clone(), signers, code };
        match why {
            ReturnFor::Command(reply) => {
                let refuse =
                    |why: &dyn std::fmt::Display| Refusal::Conflict(format!("plugin {}: {why}", named(&key)));
                let is_same = update.config.plugins.contains(&terms);
                let went_back = match loaded {
                    Ok(_) if !is_same => Err(refuse(&"its TOML was changed meanwhile; ask again")),
                    Ok((code, file)) => {
                        let instead_of = Wanted { file, pin: terms.sha256 };
                        let why = "by command; its component is held back until it or its pin changes";
                        self.work.deploys.forget(&key);
                        update
                            .go_back(&key, deployed(code), instead_of, why)
                            .ok_or_else(|| refuse(&"it is not in force"))
                    }
                    Err(error) => Err(refuse(&error)),
                };
                Some((reply, went_back))
            }
            ReturnFor::Trial { tried, why, reply } => {
                let ended = update.trial_of(&key).filter(|(_, now)| now.code.revision == tried);
                let ended = ended.map(|(stable, tried)| {
                    let stable = match loaded {
                        Ok((code, _)) => deployed(code),
                        Err(error) => {
                            update.failed.insert(key.clone(), error.to_string());
                            stable
                        }
                    };
                    update.end_trial(&key, stable, &tried, &why)
                });
                let ended = ended.ok_or_else(|| nothing_on_trial(&key));
                reply.map(|reply| (reply, ended))
            }
        }
    }

    /// Returns the time of the next report of trials. `None` while there are none, or they are being reported.
    fn next_report(&self) -> Option<Instant> {
        if self.trials.is_reporting {
            return None;
        }
        let state = self.shared.state();
        let mut trials = self.ongoing(&state.slots).map(|(_, _, trial)| trial.ends()).peekable();
        trials.peek()?;
        let Some(reported) = self.trials.reported else { return Some(Instant::now()) };
        let wait = if self.trials.has_news { REPORT_AGAIN } else { REPORT_EVERY };
        // A trial whose time was over at the last report already couldn't be decided then.
        let ends = trials.flatten().filter(|ends| *ends > reported).min();
        ends.into_iter().chain([reported + wait]).min()
    }

    /// Lists the trials that go on. Those that are ending already have nothing to wait for.
    fn ongoing<'s>(
        &'s self,
        slots: &'s Slots<Arc<Plugin>>,
    ) -> impl Iterator<Item = (&'s Key, Pair, &'s Arc<CanaryTrial>)> {
        slots.iter().filter(|(key, _)| !self.work.returns.contains(*key)).filter_map(|(key, slot)| {
            let (tried, trial) = slot.trial.as_ref()?;
            let (old, new) = (slot.stable.code.revision, tried.code.revision);
            Some((key, Pair { plugin: key.1.clone(), old, new }, trial))
        })
    }

    /// Starts a report of the trials, beside the deployer.
    fn report_trials(&mut self) {
        let ongoing: Vec<Ongoing> = {
            let state = self.shared.state();
            let ongoing = self.ongoing(&state.slots).map(|(key, pair, trial)| {
                let ended = self.trials.ended.get(key).filter(|(known, _)| *known == pair);
                let ended = ended.map(|(_, began)| *began);
                Ongoing { key: key.clone(), pair, trial: Arc::clone(trial), ended }
            });
            ongoing.collect()
        };
        self.trials.has_news = false;
        self.trials.is_reporting = true;
        let fleet = self.fleet.clone();
        self.work.tasks.spawn(async move { Done::Reported(fleet.report_all(ongoing).await) });
    }

    /// Promotes or takes back the revisions whose trials are decided.
    async fn end_trials(&mut self, decided: Vec<Decided>) {
        if decided.is_empty() {
            return;
        }
        let (mut update, mut failed) = (self.update(), Vec::new());
        for Decided { of: Ongoing { key, pair, trial, .. }, decision, began } in decided {
            // The trial may have been ended meanwhile, by command or by another deploy.
            if !self.ongoing(&update.slots).any(|(_, _, now)| Arc::ptr_eq(now, &trial)) {
                continue;
            }
            if let Some(began) = began {
                self.trials.ended.retain(|known, _| update.slots.contains_key(known));
                self.trials.ended.insert(key.clone(), (pair, began));
            }
            match decision {
                Decision::Promote => update.promote(&key),
                Decision::RollBack { why } => failed.push((key, why)),
            }
        }
        self.publish(update).await;
        for (key, why) in failed {
            self.end_trial(key, why, None).await;
        }
    }

    /// Gives all jobs back to the revision in force, and holds back the one that was tried.
    async fn end_trial(&mut self, key: Key, why: String, reply: Option<Reply>) {
        let mut update = self.update();
        let ended = match update.trial_of(&key) {
            // Only the code is taken back. The TOML stays, if the old code can live with it.
            Some((stable, tried)) if stable.terms != tried.terms => {
                let (to, terms, tried) = (stable.code.revision, tried.terms, tried.code.revision);
                return self.begin_return(Return {
                    key,
                    terms,
                    to,
                    why: ReturnFor::Trial { tried, why, reply },
                });
            }
            Some((stable, tried)) => Ok(update.end_trial(&key, stable, &tried, &why)),
            None => Err(nothing_on_trial(&key)),
        };
        self.publish(update).await;
        if let Some(reply) = reply {
            say(reply, ended);
        }
    }

    /// Starts loading a kept revision for jobs that are pinned to it, under the terms in force.
    fn fetch(&mut self, key: Key, revision: Revision) {
        let terms = self.shared.state().slots.get(&key).map(|slot| slot.stable.terms.clone());
        // The plugin was removed meanwhile, and its jobs wait.
        let Some(terms) = terms else { return self.pinned.forget(|known| *known == key) };
        if self.work.fetches >= FETCHES_MAX {
            return self.pinned.later(key, revision);
        }
        self.work.fetches += 1;
        let (tools, config) = (self.tools.clone(), self.config());
        self.work.tasks.spawn(async move {
            let loaded = tools.fetch(&config, &terms, Origin::Kept(revision)).await;
            Done::Fetched(Box::new(Fetch { key, revision, terms }), loaded)
        });
    }

    fn fetched(&mut self, of: Fetch, loaded: Result<Code, Error>) {
        self.work.fetches -= 1;
        let Fetch { key, revision, terms } = of;
        if self.shared.state().slots.get(&key).is_none_or(|slot| slot.stable.terms != terms) {
            // The revision would run under terms that are no longer in force.
            return self.pinned.later(key, revision);
        }
        let (tenant, plugin) = (&key.0, &key.1);
        match loaded {
            Ok(code) => self.pinned.came(key, revision, code),
            Err(error) if error.is_lasting() => {
                tracing::warn!(%tenant, %plugin, %revision, %error, "a kept revision can't be loaded; jobs that are pinned to it are buried");
                self.pinned.gone(key, revision);
            }
            Err(error) => {
                tracing::warn!(%tenant, %plugin, %revision, %error, "a kept revision can't be loaded; jobs that are pinned to it wait, and it is tried again");
                self.pinned.failed(key, revision);
            }
        }
    }

    /// Takes plugins out of force whose files are gone, unless a plugin that isn't ready yet takes over a kind of theirs.
    fn remove_gone(&self, update: &mut CatalogUpdate) {
        let known: BTreeSet<Key> = update.config.plugins.iter().map(key).collect();
        let of_kinds = |(key, target): (&Key, &Target)| {
            target.terms.kinds.iter().map(|kind| (key.0.clone(), kind.clone())).collect::<Vec<_>>()
        };
        let awaited: BTreeSet<(TenantId, Kind)> = self.work.deploys.wanted().flat_map(of_kinds).collect();
        let is_awaited = |(tenant, _): &Key, slot: &Slot<_>| {
            slot.latest().terms.kinds.iter().any(|kind| awaited.contains(&(tenant.clone(), kind.clone())))
        };
        let gone = update.slots.iter().filter(|(key, slot)| !known.contains(*key) && !is_awaited(key, slot));
        let gone: Vec<Key> = gone.map(|(key, _)| key.clone()).collect();
        gone.into_iter().for_each(|key| update.remove(key));
    }

    /// Puts a draft into force in one swap, and answers the requests that wait for it.
    async fn publish(&mut self, mut update: CatalogUpdate) {
        self.remove_gone(&mut update);
        let CatalogUpdate { config, slots, failed, records, mut removed, events, settled, .. } = update;
        removed.retain(|key, _| !slots.contains_key(key));
        self.pinned.forget(|key| events.iter().any(|event| event.is_of(key)));
        let (catalog, news, keep) = {
            let mut state = self.shared.state();
            let keep = (config.deploy.keep != state.config.deploy.keep || !records.is_empty())
                .then_some(config.deploy.keep.get());
            // A failure for the same reason as before is no news.
            let before: BTreeSet<String> = state.failures().collect();
            let is_old = |event: &DeployEvent| {
                event.what == DeployEventKind::Failed
                    && event.message.as_ref().is_some_and(|why| before.contains(why))
            };
            let news: Vec<DeployEvent> = events.iter().filter(|event| !is_old(event)).cloned().collect();
            let is_changed = !events.is_empty() || !Arc::ptr_eq(&config, &state.config);
            let concurrency_limits = &state.concurrency_limits;
            removed.retain(|(tenant, name), _| concurrency_limits.running(tenant, name) > 0);
            state.config = config;
            state.slots = slots;
            state.failed = failed;
            state.removed = removed;
            (is_changed.then(|| state.catalog()), news, keep)
        };
        if let Some(catalog) = catalog {
            self.swap.send_replace(catalog);
        }
        if keep.is_some() || !events.is_empty() {
            self.write_down(records, keep).await;
        }
        self.remember(&news);
        self.settle(&settled, &events);
    }

    /// Stores the texts of plugin files that are right, for a start beside some that aren't.
    async fn keep_files(&mut self, config: &Config) {
        if !self.kept_files.follow(config, self.tools.clock.now()) {
            return;
        }
        let (kept, store) = (self.kept_files.clone(), Arc::clone(&self.shared.store));
        if let Err(error) = off_thread(move || kept.write(&store)).await {
            tracing::error!(%error, "if a plugin's file is wrong at the next start, the plugin won't be served");
        }
    }

    /// Stores the histories of plugins that have changed, with at most `keep` revisions of each.
    async fn write_down(&self, records: BTreeMap<Key, Record>, keep: Option<usize>) {
        let store = Arc::clone(&self.shared.store);
        // While a deploy goes on, a copy may be there that no record knows of yet.
        let is_quiet = self.work.tasks.len() == usize::from(self.trials.is_reporting);
        let written = off_thread(move || {
            if let Some(keep) = keep {
                store.update(|histories| {
                    histories.extend(records);
                    histories.values_mut().for_each(|record| record.trim(keep));
                })?;
            }
            if is_quiet { store.prune() } else { Ok(()) }
        });
        if let Err(error) = written.await {
            tracing::error!(%error, "what was deployed is in force, but will be forgotten");
        }
    }

    /// Records for the reloads under way that these plugins are as they are to be, or can't be; answers the reloads that are
    /// complete then.
    fn settle(&mut self, settled: &BTreeSet<Key>, events: &[DeployEvent]) {
        for reload in &mut self.work.reloads {
            let of_reload = settled.iter().filter(|key| reload.left.remove(*key));
            let changes = of_reload.flat_map(|key| events.iter().filter(move |event| event.is_of(key)));
            let changes: Vec<DeployEvent> = changes.cloned().collect();
            reload.changes.extend(changes);
        }
        for reload in self.work.reloads.extract_if(.., |reload| reload.left.is_empty()) {
            let Reload { replies, changes, needs_restart, .. } = reload;
            let outcome = if changes.is_empty() && needs_restart.is_empty() {
                tracing::info!("reload: nothing has changed");
                Reloaded::unchanged()
            } else {
                Reloaded::applied(changes, needs_restart)
            };
            for reply in replies {
                say(reply, outcome.clone());
            }
        }
    }

    fn remember(&self, events: &[DeployEvent]) {
        if events.is_empty() {
            return;
        }
        let all = {
            let mut state = self.shared.state();
            state.events.add(events);
            state.events.all()
        };
        if let Err(error) = self.shared.store.write(super::EVENTS, &all) {
            tracing::error!(%error, "the events of deploys can't be kept");
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn nothing_on_trial(key: &Key) -> Refusal {
    Refusal::Conflict(format!("plugin {} has nothing on trial", named(key)))
}

fn named((tenant, name): &Key) -> String {
    format!("{tenant}/{name}")
}

/// Sends an answer. The one who asked may be gone meanwhile.
fn say<T>(reply: oneshot::Sender<T>, answer: T) {
    let _ = reply.send(answer);
}
