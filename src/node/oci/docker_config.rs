//! Docker's `config.json`: the credentials that `docker login` left.
//!
//! Owns which of them belong to a registry. Never reads the file and never runs a helper.

use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Who somebody is to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password or access token.
    pub password: Secret,
}

/// What the file says of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Credentials.
    Login(Login),
    /// A program has them.
    Helper {
        /// Its name, without `docker-credential-`.
        helper: String,
        /// What it knows the registry as.
        server: String,
    },
    /// An OAuth token that is no password.
    IdentityToken,
    Nothing,
}

/// The part of the file that is about credentials.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Auth(…)")
    }
}

impl Auth {
    fn login(&self) -> Option<Login> {
        if !self.auth.is_empty() {
            let bytes = STANDARD.decode(self.auth.trim()).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let (user, password) = text.split_once(':')?;
            let password = Secret::new(password.trim_end_matches('\0'));
            return Some(Login { user: user.to_owned(), password });
        }
        let (user, password) = (self.username.clone(), Secret::new(self.password.clone()));
        (!user.is_empty()).then_some(Login { user, password })
    }
}

impl DockerConfig {
    /// Reads the file's text.
    ///
    /// # Errors
    /// It isn't JSON of that shape.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// What it says of a registry. A helper goes before what is written in the file, as in Docker.
    #[must_use]
    pub fn find(&self, registry: &str) -> Found {
        let is_meant = |name: &str| host(name) == host(registry);
        let helper = self.cred_helpers.iter().find(|(name, _)| is_meant(name));
        if let Some((server, helper)) = helper {
            return Found::Helper { helper: helper.clone(), server: server.clone() };
        }
        let named = self.auths.iter().find(|(name, _)| is_meant(name));
        let auth = named.map(|(_, auth)| auth);
        if let Some(login) = auth.and_then(Auth::login) {
            return Found::Login(login);
        }
        if auth.is_some_and(|auth| !auth.identity_token.is_empty()) {
            return Found::IdentityToken;
        }
        // With a store the file names the registry and holds nothing of it.
        match (&self.creds_store, named) {
            (Some(store), Some((server, _))) => {
                Found::Helper { helper: store.clone(), server: server.clone() }
            }
            _ => Found::Nothing,
        }
    }
}

/// A registry's host: the file has URLs of several kinds, and Docker Hub several names.
fn host(name: &str) -> &str {
    let name = name.strip_prefix("https://").or(name.strip_prefix("http://")).unwrap_or(name);
    let host = name.split('/').next().unwrap_or(name);
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, password: &str) -> Found {
        Found::Login(Login { user: user.to_owned(), password: Secret::new(password) })
    }

    #[test]
    fn every_way_of_docker_is_understood() {
        let encoded = STANDARD.encode("ann:pa:ss");
        let text = format!(
            r#"{{"auths": {{
                "https://index.docker.io/v1/": {{"auth": "{encoded}"}},
                "r.lan:5000": {{"username": "bob", "password": "x"}},
                "kept.example": {{}},
                "azure.example": {{"identitytoken": "t"}},
                "broken.example": {{"auth": "!"}}
              }},
              "credHelpers": {{"ecr.example": "ecr-login"}}, "credsStore": "desktop",
              "HttpHeaders": {{"x": "y"}}}}"#
        );
        let config = DockerConfig::parse(&text).unwrap();
        for name in ["docker.io", "index.docker.io"] {
            assert_eq!(config.find(name), login("ann", "pa:ss"));
        }
        assert_eq!(config.find("r.lan:5000"), login("bob", "x"));
        assert_eq!(config.find("r.lan"), Found::Nothing, "another port");
        let helper = |helper: &str, server: &str| Found::Helper {
            helper: helper.to_owned(),
            server: server.to_owned(),
        };
        assert_eq!(config.find("ecr.example"), helper("ecr-login", "ecr.example"));
        assert_eq!(config.find("kept.example"), helper("desktop", "kept.example"));
        assert_eq!(config.find("azure.example"), Found::IdentityToken);
        assert_eq!(config.find("other.example"), Found::Nothing);
        assert!(!format!("{config:?}").contains(&encoded));
    }

    #[test]
    fn what_is_empty_or_broken_is_no_login() {
        assert_eq!(DockerConfig::parse("{}").unwrap().find("x"), Found::Nothing);
        assert!(DockerConfig::parse("7").is_err());
    }
}
