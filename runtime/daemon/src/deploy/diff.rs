//! Difference between a new configuration and what is in force: pure.

use std::collections::{BTreeMap, BTreeSet};

use sandhog_config::{self as config, Config, FileTexts, Signer};
use sandhog_core::id::{Kind, Revision, TenantId};

use super::history::Origin;
use super::slot::Slot;

/// Limits a new configuration to what can change while the daemon runs: other keys stay as they were at its start, and are
/// named.
///
/// `started` is the configuration that the daemon was started with. Returns `new` as far as it can be in force now, and the
/// keys that need a restart.
pub(crate) fn within_reach(started: &Config, new: Config) -> (Config, Vec<String>) {
    let mut reached = new;
    let mut needs_restart = Vec::new();
    let mut fixed = |key: &'static str, differs: bool| {
        if differs {
            needs_restart.push(key);
        }
    };
    fixed("broker", reached.broker != started.broker);
    fixed("lease", reached.lease != started.lease);
    fixed("engine", reached.engine != started.engine);
    fixed("shutdown.grace", reached.grace != started.grace);
    fixed("deploy.folder", reached.deploy.folder != started.deploy.folder);
    fixed("http", http_as_started(started, &reached) != reached.http);
    reached.http = http_as_started(started, &reached);
    // Memory for memories and tables was set aside at the start; less is no trouble.
    fixed("limits.memory", reached.limits.memory > started.limits.memory);
    fixed("limits.table_elements", reached.limits.table_elements > started.limits.table_elements);
    fixed("limits.instances", reached.limits.instances > started.limits.instances);
    reached.broker = started.broker.clone();
    reached.lease = started.lease;
    reached.engine = started.engine.clone();
    reached.grace = started.grace;
    reached.deploy.folder.clone_from(&started.deploy.folder);
    reached.limits.memory = reached.limits.memory.min(started.limits.memory);
    reached.limits.table_elements = reached.limits.table_elements.min(started.limits.table_elements);
    reached.limits.instances = reached.limits.instances.min(started.limits.instances);
    let mut needs_restart: Vec<String> = needs_restart.into_iter().map(str::to_owned).collect();
    needs_restart.extend(keep_own(started, &mut reached));
    (reached, needs_restart)
}

/// Returns the interface over the network as it was at the start, but with the tokens, names and limits of now, which are looked at by
/// each request.
fn http_as_started(started: &Config, now: &Config) -> Option<config::Http> {
    let started = started.http.clone()?;
    let now = now.http.clone().unwrap_or_else(|| started.clone());
    let config::Http { name, tokens, tokens_file, hosts, rate, .. } = now;
    Some(config::Http { name, tokens, tokens_file, hosts, rate, ..started })
}

/// Keeps the tenants' logins and keys as they were at the start, when the connections to the broker and the keys that seal what
/// goes there are made. A tenant that comes with a login or keys of its own has to wait: it must not be served by those of
/// others, or in plain text. Returns the keys that need a restart.
fn keep_own(started: &Config, reached: &mut Config) -> Vec<String> {
    let mut waiting = Vec::new();
    reached.tenants.retain(|id, tenant| match started.tenants.get(id) {
        Some(before) => {
            if tenant.broker != before.broker {
                waiting.push(format!("tenants.{id}.broker"));
                tenant.broker.clone_from(&before.broker);
            }
            if tenant.encryption != before.encryption {
                waiting.push(format!("tenants.{id}.encryption"));
                tenant.encryption.clone_from(&before.encryption);
            }
            true
        }
        None if tenant.broker.is_some() || tenant.encryption.is_some() => {
            waiting.push(format!("tenants.{id}"));
            false
        }
        None => true,
    });
    let tenants = &reached.tenants;
    reached.plugins.retain(|plugin| tenants.contains_key(&plugin.tenant));
    waiting
}

/// Kind of change of a tenant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TenantChange {
    Added,
    Changed,
    Removed,
}

/// Returns the tenants that differ, each with its change.
pub(crate) fn tenants(old: &Config, new: &Config) -> Vec<(TenantId, TenantChange)> {
    let mut changes = Vec::new();
    for (id, tenant) in &new.tenants {
        match old.tenants.get(id) {
            None => changes.push((id.clone(), TenantChange::Added)),
            Some(before) if before != tenant => changes.push((id.clone(), TenantChange::Changed)),
            Some(_) => {}
        }
    }
    let gone = old.tenants.keys().filter(|id| !new.tenants.contains_key(*id));
    changes.extend(gone.map(|id| (id.clone(), TenantChange::Removed)));
    changes
}

