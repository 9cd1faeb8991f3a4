//! The provider's block storage: its HTTP API (`DigitalOcean` API v2, "Block Storage" and "Block
//! Storage Actions"), and which of its machines this is.
//!
//! Owns how it is asked and how its refusals read. Never decides what to ask, and keeps nothing.

mod error;

pub use error::StorageError;

use crate::limits;
use crate::secret::Secret;
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// As whom the client introduces itself.
const AGENT: &str = concat!("mill/", env!("CARGO_PKG_VERSION"));
/// Where a machine of the provider finds who it is.
pub const METADATA: &str = "http://169.254.169.254";
/// Where its API is, where nothing else was said.
pub const API: &str = "https://api.digitalocean.com";

/// A volume as the provider shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Disk {
    pub id: String,
    pub name: String,
    /// Whole gibibytes.
    pub size_gigabytes: u64,
    /// The machines that it is attached to: one at most.
    #[serde(default)]
    pub droplet_ids: Vec<u64>,
}

#[derive(Deserialize)]
struct OneDisk {
    volume: Disk,
}

#[derive(Deserialize)]
struct Page {
    volumes: Vec<Disk>,
    #[serde(default)]
    links: Links,
}

#[derive(Default, Deserialize)]
struct Links {
    #[serde(default)]
    pages: Pages,
}

#[derive(Default, Deserialize)]
struct Pages {
    next: Option<String>,
}

#[derive(Deserialize)]
struct OneDroplet {
    droplet: Droplet,
}

#[derive(Deserialize)]
struct Droplet {
    networks: Networks,
}

#[derive(Deserialize)]
struct Networks {
    #[serde(default)]
    v4: Vec<Network>,
    #[serde(default)]
    v6: Vec<Network>,
}

#[derive(Deserialize)]
struct Network {
    ip_address: String,
}

#[derive(Deserialize)]
struct OneAction {
    action: Action,
}

#[derive(Deserialize)]
struct Action {
    id: u64,
    status: String,
}

/// A client of the provider.
#[derive(Clone, Debug)]
pub struct Http(reqwest::Client);

/// The provider's block storage, as the cluster may use it.
#[derive(Clone, Debug)]
pub struct BlockStorage {
    http: Http,
    api: String,
    token: Secret,
    region: String,
}

impl Http {
    /// A client with a bound for each answer.
    ///
    /// # Errors
    /// The host has no way to it.
    pub fn new() -> Result<Self, StorageError> {
        // A second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            let builder = reqwest::Client::builder().user_agent(AGENT);
            builder.timeout(limits::PROVIDER_ANSWER).connect_timeout(limits::PROVIDER_ANSWER / 3)
        };
        // A host without certificates of its own: those that the program brings.
        let built = builder().build().or_else(|_| builder().tls_certs_only(embedded()).build());
        built.map(Self).map_err(|error| StorageError::unreached(&error))
    }

    /// A fact about the machine that this is: `id`, `region`.
    ///
    /// # Errors
    /// It is none of the provider's, or doesn't say.
    pub async fn own(&self, metadata: &str, fact: &str) -> Result<String, StorageError> {
        let url = format!("{metadata}/metadata/v1/{fact}");
        let asked = self.0.get(url).timeout(limits::PROVIDER_LOOK * 2).send().await;
        let answer = asked.map_err(|error| StorageError::unreached(&error))?;
        let doing = "look up which machine this is";
        if !answer.status().is_success() {
            return Err(StorageError::of(doing, answer).await);
        }
        let text = body(answer).await?;
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let is_fact = !text.is_empty() && text.len() <= 63 && text.chars().all(is_name);
        is_fact.then_some(text).ok_or(StorageError::Unreadable { doing })
    }
}

fn embedded() -> Vec<reqwest::Certificate> {
    let all = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    all.filter_map(|der| reqwest::Certificate::from_der(der).ok()).collect()
}

