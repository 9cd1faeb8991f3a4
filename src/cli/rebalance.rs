//! `mill rebalance`: spreads replicas over the nodes anew.
//!
//! Owns showing the plan first and waiting for its end. Never decides what moves.

use super::client::{Client, patiently};
use super::duration::DurationArg;
use super::ps::is_ending;
use super::ui::GOOD;
use super::up::fresh_key;
use super::{Context, error::CliError, table};
use crate::api::wire::{AllocationView, MoveView, ServiceView};
use crate::limits;
use argh::{ArgsInfo, FromArgs};
use std::collections::BTreeSet;
use std::time::Instant;

/// Spread replicas over the nodes anew, as after a node joined: within each service's update
/// policy, the plan first.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "rebalance",
    help_triggers("-h", "--help"),
    example = "mill rebalance web --dry-run"
)]
pub struct RebalanceArgs {
    /// only this service
    #[argh(positional)]
    pub service: Option<String>,
    /// show the plan and do nothing
    #[argh(switch, short = 'n')]
    pub dry_run: bool,
    /// return as soon as it is accepted
    #[argh(switch, short = 'd')]
    pub detach: bool,
    /// follow at most that long
    #[argh(option)]
    pub timeout: Option<DurationArg>,
}

pub(super) async fn run(args: RebalanceArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let service = args.service.as_deref();
    let plan = client.rebalance_plan(service).await?;
    if !context.ui.json {
        context.ui.print(&render(&plan))?;
    }
    if args.dry_run || plan.is_empty() {
        return if context.ui.json { context.ui.document(&plan) } else { Ok(()) };
    }
    let begun = Instant::now();
    let key = fresh_key();
    let moves = patiently(async || client.rebalance(service, &key).await).await?;
    if context.ui.json {
        context.ui.document(&moves)?;
    }
    if args.detach {
        return Ok(());
    }
    let Some(time) = args.timeout.map(|time| time.0) else {
        return follow(context, &client, &moves, begun).await;
    };
    let followed = tokio::time::timeout(time.duration(), follow(context, &client, &moves, begun));
    let late = format!("Gave up after {time}; the replicas move on. Look: mill ps");
    followed.await.unwrap_or(Err(CliError::GaveUp { message: late }))
}

fn render(plan: &[MoveView]) -> String {
    let width = plan.iter().map(|one| one.allocation.chars().count()).max().unwrap_or_default();
    let line = |one: &MoveView| format!("{:width$}  {} → {}", one.allocation, one.from, one.to);
    match plan {
        [] => "Nothing to do: replicas are spread as the nodes' room allows".to_owned(),
        plan => plan.iter().map(line).collect::<Vec<_>>().join("\n"),
    }
}

/// Waits until what moves gets no traffic and its services are whole: it ends behind that.
async fn follow(
    context: &Context,
    client: &Client,
    moves: &[MoveView],
    begun: Instant,
) -> Result<(), CliError> {
    context.farewell(Some("The replicas move on. Look: mill ps".to_owned()));
    loop {
        let services = patiently(async || client.services().await).await?;
        if is_done(&services, moves) {
            break;
        }
        tokio::time::sleep(limits::FOLLOW_INTERVAL).await;
    }
    context.farewell(None);
    if context.ui.json {
        return Ok(());
    }
    let count = format!("{} replica{}", moves.len(), if moves.len() == 1 { "" } else { "s" });
    let text = format!("✓ {count} moved in {}", table::took(begun.elapsed().as_secs_f64()));
    context.ui.print(&context.ui.paint(GOOD, &text))
}

fn is_done(services: &[ServiceView], moves: &[MoveView]) -> bool {
    let names: BTreeSet<&str> = moves.iter().map(|one| one.service.as_str()).collect();
    let gone: BTreeSet<&str> = moves.iter().map(|one| one.allocation.as_str()).collect();
    services.iter().filter(|one| names.contains(one.name.as_str())).all(|service| {
        let stays = |one: &&AllocationView| !one.status.is_ended() && !is_ending(one);
        let mut live = service.allocations.iter().filter(stays);
        let is_whole = service.replicas.healthy >= service.replicas.desired;
        is_whole && !live.any(|one| gone.contains(one.id.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ps::tests::allocation;
    use crate::cli::status::tests::service;

    fn moves() -> Vec<MoveView> {
        let [service, allocation, from, to] = ["web", "web-2-k3f9", "n1", "n2"].map(str::to_owned);
        vec![MoveView { service, allocation, from, to }]
    }

    #[test]
    fn the_plan_names_what_goes_where() {
        assert_eq!(render(&moves()), "web-2-k3f9  n1 → n2");
        assert!(render(&[]).starts_with("Nothing to do"));
    }

    #[test]
    fn it_is_done_once_what_moved_gets_no_traffic_and_the_service_is_whole() {
        let mut web = service("web", 3, 3);
        web.allocations = vec![allocation("web-2-k3f9", "web")];
        assert!(!is_done(&[web.clone()], &moves()));
        for status in ["stopping", "stopped"] {
            web.allocations[0].status = status.into();
            assert!(is_done(&[web.clone()], &moves()), "{status}");
        }
        web.replicas.healthy = 2;
        assert!(!is_done(&[web], &moves()));
    }
}
