//! Loaded components, and what can be told of one.

use std::fmt;
use std::sync::Arc;

use sandhog_core::budget::Bytes;
use sandhog_core::compile::CompileBudget;
pub use sandhog_core::grants::{Access, DirGrant, EnvValue, Grants, HttpGrant, Private};
use sandhog_core::id::{Kind, PluginName, Revision, TenantId};
pub use sandhog_core::secret::Secret;

use crate::code::Code;
use crate::host_work::TenantWork;
use crate::needed_grants::{NeededGrant, missing_grants};
use crate::outgoing::Denied;
use crate::redactor::Redactor;
use crate::wasi::Granted;

/// Specification of a plugin that is to be loaded.
#[derive(Debug, Clone)]
pub struct LoadSpec {
    /// Name of the plugin.
    pub name: PluginName,
    /// Tenant that owns the plugin.
    pub tenant: TenantId,
    /// Component, in binary form or as WebAssembly text.
    pub wasm: Vec<u8>,
    /// Budget for compiling the component.
    pub compile: CompileBudget,
    /// Grants: what the plugin may reach.
    pub grants: Grants,
}

/// Source of a plugin's machine code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Compiled just now.
    Compiled,
    /// Found in the cache, from an earlier compilation.
    Cached,
}

/// Revision of a component that was found to be a handler, ready to run as often as wanted. Its machine code may still be in
/// the cache, until the first run. It is kept alive by those that hold it.
pub struct Plugin {
    pub(crate) name: PluginName,
    pub(crate) tenant: TenantId,
    pub(crate) revision: Revision,
    pub(crate) source: Source,
    pub(crate) grants: Grants,
    /// Granted directories, in the order of the grants.
    pub(crate) dirs: Vec<Arc<Granted>>,
    /// The tenant's part of the host's work.
    pub(crate) work: Arc<TenantWork>,
    pub(crate) denied: Denied,
    pub(crate) redactor: Option<Arc<Redactor>>,
    pub(crate) imports: Vec<String>,
    pub(crate) code: Code,
}

impl Plugin {
    /// Returns the plugin's name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.name
    }

    /// Returns the plugin's tenant.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Returns the digest of the bytes that were loaded.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns where the machine code came from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Returns the plugin's grants.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Returns the full names of the component's imports, such as `wasi:io/streams@0.2.6`.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// Returns what the component asks for and its grants don't give; see [`missing_grants`].
    #[must_use]
    pub fn missing_grants(&self) -> Vec<NeededGrant> {
        missing_grants(self.imports.iter().map(String::as_str), &self.grants)
    }

    /// Whether the paths of the grants still lead to the directories that were opened when the plugin was loaded. Runs see
    /// those in any case. Blocks.
    #[must_use]
    pub fn has_its_directories(&self) -> bool {
        self.dirs.iter().all(|granted| granted.is_there())
    }

    /// Returns the plugin's name for messages.
    pub(crate) fn place(&self) -> String {
        place(&self.tenant, &self.name)
    }

    pub(crate) fn work(&self) -> &Arc<TenantWork> {
        &self.work
    }

    /// Returns the addresses that no plugin's requests reach, whatever is granted.
    pub(crate) fn denied(&self) -> &Denied {
        &self.denied
    }

    pub(crate) fn redactor(&self) -> Option<&Arc<Redactor>> {
        self.redactor.as_ref()
    }
}

/// Formats the name of a plugin for messages.
pub(crate) fn place(tenant: &TenantId, name: &PluginName) -> String {
    format!("plugin {tenant}/{name}")
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({}/{} {})", self.tenant, self.name, self.revision.short())
    }
}

/// Description of a component, whether it can be loaded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Digest of the component's bytes.
    pub revision: Revision,
    /// Size of the component.
    pub size: Bytes,
    /// Imports: what the component wants from the host.
    pub imports: Vec<Import>,
    /// Names of the component's exports.
    pub exports: Vec<String>,
    /// Kinds for which the component declares handlers. `None` if it declares nothing.
    pub kinds: Option<Vec<Kind>>,
    /// Reasons why [`Engine::load`](crate::Engine::load) would refuse the component. Empty if it wouldn't.
    pub problems: Vec<String>,
}

/// Import of a component: something that it wants from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Full name, such as `wasi:io/streams@0.2.6`.
    pub name: String,
    /// Whether the host serves it.
    pub served: bool,
}
