//! Ceilings on what the plugins of a tenant may be granted.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{Access, DirGrant, HttpGrant};

/// A tenant's ceilings. `None` in a field means that anything may be granted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrantCaps {
    /// Directories inside which directories may be granted.
    pub dirs: Option<Vec<DirCap>>,
    /// Hosts to which requests may be granted.
    pub http: Option<Vec<HttpGrant>>,
    /// Names of the secrets that may be granted. If it is set, plugin files can't say where secrets come from.
    pub secrets: Option<BTreeSet<String>>,
}

/// A directory of the host in which directories may be granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirCap {
    /// Absolute path of the directory, normalized by [`plain`].
    pub host: PathBuf,
    /// Maximum access that may be granted.
    pub access: Access,
}

impl GrantCaps {
    /// Whether a directory may be granted. Its path must be normalized by [`plain`].
    #[must_use]
    pub fn allow_dir(&self, grant: &DirGrant) -> bool {
        let allows = |cap: &DirCap| {
            grant.host.starts_with(&cap.host)
                && (cap.access == Access::ReadWrite || grant.access == Access::Read)
        };
        self.dirs.as_ref().is_none_or(|caps| caps.iter().any(allows))
    }

    /// Whether requests to a host may be granted.
    #[must_use]
    pub fn allow_http(&self, grant: &HttpGrant) -> bool {
        let allows = |cap: &HttpGrant| grant.to.is_within(&cap.to) && grant.private.is_within(&cap.private);
        self.http.as_ref().is_none_or(|caps| caps.iter().any(allows))
    }

    /// Whether a secret may be granted.
    #[must_use]
    pub fn allow_secret(&self, name: &str) -> bool {
        self.secrets.as_ref().is_none_or(|caps| caps.contains(name))
    }
}

/// Normalizes an absolute path: removes `.`, and each `..` with the name before it. This is by the path's text alone,
/// whatever lies there.
#[must_use]
pub fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::super::Private;
    use super::*;

    fn dir(host: &str, access: Access) -> DirGrant {
        DirGrant { host: host.into(), guest: "/data".to_owned(), access, quota: None }
    }

    fn http(to: &str, private: Private) -> HttpGrant {
        HttpGrant { to: to.parse().expect("a target"), private }
    }

    #[test]
    fn what_is_not_set_caps_nothing_and_an_empty_one_all() {
        let none = GrantCaps::default();
        let all = GrantCaps { dirs: Some(vec![]), http: Some(vec![]), secrets: Some(BTreeSet::new()) };
        for (caps, allowed) in [(none, true), (all, false)] {
            assert_eq!(caps.allow_dir(&dir("/", Access::ReadWrite)), allowed);
            assert_eq!(caps.allow_http(&http("a.example:80", Private::Allow)), allowed);
            assert_eq!(caps.allow_secret("KEY"), allowed);
        }
    }

    #[test]
    fn a_directory_lies_in_one_that_allows_as_much() {
        let cap = |host: &str, access| DirCap { host: host.into(), access };
        let dirs = vec![cap("/srv/acme", Access::ReadWrite), cap("/srv/public", Access::Read)];
        let caps = GrantCaps { dirs: Some(dirs), ..GrantCaps::default() };
        for (host, access, allowed) in [
            ("/srv/acme", Access::ReadWrite, true),
            ("/srv/acme/a/b", Access::ReadWrite, true),
            ("/srv/public/a", Access::Read, true),
            ("/srv/public/a", Access::ReadWrite, false),
            ("/srv/acme-2", Access::Read, false),
            ("/srv", Access::Read, false),
            ("/", Access::Read, false),
        ] {
            assert_eq!(caps.allow_dir(&dir(host, access)), allowed, "{host}");
        }
    }

    #[test]
    fn a_host_is_within_one_that_allows_as_much() {
        let within = |range: &str| Private::Within([range.parse().expect("a range")].into_iter().collect());
        let http_caps = vec![
            http("*.acme.example:443", Private::Refuse),
            http("db.acme.example:80", Private::Allow),
            http("lan.acme.example:80", within("10.1.0.0/16")),
        ];
        let caps = GrantCaps { http: Some(http_caps), ..GrantCaps::default() };
        for (to, private, allowed) in [
            ("api.acme.example:443", Private::Refuse, true),
            ("api.acme.example:443", Private::Allow, false),
            ("db.acme.example:80", Private::Allow, true),
            ("db.acme.example:80", within("10.0.0.0/8"), true),
            ("api.acme.example:443", within("10.0.0.0/8"), false),
            ("lan.acme.example:80", Private::Refuse, true),
            ("lan.acme.example:80", within("10.1.2.0/24"), true),
            ("lan.acme.example:80", within("10.0.0.0/8"), false),
            ("lan.acme.example:80", Private::Allow, false),
            ("globex.example:443", Private::Refuse, false),
        ] {
            assert_eq!(caps.allow_http(&http(to, private.clone())), allowed, "{to} {private:?}");
        }
    }

    #[test]
    fn a_plain_path_says_where_it_leads() {
        for (path, is) in [("/a/b/../c", "/a/c"), ("/a/./b/", "/a/b"), ("/../..", "/"), ("/a/../../b", "/b")]
        {
            assert_eq!(plain(Path::new(path)), Path::new(is), "{path}");
        }
    }
}