/// All of an answer, up to a bound.
async fn body(mut answer: Response) -> Result<Vec<u8>, StorageError> {
    let mut all = Vec::new();
    let lost = |error: reqwest::Error| StorageError::unreached(&error);
    while let Some(piece) = answer.chunk().await.map_err(lost)? {
        all.extend_from_slice(&piece);
        if all.len() > limits::PROVIDER_BODY_MAX {
            return Err(StorageError::Unreadable { doing: "read an answer" });
        }
    }
    Ok(all)
}

impl BlockStorage {
    /// That of a region, at this address, with this token.
    #[must_use]
    pub fn new(http: Http, api: &str, token: Secret, region: &str) -> Self {
        let api = api.trim_end_matches('/').to_owned();
        Self { http, api, token, region: region.to_owned() }
    }

    /// The volume of that name.
    ///
    /// # Errors
    /// The provider can't be asked.
    pub async fn find(&self, name: &str) -> Result<Option<Disk>, StorageError> {
        let page = limits::PROVIDER_PAGE;
        let query = format!("name={name}&region={}&per_page={page}", self.region);
        let mut path = format!("/v2/volumes?{query}");
        for _ in 0..limits::PROVIDER_PAGES {
            let doing = "list the volumes";
            let page: Page = self.read(doing, Method::GET, &path, None).await?;
            if let Some(found) = page.volumes.into_iter().find(|disk| disk.name == name) {
                return Ok(Some(found));
            }
            // The address of the next page is the provider's; of it only what is asked counts.
            let next =
                page.links.pages.next.and_then(|next| next.find("/v2/").map(|at| (next, at)));
            let Some((next, at)) = next else { return Ok(None) };
            path = next[at..].to_owned();
        }
        Ok(None)
    }

