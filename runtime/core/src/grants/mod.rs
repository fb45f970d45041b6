//! What a plugin may reach.

mod caps;
mod http_target;
mod ranges;
mod reach;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::budget::Bytes;
use crate::secret::Secret;

pub use caps::{DirCap, GrantCaps, plain};
pub use http_target::{HttpTarget, InvalidTarget, address, undotted};
pub use ranges::{InvalidRange, Range, Ranges};
pub use reach::AddressRefusal;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Private {
    /// No: whatever a name resolves to.
    Refuse,
    /// Yes. Link-local addresses and metadata services stay out of reach.
    Allow,
    /// To those that lie there; no others. The same ones stay out of reach.
    Within(Ranges),
}

/// What may be done in a granted directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Look and read.
    Read,
    /// Also write, make and remove.
    ReadWrite,
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
