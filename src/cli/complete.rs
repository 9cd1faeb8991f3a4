//! What a shell may offer next: commands and flags from their descriptions, names from the daemon.
//!
//! Owns which names go where. Never complains: who can't be asked offers nothing.

use super::Context;
use super::args::Top;
use super::client::Client;
use super::globals::Globals;
use super::ui::Ui;
use crate::api::wire::StatusView;
use crate::config::Env;
use crate::limits;
use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfoKind};
use std::path::Path;
use std::sync::Arc;

/// The word that a shell's script calls mill with.
pub const COMMAND: &str = "__complete";

/// What a name in some place is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Services,
    Tasks,
    Runs,
    Allocations,
    Apps,
    Nodes,
    Revisions,
    Secrets,
    Volumes,
    Images,
    Tokens,
    Files,
    Words(&'static [&'static str]),
}

use Kind::{Allocations, Apps, Files, Images, Nodes, Revisions, Runs, Secrets, Services, Tasks};
use Kind::{Tokens, Volumes, Words};

/// What follows a command.
const NAMES: &[(&str, &[Kind])] = &[
    ("up", &[Files]),
    ("plan", &[Files]),
    ("check", &[Files]),
    ("fmt", &[Files]),
    ("dev", &[Files]),
    ("down", &[Services, Tasks, Apps]),
    ("ps", &[Services, Tasks, Allocations]),
    ("logs", &[Services, Tasks, Apps, Allocations]),
    ("why", &[Services, Tasks, Apps, Allocations]),
    ("show", &[Services, Apps, Revisions]),
    ("diff", &[Revisions]),
    ("rollback", &[Revisions]),
    ("scale", &[Services]),
    ("rebalance", &[Services]),
    ("restart", &[Services, Allocations]),
    ("exec", &[Services, Allocations]),
    ("cp", &[Services, Allocations]),
    ("port-forward", &[Services, Allocations]),
    ("spawn", &[Tasks]),
    ("kill", &[Runs]),
    ("label", &[Nodes]),
    ("drain", &[Nodes]),
    ("undrain", &[Nodes]),
    ("remove", &[Nodes]),
    ("secret get", &[Secrets]),
    ("secret set", &[Secrets]),
    ("secret delete", &[Secrets]),
    ("volume delete", &[Volumes]),
    ("volume move", &[Volumes, Nodes]),
    ("volume backup", &[Volumes]),
    ("volume restore", &[Volumes]),
    ("image remove", &[Images]),
    ("token revoke", &[Tokens]),
    ("completions", &[Words(&["bash", "zsh", "fish"])]),
];

/// What a flag's value is one of.
const VALUES: &[(&str, Kind)] = &[
    ("--node", Nodes),
    ("--app", Apps),
    ("--file", Files),
    ("--attach", Revisions),
    ("--role", Words(&["admin", "deploy", "read", "join"])),
    ("--status", Words(&["pending", "pulling", "starting", "running", "backoff", "failed"])),
    ("--log-format", Words(&["text", "json"])),
];

/// What may stand in a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    /// Texts that are known without asking.
    words: Vec<String>,
    /// Names that are asked for.
    kinds: Vec<Kind>,
    globals: Globals,
}

/// Prints what the last of the words may become, a line each.
pub fn run(words: &[String], env: &Env) {
    let (last, before) =
        words.split_last().map_or(("", words), |(last, rest)| (last.as_str(), rest));
    let place = place(before, last);
    let mut found = place.words;
    let files = place.kinds.contains(&Files);
    let asks = place.kinds.iter().any(|kind| !matches!(kind, Files | Words(_)));
    found.extend(place.kinds.iter().flat_map(|kind| match kind {
        Words(words) => words.iter().map(|word| (*word).to_owned()).collect(),
        _ => Vec::new(),
    }));
    if files {
        found.extend(mill_files(last));
    }
    let ui = Ui { json: false, color: false, live: false, asks: false };
    if asks {
        let globals = super::login::with_kept(place.globals.with_env(env), env);
        let context = Context { globals, env: env.clone(), ui, parting: Arc::default() };
        found.extend(asked(&context, &place.kinds));
    }
    found.retain(|word| word.starts_with(last));
    found.sort();
    found.dedup();
    if !found.is_empty() {
        // A shell that doesn't read wants nothing.
        let _ = ui.print(&found.join("\n"));
    }
}

/// What may follow these words.
fn place(before: &[String], last: &str) -> Place {
    let mut info = Top::get_args_info();
    let (mut path, mut globals, mut names) = (Vec::new(), Globals::default(), 0);
    let mut words = before.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            names += words.by_ref().count();
        } else if word.starts_with('-') {
            let Some(long) = with_value(&info, word) else {
                globals.set(word, None);
                continue;
            };
            let Some(value) = words.next() else {
                let kinds = VALUES.iter().filter(|(flag, _)| *flag == long);
                let kinds = kinds.map(|(_, kind)| *kind).collect();
                return Place { words: Vec::new(), kinds, globals };
            };
            globals.set(&long, Some(value.clone()));
        } else if let Some(found) = info.commands.iter().find(|one| one.name == word) {
            path.push(word.as_str());
            info = found.command.clone();
        } else {
            names += 1;
        }
    }
    let mut place = Place { globals, ..Place::default() };
    if last.starts_with('-') {
        place.words = info.flags.iter().map(|flag| flag.long.to_owned()).collect();
        place.words.extend(Globals::FLAGS.iter().map(|(name, _)| (*name).to_owned()));
    } else if !info.commands.is_empty() {
        place.words = info.commands.iter().map(|one| one.name.to_owned()).collect();
    } else {
        let path = path.join(" ");
        let kinds = NAMES.iter().find(|(command, _)| *command == path).map(|(_, kinds)| *kinds);
        // What follows the first name there is the program's, or a path.
        let is_over = matches!(path.as_str(), "exec" | "scale" | "label") && names > 0;
        place.kinds = kinds.filter(|_| !is_over).unwrap_or_default().to_vec();
    }
    place
}

