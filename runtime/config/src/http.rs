//! Settings of the interface over the network: the daemon's `[http]`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use sandhog_core::access::{Role, Scope, Token, TokenHash};
use sandhog_core::budget::Bytes;
use sandhog_core::id::TenantId;
use sandhog_core::rate::Rate;
use sandhog_core::schedule::Zone;
use sandhog_core::time::Timestamp;
use toml::de::DeValue;

use super::fields::{Entry, Fields, File};
use super::problem::{Problem, Shown};
use super::reference::{Follow, Outside};
use super::value::Positive;
use super::{Http, Tls, text_of};

const THREADS: NonZeroUsize = NonZeroUsize::MIN;
const THREADS_MAX: usize = 64;
const CONNECTIONS: NonZeroU32 = NonZeroU32::new(1000).expect("it is not zero");
const CONNECTIONS_MAX: u32 = 100_000;
const BODY: Bytes = Bytes::mib(16);
const BODY_MAX: Bytes = Bytes::mib(64);

/// Default limit on the requests of a token.
fn rate() -> Rate {
    let thousand = NonZeroU32::new(1000).expect("it is not zero");
    Rate::new(thousand, 1_000_000, None).expect("it is a rate that there can be")
}

/// Maximum number of tokens.
pub const TOKENS_MAX: usize = 1000;

/// Maximum length of a name for people, in bytes.
const NAME_MAX: usize = 63;

/// Reads the daemon's `http`. `None` if it isn't there or can't be used.
pub(super) fn http(fields: &mut Fields<'_>, outside: Outside<'_>) -> Option<Http> {
    let there = fields.file.has("http");
    let listen = fields.entry("listen");
    let insecure = fields.or("insecure", false);
    let hosts = fields.list("hosts").into_iter().filter_map(host).collect();
    let base = fields.entry("base").and_then(base).unwrap_or_default();
    let name = name(fields);
    let threads = fields.or("threads", THREADS);
    at_most(fields, "threads", threads.get(), THREADS_MAX);
    let connections = fields.or("connections", CONNECTIONS);
    at_most(fields, "connections", connections.get(), CONNECTIONS_MAX);
    let Positive(body) = fields.or("body", Positive(BODY));
    if body > BODY_MAX {
        let problem = fields.file.problem(&fields.path_of("body"), format!("{body} is too much"));
        fields.file.note(problem.rule(format!("at most {BODY_MAX}")));
    }
    let rate = fields.or("rate", rate());
    let tls_there = fields.has_key("tls");
    let tls = fields.table("tls", |fields| tls(fields, tls_there));
    let (tokens, tokens_file) = match fields.entry("tokens") {
        None => (Vec::new(), None),
        Some(entry) => tokens(entry, outside)?,
    };
    if !there {
        return None;
    }
    let Some(listen) = listen else {
        fields.missing("listen", "\"127.0.0.1:7070\"");
        return None;
    };
    let (file, key) = (listen.file(), listen.path.clone());
    let listen: SocketAddr = listen.read()?;
    // Whether there are tokens in a file of their own is for the daemon to see.
    let has_tokens = !tokens.is_empty() || (tokens_file.is_some() && outside.follow == Follow::BrokerAlone);
    if !listen.ip().is_loopback() && !insecure && !(has_tokens && (tls.is_some() || tls_there)) {
        let lacks = match (has_tokens, tls_there) {
            (false, false) => "neither TLS nor tokens",
            (false, true) => "no tokens",
            (true, _) => "no TLS",
        };
        let problem =
            file.problem(&key, format!("whoever reaches {listen} could come in: there are {lacks}"));
        let problem = problem.help("add [http.tls] and [[http.tokens]], or listen on 127.0.0.1");
        file.note(problem.help("http.insecure = true, if something else keeps others away"));
    }
    Some(Http {
        name,
        listen,
        insecure,
        hosts,
        base,
        threads,
        connections,
        body,
        rate,
        tls,
        tokens,
        tokens_file,
    })
}

fn at_most<T: PartialOrd + std::fmt::Display>(fields: &Fields<'_>, key: &str, value: T, most: T) {
    if value > most {
        let problem = fields.file.problem(&fields.path_of(key), format!("{value} is too many"));
        fields.file.note(problem.rule(format!("at most {most}")));
    }
}

