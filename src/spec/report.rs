//! What is wrong with a file, and where: problems with line, column, the source and a hint.
//!
//! Owns positions and plain rendering. Never decides what is a problem, never knows the format.

use crate::limits::{FILE_EXCERPT_WIDTH, FILE_MESSAGE_MAX, FILE_PROBLEMS_MAX};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fmt::Write as _;

/// A part of the text: byte offsets, the end exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// A file's name and text, with the start of every line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    file: String,
    text: String,
    lines: Vec<usize>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Where in the text.
    pub span: Span,
    pub message: String,
    /// What to write or do instead.
    pub hint: Option<String>,
    excerpt: Excerpt,
}

/// The line of a problem as it is shown: perhaps shortened, without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Excerpt {
    text: String,
    /// Characters before the underline.
    skip: usize,
    /// Characters underlined.
    width: usize,
}

/// Everything that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The name that the file was given by.
    pub file: String,
    /// In the order of the text; at least one.
    pub problems: Vec<Problem>,
    /// Further problems that were dropped since nobody reads so many.
    pub more: usize,
}

/// A problem as the API's error document carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    pub message: String,
    /// What to write or do instead.
    pub hint: Option<String>,
}

impl Span {
    /// From the first byte to before the last.
    #[must_use]
    pub const fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Whether the two share a byte, or one starts within the other.
    #[must_use]
    pub const fn touches(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end || self.start == other.start
    }
}

impl Source {
    /// Finds the lines of a text.
    #[must_use]
    pub fn new(file: &str, text: &str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Self { file: file.to_owned(), text: text.to_owned(), lines }
    }

    /// The name that the file was given by.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of a span; empty if the span is not within the text.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }

    /// The line of an offset, from 1.
    #[must_use]
    pub fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset).max(1)
    }

    /// The blanks at the start of an offset's line.
    #[must_use]
    pub(super) fn indent(&self, offset: usize) -> usize {
        let rest = &self.text[self.lines[self.line(offset) - 1]..];
        rest.bytes().take_while(|b| matches!(b, b' ' | b'\t')).count()
    }

    /// Line and column of an offset, both from 1.
    #[must_use]
    pub fn position(&self, offset: usize) -> (u32, u32) {
        let line = self.line(offset);
        let start = self.lines[line - 1];
        let column = self.text.get(start..offset).map_or(offset - start, |t| t.chars().count()) + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// The offset of a line and column, both from 1; the nearest one that exists.
    #[must_use]
    pub fn offset(&self, line: u32, column: u32) -> usize {
        let line = (line.max(1) as usize).min(self.lines.len());
        let start = self.lines[line - 1];
        let rest = self.text[start..].split('\n').next().unwrap_or_default();
        let skip = column.max(1) as usize - 1;
        start + rest.char_indices().nth(skip).map_or(rest.len(), |(i, _)| i)
    }

    /// A problem at a span.
    #[must_use]
    pub fn problem(&self, span: Span, message: impl Into<String>, hint: Option<String>) -> Problem {
        let (line, column) = self.position(span.start);
        let excerpt = self.excerpt(line as usize, span);
        let (message, hint) = (bounded(message.into()), hint.map(bounded));
        Problem { line, column, span, message, hint, excerpt }
    }

    /// The report of these problems: sorted, each once, at most as many as a person reads.
    #[must_use]
    pub fn report(&self, problems: Vec<Problem>) -> Report {
        self.report_and(problems, 0)
    }

    /// The same with a number of further problems that were not kept.
    #[must_use]
    pub(super) fn report_and(&self, mut problems: Vec<Problem>, dropped: usize) -> Report {
        problems.sort_by_key(|problem| problem.span);
        problems.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        let more = dropped + problems.len().saturating_sub(FILE_PROBLEMS_MAX);
        problems.truncate(FILE_PROBLEMS_MAX);
        Report { file: self.file.clone(), problems, more }
    }

    fn excerpt(&self, line: usize, span: Span) -> Excerpt {
        let start = self.lines[line - 1];
        let end = self.lines.get(line).map_or(self.text.len(), |next| next - 1);
        // Of a huge line only the part around the problem is looked at.
        let reach = FILE_EXCERPT_WIDTH * 8;
        let near = self.text.floor_char_boundary(span.start.saturating_sub(reach));
        let far = self.text.floor_char_boundary(span.start.saturating_add(reach));
        let (start, end) = (start.max(near), end.min(far));
        let text = self.text.get(start..end).unwrap_or_default().trim_end();
        let before = span.start.saturating_sub(start).min(text.len());
        let after = span.end.saturating_sub(start).clamp(before, text.len());
        let count = |part: Option<&str>| part.unwrap_or_default().chars().count();
        let (skip, width) = (count(text.get(..before)), count(text.get(before..after)).max(1));
        Excerpt::new(text, skip, width)
    }
}

/// A message that quotes a huge value is cut.
fn bounded(text: String) -> String {
    if text.len() <= FILE_MESSAGE_MAX {
        return text;
    }
    let end = text.floor_char_boundary(FILE_MESSAGE_MAX);
    format!("{}…", &text[..end])
}

