//! What goes over the daemon's socket: one request a connection, one reply, each a line of JSON.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{DeployEvent, PluginStatus, Reloaded};

/// What a daemon can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Read the configuration again, and say what came of it.
    Reload,
    /// Put an earlier revision of a plugin into force again.
    RollBack {
        /// `TENANT/NAME`, or `NAME` if only one tenant has such a plugin.
        plugin: String,
        /// The first digits of the revision's sha256, or all of them; without it, the one before what is in force.
        to: Option<String>,
    },
    /// Say how all plugins stand.
    Plugins,
    /// Say what deploys have done lately.
    Events,
}

/// What a daemon answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// What came of a reload.
    Reloaded {
        /// What came of it.
        #[serde(flatten)]
        outcome: Reloaded,
    },
    /// An earlier revision is in force again.
    RolledBack {
        /// Which, and instead of what.
        event: DeployEvent,
    },
    /// How all plugins stand.
    Plugins {
        /// In order of tenant and name.
        plugins: Vec<PluginStatus>,
    },
    /// What deploys have done lately.
    Events {
        /// The oldest first.
        events: Vec<DeployEvent>,
    },
    /// It wasn't done.
    Refused {
        /// Why.
        message: String,
    },
}

/// A request or a reply as it goes over the socket: one line, and its break.
///
/// # Errors
/// If it can't be written as JSON.
pub fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Where the daemon listens whose folder of deploys this is.
#[must_use]
pub fn socket(deploys: &Path) -> PathBuf {
    deploys.join("control.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_survive_their_text() {
        let rollback = Request::RollBack { plugin: "acme/hog".into(), to: Some("ab".into()) };
        for request in [Request::Reload, rollback, Request::Plugins, Request::Events] {
            let text = serde_json::to_string(&request).expect("it can be written");
            assert_eq!(serde_json::from_str::<Request>(&text).expect("it can be read"), request);
        }
        let outcome = Reloaded::applied(Vec::new(), vec!["lease".into()]);
        let reply = Reply::Reloaded { outcome };
        let text = serde_json::to_string(&reply).expect("it can be written");
        assert_eq!(
            text,
            r#"{"reply":"reloaded","outcome":"applied","changes":[],"needs_restart":["lease"],"problems":null}"#
        );
        assert_eq!(serde_json::from_str::<Reply>(&text).expect("it can be read"), reply);
    }
}
