//! Health checks: a command without a shell, or an HTTP path where the command asks for one.
//!
//! Never runs any.

use super::quantity::{duration, written};
use super::variables;
use super::write::Notes;
use super::yaml::Node;
use crate::spec::quoted;

/// What a shell would do something with.
const SHELL: &[char] =
    &['|', '&', ';', '<', '>', '(', ')', '$', '`', '\\', '"', '\'', '*', '?', '[', '#', '~', '%'];

/// The field `health`, if there is one for it; `main` is the service's main port.
pub(super) fn field(node: &Node, main: Option<u16>, notes: &mut Notes) -> Option<String> {
    let text = |name| node.get(name).and_then(Node::text).map(variables::plain);
    let test = node.get("test");
    let words: Vec<String> = test
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .filter_map(Node::text)
        .map(variables::plain)
        .collect();
    let is_off = node.get("disable").is_some_and(Node::is_true);
    if is_off || words.first().is_some_and(|word| word == "NONE") {
        notes.add(node.line, "healthcheck: it can't be turned off");
        return None;
    }
    if text("retries").is_some_and(|retries| retries != "3") {
        notes.add(node.line, "healthcheck: three failures in a row count, whatever retries says");
    }
    if test.is_none() && !words.is_empty() {
        return None;
    }
    let mut field = "health".to_owned();
    match probe(&words, main) {
        Some(probe) => field.push_str(&probe),
        None if words.is_empty() => {}
        None => {
            let text = format!("healthcheck {}: it needs a shell", words.join(" "));
            notes.add(node.line, text);
        }
    }
    let times = [("interval", "interval"), ("timeout", "timeout"), ("start_period", "grace")];
    for (theirs, ours) in times {
        match text(theirs).map(|text| (duration(&text), text)) {
            Some((Some(time), _)) => field.push_str(&format!(" {ours}=\"{}\"", written(time))),
            Some((None, text)) => {
                notes.add(node.line, format!("healthcheck: {theirs} {text} can't be read"));
            }
            None => {}
        }
    }
    // Without a port only a command can be a check.
    let says = field != "health" && (main.is_some() || field.contains(" exec="));
    says.then_some(field)
}

fn probe(words: &[String], main: Option<u16>) -> Option<String> {
    let (first, rest) = words.split_first()?;
    let (line, whole): (String, bool) = match first.as_str() {
        "CMD" => (rest.join(" "), rest.iter().all(|word| !word.contains(char::is_whitespace))),
        "CMD-SHELL" => (rest.join(" "), true),
        _ => (words.join(" "), true),
    };
    let line = line.trim();
    let line = line.strip_suffix("|| exit 1").map_or(line, str::trim_end);
    if let Some(path) = main.and_then(|main| asked(line, main)) {
        return Some(format!(" {}", quoted(&path)));
    }
    let is_argv = first == "CMD";
    let is_plain = whole && !line.is_empty() && (is_argv || !line.contains(SHELL));
    is_plain.then(|| format!(" exec={}", quoted(line)))
}

/// The path that `curl` or `wget` asks this container's main port for.
fn asked(line: &str, main: u16) -> Option<String> {
    let mut words = line.split_whitespace();
    let program = words.next()?.rsplit('/').next()?;
    if !matches!(program, "curl" | "wget") || line.contains(['|', '&', ';', '$']) {
        return None;
    }
    let mut urls = words.filter_map(|word| word.trim_matches(['"', '\'']).strip_prefix("http://"));
    let (url, None) = (urls.next()?, urls.next()) else { return None };
    let (host, path) = match url.find('/') {
        Some(at) => url.split_at(at),
        None => (url, "/"),
    };
    let (host, port) = host.split_once(':').unwrap_or((host, "80"));
    let is_here = matches!(host, "localhost" | "127.0.0.1" | "0.0.0.0");
    (is_here && port.parse() == Ok(main)).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[yare::parameterized(
        argv = { &["CMD", "redis-cli", "ping"], Some(" exec=\"redis-cli ping\"") },
        shell = { &["CMD-SHELL", "pg_isready -U app"], Some(" exec=\"pg_isready -U app\"") },
        exit = { &["CMD-SHELL", "pg_isready || exit 1"], Some(" exec=\"pg_isready\"") },
        bare = { &["redis-cli -h localhost"], Some(" exec=\"redis-cli -h localhost\"") },
        curl = { &["CMD", "curl", "-f", "http://localhost:8080/up"], Some(" \"/up\"") },
        wget = { &["CMD-SHELL", "wget -qO- http://127.0.0.1:8080 || exit 1"], Some(" \"/\"") },
        other_port = { &["CMD", "curl", "http://localhost:9/up"],
            Some(" exec=\"curl http://localhost:9/up\"") },
        variable = { &["CMD-SHELL", "mysqladmin -p$PW ping"], None },
        blank = { &["CMD", "sh", "-c", "a b"], None },
        pipe = { &["a | b"], None },
    )]
    fn commands_become_probes(words: &[&str], expected: Option<&str>) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(probe(&words, Some(8080)).as_deref(), expected);
    }
}
