//! Targets of HTTP requests: a host and a port, as an operator writes them and as a request names them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A host and a port that requests may go to: `api.acme.example:443`, `*.acme.example:443` or `192.0.2.1:80`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// A name in lower case, without a dot at its end.
    Name(String),
    /// Any one label before this name.
    AnyLabelOf(String),
    Address(IpAddr),
}

/// Error for text that is not an [`HttpTarget`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; it is HOST:PORT, such as api.acme.example:443")]
pub struct InvalidTarget {
    /// Description of what is wrong with the text.
    pub problem: &'static str,
    /// Target that may have been meant, if there is a likely one.
    pub meant: Option<String>,
}

/// Maximum lengths of a label and of a whole name in the domain name system.
const LABEL_MAX: usize = 63;
const NAME_MAX: usize = 253;

impl HttpTarget {
    /// Whether a request to this host and port may go there. The host is as a URL has it: a name in either case, with or
    /// without a dot at its end, or an address, in brackets if it is IPv6.
    #[must_use]
    pub fn covers(&self, host: &str, port: u16) -> bool {
        if port != self.port {
            return false;
        }
        match (&self.host, address(host)) {
            (Host::Address(granted), Some(asked)) => *granted == asked,
            (Host::Name(granted), None) => granted.eq_ignore_ascii_case(undotted(host)),
            (Host::AnyLabelOf(granted), None) => undotted(host)
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && granted.eq_ignore_ascii_case(rest)),
            (Host::Address(_), None) | (Host::Name(_) | Host::AnyLabelOf(_), Some(_)) => false,
        }
    }
}

impl HttpTarget {
    /// Whether everything that this target covers is covered by `other` as well.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.port == other.port
            && match (&self.host, &other.host) {
                (Host::Name(name), Host::AnyLabelOf(rest)) => {
                    name.split_once('.').is_some_and(|(_, of)| of == rest)
                }
                (own, other) => own == other,
            }
    }
}

/// Parses the host of a URL as an IP address; `None` if it isn't one.
#[must_use]
pub fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

/// Strips the dot at the end of a name, which only says that the name is fully qualified.
#[must_use]
pub fn undotted(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

impl FromStr for HttpTarget {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let refuse = |problem| InvalidTarget { problem, meant: None };
        if let Some((scheme, rest)) = text.split_once("://") {
            let host = rest.split('/').next().unwrap_or(rest);
            let port = if scheme == "http" { 80 } else { 443 };
            let meant = if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
            return Err(InvalidTarget { problem: "a URL says more than that", meant: Some(meant) });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port),
            Some(_) => return Err(refuse("an address of version 6 stands in brackets")),
            None => {
                return Err(InvalidTarget { meant: Some(format!("{text}:443")), ..refuse("it has no port") });
            }
        };
        match port.parse() {
            Ok(0) | Err(_) => Err(refuse("the port is a number from 1 to 65535")),
            Ok(port) => Ok(Self { host: host_of(host).map_err(refuse)?, port }),
        }
    }
}

fn host_of(text: &str) -> Result<Host, &'static str> {
    if let Some(address) = address(text) {
        return Ok(Host::Address(address));
    }
    let name = undotted(text).to_ascii_lowercase();
    match name.strip_prefix("*.") {
        Some(rest) if rest.contains('.') => {
            check_name(rest)?;
            Ok(Host::AnyLabelOf(rest.to_owned()))
        }
        Some(_) => Err("`*` stands for one label before a name of at least two"),
        None => {
            check_name(&name)?;
            Ok(Host::Name(name))
        }
    }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let of_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    let is_label = |label: &str| (1..=LABEL_MAX).contains(&label.len()) && label.bytes().all(of_label);
    if name.len() > NAME_MAX || !name.split('.').all(is_label) {
        return Err("the host is no name");
    }
    // Resolvers take `127.1` and `2130706433` for addresses.
    match name.rsplit('.').next() {
        Some(last) if last.bytes().all(|byte| byte.is_ascii_digit()) => Err("the host is no whole address"),
        _ => Ok(()),
    }
}

