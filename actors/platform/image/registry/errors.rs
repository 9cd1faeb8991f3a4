//! Why a registry didn't give what was asked for, and what the person is told of it.
//!
//! Owns the telling apart of statuses, connections and certificates. Never tells anything of
//! credentials.

use super::{Account, bound};
use crate::actors::platform::{self, image::ImageError};
use crate::id::Digest;
use crate::limits;
use crate::spec::image::Reference;
use crate::units::{self, retry_after};
use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use std::error::Error;
use std::io;
use std::time::Duration;

/// Letters of what a registry says that are passed on.
const MESSAGE_MAX: usize = 200;

/// What went wrong with a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Why {
    /// It sends from one address to the next.
    #[error("it redirects without end")]
    Redirects,
    /// It sends to an address without TLS.
    #[error("it redirects to an address without TLS")]
    Downgrade,
    /// It redirects, but not to a web address.
    #[error("it redirects to something else than a web address")]
    Elsewhere,
    /// It doesn't let in whoever asks.
    #[error("it refuses")]
    Denied,
    /// It has no such thing.
    #[error("it has no such thing")]
    Missing,
    /// Too many requests; the wait that it named.
    #[error("too many requests")]
    Limited(Duration),
    /// Another status, with what it said.
    #[error("{0} {1}")]
    Status(u16, String),
    /// An answer that no registry gives.
    #[error("{0}")]
    Answer(&'static str),
    /// The answer is longer than it may be.
    #[error("its answer is larger than {}", units::Bytes(*.0))]
    TooLarge(u64),
    /// Nothing came for too long.
    #[error("no answer in time")]
    Late,
    #[error(transparent)]
    Connection(reqwest::Error),
}

impl Why {
    /// Of the client's error.
    pub fn of(error: reqwest::Error) -> Self {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(found) = cause {
            match found.downcast_ref::<Self>() {
                Some(Self::Redirects) => return Self::Redirects,
                Some(Self::Downgrade) => return Self::Downgrade,
                Some(Self::Elsewhere) => return Self::Elsewhere,
                _ => cause = found.source(),
            }
        }
        if error.is_redirect() {
            return Self::Redirects;
        }
        // Without the address: it may have a token in it.
        Self::Connection(error.without_url())
    }

    /// For the person who named the image.
    pub fn told(self, image: &Reference, account: &Account) -> ImageError {
        let (reference, registry) = (image.to_string(), image.registry.clone());
        match self {
            Self::Missing => ImageError::NotFound { reference },
            Self::Denied => ImageError::Unauthorized { reference, registry, who: account.who() },
            Self::Limited(wait) => ImageError::RateLimited { registry, wait },
            Self::Status(code, message) => ImageError::Server { registry, code, message },
            Self::Late => ImageError::Down { registry, reason: "no answer in time".to_owned() },
            Self::Connection(error) => connection(registry, &error),
            why => ImageError::Strange { registry, reason: why.to_string() },
        }
    }
}

/// What a registry says of its refusal.
#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    errors: Vec<RefusalReason>,
}

#[derive(Deserialize)]
struct RefusalReason {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// A whole answer of at most that size, in at most the time that a document may take.
pub(super) async fn bounded(mut answer: Response, max: u64) -> Result<Bytes, Why> {
    if answer.content_length().is_some_and(|length| length > max) {
        return Err(Why::TooLarge(max));
    }
    let read = async {
        let mut bytes = BytesMut::new();
        while let Some(piece) = answer.chunk().await.map_err(Why::of)? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > max {
                return Err(Why::TooLarge(max));
            }
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(limits::REGISTRY_DOCUMENT, read).await.map_err(|_| Why::Late)?
}

/// An answer of success, or what its status means.
pub(super) async fn check(answer: Response) -> Result<Response, Why> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Err(Why::Limited(wait(answer.headers()).unwrap_or(limits::REGISTRY_PAUSE)));
    }
    // What can't be read says nothing more.
    let text = bounded(answer, limits::REGISTRY_TOKEN_MAX).await.unwrap_or_default();
    let refusal = serde_json::from_slice::<Refusal>(&text).ok();
    let reason = refusal.and_then(|refusal| refusal.errors.into_iter().next());
    let code = reason.as_ref().map(|reason| reason.code.as_str()).unwrap_or_default();
    Err(match (status.as_u16(), code) {
        (404, _) => Why::Missing,
        (401 | 403, _) | (_, "UNAUTHORIZED" | "DENIED") => Why::Denied,
        (_, "TOOMANYREQUESTS") => Why::Limited(limits::REGISTRY_PAUSE),
        (_, "MANIFEST_UNKNOWN" | "NAME_UNKNOWN" | "BLOB_UNKNOWN" | "NAME_INVALID") => Why::Missing,
        (status, _) => {
            let said = reason.map(|reason| reason.message).unwrap_or_default();
            let said = said.chars().filter(|c| !c.is_control()).take(MESSAGE_MAX).collect();
            Why::Status(status, said)
        }
    })
}

