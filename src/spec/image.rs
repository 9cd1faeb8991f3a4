//! Image references: Docker's short names to full ones.
//!
//! Owns what a reference looks like and its canonical form, after the grammar of the distribution
//! project's `reference` package. Never asks a registry.

use crate::id::Digest;
use std::fmt;
use std::str::FromStr;

const DOCKER_HUB: &str = "docker.io";
/// The longest registry and repository together.
const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// A full reference: `REGISTRY/REPOSITORY`, with a tag, a digest, or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Host, perhaps with a port: `docker.io`, `127.0.0.1:5000`.
    pub registry: String,
    /// Path in the registry: `library/nginx`.
    pub repository: String,
    /// `latest` if the text had neither tag nor digest.
    pub tag: Option<String>,
    /// Wins over the tag.
    pub digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing there.
    #[error("the image is empty")]
    Empty,
    /// `https://…`.
    #[error("an image has no scheme")]
    Scheme,
    /// The registry is not a host with an optional port.
    #[error("the registry isn't a host or HOST:PORT")]
    Registry,
    /// Capitals in the repository.
    #[error("a repository is in lower case")]
    UpperCase,
    /// Anything else wrong with the repository.
    #[error("the repository takes a-z, 0-9, and single . _ - between them")]
    Repository,
    /// Not a tag.
    #[error("a tag takes A-Z, a-z, 0-9, _ . - and at most 128 of them")]
    Tag,
    /// Not a digest.
    #[error("a digest is sha256: and 64 hexadecimal digits")]
    Digest,
    /// Longer than a registry takes.
    #[error("the image is longer than 255 characters")]
    TooLong,
}

impl Reference {
    /// Reads a reference as Docker does: `nginx` is `docker.io/library/nginx:latest`.
    ///
    /// # Errors
    /// When the text is not a reference, with the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.contains("://") {
            return Err(ReferenceError::Scheme);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        // A colon after the last slash starts the tag; one before it belongs to the registry.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(parse_tag(tag)?)),
            _ => (rest, None),
        };
        let (registry, repository) = split_registry(name);
        let repository = if registry == DOCKER_HUB && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        check_registry(registry)?;
        check_repository(&repository)?;
        if registry.len() + 1 + repository.len() > NAME_MAX {
            return Err(ReferenceError::TooLong);
        }
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }

    /// The same image by another digest: what a tag was resolved to.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The canonical form without a digest: what people call an image.
    #[must_use]
    pub fn plain(&self) -> String {
        Self { digest: None, ..self.clone() }.to_string()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    /// The canonical form: `docker.io/library/nginx:latest`, `HOST/NAME@sha256:…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The first part is a registry if it can't be a repository on Docker Hub.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((host, rest)) if is_host(host) => {
            (if host == "index.docker.io" { DOCKER_HUB } else { host }, rest)
        }
        _ => (DOCKER_HUB, name),
    }
}

fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.contains(char::is_uppercase)
}

fn check_registry(registry: &str) -> Result<(), ReferenceError> {
    let (host, port) = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(ReferenceError::Registry);
            }
            ("ipv6", port)
        }
        None => registry.split_at(registry.find(':').unwrap_or(registry.len())),
    };
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_port = |p: &str| !p.starts_with('+') && p.parse::<u16>().is_ok_and(|p| p > 0);
    let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    if host.split('.').all(label) && port_fits { Ok(()) } else { Err(ReferenceError::Registry) }
}

fn check_repository(repository: &str) -> Result<(), ReferenceError> {
    if repository.contains(|c: char| c.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase);
    }
    if repository.split('/').all(is_component) { Ok(()) } else { Err(ReferenceError::Repository) }
}

/// Letters and digits, parted by `.`, `_`, `__` or any number of `-`.
fn is_component(part: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().is_some_and(|b| word(*b)) && bytes.last().is_some_and(|b| word(*b));
    ends && part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
    })
}

fn parse_tag(tag: &str) -> Result<String, ReferenceError> {
    let first = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let rest = tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if first && rest && tag.len() <= TAG_MAX {
        Ok(tag.to_owned())
    } else {
        Err(ReferenceError::Tag)
    }
}

