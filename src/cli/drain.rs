//! `mill drain`: a node gives its work away, followed until nothing is left on it.
//!
//! Owns when the node is looked at again: when something happened. Never decides what moves where.

use super::client::{Client, ClientError, Resuming, query};
use super::duration::DurationArg;
use super::table;
use super::ui::GOOD;
use super::{Context, error::CliError};
use crate::api::wire::{DrainRequest, LeaveState, LeftView, NodeStatus, NodeView};
use crate::limits;
use argh::{ArgsInfo, FromArgs};
use std::collections::BTreeMap;
use std::time::Instant;
use tokio::time::timeout;

/// Move a node's work to other nodes, within each service's update policy, and give it none.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "drain",
    help_triggers("-h", "--help"),
    example = "mill drain n2 --timeout 10m"
)]
pub struct DrainArgs {
    /// the node
    #[argh(positional)]
    pub node: String,
    /// end runs of tasks that are still on after that long; without it they finish
    #[argh(option)]
    pub timeout: Option<DurationArg>,
}

pub(super) async fn run(args: DrainArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let seconds = args.timeout.map(|timeout| timeout.0.0.div_ceil(1000).max(1));
    let node = client.drain(&args.node, &DrainRequest { timeout: seconds }).await?;
    let name = node.name.clone();
    let bye = format!("{name} goes on draining: mill nodes. Take it back: mill undrain {name}");
    context.farewell(Some(bye));
    // The last event comes at once: from then on none is missed.
    let pairs = [("follow", Some("true".to_owned())), ("limit", Some("1".to_owned()))];
    let events = Resuming::new(&client, query("/v1/events", &pairs), true);
    let (told, begun) = (BTreeMap::new(), Instant::now());
    let mut follow = Follow { context, client: &client, events, told, begun };
    let Some(time) = args.timeout else { return follow.until_drained(node).await };
    let most = time.0.duration() + limits::DRAIN_FOLLOWED;
    let followed = timeout(most, follow.until_drained(node)).await;
    let left = || {
        let left: Vec<&str> = follow.told.keys().map(String::as_str).collect();
        let left = left.join(", ");
        format!(
            "Gave up after {most:?}; {name} goes on draining, left: {left}. Look again: \
             mill nodes. Take it back: mill undrain {name}"
        )
    };
    followed.unwrap_or_else(|_| Err(CliError::GaveUp { message: left() }))
}

struct Follow<'a> {
    context: &'a Context,
    client: &'a Client,
    events: Resuming<'a>,
    /// What was last said of each allocation that is left.
    told: BTreeMap<String, String>,
    begun: Instant,
}

impl Follow<'_> {
    async fn until_drained(&mut self, first: NodeView) -> Result<(), CliError> {
        let mut node = first;
        loop {
            if node.status == NodeStatus::Down {
                let text = format!(
                    "{0} is down: what ran on it is lost. It drains once it is back; if it is gone \
                     for good: mill remove {0}",
                    node.name
                );
                return Err(CliError::failed(text));
            }
            let Some(drain) = &node.drain else {
                return Err(CliError::failed(format!(
                    "{0} is no longer draining: it was taken back. Again: mill drain {0}",
                    node.name
                )));
            };
            self.tell(&drain.left, drain.deadline.as_deref())?;
            if drain.left.is_empty() {
                return self.end(&node);
            }
            self.happens().await?;
            node = match self.client.node(&node.name).await {
                Err(ClientError::Api { status: 404, .. }) => {
                    let text = format!("{} was removed meanwhile", node.name);
                    return Err(CliError::failed(text));
                }
                answer => answer?,
            };
        }
    }

    /// Ends when something happened in the cluster, and what came with it; or after a while, since
    /// why something stays may change without an event.
    async fn happens(&mut self) -> Result<(), CliError> {
        let events = &mut self.events;
        let Ok(first) = timeout(limits::DRAIN_LOOK, events.next()).await else { return Ok(()) };
        let rest = async {
            let mut last = first?;
            while last.is_some() {
                last = events.next().await?;
            }
            Err(CliError::failed("The daemon ended the stream before the node was drained"))
        };
        timeout(limits::FOLLOW_INTERVAL, rest).await.unwrap_or(Ok(()))
    }

    /// Says what is new: an allocation that is gone, or stands otherwise than before.
    fn tell(&mut self, left: &[LeftView], deadline: Option<&str>) -> Result<(), CliError> {
        let now: BTreeMap<String, String> =
            left.iter().map(|one| (one.allocation.clone(), words(one, deadline))).collect();
        let ui = self.context.ui;
        if !ui.json {
            for id in self.told.keys().filter(|id| !now.contains_key(*id)) {
                ui.print(&format!("{id}  {}", ui.paint(GOOD, "gone")))?;
            }
            for (id, text) in now.iter().filter(|(id, text)| self.told.get(*id) != Some(*text)) {
                ui.print(&format!("{id}  {text}"))?;
            }
        }
        self.told = now;
        Ok(())
    }

    fn end(&self, node: &NodeView) -> Result<(), CliError> {
        let ui = self.context.ui;
        if ui.json {
            return ui.document(node);
        }
        let name = &node.name;
        let took = table::took(self.begun.elapsed().as_secs_f64());
        ui.print(&format!(
            "{} in {took}. Take it back: mill undrain {name}; or remove it: mill remove {name}",
            ui.paint(GOOD, &format!("✓ {name} drained"))
        ))
    }
}

/// How it stands with one that is left.
fn words(one: &LeftView, deadline: Option<&str>) -> String {
    match (&one.state, &one.message, deadline) {
        (LeaveState::Running, None, Some(at)) => {
            format!("runs until it is over, at most until {at}")
        }
        (LeaveState::Running, None, None) => "runs until it is over".to_owned(),
        (LeaveState::Waiting, None, _) => "waits for its turn".to_owned(),
        (LeaveState::Stuck, Some(why), _) => format!("stays: {why}"),
        (state, Some(message), _) => format!("{state}: {message}"),
        (state, None, _) => state.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[yare::parameterized(
        task = { "running", None, None, "runs until it is over" },
        bounded = { "running", None, Some("T"), "runs until it is over, at most until T" },
        waiting = { "waiting", None, None, "waits for its turn" },
        stuck = { "stuck", Some("no other node takes it"), None, "stays: no other node takes it" },
        moving = { "moving", Some("web-0-b on n2: new"), None, "moving: web-0-b on n2: new" },
        ending = { "ending", None, None, "ending" },
    )]
    fn what_is_left_is_told(
        state: &str,
        message: Option<&str>,
        deadline: Option<&str>,
        want: &str,
    ) {
        let left = LeftView {
            allocation: "web-0-a".to_owned(),
            name: "web".to_owned(),
            state: state.into(),
            message: message.map(str::to_owned),
        };
        assert_eq!(words(&left, deadline), want);
    }
}
