//! Parsing of a server's URL, which is checked part by part, and the one way in which it is shown.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use url::Url;

use super::{ConfigError, Login};

/// Reason why a URL can't be used, by the part that is wrong. The text holds nothing of the URL but names that can't be a
/// secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// The scheme is missing or unknown.
    #[error(
        "it has to begin with redis:// or rediss:// (for TLS), or with redis+unix:// for a socket of this machine"
    )]
    Scheme,
    /// An `@` stands behind what the URL takes for the address: what was meant for user or password ended early.
    #[error(
        "its user or password holds a character that ends it, and has to be percent-encoded: / is %2F, ? is %3F, # is %23, \
         @ is %40, : is %3A, % is %25"
    )]
    Unencoded,
    /// The URL holds white space or a control character.
    #[error("it holds white space or a control character, which has to be percent-encoded: a blank is %20")]
    Space,
    /// There is no host.
    #[error("it names no host")]
    NoHost,
    /// The host or port can't be parsed.
    #[error(
        "its host or port can't be read: a name or an address, such as db.example or [::1], and a number up to 65535; if \
         that is a part of the password, percent-encode it: / is %2F, ? is %3F, # is %23, @ is %40, : is %3A, % is %25"
    )]
    Address,
    /// The host stands for all addresses of a machine.
    #[error(
        "its host stands for all addresses of a machine, and so for no server; name one, such as 127.0.0.1"
    )]
    Wildcard,
    /// The part behind host and port is not a database number.
    #[error("what follows host and port is the number of a database, such as /3, and nothing else")]
    Database,
    /// The path of a socket is not usable.
    #[error("a socket has an absolute path, with three slashes: redis+unix:///run/redis.sock?db=3")]
    Socket,
    /// A part of the query is unknown.
    #[error("its query has `{name}`, which is unknown; there {known}")]
    Query {
        /// Name of the part; `…` if it doesn't look like a name.
        name: String,
        /// Description of the known parts.
        known: &'static str,
    },
    /// A known part of the query has a value that isn't allowed.
    #[error("its query says of `{name}` what can't be; it is {rule}")]
    QueryValue {
        /// Name of the part.
        name: &'static str,
        /// Description of the allowed values.
        rule: &'static str,
    },
    /// There is something after a `#`.
    #[error("it has something after a #; if that is a part of the password, percent-encode it: # is %23")]
    Fragment,
    /// The client refused the URL for another reason.
    #[error("{0}")]
    Refused(String),
}

/// URL schemes, and the kind of connection that each stands for.
const SCHEMES: [(&str, Kind); 7] = [
    ("redis", Kind::Plain),
    ("valkey", Kind::Plain),
    ("rediss", Kind::Tls),
    ("valkeys", Kind::Tls),
    ("redis+unix", Kind::Socket),
    ("valkey+unix", Kind::Socket),
    ("unix", Kind::Socket),
];

/// Kind of connection to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Network connection without TLS.
    Plain,
    /// Network connection with TLS.
    Tls,
    /// Socket of this machine.
    Socket,
}

/// Parts of a URL that can be used.
pub struct Parsed<'u> {
    /// Kind of connection to the server.
    pub kind: Kind,
    scheme: &'u str,
    /// Whether the URL has a user or a password.
    has_login: bool,
    /// Host and port, or the path of a socket.
    place: String,
    database: Option<String>,
}

/// Parses a URL and checks it part by part.
///
/// # Errors
/// The first part of it that is wrong.
pub fn parse(url: &str) -> Result<Parsed<'_>, UrlError> {
    let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
    let known = SCHEMES.iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name));
    let (_, kind) = *known.ok_or(UrlError::Scheme)?;
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(UrlError::Space);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    if behind.contains('@') {
        return Err(UrlError::Unencoded);
    }
    match kind {
        Kind::Plain | Kind::Tls => server(url, scheme, kind, authority),
        Kind::Socket => socket(url, scheme, authority, behind),
    }
}

fn server<'u>(url: &str, scheme: &'u str, kind: Kind, authority: &str) -> Result<Parsed<'u>, UrlError> {
    let address = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    if address.is_empty() || address.starts_with(':') {
        return Err(UrlError::NoHost);
    }
    let parsed = Url::parse(url).map_err(|_| UrlError::Address)?;
    let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or(UrlError::NoHost)?;
    if matches!(host, "0.0.0.0" | "[::]") {
        return Err(UrlError::Wildcard);
    }
    for (name, value) in parsed.query_pairs() {
        match name.as_ref() {
            "protocol" => protocol(&value)?,
            _ => return Err(unknown(name, "is only `protocol`; the database is the path, such as /3")),
        }
    }
    if parsed.fragment().is_some_and(|fragment| kind != Kind::Tls || fragment != "insecure") {
        return Err(UrlError::Fragment);
    }
    let place = parsed.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let path = parsed.path();
    let number = path.strip_prefix('/').unwrap_or(path);
    let database = database(number)?;
    Ok(Parsed { kind, scheme, has_login: authority.contains('@'), place, database })
}

