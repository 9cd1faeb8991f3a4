//! What can be asked of canaries.
//!
//! Never judges one.

use crate::id::AppName;
use serde::{Deserialize, Serialize};

/// The end of an app's canaries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryEnd {
    pub app: AppName,
    /// The rest is replaced; otherwise they are taken back.
    pub promote: bool,
}

/// A step of a canary. One that fails is a deployment's failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CanaryStep {
    /// All its replicas work: from now on requests are compared.
    Watch {
        /// What whoever follows is told.
        message: String,
    },
    /// Its time is over and it got too few requests: it runs on.
    Longer {
        /// What whoever follows is told.
        message: String,
    },
    /// The rest of the service may be replaced.
    Promote {
        /// Why, with the figures.
        why: String,
    },
}
