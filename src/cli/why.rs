//! `mill why`: why something is where it is, or isn't, and what would help.

use super::client::{Client, ClientError};
use super::ui::{BAD, FAINT, GOOD, Ui};
use super::{Context, cert, error::CliError};
use super::{route, table};
use crate::api::wire::{
    AllocationHealth, AllocationStatus, AllocationWhyView, CanaryStage, CanaryView,
    DeploymentStatus, DeploymentView, NodeReasonView, TrafficView, WaitingView, WhyView,
};
use crate::units::Timestamp;
use argh::{ArgsInfo, FromArgs};

/// Say why a service, task or allocation is placed there, or not, and why it isn't healthy.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "why", help_triggers("-h", "--help"), example = "mill why web")]
pub struct WhyArgs {
    /// services, tasks, apps, hosts, or allocations' ids or the start of them
    #[argh(positional)]
    pub name: Vec<String>,
}

/// Remedies on one line.
const REMEDIES_SHOWN: usize = 3;

pub(super) async fn run(args: WhyArgs, context: &Context) -> Result<(), CliError> {
    if args.name.is_empty() {
        return Err(CliError::usage("Why what?", "mill why NAME"));
    }
    let client = context.client()?;
    let mut all = Vec::new();
    for name in &args.name {
        all.extend(of(&client, name).await?);
    }
    match all.as_slice() {
        [why] if context.ui.json => return context.ui.document(why),
        _ if context.ui.json => return context.ui.document(&all),
        _ => {}
    }
    let now = context.now();
    let texts: Vec<String> = all.iter().map(|why| render(why, now, context.ui)).collect();
    context.ui.print(&texts.join("\n"))?;
    context.note_stale(&client);
    Ok(())
}

/// What a name stands for: of an app each service and task.
async fn of(client: &Client, name: &str) -> Result<Vec<WhyView>, CliError> {
    let error = match client.why(name).await {
        Ok(why) => return Ok(vec![why]),
        Err(error @ ClientError::Api { status: 404, .. }) => error,
        Err(error) => return Err(error.into()),
    };
    let mut all = Vec::new();
    for part in super::scope::of_app(client, name).await? {
        all.push(client.why(&part).await?);
    }
    if all.is_empty() { Err(error.into()) } else { Ok(all) }
}

fn render(why: &WhyView, now: Timestamp, ui: Ui) -> String {
    let mut lines: Vec<String> = why.certificate.iter().map(cert::why).collect();
    let mut rest = why.waiting.as_slice();
    while let Some(first) = rest.first() {
        let is_same = |one: &&WaitingView| one.nodes == first.nodes && one.since == first.since;
        let count = rest.iter().take_while(is_same).count();
        let (group, others) = rest.split_at(count.max(1));
        lines.extend(waiting(group, now, ui));
        rest = others;
    }
    lines.extend(why.deployment.iter().flat_map(|one| deployment(one, ui)));
    lines.extend(why.allocations.iter().flat_map(|one| allocation(one, now, ui)));
    if lines.is_empty() {
        lines.push(match &why.replicas {
            Some(replicas) if replicas.desired == 0 => format!("{} has no replicas", why.name),
            _ => format!("Nothing of {} runs or has run lately", why.name),
        });
    }
    lines.join("\n")
}

/// Replicas that wait for the same reasons.
fn waiting(group: &[WaitingView], now: Timestamp, ui: Ui) -> Vec<String> {
    let Some(first) = group.first() else { return Vec::new() };
    let names: Vec<&str> = group.iter().map(|one| one.name.as_str()).collect();
    let age = table::age(Some(&first.since), now);
    let head = format!("{} pending {age}: no node fits {}", names.join(", "), first.need);
    let mut lines = vec![ui.paint(BAD, &head)];
    lines.extend(nodes(&first.nodes));
    lines.extend(remedies(&first.remedies, ui));
    lines
}