fn socket<'u>(url: &str, scheme: &'u str, authority: &str, behind: &str) -> Result<Parsed<'u>, UrlError> {
    let path = behind.split(['?', '#']).next().unwrap_or_default();
    if !authority.is_empty() || path.len() < 2 || !path.starts_with('/') {
        return Err(UrlError::Socket);
    }
    let parsed = Url::parse(url).map_err(|_| UrlError::Socket)?;
    if parsed.fragment().is_some() {
        return Err(UrlError::Fragment);
    }
    let (mut number, mut has_login) = (None, false);
    for (name, value) in parsed.query_pairs() {
        match name.as_ref() {
            "db" => {
                let rule = UrlError::QueryValue { name: "db", rule: "the number of a database, such as 3" };
                number = database(&value).map_err(|_| rule)?;
            }
            "user" | "pass" => has_login = true,
            "protocol" => protocol(&value)?,
            _ => return Err(unknown(name, "are `db`, `user`, `pass` and `protocol`")),
        }
    }
    Ok(Parsed { kind: Kind::Socket, scheme, has_login, place: path.to_owned(), database: number })
}

fn database(number: &str) -> Result<Option<String>, UrlError> {
    match number {
        "" => Ok(None),
        // The client keeps it in an i64.
        digits if digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Some(digits.to_owned()))
        }
        _ => Err(UrlError::Database),
    }
}

fn protocol(value: &str) -> Result<(), UrlError> {
    match value {
        "2" | "3" | "resp2" | "resp3" => Ok(()),
        _ => Err(UrlError::QueryValue { name: "protocol", rule: "resp2 or resp3" }),
    }
}

/// Creates the error for an unknown part of the query; its name is shown only if it looks like one.
fn unknown(name: Cow<'_, str>, known: &'static str) -> UrlError {
    const NAME_MAX: usize = 20;
    let plain = name.len() <= NAME_MAX && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    UrlError::Query { name: if plain { name.into_owned() } else { "…".to_owned() }, known }
}

/// Returns a URL as it may be shown: without user and password. One that can't be parsed is not shown at all, as nobody
/// knows then where the password begins and ends.
#[must_use]
pub fn shown(url: &str) -> String {
    let Ok(Parsed { kind, scheme, has_login, place, database }) = parse(url) else {
        return "…".to_owned();
    };
    let login = if has_login { "…@" } else { "" };
    let database = database.map(|number| match kind {
        Kind::Socket => format!("?db={number}"),
        Kind::Plain | Kind::Tls => format!("/{number}"),
    });
    format!("{scheme}://{login}{place}{}", database.unwrap_or_default())
}

/// Returns the user and the password in a URL; `None` if it lacks either.
pub(super) fn login_of(url: &str) -> Option<Login> {
    let kind = parse(url).ok()?.kind;
    let parsed = Url::parse(url).ok()?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned);
    let named =
        |name: &str| parsed.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let (username, password) = match kind {
        Kind::Plain | Kind::Tls => (decoded(parsed.username()), parsed.password().and_then(decoded)),
        Kind::Socket => (named("user"), named("pass")),
    };
    Some(Login { username: username.filter(|name| !name.is_empty())?, password: password? })
}

