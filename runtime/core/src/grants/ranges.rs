//! Ranges of IP addresses, as an operator writes them: `10.1.0.0/16`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::reach::has_private;

/// Range of IP addresses that have a prefix in common, such as `10.1.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range(IpNet);

/// Error for text that is not a [`Range`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct InvalidRange {
    /// Description of what is wrong with the text.
    pub problem: &'static str,
    /// Range that may have been meant, if there is a likely one.
    pub meant: Option<String>,
}

impl Range {
    /// Whether the range has an address of this machine or of a private network.
    #[must_use]
    pub fn has_private(&self) -> bool {
        has_private(&self.0)
    }
}

impl FromStr for Range {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let refuse = |problem, meant: Option<IpNet>| {
            Err(InvalidRange { problem, meant: meant.map(|meant| meant.to_string()) })
        };
        if let Ok(address) = text.parse::<IpAddr>() {
            return refuse("it doesn't say how long the prefix is", Some(address.into()));
        }
        match text.parse::<IpNet>() {
            Err(_) => refuse("that is no address and length of a prefix", None),
            Ok(range) if range != range.trunc() => {
                refuse("the address has more than the prefix", Some(range.trunc()))
            }
            Ok(IpNet::V6(range))
                if range.prefix_len() >= MAPPED && range.addr().to_ipv4_mapped().is_some() =>
            {
                let inner = range.addr().to_ipv4_mapped().map(IpAddr::V4);
                let meant = inner.and_then(|inner| IpNet::new(inner, range.prefix_len() - MAPPED).ok());
                refuse("addresses of version 4 are written as such", meant)
            }
            Ok(range) => Ok(Self(range)),
        }
    }
}

/// Length of the prefix that all IPv4 addresses have when they are mapped to IPv6.
const MAPPED: u8 = 96;

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Set of addresses, as ranges. Ranges that contain each other or are adjacent are merged, so equal sets of addresses are
/// equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<IpNet>);

impl Ranges {
    /// Whether an address lies in one of the ranges.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(&address))
    }

    /// Whether all addresses of these ranges are in `other` as well.
    #[must_use]
    pub fn are_within(&self, other: &Self) -> bool {
        self.0.iter().all(|range| other.0.iter().any(|whole| whole.contains(range)))
    }

    /// Whether the set has no address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Range> for Ranges {
    fn from_iter<I: IntoIterator<Item = Range>>(ranges: I) -> Self {
        let ranges: Vec<IpNet> = ranges.into_iter().map(|Range(range)| range).collect();
        Self(IpNet::aggregate(&ranges))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_range_says_what_was_meant() {
        for (text, meant) in [
            ("10.0.0.1", Some("10.0.0.1/32")),
            ("::1", Some("::1/128")),
            ("10.0.0.1/8", Some("10.0.0.0/8")),
            ("fd00::1/16", Some("fd00::/16")),
            ("::ffff:10.0.0.0/104", Some("10.0.0.0/8")),
            ("::ffff:0.0.0.0/96", Some("0.0.0.0/0")),
            ("10.0.0.0/33", None),
            ("10.0.0/8", None),
            ("acme.example/8", None),
            ("/8", None),
            ("", None),
        ] {
            let invalid = text.parse::<Range>().expect_err(text);
            assert_eq!(invalid.meant.as_deref(), meant, "{text}");
            if let Some(meant) = meant {
                assert_eq!(meant.parse::<Range>().expect("what was meant is one").to_string(), meant);
            }
        }
    }

    #[test]
    fn equal_sets_of_addresses_are_equal_however_they_are_written() {
        let ranges = |texts: &[&str]| -> Ranges {
            texts.iter().map(|text| text.parse::<Range>().expect("a range")).collect()
        };
        let whole = ranges(&["10.0.0.0/8", "fd00::/8"]);
        assert_eq!(ranges(&["fd00::/8", "10.128.0.0/9", "10.0.0.0/9", "10.1.0.0/16"]), whole);
        assert_ne!(ranges(&["10.0.0.0/8"]), whole);
    }

    #[test]
    fn a_range_has_private_addresses_or_none() {
        for (text, has) in [
            ("10.1.0.0/16", true),
            ("0.0.0.0/0", true),
            ("::/0", true),
            ("::1/128", true),
            ("fd00::/8", true),
            ("8.8.8.0/24", false),
            ("2a00::/16", false),
        ] {
            assert_eq!(text.parse::<Range>().expect("a range").has_private(), has, "{text}");
        }
    }
}
