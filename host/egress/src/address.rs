//! Which addresses are public. Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries, RFC 6890, RFC 8190.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether `address` is globally reachable unicast. Everything else is refused: private, loopback, link-local (with
/// the clouds' metadata services), shared, documentation, benchmarking, multicast, reserved; and in IPv6 each form
/// that carries another address inside (mapped, NAT64, 6to4, Teredo), because what is inside may be private.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !V4.iter().any(|(net, bits)| within_v4(v4, *net, *bits)),
        IpAddr::V6(v6) => {
            within_v6(v6, GLOBAL_UNICAST.0, GLOBAL_UNICAST.1)
                && !V6.iter().any(|(net, bits)| within_v6(v6, *net, *bits))
        }
    }
}

fn within_v4(address: Ipv4Addr, net: Ipv4Addr, bits: u32) -> bool {
    (address.to_bits() ^ net.to_bits()) >> (32 - bits) == 0
}

fn within_v6(address: Ipv6Addr, net: Ipv6Addr, bits: u32) -> bool {
    (address.to_bits() ^ net.to_bits()) >> (128 - bits) == 0
}

const fn v4(a: u8, b: u8, c: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, 0)
}

const fn v6(a: u16, b: u16) -> Ipv6Addr {
    Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0)
}

const V4: [(Ipv4Addr, u32); 15] = [
    (v4(0, 0, 0), 8),       // this network
    (v4(10, 0, 0), 8),      // private
    (v4(100, 64, 0), 10),   // shared (carrier NAT)
    (v4(127, 0, 0), 8),     // loopback
    (v4(169, 254, 0), 16),  // link-local, metadata services
    (v4(172, 16, 0), 12),   // private
    (v4(192, 0, 0), 24),    // protocol assignments
    (v4(192, 0, 2), 24),    // documentation
    (v4(192, 88, 99), 24),  // 6to4 relays
    (v4(192, 168, 0), 16),  // private
    (v4(198, 18, 0), 15),   // benchmarking
    (v4(198, 51, 100), 24), // documentation
    (v4(203, 0, 113), 24),  // documentation
    (v4(224, 0, 0), 4),     // multicast
    (v4(240, 0, 0), 4),     // reserved, broadcast
];

/// Outside of it lie ::, ::1, ::ffff:0:0/96 (mapped), 64:ff9b::/96 and 64:ff9b:1::/48 (NAT64), 100::/64, 5f00::/16,
/// fc00::/7, fe80::/10, fec0::/10 and ff00::/8.
const GLOBAL_UNICAST: (Ipv6Addr, u32) = (v6(0x2000, 0), 3);

const V6: [(Ipv6Addr, u32); 4] = [
    (v6(0x2001, 0), 23),     // protocol assignments, with Teredo, ORCHID
    (v6(0x2001, 0xdb8), 32), // documentation
    (v6(0x2002, 0), 16),     // 6to4
    (v6(0x3fff, 0), 20),     // documentation
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_global_unicast_is_public() {
        let check = |public: bool, addresses: &[&str]| {
            for text in addresses {
                assert_eq!(is_public(text.parse().unwrap()), public, "{text}");
            }
        };
        check(
            true,
            &["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255"],
        );
        check(true, &["172.32.0.0", "192.0.1.0", "198.17.255.255", "198.20.0.0", "223.255.255.255"]);
        check(true, &["2606:4700:4700::1111", "2001:200::1", "2a00:1450::1", "3ffe::1"]);
        check(
            false,
            &["0.0.0.0", "10.1.2.3", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.255.255"],
        );
        check(false, &["169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1"]);
        check(false, &["192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255", "198.51.100.1"]);
        check(false, &["203.0.113.9", "224.0.0.1", "240.0.0.1", "255.255.255.255"]);
        check(false, &["::", "::1", "::ffff:127.0.0.1", "::ffff:1.1.1.1", "::127.0.0.1", "64:ff9b::7f00:1"]);
        check(false, &["64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1"]);
        check(false, &["5f00::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1"]);
    }
}
