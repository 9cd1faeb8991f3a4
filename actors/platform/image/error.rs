//! Why an image can't be had, in words for the person who named it.
//!
//! Never retries; says whether retrying makes sense.

use crate::actors::platform::containerd;
use crate::id::Digest;
use crate::node::oci::Platform;
use crate::spec::image::ReferenceError;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// The error of whatever did the work below; shared by all who waited for it.
pub(super) type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// As whom a registry was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Who {
    #[error("without credentials")]
    Nobody,
    /// Somebody whom it doesn't let have it.
    #[error("to {0}; it may not exist, or others may have it")]
    User(String),
    /// A program has the credentials.
    #[error(
        "without credentials; {file} leaves them to docker-credential-{helper}, which {reason}"
    )]
    Helper {
        /// Docker's file.
        file: String,
        /// The program.
        helper: String,
        /// Why it gave none.
        reason: String,
    },
    /// The credentials are of a kind that mill can't use.
    #[error("without credentials; {file} has an identity token, which mill can't use")]
    IdentityToken {
        /// Docker's file.
        file: String,
    },
    /// The credentials can't be read.
    #[error("without credentials; {file} isn't Docker's configuration in JSON")]
    Unread {
        /// Docker's file.
        file: String,
    },
}

/// An image that can't be had.
#[derive(Clone, Debug, Error)]
pub enum ImageError {
    /// Not an image's name.
    #[error("{reference:?} is no image: {source}")]
    Reference {
        /// As written.
        reference: String,
        #[source]
        source: ReferenceError,
    },
    /// The registry doesn't have it.
    #[error("{reference} not found (404). Pushed? Local: docker save IMAGE | mill image load -")]
    NotFound {
        /// Which image.
        reference: String,
    },
    /// The registry wants credentials, or other ones.
    #[error("{registry} refuses {reference} {who}. Run: mill image login {registry} --user USER")]
    Unauthorized {
        /// Which image.
        reference: String,
        /// Whose.
        registry: String,
        /// Who asked.
        who: Who,
    },
    /// The registry doesn't let in that login.
    #[error("{registry} refuses the login of {user}: wrong user or password")]
    LoginRefused {
        registry: String,
        /// Who.
        user: String,
    },
    /// A login can't be kept.
    #[error("the login can't be sealed: {reason}")]
    Seal { reason: String },
    /// It answers as no registry does.
    #[error("{registry} doesn't behave like a registry: {reason}")]
    Strange {
        registry: String,
        /// What it does.
        reason: String,
    },
    /// Nobody answers, or not to the end.
    #[error("{registry} doesn't answer: {reason}. Is it up, and reachable from this node?")]
    Down { registry: String, reason: String },
    /// The connection ended in the middle of a blob.
    #[error("{registry} broke off in the middle of {digest}: {reason}")]
    BrokenOff { registry: String, digest: Digest, reason: String },
    /// The registry's certificate isn't trusted, or it speaks no TLS.
    #[error(
        "no trusted TLS connection to {registry}: {reason}. Without TLS: \
            --insecure-registry {registry}"
    )]
    Tls { registry: String, reason: String },
    /// Too many requests.
    #[error("{registry} limits the rate of pulls; next try in {}s", wait.as_secs())]
    RateLimited {
        registry: String,
        /// How long to wait.
        wait: Duration,
    },
    /// The registry's fault: an answer of the 500s.
    #[error("{registry} failed with {code}: {message}")]
    Server {
        registry: String,
        /// HTTP status.
        code: u16,
        message: String,
    },
    /// What it has under that name is no image that runs.
    #[error("{reference} is no image that can run here: {reason}")]
    BadManifest {
        /// Which image.
        reference: String,
        reason: String,
    },
    /// It is something else than an image.
    #[error("{reference} is no image but an artifact of the type {kind}: it can't run")]
    Artifact {
        reference: String,
        /// Its type.
        kind: String,
    },
    /// Built for other machines.
    #[error(
        "{reference} is built for {have}, this node is {want}. Build: docker build \
            --platform {want}"
    )]
    WrongArchitecture {
        /// Which image.
        reference: String,
        /// What it is for.
        have: String,
        /// What is needed.
        want: Platform,
    },
    /// Content that isn't what its digest says.
    #[error(
        "{reference}: {digest} has other content than its digest says; nothing of it is \
            kept. Push the image again"
    )]
    WrongDigest {
        /// Which image.
        reference: String,
        digest: Digest,
    },
    /// Not a Docker or OCI archive.
    #[error("not an image archive: {reason}. Make one with: docker save IMAGE")]
    BadArchive { reason: String },
    /// The archive can't be read.
    #[error("can't read the image archive")]
    Read(#[source] Arc<std::io::Error>),
    /// No room.
    #[error(
        "no space left for {reference} on the disk that holds images; free some, or mill \
            image remove"
    )]
    DiskFull {
        /// Which image.
        reference: String,
    },
    /// It was loaded, and no node that has it can be asked.
    #[error("{reference} {reason}. Load it again: docker save IMAGE | mill image load -")]
    Lost {
        /// Which image.
        reference: String,
        /// Where it is.
        reason: String,
        /// Whether a node that has it may be back.
        temporary: bool,
    },
    /// containerd's fault.
    #[error("{0}")]
    Containerd(#[source] Arc<containerd::Error>),
    /// Another caller's pull, which this one waited for, was given up.
    #[error("the pull of {reference} was given up")]
    GivenUp {
        /// Which image.
        reference: String,
    },
    /// The client for registries can't be made.
    #[error("can't prepare connections to registries")]
    Client(#[source] Cause),
}

impl From<containerd::Error> for ImageError {
    fn from(error: containerd::Error) -> Self {
        Self::Containerd(Arc::new(error))
    }
}

impl ImageError {
    /// Whether the same request may succeed later without anybody pushing or changing anything.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Down { .. }
            | Self::BrokenOff { .. }
            | Self::RateLimited { .. }
            | Self::Server { .. }
            | Self::DiskFull { .. }
            | Self::GivenUp { .. } => true,
            Self::Lost { temporary, .. } => *temporary,
            Self::Containerd(error) => error.is_temporary(),
            _ => false,
        }
    }

    /// How long to wait before the next try, where somebody said so.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { wait, .. } => Some(*wait),
            _ => None,
        }
    }
}