impl Excerpt {
    fn new(text: &str, skip: usize, width: usize) -> Self {
        // Lines longer than a screen are cut around the place that matters.
        let length = text.chars().count();
        let late = length > FILE_EXCERPT_WIDTH && skip >= FILE_EXCERPT_WIDTH * 3 / 4;
        let from = if late { skip - FILE_EXCERPT_WIDTH / 4 } else { 0 };
        let mut shown: String = text.chars().skip(from).take(FILE_EXCERPT_WIDTH).collect();
        let cut = length > from + FILE_EXCERPT_WIDTH;
        shown = shown.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
        shown = shown.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let mut skip = skip - from;
        let width = width.min(FILE_EXCERPT_WIDTH.saturating_sub(skip)).max(1);
        if from > 0 {
            shown.insert(0, '…');
            skip += 1;
        }
        if cut {
            shown.push('…');
        }
        Self { text: shown, skip, width }
    }
}

impl Problem {
    /// The message with its hint, in one line and without a position.
    #[must_use]
    pub fn text(&self) -> String {
        match &self.hint {
            // "…; did you mean" goes on a sentence, "…. Run: mill" starts one.
            Some(hint) if hint.starts_with(char::is_uppercase) => {
                format!("{}. {hint}", self.message)
            }
            Some(hint) => format!("{}; {hint}", self.message),
            None => self.message.clone(),
        }
    }

    /// As the API's error document carries it.
    #[must_use]
    pub fn detail(&self) -> Detail {
        Detail {
            line: self.line,
            column: self.column,
            message: self.message.clone(),
            hint: self.hint.clone(),
        }
    }
}

impl Report {
    /// The problems as the API's error document carries them.
    #[must_use]
    pub fn details(&self) -> Vec<Detail> {
        self.problems.iter().map(Problem::detail).collect()
    }

    /// A report from what the API answered, shown with the file that was sent.
    #[must_use]
    pub fn from_details(file: &str, text: &str, details: &[Detail]) -> Self {
        let source = Source::new(file, text);
        let problem = |detail: &Detail| {
            let start = source.offset(detail.line, detail.column);
            let rest = &source.text()[start..];
            let end = rest.find([' ', '\t', '\n', '\r', ';']).unwrap_or(rest.len());
            let span = Span::new(start, start + end);
            source.problem(span, detail.message.clone(), detail.hint.clone())
        };
        source.report(details.iter().map(problem).collect())
    }
}

impl fmt::Display for Report {
    /// Each problem as `FILE:LINE:COLUMN: MESSAGE; HINT`, then its line, underlined.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        for problem in &self.problems {
            let Problem { line, column, excerpt, .. } = problem;
            let margin = line.to_string().len();
            writeln!(out, "{}:{line}:{column}: {}", self.file, problem.text())?;
            writeln!(out, "  {line} | {}", excerpt.text)?;
            let (skip, carets) = (" ".repeat(excerpt.skip), "^".repeat(excerpt.width));
            writeln!(out, "  {:margin$} | {skip}{carets}", "")?;
        }
        if self.more > 0 {
            writeln!(out, "{}: {} more problems", self.file, self.more)?;
        }
        f.write_str(out.trim_end())
    }
}

impl std::error::Error for Report {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_documented() {
        let source = Source::new("shop.mill", "service \"web\" {\n    replica 2\n}\n");
        let hint = Some("did you mean \"replicas\"?".to_owned());
        let problem = source.problem(Span::new(20, 27), "service \"web\": unknown field", hint);
        let expected = "shop.mill:2:5: service \"web\": unknown field; \
                        did you mean \"replicas\"?\n  \
                        2 |     replica 2\n    |     ^^^^^^^";
        assert_eq!(source.report(vec![problem]).to_string(), expected);
    }

    #[test]
    fn a_hint_in_capitals_starts_a_sentence() {
        let source = Source::new("a", "x");
        let problem = source.problem(Span::new(0, 1), "no x", Some("Run: y".to_owned()));
        assert_eq!(problem.text(), "no x. Run: y");
    }

    #[test]
    fn positions_count_characters_and_survive_the_end() {
        let source = Source::new("a", "ä ö\nü");
        assert_eq!(source.position(3), (1, 3));
        assert_eq!(source.position(6), (2, 1));
        assert_eq!(source.position(8), (2, 2));
        assert_eq!(source.position(99), (2, 94));
        assert_eq!(source.offset(1, 3), 3);
        assert_eq!(source.offset(9, 9), 8);
    }

    #[test]
    fn a_long_line_is_cut_around_the_problem() {
        let text = format!("a {}x{}", "b".repeat(500), "c".repeat(500));
        let source = Source::new("a", &text);
        let shown = source.report(vec![source.problem(Span::new(502, 503), "m", None)]).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let column = lines[2].find('^').unwrap();
        assert_eq!(lines[1].chars().nth(column), Some('x'));
        assert!(lines[1].chars().count() < 130, "{shown}");
    }

    #[test]
    fn details_go_over_the_wire_and_back() {
        let text = "a b\nc d";
        let source = Source::new("f", text);
        let problem = source.problem(Span::new(6, 7), "m", Some("h".to_owned()));
        let report = source.report(vec![problem]);
        assert_eq!(Report::from_details("f", text, &report.details()), report);
    }
}
