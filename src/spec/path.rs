//! Paths of requests: what routes are compared with, so that no way of writing a path reaches
//! another route than the one it means.
//!
//! Owns normalisation and prefixes. Never decodes what could change the meaning of a path: `%2F`
//! stays part of its segment.

/// The path that routes are compared with: unreserved characters decoded (RFC 3986, 6.2.2.2), `.`
/// and `..` resolved, several slashes made one. None if it leads above the root, or would once
/// somebody reads `%2F` as a slash.
#[must_use]
pub fn normal(path: &str) -> Option<String> {
    if !path.starts_with('/') {
        return None;
    }
    if is_normal(path) {
        return Some(path.to_owned());
    }
    let decoded = decode(path);
    let mut kept: Vec<&str> = Vec::new();
    let mut last_is_folder = true;
    for segment in decoded.split('/').skip(1) {
        last_is_folder = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()?),
            _ if is_disguised(segment) => return None,
            _ => kept.push(segment),
        }
    }
    let mut normal = String::with_capacity(decoded.len());
    for segment in &kept {
        normal.push('/');
        normal.push_str(segment);
    }
    if kept.is_empty() || last_is_folder {
        normal.push('/');
    }
    Some(normal)
}

/// Whether a path leads elsewhere once its dots are resolved, so that it must not be passed on as
/// it is.
#[must_use]
pub fn has_dots(path: &str) -> bool {
    let may = path.starts_with('.') || path.contains("/.") || path.contains('%');
    may && decode(path).split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Whether nothing in it has another form, at a glance: most paths are like that.
fn is_normal(path: &str) -> bool {
    let plain = |b: u8| b != b'%' && b != b'\\';
    path.bytes().all(plain) && !path.contains("//") && !path.contains("/.")
}

/// Whether a path has the prefix, segment by segment: `/api` is no prefix of `/apix`.
#[must_use]
pub fn has_prefix(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path without its prefix; at least `/`.
#[must_use]
pub fn without_prefix<'a>(path: &'a str, prefix: &str) -> &'a str {
    let rest = path.strip_prefix(prefix.trim_end_matches('/')).unwrap_or(path);
    if rest.is_empty() { "/" } else { rest }
}

/// Decodes unreserved characters; writes other escapes in capitals.
fn decode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3);
        let byte = code
            .filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 3..];
            }
            Some(_) => {
                out.push_str(&rest[at..at + 3].to_ascii_uppercase());
                rest = &rest[at + 3..];
            }
            None => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// A segment that hides dots between escaped slashes, or a NUL.
fn is_disguised(segment: &str) -> bool {
    let slashes = segment.replace("%2F", "/").replace("%5C", "/").replace('\\', "/");
    let hides = |part: &str| matches!(part, "." | "..");
    segment.contains("%00") || (slashes.contains('/') && slashes.split('/').any(hides))
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    #[parameterized(
        plain = { "/a/b", "/a/b" },
        root = { "/", "/" },
        folder = { "/a/", "/a/" },
        slashes = { "//a///b", "/a/b" },
        dot = { "/a/./b", "/a/b" },
        dots = { "/a/../b", "/b" },
        dots_at_the_end = { "/a/b/..", "/a/" },
        dot_at_the_end = { "/a/.", "/a/" },
        coded_dots = { "/a/%2e%2E/b", "/b" },
        coded_letter = { "/%61dmin", "/admin" },
        coded_slash = { "/g%2fp/x", "/g%2Fp/x" },
        bad_code = { "/100%/x", "/100%/x" },
        cut_code = { "/a%2", "/a%2" },
        three_dots = { "/.../x", "/.../x" },
        hidden_file = { "/.well-known/x", "/.well-known/x" },
        twice_coded = { "/%252e%252e/x", "/%252e%252e/x" },
    )]
    fn a_path_has_one_form(given: &str, expected: &str) {
        assert_eq!(normal(given).as_deref(), Some(expected));
        assert_eq!(normal(expected).as_deref(), Some(expected), "it stays as it is");
    }

    #[parameterized(
        above = { "/.." },
        above_later = { "/a/../../b" },
        above_coded = { "/%2e%2e/b" },
        relative = { "a/b" },
        star = { "*" },
        hidden_by_a_slash = { "/public/..%2fadmin" },
        hidden_by_a_backslash = { "/public/..%5cadmin" },
        plain_backslash = { "/public/..\\admin" },
        nul = { "/a%00b" },
    )]
    fn what_could_mean_another_path_has_none(given: &str) {
        assert_eq!(normal(given), None);
    }

    #[parameterized(
        same = { "/api", "/api", true },
        below = { "/api/x", "/api", true },
        longer = { "/apix", "/api", false },
        folder = { "/api", "/api/", true },
        root = { "/anything", "/", true },
        above = { "/ap", "/api", false },
    )]
    fn a_prefix_ends_with_a_segment(path: &str, prefix: &str, expected: bool) {
        assert_eq!(has_prefix(path, prefix), expected);
    }

    #[test]
    fn a_prefix_is_taken_off() {
        assert_eq!(without_prefix("/api/x", "/api"), "/x");
        assert_eq!(without_prefix("/api", "/api/"), "/");
        assert_eq!(without_prefix("/x", "/"), "/x");
    }
}
