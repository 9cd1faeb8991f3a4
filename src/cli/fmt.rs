//! `mill fmt`: a file in canonical form.
//!
//! Owns whether a file changes. Never reads arguments and never writes the file itself.

use crate::spec::{self, Report};

/// A file's canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formatted {
    /// The canonical text.
    pub text: String,
    /// Whether it differs from what was there; `--check` fails then.
    pub changed: bool,
}

/// Formats the text of a file.
///
/// # Errors
/// Everything that is wrong with its form; what it says is not looked at.
pub fn fmt(text: &str, file_name: &str) -> Result<Formatted, Report> {
    let formatted = spec::format(file_name, text)?;
    let changed = formatted != text;
    Ok(Formatted { text: formatted, changed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_noticed() {
        let formatted = fmt("app  shop", "a.mill").unwrap();
        assert_eq!(formatted, Formatted { text: "app \"shop\"\n".to_owned(), changed: true });
        assert!(!fmt(&formatted.text, "a.mill").unwrap().changed);
    }
}
