//! `mill restart`: new replicas of a service, or the next attempt of an allocation.

use super::client::{Client, ClientError, patiently};
use super::duration::DurationArg;
use super::follow::Before;
use super::ps::{is_ending, still_stopping};
use super::table;
use super::ui::{CHANGE, GOOD};
use super::up::fresh_key;
use super::{Context, error::CliError};
use crate::api::wire::{AllocationHealth, AllocationStatus, AllocationView, ServiceView};
use crate::limits;
use argh::{ArgsInfo, FromArgs};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Instant;

/// Restart a service (a rolling replacement) or one allocation (in place). No revision.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "restart", help_triggers("-h", "--help"), example = "mill restart web")]
pub struct RestartArgs {
    /// a service, or an allocation's id or the begin of one
    #[argh(positional)]
    pub name: String,
    /// follow at most that long
    #[argh(option)]
    pub timeout: Option<DurationArg>,
    /// return only when the old replicas of the service have ended, too
    #[argh(switch)]
    pub wait_stopped: bool,
}

pub(super) async fn run(args: RestartArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let wait_stopped = args.wait_stopped;
    let restart = Restart { context, client: &client, since: Instant::now(), wait_stopped };
    let Some(timeout) = args.timeout else { return restart.run(&args.name).await };
    let run = tokio::time::timeout(timeout.0.duration(), restart.run(&args.name));
    let text = || format!("Gave up after {}; the restart of {} goes on", timeout.0, args.name);
    run.await.unwrap_or_else(|_| Err(CliError::GaveUp { message: text() }))
}

struct Restart<'a> {
    context: &'a Context,
    client: &'a Client,
    since: Instant,
    wait_stopped: bool,
}

impl Restart<'_> {
    async fn run(&self, name: &str) -> Result<(), CliError> {
        match self.client.service(name).await {
            Ok(service) => self.service(&service).await,
            Err(ClientError::Api { status: 404, .. }) => self.other(name).await,
            Err(error) => Err(error.into()),
        }
    }

    /// What is no service.
    async fn other(&self, name: &str) -> Result<(), CliError> {
        if Before::look(self.client).await?.tasks().iter().any(|task| task.name == name) {
            let message = format!("{name} is a task: each of its runs is a new one");
            let hint = Some(format!("mill spawn {name}"));
            return Err(CliError::Failed { message, hint });
        }
        let mut answer = self.allocation(name).await;
        if let Err(CliError::Client(ClientError::Api { status: 404, document })) = &mut answer {
            document.error.message = format!("no service or allocation {name}");
            document.error.hint = Some("mill ps -a lists them".to_owned());
        }
        answer
    }

    async fn service(&self, before: &ServiceView) -> Result<(), CliError> {
        let old: BTreeSet<String> = before.allocations.iter().map(|one| one.id.clone()).collect();
        let (client, name, key) = (self.client, &before.name, fresh_key());
        patiently(async || client.restart_service(name, &key).await).await?;
        let (mut told, mut news) = (BTreeSet::new(), Instant::now());
        loop {
            let now = patiently(async || client.service(name).await).await?;
            let is_quiet = news.elapsed() >= limits::FOLLOW_QUIET;
            for one in &now.allocations {
                let is_news = match old.contains(&one.id) {
                    true => is_quiet && is_ending(one),
                    false => is_well(one),
                };
                if is_news && told.insert(one.id.clone()) {
                    self.tell(one)?;
                    news = Instant::now();
                }
            }
            if is_replaced(&now, &old, self.wait_stopped) {
                let text = format!("✓ {} restarted", now.name);
                let (healthy, desired) = (now.replicas.healthy, now.replicas.desired);
                let ends = still_stopping(now.allocations.iter());
                let rest = format!(", {healthy}/{desired} healthy{ends}");
                return self.end(&text, &rest, json!(now));
            }
            tokio::time::sleep(limits::FOLLOW_INTERVAL).await;
        }
    }

    async fn allocation(&self, name: &str) -> Result<(), CliError> {
        let before = self.client.allocation(name).await?;
        let (client, id, key) = (self.client, &before.id, fresh_key());
        patiently(async || client.restart_allocation(id, &key).await).await?;
        loop {
            let now = patiently(async || client.allocation(id).await).await?;
            if now.status.is_ended() {
                let message = now.message.or(now.exit.and_then(|exit| exit.message));
                let message = message.unwrap_or_else(|| now.status.to_string());
                return Err(CliError::failed(format!("{} was not restarted: {message}", now.id)));
            }
            if now.started_at != before.started_at && is_well(&now) {
                let text = format!("✓ {} restarted", now.id);
                return self.end(&text, "", json!(now));
            }
            tokio::time::sleep(limits::FOLLOW_INTERVAL).await;
        }
    }

    fn tell(&self, one: &AllocationView) -> Result<(), CliError> {
        let ui = self.context.ui;
        if ui.json {
            return Ok(());
        }
        let (style, what) = match is_ending(one) {
            true => (CHANGE, one.status.to_string()),
            false => (GOOD, one.health.to_string()),
        };
        ui.print(&format!("{}  {}  {}", one.id, one.node, ui.paint(style, &what)))
    }

    fn end(&self, text: &str, rest: &str, json: serde_json::Value) -> Result<(), CliError> {
        let ui = self.context.ui;
        if ui.json {
            return ui.document(&json);
        }
        let took = table::took(self.since.elapsed().as_secs_f64());
        ui.print(&format!("{} in {took}{rest}", ui.paint(GOOD, text)))
    }
}

fn is_well(one: &AllocationView) -> bool {
    one.status == AllocationStatus::Running && one.health == AllocationHealth::Healthy
}

/// As many new ones as wanted work, and no old one gets traffic, or even runs.
fn is_replaced(now: &ServiceView, old: &BTreeSet<String>, wait_stopped: bool) -> bool {
    let live = || now.allocations.iter().filter(|one| !one.status.is_ended());
    let well = live().filter(|one| is_well(one)).count();
    let may_be = |one: &AllocationView| !old.contains(&one.id) || is_ending(one) && !wait_stopped;
    live().all(may_be) && well >= now.replicas.desired as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ps::tests::allocation;
    use crate::cli::status::tests::service;

    #[test]
    fn a_service_is_restarted_when_no_old_replica_gets_traffic() {
        let old: BTreeSet<String> = ["web-0-aaaa".to_owned()].into();
        let mut now = service("web", 1, 1);
        now.allocations = vec![allocation("web-0-aaaa", "web"), allocation("web-0-bbbb", "web")];
        assert!(!is_replaced(&now, &old, false), "the old one still gets traffic");
        now.allocations[0].status = AllocationStatus::Stopping;
        assert!(is_replaced(&now, &old, false));
        assert!(!is_replaced(&now, &old, true), "its end is waited for");
        now.allocations[0].status = AllocationStatus::Stopped;
        assert!(is_replaced(&now, &old, true));
        now.allocations[1].health = AllocationHealth::Checking;
        assert!(!is_replaced(&now, &old, false), "the new one is not healthy yet");
    }
}
