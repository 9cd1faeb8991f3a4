//! `mill restore`: the local daemon begins a lost cluster again.

use super::backup::key::KeyArgs;
use super::client::{Call, escape};
use super::init::{advertised, labels, on_socket};
use super::{Context, error::CliError};
use crate::api::wire::{DaemonStatus, RestoreView};
use crate::backup::summary::Summary;
use argh::{ArgsInfo, FromArgs};
use hyper::Method;
use std::fmt::Write as _;

/// Make the local daemon, which belongs to no cluster, the first node of a lost one again.
#[derive(Debug, Default, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "restore",
    help_triggers("-h", "--help"),
    example = "mill restore prod.age --identity key.txt"
)]
pub struct RestoreArgs {
    /// the backup
    #[argh(positional)]
    pub file: String,
    /// file with the private key (AGE-SECRET-KEY-1…) of a recipient of it
    #[argh(option)]
    pub identity: Option<String>,
    /// name of the node; default: the host's
    #[argh(option)]
    pub node: Option<String>,
    /// label of the node, KEY=VALUE, beside those that the node of that name had
    #[argh(option)]
    pub label: Vec<String>,
    /// address that other nodes and clients use; the host has it
    #[argh(option)]
    pub advertise: Option<String>,
    /// the same where the host doesn't have it: it is translated on the way
    #[argh(option)]
    pub advertise_nat: Option<String>,
    /// do it without asking
    #[argh(switch, short = 'y')]
    pub yes: bool,
}

pub(super) async fn run(args: RestoreArgs, context: &Context) -> Result<(), CliError> {
    on_socket(context, "restore")?;
    // What is wrong with the file is said before a daemon is looked for.
    let unread = |source| CliError::Read { path: args.file.as_str().into(), source };
    drop(std::fs::File::open(&args.file).map_err(unread)?);
    let mut query = Vec::new();
    for (key, value) in labels(&args.label)? {
        query.push(format!("label={}", escape(&format!("{key}={value}"))));
    }
    let (address, nat) = advertised(args.advertise, args.advertise_nat)?;
    query.extend(address.map(|address| format!("advertise={}", escape(&address))));
    query.extend(nat.then(|| "nat=true".to_owned()));
    query.extend(args.node.map(|node| format!("node={}", escape(&node))));
    let client = context.client()?;
    let health = client.health().await?;
    if health.status != DaemonStatus::Unclaimed {
        let of = health.cluster.unwrap_or_else(|| "a cluster".to_owned());
        let message = format!("This node is a member of {of}: nothing was restored");
        let hint = "Over a lost cluster: stop the daemon, mill clean --keep-volumes, start it, and \
                    restore again";
        return Err(CliError::Failed { message, hint: Some(hint.to_owned()) });
    }
    let opened = KeyArgs { file: args.file, identity: args.identity }.read(context).await?;
    let (kept, plain) = opened;
    let summary = Summary::of(&kept);
    let question = format!(
        "{}\nThis node begins {} again from it. Nodes of it that still run must be stopped for \
         good before",
        summary.text(),
        summary.cluster
    );
    context.ui.confirm(args.yes, &question)?;
    let path = format!("/v1/restore?{}", query.join("&"));
    let call = Call::new(Method::POST, path).bytes("application/octet-stream", plain.to_vec());
    let made: RestoreView = client.call(call.without_timeout()).await?;
    if context.ui.json {
        return context.ui.document(&made);
    }
    context.ui.print(&render(&made))
}

fn render(made: &RestoreView) -> String {
    let RestoreView { cluster, node, address, taken_at, lost, volumes } = made;
    let mut text = format!("{cluster} goes on as of {taken_at}, with {node} at {address}");
    if !lost.is_empty() {
        let names = lost.join(", ");
        // Writing to a string can't fail.
        let _ = write!(
            text,
            "\nThe nodes that it had besides join again under their names: {names}\nA token for \
             them: mill token create --role join"
        );
    }
    for (volume, at) in volumes {
        let _ = write!(
            text,
            "\nThe data of volume {volume} was on {at}: it is taken up once a node joins that has \
             its folder; else mill volume restore {volume} FILE"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_to_do_is_said() {
        let made = RestoreView {
            cluster: "prod".to_owned(),
            node: "n1".to_owned(),
            address: "192.0.2.1".to_owned(),
            taken_at: "2026-01-01T00:00:00Z".to_owned(),
            lost: vec!["n2".to_owned(), "n3".to_owned()],
            volumes: [("db-data".to_owned(), "n2".to_owned())].into(),
        };
        let text = render(&made);
        assert!(text.contains("under their names: n2, n3\n"), "{text}");
        assert!(text.contains("The data of volume db-data was on n2"), "{text}");
    }
}
