//! From what was typed to what the parser takes.
//!
//! Owns global flags in any place, `--key=value`, `-fn20`, `-` as a name, and suggestions for what
//! is misspelt; the commands' own description (argh's) says what each flag takes. Never runs
//! anything and never reads the environment.

use super::globals::Globals;
use super::names::{self, Unknown};
use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind};
use std::collections::VecDeque;

#[cfg(test)]
mod tests;

/// What was typed, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// Flags that every command has.
    pub globals: Globals,
    /// The rest, as argh takes it: commands, then flags, then `--` and names.
    pub rest: Vec<String>,
    /// Flags that were given by their letter.
    pub letters: Vec<(String, char)>,
}

/// Why it can't be sorted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgvError {
    /// No such command.
    #[error("mill has no command {name:?}")]
    Command {
        /// As typed.
        name: String,
        /// What it stands for.
        unknown: Unknown,
    },
    /// No such flag.
    #[error("{command} has no flag {flag}")]
    Flag {
        /// The whole command: `mill up`.
        command: String,
        /// As typed.
        flag: String,
        /// Perhaps this was meant.
        near: Option<String>,
    },
    /// A flag that takes a value came without.
    #[error("{flag} needs a value")]
    Value { flag: String },
    /// A flag that takes none came with one.
    #[error("{flag} takes no value")]
    NoValue { flag: String },
}

impl ArgvError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Command { unknown, .. } => match unknown {
                Unknown::Near(near) => Some(format!("Did you mean mill {near}?")),
                Unknown::Instead(instead) => Some(format!("Use {instead}")),
                Unknown::Nothing => Some("mill --help lists the commands".to_owned()),
            },
            Self::Flag { near: Some(near), .. } => Some(format!("Did you mean {near}?")),
            Self::Flag { command, near: None, .. } => Some(format!("See {command} --help")),
            Self::Value { .. } | Self::NoValue { .. } => None,
        }
    }
}

/// Sorts the arguments after the program's name, for the commands of `T`.
///
/// # Errors
/// A command, flag or value that doesn't fit.
pub fn sort<T: ArgsInfo>(args: Vec<String>) -> Result<Typed, ArgvError> {
    let mut walk = Walk {
        info: T::get_args_info(),
        path: Vec::new(),
        flags: Vec::new(),
        names: Vec::new(),
        letters: Vec::new(),
        globals: Globals::default(),
    };
    let mut args = VecDeque::from(args);
    if args.front().is_some_and(|first| first == "help") {
        args.pop_front();
        args.push_back("--help".to_owned());
    }
    while let Some(arg) = args.pop_front() {
        match arg.as_str() {
            "--" => {
                walk.names.extend(args.drain(..));
            }
            "--help" | "-h" => return Ok(walk.help()),
            "--version" | "-V" if walk.path.is_empty() => walk.name("version")?,
            "-" => walk.name("-")?,
            _ if arg.starts_with("--") => walk.long(&arg, &mut args)?,
            _ if arg.starts_with('-') => walk.short(&arg, &mut args)?,
            _ => walk.name(&arg)?,
        }
        if walk.is_program() {
            walk.names.extend(args.drain(..));
        }
    }
    Ok(walk.done())
}

struct Walk {
    info: CommandInfoWithArgs,
    path: Vec<String>,
    flags: Vec<String>,
    names: Vec<String>,
    letters: Vec<(String, char)>,
    globals: Globals,
}

impl Walk {
    fn help(self) -> Typed {
        let rest = self.path.into_iter().chain(["--help".to_owned()]).collect();
        Typed { globals: self.globals, rest, letters: self.letters }
    }

    /// Whether a program's name was the last word: what follows is the program's own.
    fn is_program(&self) -> bool {
        match self.path.as_slice() {
            [command] if command == "exec" => self.names.len() == 2,
            [command] if command == "spawn" => {
                self.names.len() == 1 && self.flags.iter().any(|flag| flag == "--image")
            }
            _ => false,
        }
    }

