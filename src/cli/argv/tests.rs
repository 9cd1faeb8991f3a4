//! Tests of sorting what was typed.

use super::*;
use crate::cli::args::Top;
use yare::parameterized;

fn typed(line: &str) -> Result<Typed, ArgvError> {
    sort::<Top>(line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

#[parameterized(
    before = { "--json --address http://a ps" },
    after = { "ps --json --address http://a" },
    around = { "--json ps --address=http://a" },
)]
fn global_flags_stand_anywhere(line: &str) {
    let typed = typed(line).unwrap();
    assert_eq!(typed.rest, ["ps"]);
    assert!(typed.globals.json);
    assert_eq!(typed.globals.address.as_deref(), Some("http://a"));
}

#[parameterized(
    names_last = { "logs -f web -n 20", "logs --follow -n 20 -- web" },
    value_with_equals = { "up --image=web=r:1 shop.mill", "up --image web=r:1 -- shop.mill" },
    letters_together = { "logs -fn20 web", "logs --follow -n 20 -- web" },
    standard_input = { "up -f -", "up --file -" },
    dash_as_name = { "image load -", "image load -- -" },
    dashes_end_flags = { "logs -- --json", "logs -- --json" },
    the_other_name = { "deploy a.mill", "up -- a.mill" },
    version_flag = { "--version", "version" },
    a_program = { "exec web ls -la --json", "exec -- web ls -la --json" },
    a_program_behind_flags = { "exec web -it sh -c x", "exec --interactive --tty -- web sh -c x" },
    a_program_behind_dashes = { "exec web -- ls -- -l", "exec -- web ls -- -l" },
    a_program_of_an_image = {
        "spawn --image i --wait date -u", "spawn --image i --wait -- date -u"
    },
    a_task_with_flags = { "spawn migrate --wait", "spawn --wait -- migrate" },
    help_of_a_command = { "help up", "up --help" },
    help_wins = { "up --bogus-free -h", "" },
    helped = { "logs web -h", "logs --help" },
)]
fn the_rest_is_as_the_parser_takes_it(line: &str, expected: &str) {
    match typed(line) {
        Ok(typed) => assert_eq!(typed.rest.join(" "), expected.replace("-n 20", "--tail 20")),
        Err(error) => assert_eq!(expected, "", "{error}"),
    }
}

#[test]
fn a_global_flags_name_may_be_a_value() {
    let typed = typed("up --image --json").unwrap();
    assert!(!typed.globals.json);
    assert_eq!(typed.rest, ["up", "--image", "--json"]);
}

#[parameterized(
    command = { "statsu", "mill has no command \"statsu\"", Some("Did you mean mill status?") },
    nested = { "image lst", "mill has no command \"image lst\"",
        Some("Did you mean mill image list?") },
    flag = { "up --detatch", "mill up has no flag --detatch", Some("Did you mean --detach?") },
    global_flag = { "ps --jsn", "mill ps has no flag --jsn", Some("Did you mean --json?") },
    value = { "up --image", "--image needs a value", None },
    no_value = { "up --detach=yes", "--detach takes no value", None },
    no_command = { "--frob", "mill has no flag --frob", Some("See mill --help") },
    alias_of_another = { "image ls", "mill has no command \"image ls\"",
        Some("Did you mean mill image list?") },
    letter = { "ps -z", "mill ps has no flag -z", Some("See mill ps --help") },
)]
fn mistakes_are_named(line: &str, message: &str, hint: Option<&str>) {
    let error = typed(line).unwrap_err();
    assert_eq!(error.to_string(), message);
    assert_eq!(error.hint().as_deref(), hint);
}

#[test]
fn every_command_shows_its_help() {
    fn visit(info: &CommandInfoWithArgs, path: &[&str]) {
        for command in &info.commands {
            let path: Vec<&str> = path.iter().copied().chain([command.name]).collect();
            let mut args = path.clone();
            args.push("-h");
            let typed = sort::<Top>(args.into_iter().map(str::to_owned).collect()).unwrap();
            assert_eq!(typed.rest.last().map(String::as_str), Some("--help"));
            let text = crate::cli::help::render(&typed.rest);
            assert!(text.starts_with(&format!("Usage: mill {}", path.join(" "))), "{text}");
            for (flag, _) in Globals::FLAGS {
                assert!(text.contains(&format!("\n  {flag}")), "{text}");
            }
            visit(&command.command, &path);
        }
    }
    visit(&Top::get_args_info(), &[]);
}
