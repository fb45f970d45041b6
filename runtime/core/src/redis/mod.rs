//! Settings of a Redis server: its address, login and timeouts.

mod url;

use std::fmt;
use std::time::Duration;

pub use self::url::{Kind, UrlError, parse, shown as shown_url};

use self::url::{login_of, primary_of, shown};

/// Settings of a Redis server: its address, login and timeouts.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// URL of the server: `redis://[user:password@]host[:port][/db]`, or `rediss://` for TLS, or
    /// `redis+unix:///path[?db=N]`. It may hold a password, so it is shown nowhere as it is.
    pub url: String,
    /// Server that is meant, where there may be several.
    pub topology: Topology,
    /// User to log in as, whatever the URL says; `None` for what the URL says.
    pub login: Option<Login>,
    /// Certificate, in PEM, of the authority that the server's certificate must come from; `None` for those that the
    /// machine trusts. For TLS only.
    pub authority: Option<Vec<u8>>,
    /// Maximum time to make a connection, TLS and login included.
    pub connect_timeout: Duration,
    /// Maximum time that an answer may take. A server that takes longer is considered gone.
    pub command_timeout: Duration,
    /// Time for which the connection that listens for wakes may be silent before it is pinged.
    pub ping_interval: Duration,
}

/// Reason why a server's configuration can't be used, by the part of it that is wrong. Shows no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// [`Config::url`] can't be used.
    #[error("the URL can't be used: {0}")]
    Url(UrlError),
    /// The URL of a sentinel in [`Config::topology`] can't be used.
    #[error("the URL of a sentinel can't be used: {0}")]
    Sentinel(UrlError),
    /// [`Config::url`] doesn't name a primary as sentinels know it.
    #[error("the URL can't be used with sentinels: {0}")]
    Primary(&'static str),
    /// [`Config::topology`] has sentinels, but the list is empty.
    #[error("there are no sentinels to ask")]
    NoSentinels,
    /// [`Config::authority`] is not a certificate.
    #[error("the authority's certificate is no certificate in PEM")]
    Authority,
    /// [`Config::authority`] is set, but no URL is for TLS.
    #[error("an authority is for TLS, and the URL doesn't begin with rediss://")]
    AuthorityWithoutTls,
}

impl ConfigError {
    /// Whether a password that isn't percent-encoded may be what is wrong.
    #[must_use]
    pub fn is_about_encoding(&self) -> bool {
        let (Self::Url(error) | Self::Sentinel(error)) = self else { return false };
        matches!(
            error,
            UrlError::Unencoded | UrlError::Space | UrlError::Address | UrlError::NoHost | UrlError::Fragment
        )
    }
}

/// Choice of the server that is meant, where there may be several.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Topology {
    /// The server at the URL. If it turns out to be a node of a Redis Cluster, it leads to the others.
    #[default]
    Server,
    /// The nodes of a Redis Cluster: the one at the URL, and these, which are asked while that one isn't there. Any of them
    /// leads to the others; all have the same users, and all or none speak TLS.
    Cluster(Vec<Address>),
    /// The server that these sentinels, each at a URL, say is the primary. They know it by a name, which stands in
    /// [`Config::url`] in the place of host and port.
    Sentinels(Vec<String>),
}

/// Address of a node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    host: String,
    port: u16,
}

impl Address {
    /// Creates an address from host and port; `None` if there can be no such host.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Option<Self> {
        let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "/@".contains(c));
        is_host.then(|| Self { host: host.to_owned(), port })
    }

    /// Parses `host:port`, where the host may be an IPv6 address in square brackets; `None` if the text is something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bare.is_none() && host.contains(':') {
            return None;
        }
        Self::new(bare.unwrap_or(host), port.parse().ok()?)
    }

    /// Returns the host's name or address, the latter without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Topology {
    /// Returns the topology for another URL: sentinels may know several primaries, but nodes are those of one cluster.
    #[must_use]
    pub fn elsewhere(self) -> Self {
        match self {
            Self::Cluster(_) => Self::Server,
            same @ (Self::Server | Self::Sentinels(_)) => same,
        }
    }
}

/// Shows the URLs without users and passwords.
impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("Server"),
            Self::Cluster(nodes) => f.debug_tuple("Cluster").field(nodes).finish(),
            Self::Sentinels(urls) => {
                let shown: Vec<String> = urls.iter().map(|url| shown(url)).collect();
                f.debug_tuple("Sentinels").field(&shown).finish()
            }
        }
    }
}

