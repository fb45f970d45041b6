//! Bare wasmtime: a component that is called without Sandhog's engine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use sandhog_core::budget::Bytes;
use sandhog_core::id::JobId;
use sandhog_core::time::Timestamp;
use sandhog_engine::Engine;
use wasmtime::component::{Component, Linker};
use wasmtime::{Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline};

mod bindings {
    #![allow(missing_docs)]
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "handler",
        exports: { default: async },
    });
}

/// Mechanism that stops a call that goes on for too long. Each adds to the machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stops {
    /// No mechanism.
    Nothing,
    /// Fuel: a count of instructions.
    Fuel,
    /// Epochs: a check of a counter that rises every millisecond.
    Epochs,
    /// Both, as for guests of Sandhog.
    Both,
}

/// Amount of fuel that no call uses up.
const FUEL: u64 = u64::MAX >> 1;
/// Fuel between two yields of a call, as in the engine.
const FUEL_SYNC: u64 = 10_000_000;
const TICK: Duration = Duration::from_millis(1);
const MEMORY: Bytes = Bytes::mib(64);
const TABLE: usize = 10_000;

/// A component, ready to be called.
pub(crate) struct Bare {
    engine: wasmtime::Engine,
    pre: bindings::HandlerPre<StoreLimits>,
    stops: Stops,
}

impl Bare {
    /// Compiles a component with the settings of Sandhog's engine, except for the mechanism that stops it.
    ///
    /// # Panics
    /// If it isn't a handler.
    pub(crate) fn new(engine: &Engine, wasm: &[u8], stops: Stops) -> Self {
        let mut config = engine.wasmtime().config().clone();
        config.consume_fuel(stops.has_fuel()).epoch_interruption(stops.has_epochs());
        let engine = wasmtime::Engine::new(&config).expect("settings that go together");
        let component = Component::new(&engine, wasm).expect("it compiles");
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&component).expect("it is linked");
        let pre = linker.instantiate_pre(&component).and_then(bindings::HandlerPre::new);
        Self { engine, pre: pre.expect("it is a handler"), stops }
    }

    /// Creates a store with limits and an instance, calls it, and drops everything.
    ///
    /// # Panics
    /// If it doesn't return a result.
    pub(crate) async fn call(&self, kind: &str, payload: &[u8]) -> Vec<u8> {
        let id = JobId::from_parts(Timestamp::from_millis(1), 1).to_string();
        let job = bindings::Job { id, kind: kind.to_owned(), payload: payload.to_vec() };
        let returned = self.try_call(&job).await;
        returned.expect("it doesn't trap").expect("it doesn't fail")
    }

    async fn try_call(&self, job: &bindings::Job) -> wasmtime::Result<Result<Vec<u8>, bindings::Failure>> {
        let memory = usize::try_from(MEMORY.0)?;
        let limits = StoreLimitsBuilder::new().memory_size(memory).table_elements(TABLE);
        let mut store = Store::new(&self.engine, limits.build());
        store.limiter(|limits| limits);
        if self.stops.has_fuel() {
            store.fuel_async_yield_interval(Some(FUEL_SYNC))?;
            store.set_fuel(FUEL)?;
        }
        if self.stops.has_epochs() {
            store.set_epoch_deadline(1);
            store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Continue(1)));
        }
        let handler = self.pre.instantiate_async(&mut store).await?;
        handler.call_handle(&mut store, job).await
    }

    /// Runs `work` while the epoch counter rises, if calls check it.
    pub(crate) fn ticking<T>(&self, work: impl FnOnce() -> T) -> T {
        if !self.stops.has_epochs() {
            return work();
        }
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    thread::sleep(TICK);
                    self.engine.increment_epoch();
                }
            });
            let done = work();
            over.store(true, Ordering::Relaxed);
            done
        })
    }
}

impl Stops {
    fn has_fuel(self) -> bool {
        matches!(self, Self::Fuel | Self::Both)
    }

    fn has_epochs(self) -> bool {
        matches!(self, Self::Epochs | Self::Both)
    }
}
