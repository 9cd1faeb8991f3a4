//! `mill status`: the cluster at a glance.

use super::client::Client;
use super::table::{self, Cell, NONE, Table};
use super::ui::{BAD, CHANGE, GOOD, STRONG, Ui};
use super::{Context, error::CliError, route};
use crate::api::wire::{
    AllocationStatus, AppStatusView, DeploymentStatus, ExitReason, NodeStatus, NodeView, RunView,
    ServiceView, StatusView, TaskView,
};
use crate::units::Timestamp;
use argh::{ArgsInfo, FromArgs};

/// Show the cluster: what is wrong, nodes, services, tasks.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "status", help_triggers("-h", "--help"), example = "mill status --watch")]
pub struct StatusArgs {
    /// show again every second
    #[argh(switch, short = 'w')]
    pub watch: bool,
}

pub(super) async fn run(args: StatusArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    if args.watch {
        return context.watch(&client, || again(&client, context)).await;
    }
    let status = client.status().await?;
    if context.ui.json {
        return context.ui.document(&status);
    }
    context.ui.print(&render(&status, context.now(), context.ui))?;
    context.note_stale(&client);
    Ok(())
}

/// What is shown once more.
async fn again(client: &Client, context: &Context) -> Result<String, CliError> {
    let status = client.status().await?;
    if context.ui.json {
        return Ok(serde_json::to_string(&status).unwrap_or_default());
    }
    Ok(render(&status, context.now(), context.ui))
}

/// The whole of it.
pub fn render(status: &StatusView, now: Timestamp, ui: Ui) -> String {
    let mut out = headline(status, now, ui);
    out.push('\n');
    for warning in &status.warnings {
        let command = warning.command.as_ref().map(|command| format!("    {command}"));
        // A reason of several lines stays one.
        let message = warning.message.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = format!("! {}  {message}", warning.subject);
        out.push_str(&ui.paint(BAD, &line));
        out.push_str(&command.unwrap_or_default());
        out.push('\n');
    }
    if !status.nodes.is_empty() {
        out.push_str(&nodes(&status.nodes, ui));
    }
    if !status.services.is_empty() {
        out.push_str(&services(&status.services, ui));
    }
    if !status.tasks.is_empty() {
        out.push_str(&tasks(&status.tasks, now, ui));
    }
    out
}

fn headline(status: &StatusView, now: Timestamp, ui: Ui) -> String {
    let of = |word| status.nodes.iter().filter(|node| node.status == word).count();
    // One that drains is there.
    let (draining, ready) = (of(NodeStatus::Draining), of(NodeStatus::Ready));
    let there = ready + draining;
    let draining = if draining == 0 { String::new() } else { format!(" ({draining} draining)") };
    let leader = status
        .leader
        .as_deref()
        .map_or_else(|| ui.paint(BAD, "no leader"), |leader| format!("leader {leader}"));
    let mut parts = vec![
        ui.paint(STRONG, &status.cluster),
        format!("{there}/{} nodes{draining}", status.nodes.len()),
        leader,
    ];
    parts.extend(status.apps.iter().filter_map(|app| deployment(app, now, ui)));
    parts.join("  ")
}

/// An app's newest deployment: `shop r8 ok, 4m ago`.
fn deployment(app: &AppStatusView, now: Timestamp, ui: Ui) -> Option<String> {
    let newest = app.deployment.as_ref()?;
    let (word, style) = match &newest.status {
        DeploymentStatus::Succeeded => ("ok".to_owned(), GOOD),
        DeploymentStatus::Running => ("deploying".to_owned(), CHANGE),
        other => (other.to_string(), BAD),
    };
    let since = newest.ended_at.as_deref().unwrap_or(&newest.started_at);
    let word = ui.paint(style, &word);
    Some(format!("{} r{} {word}, {} ago", app.name, newest.revision, table::age(Some(since), now)))
}

fn nodes(nodes: &[NodeView], ui: Ui) -> String {
    let mut table = Table::new(&["NODE", "STATUS", "CPU", "MEM", "ALLOCS"]);
    for node in nodes {
        let style = if node.status == NodeStatus::Ready { GOOD } else { BAD };
        table.row(vec![
            node.name.as_str().into(),
            Cell::styled(node.status.to_string(), Some(style)),
            table::cores(node.cpu.used, Some(node.cpu.total), 1).into(),
            table::memory(node.memory.used, Some(node.memory.total)).into(),
            node.allocations.to_string().into(),
        ]);
    }
    table.render(ui)
}