/// Login of a user of the server. The password is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub username: String,
    /// The user's password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Config {
    /// Creates the settings of the server at `url`, with timeouts that fit a network in good order.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            topology: Topology::Server,
            login: None,
            authority: None,
            connect_timeout: Duration::from_secs(3),
            command_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(10),
        }
    }

    /// Returns the user as whom connections log in; `None` if they don't, or by a password alone.
    #[must_use]
    pub fn effective_login(&self) -> Option<Login> {
        if self.login.is_some() {
            return self.login.clone();
        }
        login_of(&self.url)
    }

    /// Whether any server or sentinel is spoken to by TLS.
    fn speaks_tls(&self) -> bool {
        let sentinels = match &self.topology {
            Topology::Sentinels(urls) => urls.as_slice(),
            Topology::Server | Topology::Cluster(_) => &[],
        };
        let mut urls = sentinels.iter().chain([&self.url]);
        urls.any(|url| parse(url).is_ok_and(|parsed| parsed.kind == Kind::Tls))
    }

    /// Checks what can be told from the text of the settings. Whether [`Config::authority`] is a certificate is left to the
    /// client that reads it.
    ///
    /// # Errors
    /// The first part of it that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        parse(&self.url).map_err(ConfigError::Url)?;
        if let Topology::Sentinels(urls) = &self.topology {
            if urls.is_empty() {
                return Err(ConfigError::NoSentinels);
            }
            for url in urls {
                parse(url).map_err(ConfigError::Sentinel)?;
            }
            self.primary()?;
        }
        if self.authority.is_some() && !self.speaks_tls() {
            return Err(ConfigError::AuthorityWithoutTls);
        }
        Ok(())
    }

    /// Returns the name by which sentinels know the primary: it stands in the URL where a server's host would.
    ///
    /// # Errors
    /// If the URL has no such name.
    pub fn primary(&self) -> Result<String, ConfigError> {
        primary_of(&self.url)
    }

    /// Returns the URL without its user and password, for people; `…` if it can't be parsed.
    #[must_use]
    pub fn shown_url(&self) -> String {
        shown(&self.url)
    }
}

/// Shows the URL without its user and password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, topology, login, authority, connect_timeout, command_timeout, ping_interval } = self;
        f.debug_struct("Config")
            .field("url", &shown(url))
            .field("topology", topology)
            .field("login", login)
            .field("authority", &authority.is_some())
            .field("connect_timeout", connect_timeout)
            .field("command_timeout", command_timeout)
            .field("ping_interval", ping_interval)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        for url in
            ["redis://me:hunter2@host:1/0", "rediss://:hunter2@host", "redis://me:hunter2@x@host", "hunter2"]
        {
            let login = Login { username: "me".to_owned(), password: "hunter2".to_owned() };
            let topology = Topology::Sentinels(vec![url.to_owned()]);
            let shown = format!("{:?}", Config { topology, login: Some(login), ..Config::new(url) });
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_part() {
        let config = Config::new("rediss://host");
        let with = |topology: &Topology| Config { topology: topology.clone(), ..config.clone() };
        let sentinels = |urls: &[&str]| Topology::Sentinels(urls.iter().map(|url| url.to_string()).collect());
        let authority = || Some(b"a certificate".to_vec());
        for (config, wrong) in [
            (Config::new("hunter2@host"), ConfigError::Url(UrlError::Scheme)),
            (with(&sentinels(&["redis://a", "redis://b/x"])), ConfigError::Sentinel(UrlError::Database)),
            (with(&sentinels(&[])), ConfigError::NoSentinels),
            (
                Config { authority: authority(), ..Config::new("redis://host") },
                ConfigError::AuthorityWithoutTls,
            ),
        ] {
            assert_eq!(config.check(), Err(wrong));
        }
        let with_authority = Config { authority: authority(), ..with(&sentinels(&["redis://a"])) };
        assert_eq!(with_authority.check(), Ok(()));
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for text in ["10.0.0.1:6379", "node-1.redis:7000", "[::1]:6379"] {
            assert_eq!(Address::parse(text).expect("it is one").to_string(), text);
        }
        for text in
            ["", "host", "host:", ":6379", "host:99999", "redis://host:6379", "me:secret@host:1", "::1:6379"]
        {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_login_beside_the_url_goes_before_the_one_in_it() {
        let login = |name: &str| Login { username: name.to_owned(), password: "p@ss".to_owned() };
        let in_url = Config::new("redis://me:p%40ss@host:1");
        assert_eq!(in_url.effective_login(), Some(login("me")));
        let beside = Config { login: Some(login("acme")), ..in_url };
        assert_eq!(beside.effective_login(), Some(login("acme")));
        assert_eq!(Config::new("redis://host:1").effective_login(), None);
    }
}