/// Reads a name that people know something by.
fn name(fields: &mut Fields<'_>) -> Option<String> {
    let name = fields.get::<String>("name")?;
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        let problem = fields.file.problem(&fields.path_of("name"), "it is no name");
        fields.file.note(problem.rule(format!("1 to {NAME_MAX} bytes, of one line")));
    }
    Some(name)
}

/// Reads a name under which the daemon is reached.
fn host(entry: Entry<'_>) -> Option<String> {
    let is_name = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        text.len() <= 253 && text.chars().all(allowed)
    };
    match &entry.value {
        DeValue::String(text) if !text.is_empty() && is_name(text) => Some(text.to_ascii_lowercase()),
        _ => {
            let problem = entry.problem(Shown::Line, "it is not the name of a host");
            entry.file().note(problem.rule("a name without a port, such as \"sandhog.acme.example\""));
            None
        }
    }
}

/// Maximum length of the base path, in bytes.
const BASE_MAX: usize = 255;

/// Reads the path below which everything is reached.
fn base(entry: Entry<'_>) -> Option<String> {
    let is_part = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !matches!(part, "" | "." | "..") && part.chars().all(allowed)
    };
    let is_base = |text: &str| {
        text.len() <= BASE_MAX && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_part))
    };
    match &entry.value {
        DeValue::String(text) if text.is_empty() || is_base(text) => Some(text.to_string()),
        _ => {
            let problem = entry.problem(Shown::Line, "it is not a path to be reached below");
            entry.file().note(problem.rule(
                "one such as \"/sandhog\", of letters, digits, `-`, `_` and `.`, without a slash at its end",
            ));
            None
        }
    }
}

fn tls(fields: &mut Fields<'_>, there: bool) -> Option<Tls> {
    let certificate = fields.entry("certificate");
    let key = fields.entry("key");
    let clients = fields.get::<PathBuf>("clients").map(|path| fields.file.resolve(&path));
    if !there {
        return None;
    }
    if certificate.is_none() {
        fields.missing("certificate", "\"tls/fullchain.pem\"");
    }
    if key.is_none() {
        fields.missing("key", "\"tls/privkey.pem\"");
    }
    let file = fields.file;
    let path = |entry: Entry<'_>| Some(file.resolve(&entry.read::<PathBuf>()?));
    Some(Tls { certificate: path(certificate?)?, key: path(key?)?, clients })
}

/// Reads tokens, or the path of their file and those in it.
fn tokens(entry: Entry<'_>, outside: Outside<'_>) -> Option<(Vec<Token>, Option<PathBuf>)> {
    if !matches!(&entry.value, DeValue::String(_)) {
        return Some((list(entry), None));
    }
    let (file, key) = (entry.file(), entry.path.clone());
    let path = file.resolve(&entry.read::<PathBuf>()?);
    if outside.follow == Follow::BrokerAlone {
        return Some((Vec::new(), Some(path)));
    }
    match text_of(&path) {
        Ok(text) => {
            let tokens_file = File::new(path.clone(), &text);
            let tokens = tokens_file.read(|fields| fields.entry("tokens").map(list).unwrap_or_default());
            tokens_file.into_problems().into_iter().for_each(|problem| file.note(problem));
            Some((tokens?, Some(path)))
        }
        Err(problem) => {
            file.note(file.problem(&key, format!("{}: {problem}", path.display())));
            None
        }
    }
}

fn list(entry: Entry<'_>) -> Vec<Token> {
    let (file, path) = (entry.file(), entry.path.clone());
    let entries = entry.list();
    if entries.len() > TOKENS_MAX {
        let problem = file.problem_shown(&path, Shown::KeyAlone, format!("{} are too many", entries.len()));
        file.note(problem.rule(format!("at most {TOKENS_MAX}")));
        return Vec::new();
    }
    let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
    let tokens = entries.into_iter().filter_map(|entry| {
        let place = entry.path.clone();
        let token = entry.table(token)?;
        let again = |key: &str, what: &str| {
            let key = format!("{place}.{key}");
            file.note(file.problem_shown(&key, Shown::KeyAlone, format!("another token has this {what}")));
        };
        if !names.insert(token.name.clone()) {
            again("name", "name");
        }
        if !hashes.insert(token.hash) {
            again("hash", "hash");
        }
        Some(token)
    });
    tokens.collect()
}

