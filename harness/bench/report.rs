//! The page that the figures are written to.
//!
//! Owns its look. Never measures.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;
use std::time::Duration;

/// One line of the table.
pub struct Row {
    /// What was measured.
    pub figure: &'static str,
    /// What mill took.
    pub mill: String,
    /// What it was compared with, in the same run.
    pub peer: String,
    /// The aim.
    pub aim: &'static str,
    /// Whether it was met; none where there is no aim.
    pub met: Option<bool>,
}

/// Milliseconds with as many digits as mean something.
#[must_use]
pub fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        0.0..10.0 => format!("{ms:.3} ms"),
        10.0..100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    }
}

/// The median; of an even number the upper one.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// One part of the page: what is measured together.
pub struct Part {
    /// As it is asked for: `make bench PART=name`.
    pub name: &'static str,
    /// What it is about.
    pub title: &'static str,
    /// Measures it.
    pub figures: fn() -> Vec<Row>,
    /// How it was measured.
    pub notes: &'static str,
}

const HEAD: &str = "# Performance

Written by `make bench`, or a part of it by `make bench PART=name`. All figures of a part were
measured in one run on one machine and disk, those of mill beside those that they are compared with.
";

/// The whole page: what was measured now, and of the other parts what the old page says.
#[must_use]
pub fn page(parts: &[Part], measured: &BTreeMap<&str, Vec<Row>>, old: &str) -> String {
    let sections = parts.iter().filter_map(|part| match measured.get(part.name) {
        Some(rows) => Some(section(part, rows)),
        None => kept(part, old),
    });
    sections.fold(HEAD.to_owned(), |page, section| page + "\n" + &section)
}

/// What is said of a part.
#[must_use]
pub fn section(part: &Part, rows: &[Row]) -> String {
    let mut text = format!(
        "## {}\n\n{} `make bench PART={}`\n\n\
         | figure | mill | compared with | aim | met |\n|---|---|---|---|---|\n",
        part.title,
        machine(),
        part.name
    );
    for row in rows {
        let met = row.met.map_or("", |met| if met { "yes" } else { "**no**" });
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {met} |",
            row.figure, row.mill, row.peer, row.aim
        );
    }
    text + "\n" + part.notes.trim() + "\n"
}

/// The section of a part as the old page has it.
fn kept(part: &Part, old: &str) -> Option<String> {
    let begin = old.find(&format!("## {}\n", part.title))?;
    let rest = &old[begin..];
    let end = rest[2..].find("\n## ").map_or(rest.len(), |end| end + 2);
    Some(format!("{}\n", rest[..end].trim_end()))
}

fn machine() -> String {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = run("uname", &["-r"]).unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default();
    let date = run("date", &["-u", "+%Y-%m-%d"]).unwrap_or_default();
    let mill = run(super::support::node::MILL, &["version"]).unwrap_or_default();
    format!("{date}, {cores} cores, Linux {kernel}, {mill}.")
}
