//! Access beyond its sandbox that a component asks for, by its imports.
//!
//! To import something is not yet to use it: components of some languages import all of WASI. Where nothing is granted,
//! the import is linked all the same, and refuses at the call.

use std::fmt;

use crate::plugin::Grants;

/// Resource beyond the sandbox that a component may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NeededGrant {
    /// Requests to other hosts.
    Http,
    /// Directories of the host.
    Dirs,
    /// Environment variables.
    Env,
    /// Secrets.
    Secrets,
    /// Sockets, which are granted to nobody.
    Sockets,
}

/// Interfaces by which each is asked for.
const ASKED_BY: [(NeededGrant, &[&str]); 5] = [
    (NeededGrant::Http, &["wasi:http/outgoing-handler"]),
    (NeededGrant::Dirs, &["wasi:filesystem/preopens"]),
    (NeededGrant::Env, &["wasi:cli/environment"]),
    (NeededGrant::Secrets, &["sandhog:job/secrets"]),
    (
        NeededGrant::Sockets,
        &["wasi:sockets/tcp-create-socket", "wasi:sockets/udp-create-socket", "wasi:sockets/ip-name-lookup"],
    ),
];

impl NeededGrant {
    /// Returns what a component with these imports asks for.
    #[must_use]
    pub fn of<'i>(imports: impl IntoIterator<Item = &'i str>) -> Vec<Self> {
        let interface = |import: &'i str| import.split('@').next().unwrap_or_default();
        let imported: Vec<&str> = imports.into_iter().map(interface).collect();
        let imports_one =
            |interfaces: &[&str]| interfaces.iter().any(|interface| imported.contains(interface));
        ASKED_BY.into_iter().filter(|(_, interfaces)| imports_one(interfaces)).map(|(want, _)| want).collect()
    }

    /// Whether these grants give any of it.
    #[must_use]
    pub fn is_met(self, grants: &Grants) -> bool {
        match self {
            Self::Http => !grants.http.is_empty(),
            Self::Dirs => !grants.dirs.is_empty(),
            Self::Env => !grants.env.is_empty(),
            Self::Secrets => !grants.secrets.is_empty(),
            Self::Sockets => false,
        }
    }

    /// Key of `[grants]` that gives it. `None` if it can't be granted.
    #[must_use]
    pub fn grant(self) -> Option<&'static str> {
        match self {
            Self::Http => Some("http"),
            Self::Dirs => Some("dirs"),
            Self::Env => Some("env"),
            Self::Secrets => Some("secrets"),
            Self::Sockets => None,
        }
    }

    /// Example of a line that would grant some of it, to be put under `[grants]`. `None` if it can't be granted.
    #[must_use]
    pub fn line(self) -> Option<&'static str> {
        match self {
            Self::Http => Some("http = [\"api.acme.example:443\"]"),
            Self::Dirs => Some("dirs = [{ host = \"/srv/acme\", guest = \"/data\" }]"),
            Self::Env => Some("env = { NAME = \"value\" }"),
            Self::Secrets => Some("secrets = [\"NAME\"]"),
            Self::Sockets => None,
        }
    }
}

/// Returns what a component with these imports asks for and these grants don't give, as far as it can be granted at all.
#[must_use]
pub fn missing_grants<'i>(imports: impl IntoIterator<Item = &'i str>, grants: &Grants) -> Vec<NeededGrant> {
    let missing = |want: &NeededGrant| want.grant().is_some() && !want.is_met(grants);
    NeededGrant::of(imports).into_iter().filter(missing).collect()
}

/// Shows the name of it in words.
impl fmt::Display for NeededGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "requests to other hosts",
            Self::Dirs => "directories",
            Self::Env => "environment variables",
            Self::Secrets => "secrets",
            Self::Sockets => "sockets",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{EnvValue, Secret};

    #[test]
    fn what_is_asked_for_is_told_by_the_imports() {
        let python = [
            "wasi:cli/environment@0.2.9",
            "wasi:filesystem/preopens@0.2.9",
            "wasi:filesystem/types@0.2.9",
            "wasi:sockets/tcp-create-socket@0.2.9",
            "wasi:sockets/tcp@0.2.9",
        ];
        assert_eq!(NeededGrant::of(python), [NeededGrant::Dirs, NeededGrant::Env, NeededGrant::Sockets]);
        let others = ["wasi:clocks/wall-clock@0.2.0", "sandhog:job/log@0.1.0", "wasi:http/types@0.2.0"];
        assert_eq!(NeededGrant::of(others), []);
        let ours = ["sandhog:job/secrets@0.1.0", "wasi:http/outgoing-handler@0.2.1"];
        assert_eq!(NeededGrant::of(ours), [NeededGrant::Http, NeededGrant::Secrets]);
    }

    #[test]
    fn what_is_granted_or_never_can_be_is_not_missing() {
        let all = [
            "wasi:cli/environment@0.2.9",
            "wasi:filesystem/preopens@0.2.9",
            "wasi:sockets/tcp-create-socket@0.2.9",
            "wasi:http/outgoing-handler@0.2.1",
            "sandhog:job/secrets@0.1.0",
        ];
        let missing = missing_grants(all, &Grants::default());
        assert_eq!(missing, [NeededGrant::Http, NeededGrant::Dirs, NeededGrant::Env, NeededGrant::Secrets]);
        assert!(missing.iter().all(|want| want.line().is_some()));
        let grants = Grants {
            env: vec![("A".to_owned(), EnvValue::Plain(String::new()))],
            secrets: [("S".to_owned(), Secret::new("s".to_owned()))].into(),
            ..Grants::default()
        };
        assert_eq!(missing_grants(all, &grants), [NeededGrant::Http, NeededGrant::Dirs]);
    }
}
