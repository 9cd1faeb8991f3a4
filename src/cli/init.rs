//! `mill init`: the local daemon becomes the first node of a cluster.

use super::globals::Target;
use super::{Context, cert, error::CliError, volume};
use crate::api::wire::{InitRequest, InitView};
use argh::{ArgsInfo, FromArgs};
use std::collections::BTreeMap;

/// Make the local daemon the first node of a new cluster.
#[derive(Debug, Default, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "init",
    help_triggers("-h", "--help"),
    example = "mill init --cluster prod --advertise 10.0.0.1"
)]
pub struct InitArgs {
    /// name of the cluster; default: default
    #[argh(option)]
    pub cluster: Option<String>,
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
    /// order certificates for routed hosts; whom the authority writes to
    #[argh(option)]
    pub acme_email: Option<String>,
    /// order them at this ACME directory; default Let's Encrypt
    #[argh(option)]
    pub acme_directory: Option<String>,
    /// order them at Let's Encrypt's directory for tries
    #[argh(switch)]
    pub acme_staging: bool,
    /// an external account that the authority asks for, KID:HMAC
    #[argh(option)]
    pub acme_eab: Option<String>,
    /// keep volumes at this provider of block storage: digitalocean; default: on the nodes
    #[argh(option)]
    pub provider: Option<String>,
    /// token of the provider's API; - reads it from the standard input
    #[argh(option)]
    pub provider_token: Option<String>,
    /// where the provider's API is; default: its own
    #[argh(option)]
    pub provider_api: Option<String>,
}

pub(super) async fn run(args: InitArgs, context: &Context) -> Result<(), CliError> {
    let request = request(&args)?;
    on_socket(context, "init")?;
    let made = context.client()?.init(&request).await?;
    if context.ui.json {
        return context.ui.document(&made);
    }
    context.ui.print(&render(&made))
}

fn request(args: &InitArgs) -> Result<InitRequest, CliError> {
    let labels = labels(&args.label)?;
    let (cluster, node) = (args.cluster.clone(), args.node.clone());
    let (advertise, nat) = advertised(args.advertise.clone(), args.advertise_nat.clone())?;
    let acme = cert::request(
        args.acme_email.clone(),
        args.acme_directory.clone(),
        args.acme_staging,
        args.acme_eab.clone(),
    );
    let provider = volume::provider(
        args.provider.as_deref(),
        ("--provider-token", args.provider_token.as_deref()),
        args.provider_api.clone(),
    )?;
    Ok(InitRequest { cluster, node, labels, advertise, nat, acme, provider })
}

/// The address that others use, and whether it is translated on the way.
pub(super) fn advertised(
    own: Option<String>,
    nat: Option<String>,
) -> Result<(Option<String>, bool), CliError> {
    if own.is_some() && nat.is_some() {
        let message = "--advertise and --advertise-nat exclude each other";
        return Err(CliError::usage(message, "Pass the one that is true of the host"));
    }
    let is_nat = nat.is_some();
    Ok((own.or(nat), is_nat))
}

/// What changes who the node is works on the node itself only.
pub(super) fn on_socket(context: &Context, command: &str) -> Result<(), CliError> {
    let targets = context.globals.targets()?;
    if targets.iter().any(|target| matches!(target, Target::Unix(_))) {
        return Ok(());
    }
    let message = format!("mill {command} works on the daemon's UNIX socket only");
    Err(CliError::usage(message, "Run it on the node, without --address"))
}

/// `--label KEY=VALUE`, each.
pub(super) fn labels(given: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let each = given.iter().map(|label| {
        let pair = label.split_once('=').filter(|(key, _)| !key.is_empty());
        let wrong = || CliError::usage(format!("--label {label}: no key and value"), "KEY=VALUE");
        let (key, value) = pair.ok_or_else(wrong)?;
        Ok((key.to_owned(), value.to_owned()))
    });
    each.collect()
}

fn render(made: &InitView) -> String {
    let InitView { cluster, node, token, join } = made;
    format!(
        "Cluster {cluster} with its first node {node}.\nAdmin token, shown once: {token}\n\
         Join another node: {join}\n(its token is good for 24 h, and as powerful as the admin's; \
         another: mill token create --role join)\nDeploy: mill up FILE"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pairs() {
        let args = |label: &str| InitArgs { label: vec![label.to_owned()], ..InitArgs::default() };
        assert_eq!(request(&args("zone=eu=1")).unwrap().labels["zone"], "eu=1");
        assert_eq!(request(&args("zone")).unwrap_err().code(), 2);
        assert_eq!(request(&args("=x")).unwrap_err().code(), 2);
    }

    #[test]
    fn a_provider_and_its_token_come_together() {
        let args = |provider: Option<&str>, token: Option<&str>| InitArgs {
            provider: provider.map(str::to_owned),
            provider_token: token.map(str::to_owned),
            ..InitArgs::default()
        };
        assert_eq!(request(&args(Some("digitalocean"), None)).unwrap_err().code(), 2);
        assert_eq!(request(&args(None, Some("t"))).unwrap_err().code(), 2);
        assert_eq!(request(&args(Some("other"), Some("t"))).unwrap_err().code(), 2);
        let asked = request(&args(Some("digitalocean"), Some("t"))).unwrap().provider.unwrap();
        assert_eq!((asked.name.as_str(), asked.token.as_str()), ("digitalocean", "t"));
        assert!(!format!("{asked:?}").contains("\"t\""));
        for (api, is_address) in [
            ("nonsense", false),
            ("ftp://api.example.com", false),
            ("https://", false),
            ("https:///v2", false),
            ("https://api.example.com/", true),
            ("http://127.0.0.1:8080", true),
        ] {
            let provider_api = Some(api.to_owned());
            let asked =
                request(&InitArgs { provider_api, ..args(Some("digitalocean"), Some("t")) });
            let code = asked.map_or_else(|refused| refused.code(), |_| 0);
            assert_eq!(code, if is_address { 0 } else { 2 }, "{api}");
        }
    }

    #[test]
    fn the_join_command_is_printed_whole() {
        let made = InitView {
            cluster: "prod".to_owned(),
            node: "n1".to_owned(),
            token: "mill_x".to_owned(),
            join: "mill join 10.0.0.1 --token mill_y".to_owned(),
        };
        assert!(render(&made).contains("\nJoin another node: mill join 10.0.0.1 --token mill_y\n"));
    }
}
