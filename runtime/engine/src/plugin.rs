//! A loaded component, and what it is granted.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use sandhog_core::budget::Bytes;
use sandhog_core::compile::CompileBudget;
use sandhog_core::id::{PluginName, Revision, TenantId};
use zeroize::Zeroizing;

use crate::code::Code;
use crate::host_work::Lookups;
use crate::outgoing::HttpTarget;
use crate::wants::{Want, missing_grants};
use crate::wasi::Granted;
use crate::wiper::Wiper;

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

/// What a plugin may reach. By default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Directories of the host.
    pub dirs: Vec<DirGrant>,
    /// Hosts that requests may be sent to.
    pub http: Vec<HttpGrant>,
    /// Environment variables.
    pub env: Vec<(String, EnvValue)>,
    /// Secrets, by the name under which the guest asks for them.
    pub secrets: BTreeMap<String, Secret>,
}

/// A directory of the host that the guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirGrant {
    /// Where it is.
    pub host: PathBuf,
    /// Under which name the guest sees it.
    pub guest: String,
    /// What may be done there.
    pub access: Access,
    /// How much may be there, with what a run adds; none: as much as the disk holds.
    pub quota: Option<Bytes>,
}

/// A host that requests may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGrant {
    /// The host and the port.
    pub to: HttpTarget,
    /// Whether it may turn out to be an internal address.
    pub private: Private,
}

/// Whether requests may go to addresses of this machine and of private networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Private {
    /// No: whatever a name resolves to.
    Refuse,
    /// Yes. Link-local addresses and metadata services stay out of reach.
    Allow,
}

/// What may be done in a granted directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Look and read.
    Read,
    /// Also write, make and remove.
    ReadWrite,
}

/// A secret. It shows itself to nobody but who calls [`Secret::reveal`], and leaves nothing in memory when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps `value` from being printed.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The value of an environment variable. It doesn't show itself either.
#[derive(Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// As it stands in the configuration.
    Plain(String),
    /// Fetched from elsewhere: kept as a secret is.
    Secret(Secret),
}

impl EnvValue {
    /// The value itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        match self {
            Self::Plain(value) => value,
            Self::Secret(secret) => secret.reveal(),
        }
    }
}

impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvValue")
    }
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
    /// Its tenant's turns at the resolver.
    pub(crate) lookups: Lookups,
    pub(crate) wiper: Option<Arc<Wiper>>,
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
    pub fn missing_grants(&self) -> Vec<Want> {
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

    pub(crate) fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    pub(crate) fn wiper(&self) -> Option<&Arc<Wiper>> {
        self.wiper.as_ref()
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
