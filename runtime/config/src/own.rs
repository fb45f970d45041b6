//! Settings that a tenant has of its own at the broker: a login, and keys.

use std::collections::BTreeMap;

use sandhog_core::id::{KeyId, TenantId};
use sandhog_core::keyring::{Key, Keyring, Plain};
use sandhog_core::redis::{self, Login};

use super::Broker;
use super::fields::{Entry, Fields, nearest};
use super::problem::Shown;
use super::reference::{Outside, Reference, text_or_reference};

/// A tenant's own connection to the Redis server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnBroker {
    /// Settings with the tenant's own login, or at another server.
    Known(Box<redis::Config>),
    /// The tenant has one, but a value that it refers to isn't available to this reader of the configuration; the text says
    /// what is missing.
    NotAtHand(String),
}

/// Reads `[tenants.NAME.broker]`. Settings that it lacks are those common to all tenants.
pub(super) fn broker(
    entry: Entry<'_>,
    tenant: &TenantId,
    common: Option<&Broker>,
    outside: Outside<'_>,
) -> Option<OwnBroker> {
    let (file, key) = (entry.file(), entry.path.clone());
    let of_redis = match common {
        Some(Broker::Redis(server)) => Some(server),
        Some(Broker::Embedded { .. }) => {
            let problem = "only a broker of type \"redis\" tells tenants apart by their login";
            file.note(file.problem_shown(&key, Shown::KeyAlone, problem));
            None
        }
        None => None,
    };
    let (url, username, password) = entry
        .table(|fields| (fields.entry("url"), fields.get::<String>("username"), fields.entry("password")));
    let mut own = of_redis?.clone();
    let place = match (url, username, password) {
        (Some(url), None, None) => {
            let place = url.path.clone();
            match fetched(url, outside, Form::Text)? {
                Ok(text) => (own.url, own.login, own.topology) = (text, None, own.topology.elsewhere()),
                Err(missing) => return Some(OwnBroker::NotAtHand(missing)),
            }
            place
        }
        (None, username, Some(password)) => {
            let place = password.path.clone();
            let username = username.unwrap_or_else(|| tenant.to_string());
            match fetched(password, outside, Form::Secret)? {
                Ok(password) => own.login = Some(Login { username, password }),
                Err(missing) => return Some(OwnBroker::NotAtHand(missing)),
            }
            place
        }
        _ => {
            let problem = file.problem_shown(&key, Shown::KeyAlone, "it is not clear how to log in");
            file.note(
                problem.rule("a `password`, and a `username` if it isn't the tenant's name; or a `url`"),
            );
            return None;
        }
    };
    if let Err(error) = own.check() {
        file.note(file.problem_shown(&place, Shown::KeyAlone, "").because(&error));
        return None;
    }
    Some(OwnBroker::Known(Box::new(own)))
}

/// Reads `[tenants.NAME.encryption]`.
pub(super) fn encryption(entry: Entry<'_>, outside: Outside<'_>) -> Option<Keyring> {
    let file = entry.file();
    entry.table(|fields| {
        let active = fields.required::<KeyId>("active", "\"2026-11\"");
        let plain = fields.or("plain", Plain::default());
        let (keys, names) = keys(fields, outside);
        let active = active?;
        if !names.contains(&active) {
            let problem = file.problem(&fields.path_of("active"), format!("there is no key \"{active}\""));
            let rule = "the name of one of `keys`";
            file.note(match nearest(active.as_str(), names.iter().map(KeyId::as_str)) {
                Some(meant) => problem.rule(rule).help(format!("did you mean \"{meant}\"?")),
                None => problem.rule(rule).help("make one with `sandhog tenant key`"),
            });
            return None;
        }
        Some(Keyring::new(active, keys, plain))
    })
}

/// Returns the keys that are available, and the names of all.
fn keys(fields: &mut Fields<'_>, outside: Outside<'_>) -> (BTreeMap<KeyId, Key>, Vec<KeyId>) {
    let (mut keys, mut names) = (BTreeMap::new(), Vec::new());
    for (name, entry) in fields.named("keys") {
        let id = match KeyId::parse(&name) {
            Ok(id) => id,
            Err(invalid) => {
                entry.refuse(invalid.into());
                continue;
            }
        };
        names.push(id.clone());
        let (file, place) = (entry.file(), entry.path.clone());
        let Some(Ok(text)) = fetched(entry, outside, Form::Secret) else { continue };
        match Key::parse(&text) {
            Ok(key) => drop(keys.insert(id, key)),
            Err(no_key) => {
                let problem = file.problem_shown(&place, Shown::KeyAlone, no_key.to_string());
                file.note(problem.help("make one with `sandhog tenant key`"));
            }
        }
    }
    (keys, names)
}

/// Form in which a value may be given: as text in the file itself, or only by reference, as a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Secret,
}

/// Fetches a value that is kept elsewhere. A daemon has to have it; a producer need not, as it may belong to another
/// tenant: then the error says what is missing.
fn fetched(entry: Entry<'_>, outside: Outside<'_>, form: Form) -> Option<Result<String, String>> {
    if form == Form::Text && !matches!(entry.value, toml::de::DeValue::Table(_)) {
        return text_or_reference(entry, outside).map(|text| Ok(text.reveal().to_owned()));
    }
    let (file, place) = (entry.file(), entry.path.clone());
    match Reference::read(entry)?.fetch(outside) {
        Ok(value) => Some(Ok(value.reveal().to_owned())),
        Err(missing) if !outside.follow.has_secrets() => Some(Err(missing)),
        Err(missing) => {
            file.note(file.problem_shown(&place, Shown::KeyAlone, missing));
            None
        }
    }
}