/// Returns the name of the primary, which stands in a URL for sentinels where a server's host would.
pub(super) fn primary_of(url: &str) -> Result<String, ConfigError> {
    if parse(url).map_err(ConfigError::Url)?.kind == Kind::Socket {
        return Err(ConfigError::Primary("it is that of a socket"));
    }
    let parsed = Url::parse(url).map_err(|_| ConfigError::Primary("it is no URL of Redis"))?;
    if parsed.port().is_some() {
        return Err(ConfigError::Primary("it names a port, which they know"));
    }
    let name = parsed.host_str().filter(|name| !name.is_empty());
    Ok(name.ok_or(ConfigError::Primary("it doesn't name the primary"))?.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_be_used_is_shown_without_its_login() {
        for (url, shown_as) in [
            ("redis://host", "redis://host"),
            ("redis://host:1/3", "redis://host:1/3"),
            ("redis://me:secret@host:1/0", "redis://…@host:1/0"),
            ("redis://me:se@cret@host:1/0", "redis://…@host:1/0"),
            ("rediss://:se%2Fcret@[::1]:1?protocol=resp3", "rediss://…@[::1]:1"),
            ("redis://my_Primary.1", "redis://my_Primary.1"),
            ("redis+unix:///run/redis.sock?db=3&user=me&pass=secret", "redis+unix://…@/run/redis.sock?db=3"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ] {
            assert_eq!(shown(url), shown_as, "{url}");
        }
    }

    #[test]
    fn what_can_not_be_used_names_its_part_and_is_not_shown() {
        for (url, why) in [
            ("rediss://:F6tM/t41SZ/c57sr2KFt0=@myredis:6380/0", UrlError::Unencoded),
            ("redis://user:hun@ter2/x@h:1", UrlError::Unencoded),
            ("redis://user:hun?ter2@h:1", UrlError::Unencoded),
            ("redis://user:6#ter2@h:1", UrlError::Unencoded),
            ("user:hunter2@h:1", UrlError::Scheme),
            ("hunter2", UrlError::Scheme),
            ("http://hunter2", UrlError::Scheme),
            ("redis://user:hunter2", UrlError::Address),
            ("redis://host:99999", UrlError::Address),
            ("redis://user:hun ter2@host", UrlError::Space),
            ("redis://", UrlError::NoHost),
            ("redis://user:hunter2@", UrlError::NoHost),
            ("redis://user:hunter2@:1", UrlError::NoHost),
            ("redis:///run/redis.sock", UrlError::NoHost),
            ("redis://0.0.0.0", UrlError::Wildcard),
            ("redis://host/abc", UrlError::Database),
            ("redis://host/-1", UrlError::Database),
            ("redis://host/1/2", UrlError::Database),
            ("redis://host#insecure", UrlError::Fragment),
            ("unix://run/redis.sock", UrlError::Socket),
            ("unix:///", UrlError::Socket),
        ] {
            assert_eq!(parse(url).err(), Some(why), "{url}");
            assert_eq!(shown(url), "…", "{url}");
        }
    }

    #[test]
    fn unknown_parts_of_the_query_are_refused_by_name() {
        for (url, name) in [
            ("redis://host/1?foo=bar", "`foo`"),
            ("redis://host/1?db=2", "`db`"),
            ("redis://host?protocol=1", "`protocol`"),
            ("unix:///run/redis.sock?database=1", "`database`"),
            ("unix:///run/redis.sock?db=x", "`db`"),
            ("redis://host?hunter2", "`…`"),
        ] {
            let refused = parse(url).err().expect("it is refused").to_string();
            assert!(refused.contains(name) && !refused.contains("hunter2"), "{url}: {refused}");
        }
    }

    #[test]
    fn the_primarys_name_stands_where_a_host_would() {
        for url in ["redis://my_Primary.1", "rediss://me:hunter2@my_Primary.1/3"] {
            assert_eq!(primary_of(url).expect("it has a name"), "my_Primary.1");
        }
        for url in ["redis://:hunter2@mymaster:6379", "redis:///0", "unix:///tmp/hunter2", "hunter2@mymaster"]
        {
            let refused = primary_of(url).expect_err("it has none").to_string();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn a_login_is_a_user_and_a_password() {
        let login = |username: &str, password: &str| {
            Some(Login { username: username.to_owned(), password: password.to_owned() })
        };
        assert_eq!(login_of("rediss://a%3Ab:p%40ss%2F@host:1/3"), login("a:b", "p@ss/"));
        assert_eq!(login_of("unix:///run/redis.sock?user=me&pass=p%40ss"), login("me", "p@ss"));
        for url in
            ["redis://host", "redis://:secret@host", "redis://me@host", "unix:///s?pass=x", "me:x@host"]
        {
            assert_eq!(login_of(url), None, "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_password_is_shown_wherever_it_stands(
            password in "[!-~]{0,6}hunter2[!-~]{0,6}",
            before in prop::sample::select(vec!["redis://", "rediss://", "unix://", "http://", "redis:", "//", ""]),
            user in prop::sample::select(vec!["me:", ":", ""]),
            after in prop::sample::select(vec!["@host:1/0", "@host", "@[::1]:1", "@/run/s?db=1"]),
        ) {
            let url = format!("{before}{user}{password}{after}");
            let text = match parse(&url) {
                Ok(_) => shown(&url),
                Err(error) => format!("{}{error}{error:?}", shown(&url)),
            };
            prop_assert!(!text.contains("hunter2"), "{url}: {text}");
        }
    }
}
