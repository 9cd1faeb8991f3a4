//! Registries: their documents and blobs, and why they can't be had.
//!
//! Owns who is who to which registry, and how many blobs come at once. Never stores what it
//! fetches.

mod client;
mod errors;
mod helper;

pub(super) use errors::connection;

use super::error::{ImageError, Who};
use super::{RegistryConfig, probe};
use crate::id::Digest;
use crate::limits;
use crate::node::oci::docker_config::{DockerConfig, Found, Login};
use crate::node::oci::image::{INDEX_TYPES, MANIFEST_TYPES, sha256};
use crate::spec::image::Reference;
use bytes::Bytes;
use client::{Ask, Client};
use errors::Why;
use reqwest::{Method, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Who asks.
const AGENT: &str = concat!("mill/", env!("CARGO_PKG_VERSION"));
/// Where a registry says which digest a tag leads to.
const DIGEST: &str = "docker-content-digest";

/// All registries of a node.
#[derive(Debug)]
pub(super) struct Registries {
    config: RegistryConfig,
    clients: Mutex<HashMap<String, Client>>,
    logins: Mutex<BTreeMap<String, Login>>,
    /// What credential helpers said, and when.
    helped: tokio::sync::Mutex<HashMap<String, (Login, Instant)>>,
    /// One permit for each blob that is being fetched.
    pub blobs: Arc<Semaphore>,
}

/// What is known of the one who asks a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// Nothing.
    Nobody,
    /// Credentials, given to mill or found in Docker's file.
    Login(Login),
    /// They are somewhere where they can't be had.
    Elsewhere(Who),
}

impl Account {
    /// The credentials, if they can be had.
    pub fn login(&self) -> Option<&Login> {
        match self {
            Self::Login(login) => Some(login),
            Self::Nobody | Self::Elsewhere(_) => None,
        }
    }

    /// For an error.
    pub fn who(&self) -> Who {
        match self {
            Self::Nobody => Who::Nobody,
            Self::Login(login) => Who::User(login.user.clone()),
            Self::Elsewhere(who) => who.clone(),
        }
    }
}

/// A blob on its way.
pub(super) struct Blob {
    answer: Response,
    /// The registry kept to the offset; if not, the blob comes from its beginning.
    pub kept: bool,
}

impl Blob {
    /// The next piece; none at the end.
    pub async fn next(
        &mut self,
        image: &Reference,
        digest: &Digest,
    ) -> Result<Option<Bytes>, ImageError> {
        self.answer.chunk().await.map_err(|error| errors::broken(image, digest, error))
    }
}

impl Registries {
    pub(super) fn new(config: RegistryConfig) -> Self {
        let blobs = Arc::new(Semaphore::new(limits::PULLS_PARALLEL));
        Self {
            config,
            clients: Mutex::default(),
            logins: Mutex::default(),
            helped: tokio::sync::Mutex::default(),
            blobs,
        }
    }

    /// From now on these credentials count.
    pub fn use_logins(&self, logins: BTreeMap<String, Login>) {
        *lock(&self.logins) = logins;
        // Their tokens were somebody else's.
        lock(&self.clients).clear();
    }

    /// The digest that a reference leads to.
    pub async fn digest(&self, image: &Reference) -> Result<Digest, ImageError> {
        let tag = image.tag.as_deref().unwrap_or("latest");
        let path = format!("{}/manifests/{tag}", image.repository);
        match self.send(image, Method::HEAD, &path, 0).await {
            Ok(answer) => {
                let named = answer.headers().get(DIGEST).and_then(|value| value.to_str().ok());
                let named = named.map(|text| format!("x@{text}"));
                let known = named.and_then(|text| Reference::parse(&text).ok()?.digest);
                if let Some(digest) = known {
                    return Ok(digest);
                }
            }
            // Some know only GET, and only its answer has a reason in it.
            Err(ImageError::Server { .. }) => {}
            Err(error) => return Err(error),
        }
        let answer = self.send(image, Method::GET, &path, 0).await?;
        Ok(sha256(&self.text(image, answer, limits::MANIFEST_MAX).await?))
    }

    /// A manifest or index by its digest.
    pub async fn document(&self, image: &Reference, digest: &Digest) -> Result<Bytes, ImageError> {
        let path = format!("{}/manifests/{digest}", image.repository);
        let answer = self.send(image, Method::GET, &path, 0).await?;
        let text = self.text(image, answer, limits::MANIFEST_MAX).await?;
        if sha256(&text) == *digest {
            return Ok(text);
        }
        Err(ImageError::WrongDigest { reference: image.to_string(), digest: digest.clone() })
    }

    /// A blob from an offset on.
    pub async fn blob(
        &self,
        image: &Reference,
        digest: &Digest,
        offset: u64,
    ) -> Result<Blob, ImageError> {
        let path = format!("{}/blobs/{digest}", image.repository);
        let answer = self.send(image, Method::GET, &path, offset).await?;
        let kept = offset == 0 || answer.status() == StatusCode::PARTIAL_CONTENT;
        Ok(Blob { answer, kept })
    }

    /// Whether a registry lets that login in.
    pub async fn verify(&self, registry: &str, login: Login) -> Result<(), ImageError> {
        let image = Reference {
            registry: registry.to_owned(),
            repository: String::new(),
            tag: None,
            digest: None,
        };
        let account = Account::Login(login);
        // A client of its own: an earlier one's token would let anybody in.
        let client = self.connect(registry).await?;
        let method = Method::GET;
        let ask = Ask { method, path: "", repository: None, accept: None, from: 0 };
        let answer = client.send(&ask, &account).await;
        answer.map(drop).map_err(|why| match why {
            Why::Denied => ImageError::LoginRefused {
                registry: registry.to_owned(),
                user: account.login().map(|login| login.user.clone()).unwrap_or_default(),
            },
            Why::Missing => {
                let reason = "it has no /v2/".to_owned();
                ImageError::Strange { registry: registry.to_owned(), reason }
            }
            why => why.told(&image, &account),
        })
    }

