//! What can go wrong with the network, each with its remedy.
//!
//! Owns the words. Never retries.

use crate::network::{Protocol, Subnet};
use std::io;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

/// Why the network is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The instance's name would not fit into an interface's.
    #[error("the instance id {instance:?} is not 1 to 8 hexadecimal digits")]
    Instance {
        /// What was given.
        instance: String,
    },
    /// Another interface has addresses of the subnet.
    #[error("subnet {subnet} overlaps {taken} of interface {link}; pass another --subnet")]
    SubnetTaken {
        /// The node's.
        subnet: Subnet,
        /// The interface's.
        taken: Subnet,
        /// Its name.
        link: String,
    },
    /// The kernel refused a change of interfaces, addresses or routes.
    #[error("can't {what}: {source}{remedy}")]
    Netlink {
        what: String,
        /// What to do about it.
        remedy: &'static str,
        source: Box<rtnetlink::Error>,
    },
    /// The kernel did not answer.
    #[error("can't {what}: the kernel gave no answer within {after:?}; the host is overloaded")]
    NetlinkSlow {
        what: String,
        /// How long it had.
        after: Duration,
    },
    /// An interface of ours is not there any more.
    #[error("interface {name} is gone; something else on this host removes interfaces")]
    InterfaceGone { name: String },
    /// A namespace could not be made, entered or removed.
    #[error("network namespace {}: {source}; mill must run as root", path.display())]
    Namespace {
        /// Where it is or should be mounted.
        path: PathBuf,
        source: io::Error,
    },
    /// A directory or a kernel setting could not be written.
    #[error("can't write {}: {source}; mill must run as root, with /proc/sys writable",
            path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The program `nft` did not run.
    #[error("can't run nft: {source}; install it: apt-get install nftables")]
    NoNft { source: io::Error },
    /// The rules were refused.
    #[error("nft refused the rules: {message}; {remedy}")]
    Nft {
        /// Its first line.
        message: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// `nft` did not answer.
    #[error("nft gave no answer within {after:?}; the host is overloaded or nftables is stuck")]
    NftSlow {
        /// How long it had.
        after: Duration,
    },
    /// A port could not be reserved for another reason than that it is taken.
    #[error("can't open {address}/{protocol}: {source}")]
    Reserve {
        /// The host's address and port.
        address: SocketAddrV4,
        protocol: Protocol,
        source: io::Error,
    },
}
