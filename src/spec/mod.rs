//! The file: KDL text to a specification, and back in canonical form.
//!
//! Owns decoding, validation, interpolation and formatting. Never looks at the cluster or the disk.

pub mod cron;
mod decode;
mod elsewhere;
mod fields;
mod filled;
mod format;
pub mod image;
pub mod model;
mod nearest;
mod outline;
mod parsed;
pub mod path;
mod report;
mod scan;
mod slips;
mod unsupported;
mod value;
mod words;

pub use filled::{Written, fill};
pub use model::Spec;
pub use nearest::nearest;
pub use parsed::{FromFile, Parsed, Reference, Target};
pub use report::{Detail, Problem, Report, Source, Span};
pub use slips::quoted;
pub use unsupported::unsupported;

use crate::limits::FILE_MAX;

/// Reads a file, keeping where everything stands.
///
/// # Errors
/// Everything that is wrong with the file, at once.
pub fn read(file_name: &str, text: &str) -> Result<Parsed, Report> {
    let Attempt { parsed, problems, dropped } = attempt(file_name, text)?;
    if problems.is_empty() { Ok(parsed) } else { Err(parsed.source.report_and(problems, dropped)) }
}

/// What can be read of a file, valid or not.
struct Attempt {
    parsed: Parsed,
    /// What is wrong with it.
    problems: Vec<Problem>,
    /// Further problems that were not kept.
    dropped: usize,
}

/// Reads as much as there is; of a broken form nothing can be.
fn attempt(file_name: &str, text: &str) -> Result<Attempt, Report> {
    let source = sized(file_name, text)?;
    let outline = outline::outline(&source);
    if outline.broken {
        return Err(source.report_and(outline.problems, outline.dropped));
    }
    let (spec, ctx) = decode::decode(&source, &outline);
    let decode::Ctx { mut problems, dropped, positions, references, mut from_files, .. } = ctx;
    // What a slip makes wrong further on is not worth a second line.
    let is_clear = |span: Span| !outline.shadows.iter().any(|s| s.touches(span));
    problems.retain(|problem| is_clear(problem.span));
    from_files.retain(|file| is_clear(file.span));
    problems.extend(outline.problems);
    let dropped = dropped + outline.dropped;
    let parsed = Parsed { spec, source, positions, references, from_files };
    Ok(Attempt { parsed, problems, dropped })
}

/// Whether a text can be a secret's name.
///
/// # Errors
/// What is wrong with it.
pub fn check_secret(text: &str) -> Result<(), &'static str> {
    decode::check_secret(text)
}

/// Reads a file.
///
/// # Errors
/// Everything that is wrong with the file, at once.
pub fn parse(file_name: &str, text: &str) -> Result<Spec, Report> {
    read(file_name, text).map(|parsed| parsed.spec)
}

/// A file in canonical form. Only its form must be sound; what it says isn't looked at.
///
/// # Errors
/// Everything that is wrong with the form.
pub fn format(file_name: &str, text: &str) -> Result<String, Report> {
    let source = sized(file_name, text)?;
    let outline = outline::outline(&source);
    if !outline.problems.is_empty() {
        return Err(source.report_and(outline.problems, outline.dropped));
    }
    Ok(format::format(&source, &outline))
}

/// A file's bytes as text.
///
/// # Errors
/// The place of the first byte that isn't UTF-8.
pub fn text(file_name: &str, bytes: Vec<u8>) -> Result<String, Report> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        // The valid part is the same in both; what follows is shown with replacement characters.
        let source = Source::new(file_name, &text);
        let span = Span::new(valid, valid + '\u{fffd}'.len_utf8());
        let hint = Some("is this a text file?".to_owned());
        source.report(vec![source.problem(span, "this byte isn't UTF-8", hint)])
    })
}

fn sized(file_name: &str, text: &str) -> Result<Source, Report> {
    if text.len() <= FILE_MAX {
        return Ok(Source::new(file_name, text));
    }
    let source = Source::new(file_name, "");
    let message = format!("the file is larger than {} MiB", FILE_MAX >> 20);
    Err(source.report(vec![source.problem(Span::default(), message, None)]))
}
