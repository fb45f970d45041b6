//! The deployer: the one task that changes what is in force, one change after the other.
//!
//! ```text
//!  files changed ─┐                        ┌─ rejected: nothing changes
//!  SIGHUP         ├─> reload ─> config ────┤
//!  sandhog reload ┘                        └─ each changed plugin: read, hash, pin, compile, smoke
//!                                                │ failed: what was in force stays
//!  sandhog plugin rollback ──> kept copy ────────┤
//!  a trial is decided ───────────────────────────┴─> one swap of the catalog ─> history, events
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use sandhog_core::canary::Verdict;
use sandhog_core::id::Revision;
use sandhog_core::time::Timestamp;
use sandhog_engine::{Engine, Plugin};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::Trial;
use super::archive::Pinned;
use super::diff::{self, Entrance, TenantChange, entrance, is_in_force, within_reach};
use super::error::Error;
use super::events::{Event, What};
use super::files::Files;
use super::handle::{Ask, Refusal, RollBack};
use super::history::{Origin, Record, Wanted};
use super::outcome::ReloadOutcome;
use super::slot::{Deployed, Key, Loaded, Slot, Slots, key};
use super::smoke::smoke;
use super::state::Shared;
use super::steps::{self, Demands};
use super::store::Store;
use super::watch::Watched;
use crate::ambient::Ambient;
use crate::catalog::Catalog;
use crate::config::{self, Config, Problems};
use crate::off_thread::off_thread;

/// The code of a plugin, loaded.
pub(super) type Code = Loaded<Arc<Plugin>>;

/// What loading takes.
#[derive(Clone)]
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) ambient: Ambient,
    pub(super) store: Arc<Store>,
    pub(super) files: Arc<Files>,
}

/// The task.
pub struct Deployer {
    pub(super) bench: Bench,
    /// The daemon's file.
    pub(super) path: PathBuf,
    /// The configuration at the start.
    pub(super) started: Config,
    pub(super) shared: Arc<Shared<Arc<Plugin>>>,
    /// Kept revisions for jobs that are pinned to one.
    pub(super) pinned: Arc<Pinned>,
    pub(super) swap: watch::Sender<Arc<Catalog<Arc<Plugin>>>>,
    pub(super) asks: mpsc::Receiver<Ask>,
    /// Hears when a trial is decided.
    pub(super) decided: Arc<Notify>,
    pub(super) watched: watch::Sender<Watched>,
}

/// Whether what was checked before still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    AsBefore,
    Anew,
}

/// What is to be in force, and what it took.
struct Draft {
    slots: Slots<Arc<Plugin>>,
    failed: BTreeMap<Key, String>,
    records: BTreeMap<Key, Record>,
    removed: BTreeMap<Key, Revision>,
    events: Vec<Event>,
    now: Timestamp,
    keep: usize,
}

impl Bench {
    /// The digest of a plugin's component, as it is now. Blocks.
    pub(super) fn digest(&self, config: &Config, terms: &config::Plugin) -> Option<Revision> {
        // Why it can't be read is said when it is.
        self.files.digest(&terms.component, config.compile_budget(terms).component).ok()
    }

    /// All steps up to the one that puts a plugin into force.
    pub(super) async fn prepare(
        &self,
        config: &Config,
        terms: &config::Plugin,
        origin: Origin,
    ) -> Result<Code, Error> {
        let code = self.fetch(config, terms, origin).await?;
        if origin == Origin::File {
            smoke(&self.engine, &self.ambient, config, terms, &code).await?;
        }
        Ok(code)
    }

    /// Loads a plugin, off the threads that mustn't wait.
    pub(super) async fn fetch(
        &self,
        config: &Config,
        terms: &config::Plugin,
        origin: Origin,
    ) -> Result<Code, Error> {
        let (bench, terms, demands) = (self.clone(), terms.clone(), Demands::of(config, terms));
        off_thread(move || steps::fetch(&bench.engine, &bench.store, &terms, origin, &demands)).await
    }
}

