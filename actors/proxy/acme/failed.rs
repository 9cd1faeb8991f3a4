//! Why an order failed, as people read it.
//!
//! Owns which words of an authority count. Never decides what follows.

use instant_acme::Error;

/// Why an order failed.
pub(super) enum Failed {
    /// The authority, or the way to it.
    Acme(Error),
    /// What the authority found when it looked at the host.
    Found(String),
    /// Anything else.
    Other(String),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Acme(error)
    }
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

impl Failed {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Acme(Error::Api(problem)) => {
                problem.detail.clone().unwrap_or_else(|| problem.to_string())
            }
            Self::Acme(error) => error.to_string(),
            Self::Found(why) | Self::Other(why) => why.clone(),
        }
    }

    /// Whether it comes from what the authority said, and not from the way to it.
    pub(super) fn is_answer(&self) -> bool {
        let unlike = |error: &Error| error.to_string().starts_with("replaces field mismatch");
        matches!(self, Self::Acme(error) if unlike(error)
            || matches!(error, Error::Api(_) | Error::Unsupported(_)))
    }

    /// Whether the authority calls it that (RFC 8555, 6.7).
    pub(super) fn is(&self, kind: &str) -> bool {
        let Self::Acme(Error::Api(problem)) = self else { return false };
        problem.r#type.as_deref() == Some(kind)
    }
}