fn parse_digest(digest: &str) -> Result<Digest, ReferenceError> {
    let hex = digest.strip_prefix("sha256:").ok_or(ReferenceError::Digest)?;
    let fits = hex.len() == 64 && hex.bytes().all(|b| b"0123456789abcdef".contains(&b));
    if fits { Ok(Digest::from(digest.to_owned())) } else { Err(ReferenceError::Digest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[yare::parameterized(
        short = { "nginx", "docker.io/library/nginx:latest" },
        tag = { "postgres:17", "docker.io/library/postgres:17" },
        user = { "grafana/grafana", "docker.io/grafana/grafana:latest" },
        hub = { "docker.io/nginx", "docker.io/library/nginx:latest" },
        index = { "index.docker.io/nginx", "docker.io/library/nginx:latest" },
        host = { "registry.example.com/web:v1", "registry.example.com/web:v1" },
        loopback = { "127.0.0.1:5000/hello:v1", "127.0.0.1:5000/hello:v1" },
        localhost = { "localhost/a/b/c", "localhost/a/b/c:latest" },
        port = { "localhost:5000/a", "localhost:5000/a:latest" },
        capital_host = { "Registry/a", "Registry/a:latest" },
        ipv6 = { "[::1]:5000/a", "[::1]:5000/a:latest" },
        dashes = { "a--b/c__d.e", "docker.io/a--b/c__d.e:latest" },
    )]
    fn references_are_completed(text: &str, canonical: &str) {
        let reference = Reference::parse(text).unwrap();
        assert_eq!(reference.to_string(), canonical);
        assert_eq!(Reference::parse(canonical).unwrap(), reference);
    }

    #[test]
    fn digests_are_kept_with_and_without_a_tag() {
        let text = format!("nginx@sha256:{HEX}");
        let reference = Reference::parse(&text).unwrap();
        assert_eq!(reference.to_string(), format!("docker.io/library/{text}"));
        assert_eq!(reference.tag, None);
        let both = Reference::parse(&format!("nginx:1@sha256:{HEX}")).unwrap();
        assert_eq!((both.tag.as_deref(), both.digest.is_some()), (Some("1"), true));
        let pinned =
            Reference::parse("nginx").unwrap().pinned(Digest::from(format!("sha256:{HEX}")));
        assert_eq!(pinned.to_string(), format!("docker.io/library/nginx:latest@sha256:{HEX}"));
    }

    #[yare::parameterized(
        empty = { "", ReferenceError::Empty },
        scheme = { "https://a.example/b", ReferenceError::Scheme },
        capitals = { "Nginx", ReferenceError::UpperCase },
        blank = { "a b", ReferenceError::Repository },
        slash_end = { "a/", ReferenceError::Repository },
        slash_start = { "/a", ReferenceError::Repository },
        slashes = { "a//b", ReferenceError::Repository },
        dots = { "a..b", ReferenceError::Repository },
        underscores = { "a___b", ReferenceError::Repository },
        dash_end = { "a-", ReferenceError::Repository },
        no_tag = { "nginx:", ReferenceError::Tag },
        bad_tag = { "nginx:-1", ReferenceError::Tag },
        port = { "localhost:99999/a", ReferenceError::Registry },
        port_text = { "localhost:x/a", ReferenceError::Registry },
        port_sign = { "localhost:+80/a", ReferenceError::Registry },
        host = { "-a.b/c", ReferenceError::Registry },
        short_digest = { "nginx@sha256:12", ReferenceError::Digest },
        md5 = { "nginx@md5:12", ReferenceError::Digest },
        quotes = { "'nginx'", ReferenceError::Repository },
    )]
    fn malformed_references_say_why(text: &str, why: ReferenceError) {
        assert_eq!(Reference::parse(text), Err(why));
    }

    #[test]
    fn lengths_are_bounded() {
        let long = "a".repeat(256);
        assert_eq!(Reference::parse(&long), Err(ReferenceError::TooLong));
        assert_eq!(Reference::parse(&format!("a:{long}")), Err(ReferenceError::Tag));
    }
}