fn token(fields: &mut Fields<'_>) -> Option<Token> {
    let name = fields.required::<String>("name", "\"ci\"");
    let hash = hash(fields);
    let role = fields.required::<Role>("role", "\"produce\"");
    let tenants = fields.entry("tenants");
    let expires = expires(fields);
    let rate = fields.get("rate");
    if name.as_ref().is_some_and(|name| name.len() > NAME_MAX || name.chars().any(char::is_control)) {
        let problem = fields.file.problem(&fields.path_of("name"), "it is no name");
        fields.file.note(problem.rule(format!("at most {NAME_MAX} bytes, of one line")));
    }
    let role = role?;
    let scope = match tenants {
        Some(entry) => scope(entry, role)?,
        None if role == Role::Admin => Scope::All,
        None => {
            fields.missing("tenants", "[\"acme\"]");
            return None;
        }
    };
    Some(Token { name: name?, hash: hash?, role, scope, expires: expires?, rate })
}

/// Reads whom a token is for: some tenants, or all of them, which is for those who look and for those who may do everything.
fn scope(entry: Entry<'_>, role: Role) -> Option<Scope> {
    let wrong = match &entry.value {
        DeValue::String(text) if text == "all" => match role {
            Role::Observe | Role::Admin => return Some(Scope::All),
            _ => Some(format!("a token of the role {role} is not for all tenants")),
        },
        DeValue::Array(tenants) if tenants.is_empty() => Some("it has no tenant".to_owned()),
        _ => None,
    };
    if let Some(wrong) = wrong {
        let problem = entry.problem(Shown::Line, wrong).rule("one tenant at least, such as [\"acme\"]");
        entry.file().note(problem);
        return None;
    }
    let tenants: BTreeSet<TenantId> = entry.list().into_iter().filter_map(Entry::read).collect();
    (!tenants.is_empty()).then_some(Scope::Tenants(tenants))
}

/// Reads the hash of a token. A wrong one isn't shown: it may be the token itself.
fn hash(fields: &mut Fields<'_>) -> Option<TokenHash> {
    let Some(entry) = fields.entry("hash") else {
        fields.missing("hash", "\"…\", as `sandhog token new` prints it");
        return None;
    };
    let hash = match &entry.value {
        DeValue::String(text) => TokenHash::parse(text).ok(),
        _ => None,
    };
    if hash.is_none() {
        let problem = entry.problem(Shown::KeyAlone, "it is not the hash of a token");
        entry.file().note(problem.rule("64 hexadecimal digits, as `sandhog token new` prints them"));
    }
    hash
}

/// Reads the time at which a token ends. The inner `None` is none; the outer one, that it can't be read.
fn expires(fields: &mut Fields<'_>) -> Option<Option<Timestamp>> {
    let Some(entry) = fields.entry("expires") else { return Some(None) };
    let text = match &entry.value {
        DeValue::Datetime(time) => time.to_string(),
        DeValue::String(text) => text.clone().into_owned(),
        _ => String::new(),
    };
    let at = Zone::utc().parse_time(&text);
    if at.is_none() {
        let problem = entry.problem(Shown::Line, "it is no point in time");
        entry.file().note(problem.rule("such as 2027-01-01T00:00:00Z"));
    }
    at.map(Some)
}

/// Notes tokens of tenants that aren't among those that are declared.
pub(super) fn check_tenants(file: &File, http: &Http, declared: &BTreeSet<&TenantId>) {
    for Token { name, scope, .. } in &http.tokens {
        let Scope::Tenants(tenants) = scope else { continue };
        for tenant in tenants.iter().filter(|tenant| !declared.contains(tenant)) {
            let problem =
                file.problem("http.tokens", format!("token \"{name}\": there is no tenant `{tenant}`"));
            let meant = super::nearest(tenant.as_str(), declared.iter().map(|id| id.as_str()));
            let problem: Problem = match meant {
                Some(meant) => problem.help(format!("did you mean `{meant}`?")),
                None => problem,
            };
            file.note(problem);
        }
    }
}
