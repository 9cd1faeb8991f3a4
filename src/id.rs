//! Identifiers: a newtype for everything that has an identity.
//!
//! Owns what an id looks like and how it is printed and parsed. Never makes one up: randomness is
//! an input of the functions that build ids.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }
    };
}

number_id!(
    /// A node; the raft id too. Counts up from 1 and is never used again.
    NodeId, u64
);
/// The node that begins a cluster.
pub const FIRST_NODE: NodeId = NodeId(1);

number_id!(
    /// One start of a daemon process: random, so that what an earlier process sent is recognised.
    BootId, u64
);
number_id!(
    /// A revision: one integer counter a cluster, from 1.
    Revision, u64
);
number_id!(
    /// The index of an entry in the raft log.
    Index, u64
);
number_id!(
    /// A term of the raft log: the reign of one leader, or an election without one.
    Term, u64
);
number_id!(
    /// The n-th start of an allocation's container, from 1.
    Attempt, u32
);
number_id!(
    /// A cluster's life: changed by restore and by recovery from a lost quorum.
    Incarnation, u64
);

text_id!(
    /// An allocation: `NAME-REPLICA-XXXX` for a service, `NAME-XXXX` for a task.
    AllocId
);
text_id!(
    /// An app: what one file owns.
    AppName
);
text_id!(
    /// A service or a task: unique in the cluster.
    WorkloadName
);
text_id!(
    /// A secret: name parts joined by dots.
    SecretName
);
text_id!(
    /// A volume: unique in the cluster.
    VolumeName
);
text_id!(
    /// The hash of a specification, hexadecimal.
    SpecHash
);
text_id!(
    /// The public part of an API token.
    TokenId
);
text_id!(
    /// A content digest, `sha256:` and 64 hexadecimal digits.
    Digest
);
text_id!(
    /// A container: `ALLOC.ATTEMPT`, the name that containerd knows it by.
    ContainerId
);

/// Letters of the random part of an allocation id; none that is read as another.
const ID_LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The random four letters at an allocation id's end, from 32 random bits.
#[must_use]
pub fn suffix(random: u32) -> String {
    (0..4).map(|i| char::from(ID_LETTERS[(random >> (5 * i)) as usize % 32])).collect()
}

impl AllocId {
    /// The id of a service's replica, for example `web-0-k3f9`.
    #[must_use]
    pub fn service(name: &WorkloadName, replica: u32, random: u32) -> Self {
        format!("{name}-{replica}-{}", suffix(random)).into()
    }

    /// The id of a task's run, for example `migrate-p02d`.
    #[must_use]
    pub fn task(name: &WorkloadName, random: u32) -> Self {
        format!("{name}-{}", suffix(random)).into()
    }
}

impl ContainerId {
    /// The container of an allocation's n-th start.
    #[must_use]
    pub fn new(alloc: &AllocId, attempt: Attempt) -> Self {
        format!("{alloc}.{attempt}").into()
    }

    /// Which start of which allocation it is; `None` if mill never made such a name.
    #[must_use]
    pub fn parts(&self) -> Option<(AllocId, Attempt)> {
        let (alloc, attempt) = self.0.rsplit_once('.')?;
        Some((alloc.into(), Attempt(attempt.parse().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocation_ids_read_as_documented() {
        assert_eq!(AllocId::service(&"web".into(), 0, 0).as_str(), "web-0-aaaa");
        assert_eq!(AllocId::task(&"migrate".into(), u32::MAX).as_str(), "migrate-9999");
    }
    #[test]
    fn containers_are_named_after_their_start() {
        let id = ContainerId::new(&"web-0-k3f9".into(), Attempt(3));
        assert_eq!(id.as_str(), "web-0-k3f9.3");
        assert_eq!(id.parts(), Some(("web-0-k3f9".into(), Attempt(3))));
        assert_eq!(ContainerId::from("web").parts(), None);
    }
}
