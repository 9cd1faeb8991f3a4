//! `mill history`: revisions and what became of them.

use super::table::{self, Cell, NONE, Table};
use super::ui::{BAD, CHANGE, GOOD, Ui};
use super::{Context, error::CliError};
use crate::api::wire::{CanaryStage, DeploymentStatus, DeploymentView};
use crate::units::Timestamp;
use argh::{ArgsInfo, FromArgs};

/// List revisions, newest first.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "history",
    help_triggers("-h", "--help"),
    example = "mill history --app shop -n 5"
)]
pub struct HistoryArgs {
    /// only this app's
    #[argh(option)]
    pub app: Option<String>,
    /// at most so many
    #[argh(option, short = 'n')]
    pub limit: Option<u32>,
}

pub(super) async fn run(args: HistoryArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let all = client.deployments(args.app.as_deref(), args.limit).await?;
    if context.ui.json {
        return context.ui.document(&all);
    }
    context.ui.print(&render(&all, context.now(), context.ui))?;
    context.note_stale(&client);
    Ok(())
}

fn render(all: &[DeploymentView], now: Timestamp, ui: Ui) -> String {
    let mut table =
        Table::new(&["REVISION", "APP", "BY", "STATUS", "WHEN", "TOOK", "IMAGES OR REASON"]);
    for one in all {
        let style = match one.status {
            DeploymentStatus::Succeeded => Some(GOOD),
            DeploymentStatus::Failed => Some(BAD),
            DeploymentStatus::Running => Some(CHANGE),
            _ => None,
        };
        let images: Vec<String> =
            one.images.iter().map(|(service, image)| format!("{service}={image}")).collect();
        let reason = one.reason.as_deref().and_then(|reason| reason.lines().next());
        table.row(vec![
            format!("r{}", one.revision).into(),
            one.app.as_str().into(),
            one.kind.to_string().into(),
            Cell::styled(one.status.to_string(), style),
            format!("{} ago", table::age(Some(&one.started_at), now)).into(),
            took(one).into(),
            reason.map_or_else(|| good(one, &images), str::to_owned).into(),
        ]);
    }
    table.render(ui)
}

/// The images, and why canaries were promoted.
fn good(one: &DeploymentView, images: &[String]) -> String {
    let why = one.canaries.iter().filter_map(|canary| {
        let why = canary.reason.as_deref().filter(|_| canary.stage == CanaryStage::Promoted)?;
        Some(format!("{} {why}", canary.service))
    });
    images.iter().cloned().chain(why).collect::<Vec<_>>().join(" ")
}

/// From accepted to ended.
pub fn took(one: &DeploymentView) -> String {
    let time = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let ended = one.ended_at.as_deref().and_then(time);
    match (time(&one.started_at), ended) {
        (Some(start), Some(end)) => table::took(end.duration_since(start).as_secs_f64()),
        _ => NONE.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ps::tests::{NOW, PLAIN};
    use crate::cli::status::tests::deployed;

    #[test]
    fn revisions_come_with_how_they_ended() {
        let mut good = deployed(8, "succeeded");
        good.images.insert("web".to_owned(), "web:v2".to_owned());
        let mut bad = deployed(7, "failed");
        bad.reason = Some("web-1-p02d not healthy in 60s\nlast lines".to_owned());
        let mut running = deployed(9, "running");
        running.ended_at = None;
        let expected = "\
REVISION  APP   BY  STATUS     WHEN    TOOK  IMAGES OR REASON
r9        shop  up  running    4m ago  -
r8        shop  up  succeeded  4m ago  12s   web=web:v2
r7        shop  up  failed     4m ago  12s   web-1-p02d not healthy in 60s
";
        assert_eq!(render(&[running, good, bad], NOW, PLAIN), expected);
    }
}
