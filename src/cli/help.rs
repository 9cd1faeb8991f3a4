//! What `--help` says of a command.
//!
//! Owns its looks and the names of values; what flags there are is in each command's own file.

#[cfg(test)]
mod tests;

use super::args::Top;
use super::globals::Globals;
use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};
use std::fmt::Write as _;

/// Where the text of a flag begins.
const COLUMN: usize = 26;
/// Where lines are broken.
const WIDTH: usize = 96;

/// What a flag's value is called where that isn't the flag's own name in capitals.
const VALUES: &[(&str, &str)] = &[
    ("acme-eab", "KID:HMAC"),
    ("acme-email", "EMAIL"),
    ("acme-directory", "URL"),
    ("acme-ca", "FILE"),
    ("address", "URL"),
    ("advertise", "IP"),
    ("advertise-nat", "IP"),
    ("api", "ADDR"),
    ("attach", "REV"),
    ("containerd", "SOCKET|private"),
    ("cpu", "CORES"),
    ("data-dir", "DIR"),
    ("dns", "ADDR"),
    ("env", "K=V"),
    ("file", "FILE"),
    ("grep", "TEXT"),
    ("http", "ADDR"),
    ("https", "ADDR"),
    ("identity", "FILE"),
    ("image", "NAME=REF"),
    ("insecure-registry", "HOST:PORT"),
    ("label", "K=V"),
    ("labels", "K=V"),
    ("limit", "N"),
    ("log-format", "text|json"),
    ("memory", "SIZE"),
    ("mesh-port", "N"),
    ("names", "NAME"),
    ("output", "FILE"),
    ("path", "FILE"),
    ("peer", "ADDR"),
    ("peer-hint", "ID=ADDR"),
    ("plan", "HASH"),
    ("port", "N"),
    ("recipient", "KEY"),
    ("references", "IMAGE"),
    ("replicas", "N"),
    ("revision", "REV"),
    ("role", "admin|deploy|read|join"),
    ("root", "DIR"),
    ("run", "IMAGE"),
    ("secret", "NAME=VALUE"),
    ("shell", "bash|zsh|fish"),
    ("since", "TIME"),
    ("socket", "PATH"),
    ("subnet", "CIDR"),
    ("tail", "N"),
    ("timeout", "TIME"),
    ("token", "TOKEN"),
    ("trusted-proxies", "CIDR"),
    ("ttl", "TIME"),
    ("uses", "N"),
];

/// The help of the command that `words` name, the last of them perhaps `--help`.
#[must_use]
pub fn render(words: &[String]) -> String {
    let mut info = Top::get_args_info();
    let mut command = "mill".to_owned();
    for word in words {
        let Some(found) = info.commands.iter().find(|one| one.name == word) else { break };
        let _ = write!(command, " {word}");
        info = found.command.clone();
    }
    of(&command, &info)
}

fn of(command: &str, info: &CommandInfoWithArgs) -> String {
    let mut out = format!("Usage: {command}{}\n\n", usage(command, info));
    paragraph(&mut out, info.description);
    if info.positionals.iter().any(|one| !one.description.is_empty()) {
        out.push_str("\nArguments:\n");
        for one in info.positionals.iter().filter(|one| !one.hidden) {
            row(&mut out, &value(one.name), one.description);
        }
    }
    let flags: Vec<&FlagInfo> = info.flags.iter().filter(|one| !one.hidden).collect();
    let own: Vec<&&FlagInfo> = flags.iter().filter(|one| one.long != "--help").collect();
    if !own.is_empty() {
        out.push_str("\nOptions:\n");
        own.iter().for_each(|one| row(&mut out, &flag(command, one), one.description));
    }
    if !info.commands.is_empty() {
        out.push_str("\nCommands:\n");
        info.commands.iter().for_each(|one| row(&mut out, one.name, one.command.description));
    }
    out.push_str("\nGlobal options:\n");
    for (name, about) in Globals::ABOUT {
        let takes = Globals::takes_value(name) == Some(true);
        let shown = value(name.trim_start_matches('-'));
        row(&mut out, &if takes { format!("{name} {shown}") } else { (*name).to_owned() }, about);
    }
    row(&mut out, "-h, --help", "show this");
    for (head, lines) in [("Examples", info.examples), ("Notes", info.notes)] {
        if !lines.is_empty() {
            let _ = write!(out, "\n{head}:\n");
        }
        for line in lines.iter().flat_map(|text| text.split('\n')) {
            wrapped(&mut out, "  ", line, 2);
        }
    }
    if !info.error_codes.is_empty() {
        out.push_str("\nExit codes:\n");
        let codes = info.error_codes.iter();
        codes.for_each(|one| row(&mut out, &one.code.to_string(), one.description));
    }
    out
}

/// What follows the command: `[FILE] [OPTIONS]`.
fn usage(command: &str, info: &CommandInfoWithArgs) -> String {
    if !info.commands.is_empty() {
        return " <command>".to_owned();
    }
    let name = |one: &PositionalInfo| {
        let name = value(one.name);
        match one.optionality {
            Optionality::Required => format!(" {name}"),
            Optionality::Optional => format!(" [{name}]"),
            Optionality::Repeating | Optionality::Greedy => format!(" [{name}...]"),
        }
    };
    let shown = info.positionals.iter().filter(|one| !one.hidden);
    let names: String = shown.map(name).collect();
    match command {
        "mill exec" => " NAME [-it] [--] [CMD...]".to_owned(),
        "mill spawn" => " TASK [OPTIONS], or --image IMAGE [OPTIONS] [--] [CMD...]".to_owned(),
        _ if info.flags.iter().all(|one| one.hidden || one.long == "--help") => names,
        _ => format!("{names} [OPTIONS]"),
    }
}

fn flag(command: &str, one: &FlagInfo) -> String {
    let long = one.long;
    let name = one.short.map_or_else(|| format!("    {long}"), |short| format!("-{short}, {long}"));
    match one.kind {
        FlagInfoKind::Switch => name,
        // An image alone stands for itself there.
        FlagInfoKind::Option { .. } if command == "mill spawn" && long == "--image" => {
            format!("{name} IMAGE")
        }
        FlagInfoKind::Option { arg_name } => format!("{name} {}", value(arg_name)),
    }
}

/// What a value is called.
pub fn value(name: &str) -> String {
    let known = VALUES.iter().find(|(one, _)| *one == name.replace('_', "-"));
    known.map_or_else(|| name.to_uppercase(), |(_, shown)| (*shown).to_owned())
}

fn paragraph(out: &mut String, text: &str) {
    wrapped(out, "", text, 0);
}

fn row(out: &mut String, head: &str, text: &str) {
    let head = format!("  {head}");
    let column = COLUMN.max(2);
    if head.chars().count() + 2 > column {
        let _ = writeln!(out, "{head}");
        return wrapped(out, &" ".repeat(column), text, column);
    }
    wrapped(out, &format!("{head:column$}"), text, column);
}

/// Words behind what the line begins with, broken where it gets too long.
fn wrapped(out: &mut String, begin: &str, text: &str, indent: usize) {
    let mut line = begin.to_owned();
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{}", line.trim_end());
            line = " ".repeat(indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(out, "{}", line.trim_end());
}
