//! `mill backup schedule`: backups that the cluster takes by itself.

use crate::api::wire::{BackupsView, ScheduleRequest};
use crate::cli::client::Call;
use crate::cli::table::{self, NONE, Table};
use crate::cli::{Context, error::CliError};
use crate::units::Bytes;
use argh::{ArgsInfo, FromArgs};
use hyper::Method;

/// Take backups by themselves, on the leader's node and one other; without CRON: show when and how.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "schedule",
    help_triggers("-h", "--help"),
    example = "mill backup schedule '0 3 * * *' --to /var/backups/mill --recipient age1…"
)]
pub struct ScheduleArgs {
    /// when, in UTC, such as "0 4 * * *"; off: not any more
    #[argh(positional)]
    pub cron: Option<String>,
    /// folder on the nodes for the files
    #[argh(option)]
    pub to: Option<String>,
    /// how many files each node keeps there; default 7
    #[argh(option)]
    pub keep: Option<u32>,
    /// whom they are encrypted for, age1…; may repeat
    #[argh(option)]
    pub recipient: Vec<String>,
}

const PATH: &str = "/v1/backup/schedule";
const KEEP: u32 = 7;

pub(super) async fn run(args: ScheduleArgs, context: &Context) -> Result<(), CliError> {
    let has_more = args.to.is_some() || args.keep.is_some() || !args.recipient.is_empty();
    let call = match args.cron.as_deref() {
        None if !has_more => Call::get(PATH),
        Some("off") if !has_more => Call::new(Method::DELETE, PATH),
        None | Some("off") => {
            let hint = "mill backup schedule \"0 4 * * *\" --to DIR --recipient age1…";
            return Err(CliError::usage("A schedule needs a time", hint));
        }
        Some(_) => Call::new(Method::PUT, PATH).json(&request(args)?),
    };
    let shown: BackupsView = context.client()?.call(call).await?;
    if context.ui.json {
        return context.ui.document(&shown);
    }
    let Some(cron) = &shown.cron else {
        return context.ui.print("No backups are taken by themselves");
    };
    let (to, keep) = (shown.to.as_deref().unwrap_or(NONE), shown.keep.unwrap_or_default());
    let mut text = format!(
        "{cron} (UTC) to {to} on the leader's node and one other, {keep} kept on each\nfor \
         {}\nnext {}",
        shown.recipients.join(", "),
        shown.next.as_deref().unwrap_or(NONE),
    );
    if !shown.last.is_empty() {
        let mut table = Table::new(&["NODE", "AGE", "SIZE", "FILE"]);
        for one in shown.last {
            let age = table::age(Some(&one.at), context.now());
            let size = one.file.is_some().then(|| Bytes(one.size).to_string());
            let failed = one.error.map(|why| format!("failed: {why}"));
            let file = one.file.or(failed).unwrap_or_else(|| NONE.to_owned());
            let size = size.unwrap_or_else(|| NONE.to_owned());
            table.row(vec![one.node.into(), age.into(), size.into(), file.into()]);
        }
        text = format!("{text}\n{}", table.render(context.ui));
    }
    context.ui.print(&text)
}

fn request(args: ScheduleArgs) -> Result<ScheduleRequest, CliError> {
    let ScheduleArgs { cron, to, keep, recipient: recipients } = args;
    let missing = |flag: &str, hint: &str| CliError::usage(format!("{flag} is missing"), hint);
    let to =
        to.ok_or_else(|| missing("--to DIR", "A folder on the nodes, such as /srv/backups"))?;
    if recipients.is_empty() {
        let hint = "Nobody types a passphrase then. Make a key pair with age-keygen, keep the \
                    private key elsewhere, and pass its public key";
        return Err(missing("--recipient age1…", hint));
    }
    Ok(ScheduleRequest {
        cron: cron.unwrap_or_default(),
        to,
        keep: keep.unwrap_or(KEEP),
        recipients,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_needs_a_folder_and_a_recipient() {
        let args = |to: Option<&str>, recipient: &[&str]| ScheduleArgs {
            cron: Some("@daily".to_owned()),
            to: to.map(str::to_owned),
            keep: None,
            recipient: recipient.iter().map(|one| (*one).to_owned()).collect(),
        };
        assert_eq!(request(args(Some("/b"), &["age1x"])).unwrap().keep, 7);
        for (wrong, what) in [(args(None, &["age1x"]), "--to"), (args(Some("/b"), &[]), "age1")] {
            let error = request(wrong).unwrap_err();
            assert_eq!(error.code(), 2);
            assert!(error.text().contains(what), "{}", error.text());
        }
    }
}
