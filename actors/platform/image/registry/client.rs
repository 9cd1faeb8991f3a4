//! Requests to one registry: who asks, where an answer may come from, how long it may be.
//!
//! Owns tokens and redirects. Never sends credentials anywhere but to the registry and to the
//! place where it gives out tokens, and never reads more of an answer than was asked for.

use super::errors::{Why, bounded, check};
use super::{AGENT, Account};
use crate::limits;
use crate::node::oci::challenge::Challenge;
use crate::node::oci::docker_config::Login;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url, redirect};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Redirects that an answer may be away.
const REDIRECTS: usize = 5;
/// A token is given up so long before it ends.
const TOKEN_SLACK: Duration = Duration::from_secs(10);
/// How long a token is good for that doesn't say it.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
/// Tokens kept for one registry.
const TOKENS: usize = 256;

/// A client of one registry; cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// By scope and user.
    tokens: HashMap<(String, String), (String, Instant)>,
    basic: bool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.base)
    }
}

/// What is asked for.
pub(super) struct Ask<'a> {
    /// GET or HEAD.
    pub method: Method,
    /// Below `/v2/`.
    pub path: &'a str,
    /// Whose content: a repository.
    pub repository: Option<&'a str>,
    /// The media types that are understood.
    pub accept: Option<&'a str>,
    /// From that byte on.
    pub from: u64,
}

