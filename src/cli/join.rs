//! `mill join`: the local daemon becomes a member of a cluster.

use super::init::{advertised, labels, on_socket};
use super::{Context, error::CliError};
use crate::api::wire::{JoinRequest, JoinView};
use crate::cluster::join;
use argh::{ArgsInfo, FromArgs};

/// Make the local daemon a member of a cluster; returns when it is ready.
#[derive(Debug, Default, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "join",
    help_triggers("-h", "--help"),
    example = "mill join 10.0.0.1 --token mill_4f9c_…"
)]
pub struct JoinArgs {
    /// a member: HOST, or HOST:PORT if its peer port isn't 4401
    #[argh(positional)]
    pub host: String,
    /// name of the node; default: the host's
    #[argh(option)]
    pub node: Option<String>,
    /// label of the node for constraints, KEY=VALUE
    #[argh(option)]
    pub label: Vec<String>,
    /// address that other nodes and clients use; the host has it
    #[argh(option)]
    pub advertise: Option<String>,
    /// the same where the host doesn't have it: it is translated on the way
    #[argh(option)]
    pub advertise_nat: Option<String>,
}

pub(super) async fn run(args: JoinArgs, context: &Context) -> Result<(), CliError> {
    let token = context.globals.token.clone();
    let request = request(args, token)?;
    on_socket(context, "join")?;
    let joined = context.client()?.join(&request).await?;
    if context.ui.json {
        return context.ui.document(&joined);
    }
    context.ui.print(&render(&joined))
}

fn request(args: JoinArgs, token: Option<String>) -> Result<JoinRequest, CliError> {
    if join::place(&args.host).is_none() {
        let message = format!("{:?} is no HOST[:PORT]", args.host);
        return Err(CliError::usage(message, "Write it as 10.0.0.1 or 10.0.0.1:4401"));
    }
    let missing = || {
        let hint = "Make one on a member: mill token create --role join";
        CliError::usage("mill join needs --token T", hint)
    };
    let labels = labels(&args.label)?;
    let (advertise, nat) = advertised(args.advertise, args.advertise_nat)?;
    let (address, node) = (args.host, args.node);
    Ok(JoinRequest { address, token: token.ok_or_else(missing)?, node, labels, advertise, nat })
}

fn render(joined: &JoinView) -> String {
    let JoinView { cluster, node, address, .. } = joined;
    format!("{node} is a member of {cluster}, at {address}\nLook at all: mill nodes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_and_a_token_are_asked_for() {
        let args = |host: &str| JoinArgs { host: host.to_owned(), ..JoinArgs::default() };
        let token = || Some("mill_x".to_owned());
        assert_eq!(request(args("n1"), token()).unwrap().address, "n1");
        for wrong in ["", "http://n1", "n1:x"] {
            assert_eq!(request(args(wrong), token()).unwrap_err().code(), 2, "{wrong}");
        }
        let error = request(args("n1"), None).unwrap_err();
        assert!(error.text().contains("mill token create --role join"), "{}", error.text());
    }
}
