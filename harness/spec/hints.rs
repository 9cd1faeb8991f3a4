//! Hints carried out by the letter: a file with one of them applied has one error less.
//!
//! Owns how a hint is understood, as somebody would who knows nothing of the format: what it says
//! to write takes the place of what is underlined, of the property or of the field that it names.

use super::{SEPARATOR, cases};
use mill::spec::{self, Problem, Report};
use std::fs;

/// What comes before the text that a hint says to write.
const MARKS: [&str; 16] = [
    "did you mean ",
    "for example ",
    "as in ",
    "quote it: ",
    "quote the whole: ",
    "quote the text: ",
    "quote the duration: ",
    "quote the size: ",
    "quote the percentage: ",
    "quote the name: ",
    "use double quotes: ",
    "drop the =: ",
    "the opening quote is missing: ",
    "a raw text begins with # alone: ",
    "write ",
    "add ",
];

fn problems(text: &str) -> (Vec<Problem>, usize) {
    match spec::read("shop.mill", text) {
        Ok(_) => (Vec::new(), 0),
        Err(Report { problems, more, .. }) => {
            let count = problems.len() + more;
            (problems, count)
        }
    }
}

/// What a problem's hint says to write, without the words around it; what is left open filled in.
fn said(problem: &Problem) -> Option<String> {
    let text = problem.text();
    if text.ends_with("or $${ for a plain ${") {
        return Some("$${".to_owned());
    }
    if text.contains(": write \\\\ for a backslash") {
        return Some("\\\\".to_owned());
    }
    let text = text.rsplit_once("; ").map_or(text.as_str(), |(_, hint)| hint);
    let (at, mark) = MARKS.iter().filter_map(|mark| Some((text.find(mark)?, mark))).min()?;
    let rest = text[at + mark.len()..].trim_start_matches("#true: ").trim_start_matches("#false: ");
    let rest = rest.trim_end_matches('?');
    let rest = match rest.rsplit_once(": ") {
        Some((fields, last)) if !fields.contains('"') => last,
        _ => rest,
    };
    let ends = [", or ", " or ", ", and ", " at the ", " in the ", " for ", " to it", "\", \""];
    let is_outside = |end: &usize| rest[..*end].matches('"').count() % 2 == 0;
    let end = ends.iter().filter_map(|sign| {
        let keeps = usize::from(sign.starts_with('"'));
        rest.match_indices(sign).map(|(at, _)| at + keeps).find(is_outside)
    });
    let written = rest[..end.min().unwrap_or(rest.len())].trim();
    let written = written.trim_end_matches(" {").trim_start_matches("a ");
    let image = "{ image \"nginx\" }";
    let written = written.replace("{ … }", image).replace("\"/…\"", "\"/x\"").replace('…', "x");
    (!written.is_empty()).then_some(written)
}

/// The end of the value that begins there.
fn value_end(text: &str, start: usize) -> usize {
    let rest = &text[start..];
    let end = match rest.strip_prefix('"') {
        Some(inner) => inner.find('"').map(|end| end + 2),
        None => rest.find([' ', '\n', ';', '}', '{']),
    };
    start + end.unwrap_or(rest.len())
}

/// The end of the field that begins there: its line's, or where the next one begins.
fn field_end(text: &str, start: usize) -> usize {
    let (mut in_text, mut depth) = (false, 0);
    for (at, c) in text[start..].char_indices() {
        match c {
            '"' => in_text = !in_text,
            '{' if !in_text => depth += 1,
            '}' if !in_text && depth > 0 => depth -= 1,
            '\n' | ';' | '}' if !in_text && depth == 0 => {
                return start + text[start..start + at].trim_end().len();
            }
            _ => {}
        }
    }
    text.len()
}

/// Where a word begins that a line has before or at that place.
fn word_before(text: &str, word: &str, place: usize) -> Option<usize> {
    let line = text[..place].rfind('\n').map_or(0, |at| at + 1);
    let end = text.floor_char_boundary((place + word.len()).min(text.len()));
    let found = text.get(line..end)?.match_indices(word).map(|(at, _)| line + at);
    let begins = |at: &usize| {
        *at == 0 || text[..*at].ends_with(|c: char| c.is_whitespace() || "{;(".contains(c))
    };
    found.filter(begins).last()
}

