//! What is changed in a container's answer.
//!
//! Owns which headers go and come, for both engines. Never touches how an answer is framed: a file
//! can't name those headers.

use crate::id::AllocId;
use crate::spec::model::RouteOptions;
use sha2::Digest as _;
use std::borrow::Cow;

/// The cookie by which a client stays with a replica.
const COOKIE: &str = "mill-replica";
/// For how long browsers are told to use HTTPS only: a year.
const HSTS: &str = "max-age=31536000";
const HSTS_NAME: &str = "Strict-Transport-Security";

/// The changes of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Changes<'a> {
    pub options: &'a RouteOptions,
    /// Browsers are told to use HTTPS only.
    pub hsts: bool,
    /// The client is to stay with the replica of this mark.
    pub stay: Option<&'a str>,
}

impl Changes<'_> {
    /// Whether a header of the container doesn't reach the client.
    #[must_use]
    pub fn drops(&self, name: &str) -> bool {
        let is = |other: &String| name.eq_ignore_ascii_case(other);
        self.options.remove.iter().any(is)
            || self.options.set.keys().any(is)
            || (self.hsts && name.eq_ignore_ascii_case(HSTS_NAME))
    }

    /// The headers that are added.
    pub fn adds(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        let hides = |name: &str| self.hsts && name.eq_ignore_ascii_case(HSTS_NAME);
        let set = self.options.set.iter().filter(move |(name, _)| !hides(name));
        let set = set.map(|(name, value)| (name.as_str(), Cow::Borrowed(value.as_str())));
        let hsts = self.hsts.then_some((HSTS_NAME, Cow::Borrowed(HSTS)));
        let stay = self.stay.map(|mark| {
            let cookie = format!("{COOKIE}={mark}; Path=/; HttpOnly; SameSite=Lax");
            ("Set-Cookie", Cow::Owned(cookie))
        });
        set.chain(hsts).chain(stay)
    }
}

/// What the cookie says of a replica: not its name, which is nobody's business.
#[must_use]
pub fn mark(id: &AllocId) -> String {
    let digest = sha2::Sha256::digest(id.as_str().as_bytes());
    hex::encode(&digest[..8])
}

/// The replica's mark in a request's headers `Cookie`.
pub fn kept<'a>(lines: impl Iterator<Item = &'a str>) -> Option<String> {
    lines.flat_map(|line| line.split(';')).find_map(|one| {
        let (name, value) = one.trim().split_once('=')?;
        (name == COOKIE).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_go_and_come() {
        let options = RouteOptions {
            set: [("X-Frame-Options".to_owned(), "DENY".to_owned())].into(),
            remove: vec!["Server".to_owned()],
            ..RouteOptions::default()
        };
        let changes = Changes { options: &options, hsts: true, stay: Some("m") };
        for name in ["server", "x-frame-options", "strict-transport-security"] {
            assert!(changes.drops(name), "{name}");
        }
        assert!(!changes.drops("set-cookie"));
        let added: Vec<_> = changes.adds().map(|(n, v)| format!("{n}: {v}")).collect();
        let cookie = "Set-Cookie: mill-replica=m; Path=/; HttpOnly; SameSite=Lax";
        let hsts = "Strict-Transport-Security: max-age=31536000";
        assert_eq!(added, ["X-Frame-Options: DENY", hsts, cookie]);
    }

    #[test]
    fn a_mark_is_found_among_cookies() {
        let lines = ["a=b; x=y", "c=d; mill-replica=m; e=f"];
        assert_eq!(kept(lines.into_iter()).as_deref(), Some("m"));
        assert_eq!(kept(lines[..1].iter().copied()), None);
    }
}
