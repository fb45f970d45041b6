//! Where on the net an address lies: pure, and the last word before a connection is made.
//!
//! A guest that may talk to a name must not reach, by what that name resolves to, what only the host can reach: itself,
//! its neighbours, the metadata service of its cloud. So only what is known to be public is public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// On the public net.
    Public,
    /// Inside: this machine, or a private network. For whoever is granted it.
    Private,
    /// What no guest has any business with: metadata services, link-local, multicast and unassigned addresses, and
    /// those of translators and tunnels whose end can't be known.
    Never,
}

/// Metadata and control services of clouds that don't lie in a range that is never reached anyway.
const METADATA_V4: [Ipv4Addr; 2] = [
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba
    Ipv4Addr::new(168, 63, 129, 16),   // Azure
];
const METADATA_V6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32), // all of Amazon's: metadata, resolver, clock, identities of pods
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128), // Google
    (Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42), 128), // Scaleway
];

/// Ranges of version 4 that aren't public: the first address, the length of the prefix.
const RANGES_V4: [(Ipv4Addr, u32, Reach); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, Reach::Never), // this network, unspecified
    (Ipv4Addr::new(10, 0, 0, 0), 8, Reach::Private), // private
    (Ipv4Addr::new(100, 64, 0, 0), 10, Reach::Private), // shared behind a carrier's translator
    (Ipv4Addr::new(127, 0, 0, 0), 8, Reach::Private), // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16, Reach::Never), // link-local, most metadata services
    (Ipv4Addr::new(172, 16, 0, 0), 12, Reach::Private), // private
    (Ipv4Addr::new(192, 0, 0, 0), 24, Reach::Never), // protocol assignments, Oracle's metadata service
    (Ipv4Addr::new(192, 0, 2, 0), 24, Reach::Never), // documentation
    (Ipv4Addr::new(192, 31, 196, 0), 24, Reach::Never), // AS112
    (Ipv4Addr::new(192, 52, 193, 0), 24, Reach::Never), // multicast tunnels
    (Ipv4Addr::new(192, 88, 99, 0), 24, Reach::Never), // relays of 6to4
    (Ipv4Addr::new(192, 168, 0, 0), 16, Reach::Private), // private
    (Ipv4Addr::new(192, 175, 48, 0), 24, Reach::Never), // AS112
    (Ipv4Addr::new(198, 18, 0, 0), 15, Reach::Never), // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24, Reach::Never), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24, Reach::Never), // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 3, Reach::Never), // multicast, reserved, broadcast
];

/// Ranges of version 6 inside 2000::/3 that aren't public. Outside of it, only what is named below is reached at all.
const RANGES_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48), // AS112
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// Where an address lies. An address of version 4 inside one of version 6 lies where it lies by itself.
pub(crate) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => reach_v4(inner),
            None => reach_v6(address),
        },
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    if METADATA_V4.contains(&address) {
        return Reach::Never;
    }
    let bits = address.to_bits();
    let within = |(first, prefix, _): &&(Ipv4Addr, u32, Reach)| same_prefix(bits, first.to_bits(), *prefix);
    RANGES_V4.iter().find(within).map_or(Reach::Public, |(.., reach)| *reach)
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    let bits = address.to_bits();
    let within =
        |(first, prefix): &(Ipv6Addr, u32)| bits >> (128 - prefix) == first.to_bits() >> (128 - prefix);
    if METADATA_V6.iter().any(within) {
        return Reach::Never;
    }
    // Loopback and unique-local addresses.
    if address == Ipv6Addr::LOCALHOST || address.segments()[0] & 0xfe00 == 0xfc00 {
        return Reach::Private;
    }
    let is_global = address.segments()[0] & 0xe000 == 0x2000;
    if is_global && !RANGES_V6.iter().any(within) { Reach::Public } else { Reach::Never }
}

/// The address of version 4 that one of version 6 stands for: mapped (`::ffff:a.b.c.d`), compatible (`::a.b.c.d`),
/// translated (`64:ff9b::a.b.c.d`) or tunnelled by 6to4 (`2002:aabb:ccdd::`).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let last = |[.., g, h]: [u16; 8]| Ipv4Addr::from_bits(u32::from(g) << 16 | u32::from(h));
    match address.segments() {
        // Unspecified and loopback have the form of compatible ones.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        all @ ([0, 0, 0, 0, 0, 0 | 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..]) => Some(last(all)),
        [0x2002, a, b, ..] => Some(Ipv4Addr::from_bits(u32::from(a) << 16 | u32::from(b))),
        _ => None,
    }
}

fn same_prefix(a: u32, b: u32, prefix: u32) -> bool {
    a >> (32 - prefix) == b >> (32 - prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Reach {
        reach(text.parse().expect("an address"))
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
                let shown = reach(IpAddr::V6(disguise));
                let same = shown == reach(IpAddr::V4(inner));
                prop_assert!(same || disguise == Ipv6Addr::LOCALHOST && shown == Reach::Private, "{}", disguise);
            }
        }

        #[test]
        fn what_the_standard_library_calls_internal_is_never_public(bits in any::<u32>(), wide in any::<u128>()) {
            let v4 = Ipv4Addr::from_bits(bits);
            if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() {
                prop_assert!(reach(IpAddr::V4(v4)) != Reach::Public, "{}", v4);
            }
            let v6 = Ipv6Addr::from_bits(wide);
            if v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast() || v6.is_loopback() {
                prop_assert!(reach(IpAddr::V6(v6)) != Reach::Public, "{}", v6);
            }
        }

        #[test]
        fn outside_of_the_global_range_nothing_is_public_but_what_is_embedded(wide in any::<u128>()) {
            let address = Ipv6Addr::from_bits(wide);
            if address.segments()[0] & 0xe000 != 0x2000 && embedded(address).is_none() {
                prop_assert!(reach(IpAddr::V6(address)) != Reach::Public, "{}", address);
            }
        }
    }
}
