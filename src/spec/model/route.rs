//! Routes: which requests lead to a service, and how they are answered.
//!
//! Owns the shapes and their defaults. Never matches a request: that is `node::ingress`.

use crate::cidr::Cidr;
use crate::id::SecretName;
use crate::units::{Bytes, Millis};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A host and path prefix that lead to the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSpec {
    /// Host name in lower case; `*.` at its beginning stands for one label.
    pub host: String,
    /// Path prefix, default `/`.
    pub path: String,
    /// Named port; absent: the main port.
    pub port: Option<String>,
    /// Speak HTTP/2 without TLS to the container.
    pub h2c: bool,
    /// Redirect plain HTTP to HTTPS; default true.
    pub redirect: bool,
    /// What else the file says of it.
    #[serde(default, skip_serializing_if = "RouteOptions::is_plain")]
    pub options: Box<RouteOptions>,
}

impl RouteSpec {
    /// What it is told apart by: `/api` and `/api/` are the same prefix.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}{}", self.host, self.path.trim_end_matches('/'))
    }
}

/// The properties of a route that are rarely given; each absent one has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteOptions {
    /// The prefix is taken off before the container sees the path.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strip: bool,
    /// Requests are redirected there instead of being passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Until the answer's head; default 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Millis>,
    /// Largest body of a request; default 100 MB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_max: Option<Bytes>,
    /// Basic authentication: the secret holds lines of htpasswd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<SecretName>,
    /// A client stays with its replica, by a cookie.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sticky: bool,
    /// Answers are compressed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub compress: bool,
    /// Clients with other addresses are refused; empty: none are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Cidr>,
    /// Requests of one client address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<RateLimit>,
    /// Browsers are told to use HTTPS only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub hsts: bool,
    /// How long a request waits while no replica is healthy; default: not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Millis>,
    /// Its requests are in no access log.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unlogged: bool,
    /// Headers of the answer that are set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Headers of the answer that are removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl RouteOptions {
    /// Nothing but defaults.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }
}

/// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// So many requests in a second or a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// How many.
    pub requests: u32,
    /// In how many seconds: 1 or 60.
    pub seconds: u32,
}

impl RateLimit {
    /// `100/s` or `600/m`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (requests, unit) = text.split_once('/').filter(|_| !text.starts_with('+'))?;
        let requests = requests.parse().ok().filter(|requests| *requests > 0)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            _ => return None,
        };
        Some(Self { requests, seconds })
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.requests, if self.seconds == 1 { "s" } else { "m" })
    }
}