fn services(services: &[ServiceView], ui: Ui) -> String {
    let mut table = Table::new(&["SERVICE", "REPLICAS", "CPU", "MEM", "REQ/s", "P99"]);
    for service in services {
        let replicas = &service.replicas;
        let whole = replicas.healthy >= replicas.desired;
        let (cpu, memory) = usage(service);
        table.row(vec![
            service.name.as_str().into(),
            Cell::styled(
                format!("{}/{}", replicas.healthy, replicas.desired),
                Some(if whole { GOOD } else { BAD }),
            ),
            cpu.into(),
            memory.into(),
            route::rate(service.traffic.as_ref()).into(),
            route::p99(service.traffic.as_ref()).into(),
        ]);
    }
    table.render(ui)
}

fn tasks(tasks: &[TaskView], now: Timestamp, ui: Ui) -> String {
    let mut table = Table::new(&["TASK", "SCHEDULE", "NEXT", "RUNNING", "LAST"]);
    for task in tasks {
        let next = task.next_run.as_deref().map(|at| format!("in {}", until(at, now)));
        let last = task.last.as_ref().map(|run| last(run, now));
        let style = task.last.as_ref().filter(|run| run.status == AllocationStatus::Failed);
        let style = style.map(|_| BAD);
        table.row(vec![
            task.name.as_str().into(),
            task.schedule.as_deref().unwrap_or(NONE).into(),
            next.as_deref().unwrap_or(NONE).into(),
            task.running.to_string().into(),
            Cell::styled(last.as_deref().unwrap_or(NONE), style),
        ]);
    }
    table.render(ui)
}

/// How a task's last run ended: `ok, 4m ago`, `exit 1, 2h ago`.
fn last(run: &RunView, now: Timestamp) -> String {
    let exit = run.exit.as_ref();
    let how = match exit.map(|exit| (&exit.reason, exit.code)) {
        Some((ExitReason::Completed, _)) => "ok".to_owned(),
        Some((ExitReason::Error, Some(code))) => format!("exit {code}"),
        Some((reason, _)) => reason.to_string(),
        None => run.status.to_string(),
    };
    format!("{how}, {} ago", table::age(run.ended_at.as_deref(), now))
}

/// How long it is until then, as ages are written.
fn until(at: &str, now: Timestamp) -> String {
    let Ok(time) = at.parse::<jiff::Timestamp>() else { return at.to_owned() };
    let time = Timestamp(u64::try_from(time.as_millisecond()).unwrap_or_default());
    table::age(Some(&now.to_string()), time)
}

