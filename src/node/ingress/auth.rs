//! Who may pass a route with `auth`: names and hashed passwords, as htpasswd writes them.
//!
//! Owns what of a secret is read, and how a password is checked. Never keeps a password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use std::collections::BTreeMap;

/// Highest cost of bcrypt: one more takes twice as long.
const COST_MAX: u32 = 14;
/// Turns of Apache's way to use MD5.
const TURNS: u32 = 1_000;
/// The digits of its sums.
const DIGITS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What a secret says can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// It is no text.
    #[error("it is no text")]
    NoText,
    /// A line has no name and hash.
    #[error("line {line} is not NAME:HASH")]
    NoPair {
        /// Its number, from 1.
        line: usize,
    },
    /// A password is kept in a way that mill doesn't check.
    #[error(
        "the password of {name} in line {line} is none of $2y$… (bcrypt), $apr1$… and {{SHA}}…"
    )]
    Unknown {
        /// Its number, from 1.
        line: usize,
        /// Whose.
        name: String,
    },
    /// A check would take seconds.
    #[error("the password of {name} has bcrypt's cost {cost}: at most {COST_MAX}")]
    Costly {
        /// Whose.
        name: String,
        /// What it has.
        cost: u32,
    },
    /// There is no name in it.
    #[error("it has no line NAME:HASH")]
    Empty,
}

/// Names with their hashed passwords; the default lets nobody in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users(BTreeMap<String, Hash>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hash {
    Bcrypt(String),
    Apache { salt: String, sum: String },
    Sha1(Vec<u8>),
}

impl Users {
    /// Reads the lines of htpasswd; empty ones and those with `#` say nothing.
    ///
    /// # Errors
    /// A line can't be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, UsersError> {
        let text = std::str::from_utf8(bytes).map_err(|_| UsersError::NoText)?;
        let mut users = BTreeMap::new();
        for (at, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = at + 1;
            let pair = line.split_once(':').filter(|(name, _)| !name.is_empty());
            let (name, hash) = pair.ok_or(UsersError::NoPair { line: number })?;
            let hash = hash_of(name, hash, number)?;
            users.insert(name.to_owned(), hash);
        }
        if users.is_empty() { Err(UsersError::Empty) } else { Ok(Self(users)) }
    }

    /// Whether that is the password of that name. Takes its time, by design: tens of milliseconds
    /// with bcrypt; for a name that nobody has as long as for another.
    #[must_use]
    pub fn check(&self, name: &str, password: &str) -> bool {
        let known = self.0.get(name);
        let hash = known.or_else(|| self.0.values().next());
        hash.is_some_and(|hash| hash.is_of(password)) && known.is_some()
    }
}

/// How a password is kept.
fn hash_of(name: &str, text: &str, line: usize) -> Result<Hash, UsersError> {
    let unknown = || UsersError::Unknown { line, name: name.to_owned() };
    if let Some(rest) = text.strip_prefix("$apr1$") {
        let (salt, sum) = rest.split_once('$').ok_or_else(unknown)?;
        let fits = salt.len() <= 8 && sum.len() == 22 && !salt.is_empty();
        let hash = Hash::Apache { salt: salt.to_owned(), sum: sum.to_owned() };
        return if fits { Ok(hash) } else { Err(unknown()) };
    }
    if let Some(sum) = text.strip_prefix("{SHA}") {
        let sum = STANDARD.decode(sum).ok().filter(|sum| sum.len() == 20);
        return sum.map(Hash::Sha1).ok_or_else(unknown);
    }
    let variants = ["$2y$", "$2b$", "$2a$"];
    let rest = variants.iter().find_map(|variant| text.strip_prefix(variant));
    let (cost, rest) = rest.and_then(|rest| rest.split_once('$')).ok_or_else(unknown)?;
    let cost: u32 = cost.parse().map_err(|_| unknown())?;
    if cost > COST_MAX {
        return Err(UsersError::Costly { name: name.to_owned(), cost });
    }
    if rest.len() == 53 { Ok(Hash::Bcrypt(text.to_owned())) } else { Err(unknown()) }
}