/// Where a backslash begins no escape of the format.
fn bad_escape(text: &str) -> Option<usize> {
    let is_bad = |at: &usize| !text[at + 1..].starts_with(['"', '\\', 'n', 'r', 't', 'u', 's']);
    text.match_indices('\\').map(|(at, _)| at).find(is_bad)
}

/// The file as it may be meant, the likeliest first.
fn repaired(text: &str, problem: &Problem, written: &str) -> Vec<String> {
    let (start, end) = (problem.span.start, problem.span.end);
    let with = |from: usize, to: usize, new: &str| format!("{}{new}{}", &text[..from], &text[to..]);
    let name: String =
        written.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    let is_property = !name.is_empty() && written[name.len()..].starts_with('=');
    let mut all = Vec::new();
    if let Some(slip) = ["$${", "\\\\"].iter().find(|slip| **slip == written) {
        let inner = &text[start..end];
        let wrong = if *slip == "$${" { inner.find("${") } else { bad_escape(inner) };
        let at = start + wrong.unwrap_or_default();
        return vec![with(at, at, &slip[..1])];
    }
    let instead = problem.text();
    if let Some((_, name)) = instead.split_once(" in the place of ") {
        let sign = format!("{name}=");
        let at = text[start..].find(&sign).map_or(start, |at| start + at);
        return vec![with(at, value_end(text, at + sign.len()), written)];
    }
    if written == "}" {
        // Only who wrote it knows where.
        let ends = text[end..].match_indices('\n').map(|(at, _)| end + at);
        return ends.map(|at| with(at, at, "\n}")).collect();
    }
    if instead.contains("drop the =: ") {
        all.push(with(start, end, ""));
    }
    if is_property {
        let sign = format!("{name}=");
        match word_before(text, &sign, start).filter(|at| field_end(text, *at) >= start) {
            Some(at) => all.push(with(at, value_end(text, at + sign.len()), written)),
            None => {
                let at = field_end(text, start);
                all.push(format!("{} {written}{}", text[..at].trim_end(), &text[at..]));
            }
        }
        all.push(with(start, value_end(text, end), written));
        return all;
    }
    let bare = written.trim_matches('"');
    if let Some(at) = word_before(text, &name, start).filter(|_| written.len() > name.len()) {
        all.push(with(at, end.max(at + name.len()), written));
        all.push(with(at, field_end(text, at), written));
    }
    all.push(with(start, end, written));
    all.push(with(start, end, bare));
    all.push(with(start, field_end(text, start), written));
    // A field that is missing: in the block around, or in the file.
    let inside = text[..start].rfind('{').map_or(0, |at| at + 1);
    let block = text[start..].find('{').map_or(inside, |at| start + at + 1);
    all.push(with(block, block, &format!(" {written}; ")));
    all.push(with(inside, inside, &format!(" {written}; ")));
    all.push(format!("{text}\n{written}\n"));
    all
}

#[test]
fn a_file_with_a_hint_applied_has_one_error_less() {
    let (mut tried, mut wrong) = (0, String::new());
    for path in cases("bad") {
        let content = fs::read_to_string(&path).expect("a readable case");
        let text = content.split_once(SEPARATOR).map_or("", |(text, _)| text);
        let (found, count) = problems(text);
        for problem in &found {
            let Some(written) = said(problem) else { continue };
            tried += 1;
            let ways = repaired(text, problem, &written);
            // What a hint adds may be what another error asks for, too.
            let adds = problem.text().contains("; add ");
            let is_less = |way: &String| {
                let left = problems(way).1;
                left + 1 == count || adds && left < count
            };
            if !ways.iter().any(is_less) {
                let left = problems(&ways[0]).0;
                let left: Vec<String> = left.iter().map(Problem::text).take(3).collect();
                let name = path.file_name().unwrap_or_default().display();
                let (line, said) = (problem.line, problem.text());
                wrong.push_str(&format!("{name}:{line}: {said}\n    as {written}: {left:?}\n"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} hints fail:\n{wrong}", wrong.matches("    as").count());
    assert!(tried >= 100, "only {tried} hints");
}
