//! Texts of reports, cut to what a report may hold.
//!
//! Owns what of a text stays. Never says anything itself.

use crate::limits;

/// The end of a text, within what a report may hold; absent if there is none.
pub(super) fn bounded(text: &str) -> Option<String> {
    let text = tail(text.trim_end(), limits::FAILURE_OUTPUT_MAX);
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// A message whose first line says what was seen, and the end of what was written, within what a
/// report may hold: the first line stays, and of both there is something.
pub(super) fn headed(message: &str, output: &str) -> Option<String> {
    const MOST: usize = limits::FAILURE_OUTPUT_MAX;
    let room = if output.is_empty() { MOST } else { MOST * 2 / 3 };
    let (first, rest) = message.split_once('\n').unwrap_or((message, ""));
    let mut text = tail(first, room).to_owned();
    for (part, room) in [(rest, room), (output, MOST)] {
        let left = room.saturating_sub(text.len() + 1);
        let part = tail(part.trim_end(), left);
        if !part.is_empty() {
            text = format!("{text}\n{part}");
        }
    }
    bounded(&text)
}

/// The last bytes of a text, at most so many.
fn tail(text: &str, most: usize) -> &str {
    let mut start = text.len().saturating_sub(most);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}
