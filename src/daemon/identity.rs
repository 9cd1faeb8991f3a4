//! Who a node is: the one file that makes it a member.
//!
//! Owns reading and writing it, durably. Never changes it once it is written.

use crate::fsm::command::Init;
use crate::id::NodeId;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

const FILE: &str = "identity.json";

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its id.
    pub node: NodeId,
    /// First address of its containers' subnet.
    pub subnet: Ipv4Addr,
    /// The cluster's beginning: proposed again until it is in the log.
    pub init: Init,
    /// The log has been begun: from then on a missing one is a loss.
    pub begun: bool,
}

/// Why the identity can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system.
    #[error("{what} {path}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{path} is damaged; restore it from a backup, or wipe this node: mill clean",
        path = path.display()
    )]
    Damaged {
        /// Which file.
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Incarnation;
    use std::collections::BTreeMap;

    #[test]
    fn what_was_written_is_read_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Identity::read(dir.path()).unwrap(), None);
        let init = Init {
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
        };
        let subnet = Ipv4Addr::new(10, 99, 0, 0);
        let who = Identity { node: NodeId(1), subnet, init, begun: false };
        who.write(dir.path()).unwrap();
        assert_eq!(Identity::read(dir.path()).unwrap(), Some(who));
        fs::write(dir.path().join(FILE), "{").unwrap();
        let error = Identity::read(dir.path()).unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
    }
}
