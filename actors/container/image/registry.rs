//! Registries: one client for each, manifests and blobs by digest, errors told apart.
//!
//! Owns how a registry is spoken to: scheme, trust, credentials. Never stores anything.

use super::error::ImageError;
use super::{RegistryConfig, probe};
use crate::id::Digest;
use crate::limits;
use crate::spec::image::Reference;
use bytes::Bytes;
use oci_client::client::{
    BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol, SizedStream,
};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Who asks.
const AGENT: &str = concat!("mill/", env!("CARGO_PKG_VERSION"));

/// What a manifest may be.
const ACCEPTED: [&str; 4] = [
    crate::oci::image::INDEX_TYPES[0],
    crate::oci::image::INDEX_TYPES[1],
    crate::oci::image::MANIFEST_TYPES[0],
    crate::oci::image::MANIFEST_TYPES[1],
];

/// All registries of a node.
#[derive(Debug)]
pub(super) struct Registries {
    config: RegistryConfig,
    clients: Mutex<HashMap<String, Client>>,
    /// One permit for each blob that is being fetched.
    pub blobs: Arc<Semaphore>,
}

/// A client of one registry.
#[derive(Clone)]
struct Client(oci_client::Client);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Registries {
    pub fn new(config: RegistryConfig) -> Self {
        let blobs = Arc::new(Semaphore::new(limits::PULLS_PARALLEL));
        Self { config, clients: Mutex::default(), blobs }
    }

    /// The digest that a reference leads to.
    pub async fn digest(&self, image: &Reference) -> Result<Digest, ImageError> {
        let client = self.client(&image.registry).await?;
        let found = client.0.fetch_manifest_digest(&theirs(image), &auth()).await;
        found.map(Digest::from).map_err(|error| self.told(image, error))
    }

    /// A manifest or index by its digest.
    pub async fn document(&self, image: &Reference, digest: &Digest) -> Result<Bytes, ImageError> {
        let client = self.client(&image.registry).await?;
        let exact = theirs(&image.pinned(digest.clone()));
        let found = client.0.pull_manifest_raw(&exact, &auth(), &ACCEPTED).await;
        found.map(|(bytes, _)| bytes).map_err(|error| self.told(image, error))
    }

    /// A blob from an offset on. The flag tells whether the registry kept to the offset; if not,
    /// the blob comes from its beginning.
    pub async fn blob(
        &self,
        image: &Reference,
        digest: &Digest,
        offset: u64,
    ) -> Result<(SizedStream, bool), ImageError> {
        let client = self.client(&image.registry).await?;
        let reference = theirs(image);
        client.0.store_auth_if_needed(reference.resolve_registry(), &auth()).await;
        let wanted = OciDescriptor { digest: digest.to_string(), ..OciDescriptor::default() };
        let found = if offset == 0 {
            client.0.pull_blob_stream(&reference, &wanted).await.map(BlobResponse::Full)
        } else {
            client.0.pull_blob_stream_partial(&reference, &wanted, offset, None).await
        };
        match found {
            Ok(BlobResponse::Full(stream)) => Ok((stream, offset == 0)),
            Ok(BlobResponse::Partial(stream)) => Ok((stream, true)),
            Err(error) => Err(self.told(image, error)),
        }
    }

    async fn client(&self, registry: &str) -> Result<Client, ImageError> {
        if let Some(client) = self.lock().get(registry) {
            return Ok(client.clone());
        }
        let lax = is_loopback(registry) || self.config.insecure.iter().any(|r| r == registry);
        let tls = !lax || probe::speaks_tls(registry).await?;
        let client = self.make(tls, lax)?;
        self.lock().insert(registry.to_owned(), client.clone());
        Ok(client)
    }

    fn make(&self, tls: bool, lax: bool) -> Result<Client, ImageError> {
        // A second call changes nothing; programs that use the library may not have made the first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let extra = self.authorities()?;
        let config = |only: Vec<Certificate>| ClientConfig {
            protocol: if tls { ClientProtocol::Https } else { ClientProtocol::Http },
            accept_invalid_certificates: lax,
            extra_root_certificates: extra.clone(),
            tls_certs_only: only,
            read_timeout: Some(limits::REGISTRY_SILENCE),
            connect_timeout: Some(limits::REGISTRY_CONNECT),
            user_agent: AGENT,
            ..ClientConfig::default()
        };
        oci_client::Client::try_from(config(Vec::new()))
            // A host without certificates of its own: those that the program brings.
            .or_else(|_| oci_client::Client::try_from(config(embedded())))
            .map(Client)
            .map_err(|error| ImageError::Client(Arc::new(error)))
    }

