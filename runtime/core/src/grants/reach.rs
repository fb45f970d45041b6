//! Reachability of IP addresses: where on the net one lies, and whether a request may go to it. This is the last check
//! before a connection is made.
//!
//! A guest that may talk to a name must not reach, by what that name resolves to, what only the host can reach: the host
//! itself, its neighbours, the metadata service of its cloud. So only what is known to be public is public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::ranges::Ranges;
use super::{Grants, Private};

/// Part of the net in which an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The public net.
    Public,
    /// This machine, or a private network: reached only by plugins that are granted it.
    Private,
    /// Addresses that no guest ever reaches: metadata services, link-local, multicast and unassigned addresses, and those of
    /// translators and tunnels whose end can't be known.
    Never,
}

/// Reason why a request may not go to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRefusal {
    /// The address is of this machine or of a private network, and not granted as such.
    Private,
    /// The operator denies the address to all plugins.
    Denied,
    /// The address is never reached, whatever is granted.
    Never,
}

impl Grants {
    /// Whether requests to a host and port are granted, to at least one of its addresses.
    #[must_use]
    pub fn allow_http(&self, host: &str, port: u16) -> bool {
        self.http.iter().any(|grant| grant.to.covers(host, port))
    }

    /// Checks whether requests to a host and port may go to an address that the host resolves to. If several grants cover
    /// the host, one that allows the address is enough. Addresses that the operator has `denied` are refused whatever is
    /// granted.
    ///
    /// # Errors
    /// Requests to that host and port may not go to that address.
    pub fn check_address(
        &self,
        host: &str,
        port: u16,
        address: IpAddr,
        denied: &Ranges,
    ) -> Result<(), AddressRefusal> {
        let plain = plain(address);
        let reach = reach(plain);
        if reach == Reach::Never {
            return Err(AddressRefusal::Never);
        }
        // Tunnels and translators can be denied as such, and an address that is denied is denied in each embedded form as
        // well.
        if denied.contain(address) || denied.contain(plain) {
            return Err(AddressRefusal::Denied);
        }
        let mut grants = self.http.iter().filter(|grant| grant.to.covers(host, port));
        match reach == Reach::Public || grants.any(|grant| grant.private.allows(plain)) {
            true => Ok(()),
            false => Err(AddressRefusal::Private),
        }
    }
}

impl Private {
    /// Whether this allows requests to a private address.
    fn allows(&self, address: IpAddr) -> bool {
        match self {
            Self::Refuse => false,
            Self::Allow => true,
            Self::Within(ranges) => ranges.contain(address),
        }
    }

    /// Whether everything that this allows is allowed by `other` as well.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Refuse, _) | (_, Self::Allow) => true,
            (Self::Within(own), Self::Within(other)) => own.are_within(other),
            (Self::Within(own), Self::Refuse) => own.is_empty(),
            (Self::Allow, Self::Refuse | Self::Within(_)) => false,
        }
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, last: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last), prefix)
}

/// Metadata and control services of clouds that don't lie in a range that is never reached anyway.
const METADATA_V4: [Ipv4Net; 2] = [
    v4(100, 100, 100, 200, 32), // Alibaba
    v4(168, 63, 129, 16, 32),   // Azure
];
const METADATA_V6: [Ipv6Net; 3] = [
    v6(0xfd00, 0xec2, 0, 0, 32), // all of Amazon's: metadata, resolver, clock, identities of pods
    v6(0xfd20, 0xce, 0, 0x254, 128), // Google
    v6(0xfd00, 0x42, 0, 0x42, 128), // Scaleway
];

/// Addresses of this machine, and of private networks.
const PRIVATE_V4: [Ipv4Net; 5] = [
    v4(10, 0, 0, 0, 8),     // private
    v4(100, 64, 0, 0, 10),  // shared behind a carrier's translator
    v4(127, 0, 0, 0, 8),    // loopback
    v4(172, 16, 0, 0, 12),  // private
    v4(192, 168, 0, 0, 16), // private
];
const PRIVATE_V6: [Ipv6Net; 2] = [
    v6(0, 0, 0, 1, 128),    // loopback
    v6(0xfc00, 0, 0, 0, 7), // unique local
];

