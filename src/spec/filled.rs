//! A file's text with the contents of its config files in it, and where the file says so.
//!
//! Owns the way back from a place in that text to one in the file. Never reads a config file: it
//! is handed what is in one.

use super::report::{Problem, Report, Source, Span};
use super::slips::quoted;
use super::{Attempt, FromFile, attempt};
use crate::limits::FILE_MAX;

/// A file as it was written, for what is said of its text with contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    source: Source,
    /// Of every content, in the order of the text.
    places: Vec<Place>,
}

/// Where a content stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// `from="…"` in the file.
    from: Span,
    /// `content="…"` in the text with contents.
    content: Span,
}

/// The text with the contents of its config files in the places of `from`; none if it has none.
/// Lines keep their numbers. `content` is asked for each by its path.
///
/// # Errors
/// Everything that is wrong with the file, what is wrong in a content, and every content that isn't
/// given. What is wrong in the contents alone is left to who reads the text.
pub fn fill(
    file_name: &str,
    text: &str,
    content: impl Fn(&str) -> Result<String, String>,
) -> Result<Option<(String, Written)>, Report> {
    let Attempt { parsed, mut problems, dropped } = attempt(file_name, text)?;
    let mut files: Vec<&FromFile> = parsed.from_files().iter().collect();
    files.sort_by_key(|file| file.span);
    let mut contents = Vec::new();
    for file in files {
        match content(&file.from) {
            Ok(content) => contents.push((file.span, content)),
            Err(why) => {
                let message = format!("{}: {why}", file.from);
                problems.push(parsed.problem_at(file.value, message, None));
            }
        }
    }
    let (whole, written) = Written::with(parsed.source, &contents);
    problems.extend(written.too_large(whole.len()));
    if problems.is_empty() {
        return Ok((!written.places.is_empty()).then_some((whole, written)));
    }
    problems.extend(written.in_contents(&whole));
    Err(written.source.report_and(problems, dropped))
}

impl Written {
    /// Puts contents, in the order of the text, in the places of their `from`.
    fn with(source: Source, contents: &[(Span, String)]) -> (String, Self) {
        let (mut whole, mut places, mut at) = (String::new(), Vec::new(), 0);
        for (from, content) in contents {
            whole.push_str(source.slice(Span::new(at, from.start)));
            let start = whole.len();
            whole.push_str("content=");
            whole.push_str(&quoted(content));
            places.push(Place { from: *from, content: Span::new(start, whole.len()) });
            at = from.end;
        }
        whole.push_str(source.slice(Span::new(at, source.text().len())));
        (whole, Self { source, places })
    }

    /// What is said of a text that got too large, at the content that made it so.
    fn too_large(&self, length: usize) -> Option<Problem> {
        let within = |place: &&Place| place.content.start <= FILE_MAX;
        let place = self.places.iter().rfind(within).filter(|_| length > FILE_MAX)?;
        let most = FILE_MAX >> 20;
        let message = format!("with the contents of its files the file is larger than {most} MiB");
        Some(self.source.problem(place.from, message, None))
    }

    /// What is wrong in the contents.
    fn in_contents(&self, whole: &str) -> Vec<Problem> {
        let Ok(Attempt { problems, .. }) = attempt(self.source.file(), whole) else {
            return Vec::new();
        };
        let is_inside = |problem: &Problem| self.content_at(problem.span.start).is_some();
        problems.into_iter().filter(is_inside).map(|problem| self.moved(problem)).collect()
    }