impl fmt::Display for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{port}"),
            Host::AnyLabelOf(name) => write!(f, "*.{name}:{port}"),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}:{port}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(text: &str) -> HttpTarget {
        text.parse().unwrap_or_else(|invalid| panic!("{text}: {invalid}"))
    }

    #[test]
    fn a_target_covers_its_own_host_and_port_alone() {
        let api = target("API.acme.example.:443");
        for host in ["api.acme.example", "Api.Acme.Example", "api.acme.example."] {
            assert!(api.covers(host, 443), "{host}");
        }
        for host in
            ["acme.example", "xapi.acme.example", "api.acme.example.evil.example", "x.api.acme.example", ""]
        {
            assert!(!api.covers(host, 443), "{host}");
        }
        assert!(!api.covers("api.acme.example", 80));
    }

    #[test]
    fn a_wildcard_is_one_label_and_no_more() {
        let any = target("*.acme.example:443");
        assert!(any.covers("api.acme.example", 443) && any.covers("x.ACME.example.", 443));
        for host in ["acme.example", "a.b.acme.example", ".acme.example", "api.acme.example.evil.example"] {
            assert!(!any.covers(host, 443), "{host}");
        }
    }

    #[test]
    fn an_address_is_compared_as_an_address() {
        assert!(target("[::1]:80").covers("[0:0:0:0:0:0:0:1]", 80));
        assert!(target("127.0.0.1:80").covers("127.0.0.1", 80));
        for host in ["127.1", "2130706433", "0x7f000001", "localhost", "[::1]", "::1"] {
            assert!(!target("127.0.0.1:80").covers(host, 80), "{host}");
        }
    }

    #[test]
    fn a_target_is_within_another_that_covers_all_that_it_covers() {
        let is_within = |inner, outer| target(inner).is_within(&target(outer));
        assert!(is_within("api.acme.example:443", "*.ACME.example.:443"));
        assert!(is_within("*.acme.example:443", "*.acme.example:443"));
        assert!(is_within("[0:0::1]:80", "[::1]:80"));
        for (inner, outer) in [
            ("*.acme.example:443", "api.acme.example:443"),
            ("acme.example:443", "*.acme.example:443"),
            ("a.b.acme.example:443", "*.acme.example:443"),
            ("*.b.acme.example:443", "*.acme.example:443"),
            ("api.acme.example:80", "*.acme.example:443"),
            ("127.0.0.1:80", "127.0.0.2:80"),
        ] {
            assert!(!is_within(inner, outer), "{inner} is not within {outer}");
        }
    }

    #[test]
    fn what_is_no_target_says_what_was_meant() {
        let meant = |text: &str| text.parse::<HttpTarget>().expect_err("refused").meant;
        assert_eq!(meant("api.acme.example").as_deref(), Some("api.acme.example:443"));
        assert_eq!(meant("https://api.acme.example/v1").as_deref(), Some("api.acme.example:443"));
        assert_eq!(meant("http://api.acme.example:8080").as_deref(), Some("api.acme.example:8080"));
        for wrong in [
            "",
            ":",
            "a:0",
            "a:65536",
            "a:-1",
            "*:443",
            "*.com:443",
            "a b:443",
            "::1:80",
            "127.1:80",
            "a..b:80",
            "a/b:80",
        ] {
            assert!(wrong.parse::<HttpTarget>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_target_is_read_back_as_it_is_shown(text in r"(\*\.)?[a-zA-Z][a-z0-9-]{0,9}\.[a-z]{2,5}\.?:[1-9][0-9]{0,3}") {
            let read = target(&text);
            prop_assert_eq!(target(&read.to_string()), read);
        }

        #[test]
        fn any_text_is_read_or_refused(text in r"\PC{0,40}", host in r"\PC{0,20}") {
            if let Ok(target) = text.parse::<HttpTarget>() {
                let _ = target.covers(&host, 443);
            }
        }
    }
}
