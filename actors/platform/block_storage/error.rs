//! Why the provider's block storage did not do what it was asked.
//!
//! Owns how that reads. Never retries.

use super::{asked_to_wait, body};
use crate::actors::platform::now;
use reqwest::{Response, StatusCode};
use std::time::Duration;

/// Why something wasn't done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// There is no answer.
    #[error("no answer from {place}: {why}")]
    Unreached {
        /// Whose.
        place: String,
        /// Why, in few words.
        why: String,
    },
    /// It doesn't know the token.
    #[error(
        "the provider refuses the cluster's token. Give another one: mill volume provider \
         digitalocean --token -"
    )]
    Unknown,
    /// It is asked too often.
    #[error("the provider was asked too often and is asked again in {}s", wait.as_secs())]
    TooOften {
        /// For how long it wants to be left alone.
        wait: Duration,
    },
    /// It refuses.
    #[error("the provider refuses to {doing}: {status}: {message}")]
    Refused {
        doing: &'static str,
        /// Its answer's status.
        status: u16,
        /// Its words.
        message: String,
    },
    /// It tried and failed.
    #[error("the provider could not {doing}")]
    Errored { doing: &'static str },
    /// It is still at it.
    #[error("the provider takes very long to {doing}")]
    Slow { doing: &'static str },
    /// Its answer isn't what its documentation says.
    #[error("the provider's answer can't be read: it was to {doing}")]
    Unreadable { doing: &'static str },
    /// The state and the provider don't agree.
    #[error("{0}")]
    Odd(String),
}

impl StorageError {
    /// That there is no answer.
    #[must_use]
    pub fn unreached(error: &reqwest::Error) -> Self {
        let place = error.url().map(|url| {
            let host = url.host_str().unwrap_or_default();
            url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
        });
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let why = if error.is_timeout() { "it took too long".into() } else { cause.to_string() };
        Self::Unreached { place: place.unwrap_or_else(|| "the provider".to_owned()), why }
    }

    /// What a refusal says.
    pub(super) async fn of(doing: &'static str, answer: Response) -> Self {
        let status = answer.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
            let (after, reset) = (header("retry-after"), header("ratelimit-reset"));
            return Self::TooOften { wait: asked_to_wait(after, reset, now().0 / 1000) };
        }
        let text = body(answer).await.unwrap_or_default();
        let document: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let message = document["message"].as_str().unwrap_or("it doesn't say why");
        let message = message.chars().filter(|c| !c.is_control()).take(300).collect();
        Self::Refused { doing, status: status.as_u16(), message }
    }

    /// What was asked about isn't there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// How long it is to be left alone, if it says so.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::TooOften { wait } => Some(*wait),
            _ => None,
        }
    }

    /// It may go by itself before long: nobody has to hear of it at once.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreached { .. } | Self::TooOften { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }
}