impl Deployer {
    /// Works until the daemon ends.
    pub async fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                // Whoever asks holds a handle; without any, there is nobody left to ask.
                count = self.asks.recv_many(&mut batch, usize::MAX) => match count {
                    0 => return,
                    _ => self.answer(std::mem::take(&mut batch)).await,
                },
                () = self.decided.notified() => self.decide_trials().await,
            }
        }
    }

    /// One reload answers all that asked for one.
    async fn answer(&mut self, asks: Vec<Ask>) {
        let (mut reloads, mut rollbacks, mut fetches) = (Vec::new(), Vec::new(), Vec::new());
        for ask in asks {
            match ask {
                Ask::Reload(reply) => reloads.push(reply),
                Ask::RollBack(ask, reply) => rollbacks.push((ask, reply)),
                Ask::Fetch(key, revision) => fetches.push((key, revision)),
            }
        }
        if !reloads.is_empty() {
            let outcome = self.reload().await;
            for reply in reloads.into_iter().flatten() {
                say(reply, outcome.clone());
            }
        }
        for (ask, reply) in rollbacks {
            let done = self.roll_back(&ask).await;
            say(reply, done);
        }
        for (key, revision) in fetches {
            self.fetch(key, revision).await;
        }
    }

    /// Loads a kept revision for jobs that are pinned to it, under the terms in force.
    async fn fetch(&self, key: Key, revision: Revision) {
        let config = self.shared.state().config.clone();
        let terms = self.shared.state().slots.get(&key).map(|slot| slot.stable.terms.clone());
        let loaded = match terms {
            Some(terms) => self.bench.fetch(&config, &terms, Origin::Kept(revision)).await,
            // It was removed meanwhile; its jobs wait.
            None => return self.pinned.forget(|known| *known == key),
        };
        let (tenant, plugin) = (&key.0, &key.1);
        let loaded = loaded.inspect_err(|error| {
            tracing::warn!(%tenant, %plugin, %revision, %error, "a kept revision can't be loaded; jobs that are pinned to it are buried");
        });
        self.pinned.came(key, revision, loaded.ok());
    }

    async fn reload(&mut self) -> ReloadOutcome {
        let path = self.path.clone();
        match off_thread(move || config::load_to_run(&path)).await {
            Ok(new) => self.apply(new).await,
            Err(problems) => self.reject(&problems),
        }
    }

    fn reject(&self, problems: &Problems) -> ReloadOutcome {
        let problems = problems.to_string();
        let event = Event::new(self.bench.ambient.now(), What::Rejected).message(problems.clone());
        self.remember(&[event]);
        ReloadOutcome::Rejected { problems }
    }

    async fn apply(&mut self, new: Config) -> ReloadOutcome {
        let watched = Watched::of(&self.path, &new);
        // Whoever is told has the files read once more.
        self.watched.send_if_modified(|now| {
            let differs = *now != watched;
            *now = watched;
            differs
        });
        let (new, needs_restart) = within_reach(&self.started, new);
        let mut draft = self.draft(new.deploy.keep.get());
        let before = self.shared.state().config.clone();
        draft.tenants(&before, &new);
        draft.remove_all_but(&new);
        let digests = self.digests(&new).await;
        for (terms, file) in new.plugins.iter().zip(digests) {
            // What may have been good enough for the signers of before isn't for others.
            let trust =
                if before.signers(terms) == new.signers(terms) { Trust::AsBefore } else { Trust::Anew };
            self.deploy(&mut draft, &new, terms, file, trust).await;
        }
        if draft.events.is_empty() && before != new {
            let of_daemon = Event::new(draft.now, What::Changed).message("settings of the daemon");
            draft.events.push(of_daemon);
        }
        for key in &needs_restart {
            tracing::warn!(key, "needs a restart of the daemon; the rest is in force");
        }
        let changes = self.publish(new, draft).await;
        if changes.is_empty() && needs_restart.is_empty() {
            tracing::info!("reload: nothing has changed");
            return ReloadOutcome::Unchanged;
        }
        ReloadOutcome::Applied { changes, needs_restart }
    }

    async fn digests(&self, config: &Config) -> Vec<Option<Revision>> {
        let (bench, config) = (self.bench.clone(), config.clone());
        off_thread(move || {
            bench.files.retain(&config.plugins.iter().map(|terms| terms.component.as_path()).collect());
            config.plugins.iter().map(|terms| bench.digest(&config, terms)).collect()
        })
        .await
    }

    fn draft(&self, keep: usize) -> Draft {
        let state = self.shared.state();
        Draft {
            slots: state.slots.clone(),
            failed: BTreeMap::new(),
            records: BTreeMap::new(),
            removed: state.removed.clone(),
            events: Vec::new(),
            now: self.bench.ambient.now(),
            keep,
        }
    }

    /// Puts one plugin into force as its TOML has it, if it isn't.
    async fn deploy(
        &self,
        draft: &mut Draft,
        config: &Config,
        terms: &config::Plugin,
        file: Option<Revision>,
        trust: Trust,
    ) {
        let key = key(terms);
        let record = self.shared.store.record(&key);
        let wanted = Wanted { file, pin: terms.sha256 };
        let origin = record.as_ref().map_or(Origin::File, |record| record.origin(wanted));
        let in_force = draft.slots.get(&key).is_some_and(|slot| is_in_force(slot, terms, origin, file));
        if in_force && trust == Trust::AsBefore {
            return;
        }
        let prepared = self.bench.prepare(config, terms, origin).await;
        // Compiling may have taken long.
        draft.now = self.bench.ambient.now();
        match prepared {
            Ok(code) => {
                draft.enter(key, Deployed { terms: terms.clone(), code }, origin, record, &self.decided);
            }
            Err(error) => {
                let event = Event::of_plugin(draft.now, What::Failed, &key).message(error.to_string());
                draft.events.push(event);
                draft.failed.insert(key, error.to_string());
            }
        }
    }

    async fn roll_back(&mut self, ask: &RollBack) -> Result<Event, Refusal> {
        let (key, terms, config) = self.find(&ask.plugin)?;
        let slot = self.shared.state().slots.get(&key).cloned();
        let slot = slot.ok_or_else(|| Refusal(format!("plugin {} is not in force", named(&key))))?;
        if slot.trial.is_some() && ask.to.is_none() {
            return self.end_trial(&key, "by command".to_owned()).await;
        }
        let record = self.shared.store.record(&key);
        let mut record = record.ok_or_else(|| Refusal(format!("plugin {} has no history", named(&key))))?;
        let refuse = |why: &dyn std::fmt::Display| Refusal(format!("plugin {}: {why}", named(&key)));
        let to = record.find(ask.to.as_deref()).map_err(|why| refuse(&why))?;
        let prepared = self.bench.prepare(&config, &terms, Origin::Kept(to)).await;
        let code = prepared.map_err(|why| refuse(&why))?;
        let (bench, of_file, of_config) = (self.bench.clone(), terms.clone(), config.clone());
        let file = off_thread(move || bench.digest(&of_config, &of_file)).await;
        let mut draft = self.draft_of_now();
        record.went_back(to, Wanted { file, pin: terms.sha256 }, draft.now);
        draft.failed.remove(&key);
        draft.replace(&key, Slot { stable: Deployed { terms, code }, trial: None });
        let was = slot.stable.code.revision;
        let event = Event::of_plugin(draft.now, What::RolledBack, &key).revision(to).was(Some(was));
        let event = event.message("by command; its component is held back until it or its pin changes");
        draft.events.push(event.clone());
        draft.records.insert(key, record);
        self.publish(config, draft).await;
        Ok(event)
    }

    /// A draft of what is in force as it is.
    fn draft_of_now(&self) -> Draft {
        let keep = self.shared.state().config.deploy.keep.get();
        let mut draft = self.draft(keep);
        draft.failed.clone_from(&self.shared.state().failed);
        draft
    }

    /// The plugin that is meant, its terms, and the configuration in force.
    fn find(&self, wanted: &str) -> Result<(Key, config::Plugin, Config), Refusal> {
        let state = self.shared.state();
        let (tenant, name) = match wanted.split_once('/') {
            Some((tenant, name)) => (Some(tenant), name),
            None => (None, wanted),
        };
        let is_meant =
            |(of, plugin): &Key| plugin.as_str() == name && tenant.is_none_or(|tenant| tenant == of.as_str());
        let mut found = state.config.plugins.iter().filter(|terms| is_meant(&key(terms)));
        match (found.next(), found.next()) {
            (None, _) => Err(Refusal(format!("there is no plugin {wanted}; `sandhog plugins` lists them"))),
            (Some(_), Some(_)) => {
                Err(Refusal(format!("several tenants have a plugin {wanted}; name one: TENANT/{wanted}")))
            }
            (Some(terms), None) => Ok((key(terms), terms.clone(), state.config.clone())),
        }
    }

    /// Promotes or takes back what has been tried long enough.
    async fn decide_trials(&mut self) {
        let decided: Vec<(Key, Verdict)> = {
            let state = self.shared.state();
            let verdicts = state.slots.iter().filter_map(|(key, slot)| {
                let (_, trial) = slot.trial.as_ref()?;
                Some((key.clone(), trial.verdict()))
            });
            verdicts.filter(|(_, verdict)| *verdict != Verdict::Undecided).collect()
        };
        for (key, verdict) in decided {
            match verdict {
                Verdict::Undecided => {}
                Verdict::Promote => self.promote(&key).await,
                Verdict::RollBack(fault) => {
                    if let Err(error) = self.end_trial(&key, fault.to_string()).await {
                        tracing::error!(%error, "a trial can't be ended");
                    }
                }
            }
        }
    }

    async fn promote(&mut self, key: &Key) {
        let mut draft = self.draft_of_now();
        let Some(Slot { stable, trial: Some((tried, trial)) }) = draft.slots.get(key).cloned() else {
            return;
        };
        let (revision, was) = (tried.code.revision, stable.code.revision);
        let records = trial.records();
        let message =
            format!("after {} runs of it and {} of the old one", records.new.runs, records.old.runs);
        let event = Event::of_plugin(draft.now, What::Promoted, key).revision(revision).was(Some(was));
        draft.events.push(event.message(message));
        let mut record = self.shared.store.record(key).unwrap_or_else(|| Record::first(revision, draft.now));
        record.deployed(revision, draft.now, draft.keep);
        draft.records.insert(key.clone(), record);
        draft.replace(key, Slot { stable: tried, trial: None });
        let config = self.shared.state().config.clone();
        self.publish(config, draft).await;
    }

    /// Gives all jobs back to the revision in force, and holds back the one that was tried.
    async fn end_trial(&mut self, key: &Key, why: String) -> Result<Event, Refusal> {
        let config = self.shared.state().config.clone();
        let mut draft = self.draft_of_now();
        let Some(Slot { mut stable, trial: Some((tried, _)) }) = draft.slots.get(key).cloned() else {
            return Err(Refusal(format!("plugin {} has nothing on trial", named(key))));
        };
        let (revision, was) = (stable.code.revision, tried.code.revision);
        if stable.terms != tried.terms {
            // What is taken back is the code. The TOML stays, if the old code can live with it.
            match self.bench.prepare(&config, &tried.terms, Origin::Kept(revision)).await {
                Ok(code) => stable = Deployed { terms: tried.terms.clone(), code },
                Err(error) => drop(draft.failed.insert(key.clone(), error.to_string())),
            }
        }
        let wanted = Wanted { file: Some(was), pin: tried.terms.sha256 };
        let mut record = self.shared.store.record(key).unwrap_or_else(|| Record::first(revision, draft.now));
        record.went_back(revision, wanted, draft.now);
        draft.records.insert(key.clone(), record);
        draft.replace(key, Slot { stable, trial: None });
        let event = Event::of_plugin(draft.now, What::RolledBack, key).revision(revision).was(Some(was));
        let event = event.message(format!("canary: {why}"));
        draft.events.push(event.clone());
        self.publish(config, draft).await;
        Ok(event)
    }

    /// Puts a draft into force: one swap. Returns what it changed.
    async fn publish(&self, config: Config, draft: Draft) -> Vec<Event> {
        let Draft { slots, failed, records, mut removed, events, keep, .. } = draft;
        removed.retain(|key, _| !slots.contains_key(key));
        let touched = |key: &Key| events.iter().any(|event| event.is_of(key));
        self.pinned.forget(touched);
        let (catalog, news) = {
            let mut state = self.shared.state();
            // A plugin that fails again for the same reason is no news.
            let is_old = |event: &Event| {
                event.what == What::Failed
                    && state.failed.values().any(|why| event.message.as_deref() == Some(why))
            };
            let news: Vec<Event> = events.iter().filter(|event| !is_old(event)).cloned().collect();
            let gates = &state.gates;
            removed.retain(|(tenant, name), _| gates.running(tenant, name) > 0);
            state.config = config;
            state.slots = slots;
            state.failed = failed;
            state.removed = removed;
            (state.catalog(), news)
        };
        self.swap.send_replace(catalog);
        let store = Arc::clone(&self.shared.store);
        let written = off_thread(move || {
            store.update(|histories| {
                histories.extend(records);
                histories.values_mut().for_each(|record| record.trim(keep));
            })
        });
        if let Err(error) = written.await {
            tracing::error!(%error, "what was deployed is in force, but will be forgotten");
        }
        self.remember(&news);
        events
    }

    fn remember(&self, events: &[Event]) {
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

impl Draft {
    fn tenants(&mut self, before: &Config, new: &Config) {
        for (tenant, change) in diff::tenants(before, new) {
            let what = match change {
                TenantChange::Added => What::TenantAdded,
                TenantChange::Changed => What::TenantChanged,
                TenantChange::Removed => What::TenantRemoved,
            };
            self.events.push(Event::of_tenant(self.now, what, &tenant));
        }
    }

    fn remove_all_but(&mut self, new: &Config) {
        let there: std::collections::BTreeSet<Key> = new.plugins.iter().map(key).collect();
        let gone: Vec<Key> = self.slots.keys().filter(|key| !there.contains(*key)).cloned().collect();
        for key in gone {
            let Some(slot) = self.slots.remove(&key) else { continue };
            slot.retire();
            let revision = slot.stable.code.revision;
            let event = Event::of_plugin(self.now, What::Removed, &key).revision(revision);
            self.events.push(event.message("nothing more is leased for it; what runs finishes"));
            self.removed.insert(key, revision);
        }
    }

    /// Brings new code, or the same code under new terms, into force.
    fn enter(
        &mut self,
        key: Key,
        deployed: Deployed<Arc<Plugin>>,
        origin: Origin,
        record: Option<Record>,
        decided: &Arc<Notify>,
    ) {
        let revision = deployed.code.revision;
        let stable = self.slots.get(&key).map(|slot| slot.stable.clone());
        let was = stable.as_ref().map(|stable| stable.code.revision);
        let mut record = record.unwrap_or_else(|| Record::first(revision, self.now));
        match (entrance(&deployed.terms, was, origin, revision), stable) {
            (Entrance::Canary(policy), Some(stable)) => {
                let event = Event::of_plugin(self.now, What::CanaryStarted, &key).revision(revision).was(was);
                self.events.push(event.message(format!("it gets {} of the jobs", policy.share)));
                let trial = Arc::new(Trial::new(policy, revision, Arc::clone(decided)));
                record.keep(revision, self.keep);
                self.replace(&key, Slot { stable, trial: Some((deployed, trial)) });
            }
            _ => {
                let what = if was == Some(revision) { What::Changed } else { What::Deployed };
                let was = was.filter(|was| *was != revision);
                self.events.push(Event::of_plugin(self.now, what, &key).revision(revision).was(was));
                if origin == Origin::File {
                    record.deployed(revision, self.now, self.keep);
                }
                self.replace(&key, Slot { stable: deployed, trial: None });
            }
        }
        self.records.insert(key, record);
    }

    /// Puts another slot into the place of a plugin. Code that is no longer in it is retired.
    fn replace(&mut self, key: &Key, slot: Slot<Arc<Plugin>>) {
        let stays =
            [Some(slot.stable.code.revision), slot.trial.as_ref().map(|(tried, _)| tried.code.revision)];
        if let Some(old) = self.slots.insert(key.clone(), slot) {
            let of_trial = old.trial.map(|(tried, _)| tried);
            for old in [Some(old.stable), of_trial].into_iter().flatten() {
                if !stays.contains(&Some(old.code.revision)) {
                    old.code.in_use.retire();
                }
            }
        }
    }
}

fn named((tenant, name): &Key) -> String {
    format!("{tenant}/{name}")
}

/// Whoever asked may be gone meanwhile.
fn say<T>(reply: oneshot::Sender<T>, answer: T) {
    let _ = reply.send(answer);
}
