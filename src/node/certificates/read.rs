//! What a certificate says, and whether it can be served with its key.
//!
//! Owns what is checked before one is taken. Never decides who may bring one.

use crate::limits::{CERTIFICATE_CHAIN_MAX, CERTIFICATE_KEY_MAX};
use crate::units::Timestamp;
use rustls::client::verify_server_name;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Why a certificate can't be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is no certificate.
    #[error("the certificate can't be read: PEM is wanted, the host's own first")]
    Certificate,
    /// It is no key.
    #[error("the key can't be read: an unencrypted PEM of RSA, ECDSA or Ed25519 is wanted")]
    Key,
    /// More than is kept.
    #[error("the {what} is larger than {most} KiB")]
    TooLarge {
        /// Which of both.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// They are of different pairs.
    #[error("the key is not that of the certificate")]
    OtherKey,
    /// One of the chain did not issue the one before it.
    #[error("certificate {place} of the file ({name}) did not issue the one before it ({before})")]
    Chain {
        /// Its place in the file.
        place: usize,
        /// Whose it is.
        name: String,
        /// Who issued the one before.
        before: String,
    },
    /// It is for others.
    #[error("the certificate is not for {host}: it is for {names}")]
    OtherHost {
        host: String,
        /// For whom it is.
        names: String,
    },
    #[error("the certificate ended {0}")]
    Over(Timestamp),
    /// It has not begun.
    #[error("the certificate begins {0} only")]
    Early(Timestamp),
}

/// What is known of a certificate that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub issuer: String,
    /// Good from then on.
    pub not_before: Timestamp,
    /// Good until then.
    pub not_after: Timestamp,
}

/// Reads a certificate with its key, and checks that it can be served for a host at that time.
///
/// # Errors
/// What is wrong with it.
pub fn read(chain: &str, key: &str, host: &str, now: Timestamp) -> Result<Read, ReadError> {
    let most = |what, most: usize| ReadError::TooLarge { what, most: most >> 10 };
    if chain.len() > CERTIFICATE_CHAIN_MAX {
        return Err(most("certificate", CERTIFICATE_CHAIN_MAX));
    }
    if key.len() > CERTIFICATE_KEY_MAX {
        return Err(most("key", CERTIFICATE_KEY_MAX));
    }
    let pair = pair(chain, key)?;
    let all: Result<Vec<X509Certificate>, ReadError> =
        pair.cert.iter().map(|der| parse(der)).collect();
    let all = all?;
    for (at, two) in all.windows(2).enumerate() {
        let [one, next] = two else { continue };
        if one.issuer() != next.subject() {
            let (name, before) = (next.subject().to_string(), one.issuer().to_string());
            return Err(ReadError::Chain { place: at + 2, name, before });
        }
    }
    let own = all.first().ok_or(ReadError::Certificate)?;
    let names = names(own);
    if !is_for(&pair, &names, host) {
        let (host, names) = (host.to_owned(), names.join(", "));
        return Err(ReadError::OtherHost { host, names });
    }
    let time = |time: x509_parser::time::ASN1Time| {
        Timestamp(u64::try_from(time.timestamp()).unwrap_or(0).saturating_mul(1000))
    };
    let (from, until) = (time(own.validity().not_before), time(own.validity().not_after));
    if until <= now {
        return Err(ReadError::Over(until));
    }
    if from > now {
        return Err(ReadError::Early(from));
    }
    Ok(Read { issuer: issuer(own), not_before: from, not_after: until })
}

/// A certificate with its key, as TLS uses them.
///
/// # Errors
/// They can't be read, or don't belong together.
pub fn pair(chain: &str, key: &str) -> Result<CertifiedKey, ReadError> {
    let all: Result<Vec<CertificateDer>, _> =
        CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let all = all.map_err(|_| ReadError::Certificate)?;
    if all.is_empty() {
        return Err(ReadError::Certificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| ReadError::Key)?;
    let key = any_supported_type(&key).map_err(|_| ReadError::Key)?;
    let pair = CertifiedKey::new(all, key);
    match pair.keys_match() {
        Ok(()) => Ok(pair),
        Err(rustls::Error::InvalidCertificate(_)) => Err(ReadError::Certificate),
        Err(_) => Err(ReadError::OtherKey),
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, ReadError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(ReadError::Certificate),
    }
}

/// The names that a certificate is for.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let found = certificate.subject_alternative_name().ok().flatten();
    let all = found.iter().flat_map(|names| &names.value.general_names);
    let dns = all.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    dns.collect()
}

/// A wildcard needs the wildcard itself; any other host what a client would accept.
fn is_for(pair: &CertifiedKey, names: &[String], host: &str) -> bool {
    if host.starts_with("*.") {
        return names.iter().any(|name| name == host);
    }
    let Ok(name) = ServerName::try_from(host) else { return false };
    let own = pair.cert.first().and_then(|own| ParsedCertificate::try_from(own).ok());
    own.is_some_and(|own| verify_server_name(&own, &name).is_ok())
}

/// Who issued it, in few words: the organisation and the name.
fn issuer(certificate: &X509Certificate<'_>) -> String {
    let issuer = certificate.issuer();
    let organisation = issuer.iter_organization().next().and_then(|name| name.as_str().ok());
    let name = issuer.iter_common_name().next().and_then(|name| name.as_str().ok());
    let parts: Vec<&str> = organisation.into_iter().chain(name).collect();
    if parts.is_empty() { issuer.to_string() } else { parts.join(" ") }
}