/// What the token's place answers.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Client {
    /// A client of the registry at `host`. `lax`: it may do without TLS, or show any certificate.
    pub fn new(
        host: &str,
        (tls, lax): (bool, bool),
        silence: Duration,
        certificates: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<Self, reqwest::Error> {
        // Whom the registry sends to must be as trustworthy as itself.
        let policy = redirect::Policy::custom(move |attempt| {
            let is_tls = attempt.url().scheme() == "https";
            if attempt.previous().len() > REDIRECTS {
                attempt.error(Why::Redirects)
            } else if !is_tls && attempt.url().scheme() != "http" {
                attempt.error(Why::Elsewhere)
            } else if tls && !is_tls {
                attempt.error(Why::Downgrade)
            } else {
                attempt.follow()
            }
        });
        let builder = reqwest::Client::builder()
            .user_agent(AGENT)
            .redirect(policy)
            .read_timeout(silence)
            .connect_timeout(limits::REGISTRY_CONNECT)
            .danger_accept_invalid_certs(lax);
        let http = certificates(builder).build()?;
        // Docker Hub's registry has another name than its images.
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let scheme = if tls { "https" } else { "http" };
        let base = format!("{scheme}://{host}/v2/");
        Ok(Self { http, base, shared: Arc::default() })
    }

    /// Asks, and asks again as somebody if the registry wants to know who it is. The answer is one
    /// of success.
    pub async fn send(&self, ask: &Ask<'_>, account: &Account) -> Result<Response, Why> {
        let login = account.login();
        let scope = ask.repository.map(|name| format!("repository:{name}:pull"));
        let known = self.known(scope.as_deref(), login);
        let was_known = known.is_some();
        let answer = self.once(ask, known).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return check(answer).await;
        }
        let challenges = answer.headers().get_all(WWW_AUTHENTICATE).iter();
        let texts: Vec<&str> = challenges.filter_map(|value| value.to_str().ok()).collect();
        let authorization = match Challenge::parse(&texts.join(", ")) {
            None => return Err(Why::Denied),
            // It was shown the password already.
            Some(Challenge::Basic) if was_known => return Err(Why::Denied),
            Some(Challenge::Basic) => {
                let header = basic(login.ok_or(Why::Denied)?).ok_or(Why::Denied)?;
                self.lock().basic = true;
                header
            }
            Some(Challenge::Bearer { realm, service, scope: theirs }) => {
                let wanted = scope.clone().or(theirs).unwrap_or_default();
                let token = self.token(&realm, service.as_deref(), &wanted, login).await?;
                let header = bearer(&token.0).ok_or(Why::Answer("its token is no text"))?;
                self.keep(wanted, login, token);
                header
            }
        };
        let answer = self.once(ask, Some(authorization)).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            return Err(Why::Denied);
        }
        check(answer).await
    }

    async fn once(&self, ask: &Ask<'_>, who: Option<HeaderValue>) -> Result<Response, Why> {
        let mut headers = HeaderMap::new();
        headers.extend(who.map(|who| (AUTHORIZATION, who)));
        if let Some(accept) = ask.accept.and_then(|types| HeaderValue::from_str(types).ok()) {
            headers.insert(ACCEPT, accept);
        }
        if ask.from > 0 {
            headers.extend(
                HeaderValue::from_str(&format!("bytes={}-", ask.from)).map(|from| (RANGE, from)),
            );
        }
        let url = format!("{}{}", self.base, ask.path);
        let request = self.http.request(ask.method.clone(), url).headers(headers);
        // The head of the answer; its body has bounds of its own.
        let answer = tokio::time::timeout(limits::REGISTRY_SILENCE, request.send()).await;
        answer.map_err(|_| Why::Late)?.map_err(Why::of)
    }

    /// What to send with the first request, if that is known from earlier ones.
    fn known(&self, scope: Option<&str>, login: Option<&Login>) -> Option<HeaderValue> {
        let shared = self.lock();
        if shared.basic {
            return login.and_then(basic);
        }
        let key = (scope?.to_owned(), user(login));
        let (token, end) = shared.tokens.get(&key)?;
        if *end <= Instant::now() {
            return None;
        }
        bearer(token)
    }

    fn keep(&self, scope: String, login: Option<&Login>, (token, end): (String, Instant)) {
        let mut shared = self.lock();
        if shared.tokens.len() >= TOKENS {
            shared.tokens.clear();
        }
        shared.tokens.insert((scope, user(login)), (token, end));
    }

    /// Fetches a token.
    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: &str,
        login: Option<&Login>,
    ) -> Result<(String, Instant), Why> {
        let mut url = Url::parse(realm).map_err(|_| Why::Answer("its realm is no address"))?;
        let is_tls = self.base.starts_with("https:");
        if !matches!(url.scheme(), "http" | "https") || (is_tls && url.scheme() == "http") {
            return Err(Why::Answer("it gives out tokens without TLS"));
        }
        {
            let mut query = url.query_pairs_mut();
            service.map(|service| query.append_pair("service", service));
            if !scope.is_empty() {
                query.append_pair("scope", scope);
            }
            login.map(|login| query.append_pair("account", &login.user));
        }
        let mut headers = HeaderMap::new();
        headers.extend(login.and_then(basic).map(|header| (AUTHORIZATION, header)));
        let request = self.http.get(url).headers(headers).send();
        let answer = tokio::time::timeout(limits::REGISTRY_SILENCE, request).await;
        let answer = answer.map_err(|_| Why::Late)?.map_err(Why::of)?;
        if matches!(answer.status().as_u16(), 400 | 401 | 403 | 404) {
            return Err(Why::Denied);
        }
        let text = bounded(check(answer).await?, limits::REGISTRY_TOKEN_MAX).await?;
        let token: Token = serde_json::from_slice(&text)
            .map_err(|_| Why::Answer("what should be a token is something else"))?;
        let life = token.expires_in.map_or(TOKEN_LIFE, Duration::from_secs);
        let life = life.min(limits::REGISTRY_TOKEN_LIFE).saturating_sub(TOKEN_SLACK);
        let text = token.token.or(token.access_token).filter(|token| !token.is_empty());
        Ok((text.ok_or(Why::Answer("its token is empty"))?, Instant::now() + life))
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn user(login: Option<&Login>) -> String {
    login.map(|login| login.user.clone()).unwrap_or_default()
}

fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

fn basic(login: &Login) -> Option<HeaderValue> {
    use base64::Engine as _;
    let pair = format!("{}:{}", login.user, login.password.reveal());
    secret(&format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

/// A header that no log shows.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