/// The long name of a flag that takes the next word as its value.
fn with_value(info: &CommandInfoWithArgs, word: &str) -> Option<String> {
    if word.contains('=') {
        return None;
    }
    let letter = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
    let letter = letter.and_then(|rest| rest.chars().last());
    let is_it =
        |flag: &&argh::FlagInfo<'_>| flag.long == word || letter.is_some() && flag.short == letter;
    let own = info.flags.iter().find(is_it);
    let takes = own.map(|flag| matches!(flag.kind, FlagInfoKind::Option { .. }));
    let takes = takes.or_else(|| Globals::takes_value(word)).unwrap_or_default();
    takes.then(|| own.map_or(word, |flag| flag.long).to_owned())
}

/// Files of mill and directories that begin so.
fn mill_files(last: &str) -> Vec<String> {
    let (place, _) = last.split_at(last.rfind('/').map_or(0, |at| at + 1));
    let entries =
        std::fs::read_dir(if place.is_empty() { Path::new(".") } else { Path::new(place) });
    let named = entries.into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let fits = is_directory && !name.starts_with('.') || name.ends_with(".mill");
        fits.then(|| format!("{place}{name}{}", if is_directory { "/" } else { "" }))
    });
    named.collect()
}

/// Names of the cluster; none where nobody answers soon.
fn asked(context: &Context, kinds: &[Kind]) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(runtime), Ok(client)) = (runtime, context.client()) else { return Vec::new() };
    let all = async {
        let mut found = Vec::new();
        let of_status = [Services, Tasks, Allocations, Apps, Nodes];
        if kinds.iter().any(|kind| of_status.contains(kind))
            && let Ok(status) = client.status().await
        {
            found.extend(kinds.iter().flat_map(|kind| in_status(&status, *kind)));
        }
        for kind in kinds {
            found.extend(elsewhere(&client, *kind).await);
        }
        found
    };
    let soon = async { tokio::time::timeout(limits::COMPLETION_WAIT, all).await };
    runtime.block_on(soon).unwrap_or_default()
}

fn in_status(status: &StatusView, kind: Kind) -> Vec<String> {
    let services = status.services.iter();
    match kind {
        Services => services.map(|one| one.name.clone()).collect(),
        Allocations => {
            services.flat_map(|one| &one.allocations).map(|one| one.id.clone()).collect()
        }
        Tasks => status.tasks.iter().map(|one| one.name.clone()).collect(),
        Apps => status.apps.iter().map(|one| one.name.clone()).collect(),
        Nodes => status.nodes.iter().map(|one| one.name.clone()).collect(),
        _ => Vec::new(),
    }
}

async fn elsewhere(client: &Client, kind: Kind) -> Vec<String> {
    match kind {
        Revisions => {
            let all = client.deployments(None, None).await.unwrap_or_default();
            all.into_iter().map(|one| format!("r{}", one.revision)).collect()
        }
        Runs => {
            let all = client.tasks().await.unwrap_or_default();
            all.into_iter().filter(|run| run.ended_at.is_none()).map(|run| run.id).collect()
        }
        Secrets => client.secrets().await.unwrap_or_default().into_iter().map(|s| s.name).collect(),
        Volumes => client.volumes().await.unwrap_or_default().into_iter().map(|v| v.name).collect(),
        Tokens => client.tokens().await.unwrap_or_default().into_iter().map(|t| t.id).collect(),
        Images => {
            let all = client.images().await.unwrap_or_default();
            all.into_iter().map(|one| one.reference).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &str) -> Place {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (last, before) = words.split_last().unwrap();
        place(before, last)
    }

    #[test]
    fn each_place_has_its_own() {
        assert!(at("").words.contains(&"history".to_owned()));
        assert!(at("image ").words.contains(&"load".to_owned()));
        assert!(at("up --de").words.contains(&"--detach".to_owned()));
        assert!(at("up --").words.contains(&"--json".to_owned()));
        for (line, kinds) in [
            ("ps --node ", &[Nodes][..]),
            ("drain ", &[Nodes]),
            ("up -f ", &[Files]),
            ("down a ", &[Services, Tasks, Apps]),
            ("exec ", &[Services, Allocations]),
            ("exec web ", &[]),
            ("logs -n ", &[]),
            ("logs -f ", &[Services, Tasks, Apps, Allocations]),
            ("secret get ", &[Secrets]),
        ] {
            assert_eq!(at(line).kinds, kinds, "{line}");
        }
        let globals = at("--address http://a ps ").globals;
        assert_eq!(globals.address.as_deref(), Some("http://a"));
    }

    #[test]
    fn files_are_those_of_mill_and_directories() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.mill"), "").unwrap();
        std::fs::write(directory.path().join("b.txt"), "").unwrap();
        std::fs::create_dir(directory.path().join("c")).unwrap();
        let place = format!("{}/", directory.path().display());
        let mut found = mill_files(&format!("{place}x"));
        found.sort();
        assert_eq!(found, [format!("{place}a.mill"), format!("{place}c/")]);
    }
}
