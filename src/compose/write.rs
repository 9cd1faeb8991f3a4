//! Names, comments and lines of the file that comes of an import.
//!
//! Owns that it passes the check: a line that doesn't is turned into a comment with the reason.

use crate::limits::NAME_MAX;
use crate::spec::{self, Report};

/// What is to be said of a part of the file.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<(usize, String)>);

impl Notes {
    pub(super) fn add(&mut self, line: usize, text: impl Into<String>) {
        self.0.push((line, text.into()));
    }

    pub(super) fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
        self.0.sort_by_key(|(line, _)| *line);
    }

    /// As comments.
    pub(super) fn lines(&self, indent: &str) -> String {
        self.all().iter().map(|note| format!("{indent}// {note}\n")).collect()
    }

    pub(super) fn all(&self) -> Vec<String> {
        // A comment ends with its line.
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let plain = |text: &str| super::variables::plain(&one_line(text));
        self.0.iter().map(|(line, text)| format!("line {line}: {}", plain(text))).collect()
    }
}

/// A name as the format takes it: lower case, with dashes.
pub(super) fn named(text: &str) -> String {
    let fitting = |c: char| {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }
    };
    let name: String = text.chars().map(fitting).collect();
    let name = name.trim_matches('-').chars().take(NAME_MAX).collect::<String>();
    let name = name.trim_end_matches('-');
    if name.is_empty() { "app".to_owned() } else { name.to_owned() }
}

/// A text in which `$` stands for itself, for values that may refer to something.
pub(super) fn escaped(text: &str) -> String {
    let (mut out, mut chars) = (String::new(), text.chars().peekable());
    while let Some(c) = chars.next() {
        out.push(c);
        if c == '$' && matches!(chars.peek(), Some('$' | '{')) {
            out.push('$');
        }
    }
    out
}

/// The file in canonical form, with what the check refuses as a comment.
pub(super) fn passing(text: String) -> Result<String, Report> {
    const NAME: &str = "the result";
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    loop {
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        let report = match spec::read(NAME, &text) {
            Ok(_) => return spec::format(NAME, &text),
            Err(report) => report,
        };
        let mut changed = false;
        for problem in &report.problems {
            let at = usize::try_from(problem.line).unwrap_or_default().saturating_sub(1);
            let Some(line) = lines.get_mut(at) else { continue };
            let field = line.trim();
            if field.starts_with("//") || field.ends_with('{') || field == "}" {
                continue;
            }
            let message = problem.message.split_whitespace().collect::<Vec<_>>().join(" ");
            *line = format!("    // refused ({message}): {field}");
            changed = true;
        }
        if !changed {
            return Err(report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_to_fit() {
        let all = ["my_db", "Web.App", "-x-", "___", &"a".repeat(60)].map(named);
        assert_eq!(all, ["my-db", "web-app", "x", "app", &"a".repeat(50)].map(str::to_owned));
    }

    #[test]
    fn a_refused_line_is_a_comment_with_its_reason() {
        let text = "app \"a\"\nservice \"w\" {\nimage \"nginx\"\nmemory \"1K\"\n}\n".to_owned();
        let text = passing(text).unwrap();
        assert!(text.contains("// refused (") && text.contains("): memory \"1K\""), "{text}");
        assert!(passing("service \"w\" {\n}\n".to_owned()).is_err());
    }
}
