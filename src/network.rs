//! Addresses: subnets, the slices that nodes get of them, and the next free address in one.
//!
//! Owns the arithmetic. Never looks at a network interface.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// An IPv4 subnet in canonical form: no bit is set behind the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subnet {
    address: Ipv4Addr,
    prefix: u8,
}

/// Why a text is not a subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Not of the form `ADDRESS/PREFIX`.
    #[error("{text} is not a subnet; write it as 10.99.0.0/16")]
    Form {
        /// What was given.
        text: String,
    },
    /// Bits behind the prefix are set.
    #[error("{text} has bits set behind its prefix; write {canonical}")]
    Bits {
        /// What was given.
        text: String,
        /// What was probably meant.
        canonical: Subnet,
    },
}

impl Subnet {
    /// Bits of a node's part of the cluster's subnet.
    pub const NODE_PREFIX: u8 = 21;

    /// The subnet of that many bits that holds the address.
    #[must_use]
    pub fn of(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self { address: Ipv4Addr::from_bits(address.to_bits() & mask(prefix)), prefix }
    }

    /// The node's subnet that begins at this address.
    #[must_use]
    pub fn node(first: Ipv4Addr) -> Self {
        Self::of(first, Self::NODE_PREFIX)
    }

    /// Its first address: the network itself.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// How many leading bits are fixed.
    #[must_use]
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The host's own address in it: the first that is usable.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | 1)
    }

    /// Its last address: the broadcast.
    #[must_use]
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !mask(self.prefix))
    }

    /// Whether the address lies in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.prefix) == self.address.to_bits()
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The n-th node's part, from 0; none if the subnet holds fewer.
    #[must_use]
    pub fn slice(self, n: u32) -> Option<Self> {
        let spare = Self::NODE_PREFIX.checked_sub(self.prefix)?;
        if u64::from(n) >= 1 << spare {
            return None;
        }
        let first = self.address.to_bits() | (n << (32 - u32::from(Self::NODE_PREFIX)));
        Some(Self::node(Ipv4Addr::from_bits(first)))
    }

    /// The last node's part; none if the subnet is too small for one.
    #[must_use]
    pub fn last_slice(self) -> Option<Self> {
        self.slice(0).map(|_| Self::node(self.last()))
    }

    /// The next free address after `after`, wrapping round; never the network's, the gateway's or
    /// the broadcast's. Going on from the last one keeps an address unused for as long as possible,
    /// so that who still knows it does not reach a stranger.
    #[must_use]
    pub fn pick(self, used: &BTreeSet<Ipv4Addr>, after: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let first = self.gateway().to_bits().checked_add(1)?;
        let end = self.last().to_bits();
        let count = end.checked_sub(first).filter(|count| *count > 0)?;
        let start = match after.map(Ipv4Addr::to_bits) {
            Some(bits) if (first..end).contains(&bits) => bits - first + 1,
            _ => 0,
        };
        (0..count)
            .map(|step| Ipv4Addr::from_bits(first + (start + step) % count))
            .find(|address| !used.contains(address))
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.address, self.prefix))
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let form = || SubnetError::Form { text: text.to_owned() };
        let (address, prefix) = text.split_once('/').ok_or_else(form)?;
        let address: Ipv4Addr = address.parse().map_err(|_| form())?;
        let prefix: u8 = prefix.parse().ok().filter(|p| *p <= 32).ok_or_else(form)?;
        let canonical = Self::of(address, prefix);
        if canonical.address != address {
            return Err(SubnetError::Bits { text: text.to_owned(), canonical });
        }
        Ok(canonical)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_are_read_and_refused() {
        assert_eq!(subnet("10.99.0.0/16").to_string(), "10.99.0.0/16");
        assert_eq!(subnet("0.0.0.0/0").last(), Ipv4Addr::BROADCAST);
        let text = |bad: &str| bad.parse::<Subnet>().unwrap_err().to_string();
        assert!(text("10.99.1.0/16").ends_with("write 10.99.0.0/16"));
        for bad in ["", "10.99.0.0", "10.99.0.0/33", "x/16", "10.99.0.0/-1"] {
            assert!(text(bad).contains("is not a subnet"), "{bad}");
        }
    }

    #[test]
    fn nodes_get_slices() {
        let cluster = subnet("10.99.0.0/16");
        assert_eq!(cluster.slice(0), Some(subnet("10.99.0.0/21")));
        assert_eq!(cluster.slice(1), Some(subnet("10.99.8.0/21")));
        assert_eq!(cluster.slice(31), Some(subnet("10.99.248.0/21")));
        assert_eq!(cluster.slice(32), None);
        assert_eq!(cluster.last_slice(), cluster.slice(31));
        assert_eq!(subnet("10.99.0.0/24").last_slice(), None);
        assert_eq!(subnet("10.99.0.0/24").slice(0), None);
        assert!(cluster.overlaps(subnet("10.99.8.0/21")));
        assert!(!subnet("10.99.0.0/21").overlaps(subnet("10.99.8.0/21")));
    }

    #[test]
    fn addresses_are_picked_in_turn() {
        let node = subnet("10.99.8.0/29");
        let ip = |last| Ipv4Addr::new(10, 99, 8, last);
        let mut used = BTreeSet::new();
        assert_eq!(node.gateway(), ip(1));
        assert_eq!(node.pick(&used, None), Some(ip(2)));
        assert_eq!(node.pick(&used, Some(ip(2))), Some(ip(3)));
        assert_eq!(node.pick(&used, Some(ip(6))), Some(ip(2)), "wraps before the broadcast");
        assert_eq!(node.pick(&used, Some(Ipv4Addr::LOCALHOST)), Some(ip(2)));
        used.extend([ip(2), ip(4)]);
        assert_eq!(node.pick(&used, Some(ip(3))), Some(ip(5)));
        used.extend((2..7).map(ip));
        assert_eq!(node.pick(&used, Some(ip(3))), None);
    }
}
