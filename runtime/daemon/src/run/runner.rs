//! Seam between the loops and what runs a plan: the engine, or a script in a simulation.

use std::sync::Arc;

use async_trait::async_trait;
use sandhog_core::admit::Plan;
use sandhog_core::outcome::Report;
use sandhog_engine::{Abort, Engine, Host, Input, Plugin, Share};

/// Runs plans.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// Loaded code that a plan is about; holding one keeps it alive.
    type Plugin: Clone + Send + Sync + 'static;

    /// Runs a plan to its end, which `abort` can hasten. Never fails: a failure is an outcome in the report.
    async fn run(
        &self,
        plan: Plan<Self::Plugin>,
        input: Input,
        host: Arc<dyn Host>,
        share: Share,
        abort: Abort,
    ) -> Report;
}

#[async_trait]
impl Runner for Engine {
    type Plugin = Arc<Plugin>;

    async fn run(
        &self,
        plan: Plan<Arc<Plugin>>,
        input: Input,
        host: Arc<dyn Host>,
        share: Share,
        abort: Abort,
    ) -> Report {
        Engine::run(self, plan, input, host, share, abort).await
    }
}
