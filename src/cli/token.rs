//! `mill token`: who may talk to the API.

use super::duration::DurationArg;
use super::table::{self, NONE, Table};
use super::{Context, error::CliError};
use crate::api::wire::{Role, TokenRequest};
use argh::{ArgsInfo, FromArgs};

/// Create, list and revoke API tokens.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "token", help_triggers("-h", "--help"))]
pub struct TokenArgs {
    /// what to do
    #[argh(subcommand)]
    pub command: TokenCommand,
}

/// What `mill token` does.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub enum TokenCommand {
    /// `mill token create`.
    Create(CreateArgs),
    /// `mill token list`.
    List(ListArgs),
    /// `mill token revoke`.
    Revoke(RevokeArgs),
}

/// Create a token; it is shown once.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "create",
    help_triggers("-h", "--help"),
    example = "mill token create --role deploy --ttl 8h"
)]
pub struct CreateArgs {
    /// admin, deploy, read or join
    #[argh(option)]
    pub role: String,
    /// how long it is good, such as 24h; without it a join token for 24h, others for ever
    #[argh(option)]
    pub ttl: Option<DurationArg>,
    /// of a join token: how many nodes it lets in; without it any number
    #[argh(option)]
    pub uses: Option<u32>,
}

/// List tokens, without their secret part.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"), example = "mill token list")]
pub struct ListArgs {}

/// Let a token in no more.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "revoke",
    help_triggers("-h", "--help"),
    example = "mill token revoke 4f9c"
)]
pub struct RevokeArgs {
    /// its id, as mill token list shows it
    #[argh(positional)]
    pub id: String,
}

pub(super) async fn run(args: TokenArgs, context: &Context) -> Result<(), CliError> {
    let ui = context.ui;
    match args.command {
        TokenCommand::Create(args) => {
            let request = request(&args)?;
            let token = context.client()?.create_token(&request).await?;
            if ui.json {
                return ui.document(&token);
            }
            if let Some(text) = warning(&token.role) {
                ui.note(text);
            }
            ui.print(&token.token)
        }
        TokenCommand::List(_) => list(context).await,
        TokenCommand::Revoke(args) => {
            context.client()?.revoke_token(&args.id).await?;
            match ui.json {
                true => ui.document(&serde_json::json!({ "id": args.id, "deleted": true })),
                false => ui.print(&format!("{}  revoked", args.id)),
            }
        }
    }
}

fn request(args: &CreateArgs) -> Result<TokenRequest, CliError> {
    let role = Role::from(args.role.as_str());
    if let Role::Other(_) = role {
        let message = format!("{:?} is no role", args.role);
        return Err(CliError::usage(message, "Choose admin, deploy, read or join"));
    }
    // Less than a second would be a token that is never good.
    let ttl = args.ttl.map(|ttl| ttl.0.0.div_ceil(1000).max(1));
    if args.uses.is_some_and(|uses| uses == 0 || role != Role::Join) {
        let message = "--uses counts the nodes that a join token lets in";
        return Err(CliError::usage(message, "mill token create --role join --uses 1"));
    }
    Ok(TokenRequest { role, ttl, uses: args.uses })
}

/// What whoever holds such a token should know.
fn warning(role: &Role) -> Option<&'static str> {
    match role {
        Role::Admin => Some("This is an admin token: it allows everything."),
        Role::Join => Some(
            "This is a join token: a node that joins gets the cluster's keys, so it is as powerful \
             as an admin token.",
        ),
        _ => None,
    }
}

async fn list(context: &Context) -> Result<(), CliError> {
    let tokens = context.client()?.tokens().await?;
    if context.ui.json {
        return context.ui.document(&tokens);
    }
    let mut table = Table::new(&["ID", "ROLE", "AGE", "EXPIRES", "USES"]);
    for token in tokens {
        table.row(vec![
            token.id.into(),
            token.role.to_string().into(),
            table::age(Some(&token.created_at), context.now()).into(),
            token.expires_at.unwrap_or_else(|| NONE.to_owned()).into(),
            token.uses.map_or_else(|| NONE.to_owned(), |uses| uses.to_string()).into(),
        ]);
    }
    context.ui.print(&table.render(context.ui))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Millis;

    #[test]
    fn a_role_and_a_time_are_asked_for() {
        let args = |role: &str, ttl| CreateArgs {
            role: role.to_owned(),
            ttl: Some(DurationArg(Millis(ttl))),
            uses: None,
        };
        let uses = |role: &str, uses| CreateArgs { uses: Some(uses), ..args(role, 1_000) };
        assert_eq!(request(&uses("join", 2)).unwrap().uses, Some(2));
        assert_eq!(request(&uses("join", 0)).unwrap_err().code(), 2);
        assert_eq!(request(&uses("read", 1)).unwrap_err().code(), 2);
        assert_eq!(request(&args("root", 1)).unwrap_err().code(), 2);
        assert_eq!(request(&args("read", 90_000)).unwrap().ttl, Some(90));
        assert_eq!(request(&args("read", 10)).unwrap().ttl, Some(1));
    }
}
