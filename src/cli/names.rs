//! Command names: those of other programs, those of later, and the nearest to a misspelt one.
//!
//! Owns what is answered to a name that is no command. Never runs one.

/// Commands that are another's by a second name.
const ALIASES: [(&str, &str); 1] = [("deploy", "up")];

/// Commands that are in the plan of the program and not in this build.
const LATER: &[&str] = &[
    "volume move",
    "volume backup",
    "volume restore",
    "cert",
    "backup",
    "restore",
    "route pause",
    "route resume",
    "backup verify",
];

/// Commands of other programs, and what does the same here.
const ELSEWHERE: [(&str, &str); 15] = [
    ("rm", "mill down SERVICE (or mill scale SERVICE 0)"),
    ("stop", "mill down SERVICE (or mill scale SERVICE 0)"),
    ("run", "mill up FILE (or mill dev --run IMAGE --port 80)"),
    ("start", "mill up FILE"),
    ("apply", "mill up FILE"),
    ("create", "mill up FILE"),
    ("serve", "mill dev or mill daemon"),
    ("delete", "mill down SERVICE"),
    ("destroy", "mill down --all"),
    ("list", "mill ps"),
    ("ls", "mill ps"),
    ("images", "mill image list"),
    ("load", "mill image load FILE"),
    ("inspect", "mill show SERVICE"),
    ("describe", "mill show SERVICE"),
];

/// What a name stands for that no command has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It comes later.
    Later(String),
    /// Another command does it.
    Instead(&'static str),
    /// Perhaps this one was meant.
    Near(String),
    /// Nothing is like it.
    Nothing,
}

/// The name that the command is filed under.
#[must_use]
pub fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, real)| real)
}

/// Sorts a name that isn't among `commands`; `parent` is empty or the command it follows.
#[must_use]
pub fn unknown(parent: &str, name: &str, commands: &[&str]) -> Unknown {
    let whole = if parent.is_empty() { name.to_owned() } else { format!("{parent} {name}") };
    if LATER.contains(&whole.as_str()) {
        return Unknown::Later(whole);
    }
    let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == name && parent.is_empty());
    if let Some((_, instead)) = elsewhere {
        return Unknown::Instead(instead);
    }
    let later = LATER.iter().copied().filter(|later| parent.is_empty() && !later.contains(' '));
    match nearest(name, commands.iter().copied().chain(later)) {
        Some(near) => Unknown::Near(near.to_owned()),
        None => Unknown::Nothing,
    }
}

/// The candidate that differs least, if it differs little.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, drop, replace or swap with their neighbour (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMANDS: [&str; 5] = ["up", "down", "status", "restart", "history"];

    #[test]
    fn names_of_other_programs_get_the_right_command() {
        for name in ["rm", "stop", "run"] {
            let Unknown::Instead(text) = unknown("", name, &COMMANDS) else { panic!("{name}") };
            assert!(text.starts_with("mill "), "{text}");
        }
    }

    #[test]
    fn commands_of_later_say_so() {
        assert_eq!(unknown("", "cert", &COMMANDS), Unknown::Later("cert".to_owned()));
        let verify = Unknown::Later("backup verify".to_owned());
        assert_eq!(unknown("backup", "verify", &["schedule"]), verify);
        assert_eq!(unknown("image", "cert", &["load"]), Unknown::Nothing);
    }

    #[test]
    fn misspelt_names_suggest_the_nearest() {
        assert_eq!(unknown("", "statsu", &COMMANDS), Unknown::Near("status".to_owned()));
        assert_eq!(unknown("", "histroy", &COMMANDS), Unknown::Near("history".to_owned()));
        assert_eq!(unknown("", "bakcup", &COMMANDS), Unknown::Near("backup".to_owned()));
        assert_eq!(unknown("", "frobnicate", &COMMANDS), Unknown::Nothing);
    }

    #[test]
    fn distances_count_swaps_once() {
        assert_eq!(distance("statsu", "status"), 1);
        assert_eq!(distance("", "up"), 2);
        assert_eq!(distance("dwon", "down"), 1);
        assert_eq!(distance("same", "same"), 0);
    }
}
