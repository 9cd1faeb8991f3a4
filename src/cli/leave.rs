//! `mill leave`: the local daemon is no member any more.

use super::duration::DurationArg;
use super::init::on_socket;
use super::{Context, error::CliError};
use crate::api::wire::{DaemonStatus, LeaveRequest, LeaveView};
use crate::limits;
use argh::{ArgsInfo, FromArgs};
use std::time::Instant;

/// Give this node's work to the others, and make it no member any more; returns when it is done.
#[derive(Debug, Default, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "leave",
    help_triggers("-h", "--help"),
    example = "mill leave --timeout 10m"
)]
pub struct LeaveArgs {
    /// stop runs of tasks that are still on after this time, such as 10m; without it they finish
    #[argh(option)]
    pub timeout: Option<DurationArg>,
}

pub(super) async fn run(args: LeaveArgs, context: &Context) -> Result<(), CliError> {
    on_socket(context, "leave")?;
    let timeout = args.timeout.map(|timeout| timeout.0.0.div_ceil(1_000));
    let left = context.client()?.leave(&LeaveRequest { timeout }).await?;
    wait_until_unclaimed(context).await?;
    if context.ui.json {
        return context.ui.document(&left);
    }
    let LeaveView { cluster, node, listed } = left;
    if listed {
        context.ui.note(&format!(
            "{node} never became ready, and {cluster} may still list it. On a member: mill remove \
             {node}"
        ));
    }
    context.ui.print(&format!("{node} has left {cluster}; this daemon is unclaimed"))
}

/// The daemon stops what a member has, wipes it, and begins anew.
async fn wait_until_unclaimed(context: &Context) -> Result<(), CliError> {
    let began = Instant::now();
    while began.elapsed() < limits::LEAVE_WIPED {
        // While it begins anew it may not answer.
        if let Ok(health) = context.client()?.health().await
            && health.status == DaemonStatus::Unclaimed
        {
            return Ok(());
        }
        tokio::time::sleep(limits::FOLLOW_INTERVAL).await;
    }
    Err(CliError::failed(
        "The node has left, but its daemon is not unclaimed yet. Why: journalctl -u mill",
    ))
}
