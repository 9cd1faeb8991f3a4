//! Documents of certificates.
//!
//! Owns their shape. A key is in one of them only: what is imported.

use super::words::words;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

words! {
    /// How a host stands with its certificate.
    pub enum CertificateStatus in "kebab-case" {
        /// It has one.
        Valid,
        /// Its certificate has ended.
        Expired,
        /// Its certificate is being ordered.
        Ordering,
        /// Something keeps it from its certificate.
        Waiting,
        /// Nobody orders any.
        None,
    }

    /// Where a certificate comes from.
    pub enum CertificateSource in "kebab-case" {
        /// It was ordered.
        Acme,
        /// A person brought it.
        Import,
    }
}

/// A host and how it stands with its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateView {
    /// The host; `*.example.com` for a wildcard.
    pub host: String,
    /// How it stands.
    pub status: CertificateStatus,
    /// Where it comes from; absent: there is none.
    pub source: Option<CertificateSource>,
    /// Who issued it.
    pub issuer: Option<String>,
    /// Good from then on.
    pub not_before: Option<String>,
    /// Good until then.
    pub not_after: Option<String>,
    /// When the next one is ordered.
    pub next: Option<String>,
    /// Failures of orders since the last success.
    pub failures: u32,
    /// What keeps it from the next one.
    pub error: Option<String>,
    /// A wildcard's certificate serves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub covered_by: Option<String>,
}

/// A certificate to be served, with its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// The certificate, PEM: the host's own first, then those of its authorities.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertificateRequest(…)")
    }
}

/// Where certificates are ordered.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcmeRequest {
    /// The directory's address; absent: Let's Encrypt.
    #[serde(default)]
    pub directory: Option<String>,
    /// Let's Encrypt's directory for tries.
    #[serde(default)]
    pub staging: bool,
    /// Whom the authority writes to.
    #[serde(default)]
    pub email: Option<String>,
    /// An external account, `KID:HMAC`.
    #[serde(default)]
    pub eab: Option<String>,
}

impl fmt::Debug for AcmeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeRequest").field("directory", &self.directory).finish_non_exhaustive()
    }
}
