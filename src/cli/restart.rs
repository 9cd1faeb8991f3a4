//! `mill restart`: new replicas of a service, or the next attempt of an allocation.

use super::args::DurationArg;
use super::client::{Client, ClientError, patiently};
use super::table;
use super::ui::GOOD;
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
#[argh(subcommand, name = "restart", help_triggers("-h", "--help"))]
pub struct RestartArgs {
    /// a service, or an allocation's id or the begin of one
    #[argh(positional)]
    pub name: String,
    /// follow at most that long
    #[argh(option)]
    pub timeout: Option<DurationArg>,
}

pub(super) async fn run(args: RestartArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let restart = Restart { context, client: &client, since: Instant::now() };
    let Some(timeout) = args.timeout else { return restart.run(&args.name).await };
    let run = tokio::time::timeout(timeout.0.duration(), restart.run(&args.name));
    let text = || format!("Gave up after {}; the restart of {} goes on", timeout.0, args.name);
    run.await.unwrap_or_else(|_| Err(CliError::GaveUp { message: text() }))
}

struct Restart<'a> {
    context: &'a Context,
    client: &'a Client,
    since: Instant,
}

impl Restart<'_> {
    async fn run(&self, name: &str) -> Result<(), CliError> {
        match self.client.service(name).await {
            Ok(service) => self.service(&service).await,
            Err(ClientError::Api { status: 404, .. }) => self.allocation(name).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn service(&self, before: &ServiceView) -> Result<(), CliError> {
        let old: BTreeSet<String> = before.allocations.iter().map(|one| one.id.clone()).collect();
        let (client, name, key) = (self.client, &before.name, fresh_key());
        patiently(async || client.restart_service(name, &key).await).await?;
        let mut told = BTreeSet::new();
        loop {
            let now = patiently(async || client.service(name).await).await?;
            for one in &now.allocations {
                let new = !old.contains(&one.id);
                if new && is_well(one) && told.insert(one.id.clone()) {
                    self.tell(one)?;
                }
            }
            if is_replaced(&now, &old) {
                let text = format!("✓ {} restarted", now.name);
                let (healthy, desired) = (now.replicas.healthy, now.replicas.desired);
                return self.end(&text, &format!(", {healthy}/{desired} healthy"), json!(now));
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
        ui.print(&format!("{}  {}  {}", one.id, one.node, ui.paint(GOOD, &one.health.to_string())))
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

/// None of the old ones runs, and as many new ones as wanted work.
fn is_replaced(now: &ServiceView, old: &BTreeSet<String>) -> bool {
    let live = || now.allocations.iter().filter(|one| !one.status.is_ended());
    let well = live().filter(|one| is_well(one)).count();
    live().all(|one| !old.contains(&one.id)) && well >= now.replicas.desired as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ps::tests::allocation;
    use crate::cli::status::tests::service;

    #[test]
    fn a_service_is_restarted_when_no_old_replica_runs() {
        let old: BTreeSet<String> = ["web-0-aaaa".to_owned()].into();
        let mut now = service("web", 1, 1);
        now.allocations = vec![allocation("web-0-aaaa", "web"), allocation("web-0-bbbb", "web")];
        assert!(!is_replaced(&now, &old), "the old one still runs");
        now.allocations[0].status = AllocationStatus::Stopped;
        assert!(is_replaced(&now, &old));
        now.allocations[1].health = AllocationHealth::Checking;
        assert!(!is_replaced(&now, &old), "the new one is not healthy yet");
    }
}
