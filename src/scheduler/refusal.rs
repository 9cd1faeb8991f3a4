//! Why a node does not take a replica, in words and figures.
//!
//! Never decides it: the placer does.

use crate::id::VolumeName;
use crate::units::{Bytes, MilliCpu};
use std::fmt;

/// Why a node does not take a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Draining,
    /// It is lost.
    Down,
    /// Nothing is heard of it.
    Silent,
    /// Its containerd doesn't answer.
    Degraded,
    /// Its label has another value, or none.
    Constraint {
        label: String,
        /// What the node has.
        have: Option<String>,
    },
    /// A volume's data is on another node.
    Volume {
        name: VolumeName,
        /// The other node's name.
        node: String,
    },
    /// A volume's data is on its way.
    Moving {
        name: VolumeName,
        /// The node that it is brought to.
        node: String,
    },
    /// It has as many volumes of the provider as its machine takes.
    Attached {
        count: usize,
    },
    /// Too few cores are free.
    Cpu {
        free: MilliCpu,
    },
    /// Too little memory is free.
    Memory {
        free: Bytes,
    },
}

impl Refusal {
    /// In figures.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Draining | Self::Down | Self::Silent => String::new(),
            Self::Degraded => "containerd doesn't answer".to_owned(),
            Self::Constraint { label, have: Some(have) } => format!("{label}={have}"),
            Self::Constraint { label, have: None } => format!("no label {label}"),
            Self::Volume { name, node } => format!("{name} is on {node}"),
            Self::Moving { name, node } => format!("{name} is being moved to {node}"),
            Self::Attached { count } => format!("{count} are attached, no more can be"),
            Self::Cpu { free } => format!("{free} free"),
            Self::Memory { free } => format!("{free} free"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Draining => "draining",
            Self::Down => "down",
            Self::Silent => "silent",
            Self::Degraded => "degraded",
            Self::Constraint { .. } => "constraint",
            Self::Volume { .. } | Self::Moving { .. } | Self::Attached { .. } => "volume",
            Self::Cpu { .. } => "cpu",
            Self::Memory { .. } => "memory",
        };
        f.write_str(format!("{what} {}", self.detail()).trim_end())
    }
}