/// IPv4 ranges that are never reached.
const NEVER_V4: [Ipv4Net; 12] = [
    v4(0, 0, 0, 0, 8),       // this network, unspecified
    v4(169, 254, 0, 0, 16),  // link-local, most metadata services
    v4(192, 0, 0, 0, 24),    // protocol assignments, Oracle's metadata service
    v4(192, 0, 2, 0, 24),    // documentation
    v4(192, 31, 196, 0, 24), // AS112
    v4(192, 52, 193, 0, 24), // multicast tunnels
    v4(192, 88, 99, 0, 24),  // relays of 6to4
    v4(192, 175, 48, 0, 24), // AS112
    v4(198, 18, 0, 0, 15),   // benchmarks
    v4(198, 51, 100, 0, 24), // documentation
    v4(203, 0, 113, 0, 24),  // documentation
    v4(224, 0, 0, 0, 3),     // multicast, reserved, broadcast
];

/// The only IPv6 range that has public addresses, and its parts that aren't public.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 0, 3);
const NEVER_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 0, 0, 23),         // protocol assignments, Teredo
    v6(0x2001, 0xdb8, 0, 0, 32),     // documentation
    v6(0x2620, 0x4f, 0x8000, 0, 48), // AS112
    v6(0x3fff, 0, 0, 0, 20),         // documentation
];

/// Whether a range has an address that can be granted as a private one.
pub(super) fn has_private(range: &IpNet) -> bool {
    match range {
        IpNet::V4(range) => PRIVATE_V4.iter().any(|net| net.contains(range) || range.contains(net)),
        IpNet::V6(range) => PRIVATE_V6.iter().any(|net| net.contains(range) || range.contains(net)),
    }
}

/// Returns the IPv4 address that is embedded in an IPv6 one, which counts in its place; or the address itself.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(outer) => embedded(outer).map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// Classifies an address from [`plain`].
fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let lies_in = |ranges: &[Ipv4Net]| ranges.iter().any(|range| range.contains(&address));
    if lies_in(&METADATA_V4) || lies_in(&NEVER_V4) {
        Reach::Never
    } else if lies_in(&PRIVATE_V4) {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let lies_in = |ranges: &[Ipv6Net]| ranges.iter().any(|range| range.contains(&address));
    if lies_in(&METADATA_V6) || lies_in(&NEVER_V6) {
        Reach::Never
    } else if lies_in(&PRIVATE_V6) {
        Reach::Private
    } else if GLOBAL_V6.contains(&address) {
        Reach::Public
    } else {
        Reach::Never
    }
}

