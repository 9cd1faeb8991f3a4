//! What a certificate says: whose it is, of which cluster, from when until when.
//!
//! Owns the names in node certificates and the CA's fingerprint. Never verifies a signature and
//! never makes a certificate: that is the peer actor's.

use crate::id::NodeId;
use crate::units::{Millis, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::fmt;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Letters of a fingerprint's text.
pub const FINGERPRINT_TEXT: usize = 43;

/// SHA-256 of a certificate in DER.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a certificate in DER.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// From its text, base64url without padding.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Whose a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerId {
    /// The cluster's identity.
    pub cluster: String,
    pub node: NodeId,
}

impl PeerId {
    /// The name of a node in its certificate.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("mill://{}/node/{}", self.cluster, self.node)
    }

    fn parse(uri: &str) -> Option<Self> {
        let (cluster, node) = uri.strip_prefix("mill://")?.split_once("/node/")?;
        let id = Self { cluster: cluster.to_owned(), node: NodeId(node.parse().ok()?) };
        // One way of writing it alone.
        (id.uri() == uri && !cluster.is_empty()).then_some(id)
    }
}

/// Why a certificate says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It isn't one.
    #[error("it is no certificate")]
    Damaged,
    /// It names no node.
    #[error("it names no node of a mill cluster")]
    Nobody,
}

/// Whose a certificate is. That its CA signed it has been verified by TLS.
///
/// # Errors
/// It is no node's.
pub fn peer_of(certificate: &[u8]) -> Result<PeerId, CertificateError> {
    let certificate = parse(certificate)?;
    let names = certificate.subject_alternative_name().map_err(|_| CertificateError::Damaged)?;
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    let mut nodes = names.filter_map(|name| match name {
        GeneralName::URI(uri) => PeerId::parse(uri),
        _ => None,
    });
    match (nodes.next(), nodes.next()) {
        (Some(node), None) => Ok(node),
        _ => Err(CertificateError::Nobody),
    }
}

/// When a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub from: Timestamp,
    /// Until then.
    pub until: Timestamp,
}

impl Validity {
    /// When it should be replaced: two thirds of it are over.
    #[must_use]
    pub fn renew_at(self) -> Timestamp {
        let whole = self.until.0.saturating_sub(self.from.0);
        self.from.plus(Millis(whole / 3 * 2))
    }

    /// Whether it is good at that moment.
    #[must_use]
    pub fn holds_at(self, now: Timestamp) -> bool {
        self.from <= now && now <= self.until
    }

    /// That of a new certificate. It begins a bit in the past: clocks differ.
    #[must_use]
    pub fn new(now: Timestamp, life: Millis, leeway: Millis) -> Self {
        let back = leeway.0.min(life.0 / 10);
        Self { from: Timestamp(now.0.saturating_sub(back)), until: now.plus(life) }
    }
}

/// When a certificate is good.
///
/// # Errors
/// It is none.
pub fn validity(certificate: &[u8]) -> Result<Validity, CertificateError> {
    let certificate = parse(certificate)?;
    let time = |time: &x509_parser::time::ASN1Time| {
        u64::try_from(time.timestamp()).map(|s| Timestamp(s.saturating_mul(1000)))
    };
    let validity = certificate.validity();
    match (time(&validity.not_before), time(&validity.not_after)) {
        (Ok(from), Ok(until)) => Ok(Validity { from, until }),
        _ => Err(CertificateError::Damaged),
    }
}

fn parse(certificate: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(certificate) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_name_reads_in_one_way() {
        let id = PeerId { cluster: "00ff".into(), node: NodeId(7) };
        assert_eq!(PeerId::parse(&id.uri()), Some(id));
        for wrong in [
            "",
            "mill://",
            "mill://00ff",
            "mill://00ff/node/",
            "mill:///node/7",
            "mill://a/node/07",
        ] {
            assert_eq!(PeerId::parse(wrong), None, "{wrong}");
        }
        assert_eq!(peer_of(b"none"), Err(CertificateError::Damaged));
        assert_eq!(validity(b""), Err(CertificateError::Damaged));
    }

    #[test]
    fn a_fingerprint_reads_back() {
        let print = Fingerprint::of(b"certificate");
        let text = print.to_string();
        assert_eq!((text.len(), Fingerprint::parse(&text)), (FINGERPRINT_TEXT, Some(print)));
        assert_eq!(Fingerprint::parse(&text[1..]), None);
    }

    #[yare::parameterized(
        days = { 90 * 86_400_000, 3_600_000 },
        seconds = { 9_000, 900 },
    )]
    fn a_certificate_is_replaced_at_two_thirds(life: u64, back: u64) {
        let now = Timestamp(1_800_000_000_000);
        let validity = Validity::new(now, Millis(life), Millis(3_600_000));
        assert_eq!(validity.from, Timestamp(now.0 - back));
        assert_eq!(validity.until, now.plus(Millis(life)));
        let left = validity.until.0 - validity.renew_at().0;
        assert_eq!(left, (life + back) / 3);
        assert!(validity.renew_at() > now);
        assert!(validity.holds_at(now) && validity.holds_at(validity.until));
        assert!(!validity.holds_at(validity.until.plus(Millis(1))));
        assert!(!validity.holds_at(Timestamp(validity.from.0 - 1)), "a clock that is set back");
    }
}
