//! What the parser finds wrong with what was typed, in mill's words.
//!
//! Owns the wording of each of argh's mistakes. Never prints.

use super::argv::Typed;
use super::error::CliError;
use super::help::value;

/// Whether a command is missing behind what was typed.
#[must_use]
pub fn is_unfinished(text: &str) -> bool {
    text.starts_with("One of the following subcommands")
}

/// The mistake that argh's text is about.
#[must_use]
pub fn mistake(typed: &Typed, text: &str) -> CliError {
    let words: Vec<&str> =
        typed.rest.iter().map(String::as_str).take_while(|arg| !arg.starts_with('-')).collect();
    let command = ["mill"].into_iter().chain(words).collect::<Vec<_>>().join(" ");
    let help = format!("{command} --help");
    if is_unfinished(text) {
        return CliError::usage("Which command?", format!("{help} lists them"));
    }
    if let Some((option, given, why)) = value_of(text, "Error parsing option '") {
        let letters = typed.letters.iter().rev();
        let letter = letters.clone().find(|(long, _)| long == option).map(|(_, letter)| *letter);
        let name = letter.map_or_else(|| option.to_owned(), |letter| format!("-{letter}"));
        let remedy = remedy(why, &format!("{name} "));
        return CliError::Usage { message: format!("{name} {given}: {remedy}"), hint: None };
    }
    if let Some((name, given, why)) = value_of(text, "Error parsing positional argument '") {
        let message = format!("{} {given}: {}", value(name), remedy(why, ""));
        return CliError::Usage { message, hint: None };
    }
    if let Some(names) = text.strip_prefix("Required positional arguments not provided:") {
        let names: Vec<String> = names.split_whitespace().map(value).collect();
        return CliError::usage(format!("{command} needs {}", names.join(" ")), see(&help));
    }
    if let Some(names) = text.strip_prefix("Required options not provided:") {
        let needs = |name: &str| format!("{name} {}", value(name.trim_start_matches('-')));
        let names: Vec<String> = names.split_whitespace().map(needs).collect();
        return CliError::usage(format!("{command} needs {}", names.join(" ")), see(&help));
    }
    if let Some(word) = text.strip_prefix("Unrecognized argument: ") {
        let word = word.split(". Did you mean").next().unwrap_or(word).trim().trim_matches('"');
        return CliError::usage(format!("{command} has no use for {word:?}"), see(&help));
    }
    let message = text.split_whitespace().collect::<Vec<_>>().join(" ");
    CliError::usage(message, see(&help))
}

fn see(help: &str) -> String {
    format!("See {help}")
}

/// Name, value and reason of a value that isn't one.
fn value_of<'a>(text: &'a str, begin: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let (name, rest) = text.strip_prefix(begin)?.split_once("' with value '")?;
    let (given, why) = rest.rsplit_once("': ")?;
    Some((name, given, why.trim()))
}

/// What to write instead, from what the standard library says of a number.
fn remedy(why: &str, name: &str) -> String {
    let whole = ["invalid digit", "number too", "cannot parse integer"];
    if whole.iter().any(|begin| why.starts_with(begin)) {
        return format!("write a whole number, such as {name}20");
    }
    if why.contains("float") {
        return format!("write a number, such as {name}0.5");
    }
    why.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Top;
    use crate::cli::argv;
    use argh::FromArgs;
    use yare::parameterized;

    #[parameterized(
        letter = { "history -n -1", "-n -1: write a whole number, such as -n 20" },
        long = { "history --limit x", "--limit x: write a whole number, such as --limit 20" },
        float = { "spawn --image i --cpu much", "--cpu much: write a number, such as --cpu 0.5" },
        time = { "up --timeout 5", "--timeout 5: write it with its unit, such as 10s, 5m or 2h" },
        positional = { "scale web x", "N x: write a whole number, such as 20" },
        missing = { "scale web", "mill scale needs N. See mill scale --help" },
        option = { "token create", "mill token create needs --role admin|deploy|read|join. \
                    See mill token create --help" },
        more = { "history web", "mill history has no use for \"web\". See mill history --help" },
        none = { "", "Which command? mill --help lists them" },
        nested = { "image", "Which command? mill image --help lists them" },
    )]
    fn mistakes_say_what_to_write(line: &str, expected: &str) {
        let words = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned);
        let typed = argv::sort::<Top>(words.collect()).unwrap();
        let rest: Vec<&str> = typed.rest.iter().map(String::as_str).collect();
        let exit = Top::from_args(&["mill"], &rest).unwrap_err();
        assert!(exit.status.is_err());
        let error = mistake(&typed, &exit.output);
        assert_eq!((error.text().as_str(), error.code()), (expected, 2));
    }
}
