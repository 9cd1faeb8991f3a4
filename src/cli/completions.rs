//! `mill completions`: a shell's script, which asks mill what may come next.
//!
//! Owns the scripts. What may come next is in `complete`.

use super::args::Top;
use super::complete::COMMAND;
use super::{Context, error::CliError};
use argh::{ArgsInfo, FromArgs};

/// Print a shell's completions. For bash: mill completions bash > /etc/bash_completion.d/mill
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "completions",
    help_triggers("-h", "--help"),
    example = "mill completions bash > /etc/bash_completion.d/mill"
)]
pub struct CompletionsArgs {
    /// bash, zsh or fish
    #[argh(positional)]
    pub shell: String,
}

/// The first word is one of those that the script knows; the rest mill says.
const BASH: &str = "_mill() {
    local IFS=$'\\n' word=${COMP_WORDS[COMP_CWORD]}
    if [ \"$COMP_CWORD\" -eq 1 ] && [[ $word != -* ]]; then
        COMPREPLY=($(compgen -W \"$(printf '%s\\n' COMMANDS)\" -- \"$word\"))
    else
        COMPREPLY=($(mill ASK \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null))
    fi
}
complete -o bashdefault -o default -F _mill mill
";

const ZSH: &str = "#compdef mill
_mill() {
    local -a found
    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
        found=(COMMANDS)
    else
        found=(\"${(@f)$(mill ASK \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\")
    fi
    found=(${found:#})
    if (( ${#found} )); then compadd -a found; else _files; fi
}
if [ \"$funcstack[1]\" = _mill ]; then _mill; else compdef _mill mill; fi
";

const FISH: &str = "complete -c mill -f -n __fish_use_subcommand -a 'COMMANDS'
complete -c mill -n 'not __fish_use_subcommand' \\
    -a '(mill ASK (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
";

pub(super) fn run(args: CompletionsArgs, context: &Context) -> Result<(), CliError> {
    let script = script(&args.shell)?;
    match context.ui.json {
        true => context.ui.document(&serde_json::json!({ "script": script })),
        false => context.ui.print(&script),
    }
}

fn script(shell: &str) -> Result<String, CliError> {
    let text = match shell {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        other => {
            let message = format!("there are no completions for {other:?}");
            return Err(CliError::usage(message, "Choose bash, zsh or fish"));
        }
    };
    let info = Top::get_args_info();
    let commands: Vec<&str> = info.commands.iter().map(|one| one.name).collect();
    Ok(text.replace("COMMANDS", &commands.join(" ")).replace("ASK", COMMAND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_knows_the_commands_and_asks_for_the_rest() {
        for shell in ["bash", "zsh", "fish"] {
            let script = script(shell).unwrap();
            for word in ["history", "restart", COMMAND] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
        assert_eq!(script("tcsh").unwrap_err().code(), 2);
    }

    #[test]
    fn bash_takes_its_script() {
        let script = script("bash").unwrap();
        let test = format!(
            "{script}\nCOMP_WORDS=(mill hist) COMP_CWORD=1\n_mill\necho \"${{COMPREPLY[@]}}\""
        );
        let out = std::process::Command::new("bash").args(["-c", &test]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout), "history\n", "{out:?}");
    }
}