/// Every node with its reason, in columns.
pub(super) fn nodes(all: &[NodeReasonView]) -> Vec<String> {
    let width = |part: fn(&NodeReasonView) -> String| {
        all.iter().map(|one| part(one).chars().count()).max().unwrap_or_default()
    };
    let (node, reason) = (width(|one| one.node.clone()), width(|one| one.reason.to_string()));
    let line = |one: &NodeReasonView| {
        let text = format!("  {:node$}  {:reason$}  {}", one.node, one.reason, one.detail);
        text.trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

fn remedies(all: &[String], ui: Ui) -> Option<String> {
    let shown: Vec<&str> = all.iter().take(REMEDIES_SHOWN).map(String::as_str).collect();
    (!shown.is_empty()).then(|| ui.paint(GOOD, &format!("→ {}", shown.join(" or "))))
}

fn deployment(one: &DeploymentView, ui: Ui) -> Vec<String> {
    let reason = one.reason.as_deref().unwrap_or_default();
    let mut said = reason.lines();
    let first = said.next().map(|line| format!(": {line}")).unwrap_or_default();
    let head = match &one.status {
        DeploymentStatus::Running if first.is_empty() => {
            format!("r{} is being deployed", one.revision)
        }
        DeploymentStatus::Running => format!("r{} goes back{first}", one.revision),
        status => format!("r{} {status}{first}", one.revision),
    };
    let output = said.filter(|line| !line.trim().is_empty()).map(|line| format!("  | {line}"));
    let lines = std::iter::once(ui.paint(BAD, &head)).chain(output);
    lines.chain(one.canaries.iter().map(canary)).collect()
}

fn canary(one: &CanaryView) -> String {
    let count = one.replicas.map(|count| format!(" of {count}")).unwrap_or_default();
    let how = match (&one.stage, &one.until, &one.reason) {
        (CanaryStage::Starting, ..) => "its replicas start".to_owned(),
        (_, Some(until), _) => format!("watched until {until}"),
        (stage, None, reason) => {
            let reason = reason.as_deref().map(first_line);
            reason.map_or_else(|| stage.to_string(), str::to_owned)
        }
    };
    format!("  canary{count} for {}: {how}", one.service)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The requests of an allocation: `  4.2 requests a second, 0.0% failed, p99 12ms`.
fn traffic(one: &TrafficView) -> String {
    let (rate, p99) = (route::rate(Some(one)), route::p99(Some(one)));
    format!("  {rate} requests a second, {} failed, p99 {p99}", route::errors(one))
}

fn allocation(one: &AllocationWhyView, now: Timestamp, ui: Ui) -> Vec<String> {
    let age = table::age(Some(&one.since), now);
    // None is nothing to say.
    let runs = one.status == AllocationStatus::Running;
    let tells = runs && one.health != AllocationHealth::None;
    let health = if tells { format!(", {}", one.health) } else { String::new() };
    let reason = one.reason.as_ref().and_then(|text| text.lines().next());
    let reason = reason.map(|text| format!(": {text}")).unwrap_or_default();
    let head = format!("{} {} on {} for {age}{health}{reason}", one.id, one.status, one.node);
    let works = runs && matches!(one.health, AllocationHealth::Healthy | AllocationHealth::None);
    let good = works && one.reason.is_none();
    let mut lines = vec![if good { head } else { ui.paint(BAD, &head) }];
    lines.extend(one.output.iter().map(|line| format!("  | {line}")));
    lines.extend(one.traffic.as_ref().map(traffic));
    lines.extend(nodes(&one.nodes).into_iter().map(|line| ui.paint(FAINT, &line)));
    lines.extend(remedies(&one.remedies, ui));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ps::tests::{NOW, PLAIN};
    use crate::cli::status::tests::deployed;

    fn reason(node: &str, reason: &str, detail: &str) -> NodeReasonView {
        let [node, detail] = [node, detail].map(str::to_owned);
        NodeReasonView { node, reason: reason.into(), detail }
    }

    fn waits(replica: u32) -> WaitingView {
        WaitingView {
            name: format!("web-{replica}"),
            replica,
            since: "2026-03-01T12:03:21Z".to_owned(),
            need: "cpu 0.5, memory 512M, zone=eu-1".to_owned(),
            nodes: vec![
                reason("n1", "memory", "380M free"),
                reason("n3", "constraint", "zone=eu-2"),
            ],
            remedies: vec!["lower memory to 380M".to_owned(), "lower replicas to 2".to_owned()],
        }
    }

    fn why() -> WhyView {
        WhyView {
            name: "web".to_owned(),
            kind: "service".into(),
            app: "shop".to_owned(),
            replicas: None,
            deployment: None,
            waiting: vec![],
            allocations: vec![],
            certificate: None,
        }
    }

    #[test]
    fn a_waiting_replica_reads_as_documented() {
        let expected = "\
web-2 pending 40s: no node fits cpu 0.5, memory 512M, zone=eu-1
  n1  memory      380M free
  n3  constraint  zone=eu-2
→ lower memory to 380M or lower replicas to 2";
        let one = WhyView { waiting: vec![waits(2)], ..why() };
        assert_eq!(render(&one, NOW, PLAIN), expected);
        let two = render(&WhyView { waiting: vec![waits(2), waits(3)], ..why() }, NOW, PLAIN);
        assert!(two.starts_with("web-2, web-3 pending 40s: no node fits "), "{two}");
        assert_eq!(two.lines().count(), 4);
    }

    #[test]
    fn health_that_is_none_is_not_said() {
        let run = AllocationWhyView {
            id: "job-k3f9".to_owned(),
            node: "n1".to_owned(),
            status: "running".into(),
            health: "none".into(),
            since: "2026-03-01T12:03:13Z".to_owned(),
            reason: None,
            output: vec![],
            remedies: vec![],
            nodes: vec![],
            traffic: None,
        };
        let all = WhyView { allocations: vec![run], ..why() };
        assert_eq!(render(&all, NOW, PLAIN), "job-k3f9 running on n1 for 48s");
    }

    #[test]
    fn an_allocation_that_fails_comes_with_its_output_and_what_helps() {
        let mut failed = deployed(8, "failed");
        failed.reason = Some("db-0-x7q1: out of memory 3×\nkilled".to_owned());
        let bad = AllocationWhyView {
            traffic: Some(crate::cli::route::tests::traffic()),
            id: "db-0-x7q1".to_owned(),
            node: "n2".to_owned(),
            status: "backoff".into(),
            health: "none".into(),
            since: "2026-03-01T12:03:51Z".to_owned(),
            reason: Some("out of memory 6×, next try 48s".to_owned()),
            output: vec!["allocating".to_owned()],
            remedies: vec!["raise memory above 512M".to_owned()],
            nodes: vec![reason("n2", "chosen", "no other replica, 1.2G left")],
        };
        let expected = "\
r8 failed: db-0-x7q1: out of memory 3×
  | killed
db-0-x7q1 backoff on n2 for 10s: out of memory 6×, next try 48s
  | allocating
  212 requests a second, 0.5% failed, p99 38ms
  n2  chosen  no other replica, 1.2G left
→ raise memory above 512M";
        let all = WhyView { deployment: Some(failed), allocations: vec![bad], ..why() };
        assert_eq!(render(&all, NOW, PLAIN), expected);
        assert_eq!(render(&why(), NOW, PLAIN), "Nothing of web runs or has run lately");
    }
}