    fn authorities(&self) -> Result<Vec<Certificate>, ImageError> {
        let Some(path) = &self.config.ca else { return Ok(Vec::new()) };
        let failed = |error: std::io::Error| ImageError::Client(Arc::new(error));
        let pem = std::fs::read(path).map_err(failed)?;
        rustls_pemfile::certs(&mut pem.as_slice())
            .map(|der| der.map(|der| certificate(der.to_vec())).map_err(failed))
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells errors apart; after one of the connection the registry is looked at afresh.
    fn told(&self, image: &Reference, error: OciDistributionError) -> ImageError {
        let error = classify(image, error);
        if matches!(error, ImageError::Down { .. } | ImageError::Tls { .. }) {
            self.lock().remove(&image.registry);
        }
        error
    }
}

fn certificate(data: Vec<u8>) -> Certificate {
    Certificate { encoding: CertificateEncoding::Der, data }
}

fn embedded() -> Vec<Certificate> {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|der| certificate(der.to_vec())).collect()
}

fn auth() -> RegistryAuth {
    RegistryAuth::Anonymous
}

/// Whether a registry's address is on this machine.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|a| a.is_loopback())
}

fn theirs(image: &Reference) -> oci_client::Reference {
    let (registry, repository) = (image.registry.clone(), image.repository.clone());
    match (&image.digest, &image.tag) {
        (Some(digest), _) => {
            oci_client::Reference::with_digest(registry, repository, digest.to_string())
        }
        (None, tag) => {
            let tag = tag.clone().unwrap_or_else(|| "latest".to_owned());
            oci_client::Reference::with_tag(registry, repository, tag)
        }
    }
}

fn classify(image: &Reference, error: OciDistributionError) -> ImageError {
    use OciDistributionError as E;
    let (reference, registry) = (image.to_string(), image.registry.clone());
    match error {
        E::ImageManifestNotFoundError(_) => ImageError::NotFound { reference },
        E::UnauthorizedError { .. } | E::AuthenticationFailure(_) => {
            ImageError::Unauthorized { reference, registry }
        }
        E::RegistryError { envelope, .. } => by_code(image, &envelope.errors),
        E::ServerError { code: 404, .. } => ImageError::NotFound { reference },
        E::ServerError { code: 401 | 403, .. } => ImageError::Unauthorized { reference, registry },
        E::ServerError { code: 429, .. } => {
            ImageError::RateLimited { registry, wait: limits::REGISTRY_PAUSE }
        }
        E::ServerError { code, message, .. } => {
            let message = message.lines().next().unwrap_or_default().chars().take(200).collect();
            ImageError::Server { registry, code, message }
        }
        E::RequestError(error) => connection(registry, &error),
        E::IoError(error) => connection(registry, &error),
        E::DigestError(_) => {
            let digest = image.digest.clone().unwrap_or_else(|| Digest::from(reference.clone()));
            ImageError::WrongDigest { reference, digest }
        }
        other => ImageError::BadManifest { reference, reason: other.to_string() },
    }
}

fn by_code(image: &Reference, errors: &[oci_client::errors::OciError]) -> ImageError {
    use OciErrorCode as C;
    let (reference, registry) = (image.to_string(), image.registry.clone());
    let Some(first) = errors.first() else {
        return ImageError::Server { registry, code: 400, message: "no reason given".to_owned() };
    };
    match &first.code {
        C::ManifestUnknown
        | C::NameUnknown
        | C::BlobUnknown
        | C::NotFound
        | C::ManifestBlobUnknown
        | C::NameInvalid => ImageError::NotFound { reference },
        C::Unauthorized | C::Denied => ImageError::Unauthorized { reference, registry },
        C::Toomanyrequests => ImageError::RateLimited { registry, wait: limits::REGISTRY_PAUSE },
        code => {
            let message = format!("{code:?} {}", first.message);
            ImageError::Server { registry, code: 400, message }
        }
    }
}

/// What became of a connection, with the last of its causes: the one that says most.
pub(super) fn connection(
    registry: String,
    error: &(dyn std::error::Error + 'static),
) -> ImageError {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    let reason = causes.last().cloned().unwrap_or_default();
    let of_tls = ["certificate", "InvalidContentType", "corrupt message", "handshake", "CertNot"];
    if causes.iter().any(|cause| of_tls.iter().any(|text| cause.contains(text))) {
        return ImageError::Tls { registry, reason };
    }
    ImageError::Down { registry, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000", "127.1.2.3"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["docker.io", "10.0.0.1:5000", "registry.example.com", "[fd00::1]:5000"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