/// What its allocations use together; the ceiling only if each has one.
fn usage(service: &ServiceView) -> (String, String) {
    let live: Vec<_> = service.allocations.iter().filter(|one| !one.status.is_ended()).collect();
    let used_cpu: Vec<f64> = live.iter().filter_map(|one| one.cpu.used).collect();
    let cpu = (!used_cpu.is_empty()).then(|| used_cpu.iter().sum());
    let cpu_limit: Option<f64> = live.iter().map(|one| one.cpu.limit).sum();
    let used_memory: Vec<u64> = live.iter().filter_map(|one| one.memory.used).collect();
    let memory = (!used_memory.is_empty()).then(|| used_memory.iter().sum());
    let memory_limit: Option<u64> = live.iter().map(|one| one.memory.limit).sum();
    (table::cores(cpu, cpu_limit, 2), table::memory(memory, memory_limit))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::api::wire::{DeploymentKind, DeploymentView, NodeAmount, ReplicasView, WarningView};
    use crate::cli::ps::tests::{NOW, PLAIN, allocation};
    use std::collections::BTreeMap;

    /// A service without allocations.
    pub fn service(name: &str, desired: u32, healthy: u32) -> ServiceView {
        ServiceView {
            name: name.to_owned(),
            app: "shop".to_owned(),
            image: format!("registry.example.com/{name}:v1"),
            digest: None,
            revision: 8,
            replicas: ReplicasView { desired, healthy },
            address: None,
            virtual_address: None,
            ports: vec![],
            routes: vec![],
            publish: vec![],
            traffic: None,
            degraded: false,
            waiting: vec![],
            allocations: vec![],
        }
    }

    /// A deployment of shop that ended four minutes before [`NOW`].
    pub fn deployed(revision: u64, status: &str) -> DeploymentView {
        DeploymentView {
            revision,
            app: "shop".to_owned(),
            kind: DeploymentKind::Up,
            status: status.into(),
            started_at: "2026-03-01T11:59:48Z".to_owned(),
            ended_at: Some("2026-03-01T12:00:00Z".to_owned()),
            reason: None,
            images: BTreeMap::new(),
            canaries: Vec::new(),
            file: None,
        }
    }

    pub fn node(name: &str) -> NodeView {
        NodeView {
            id: 1,
            name: name.to_owned(),
            status: NodeStatus::Ready,
            message: None,
            voter: true,
            leader: true,
            address: "10.0.0.1".to_owned(),
            subnet: "10.99.8.0/21".to_owned(),
            cpu: NodeAmount { total: 4.0, reserved: 2.0, used: Some(1.2) },
            memory: NodeAmount {
                total: 8_000_000_000,
                reserved: 1_000_000_000,
                used: Some(2_100_000_000),
            },
            allocations: 7,
            labels: BTreeMap::new(),
            version: "0.1.0".to_owned(),
            mesh: None,
            drain: None,
        }
    }

    fn status() -> StatusView {
        let limit = |id: &str| {
            let mut one = allocation(id, "web");
            one.memory.used = Some(90_000_000);
            one.memory.limit = Some(500_000_000);
            one
        };
        let web = ServiceView {
            allocations: vec![limit("web-0-k3f9"), limit("web-1-p02d")],
            traffic: Some(crate::cli::route::tests::traffic()),
            ..service("web", 2, 2)
        };
        StatusView {
            cluster: "prod".to_owned(),
            leader: Some("n1".to_owned()),
            warnings: vec![WarningView {
                subject: "db".to_owned(),
                message: "0/1: out of memory 6×, next try 48s".to_owned(),
                command: Some("mill why db".to_owned()),
            }],
            nodes: vec![node("n1")],
            apps: vec![AppStatusView {
                name: "shop".to_owned(),
                deployment: Some(deployed(8, "succeeded")),
            }],
            services: vec![web, service("db", 1, 0)],
            tasks: vec![],
        }
    }

    #[test]
    fn the_status_reads_as_documented() {
        let expected = "\
prod  1/1 nodes  leader n1  shop r8 ok, 4m ago
! db  0/1: out of memory 6×, next try 48s    mill why db
NODE  STATUS  CPU      MEM        ALLOCS
n1    ready   1.2/4.0  2.1G/8.0G  7
SERVICE  REPLICAS  CPU        MEM        REQ/s  P99
web      2/2       0.24/1.00  180M/1.0G  212    38ms
db       0/1       -          -          -      -
";
        assert_eq!(render(&status(), NOW, PLAIN), expected);
    }

    #[test]
    fn a_node_that_drains_is_there() {
        let mut drains = status();
        drains.nodes[0].status = NodeStatus::Draining;
        let text = render(&drains, NOW, PLAIN);
        assert!(text.starts_with("prod  1/1 nodes (1 draining)  leader n1"), "{text}");
    }

    #[test]
    fn a_reason_of_several_lines_is_one() {
        let mut many = status();
        many.warnings[0].message = "0/1: exited 1\n  boom\nbang".to_owned();
        let text = render(&many, NOW, PLAIN);
        assert!(text.contains("! db  0/1: exited 1 boom bang    mill why db\n"), "{text}");
    }

    #[test]
    fn a_cluster_without_a_leader_says_so() {
        let mut lost = status();
        lost.leader = None;
        lost.apps[0].deployment = Some(deployed(9, "failed"));
        assert!(
            render(&lost, NOW, PLAIN)
                .starts_with("prod  1/1 nodes  no leader  shop r9 failed, 4m ago\n")
        );
    }
}
