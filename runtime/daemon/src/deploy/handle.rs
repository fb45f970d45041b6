//! How others ask the deployer.

use std::sync::Arc;

use sandhog_api::DeployEvent;
use sandhog_api::{PluginStatus, Reloaded};
use sandhog_config::Config;
use sandhog_core::id::{PluginName, Revision, TenantId};
use sandhog_engine::Plugin;
use tokio::sync::{mpsc, oneshot};

use super::archive::Pinned;
use super::slot::Key;
use super::state::Shared;

/// Asks that wait at most; who asks for more waits to ask.
const ASKS_MAX: usize = 64;

/// What the deployer can be asked for.
pub(super) enum Ask {
    /// Read the configuration again, and put into force what it says.
    Reload(Option<oneshot::Sender<Reloaded>>),
    /// Put an earlier revision into force again.
    RollBack(RollBack, oneshot::Sender<Result<DeployEvent, Refusal>>),
    /// Load a kept revision for jobs that are pinned to it.
    Fetch(Key, Revision),
}

/// Which plugin goes back to which revision.
pub(super) struct RollBack {
    pub(super) plugin: Key,
    /// The first digits of the revision's sha256, or all of them; without it, the one before what is in force.
    pub(super) to: Option<String>,
}

/// Why something wasn't done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such plugin or revision.
    #[error("{0}")]
    Unknown(String),
    /// It can't be done as things stand.
    #[error("{0}")]
    Conflict(String),
    /// The daemon ends.
    #[error("the daemon is about to end")]
    Ending,
}

/// Asks the deployer. Its clones ask the same one.
#[derive(Clone)]
pub struct Handle {
    asks: mpsc::Sender<Ask>,
    shared: Arc<Shared<Arc<Plugin>>>,
    pinned: Arc<Pinned>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared<Arc<Plugin>>>, pinned: Arc<Pinned>) -> (Self, mpsc::Receiver<Ask>) {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        (Self { asks, shared, pinned }, asked)
    }

    pub(super) fn shared(&self) -> &Shared<Arc<Plugin>> {
        &self.shared
    }

    pub(super) fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    /// Has a kept revision loaded; says whether there was room to ask.
    pub(super) fn fetch(&self, key: Key, revision: Revision) -> bool {
        self.asks.try_send(Ask::Fetch(key, revision)).is_ok()
    }

    /// Has the configuration read again, and waits for what comes of it. Asks that come while one is under way are
    /// answered together by the next.
    ///
    /// # Errors
    /// If the daemon is about to end.
    pub async fn reload(&self) -> Result<Reloaded, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Reload(Some(reply))).await?;
        answer.await.map_err(|_| Refusal::Ending)
    }

    /// Has the configuration read again; what comes of it is in the log.
    pub async fn nudge(&self) {
        // An error means that the daemon is about to end.
        let _ = self.ask(Ask::Reload(None)).await;
    }

    /// Puts an earlier revision into force again, and waits until it is.
    ///
    /// # Errors
    /// If there is no such plugin or revision, or it can't be loaded any more.
    pub async fn roll_back(
        &self,
        plugin: (TenantId, PluginName),
        to: Option<String>,
    ) -> Result<DeployEvent, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::RollBack(RollBack { plugin, to }, reply)).await?;
        answer.await.map_err(|_| Refusal::Ending)?
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.shared.state().config)
    }

    /// How all plugins stand.
    #[must_use]
    pub fn plugins(&self) -> Vec<PluginStatus> {
        self.shared.plugins()
    }

    /// The latest events, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<DeployEvent> {
        self.shared.events()
    }

    async fn ask(&self, ask: Ask) -> Result<(), Refusal> {
        self.asks.send(ask).await.map_err(|_| Refusal::Ending)
    }
}
