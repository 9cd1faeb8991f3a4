//! Where output goes and whether it may have colour, bars and questions.
//!
//! Owns writing to the standard streams. Never decides what is written.

use super::error::CliError;
use super::shown;
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::io::{BufRead, IsTerminal, Write};

/// Good news.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Bad news.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Something that changes or waits.
pub const CHANGE: Style = AnsiColor::Yellow.on_default();
/// Less important.
pub const FAINT: Style = Style::new().dimmed();
/// More important.
pub const STRONG: Style = Style::new().bold();

/// What the standard streams can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ui {
    /// Documents instead of text.
    pub json: bool,
    /// Colour on standard output.
    pub color: bool,
    /// Standard output is a terminal that shows people something live.
    pub live: bool,
    /// Somebody can be asked.
    pub asks: bool,
}

impl Ui {
    /// For this process's streams.
    #[must_use]
    pub fn of_process(json: bool, no_color: bool, dumb: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let live = terminal && !json && !dumb;
        Self { json, color: live && !no_color, live, asks }
    }

    /// The text in that style, if there is colour.
    #[must_use]
    pub fn paint(self, style: Style, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("{style}{text}{style:#}")
        } else {
            text.to_owned()
        }
    }

    /// Writes a line, or several, to standard output.
    ///
    /// # Errors
    /// Nobody reads it, or the disk is full.
    pub fn print(self, text: &str) -> Result<(), CliError> {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| {
            if text.ends_with('\n') || text.is_empty() { Ok(()) } else { out.write_all(b"\n") }
        });
        written.and_then(|()| out.flush()).map_err(|source| CliError::Output { source })
    }

    /// Writes a line for people to standard error.
    pub fn note(self, text: &str) {
        // Nobody is left to be told that nobody listens.
        let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
    }

    /// A report of a file's problems with colour, if errors are shown on a terminal too.
    #[must_use]
    pub fn report(self, text: &str) -> String {
        let is_seen = self.color && std::io::stderr().is_terminal();
        if is_seen { self.painted(text) } else { text.to_owned() }
    }

    fn painted(self, text: &str) -> String {
        let line = |line: &str| {
            let gutter = line.split_once(" | ").filter(|_| line.starts_with("  "));
            match (gutter, line.split_once(": ")) {
                (Some((before, marks)), _) if marks.trim().bytes().all(|byte| byte == b'^') => {
                    let gutter = self.paint(FAINT, &format!("{before} |"));
                    format!("{gutter} {}", self.paint(BAD, marks))
                }
                (Some((before, source)), _) => {
                    format!("{} {source}", self.paint(FAINT, &format!("{before} |")))
                }
                (None, Some((place, message))) => {
                    let place = self.paint(STRONG, &format!("{place}:"));
                    format!("{place} {}", self.paint(BAD, message))
                }
                (None, None) => line.to_owned(),
            }
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Writes one document to standard output.
    ///
    /// # Errors
    /// As [`Ui::print`].
    pub fn document<T: Serialize>(self, value: &T) -> Result<(), CliError> {
        self.print(&shown::document(&serde_json::to_string_pretty(value).unwrap_or_default()))
    }

    /// Writes one line of JSON to standard output.
    ///
    /// # Errors
    /// As [`Ui::print`].
    pub fn json_line<T: Serialize>(self, value: &T) -> Result<(), CliError> {
        self.print(&shown::document(&serde_json::to_string(value).unwrap_or_default()))
    }

    /// Asks whether to go on; `yes` answers it beforehand.
    ///
    /// # Errors
    /// Nobody can be asked, or the answer is no.
    pub fn confirm(self, yes: bool, question: &str) -> Result<(), CliError> {
        if yes {
            return Ok(());
        }
        if !self.asks {
            return Err(CliError::usage(question, "Pass --yes to do it"));
        }
        let mut err = std::io::stderr().lock();
        let _ = write!(err, "{question}. Go on? [y/N] ").and_then(|()| err.flush());
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" if read.is_ok() => Ok(()),
            _ => Err(CliError::failed("Nothing was done")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_colour_and_the_same_text() {
        let plain = "a.mill:2:5: unknown field\n  2 |     replica 2\n    |     ^^^^^^^";
        let ui = Ui { json: false, color: true, live: true, asks: false };
        let painted = ui.painted(plain);
        assert_eq!(painted.matches('\u{1b}').count(), 10, "{painted:?}");
        let mut text = painted.clone();
        while let Some(start) = text.find('\u{1b}') {
            let end = start + text[start..].find('m').unwrap();
            text.replace_range(start..=end, "");
        }
        assert_eq!(text, plain);
        assert_eq!(Ui { color: false, ..ui }.painted(plain), plain);
    }
}
