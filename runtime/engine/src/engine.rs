//! The engine: one a process.

use std::sync::Arc;

use sandhog_core::admit::Plan;
use sandhog_core::outcome::{Outcome, Report, Usage};

use crate::abort::Abort;
use crate::config::Config;
use crate::error::Error;
use crate::host::Host;
use crate::plugin::{Inspection, LoadSpec, Plugin};
use crate::run::{Input, Share};

/// Compiles and runs components. Its clones are one and the same; it is made once a process, inside a tokio runtime.
#[derive(Debug, Clone)]
pub struct Engine {}

impl Engine {
    /// Sets the engine up and starts its threads. Called inside a tokio runtime, whose timers and I/O the host calls of
    /// guests use.
    ///
    /// # Errors
    /// If the settings don't go together, or the machine can't give what they ask for.
    pub fn new(config: Config) -> Result<Self, Error> {
        let _ = config;
        Ok(Self {})
    }

    /// Compiles a component, or finds it compiled in the cache, and checks that it can be run. Blocks, for seconds
    /// if a large component has to be compiled.
    ///
    /// # Errors
    /// If the component is malformed or too large, doesn't fit the world `handler`, or a grant can't be given.
    pub fn load(&self, spec: LoadSpec) -> Result<Plugin, Error> {
        let _ = spec;
        Err(Error::Setup { reason: "loading is still to come".to_owned() })
    }

    /// Says what a component is. Blocks as [`Self::load`] does.
    ///
    /// # Errors
    /// If the bytes are no component at all.
    pub fn inspect(&self, wasm: &[u8]) -> Result<Inspection, Error> {
        let _ = wasm;
        Err(Error::Setup { reason: "inspecting is still to come".to_owned() })
    }

    /// Runs a handler once, in a fresh instance, and says how that ended. It never fails and never panics: what goes
    /// wrong is in the report. Dropping the future ends the run.
    pub async fn run(
        &self,
        plan: Plan<Arc<Plugin>>,
        input: Input,
        host: Arc<dyn Host>,
        share: Share,
        abort: Abort,
    ) -> Report {
        let _ = (plan, input, host, share, abort);
        Report {
            outcome: Outcome::HostFault { message: "running is still to come".to_owned() },
            usage: Usage::default(),
        }
    }
}
