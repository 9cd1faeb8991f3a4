//! That help reads well, and that `docs/cli.md` says the same.
//!
//! Owns what a command's section in the document begins with: `MILL_BLESS=1` writes it anew.

use super::*;

fn help(command: &str) -> String {
    render(&command.split(' ').map(str::to_owned).collect::<Vec<_>>())
}

#[test]
fn values_have_names_and_global_flags_are_listed() {
    let up = help("up --help");
    assert!(up.starts_with("Usage: mill up [FILE] [OPTIONS]\n\nDeploy a file"), "{up}");
    for line in ["      --plan HASH  ", "  -f, --file FILE  ", "  --address URL  ", "--token T"] {
        assert!(up.contains(line), "{line}: {up}");
    }
    assert!(help("spawn").contains("      --image IMAGE  "), "{}", help("spawn"));
    assert!(help("diff").starts_with("Usage: mill diff REV [REV]\n"), "{}", help("diff"));
    assert!(help("").starts_with("Usage: mill <command>\n"), "{}", help(""));
    assert!(help("image").contains("Commands:\n  load  "), "{}", help("image"));
}

#[test]
fn lines_are_broken_below_their_beginning() {
    let mut out = String::new();
    row(&mut out, "--a", &"word ".repeat(30));
    let indented = |line: &str| line.starts_with(&" ".repeat(COLUMN));
    assert!(out.lines().skip(1).all(indented) && out.lines().count() > 1, "{out}");
    assert!(out.lines().all(|line| line.chars().count() <= WIDTH), "{out}");
}

/// Between these two lines of a section stands what its help says.
const OPEN: &str = "<!-- as --help says -->\n";
const CLOSE: &str = "<!-- the rest is by hand -->\n";

/// Each command with what its section says, groups before what is in them.
fn sections(command: &str, info: &CommandInfoWithArgs, found: &mut Vec<(String, String)>) {
    for one in &info.commands {
        let command = format!("{command} {}", one.name);
        found.push((command.clone(), section(&command, &one.command)));
        sections(&command, &one.command, found);
    }
}

fn section(command: &str, info: &CommandInfoWithArgs) -> String {
    let mut out = format!("{}\n\n`{command}{}`\n", info.description, usage(command, info));
    let arguments = info.positionals.iter().filter(|one| !one.hidden);
    let arguments = arguments.filter(|one| !one.description.is_empty());
    let arguments = arguments.map(|one| (value(one.name), one.description));
    let flags = info.flags.iter().filter(|one| !one.hidden && one.long != "--help");
    let flags = flags.map(|one| (flag(command, one).trim_start().to_owned(), one.description));
    let rows: Vec<(String, &str)> = arguments.chain(flags).collect();
    if !rows.is_empty() {
        out.push_str("\n| | |\n|---|---|\n");
    }
    for (name, about) in rows {
        let [name, about] = [&*name, about].map(|text| text.replace('|', "\\|"));
        let _ = writeln!(out, "| `{name}` | {about} |");
    }
    for note in info.notes {
        let _ = writeln!(out, "\n{note}");
    }
    for example in info.examples.iter().flat_map(|text| text.split('\n')) {
        let _ = writeln!(out, "\nExample: `{example}`");
    }
    if info.commands.is_empty() {
        let own =
            info.error_codes.iter().map(|one| format!(", and {}: {}", one.code, one.description));
        let own: String = own.collect();
        let _ = writeln!(out, "\n[Exit codes](#exit-codes): as all{}.", own.trim_end_matches('.'));
    }
    out
}

#[test]
fn the_document_says_of_each_command_what_its_help_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    sections("mill", &Top::get_args_info(), &mut found);
    let mut wanted = text.clone();
    for (command, section) in &found {
        let head = format!("# {command}\n\n{OPEN}");
        let begin = wanted.find(&head).expect(&head) + head.len();
        let end = begin + wanted[begin..].find(CLOSE).expect(CLOSE);
        wanted.replace_range(begin..end, section);
    }
    for line in text.lines().filter(|line| line.starts_with('#')) {
        let Some(name) = line.trim_start_matches('#').trim().strip_prefix("mill ") else {
            continue;
        };
        assert!(found.iter().any(|(known, _)| known[5..] == *name), "there is no mill {name}");
    }
    if std::env::var_os("MILL_BLESS").is_some() {
        return std::fs::write(path, &wanted).unwrap();
    }
    assert!(text == wanted, "docs/cli.md is another than --help: MILL_BLESS=1 writes it anew");
}

#[test]
fn each_command_has_an_example() {
    fn check(command: &str, info: &CommandInfoWithArgs) {
        assert!(!info.commands.is_empty() || !info.examples.is_empty(), "{command} has none");
        info.commands
            .iter()
            .for_each(|one| check(&format!("{command} {}", one.name), &one.command));
    }
    check("mill", &Top::get_args_info());
}