impl Hash {
    fn is_of(&self, password: &str) -> bool {
        match self {
            // What can't be read lets nobody in.
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Apache { salt, sum } => apache(password.as_bytes(), salt.as_bytes()) == *sum,
            Self::Sha1(sum) => {
                let algorithm = &ring::digest::SHA1_FOR_LEGACY_USE_ONLY;
                ring::digest::digest(algorithm, password.as_bytes()).as_ref() == sum.as_slice()
            }
        }
    }
}

/// Apache's way to use MD5 for passwords (`apr_md5_encode`): the sum behind `$apr1$SALT$`.
fn apache(password: &[u8], salt: &[u8]) -> String {
    let md5 = |parts: &[&[u8]]| {
        let mut hash = Md5::new();
        parts.iter().for_each(|part| hash.update(part));
        hash.finalize()
    };
    let first = md5(&[password, salt, password]);
    let mut hash = Md5::new();
    for part in [password, b"$apr1$", salt] {
        hash.update(part);
    }
    for part in password.chunks(16) {
        hash.update(&first[..part.len()]);
    }
    let mut left = password.len();
    while left > 0 {
        hash.update(if left & 1 == 1 { b"\0" } else { &password[..1] });
        left >>= 1;
    }
    let mut sum = hash.finalize();
    for turn in 0..TURNS {
        let (one, other) = if turn & 1 == 1 { (password, &sum[..]) } else { (&sum[..], password) };
        let salt = if turn % 3 == 0 { &[][..] } else { salt };
        let again = if turn % 7 == 0 { &[][..] } else { password };
        sum = md5(&[one, salt, again, other]);
    }
    let mut text = String::new();
    let mut digits = |value: u32, count: u32| {
        for digit in 0..count {
            let at = (value >> (6 * digit)) & 63;
            text.push(char::from(DIGITS[at as usize]));
        }
    };
    for [high, middle, low] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
        let bytes = [0, sum[high], sum[middle], sum[low]];
        digits(u32::from_be_bytes(bytes), 4);
    }
    digits(u32::from(sum[11]), 2);
    text
}

/// Name and password of an `Authorization` header (RFC 7617).
#[must_use]
pub fn credentials(header: &str) -> Option<(String, String)> {
    let (scheme, text) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    // Made by glibc's crypt(3) and openssl.
    #[parameterized(
        bcrypt = { "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW", "secret" },
        apache = { "$apr1$Xy3ab./Z$2BZ08m6JzfRbex3ZoVBCf0", "secret" },
        apache_long = {
            "$apr1$q$g/qD3wRuhWLxljq4ptrdR/", "a password that is longer than sixteen bytes"
        },
        apache_empty = { "$apr1$12345678$sHuPAw7VA9xjRbJz7zKV7/", "" },
        sha = { "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "secret" },
    )]
    fn a_password_is_checked(hash: &str, password: &str) {
        let users = Users::parse(format!("# who may\n\nann:{hash}\n").as_bytes()).unwrap();
        assert!(users.check("ann", password));
        assert!(!users.check("ann", "other"));
        assert!(!users.check("bob", password));
        assert!(!Users::default().check("ann", password));
    }

    #[parameterized(
        plain = { "ann:secret", "the password of ann in line 1" },
        crypt = { "ann:rl0uEjfnwVMLk", "is none of $2y$" },
        cut = { "ann:$apr1$abc", "is none of $2y$" },
        cut_bcrypt = { "ann:$2y$10$abc", "is none of $2y$" },
        costly = { "ann:$2y$20$abc", "has bcrypt's cost 20: at most 14" },
        no_pair = { "# x\nann", "line 2 is not NAME:HASH" },
        no_name = { ":{SHA}x", "line 1 is not NAME:HASH" },
        empty = { "\n", "no line NAME:HASH" },
    )]
    fn what_can_t_be_checked_is_said(text: &str, expected: &str) {
        let error = Users::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[parameterized(
        plain = { "Basic YW5uOnNlY3JldA==", Some(("ann", "secret")) },
        small = { "basic YW5uOmE6Yg==", Some(("ann", "a:b")) },
        bearer = { "Bearer YW5uOnNlY3JldA==", None },
        junk = { "Basic !!!", None },
        no_colon = { "Basic YW5u", None },
        nothing = { "Basic", None },
    )]
    fn a_header_names_somebody(header: &str, expected: Option<(&str, &str)>) {
        let expected = expected.map(|(name, password)| (name.to_owned(), password.to_owned()));
        assert_eq!(credentials(header), expected);
    }
}
