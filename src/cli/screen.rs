//! A text cut to what a screen shows.
//!
//! Owns the cutting. Never asks how large the screen is.

/// The text in so many columns and rows: what is too wide or too long is left out, and said.
#[must_use]
pub fn fit(text: &str, [columns, rows]: [u16; 2]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // The last row is the cursor's.
    let rows = usize::from(rows).saturating_sub(1).max(2);
    let shown = if lines.len() > rows { rows - 1 } else { lines.len() };
    let mut out: Vec<String> = lines.iter().take(shown).map(|line| cut(line, columns)).collect();
    if shown < lines.len() {
        out.push(format!("… {} more lines", lines.len() - shown));
    }
    out.join("\n")
}

/// The begin of a line that is that wide; sequences that set colours have no width, and all stay.
fn cut(line: &str, columns: u16) -> String {
    let (mut out, mut width, mut sequence) = (String::new(), 0, false);
    for c in line.chars() {
        sequence |= c == '\u{1b}';
        if sequence {
            out.push(c);
            sequence = !c.is_ascii_alphabetic();
            continue;
        }
        width += 1;
        if width <= usize::from(columns) {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_again_fits_the_screen() {
        assert_eq!(fit("abc\nd\n", [80, 24]), "abc\nd");
        assert_eq!(fit("abcdef\nd", [4, 24]), "abcd\nd");
        assert_eq!(fit("\u{1b}[32mabcdef\u{1b}[0m", [4, 24]), "\u{1b}[32mabcd\u{1b}[0m");
        let long = (0..30).map(|n| format!("{n}\n")).collect::<String>();
        let shown = fit(&long, [80, 10]);
        assert_eq!(shown.lines().count(), 9, "{shown}");
        assert!(shown.ends_with("\n7\n… 22 more lines"), "{shown}");
    }
}
