//! A loaded component.

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

/// What to load.
#[derive(Debug, Clone)]
pub struct LoadSpec {
    /// Its name.
    pub name: PluginName,
    /// Whose it is.
    pub tenant: TenantId,
    /// The component, as bytes or as WebAssembly text.
    pub wasm: Vec<u8>,
    /// What compiling it may take.
    pub compile: CompileBudget,
    /// What it may reach.
    pub grants: Grants,
}

/// Where the machine code of a plugin came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// It was compiled just now.
    Compiled,
    /// An earlier compilation was found in the cache.
    Cached,
}

/// One revision of a component that was found to be a handler, ready to run as often as wanted. Its machine code may
/// still be in the cache, until the first run. Whoever holds it keeps it alive.
pub struct Plugin {
    pub(crate) name: PluginName,
    pub(crate) tenant: TenantId,
    pub(crate) revision: Revision,
    pub(crate) source: Source,
    pub(crate) grants: Grants,
    /// The granted directories, in their order.
    pub(crate) dirs: Vec<Arc<Granted>>,
    /// What its tenant has of the host's work.
    pub(crate) work: Arc<TenantWork>,
    pub(crate) denied: Denied,
    pub(crate) redactor: Option<Arc<Redactor>>,
    pub(crate) imports: Vec<String>,
    pub(crate) code: Code,
}

impl Plugin {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &PluginName {
        &self.name
    }

    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The digest of the bytes that were loaded.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Where its machine code came from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// What it may reach.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The full names of what it imports, such as `wasi:io/streams@0.2.6`.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// What its component asks for and its grants don't give; see [`missing_grants`].
    #[must_use]
    pub fn missing_grants(&self) -> Vec<NeededGrant> {
        missing_grants(self.imports.iter().map(String::as_str), &self.grants)
    }

    /// Whether the paths of its grants still lead to the directories that were opened when it was loaded. Those are what
    /// its runs see in any case. Blocks.
    #[must_use]
    pub fn has_its_directories(&self) -> bool {
        self.dirs.iter().all(|granted| granted.is_there())
    }

    /// Which plugin it is, as messages name it.
    pub(crate) fn place(&self) -> String {
        place(&self.tenant, &self.name)
    }

    pub(crate) fn work(&self) -> &Arc<TenantWork> {
        &self.work
    }

    /// The addresses that its requests reach in no case.
    pub(crate) fn denied(&self) -> &Denied {
        &self.denied
    }

    pub(crate) fn redactor(&self) -> Option<&Arc<Redactor>> {
        self.redactor.as_ref()
    }
}

/// Which plugin is meant, as messages name it.
pub(crate) fn place(tenant: &TenantId, name: &PluginName) -> String {
    format!("plugin {tenant}/{name}")
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({}/{} {})", self.tenant, self.name, self.revision.short())
    }
}

/// What a component is, whether it can be loaded or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The digest of its bytes.
    pub revision: Revision,
    /// The size of its bytes.
    pub size: Bytes,
    /// What it wants from the host.
    pub imports: Vec<Import>,
    /// What it offers.
    pub exports: Vec<String>,
    /// The kinds that it declares to have handlers of; none if it declares nothing.
    pub kinds: Option<Vec<Kind>>,
    /// Why [`Engine::load`](crate::Engine::load) would refuse it; nothing, if it wouldn't.
    pub problems: Vec<String>,
}

/// Something that a component wants from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// Its full name, such as `wasi:io/streams@0.2.6`.
    pub name: String,
    /// Whether the host has it.
    pub served: bool,
}