/// How long a registry wants to be left alone.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let wanted = retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, platform::now())?.duration();
    Some(wanted.clamp(limits::REGISTRY_WAIT[0], limits::REGISTRY_WAIT[1]))
}

/// What became of a connection, with the last of its causes: the one that says most.
pub(crate) fn connection(registry: String, error: &(dyn Error + 'static)) -> ImageError {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(reason) = of_tls(cause) {
            return ImageError::Tls { registry, reason };
        }
        causes.push(in_words(cause));
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    let reason = causes.last().cloned().unwrap_or_default();
    ImageError::Down { registry, reason }
}

/// A cause as people say it: without the system's numbers.
fn in_words(cause: &(dyn Error + 'static)) -> String {
    use io::ErrorKind as Kind;
    let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
    let text = cause.to_string();
    match kind {
        Some(Kind::ConnectionRefused) => "connection refused".to_owned(),
        Some(Kind::ConnectionReset) => "it ended the connection".to_owned(),
        Some(Kind::TimedOut) => "no answer in time".to_owned(),
        Some(Kind::HostUnreachable | Kind::NetworkUnreachable) => "no way there".to_owned(),
        // The resolver's errors have no kind.
        _ if text.starts_with("failed to lookup address") => "host not found".to_owned(),
        _ => text,
    }
}

/// What TLS found wrong, in words.
fn of_tls(error: &(dyn Error + 'static)) -> Option<String> {
    use rustls::CertificateError as C;
    let error = error.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(C::UnknownIssuer) => {
            "its certificate is signed by no authority that this host trusts (self-signed?)"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned()
        }
        rustls::Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
            "its certificate isn't valid yet; is the clock right?".to_owned()
        }
        rustls::Error::InvalidCertificate(
            C::NotValidForName | C::NotValidForNameContext { .. },
        ) => "its certificate is for another name".to_owned(),
        rustls::Error::InvalidMessage(_) => "it speaks no TLS but plain HTTP".to_owned(),
        other => other.to_string(),
    })
}

/// What went wrong while a blob came.
pub(super) fn broken(image: &Reference, digest: &Digest, error: reqwest::Error) -> ImageError {
    match Why::of(error) {
        Why::Connection(error) => match connection(image.registry.clone(), &error) {
            ImageError::Down { reason, .. } => broken_off(image, digest, reason),
            other => other,
        },
        why => broken_off(image, digest, why.to_string()),
    }
}

/// A blob whose end didn't come.
pub(super) fn broken_off(image: &Reference, digest: &Digest, reason: String) -> ImageError {
    let reason = bound(&reason, MESSAGE_MAX);
    ImageError::BrokenOff { registry: image.registry.clone(), digest: digest.clone(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_registry_is_not_reached_is_said_in_words() {
        let refused = io::Error::from_raw_os_error(nix::libc::ECONNREFUSED);
        let lookup = "failed to lookup address information: Name or service not known";
        for (error, expected) in [
            (refused, "connection refused"),
            (io::Error::other(lookup), "host not found"),
            (io::Error::from_raw_os_error(nix::libc::EHOSTUNREACH), "no way there"),
            (io::Error::other("something else"), "something else"),
        ] {
            let ImageError::Down { reason, .. } = connection("r".to_owned(), &error) else {
                panic!("{expected}")
            };
            assert_eq!(reason, expected);
        }
    }

    #[test]
    fn waits_are_seconds_or_dates_within_bounds() {
        let wait = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            wait(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("7"), Some(7));
        assert_eq!(wait("0"), Some(1), "not at once");
        assert_eq!(wait("99999999"), Some(limits::REGISTRY_WAIT[1].as_secs()));
        assert_eq!(wait("Fri, 01 Jan 2100 00:00:00 GMT"), Some(limits::REGISTRY_WAIT[1].as_secs()));
        assert_eq!(wait("Thu, 01 Jan 1970 00:00:00 GMT"), Some(1));
        assert_eq!(wait("soon"), None);
    }
}
