//! `mill mesh`: the encrypted network between the nodes.
//!
//! Never shows a key.

use super::{Context, error::CliError};
use crate::api::wire::MeshKeysView;
use argh::{ArgsInfo, FromArgs};

/// Change the keys of the encrypted network between the nodes.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "mesh", help_triggers("-h", "--help"))]
pub struct MeshArgs {
    /// what to do
    #[argh(subcommand)]
    pub command: MeshCommand,
}

/// What `mill mesh` does.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub enum MeshCommand {
    /// `mill mesh rotate`.
    Rotate(RotateArgs),
}

/// Let every node make another key. Connections between containers go on.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "rotate", help_triggers("-h", "--help"), example = "mill mesh rotate")]
pub struct RotateArgs {}

pub(super) async fn run(args: MeshArgs, context: &Context) -> Result<(), CliError> {
    let MeshCommand::Rotate(RotateArgs {}) = args.command;
    let made = context.client()?.rotate_mesh().await?;
    if context.ui.json {
        return context.ui.document(&made);
    }
    context.ui.print(&render(&made))
}

fn render(made: &MeshKeysView) -> String {
    let changed = match made.changed.as_slice() {
        [] => "no node has a new key yet".to_owned(),
        [one] => format!("{one} has a new key"),
        all => format!("{} have new keys", all.join(", ")),
    };
    match made.waiting.as_slice() {
        [] => changed,
        waiting => format!("{changed}; {}: as soon as it is back", waiting.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_is_told() {
        let said = |changed: &[&str], waiting: &[&str]| {
            let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect();
            render(&MeshKeysView { changed: names(changed), waiting: names(waiting) })
        };
        assert_eq!(said(&["n1"], &[]), "n1 has a new key");
        assert_eq!(said(&["n1", "n2"], &[]), "n1, n2 have new keys");
        let behind = "n1 has a new key; n3: as soon as it is back";
        assert_eq!(said(&["n1"], &["n3"]), behind);
    }
}
