//! What a registry asks for when it wants to know who asks: the header `WWW-Authenticate`.
//!
//! Owns its reading (RFC 9110, section 11.6.1, and the distribution project's token
//! specification). Never sends anything.

use std::collections::BTreeMap;

/// How a registry lets somebody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token that is fetched elsewhere.
    Bearer {
        /// From there.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// To do what.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The first of the challenges in a header that can be met; a token before a password.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let all = challenges(header);
        let of = |name: &str| all.iter().find(|(scheme, _)| scheme.eq_ignore_ascii_case(name));
        let bearer = of("bearer").and_then(|(_, parameters)| {
            Some(Self::Bearer {
                realm: parameters.get("realm")?.clone(),
                service: parameters.get("service").cloned(),
                scope: parameters.get("scope").cloned(),
            })
        });
        bearer.or_else(|| of("basic").map(|_| Self::Basic))
    }
}

type Parameters = BTreeMap<String, String>;

/// The schemes of a header with their parameters.
fn challenges(header: &str) -> Vec<(String, Parameters)> {
    let mut all: Vec<(String, Parameters)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',']);
    while !rest.is_empty() {
        let (word, after) = token(rest);
        if word.is_empty() {
            // Not of the grammar: what came before it counts.
            break;
        }
        let after = after.trim_start();
        match after.strip_prefix('=') {
            Some(value) => {
                let (value, after) = value_of(value.trim_start());
                if let Some((_, parameters)) = all.last_mut() {
                    parameters.insert(word.to_ascii_lowercase(), value);
                }
                rest = after;
            }
            None => {
                all.push((word.to_owned(), Parameters::new()));
                rest = after;
            }
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    all
}

fn token(text: &str) -> (&str, &str) {
    let is_end = |c: char| !c.is_ascii_alphanumeric() && !"!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(is_end).unwrap_or(text.len()))
}

/// A value, quoted or not, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, rest) = text.split_at(text.find([',', ' ']).unwrap_or(text.len()));
        return (word.to_owned(), rest);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            _ => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let (service, scope) = (service.map(str::to_owned), scope.map(str::to_owned));
        Some(Challenge::Bearer { realm: realm.to_owned(), service, scope })
    }

    #[test]
    fn headers_of_real_registries() {
        let hub = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",\
                   scope=\"repository:library/x:pull\"";
        let scope = Some("repository:library/x:pull");
        let want = bearer("https://auth.docker.io/token", Some("registry.docker.io"), scope);
        assert_eq!(Challenge::parse(hub), want);
        let basic = "Basic realm=\"basic-realm\"";
        assert_eq!(Challenge::parse(basic), Some(Challenge::Basic));
        let both = "BASIC realm=\"a, b\", bearer realm=https://x/t , scope=\"a\\\"b\"";
        assert_eq!(Challenge::parse(both), bearer("https://x/t", None, Some("a\"b")));
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        for text in ["", " ", "Negotiate", "Bearer", "Bearer service=\"x\"", "=", "\"Basic\""] {
            assert_eq!(Challenge::parse(text), None, "{text}");
        }
        assert_eq!(Challenge::parse("Bearer realm=\"no end"), bearer("no end", None, None));
        assert_eq!(Challenge::parse("Basic é"), Some(Challenge::Basic));
    }
}