    /// A volume; none: there is none of that id.
    ///
    /// # Errors
    /// The provider can't be asked.
    pub async fn get(&self, id: &str) -> Result<Option<Disk>, StorageError> {
        let path = format!("/v2/volumes/{id}");
        match self.read::<OneDisk>("look at a volume", Method::GET, &path, None).await {
            Ok(one) => Ok(Some(one.volume)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The addresses of a machine; none: there is none of that id.
    ///
    /// # Errors
    /// The provider can't be asked.
    pub async fn addresses(&self, droplet: u64) -> Result<Option<Vec<String>>, StorageError> {
        let path = format!("/v2/droplets/{droplet}");
        match self.read::<OneDroplet>("look at a droplet", Method::GET, &path, None).await {
            Ok(OneDroplet { droplet: Droplet { networks: Networks { v4, v6 } } }) => {
                Ok(Some(v4.into_iter().chain(v6).map(|one| one.ip_address).collect()))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(StorageError::Unknown) => Err(StorageError::Odd(
                "the provider's token may not look at droplets: give it the scope droplet:read"
                    .to_owned(),
            )),
            Err(error) => Err(error),
        }
    }

    /// Makes a volume.
    ///
    /// # Errors
    /// The provider refuses, or its answer was lost: then it may be there.
    pub async fn make(&self, name: &str, gigabytes: u64) -> Result<Disk, StorageError> {
        let wanted = json!({
            "name": name,
            "region": self.region,
            "size_gigabytes": gigabytes,
            "description": "made by mill",
        });
        let doing = "make a volume";
        let made = self.read::<OneDisk>(doing, Method::POST, "/v2/volumes", Some(wanted)).await?;
        Ok(made.volume)
    }

    /// Deletes a volume; one that isn't there is deleted.
    ///
    /// # Errors
    /// The provider refuses.
    pub async fn delete(&self, id: &str) -> Result<(), StorageError> {
        let path = format!("/v2/volumes/{id}");
        match self.ask("delete a volume", Method::DELETE, &path, None).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Attaches a volume to a machine, and waits until it is.
    ///
    /// # Errors
    /// The provider refuses, or takes too long.
    pub async fn attach(&self, id: &str, droplet: u64) -> Result<(), StorageError> {
        let what = json!({"type": "attach", "droplet_id": droplet, "region": self.region});
        self.act("attach a volume", id, what).await
    }

    /// Detaches a volume from a machine, and waits until it is.
    ///
    /// # Errors
    /// The provider refuses, or takes too long.
    pub async fn detach(&self, id: &str, droplet: u64) -> Result<(), StorageError> {
        let what = json!({"type": "detach", "droplet_id": droplet, "region": self.region});
        self.act("detach a volume", id, what).await
    }

    /// Makes a volume larger, and waits until it is.
    ///
    /// # Errors
    /// The provider refuses, or takes too long.
    pub async fn resize(&self, id: &str, gigabytes: u64) -> Result<(), StorageError> {
        let what = json!({
            "type": "resize",
            "size_gigabytes": gigabytes,
            "region": self.region,
        });
        self.act("make a volume larger", id, what).await
    }

    /// An action of the provider, to its end.
    async fn act(&self, doing: &'static str, id: &str, what: Value) -> Result<(), StorageError> {
        let path = format!("/v2/volumes/{id}/actions");
        let begun = Instant::now();
        let mut action = self.read::<OneAction>(doing, Method::POST, &path, Some(what)).await?;
        loop {
            match action.action.status.as_str() {
                "completed" => return Ok(()),
                "errored" => return Err(StorageError::Errored { doing }),
                _ if begun.elapsed() > limits::PROVIDER_ACTION => {
                    return Err(StorageError::Slow { doing });
                }
                _ => {}
            }
            tokio::time::sleep(limits::PROVIDER_LOOK).await;
            let path = format!("{path}/{}", action.action.id);
            match self.read::<OneAction>(doing, Method::GET, &path, None).await {
                Ok(now) => action = now,
                // That it isn't told how far it is ends nothing.
                Err(error) => tokio::time::sleep(error.wait().unwrap_or_default()).await,
            }
        }
    }

    async fn read<T: DeserializeOwned>(
        &self,
        doing: &'static str,
        method: Method,
        path: &str,
        document: Option<Value>,
    ) -> Result<T, StorageError> {
        let answer = self.ask(doing, method, path, document).await?;
        let all = body(answer).await?;
        serde_json::from_slice(&all).map_err(|_| StorageError::Unreadable { doing })
    }

    async fn ask(
        &self,
        doing: &'static str,
        method: Method,
        path: &str,
        document: Option<Value>,
    ) -> Result<Response, StorageError> {
        let url = format!("{}{path}", self.api);
        let mut request = self.http.0.request(method, url).bearer_auth(self.token.reveal());
        if let Some(document) = document {
            request = request.header("content-type", "application/json").body(document.to_string());
        }
        let answer = request.send().await.map_err(|error| StorageError::unreached(&error))?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(StorageError::Unknown),
            _ => Err(StorageError::of(doing, answer).await),
        }
    }
}

/// How long the provider asks to be left alone, by an answer's headers: seconds from now, or the
/// moment (seconds since 1970) at which its count begins anew.
#[must_use]
pub fn asked_to_wait(retry_after: Option<&str>, reset: Option<&str>, now: u64) -> Duration {
    let seconds = |text: Option<&str>| text.and_then(|text| text.trim().parse::<u64>().ok());
    let until = seconds(reset).map(|at| at.saturating_sub(now));
    let wait = seconds(retry_after).or(until).unwrap_or(1).max(1);
    Duration::from_secs(wait).min(limits::PROVIDER_WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[yare::parameterized(
        seconds = { Some("7"), None, 7 },
        a_moment = { None, Some("1020"), 20 },
        the_shorter_word_of_both = { Some("3"), Some("1020"), 3 },
        neither = { None, None, 1 },
        a_moment_that_is_past = { None, Some("900"), 1 },
        no_number = { Some("soon"), None, 1 },
        far_too_long = { Some("99999"), None, 600 },
    )]
    fn it_is_left_alone_as_long_as_it_asks(after: Option<&str>, reset: Option<&str>, wait: u64) {
        assert_eq!(asked_to_wait(after, reset, 1000), Duration::from_secs(wait));
    }
}
