//! Tokens as a registry of the distribution project takes them: signed JSON (RFC 7515, RFC 7519).
//!
//! Owns their making. Never checks one.

use crate::registry::Registry;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::fs;

/// A token for one who may pull this repository of that registry.
pub(super) fn sign(registry: &Registry, repository: &str) -> String {
    let [certificate, key] = registry.token_keys().map(|path| fs::read(path).unwrap());
    let certificate = CertificateDer::from_pem_slice(&certificate).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&key).unwrap();
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.secret_der(), &random).unwrap();
    let head = json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&certificate)]});
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({
        "iss": "test", "sub": "ann", "aud": "test", "jti": "1",
        "iat": now - 60, "nbf": now - 60, "exp": now + 600,
        "access": [{"type": "repository", "name": repository, "actions": ["pull"]}],
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&head), part(&claims));
    let signature = pair.sign(&random, signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
