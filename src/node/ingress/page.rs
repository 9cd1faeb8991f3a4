//! Mill's own answers, as both engines write them.
//!
//! Owns their headers. Never decides which one it is.

use super::refusal::Refusal;
use std::fmt::Write as _;

/// How a name and password are asked for.
const CHALLENGE: &str = "Basic realm=\"restricted\", charset=\"UTF-8\"";

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub status: u16,
    /// All headers but the length.
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Page {
    /// Why a request isn't passed on, for those who accept this.
    #[must_use]
    pub fn refused(refusal: &Refusal, accept: &str) -> Self {
        let (kind, body) = refusal.text(accept);
        let mut headers = vec![
            ("Content-Type", kind.to_owned()),
            ("Mill-Error", refusal.code().to_owned()),
            ("Cache-Control", "no-store".to_owned()),
        ];
        if *refusal == Refusal::Unauthorized {
            headers.push(("WWW-Authenticate", CHALLENGE.to_owned()));
        }
        if let Some(seconds) = refusal.retry_after() {
            headers.push(("Retry-After", seconds.to_string()));
        }
        Self { status: refusal.status(), headers, body }
    }

    /// The client is sent elsewhere, for good and with the same method.
    #[must_use]
    pub fn moved(place: String) -> Self {
        Self { status: 308, headers: vec![("Location", place)], body: String::new() }
    }

    /// A text.
    #[must_use]
    pub fn plain(text: String) -> Self {
        let headers = vec![("Content-Type", "text/plain".to_owned())];
        Self { status: 200, headers, body: text }
    }

    /// The whole answer of HTTP/1.1. `closes`: it is the last one of the connection; `is_head`:
    /// it was asked for without the body.
    #[must_use]
    pub fn written(&self, date: &str, closes: bool, is_head: bool) -> String {
        let reason = hyper::StatusCode::from_u16(self.status).ok();
        let reason = reason.and_then(|status| status.canonical_reason()).unwrap_or_default();
        let mut text = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        // Writing to a string can't fail.
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if !date.is_empty() {
            let _ = write!(text, "Date: {date}\r\n");
        }
        let _ = write!(text, "Content-Length: {}\r\n", self.body.len());
        text.push_str(if closes { "Connection: close\r\n\r\n" } else { "\r\n" });
        if !is_head {
            text.push_str(&self.body);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_whole_answer() {
        let page = Page::refused(&Refusal::NoReplica, "");
        let body = "503 No replica of the service is healthy\n";
        let text = page.written("", true, false);
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(text.contains(&format!("Content-Length: {}\r\n", body.len())));
        assert!(text.contains("Retry-After: 2\r\n"));
        assert!(text.ends_with(&format!("Connection: close\r\n\r\n{body}")));
        let kept = page.written("now", false, true);
        assert!(kept.contains("Date: now\r\n") && kept.ends_with("\r\n\r\n"), "{kept}");
        assert!(!kept.contains("Connection"));
    }

    #[test]
    fn an_address_is_written_as_it_is() {
        let text = Page::moved("https://a.example/x?y".to_owned()).written("", false, false);
        let expected = "HTTP/1.1 308 Permanent Redirect\r\nLocation: https://a.example/x?y\r\n\
                        Content-Length: 0\r\n\r\n";
        assert_eq!(text, expected);
    }
}
