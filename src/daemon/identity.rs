//! Who a node is: the one file that makes it a member.
//!
//! Owns reading and writing it, durably. Never changes it once it is written.

use crate::fsm::Cluster;
use crate::fsm::command::Init;
use crate::id::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

const FILE: &str = "identity.json";

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Identity {
    pub node: NodeId,
    /// Its name when it became a member.
    pub name: String,
    /// Where others reach it.
    pub address: String,
    /// First address of its containers' subnet.
    pub subnet: Ipv4Addr,
    /// The cluster that it belongs to.
    pub cluster: Cluster,
    /// Of the first node: the cluster's beginning, proposed again until it is in the log.
    pub init: Option<Init>,
    /// Of the others: where the members were when it joined, by their ids.
    pub members: BTreeMap<NodeId, String>,
    /// The log has been begun: from then on a missing one is a loss.
    pub begun: bool,
    /// Whether the address is one that the host doesn't have, translated on the way to it; absent:
    /// of a version that didn't ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat: Option<bool>,
}

impl Identity {
    /// Of the first node of a cluster.
    #[must_use]
    pub fn first(init: Init) -> Self {
        Self {
            node: NodeId(1),
            name: init.node_name.clone(),
            address: init.address.clone(),
            subnet: init.subnet,
            cluster: cluster_of(&init),
            init: Some(init),
            members: BTreeMap::new(),
            begun: false,
            nat: None,
        }
    }
}

fn cluster_of(init: &Init) -> Cluster {
    Cluster {
        name: init.cluster.clone(),
        id: init.cluster_id.clone(),
        incarnation: init.incarnation,
        subnet: init.subnet,
        prefix: init.prefix,
    }
}

/// The file's form: before nodes could join, all was in `init`.
#[derive(Deserialize)]
struct Stored {
    node: NodeId,
    subnet: Ipv4Addr,
    begun: bool,
    init: Option<Init>,
    name: Option<String>,
    address: Option<String>,
    cluster: Option<Cluster>,
    #[serde(default)]
    members: BTreeMap<NodeId, String>,
    #[serde(default)]
    nat: Option<bool>,
}

impl TryFrom<Stored> for Identity {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let Stored { node, subnet, begun, init, name, address, cluster, members, nat } = stored;
        let missing = "neither cluster nor init";
        Ok(Self {
            name: name.or(init.as_ref().map(|init| init.node_name.clone())).ok_or(missing)?,
            address: address.or(init.as_ref().map(|init| init.address.clone())).ok_or(missing)?,
            cluster: cluster.or(init.as_ref().map(cluster_of)).ok_or(missing)?,
            node,
            subnet,
            init,
            members,
            begun,
            nat,
        })
    }
}

/// Why the identity can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system.
    #[error("{what} {path}", path = path.display())]
    Io {
        what: &'static str,
        /// On which file.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path} is damaged; restore it from a backup, or wipe this node: mill clean",
        path = path.display()
    )]
    Damaged {
        path: PathBuf,
        /// Where.
        #[source]
        source: serde_json::Error,
    },
}

impl Identity {
    /// The identity in a data directory, if the node has one.
    ///
    /// # Errors
    /// The file can't be read or holds something else.
    pub fn read(data: &Path) -> Result<Option<Self>, IdentityError> {
        let path = data.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| IdentityError::Damaged { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::Io { what: "reading", path, source }),
        }
    }

    /// Writes the identity: whole or not at all, and durable when this returns.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, data: &Path) -> Result<(), IdentityError> {
        let path = data.join(FILE);
        let failed = |source| IdentityError::Io { what: "writing", path: path.clone(), source };
        let draft = data.join("identity.json.new");
        let bytes = serde_json::to_vec_pretty(self).map_err(|e| failed(io::Error::other(e)))?;
        let mut file = File::create(&draft).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&draft, &path).map_err(failed)?;
        File::open(data).and_then(|dir| dir.sync_all()).map_err(failed)
    }

    /// Forgets it: the node is no member from the next start on.
    ///
    /// # Errors
    /// The file can't be removed.
    pub fn wipe(data: &Path) -> Result<(), IdentityError> {
        let path = data.join(FILE);
        let failed = |source| IdentityError::Io { what: "removing", path: path.clone(), source };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        File::open(data).and_then(|dir| dir.sync_all()).map_err(failed)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::id::Incarnation;

    /// A node of a cluster.
    pub fn somebody() -> Identity {
        Identity::first(init())
    }

    fn init() -> Init {
        Init {
            cluster: "prod".into(),
            cluster_id: "00ff".into(),
            incarnation: Incarnation(1),
            subnet: Ipv4Addr::new(10, 99, 0, 0),
            prefix: 16,
            node_name: "n1".into(),
            address: "127.0.0.1".into(),
            labels: BTreeMap::new(),
            peer_port: 0,
            public_key: String::new(),
            keyring: String::new(),
            ca: String::new(),
            ca_key: None,
        }
    }

    #[test]
    fn what_was_written_is_read_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(dir.path()).unwrap(), None);
        let first = Identity::first(init());
        let joined = Identity {
            node: NodeId(2),
            init: None,
            members: [(NodeId(1), "10.0.0.1:4401".to_owned())].into(),
            begun: true,
            ..first.clone()
        };
        for who in [first, joined] {
            who.write(dir.path()).unwrap();
            assert_eq!(Identity::read(dir.path()).unwrap(), Some(who));
        }
        fs::write(dir.path().join(FILE), "{").unwrap();
        let error = Identity::read(dir.path()).unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
        Identity::wipe(dir.path()).unwrap();
        Identity::wipe(dir.path()).unwrap();
        assert_eq!(Identity::read(dir.path()).unwrap(), None);
    }

    #[test]
    fn a_file_from_before_nodes_could_join_reads_as_the_first_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let before = r#"{"node": 1, "subnet": "10.99.0.0", "begun": true, "init": {
            "cluster": "prod", "cluster_id": "00ff", "incarnation": 1, "subnet": "10.99.0.0",
            "prefix": 16, "node_name": "n1", "address": "127.0.0.1", "labels": {}}}"#;
        fs::write(dir.path().join(FILE), before).unwrap();
        let expected = Identity { begun: true, ..Identity::first(init()) };
        assert_eq!(Identity::read(dir.path()).unwrap(), Some(expected));
        fs::write(dir.path().join(FILE), r#"{"node": 1, "subnet": "10.99.0.0", "begun": true}"#)
            .unwrap();
        assert!(Identity::read(dir.path()).is_err());
    }
}