/// Whether anything differs but tenants and plugins.
pub(crate) fn settings_differ(old: &Config, new: &Config) -> bool {
    let settings = |config: &Config| Config {
        tenants: BTreeMap::new(),
        plugins: Vec::new(),
        broken: Vec::new(),
        texts: FileTexts::default(),
        ..config.clone()
    };
    settings(old) != settings(new)
}

/// Returns the kinds that a plugin handles now, and won't under these terms.
pub(crate) fn gives_up<'s, P>(slot: &'s Slot<P>, terms: &config::Plugin) -> BTreeSet<&'s Kind> {
    slot.latest().terms.kinds.iter().filter(|kind| !terms.kinds.contains(kind)).collect()
}

/// Whether a plugin is as its TOML has it, and its tenant's signers are the same as before: a signature that was good enough
/// for them may not be for others. `file` is the digest of its component, if that can be read.
pub(crate) fn is_in_force<P>(
    slot: &Slot<P>,
    terms: &config::Plugin,
    signers: &[Signer],
    origin: Origin,
    file: Option<Revision>,
) -> bool {
    let wanted = match origin {
        Origin::File => file,
        Origin::Kept(revision) => Some(revision),
    };
    let latest = slot.latest();
    latest.terms == *terms
        && latest.signers == signers
        && wanted == Some(latest.code.revision)
        && (origin == Origin::File || slot.trial.is_none())
}

/// Way in which new code comes into force.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Entrance {
    /// At once.
    Swap,
    /// On trial, beside the code that is in force.
    Canary(sandhog_core::canary::Policy),
}