    /// The file as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        self.source.text()
    }

    /// A report on the text with contents, at the places of the file.
    #[must_use]
    pub fn report(&self, report: Report) -> Report {
        let problems = report.problems.into_iter().map(|problem| self.moved(problem));
        self.source.report_and(problems.collect(), report.more)
    }

    /// Line and column in the file of those in the text with contents.
    #[must_use]
    pub fn position(&self, whole: &Source, line: u32, column: u32) -> (u32, u32) {
        let at = whole.offset(line, column);
        self.source.position(self.span(Span::new(at, at)).start)
    }

    fn moved(&self, problem: Problem) -> Problem {
        self.source.problem(self.span(problem.span), problem.message, problem.hint)
    }

    fn content_at(&self, offset: usize) -> Option<&Place> {
        let holds = |place: &&Place| (place.content.start..place.content.end).contains(&offset);
        self.places.iter().find(holds)
    }

    /// A span of the text with contents in the file; for one within a content, all of its `from`.
    fn span(&self, span: Span) -> Span {
        match self.content_at(span.start) {
            Some(place) => place.from,
            None => Span::new(self.offset(span.start), self.offset(span.end)),
        }
    }

    /// The same for an offset behind or between contents; within one, the end of its `from`.
    fn offset(&self, at: usize) -> usize {
        match self.places.iter().rfind(|place| place.content.start < at) {
            Some(place) => place.from.end + at.saturating_sub(place.content.end),
            None => at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    const FILE: &str = "service \"web\" {\n    image \"nginx\"\n    \
        file path=\"/a\" from=\"a\" interpolate=#true; bad 1\n    file from=\"b\" path=\"/b\"\n}\n";

    fn content(from: &str) -> Result<String, String> {
        match from {
            "a" => Ok("ok\nline ${foo} \"ä\"\n".to_owned()),
            "b" => Ok(String::new()),
            _ => Err("no such file".to_owned()),
        }
    }

    /// The places and first words of a report's problems.
    fn told(report: &Report) -> Vec<(u32, u32, String)> {
        let short = |text: &str| text.replace("service \"web\": ", "");
        report.problems.iter().map(|one| (one.line, one.column, short(&one.message))).collect()
    }

    #[test]
    fn everything_is_told_at_once_in_the_order_of_the_file() {
        let text = FILE.replace("from=\"b\"", "from=\"c\"");
        let report = fill("f", &text, content).unwrap_err();
        assert_eq!(
            told(&report),
            [
                (3, 20, "${foo} isn't known".to_owned()),
                (3, 48, "unknown field \"bad\"".to_owned()),
                (4, 15, "c: no such file".to_owned()),
            ]
        );
        let shown = report.to_string();
        assert!(shown.contains(" from=\"a\" interpolate=#true; bad 1\n"), "{shown}");
        assert!(shown.contains(&format!(" | {}^^^^^^^^\n", " ".repeat(19))), "{shown}");
    }

    #[test]
    fn a_report_on_the_text_is_told_of_the_file() {
        let text = FILE.replace("; bad 1", "");
        let (whole, written) = fill("f", &text, content).unwrap().unwrap();
        let report = read("f", &whole).unwrap_err();
        let told_of = told(&written.report(report));
        assert_eq!(told_of, [(3, 20, "${foo} isn't known".to_owned())]);
        assert_eq!(written.text(), text);
    }

    #[yare::parameterized(
        before = { "/a", "/a" },
        opening = { "content=\"ok", "from=\"a\"" },
        within = { "${foo}", "from=\"a\"" },
        behind = { "interpolate", "interpolate" },
        next_line = { "content=\"\"", "from=\"b\"" },
        end = { "/b", "/b" },
    )]
    fn every_place_is_found_again(in_whole: &str, in_file: &str) {
        let text = FILE.replace("; bad 1", "");
        let (whole, written) = fill("f", &text, content).unwrap().unwrap();
        let start = whole.find(in_whole).unwrap();
        let span = written.span(Span::new(start, start + in_whole.len()));
        assert_eq!(written.source.slice(span), in_file);
        let source = Source::new("f", &whole);
        let (line, column) = source.position(start);
        let expected = written.source.position(text.find(in_file).unwrap());
        assert_eq!(written.position(&source, line, column), expected);
    }

    #[test]
    fn contents_that_are_too_much_together_are_told_where_they_are() {
        let large = |_: &str| Ok("x".repeat(FILE_MAX * 2 / 3));
        let report = fill("f", &FILE.replace("; bad 1", ""), large).unwrap_err();
        let message = "with the contents of its files the file is larger than 1 MiB";
        assert_eq!(told(&report), [(4, 10, message.to_owned())]);
        assert_eq!(fill("f", "service \"web\" { image \"nginx\" }", large), Ok(None));
    }
}
