//! The cluster's certificate authority, and the keys of a node.
//!
//! Owns making keys and certificates. Never decides who gets one, and never writes a file.

pub use crate::actors::platform::now;
use crate::cluster::trust::{PeerId, Validity};
use crate::id::NodeId;
use crate::limits;
use crate::units::Millis;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use std::net::IpAddr;
use std::time::Duration;

/// Why a key or certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The authority's own key or certificate.
    #[error("the cluster's CA can't be used")]
    Authority(#[source] rcgen::Error),
    /// What was asked to be signed.
    #[error("the certificate signing request can't be used")]
    Request(#[source] rcgen::Error),
    /// A new key or certificate.
    #[error("making a key or certificate")]
    Make(#[source] rcgen::Error),
    /// The authority's certificate is no certificate.
    #[error("the CA's certificate is damaged")]
    Damaged,
}

/// The cluster's certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// Makes the authority of a new cluster.
    ///
    /// # Errors
    /// No random numbers.
    pub fn new(cluster: &str, cluster_id: &str) -> Result<Self, CaError> {
        let key = KeyPair::generate().map_err(CaError::Make)?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, format!("mill {cluster}"));
        // Two clusters of one name have different authorities, also to whoever reads names only.
        name.push(DnType::OrganizationalUnitName, cluster_id);
        params.distinguished_name = name;
        let life = Millis::from(limits::CA_LIFE);
        set_validity(&mut params, Validity::new(now(), life, leeway()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial());
        let certificate = params.self_signed(&key).map_err(CaError::Make)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// The authority from its key and certificate, both PEM.
    ///
    /// # Errors
    /// They are no such thing.
    pub fn open(key: &str, certificate: &str) -> Result<Self, CaError> {
        let key = KeyPair::from_pem(key).map_err(CaError::Authority)?;
        let certificate = certificate_from_pem(certificate)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(CaError::Authority)?;
        Ok(Self { issuer, certificate })
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its key, PEM: to be sealed at once.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A certificate for a node's own key. What the request says beside the key is not looked at.
    ///
    /// # Errors
    /// The request is none, or isn't signed by its own key.
    pub fn sign(
        &self,
        request: &[u8],
        node: &PeerId,
        address: &str,
        life: Duration,
    ) -> Result<CertificateDer<'static>, CaError> {
        let validity = Validity::new(now(), Millis::from(life), leeway());
        self.sign_for(request, node, address, validity)
    }

    /// The same, good at any time.
    pub(super) fn sign_for(
        &self,
        request: &[u8],
        node: &PeerId,
        address: &str,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, CaError> {
        let request = CertificateSigningRequestDer::from(request);
        let request = CertificateSigningRequestParams::from_der(&request);
        let request = request.map_err(CaError::Request)?;
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, node.node.to_string());
        params.distinguished_name = name;
        params.subject_alt_names = names(node, address)?;
        set_validity(&mut params, validity);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial());
        let signed = params.signed_by(&request.public_key, &self.issuer).map_err(CaError::Make)?;
        Ok(signed.der().clone())
    }
}

/// The key of a node's certificate.
pub struct NodeKey(KeyPair);

impl NodeKey {
    /// Makes a key.
    ///
    /// # Errors
    /// No random numbers.
    pub fn new() -> Result<Self, CaError> {
        KeyPair::generate().map(Self).map_err(CaError::Make)
    }

    /// From PEM.
    ///
    /// # Errors
    /// It is no key.
    pub fn open(pem: &str) -> Result<Self, CaError> {
        KeyPair::from_pem(pem).map(Self).map_err(CaError::Make)
    }

    /// As PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A certificate signing request, DER. It says nothing but the key: the names are the
    /// authority's to choose.
    ///
    /// # Errors
    /// Signing failed.
    pub fn request(&self) -> Result<Vec<u8>, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.0).map_err(CaError::Make)?;
        Ok(request.der().to_vec())
    }
}

/// The one certificate in a PEM text.
///
/// # Errors
/// There is none.
pub fn certificate_from_pem(text: &str) -> Result<CertificateDer<'static>, CaError> {
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| CaError::Damaged)
}

/// A certificate as PEM (RFC 7468).
#[must_use]
pub fn certificate_to_pem(certificate: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .filter_map(|at| text.get(at..text.len().min(at + 64)))
        .collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn names(node: &PeerId, address: &str) -> Result<Vec<SanType>, CaError> {
    let text = |text: String| text.try_into().map_err(CaError::Make);
    let mut names =
        vec![SanType::URI(text(node.uri())?), SanType::DnsName(text("localhost".into())?)];
    names.push(SanType::IpAddress(IpAddr::from([127, 0, 0, 1])));
    match address.parse::<IpAddr>() {
        Ok(address) if !address.is_loopback() => names.push(SanType::IpAddress(address)),
        Ok(_) => {}
        Err(_) => names.push(SanType::DnsName(text(address.to_owned())?)),
    }
    Ok(names)
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = at(validity.from.0 / 1000);
    params.not_after = at(validity.until.0.div_ceil(1000));
}

fn leeway() -> Millis {
    Millis::from(limits::CERTIFICATE_LEEWAY)
}

fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::random();
    // Positive, and never shorter (RFC 5280, 4.1.2.2).
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// Who a node of a cluster is.
#[must_use]
pub fn peer(cluster: &str, node: NodeId) -> PeerId {
    PeerId { cluster: cluster.to_owned(), node }
}