/// Decides how new code comes into force: it is tried if the operator wants that, and there is other code to compare it with.
pub(crate) fn entrance(
    terms: &config::Plugin,
    stable: Option<Revision>,
    origin: Origin,
    revision: Revision,
) -> Entrance {
    match terms.canary {
        Some(policy) if origin == Origin::File && stable.is_some_and(|stable| stable != revision) => {
            Entrance::Canary(policy)
        }
        _ => Entrance::Swap,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sandhog_core::access::Role;

    use super::*;
    use crate::deploy::slot::{Deployed, Loaded, key};

    const PLUGIN: &str =
        "[plugin]\nname = \"a\"\ntenant = \"acme\"\ncomponent = \"a.wasm\"\nkinds = [\"a.run\"]\n";

    /// The configuration that these files make, in one folder for all.
    fn config(folder: &tempfile::TempDir, daemon: &str, plugin: &str) -> Config {
        let plugins = folder.path().join("plugins.d");
        fs::create_dir_all(&plugins).expect("a folder");
        fs::write(plugins.join("a.toml"), format!("{PLUGIN}{plugin}")).expect("a file");
        let file = folder.path().join("sandhog.toml");
        fs::write(&file, daemon).expect("a file");
        sandhog_config::load_to_run(&file).expect("it is right")
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn revision(n: u8) -> Revision {
        Revision::from_sha256([n; 32])
    }

    #[test]
    fn what_cant_change_while_the_daemon_runs_stays_and_is_named() {
        let folder = folder();
        let started = config(&folder, "[tenants.acme]\nweight = 1", "");
        let daemon = "broker.path = \"other.db\"\nbroker.type = \"embedded\"\nlease.ttl = \"1m\"\nshutdown.grace = \"1s\"\n\
                      engine.threads = 3\ndeploy.folder = \"other\"\ndeploy.keep = 9\n\
                      limits.memory = \"1GiB\"\nlimits.fuel = 7\n[tenants.acme]\nweight = 5";
        let (reached, named) = within_reach(&started, config(&folder, daemon, ""));
        assert_eq!(named, ["broker", "lease", "engine", "shutdown.grace", "deploy.folder", "limits.memory"]);
        assert_eq!(reached.broker, started.broker);
        assert_eq!((reached.lease, &reached.engine), (started.lease, &started.engine));
        assert_eq!(reached.limits.memory, started.limits.memory);
        // The rest is in force.
        assert_eq!((reached.limits.fuel.0, reached.deploy.keep.get()), (7, 9));
        assert_eq!(tenants(&started, &reached).len(), 1);
        let (same, named) = within_reach(&started, started.clone());
        assert!(named.is_empty() && same == started && tenants(&started, &same).is_empty());
    }

    #[test]
    fn tokens_change_while_the_daemon_runs_and_what_is_listened_on_does_not() {
        let folder = folder();
        let of = |port: u16, role: &str| {
            let hash = "00".repeat(32);
            let text = format!(
                "[http]\nlisten = \"127.0.0.1:{port}\"\n[[http.tokens]]\nname = \"a\"\nhash = \"{hash}\"\nrole = \"{role}\"\ntenants = [\"acme\"]\n"
            );
            config(&folder, &text, "")
        };
        let started = of(1, "admin");
        let (reached, named) = within_reach(&started, of(1, "observe"));
        assert!(named.is_empty() && reached.http.is_some_and(|http| http.tokens[0].role == Role::Observe));
        let (reached, named) = within_reach(&started, of(2, "observe"));
        assert_eq!(named, ["http"]);
        assert!(
            reached.http.is_some_and(|http| http.listen.port() == 1 && http.tokens[0].role == Role::Observe)
        );
        let (reached, named) = within_reach(&started, config(&folder, "", ""));
        assert_eq!((named, reached.http), (vec!["http".to_owned()], started.http));
    }

    #[test]
    fn a_tenant_with_keys_of_its_own_waits_for_a_restart_and_is_never_served_in_plain_text() {
        let folder = folder();
        let started = config(&folder, "", "");
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        fs::write(folder.path().join("key"), key).expect("a file");
        let of = |tenant: &str| {
            format!(
                "[tenants.acme]\n[tenants.{tenant}.encryption]\nactive = \"1\"\nkeys = {{ 1 = {{ file = \"key\" }} }}\n"
            )
        };
        let (reached, named) = within_reach(&started, config(&folder, &of("acme"), ""));
        assert_eq!(named, ["tenants.acme.encryption"]);
        assert!(
            reached.tenants.values().all(|tenant| tenant.encryption.is_none()) && reached.plugins.len() == 1
        );
        let (reached, named) = within_reach(&started, config(&folder, &of("globex"), ""));
        assert_eq!(named, ["tenants.globex"]);
        assert!(reached.tenants.keys().all(|tenant| tenant.as_str() == "acme"));
    }

    #[test]
    fn a_plugin_is_in_force_if_its_terms_and_its_code_are() {
        let folder = folder();
        let terms = config(&folder, "", "").plugins.remove(0);
        let other = config(&folder, "", "[limits]\nfuel = 7").plugins.remove(0);
        let code = Loaded::new(&key(&terms), revision(1), ());
        let slot = Slot { stable: Deployed { terms: terms.clone(), signers: Vec::new(), code }, trial: None };
        let is = |terms, origin, file: Option<u8>| is_in_force(&slot, terms, &[], origin, file.map(revision));
        assert!(is(&terms, Origin::File, Some(1)));
        assert!(!is(&terms, Origin::File, Some(2)) && !is(&terms, Origin::File, None));
        assert!(!is(&other, Origin::File, Some(1)));
        assert!(is(&terms, Origin::Kept(revision(1)), Some(2)), "it was taken back");
        let signer = crate::deploy::signatures::Key::generate().expect("random").signer();
        assert!(
            !is_in_force(&slot, &terms, &[signer], Origin::File, Some(revision(1))),
            "nobody has signed it"
        );
    }

    #[test]
    fn only_other_code_beside_what_is_there_is_tried() {
        let folder = folder();
        let terms = config(&folder, "", "[canary]\nshare = 0.5").plugins.remove(0);
        let plain = config(&folder, "", "").plugins.remove(0);
        let of = |terms: &config::Plugin, stable: Option<u8>, origin| {
            matches!(entrance(terms, stable.map(revision), origin, revision(2)), Entrance::Canary(_))
        };
        assert!(of(&terms, Some(1), Origin::File));
        assert!(!of(&terms, None, Origin::File) && !of(&terms, Some(2), Origin::File));
        assert!(!of(&terms, Some(1), Origin::Kept(revision(2))) && !of(&plain, Some(1), Origin::File));
    }
}
