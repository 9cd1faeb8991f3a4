//! `mill events`: what happened in the cluster.

use super::client::{Resuming, query};
use super::ui::{BAD, FAINT, GOOD, Ui};
use super::{Context, error::CliError};
use crate::api::wire::{EVENTS_MISSED, EventName, EventView};
use crate::fsm::events::EventKind;
use anstyle::Style;
use argh::{ArgsInfo, FromArgs};

/// Show what happened: deployments, allocations, nodes, tokens. The newest 1,000 are kept.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "events", help_triggers("-h", "--help"), example = "mill events -f")]
pub struct EventsArgs {
    /// go on with what happens from now on
    #[argh(switch, short = 'f')]
    pub follow: bool,
    /// only the last so many
    #[argh(option, short = 'n')]
    pub limit: Option<u32>,
}

pub(super) async fn run(args: EventsArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let limit = args.limit.map(|limit| limit.to_string());
    if args.follow {
        let pairs = [("follow", Some("true".to_owned())), ("limit", limit)];
        let mut events = Resuming::new(&client, query("/v1/events", &pairs), true);
        while let Some(event) = events.next().await? {
            let event: EventView = event.decode()?;
            if context.ui.json {
                context.ui.json_line(&event)?;
            } else {
                context.ui.print(&render(&event, context.ui))?;
            }
        }
        return Ok(());
    }
    let all: Vec<EventView> = client.get(&query("/v1/events", &[("limit", limit)])).await?;
    if context.ui.json {
        return context.ui.document(&all);
    }
    for event in &all {
        context.ui.print(&render(event, context.ui))?;
    }
    context.note_stale(&client);
    Ok(())
}

/// `2026-03-01 12:04:01  web-0-k3f9  exited  n1  exited 1`.
fn render(event: &EventView, ui: Ui) -> String {
    let ts = event.ts.get(..19).unwrap_or(&event.ts).replace('T', " ");
    let kind = event.kind.to_string();
    let (what, word) = kind.split_once('-').unwrap_or(("", &kind));
    let deployment = || {
        let revision = event.revision.map(|revision| format!(" r{revision}")).unwrap_or_default();
        format!("{}{revision}", event.app.as_deref().unwrap_or(what))
    };
    let who = match (&event.allocation, what) {
        (Some(id), _) => id.clone(),
        (None, "deployment") => deployment(),
        (None, "node") => event.node.clone().unwrap_or_default(),
        (None, _) => event.service.clone().unwrap_or_else(|| what.to_owned()),
    };
    let mut line =
        format!("{}  {who}  {}", ui.paint(FAINT, &ts), ui.paint(style(&event.kind), word));
    if event.allocation.is_some() {
        line.extend(event.node.iter().map(|node| format!("  {node}")));
    }
    let message = event.message.as_deref().and_then(|text| text.lines().next());
    let is_known = |text: &&str| what == "node" && event.node.as_deref() == Some(*text);
    if let Some(message) = message.filter(|text| !is_known(text)) {
        line.push_str(&format!("  {message}"));
    }
    line
}

fn style(name: &EventName) -> Style {
    use EventKind as Kind;
    match name {
        EventName::Kept(Kind::DeploymentSucceeded | Kind::AllocationHealthy | Kind::NodeUp) => GOOD,
        EventName::Kept(
            Kind::DeploymentFailed
            | Kind::DeploymentReverting
            | Kind::DeploymentWaiting
            | Kind::AllocationFailed
            | Kind::AllocationUnhealthy
            | Kind::AllocationExited
            | Kind::AllocationLost
            | Kind::CertificateFailed
            | Kind::NodeDown
            | Kind::DrainUnsettled,
        ) => BAD,
        EventName::Told(name) if name == EVENTS_MISSED => BAD,
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ps::tests::PLAIN;

    fn event(kind: &str, message: Option<&str>) -> EventView {
        EventView {
            id: 7,
            ts: "2026-03-01T12:04:01.220Z".to_owned(),
            kind: EventName::from(kind),
            app: Some("shop".to_owned()),
            revision: Some(8),
            service: Some("web".to_owned()),
            allocation: None,
            node: None,
            message: message.map(str::to_owned),
        }
    }

    #[test]
    fn events_read_in_a_line() {
        let mut exited = event("allocation-exited", Some("exited 1: no config\nmore"));
        exited.allocation = Some("web-0-k3f9".to_owned());
        exited.node = Some("n1".to_owned());
        let mut down = event("node-down", Some("n2"));
        down.node = Some("n2".to_owned());
        for (event, expected) in [
            (event("deployment-accepted", None), "shop r8  accepted"),
            (event("deployment-failed", Some("broken")), "shop r8  failed  broken"),
            (event("service-restarting", None), "web  restarting"),
            (exited, "web-0-k3f9  exited  n1  exited 1: no config"),
            (down, "n2  down"),
        ] {
            assert_eq!(render(&event, PLAIN), format!("2026-03-01 12:04:01  {expected}"));
        }
        let token = EventView { service: None, ..event("token-created", Some("ab12, read")) };
        assert_eq!(render(&token, PLAIN), "2026-03-01 12:04:01  token  created  ab12, read");
    }
}