    fn done(self) -> Typed {
        let mut rest = self.path;
        rest.extend(self.flags);
        if !self.names.is_empty() {
            rest.push("--".to_owned());
            rest.extend(self.names);
        }
        Typed { globals: self.globals, rest, letters: self.letters }
    }

    /// A word without a dash: a command where there are commands, else a name.
    fn name(&mut self, word: &str) -> Result<(), ArgvError> {
        if self.info.commands.is_empty() {
            self.names.push(word.to_owned());
            return Ok(());
        }
        let name = if self.path.is_empty() { names::canonical(word) } else { word };
        if let Some(found) = self.info.commands.iter().find(|command| command.name == name) {
            self.path.push(name.to_owned());
            self.info = found.command.clone();
            return Ok(());
        }
        if !self.info.positionals.is_empty() {
            self.names.push(word.to_owned());
            return Ok(());
        }
        let known: Vec<&str> = self.info.commands.iter().map(|command| command.name).collect();
        let parent = self.path.join(" ");
        let near = match names::unknown(&parent, word, &known) {
            Unknown::Near(near) if !parent.is_empty() => Unknown::Near(format!("{parent} {near}")),
            other => other,
        };
        let name = if parent.is_empty() { word.to_owned() } else { format!("{parent} {word}") };
        Err(ArgvError::Command { name, unknown: near })
    }

    fn long(&mut self, arg: &str, args: &mut VecDeque<String>) -> Result<(), ArgvError> {
        let (flag, value) = match arg.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (arg, None),
        };
        let own = self.info.flags.iter().find(|info| info.long == flag);
        match own.map(takes_value).or_else(|| Globals::takes_value(flag)) {
            Some(true) => {
                let missing = || ArgvError::Value { flag: flag.to_owned() };
                let value = value.or_else(|| args.pop_front()).ok_or_else(missing)?;
                self.put(flag, own.is_some(), Some(value));
            }
            Some(false) if value.is_some() => {
                return Err(ArgvError::NoValue { flag: flag.to_owned() });
            }
            Some(false) => self.put(flag, own.is_some(), None),
            None => return Err(self.no_flag(flag)),
        }
        Ok(())
    }

    /// Letters behind one dash: switches, the last one perhaps with a value.
    fn short(&mut self, arg: &str, args: &mut VecDeque<String>) -> Result<(), ArgvError> {
        let mut rest = arg.trim_start_matches('-');
        while let Some(letter) = rest.chars().next() {
            rest = &rest[letter.len_utf8()..];
            let Some(info) = self.info.flags.iter().find(|info| info.short == Some(letter)) else {
                return Err(self.no_flag(&format!("-{letter}")));
            };
            let long = info.long;
            self.letters.push((long.to_owned(), letter));
            if !takes_value(info) {
                self.put(long, true, None);
                continue;
            }
            let attached = std::mem::take(&mut rest);
            let attached = attached.strip_prefix('=').unwrap_or(attached);
            let value = if attached.is_empty() { args.pop_front() } else { Some(attached.into()) };
            let missing = || ArgvError::Value { flag: format!("-{letter}") };
            self.put(long, true, Some(value.ok_or_else(missing)?));
        }
        Ok(())
    }

    fn put(&mut self, flag: &str, own: bool, value: Option<String>) {
        if own {
            self.flags.push(flag.to_owned());
            self.flags.extend(value);
        } else {
            self.globals.set(flag, value);
        }
    }

    fn no_flag(&self, flag: &str) -> ArgvError {
        let own = self.info.flags.iter().map(|info| info.long);
        let near = names::nearest(flag, own.chain(Globals::FLAGS.iter().map(|(name, _)| *name)));
        let near = near.map(str::to_owned);
        let command = ["mill"].into_iter().chain(self.path.iter().map(String::as_str));
        let command = command.collect::<Vec<_>>().join(" ");
        ArgvError::Flag { command, flag: flag.to_owned(), near }
    }
}

fn takes_value(info: &FlagInfo<'_>) -> bool {
    matches!(info.kind, FlagInfoKind::Option { .. })
}
