//! Mill's own answers: what a request that isn't passed on is told.
//!
//! Owns status, code and words of each, so that everybody sees whose error it is. Never writes an
//! answer of a container.

/// Why a request isn't passed on, or could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The head can't be read, or could be read in two ways.
    BadRequest(&'static str),
    /// It has no name and password that the route lets in.
    Unauthorized,
    /// Its address is not among those that the route allows.
    NotAllowed,
    /// Nobody has this host and path.
    NoRoute,
    /// The request itself did not come in time.
    SlowRequest,
    /// Its body is larger than the route takes.
    BodyTooLarge,
    /// The connection was made for another host.
    Misdirected,
    /// Its head is larger than mill reads.
    HeadTooLarge,
    /// More requests than the route takes from one address.
    TooMany,
    /// The container's answer could not be had: the connection failed, or broke off.
    Connect,
    /// What the container answered is no HTTP.
    BadAnswer,
    /// No replica is healthy.
    NoReplica,
    /// The service is paused; with the words of the one who paused it.
    Paused(String),
    /// The container did not answer in time.
    Timeout,
    /// An error in the program.
    Internal,
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Unauthorized => 401,
            Self::NotAllowed => 403,
            Self::NoRoute => 404,
            Self::SlowRequest => 408,
            Self::BodyTooLarge => 413,
            Self::Misdirected => 421,
            Self::TooMany => 429,
            Self::HeadTooLarge => 431,
            Self::Internal => 500,
            Self::Connect | Self::BadAnswer => 502,
            Self::NoReplica | Self::Paused(_) => 503,
            Self::Timeout => 504,
        }
    }

    /// What the header `Mill-Error` says.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad-request",
            Self::Unauthorized => "unauthorized",
            Self::NotAllowed => "not-allowed",
            Self::NoRoute => "no-route",
            Self::SlowRequest => "slow-request",
            Self::BodyTooLarge => "body-too-large",
            Self::Misdirected => "misdirected",
            Self::TooMany => "too-many-requests",
            Self::HeadTooLarge => "head-too-large",
            Self::Internal => "internal",
            Self::Connect => "connect",
            Self::BadAnswer => "bad-answer",
            Self::NoReplica => "no-healthy-replica",
            Self::Paused(_) => "paused",
            Self::Timeout => "timeout",
        }
    }

    /// For people, and without anything that a stranger could use.
    #[must_use]
    pub fn sentence(&self) -> &str {
        match self {
            Self::BadRequest(why) => why,
            Self::Unauthorized => "A name and password are needed here",
            Self::NotAllowed => "This address is not allowed here",
            Self::NoRoute => "No service has this address",
            Self::SlowRequest => "The request did not arrive in time",
            Self::BodyTooLarge => "The request's body is too large",
            Self::Misdirected => "This connection was made for another host",
            Self::TooMany => "Too many requests from this address",
            Self::HeadTooLarge => "The request's head is too large",
            Self::Internal => "Something went wrong here",
            Self::Connect => "The service can't be reached",
            Self::BadAnswer => "The service's answer can't be read",
            Self::NoReplica => "No replica of the service is healthy",
            Self::Paused(message) if message.is_empty() => "The service is down for maintenance",
            Self::Paused(message) => message,
            Self::Timeout => "The service did not answer in time",
        }
    }

    /// After how many seconds it is worth another try.
    #[must_use]
    pub fn retry_after(&self) -> Option<u32> {
        match self {
            Self::TooMany => Some(1),
            Self::NoReplica => Some(2),
            Self::Paused(_) => Some(60),
            _ => None,
        }
    }

    /// The type and text of the page: JSON for those that prefer it, else plain text.
    #[must_use]
    pub fn text(&self, accept: &str) -> (&'static str, String) {
        if prefers_json(accept) {
            let error = serde_json::json!({
                "error": { "code": self.code(), "message": self.sentence() },
            });
            return ("application/json", format!("{error}\n"));
        }
        let text = format!("{} {}\n", self.status(), self.sentence());
        ("text/plain; charset=utf-8", text)
    }
}

/// Whether JSON is named before HTML and plain text.
fn prefers_json(accept: &str) -> bool {
    let kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    for kind in kinds {
        match kind {
            "application/json" | "application/problem+json" => return true,
            "text/html" | "text/plain" => return false,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    #[parameterized(
        nothing = { "", false },
        any = { "*/*", false },
        json = { "application/json", true },
        json_first = { "application/json, text/plain, */*", true },
        browser = { "text/html,application/xhtml+xml,application/json;q=0.9", false },
    )]
    fn json_is_for_those_that_name_it_first(accept: &str, json: bool) {
        let (kind, text) = Refusal::NoRoute.text(accept);
        assert_eq!(kind == "application/json", json);
        assert!(text.contains("No service has this address"));
    }
}
