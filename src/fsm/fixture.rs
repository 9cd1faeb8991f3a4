//! What tests of the core begin with: a cluster of one node, and those that ask to be let in.
//!
//! Never anything but tests: the node is the same in all of them.

use super::command::{Init, Join, Register};
use super::volumes::Volume;
use crate::id::{BootId, Incarnation, NodeId};
use crate::units::{Bytes, MilliCpu, Timestamp};
use std::collections::BTreeMap;

/// The first entry of cluster `prod`: node n1.
pub fn init() -> Init {
    Init {
        cluster: "prod".to_owned(),
        cluster_id: "c".to_owned(),
        incarnation: Incarnation(1),
        subnet: [10, 99, 0, 0].into(),
        prefix: 16,
        node_name: "n1".to_owned(),
        address: "192.0.2.1".to_owned(),
        labels: BTreeMap::new(),
        peer_port: 4401,
        public_key: String::new(),
        keyring: String::new(),
        ca: String::new(),
        ca_key: None,
    }
}

/// Its first life, with 4 cores and 8 GB.
pub fn register() -> Register {
    Register {
        after: None,
        reach: None,
        node: NodeId(1),
        boot: BootId(1),
        cpu: MilliCpu(4_000),
        memory: Bytes(8_000_000_000),
        version: String::new(),
        feature_level: 1,
    }
}

/// Another node's request to be let in; `key` is what is sealed for it.
pub fn join(name: &str, key: &str) -> Join {
    Join {
        name: name.to_owned(),
        address: "192.0.2.9".to_owned(),
        peer_port: 4401,
        labels: BTreeMap::new(),
        public_key: key.to_owned(),
        keyring: "sealed".to_owned(),
        keyring_id: String::new(),
        version: "0.1.0".to_owned(),
        feature_level: 1,
        token: None,
    }
}

/// A volume with data on a node, of the service db.
pub fn volume(node: NodeId) -> Volume {
    Volume {
        size: Bytes(5),
        node,
        service: "db".into(),
        holder: "db-0-aaaa".into(),
        fence: 1,
        used: true,
        deleting: false,
        created_at: Timestamp(0),
        copy: 0,
        moving: None,
        left: None,
        stayed: None,
        provided: None,
    }
}
