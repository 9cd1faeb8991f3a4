//! Ranges of IP addresses as people write them: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`.
//!
//! Owns what a range contains. Never looks an address up.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;

/// A range of addresses, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    first: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The range in a text; an address alone is a range of one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().ok()?;
        let widest = if first.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => widest,
        };
        let range = Self { first, prefix };
        (prefix <= widest && range.network(first) == range.network_bits()).then_some(range)
    }

    /// Whether an address is in it. An IPv4 address in IPv6's clothes counts as what it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4()
            && self.network(address) == self.network(self.first)
    }

    fn network_bits(&self) -> u128 {
        match self.first {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        }
    }

    /// An address with everything behind the prefix cleared.
    fn network(&self, address: IpAddr) -> u128 {
        let (bits, width) = match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let host = width - u32::from(self.prefix);
        bits.checked_shr(host).and_then(|bits| bits.checked_shl(host)).unwrap_or(0)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a range of addresses"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    #[parameterized(
        inside = { "10.0.0.0/8", "10.1.2.3", true },
        outside = { "10.0.0.0/8", "11.1.2.3", false },
        one = { "192.0.2.7", "192.0.2.7", true },
        all = { "0.0.0.0/0", "203.0.113.1", true },
        six = { "2001:db8::/32", "2001:db8:1::1", true },
        all_six = { "::/0", "2001:db8::1", true },
        other_family = { "0.0.0.0/0", "2001:db8::1", false },
        mapped = { "10.0.0.0/8", "::ffff:10.9.9.9", true },
    )]
    fn a_range_contains_what_has_its_prefix(range: &str, address: &str, inside: bool) {
        let range = Cidr::parse(range).unwrap();
        assert_eq!(range.contains(address.parse().unwrap()), inside);
        assert_eq!(Cidr::parse(&range.to_string()), Some(range));
    }

    #[parameterized(
        no_prefix = { "10.0.0.0/" },
        wide = { "10.0.0.0/33" },
        host_bits = { "10.1.0.0/8" },
        name = { "localhost" },
        signed = { "10.0.0.0/+8" },
    )]
    fn anything_else_is_no_range(text: &str) {
        assert_eq!(Cidr::parse(text), None);
    }
}
