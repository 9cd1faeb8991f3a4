//! `mill completions`.

use super::args::Top;
use super::{Context, error::CliError};
use argh::{ArgsInfo, FromArgs};
use argh_complete::Generator;
use argh_complete::{bash::Bash, fish::Fish, zsh::Zsh};

/// Print a shell's completions. For bash: mill completions bash > /etc/bash_completion.d/mill
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "completions", help_triggers("-h", "--help"))]
pub struct CompletionsArgs {
    /// bash, zsh or fish
    #[argh(positional)]
    pub shell: String,
}

pub(super) fn run(args: CompletionsArgs, context: &Context) -> Result<(), CliError> {
    let script = script(&args.shell)?;
    match context.ui.json {
        true => context.ui.document(&serde_json::json!({ "script": script })),
        false => context.ui.print(&script),
    }
}

fn script(shell: &str) -> Result<String, CliError> {
    let info = Top::get_args_info();
    match shell {
        "bash" => Ok(Bash::generate("mill", &info)),
        "zsh" => Ok(Zsh::generate("mill", &info)),
        "fish" => Ok(Fish::generate("mill", &info)),
        other => Err(CliError::usage(
            format!("there are no completions for {other:?}"),
            "Choose bash, zsh or fish",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_knows_the_commands() {
        for shell in ["bash", "zsh", "fish"] {
            let script = script(shell).unwrap();
            for word in ["history", "restart", "detach"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
        assert_eq!(script("tcsh").unwrap_err().code(), 2);
    }
}
