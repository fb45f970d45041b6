//! What guests make the host do: timers, requests, files, names. It has threads of its own, below those that lease, renew and
//! settle, and what holds a thread is bounded by tenant.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sandhog_core::id::TenantId;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Semaphore;
use wasmtime_wasi::runtime::spawn_blocking;

use crate::priority;
use crate::schedule::NICE;

/// Names that are being looked up at once, of all tenants. The system's resolver holds a thread for each, for as long as it
/// likes.
const LOOKUPS_MAX: usize = 128;

/// And of one tenant: whoever answers for its names may take the resolver's patience each time.
const LOOKUPS_OF_TENANT_MAX: usize = 8;

/// The threads on which guests' timers, requests and file calls work.
#[derive(Debug)]
pub(crate) struct HostThreads(Option<Runtime>);

impl HostThreads {
    /// Starts one for every two that run guests. Those for file calls and names come and go.
    pub(crate) fn start(guest_threads: NonZeroUsize) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads((guest_threads.get() / 2).max(1))
            .thread_name("sandhog-host")
            .on_thread_start(|| priority::lower(NICE))
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.0.as_ref().expect("it is taken by the drop alone").handle()
    }
}

impl Drop for HostThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // A call that hangs must not keep whoever drops this.
            runtime.shutdown_background();
        }
    }
}

/// The turns of all tenants at the system's resolver.
#[derive(Debug)]
pub(crate) struct Resolver {
    turns: Arc<Semaphore>,
    tenants: Mutex<HashMap<TenantId, Weak<Semaphore>>>,
}

/// The turns of one tenant.
#[derive(Debug, Clone)]
pub(crate) struct Lookups {
    of_all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(LOOKUPS_MAX)), tenants: Mutex::default() }
    }
}

impl Resolver {
    /// Those of a tenant, the same for all of its plugins.
    pub(crate) fn of(&self, tenant: &TenantId) -> Lookups {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let own = tenants.get(tenant).and_then(Weak::upgrade).unwrap_or_else(|| {
            tenants.retain(|_, own| own.strong_count() > 0);
            let own = Arc::new(Semaphore::new(LOOKUPS_OF_TENANT_MAX));
            tenants.insert(tenant.clone(), Arc::downgrade(&own));
            own
        });
        Lookups { of_all: Arc::clone(&self.turns), own }
    }
}

impl Lookups {
    /// Looks something up on a thread that may block, once it is the tenant's turn. Nothing if there are no threads any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        lookup: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let own = Arc::clone(&self.own).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.of_all).acquire_owned().await.ok()?;
        // The turns are over when the thread is free again, whether anybody still waits or not.
        let looking = spawn_blocking(move || {
            let _turns = (own, of_all);
            lookup()
        });
        Some(looking.await)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).expect("a name")
    }

    #[tokio::test]
    async fn a_tenant_whose_names_hang_keeps_no_other_from_the_resolver() {
        let resolver = Resolver::default();
        let (hangs, hung) = (resolver.of(&tenant("hangs")), resolver.of(&tenant("hangs")));
        let mut ends = Vec::new();
        let mut looking = Vec::new();
        for lookups in [hangs, hung].iter().cycle().take(2 * LOOKUPS_MAX) {
            let (end, ended) = mpsc::channel::<()>();
            ends.push(end);
            let lookups = lookups.clone();
            looking.push(tokio::spawn(async move { lookups.run(move || ended.recv().is_err()).await }));
        }
        while resolver.of(&tenant("hangs")).own.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(resolver.of(&tenant("works")).run(|| 1).await, Some(1));
        assert!(looking.iter_mut().all(|looking| looking.now_or_never().is_none()));
        drop(ends);
        for looking in looking {
            assert_eq!(looking.await.expect("no panic"), Some(true));
        }
    }

    #[test]
    fn tenants_that_are_gone_are_forgotten() {
        let resolver = Resolver::default();
        let stays = resolver.of(&tenant("stays"));
        for n in 0..1000 {
            resolver.of(&tenant(&format!("t{n}")));
        }
        assert!(resolver.tenants.lock().expect("no panic").len() <= 2);
        assert!(Arc::ptr_eq(&stays.own, &resolver.of(&tenant("stays")).own));
    }
}
