//! A developer's own authority: made once, good on this machine for names below `.localhost` only.
//!
//! Owns its files, and the certificates that it signs, which are made when they are needed. Never
//! signs for a name that others have.

use crate::limits::CA_LIFE;
use crate::node::certificates::read;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Its folder in the data directory.
const FOLDER: &str = "local-ca";
const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "key.pem";
/// The ending of all names that it signs for.
const NAMES: &str = ".localhost";
/// How long its certificates are good: they are made anew at each start.
const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Clocks differ.
const LEEWAY: Duration = Duration::from_secs(3600);

/// Why it can't be read or made.
#[derive(Debug, thiserror::Error)]
pub enum LocalCaError {
    /// The file system.
    #[error("the local CA in {path}", path = path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It can't be made, or the files hold something else.
    #[error(
        "the local CA in {path} can't be used; remove that folder to have another",
        path = path.display()
    )]
    Damaged {
        path: PathBuf,
        #[source]
        source: rcgen::Error,
    },
}

/// A developer's own authority.
pub struct LocalCa {
    issuer: Issuer<'static, KeyPair>,
    made: Mutex<BTreeMap<String, Arc<CertifiedKey>>>,
}

/// Where the authority's certificate is.
#[must_use]
pub fn certificate_file(data: &Path) -> PathBuf {
    data.join(FOLDER).join(CERTIFICATE)
}

impl LocalCa {
    /// The authority of a data directory; made if there is none.
    ///
    /// # Errors
    /// Its files can't be read or written, or hold something else.
    pub fn open(data: &Path) -> Result<Self, LocalCaError> {
        let path = data.join(FOLDER);
        let io = |source| LocalCaError::Io { path: path.clone(), source };
        let damaged = |source| LocalCaError::Damaged { path: path.clone(), source };
        if !path.join(CERTIFICATE).exists() {
            let (certificate, key) = make().map_err(damaged)?;
            write(&path, &certificate, &key).map_err(io)?;
        }
        let text = |name: &str| fs::read_to_string(path.join(name)).map_err(io);
        let key = KeyPair::from_pem(&text(KEY)?).map_err(damaged)?;
        let certificate = CertificateDer::from_pem_slice(text(CERTIFICATE)?.as_bytes());
        let certificate =
            certificate.map_err(|_| damaged(rcgen::Error::CouldNotParseCertificate))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(damaged)?;
        Ok(Self { issuer, made: Mutex::default() })
    }

    /// The certificate of a host, if it is one of this machine alone.
    #[must_use]
    pub fn of(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        if !host.ends_with(NAMES) {
            return None;
        }
        let mut made = self.made.lock();
        if let Some(pair) = made.get(host) {
            return Some(Arc::clone(pair));
        }
        match self.sign(host) {
            Ok(pair) => {
                let pair = Arc::new(pair);
                made.insert(host.to_owned(), Arc::clone(&pair));
                Some(pair)
            }
            Err(error) => {
                tracing::warn!(host, error, "no certificate of the local CA");
                None
            }
        }
    }

    fn sign(&self, host: &str) -> Result<CertifiedKey, String> {
        let told = |error: rcgen::Error| error.to_string();
        let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(told)?;
        params.distinguished_name.push(DnType::CommonName, host);
        (params.not_before, params.not_after) = life(LIFE);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(told)?;
        let signed = params.signed_by(&key, &self.issuer).map_err(told)?;
        read::pair(&signed.pem(), &key.serialize_pem()).map_err(|error| error.to_string())
    }
}

/// A new authority: its certificate and its key, PEM.
fn make() -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    // Two of them are told apart.
    let name = format!("mill dev {:08x}", rand::random::<u32>());
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = life(CA_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Whoever gets hold of its key can't pretend to be anybody else on the network.
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("localhost".to_owned())],
        excluded_subtrees: Vec::new(),
    });
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn life<T: From<SystemTime>>(life: Duration) -> (T, T) {
    let now = SystemTime::now();
    ((now - LEEWAY).into(), (now + life).into())
}

/// Whole or not at all.
fn write(folder: &Path, certificate: &str, key: &str) -> io::Result<()> {
    let draft = folder.with_extension("new");
    if draft.exists() {
        fs::remove_dir_all(&draft)?;
    }
    DirBuilder::new().mode(0o700).recursive(true).create(&draft)?;
    for (name, text) in [(KEY, key), (CERTIFICATE, certificate)] {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(draft.join(name))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    fs::rename(&draft, folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{ServerName, UnixTime};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_is_made_once_and_signs_for_this_machine_only() {
        let data = tempfile::tempdir().unwrap();
        let one = LocalCa::open(data.path()).unwrap();
        let file = certificate_file(data.path());
        let certificate = fs::read_to_string(&file).unwrap();
        let again = LocalCa::open(data.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), certificate);
        let mode = fs::metadata(file.with_file_name(KEY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(one.of("app.example.com").is_none());

        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
        let verifier = verifier.build().unwrap();
        for (ca, host) in [(&one, "web.localhost"), (&again, "app.example.com.localhost")] {
            let pair = ca.of(host).unwrap();
            assert!(Arc::ptr_eq(&pair, &ca.of(host).unwrap()), "made once");
            let name = ServerName::try_from(host).unwrap();
            let seen = verifier.verify_server_cert(&pair.cert[0], &[], &name, &[], UnixTime::now());
            assert!(seen.is_ok(), "{host}: {seen:?}");
        }
    }

    #[test]
    fn what_is_damaged_is_said() {
        let data = tempfile::tempdir().unwrap();
        LocalCa::open(data.path()).unwrap();
        fs::write(certificate_file(data.path()).with_file_name(KEY), "no key").unwrap();
        assert!(matches!(LocalCa::open(data.path()), Err(LocalCaError::Damaged { .. })));
    }
}
