//! Whether anything still runs on a revision.

use std::sync::atomic::{AtomicBool, Ordering};

use sandhog_core::id::{PluginName, Revision, TenantId};

/// Goes along with the loaded code of one revision, and says when the last that held it has let go.
#[derive(Debug)]
pub struct InUse {
    tenant: TenantId,
    plugin: PluginName,
    revision: Revision,
    retired: AtomicBool,
}

impl InUse {
    /// For a revision that is loaded.
    #[must_use]
    pub fn new(tenant: TenantId, plugin: PluginName, revision: Revision) -> Self {
        Self { tenant, plugin, revision, retired: AtomicBool::new(false) }
    }

    /// From now on it is held by what still runs on it, and by nothing else.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        // When the daemon stops, everything goes, and that is no news.
        if self.retired.load(Ordering::Relaxed) {
            let (tenant, plugin, revision) = (&self.tenant, &self.plugin, self.revision.short());
            tracing::info!(%tenant, %plugin, "dropped: nothing runs on revision {revision} any more");
        }
    }
}