/// Returns the IPv4 address for which an IPv6 one stands: mapped (`::ffff:a.b.c.d`), compatible (`::a.b.c.d`), translated
/// (`64:ff9b::a.b.c.d`) or tunnelled by 6to4 (`2002:aabb:ccdd::`). `None` for any other.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = |[.., g, h]: [u16; 8]| Ipv4Addr::from_bits(u32::from(g) << 16 | u32::from(h));
    match address.segments() {
        // The unspecified and the loopback address look like compatible ones.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        all @ ([0, 0, 0, 0, 0, 0 | 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..]) => Some(last(all)),
        [0x2002, a, b, ..] => Some(Ipv4Addr::from_bits(u32::from(a) << 16 | u32::from(b))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::HttpGrant;
    use super::*;
    use proptest::prelude::*;

    fn lies(address: IpAddr) -> Reach {
        reach(plain(address))
    }

    fn of(text: &str) -> Reach {
        lies(text.parse().expect("an address"))
    }

    fn ranges(texts: &[&str]) -> Ranges {
        texts.iter().map(|text| text.parse().expect("a range")).collect()
    }

    /// A grant of one host, with these private addresses of it.
    fn granted(private: Private) -> Grants {
        let to = "api.acme.example:443".parse().expect("a target");
        Grants { http: vec![HttpGrant { to, private }], ..Grants::default() }
    }

    fn check(grants: &Grants, address: &str, denied: &Ranges) -> Result<(), AddressRefusal> {
        let address = address.parse().expect("an address");
        grants.check_address("api.acme.example", 443, address, denied)
    }

    #[test]
    fn a_private_address_is_reached_as_far_as_it_is_granted() {
        let (nobody, within) = (Ranges::default(), |texts| Private::Within(ranges(texts)));
        let private = Err(AddressRefusal::Private);
        for (grant, address, expected) in [
            (Private::Refuse, "10.1.2.3", private),
            (Private::Allow, "10.1.2.3", Ok(())),
            (within(&["10.1.0.0/16"]), "10.1.2.3", Ok(())),
            (within(&["10.1.0.0/16"]), "::ffff:10.1.2.3", Ok(())),
            (within(&["10.1.0.0/16"]), "10.2.0.0", private),
            (within(&["10.1.0.0/16"]), "64:ff9b::10.2.0.0", private),
            (within(&["10.1.0.0/16"]), "::1", private),
            (within(&["10.1.0.0/16"]), "1.1.1.1", Ok(())),
            (within(&["10.1.0.0/16", "fd12::/16"]), "fd12::1", Ok(())),
            (within(&["fc00::/7"]), "fd00:ec2::254", Err(AddressRefusal::Never)),
            (within(&["0.0.0.0/0"]), "169.254.169.254", Err(AddressRefusal::Never)),
            (within(&["::/0"]), "10.1.2.3", private),
            (within(&[]), "10.1.2.3", private),
        ] {
            assert_eq!(check(&granted(grant.clone()), address, &nobody), expected, "{grant:?} {address}");
        }
        let mut both = granted(within(&["10.1.0.0/16"]));
        both.http.extend(granted(within(&["10.2.0.0/16"])).http);
        both.http
            .push(HttpGrant { to: "*.acme.example:80".parse().expect("a target"), private: Private::Allow });
        let reached =
            ["10.1.0.1", "10.2.0.1", "10.3.0.1"].map(|address| check(&both, address, &nobody).is_ok());
        assert_eq!(reached, [true, true, false], "each grant of that host and port counts, and no other");
    }

    #[test]
    fn what_the_operator_denies_is_not_reached_whatever_is_granted_and_in_no_disguise() {
        let denied = ranges(&["10.0.0.0/8", "203.0.112.0/24", "2a00:1450::/32", "64:ff9b::/96"]);
        let grants = granted(Private::Allow);
        for address in [
            "10.1.2.3",
            "::ffff:10.1.2.3",
            "2002:a01:203::",
            "203.0.112.7",
            "2a00:1450::1",
            "64:ff9b::1.1.1.1",
        ] {
            assert_eq!(check(&grants, address, &denied), Err(AddressRefusal::Denied), "{address}");
        }
        for address in ["192.168.1.1", "1.1.1.1", "2a00:1451::1", "::ffff:1.1.1.1"] {
            assert_eq!(check(&grants, address, &denied), Ok(()), "{address}");
        }
    }

    #[test]
    fn ranges_are_within_those_that_hold_all_of_their_addresses() {
        let within = |texts| Private::Within(ranges(texts));
        for (inner, outer, expected) in [
            (Private::Refuse, Private::Refuse, true),
            (Private::Refuse, within(&[]), true),
            (within(&["10.1.0.0/16"]), Private::Allow, true),
            (within(&["10.1.0.0/16"]), within(&["10.0.0.0/8"]), true),
            (within(&["10.0.0.0/8"]), within(&["10.0.0.0/9", "10.128.0.0/9"]), true),
            (within(&["10.0.0.0/8"]), within(&["10.0.0.0/9"]), false),
            (within(&["10.0.0.0/8"]), Private::Refuse, false),
            (within(&[]), Private::Refuse, true),
            (Private::Allow, within(&["0.0.0.0/0", "::/0"]), false),
            (Private::Allow, Private::Refuse, false),
            (Private::Allow, Private::Allow, true),
        ] {
            assert_eq!(inner.is_within(&outer), expected, "{inner:?} within {outer:?}");
        }
    }

    #[test]
    fn each_range_lies_where_it_lies() {
        let public = ["1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0"];
        let more = [
            "9.255.255.255",
            "11.0.0.0",
            "169.253.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
        ];
        for address in public.into_iter().chain(more) {
            assert_eq!(of(address), Reach::Public, "{address}");
        }
        let private =
            ["127.0.0.1", "127.255.255.255", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"];
        let more = ["100.64.0.1", "100.127.255.255", "::1", "fc00::1", "fdff:ffff::1"];
        for address in private.into_iter().chain(more) {
            assert_eq!(of(address), Reach::Private, "{address}");
        }
        let never = [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "192.0.0.192",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "192.88.99.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:ec2:0:1::123",
            "fd20:ce::254",
            "fd00:42::42",
            "2001:db8::1",
            "3fff::1",
            "2001::1",
            "100::1",
            "64:ff9b:1::1",
            "5f00::1",
            "4000::1",
        ];
        for address in never {
            assert_eq!(of(address), Reach::Never, "{address}");
        }
    }

    #[test]
    fn an_address_inside_another_lies_where_it_lies_by_itself() {
        for (address, inner) in [
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("::127.0.0.1", "127.0.0.1"),
            ("64:ff9b::169.254.169.254", "169.254.169.254"),
            ("64:ff9b::8.8.8.8", "8.8.8.8"),
            ("2002:7f00:1::", "127.0.0.1"),
            ("2002:a9fe:a9fe::1", "169.254.169.254"),
            ("::ffff:0:10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(of(address), of(inner), "{address}");
        }
    }

    proptest! {
        #[test]
        fn no_disguise_makes_an_address_public(bits in any::<u32>(), rest in any::<u64>()) {
            let inner = Ipv4Addr::from_bits(bits);
            let [a, b] = [(bits >> 16) as u16, bits as u16];
            let rest = rest as u16;
            let disguises = [
                inner.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
                Ipv6Addr::new(0x2002, a, b, rest, rest, rest, rest, rest),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, a, b),
            ];
            for disguise in disguises {
                let shown = lies(IpAddr::V6(disguise));
                let same = shown == lies(IpAddr::V4(inner));
                prop_assert!(same || disguise == Ipv6Addr::LOCALHOST && shown == Reach::Private, "{}", disguise);
            }
        }

        #[test]
        fn what_the_standard_library_calls_internal_is_never_public(bits in any::<u32>(), wide in any::<u128>()) {
            let v4 = Ipv4Addr::from_bits(bits);
            if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() {
                prop_assert!(lies(IpAddr::V4(v4)) != Reach::Public, "{}", v4);
            }
            let v6 = Ipv6Addr::from_bits(wide);
            if v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast() || v6.is_loopback() {
                prop_assert!(lies(IpAddr::V6(v6)) != Reach::Public, "{}", v6);
            }
        }

        #[test]
        fn outside_of_the_global_range_nothing_is_public_but_what_is_embedded(wide in any::<u128>()) {
            let address = Ipv6Addr::from_bits(wide);
            if address.segments()[0] & 0xe000 != 0x2000 && embedded(address).is_none() {
                prop_assert!(lies(IpAddr::V6(address)) != Reach::Public, "{}", address);
            }
        }

        /// What is granted and what is denied are one rule: denied alone decides where both have a say.
        #[test]
        fn what_may_be_reached_is_public_or_granted_and_never_denied(
            bits in any::<u32>(), granted_to in 0_u8..=32, denied_to in 0_u8..=32, near in 0_u32..4,
        ) {
            let address = Ipv4Addr::from_bits(bits);
            let around = |at: u32, prefix| IpNet::from(Ipv4Net::new_assert(Ipv4Addr::from_bits(at), prefix).trunc());
            let (grant, denial) = (around(bits, granted_to), around(bits ^ near, denied_to));
            let texts = |net: IpNet| ranges(&[net.to_string().as_str()]);
            let grants = granted(Private::Within(texts(grant)));
            let expected = match lies(IpAddr::V4(address)) {
                Reach::Never => Err(AddressRefusal::Never),
                _ if denial.contains(&IpAddr::V4(address)) => Err(AddressRefusal::Denied),
                _ => Ok(()),
            };
            prop_assert_eq!(check(&grants, &address.to_string(), &texts(denial)), expected);
            let disguised = address.to_ipv6_mapped().to_string();
            prop_assert_eq!(check(&grants, &disguised, &texts(denial)), expected);
        }
    }
}
