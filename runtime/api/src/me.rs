//! Callers, as they are known, and sessions of browsers.

use sandhog_core::access::{Role, Scope};
use sandhog_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Time;

/// JSON document of a caller: what it may do, and where.
#[derive(Debug, Serialize)]
pub struct MeDocument {
    /// The name of its token; null where no tokens are needed.
    pub name: Option<String>,
    /// Its role: `observe`, `produce`, `operate`, `edit`, `deploy` or `admin`.
    pub role: &'static str,
    /// The tenants that it gets to see, by name; null for all.
    pub tenants: Option<Vec<String>>,
    /// The installation that has answered.
    pub server: ServerDocument,
    /// The time by the clock of whoever has answered.
    pub time: Time,
}

/// JSON document of an installation.
#[derive(Debug, Serialize)]
pub struct ServerDocument {
    /// Its name, as `http.name` has it; null if it has none.
    pub name: Option<String>,
    /// The version of Sandhog that has answered.
    pub version: &'static str,
}

impl MeDocument {
    /// Creates the document of a caller, as the installation `server` answers it at the time `now`.
    #[must_use]
    pub fn new(name: Option<&str>, role: Role, scope: &Scope, server: Option<&str>, now: Timestamp) -> Self {
        let tenants = match scope {
            Scope::All => None,
            Scope::Tenants(tenants) => Some(tenants.iter().map(ToString::to_string).collect()),
        };
        let server = ServerDocument { name: server.map(str::to_owned), version: env!("CARGO_PKG_VERSION") };
        Self { name: name.map(str::to_owned), role: role.slug(), tenants, server, time: now.into() }
    }
}

/// Beginning of a browser's session.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionAsk {
    /// Token that the session stands for.
    pub token: String,
}

/// Leaves out the token.
impl std::fmt::Debug for SessionAsk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionAsk")
    }
}