    async fn send(
        &self,
        image: &Reference,
        method: Method,
        path: &str,
        from: u64,
    ) -> Result<Response, ImageError> {
        let client = self.client(&image.registry).await?;
        let account = self.account(&image.registry).await;
        let accept = [INDEX_TYPES, MANIFEST_TYPES].concat().join(", ");
        let accept = path.contains("/manifests/").then_some(accept.as_str());
        let ask = Ask { method, path, repository: Some(&image.repository), accept, from };
        let answer = client.send(&ask, &account).await;
        answer.map_err(|why| self.told(image, &account, why))
    }

    async fn text(
        &self,
        image: &Reference,
        answer: Response,
        max: u64,
    ) -> Result<Bytes, ImageError> {
        let text = errors::bounded(answer, max).await;
        text.map_err(|why| self.told(image, &Account::Nobody, why))
    }

    /// Who to be: first what was given to mill, then what Docker's file has.
    async fn account(&self, registry: &str) -> Account {
        if let Some(login) = lock(&self.logins).get(registry) {
            return Account::Login(login.clone());
        }
        let Some(path) = &self.config.docker_config else { return Account::Nobody };
        // Read each time: it is small, and `docker login` changes it.
        let Ok(text) = tokio::fs::read_to_string(path).await else { return Account::Nobody };
        let file = path.display().to_string();
        let Ok(config) = DockerConfig::parse(&text) else {
            return Account::Elsewhere(Who::Unread { file });
        };
        match config.find(registry) {
            Found::Login(login) => Account::Login(login),
            Found::Helper { helper, server } => self.ask_helper(file, helper, &server).await,
            Found::IdentityToken => Account::Elsewhere(Who::IdentityToken { file }),
            Found::Nothing => Account::Nobody,
        }
    }

    /// What a helper has is kept for a while: a pull asks for each of its layers.
    async fn ask_helper(&self, file: String, helper: String, server: &str) -> Account {
        let mut helped = self.helped.lock().await;
        helped.retain(|_, (_, at)| at.elapsed() < limits::CREDENTIAL_KEPT);
        let key = format!("{helper} {server}");
        if let Some((login, _)) = helped.get(&key) {
            return Account::Login(login.clone());
        }
        match helper::ask(&helper, server).await {
            Ok(login) => {
                helped.insert(key, (login.clone(), Instant::now()));
                Account::Login(login)
            }
            Err(error) => {
                let reason = error.to_string();
                Account::Elsewhere(Who::Helper { file, helper, reason })
            }
        }
    }

    async fn client(&self, registry: &str) -> Result<Client, ImageError> {
        if let Some(client) = lock(&self.clients).get(registry) {
            return Ok(client.clone());
        }
        let client = self.connect(registry).await?;
        lock(&self.clients).insert(registry.to_owned(), client.clone());
        Ok(client)
    }

    async fn connect(&self, registry: &str) -> Result<Client, ImageError> {
        // A second call changes nothing; programs that use the library may not have made the first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let lax = self.is_lax(registry);
        let tls = !lax || probe::speaks_tls(registry).await?;
        let silence = self.config.silence;
        let extra = self.authorities()?;
        let merged = |builder: reqwest::ClientBuilder| builder.tls_certs_merge(extra.clone());
        let own = |builder: reqwest::ClientBuilder| {
            builder.tls_certs_only(embedded().into_iter().chain(extra.clone()))
        };
        Client::new(registry, (tls, lax), silence, merged)
            // A host without certificates of its own: those that the program brings.
            .or_else(|_| Client::new(registry, (tls, lax), silence, own))
            .map_err(|error| ImageError::Client(Arc::new(error)))
    }

    fn is_lax(&self, registry: &str) -> bool {
        is_loopback(registry) || self.config.insecure.iter().any(|known| known == registry)
    }

    fn authorities(&self) -> Result<Vec<reqwest::Certificate>, ImageError> {
        let Some(path) = &self.config.ca else { return Ok(Vec::new()) };
        let failed = |error: std::io::Error| ImageError::Client(Arc::new(error));
        let pem = std::fs::read(path).map_err(failed)?;
        let mut all = Vec::new();
        for der in CertificateDer::pem_slice_iter(&pem) {
            let der = der.map_err(|error| failed(std::io::Error::other(error)))?;
            let certificate = reqwest::Certificate::from_der(&der);
            all.push(certificate.map_err(|error| ImageError::Client(Arc::new(error)))?);
        }
        Ok(all)
    }

    /// Tells errors apart; after one of the connection the registry is looked at afresh.
    fn told(&self, image: &Reference, account: &Account, why: Why) -> ImageError {
        let error = why.told(image, account);
        let is_odd = matches!(
            error,
            ImageError::Down { .. }
                | ImageError::Tls { .. }
                | ImageError::Server { .. }
                | ImageError::Strange { .. }
        );
        if is_odd {
            lock(&self.clients).remove(&image.registry);
        }
        error
    }
}

/// A blob that ended, or was ended, before its time.
pub(super) fn broken_off(image: &Reference, digest: &Digest, reason: &str) -> ImageError {
    errors::broken_off(image, digest, reason.to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bound(text: &str, letters: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(letters).collect()
}

fn embedded() -> Vec<reqwest::Certificate> {
    let all = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    all.filter_map(|der| reqwest::Certificate::from_der(der).ok()).collect()
}

/// Whether a registry's address is on this machine.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|a| a.is_loopback())
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
