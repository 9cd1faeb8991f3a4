//! Why an allocation's work could not be done.
//!
//! Owns what of it may succeed later. Never retries.

use crate::actors::platform::containerd;
use crate::actors::platform::image::ImageError;
use crate::actors::platform::net::{NetError, Taken};
use crate::actors::platform::secrets::SecretError;
use crate::actors::platform::volumes::VolumeError;
use crate::actors::platform::volumes::attached::AttachError;
use crate::allocation::Failure;
use crate::id::SecretName;
use crate::limits;
use crate::node::oci::{SpecError, UserError};
use crate::units::Millis;
use std::io;
use std::path::PathBuf;

/// The program isn't there, as a shell says it.
const NOT_THERE: i32 = 127;
/// The program can't be executed.
const NOT_EXECUTABLE: i32 = 126;

/// Why a step could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The specification names no digest.
    #[error("the revision holds no digest of {image}; deploy it again: mill up")]
    Unpinned {
        /// The image as written.
        image: String,
    },
    /// It was to be started without its image.
    #[error("the image was not fetched before the start")]
    Unpulled,
    #[error(transparent)]
    User(#[from] UserError),
    /// A variable or a file that this build can't fill in.
    #[error("{name}: the address of the service isn't in the revision; deploy the file again")]
    Reference {
        /// The variable's name, or the file's path.
        name: String,
    },
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A persistent volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A secret that no variable can hold.
    #[error("env {name}: secret {secret} is binary; give it as a file: secret-file {secret:?} …")]
    Binary {
        /// The variable.
        name: String,
        secret: SecretName,
    },
    /// What the runtime is told.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Host ports that other programs hold.
    #[error("{}", list(.0))]
    Taken(Vec<Taken>),
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Containerd(#[from] containerd::Error),
    /// The container's own files.
    #[error("can't write {path}: {source}", path = path.display())]
    Files {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn list(taken: &[Taken]) -> String {
    taken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Failed {
    /// For the allocation's life.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let (temporary, wait) = match self {
            Self::Image(error) => (error.is_temporary(), error.wait()),
            Self::Containerd(error) => (error.is_temporary(), None),
            Self::Files { .. } | Self::Volume(VolumeError::Make { .. }) => (true, None),
            Self::Volume(VolumeError::Attach(AttachError::Waits { .. })) => {
                (true, Some(limits::VOLUME_WAIT))
            }
            Self::Volume(VolumeError::Attach(AttachError::System { .. })) => (true, None),
            Self::Secret(error) => (!matches!(error, SecretError::Missing { .. }), None),
            _ => (false, None),
        };
        let code = match self {
            Self::Containerd(containerd::Error::CommandNotFound { .. }) => Some(NOT_THERE),
            Self::Containerd(containerd::Error::CommandNotExecutable { .. }) => {
                Some(NOT_EXECUTABLE)
            }
            _ => None,
        };
        Failure { message: self.to_string(), temporary, wait: wait.map(Millis::from), code }
    }
}
