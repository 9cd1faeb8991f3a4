//! The routes of what the cluster keeps for what runs: images, logins, certificates, volumes,
//! secrets.
//!
//! Owns their paths. Never knows how a request travels.

use super::routes::Answer;
use super::{Call, Client, escape, query};
use crate::api::wire::{
    AcmeRequest, CertificateRequest, CertificateView, ImageView, LoginRequest, LoginView,
    MoveRequest, ProviderRequest, RotatedView, SecretRequest, SecretValueView, SecretView,
    SecretsRequest, VolumeView,
};
use hyper::Method;
use std::collections::BTreeMap;

impl Client {
    /// `GET /v1/images`.
    pub async fn images(&self) -> Answer<Vec<ImageView>> {
        self.get("/v1/images").await
    }

    /// `DELETE /v1/images?reference=REF`.
    pub async fn delete_image(&self, reference: &str) -> Answer<serde_json::Value> {
        self.delete(query("/v1/images", &[("reference", Some(reference.to_owned()))])).await
    }

    /// `GET /v1/registries`.
    pub async fn logins(&self) -> Answer<Vec<LoginView>> {
        self.get("/v1/registries").await
    }

    /// `PUT /v1/registries/{registry}`.
    pub async fn log_in(&self, registry: &str, login: &LoginRequest) -> Answer<LoginView> {
        let path = format!("/v1/registries/{}", escape(registry));
        // The registry is asked first, which takes as long as it does.
        self.call(Call::new(Method::PUT, path).json(login).without_timeout()).await
    }

    /// `DELETE /v1/registries/{registry}`.
    pub async fn log_out(&self, registry: &str) -> Answer<serde_json::Value> {
        self.delete(format!("/v1/registries/{}", escape(registry))).await
    }

    /// `GET /v1/certs`.
    pub async fn certificates(&self) -> Answer<Vec<CertificateView>> {
        self.get("/v1/certs").await
    }

    /// `PUT /v1/certs/{host}`.
    pub async fn import_certificate(
        &self,
        host: &str,
        request: &CertificateRequest,
    ) -> Answer<CertificateView> {
        let path = format!("/v1/certs/{}", escape(host));
        self.call(Call::new(Method::PUT, path).json(request)).await
    }

    /// `POST /v1/certs/{host}/renew`.
    pub async fn renew_certificate(&self, host: &str) -> Answer<CertificateView> {
        let path = format!("/v1/certs/{}/renew", escape(host));
        self.call(Call::new(Method::POST, path)).await
    }

    /// `DELETE /v1/certs/{host}`.
    pub async fn delete_certificate(&self, host: &str) -> Answer<serde_json::Value> {
        self.delete(format!("/v1/certs/{}", escape(host))).await
    }

    /// `PUT /v1/acme`.
    pub async fn set_authority(&self, request: &AcmeRequest) -> Answer<serde_json::Value> {
        self.call(Call::new(Method::PUT, "/v1/acme").json(request)).await
    }

    /// `DELETE /v1/acme`.
    pub async fn forget_authority(&self) -> Answer<serde_json::Value> {
        self.delete("/v1/acme".to_owned()).await
    }

    /// `PUT /v1/provider`.
    pub async fn set_provider(&self, request: &ProviderRequest) -> Answer<serde_json::Value> {
        self.call(Call::new(Method::PUT, "/v1/provider").json(request)).await
    }

    /// `GET /v1/volumes`.
    pub async fn volumes(&self) -> Answer<Vec<VolumeView>> {
        self.get("/v1/volumes").await
    }

    /// `GET /v1/volumes/{name}`.
    pub async fn volume(&self, name: &str) -> Answer<VolumeView> {
        self.get(&format!("/v1/volumes/{}", escape(name))).await
    }

    /// `DELETE /v1/volumes/{name}`.
    pub async fn delete_volume(&self, name: &str) -> Answer<serde_json::Value> {
        self.delete(format!("/v1/volumes/{}", escape(name))).await
    }

    /// `POST /v1/volumes/{name}/move`.
    pub async fn move_volume(&self, name: &str, node: &str) -> Answer<VolumeView> {
        let call = Call::new(Method::POST, format!("/v1/volumes/{}/move", escape(name)));
        self.call(call.json(&MoveRequest { node: node.to_owned() })).await
    }

    /// `GET /v1/secrets`.
    pub async fn secrets(&self) -> Answer<Vec<SecretView>> {
        self.get("/v1/secrets").await
    }

    /// `GET /v1/secrets/{name}`.
    pub async fn secret(&self, name: &str) -> Answer<SecretValueView> {
        self.get(&format!("/v1/secrets/{}", escape(name))).await
    }

    /// `PUT /v1/secrets/{name}`.
    pub async fn set_secret(&self, name: &str, request: &SecretRequest) -> Answer<SecretView> {
        let path = format!("/v1/secrets/{}", escape(name));
        self.call(Call::new(Method::PUT, path).json(request)).await
    }

    /// `POST /v1/secrets`.
    pub async fn import_secrets(
        &self,
        secrets: BTreeMap<String, String>,
    ) -> Answer<Vec<SecretView>> {
        let request = SecretsRequest { secrets };
        self.call(Call::new(Method::POST, "/v1/secrets").json(&request)).await
    }

    /// `DELETE /v1/secrets/{name}`.
    pub async fn delete_secret(&self, name: &str, force: bool) -> Answer<serde_json::Value> {
        let path = format!("/v1/secrets/{}", escape(name));
        self.delete(query(&path, &[("force", force.then(|| "true".to_owned()))])).await
    }

    /// `POST /v1/secrets/rotate-key`.
    pub async fn rotate_key(&self) -> Answer<RotatedView> {
        self.call(Call::new(Method::POST, "/v1/secrets/rotate-key").without_timeout()).await
    }
}
