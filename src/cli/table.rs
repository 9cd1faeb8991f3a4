//! Tables and quantities as people read them.
//!
//! Owns padding, ages and pairs of used and total. Never knows what a row is about.

use super::ui::{FAINT, Ui};
use crate::units::{Bytes, Timestamp, span};
use anstyle::Style;

/// What stands for nothing.
pub const NONE: &str = "-";

/// A text in a table, perhaps in colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    /// In a style.
    pub fn styled(text: impl Into<String>, style: Option<Style>) -> Self {
        Self { text: text.into(), style }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), style: None }
    }
}

/// Columns with a head; as wide as their widest text, two blanks apart, no borders.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// As lines, each with its end.
    #[must_use]
    pub fn render(&self, ui: Ui) -> String {
        let head: Vec<Cell> =
            self.head.iter().map(|text| Cell::styled(*text, Some(FAINT))).collect();
        let mut widths = vec![0; self.head.len()];
        for row in self.rows.iter().chain([&head]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let mut out = String::new();
        for row in [&head].into_iter().chain(&self.rows) {
            out.push_str(&line(ui, row, &widths));
            out.push('\n');
        }
        out
    }
}

fn line(ui: Ui, row: &[Cell], widths: &[usize]) -> String {
    let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
    let mut out = String::new();
    for (at, (cell, width)) in row.iter().zip(widths).enumerate().take(last + 1) {
        match cell.style {
            Some(style) => out.push_str(&ui.paint(style, &cell.text)),
            None => out.push_str(&cell.text),
        }
        if at < last {
            let blanks = width.saturating_sub(cell.text.chars().count()) + 2;
            out.extend(std::iter::repeat_n(' ', blanks));
        }
    }
    out
}

/// A key for the order in which people count: `web-6` before `web-59`.
#[must_use]
pub fn natural(text: &str) -> Vec<(u64, String)> {
    let mut parts: Vec<(u64, String)> = vec![(0, String::new())];
    for c in text.chars() {
        match (c.to_digit(10), parts.last_mut()) {
            (Some(digit), Some((number, word))) if word.is_empty() => {
                *number = number.saturating_mul(10).saturating_add(u64::from(digit));
            }
            (Some(digit), _) => parts.push((u64::from(digit), String::new())),
            (None, Some((_, word))) => word.push(c),
            (None, None) => {}
        }
    }
    parts
}

/// How long something took: `3.1s`, `64s`, `12m`.
#[must_use]
pub fn took(seconds: f64) -> String {
    let whole = seconds.max(0.0);
    if whole < 9.95 {
        return format!("{whole:.1}s");
    }
    let rounded = whole.round() as u64;
    if rounded < 600 { format!("{rounded}s") } else { span(rounded) }
}

/// The time since an RFC 3339 time.
#[must_use]
pub fn age(since: Option<&str>, now: Timestamp) -> String {
    let ms = since.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let ms = ms.and_then(|time| u64::try_from(time.as_millisecond()).ok());
    ms.map_or_else(|| NONE.to_owned(), |ms| span(now.since(Timestamp(ms)).0 / 1000))
}

/// Cores, used and ceiling, with so many digits; without a ceiling what is used alone.
#[must_use]
pub fn cores(used: Option<f64>, of: Option<f64>, digits: usize) -> String {
    match (used, of) {
        (Some(used), Some(of)) => format!("{used:.digits$}/{of:.digits$}"),
        (Some(used), None) => format!("{used:.digits$}"),
        (None, _) => NONE.to_owned(),
    }
}

/// Bytes, used and ceiling.
#[must_use]
pub fn memory(used: Option<u64>, of: Option<u64>) -> String {
    match (used, of) {
        (Some(used), Some(of)) => format!("{}/{}", Bytes(used), Bytes(of)),
        (Some(used), None) => Bytes(used).to_string(),
        (None, _) => NONE.to_owned(),
    }
}

/// A short time in seconds, as people write it: `0.4ms`, `38ms`, `2.1s`.
#[must_use]
pub fn short(seconds: f64) -> String {
    let millis = seconds * 1_000.0;
    match millis {
        _ if millis < 10.0 => format!("{millis:.1}ms"),
        _ if millis < 1_000.0 => format!("{millis:.0}ms"),
        _ => format!("{seconds:.1}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ui::GOOD;

    const PLAIN: Ui = Ui { json: false, color: false, live: false, asks: false };

    #[test]
    fn columns_are_as_wide_as_their_widest_text() {
        let mut table = Table::new(&["ID", "STATUS", "NOTE"]);
        table.row(vec!["web-0-k3f9".into(), "ok".into(), "é".into()]);
        table.row(vec!["db".into(), "backoff".into(), "".into()]);
        let expected = "ID          STATUS   NOTE\nweb-0-k3f9  ok       é\ndb          backoff\n";
        assert_eq!(table.render(PLAIN), expected);
    }

    #[test]
    fn colour_does_not_move_columns() {
        let mut table = Table::new(&["A", "B"]);
        table.row(vec![Cell::styled("x", Some(GOOD)), "y".into()]);
        let colored = table.render(Ui { color: true, ..PLAIN });
        assert!(colored.contains("\u{1b}[32mx\u{1b}[0m  y"), "{colored:?}");
    }

    #[test]
    fn quantities_read_as_documented() {
        assert_eq!([took(3.12), took(64.2), took(0.0), took(9.97)], ["3.1s", "64s", "0.0s", "10s"]);
        assert_eq!(cores(Some(0.12), Some(0.5), 2), "0.12/0.50");
        assert_eq!(cores(Some(1.2), Some(4.0), 1), "1.2/4.0");
        assert_eq!(cores(None, Some(0.5), 2), "-");
        assert_eq!(memory(Some(91_000_000), Some(512_000_000)), "91M/512M");
        assert_eq!(memory(Some(91_000_000), None), "91M");
    }

    #[test]
    fn ages_count_from_a_time() {
        let now = Timestamp(1_772_366_641_220);
        assert_eq!(age(Some("2026-03-01T12:00:00Z"), now), "4m");
        assert_eq!(age(Some("2026-03-01T13:00:00Z"), now), "0s");
        assert_eq!(age(None, now), "-");
        assert_eq!(age(Some("yesterday"), now), "-");
    }
}
