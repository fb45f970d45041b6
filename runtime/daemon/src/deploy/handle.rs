//! Handle with which others send requests to the deployer.

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

/// Maximum number of requests that wait; the sender of more waits to send.
const ASKS_MAX: usize = 64;

/// Request to the deployer.
pub(super) enum Ask {
    /// Read the configuration again, and put into force what it says.
    Reload(Option<oneshot::Sender<Reloaded>>),
    /// Put an earlier revision into force again.
    RollBack(RollBack, oneshot::Sender<Result<DeployEvent, Refusal>>),
    /// Load a kept revision for jobs that are pinned to it.
    Fetch(Key, Revision),
}

/// Rollback of a plugin to a kept revision.
pub(super) struct RollBack {
    pub(super) plugin: Key,
    /// First digits of the revision's sha256, or all of them. `None` for the revision before the one in force.
    pub(super) to: Option<String>,
}

/// Reason why the deployer refused a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such plugin or revision.
    #[error("{0}")]
    Unknown(String),
    /// The request can't be done as things stand.
    #[error("{0}")]
    Conflict(String),
    /// The daemon ends.
    #[error("the daemon is about to end")]
    Ending,
}

/// Handle that sends requests to the deployer. Its clones send to the same one.
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

    /// Asks for a kept revision to be loaded. Returns whether there was room for the request.
    pub(super) fn fetch(&self, key: Key, revision: Revision) -> bool {
        self.asks.try_send(Ask::Fetch(key, revision)).is_ok()
    }

    /// Requests a reload of the configuration, and waits for the result. Requests that come while one is under way are answered
    /// together by the next.
    ///
    /// # Errors
    /// The daemon is about to end.
    pub async fn reload(&self) -> Result<Reloaded, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::Reload(Some(reply))).await?;
        answer.await.map_err(|_| Refusal::Ending)
    }

    /// Requests a reload of the configuration without waiting for the result, which is logged.
    pub async fn nudge(&self) {
        // An error means that the daemon is about to end.
        let _ = self.ask(Ask::Reload(None)).await;
    }

    /// Puts an earlier revision into force again, and waits until it is.
    ///
    /// # Errors
    /// There is no such plugin or revision, or it can't be loaded any more.
    pub async fn roll_back(
        &self,
        plugin: (TenantId, PluginName),
        to: Option<String>,
    ) -> Result<DeployEvent, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.ask(Ask::RollBack(RollBack { plugin, to }, reply)).await?;
        answer.await.map_err(|_| Refusal::Ending)?
    }

    /// Configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.shared.state().config)
    }

    /// Statuses of all plugins.
    #[must_use]
    pub fn plugins(&self) -> Vec<PluginStatus> {
        self.shared.plugins()
    }

    /// Latest events, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<DeployEvent> {
        self.shared.events()
    }

    async fn ask(&self, ask: Ask) -> Result<(), Refusal> {
        self.asks.send(ask).await.map_err(|_| Refusal::Ending)
    }
}
