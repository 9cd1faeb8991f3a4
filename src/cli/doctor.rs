//! `mill doctor`: what this host lacks, each with its remedy.

use super::daemon::DaemonArgs;
use super::error::FAILED;
use super::table::{Cell, NONE, Table};
use super::ui::{BAD, CHANGE, GOOD, Ui};
use super::{Context, error::CliError};
use crate::actors::doctor::{self, Check, Status};
use crate::api::wire::PeerCheckView;
use crate::config::Mode;
use argh::{ArgsInfo, FromArgs};

/// Check what this host lacks for a daemon with these settings, each with its remedy.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "doctor", help_triggers("-h", "--help"), example = "mill doctor --peers")]
pub struct DoctorArgs {
    /// where everything is kept; default /var/lib/mill
    #[argh(option)]
    pub data_dir: Option<String>,
    /// containerd's socket, or private
    #[argh(option)]
    pub containerd: Option<String>,
    /// instead: which ports the cluster's nodes reach of each other
    #[argh(switch)]
    pub peers: bool,
}

pub(super) async fn run(args: DoctorArgs, context: &Context) -> Result<(), CliError> {
    if args.peers {
        return peers(context).await;
    }
    let mode = if context.globals.dev { Mode::Dev } else { Mode::Daemon };
    let (data_dir, containerd) = (args.data_dir, args.containerd);
    let settings = DaemonArgs { data_dir, containerd, ..DaemonArgs::default() };
    let config = settings.config(mode, context)?;
    let looked = tokio::task::spawn_blocking(move || doctor::doctor(&config)).await;
    let checks = looked.map_err(|error| CliError::failed(format!("a check broke: {error}")))?;
    if context.ui.json {
        context.ui.document(&checks)?;
    } else {
        context.ui.print(&render(&checks, context.ui))?;
    }
    let fails = checks.iter().any(|check| check.status == Status::Fail);
    if fails { Err(CliError::Said { code: FAILED }) } else { Ok(()) }
}

/// Both ways, since each node tries all others.
async fn peers(context: &Context) -> Result<(), CliError> {
    let all = context.client()?.mesh_peers().await?;
    match context.ui.json {
        true => context.ui.document(&all)?,
        false => context.ui.print(&render_peers(&all, context.ui))?,
    }
    let fails = all.iter().any(|one| !one.ok);
    if fails { Err(CliError::Said { code: FAILED }) } else { Ok(()) }
}

fn render_peers(all: &[PeerCheckView], ui: Ui) -> String {
    if all.is_empty() {
        return "There is no other node that is up".to_owned();
    }
    let mut table = Table::new(&["FROM", "TO", "PORT", "STATUS", "FOUND"]);
    for one in all {
        let (status, style) = if one.ok { ("ok", GOOD) } else { ("fail", BAD) };
        let port = Some(one.port.as_str()).filter(|port| !port.is_empty()).unwrap_or(NONE);
        table.row(vec![
            one.from.as_str().into(),
            one.to.as_str().into(),
            port.into(),
            Cell::styled(status, Some(style)),
            one.detail.as_str().into(),
        ]);
    }
    let hints = all.iter().filter_map(|one| Some(format!("→ {}\n", one.hint.as_ref()?)));
    table.render(ui) + &hints.collect::<String>()
}

fn render(checks: &[Check], ui: Ui) -> String {
    let mut table = Table::new(&["CHECK", "STATUS", "FOUND"]);
    for check in checks {
        let style = match check.status {
            Status::Ok => GOOD,
            Status::Warn => CHANGE,
            Status::Fail => BAD,
        };
        table.row(vec![
            check.name.as_str().into(),
            Cell::styled(check.status.to_string(), Some(style)),
            check.detail.as_str().into(),
        ]);
    }
    let remedies = checks.iter().filter_map(|check| {
        let remedy = check.remedy.as_ref()?;
        Some(format!("→ {}: {remedy}\n", check.name))
    });
    table.render(ui) + &remedies.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ps::tests::PLAIN;

    #[test]
    fn what_does_not_answer_is_told_with_both_ends() {
        let check = |from: &str, to: &str, hint: Option<&str>| PeerCheckView {
            from: from.to_owned(),
            to: to.to_owned(),
            port: "51820/udp".to_owned(),
            ok: hint.is_none(),
            detail: "found".to_owned(),
            hint: hint.map(str::to_owned),
        };
        let all = [check("n1", "n2", None), check("n2", "n1", Some("open it"))];
        let expected = "FROM  TO  PORT       STATUS  FOUND\n\
                        n1    n2  51820/udp  ok      found\n\
                        n2    n1  51820/udp  fail    found\n\
                        → open it\n";
        assert_eq!(render_peers(&all, PLAIN), expected);
    }

    #[test]
    fn remedies_follow_the_table() {
        let check = |name: &str, status, remedy: Option<&str>| Check {
            name: name.to_owned(),
            status,
            detail: "found".to_owned(),
            remedy: remedy.map(str::to_owned),
        };
        let checks = [check("root", Status::Ok, None), check("runc", Status::Fail, Some("apt"))];
        let expected =
            "CHECK  STATUS  FOUND\nroot   ok      found\nrunc   fail    found\n→ runc: apt\n";
        assert_eq!(render(&checks, PLAIN), expected);
    }
}
