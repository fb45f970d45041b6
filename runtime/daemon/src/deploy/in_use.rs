//! Tracking whether anything still runs on a revision.

use std::sync::atomic::{AtomicBool, Ordering};

use sandhog_core::id::{PluginName, Revision, TenantId};

/// Marker that is held along with the loaded code of one revision, and logs when the last holder has let go.
#[derive(Debug)]
pub struct InUse {
    tenant: TenantId,
    plugin: PluginName,
    revision: Revision,
    retired: AtomicBool,
}

impl InUse {
    /// Creates the marker for a revision that is loaded.
    #[must_use]
    pub fn new(tenant: TenantId, plugin: PluginName, revision: Revision) -> Self {
        Self { tenant, plugin, revision, retired: AtomicBool::new(false) }
    }

    /// Marks the revision as retired: from now on it is held by the runs that are still on it, and by nothing else.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        // When the daemon stops, all markers are dropped, and that is no news.
        if self.retired.load(Ordering::Relaxed) {
            let (tenant, plugin, revision) = (&self.tenant, &self.plugin, self.revision.short());
            tracing::info!(%tenant, %plugin, "dropped: nothing runs on revision {revision} any more");
        }
    }
}
