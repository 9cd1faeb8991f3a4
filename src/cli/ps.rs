//! `mill ps`: allocations.

use super::client::Client;
use super::table::{self, Cell, NONE, Table};
use super::ui::{BAD, CHANGE, GOOD, Ui};
use super::{Context, error::CliError};
use crate::api::wire::{
    AllocationHealth, AllocationStatus, AllocationView, ExitReason, ServiceView, WaitingView,
    WorkloadKind,
};
use crate::units::Timestamp;
use anstyle::Style;
use argh::{ArgsInfo, FromArgs};
use std::collections::BTreeSet;

/// List allocations: the containers of services and tasks.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "ps", help_triggers("-h", "--help"), example = "mill ps web --watch")]
pub struct PsArgs {
    /// only these services, tasks or allocations
    #[argh(positional)]
    pub name: Vec<String>,
    /// ended ones too, with how they ended
    #[argh(switch, short = 'a')]
    pub all: bool,
    /// only ids
    #[argh(switch, short = 'q')]
    pub quiet: bool,
    /// only those of this status, such as running, backoff or failed
    #[argh(option)]
    pub status: Option<String>,
    /// only those on this node
    #[argh(option)]
    pub node: Option<String>,
    /// show again every second
    #[argh(switch, short = 'w')]
    pub watch: bool,
}

impl PsArgs {
    fn status(&self) -> Option<AllocationStatus> {
        self.status.as_deref().map(AllocationStatus::from)
    }
}

pub(super) async fn run(args: PsArgs, context: &Context) -> Result<(), CliError> {
    if let Some(AllocationStatus::Other(status)) = args.status() {
        let all: Vec<String> = AllocationStatus::ALL.iter().map(ToString::to_string).collect();
        let message = format!("--status {status} is none");
        return Err(CliError::usage(message, format!("Write one of: {}", all.join(" "))));
    }
    let client = context.client()?;
    if args.watch {
        return context.watch(&client, || show(&client, &args, context)).await;
    }
    let text = show(&client, &args, context).await?;
    // No ids are no line.
    if !(args.quiet && text.is_empty()) {
        context.ui.print(&text)?;
    }
    context.note_stale(&client);
    Ok(())
}

async fn show(client: &Client, args: &PsArgs, context: &Context) -> Result<String, CliError> {
    let all = client.allocations().await?;
    if let Some(node) = args.node.as_deref().filter(|node| !all.iter().any(|a| a.node == *node)) {
        // Nothing runs there; or there is no such node, which is said.
        client.node(node).await?;
    }
    if context.ui.json {
        let found = select(all, args)?;
        let json = if args.watch {
            serde_json::to_string(&found)
        } else {
            serde_json::to_string_pretty(&found)
        };
        return Ok(json.unwrap_or_default());
    }
    if args.quiet {
        let ids: Vec<String> = select(all, args)?.into_iter().map(|one| one.id).collect();
        return Ok(ids.join("\n"));
    }
    let services = client.services().await?;
    let waiting = waiting(&services, args);
    // A name of which everything waits has no allocation yet.
    let waits = |name: &str| waiting.iter().any(|(of, one)| *of == name || one.name == name);
    let found = chosen(all, args, &waits)?;
    Ok(rows(&found, &waiting, context.now(), context.ui))
}

/// Replicas without a node, which are no allocations yet; unless one node's are asked for.
fn waiting<'a>(services: &'a [ServiceView], args: &PsArgs) -> Vec<(&'a str, &'a WaitingView)> {
    if args.node.is_some()
        || args.status().is_some_and(|status| status != AllocationStatus::Pending)
    {
        return Vec::new();
    }
    let all = services
        .iter()
        .flat_map(|service| service.waiting.iter().map(|one| (service.name.as_str(), one)));
    let is_asked = |name: &str| args.name.is_empty() || args.name.iter().any(|one| one == name);
    all.filter(|(name, one)| is_asked(name) || is_asked(&one.name)).collect()
}

/// Those that were asked for. A name is a service or task, else an id, else the begin of one id.
fn select(all: Vec<AllocationView>, args: &PsArgs) -> Result<Vec<AllocationView>, CliError> {
    chosen(all, args, &|_| false)
}

/// The same; a name that is `excused` may stand for none.
fn chosen(
    all: Vec<AllocationView>,
    args: &PsArgs,
    excused: &dyn Fn(&str) -> bool,
) -> Result<Vec<AllocationView>, CliError> {
    let mut found = all;
    if !args.all && !args.status().is_some_and(|status| status.is_ended()) {
        found.retain(|one| !one.status.is_ended());
    }
    if !args.name.is_empty() {
        let mut wanted = BTreeSet::new();
        for name in &args.name {
            match named(&found, name) {
                Err(_) if excused(name) => {}
                ids => wanted.extend(ids?),
            }
        }
        found.retain(|one| wanted.contains(&one.id));
    }
    if let Some(node) = &args.node {
        found.retain(|one| one.node == *node);
    }
    if let Some(status) = args.status() {
        found.retain(|one| one.status == status);
    }
    found.sort_by_cached_key(|one| table::natural(&one.id));
    Ok(found)
}

/// The ids that a name stands for.
fn named(all: &[AllocationView], name: &str) -> Result<Vec<String>, CliError> {
    let ids = |fits: &dyn Fn(&AllocationView) -> bool| -> Vec<String> {
        all.iter().filter(|one| fits(one)).map(|one| one.id.clone()).collect()
    };
    let exact = [ids(&|one| one.name == name), ids(&|one| one.id == name)];
    if let Some(found) = exact.into_iter().find(|found| !found.is_empty()) {
        return Ok(found);
    }
    let found = ids(&|one| one.id.starts_with(name));
    match found.as_slice() {
        [] => Err(CliError::Failed {
            message: format!("No service, task or allocation {name:?} runs"),
            hint: Some("mill ps -a shows ended ones".to_owned()),
        }),
        [_] => Ok(found),
        several => {
            let message = format!("{name:?} begins several ids: {}", several.join(", "));
            Err(CliError::failed(message))
        }
    }
}

/// Whether it was asked to end, gets no traffic any more, and hasn't ended yet.
pub fn is_ending(one: &AllocationView) -> bool {
    one.kind == WorkloadKind::Service && one.status == AllocationStatus::Stopping
}

/// How many are about to end, behind what is done: `, 2 still stopping`.
pub fn still_stopping<'a>(all: impl Iterator<Item = &'a AllocationView>) -> String {
    match all.filter(|one| is_ending(one)).count() {
        0 => String::new(),
        count => format!(", {count} still stopping"),
    }
}

/// The table.
pub fn render(all: &[AllocationView], now: Timestamp, ui: Ui) -> String {
    rows(all, &[], now, ui)
}

fn rows(
    all: &[AllocationView],
    waiting: &[(&str, &WaitingView)],
    now: Timestamp,
    ui: Ui,
) -> String {
    let mut table = Table::new(&[
        "ID", "NAME", "NODE", "STATUS", "HEALTH", "CPU", "MEM", "RESTARTS", "AGE", "ADDRESS",
    ]);
    for one in all {
        let used_cpu = table::cores(one.cpu.used, one.cpu.limit, 2);
        let used_memory = table::memory(one.memory.used, one.memory.limit);
        let address = one.address.as_deref().filter(|_| one.status == AllocationStatus::Running);
        table.row(vec![
            one.id.as_str().into(),
            one.name.as_str().into(),
            Some(one.node.as_str()).filter(|node| !node.is_empty()).unwrap_or(NONE).into(),
            Cell::styled(status(one), status_style(&one.status)),
            Cell::styled(one.health.to_string(), health_style(&one.health)),
            used_cpu.into(),
            used_memory.into(),
            restarts(one).into(),
            table::age(Some(&one.created_at), now).into(),
            address.unwrap_or(NONE).into(),
        ]);
    }
    for (name, one) in waiting {
        let status = AllocationStatus::Pending;
        let status = Cell::styled(status.to_string(), status_style(&status));
        let age = table::age(Some(&one.since), now);
        let mut row: Vec<Cell> = vec![one.name.as_str().into(), (*name).into(), NONE.into()];
        row.extend([status, "none".into(), NONE.into(), NONE.into(), "0".into(), age.into()]);
        row.push(NONE.into());
        table.row(row);
    }
    let troubles = all.iter().flat_map(|one| trouble(one, ui));
    std::iter::once(table.render(ui)).chain(troubles).collect::<Vec<_>>().join("\n")
}

/// What is wrong with one that should work, and what was seen of it.
fn trouble(one: &AllocationView, ui: Ui) -> Vec<String> {
    let Some(message) = one.message.as_deref().filter(|_| !one.status.is_ended()) else {
        return Vec::new();
    };
    let ended = one.exit.as_ref().filter(|_| one.status == AllocationStatus::Backoff);
    let seen = ended.and_then(|exit| exit.message.as_deref()).unwrap_or_default();
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default();
    let head = format!("{} {}  {first}", ui.paint(BAD, "!"), one.id);
    let rest = lines.chain(seen.lines()).map(|line| format!("  | {line}"));
    std::iter::once(head).chain(rest).collect()
}

/// Its status, of one that has ended with how: `failed (exit 1)`, `stopped (killed, 143)`.
fn status(one: &AllocationView) -> String {
    let exit = one.exit.as_ref().filter(|_| one.status.is_ended());
    let how = exit.map(|exit| match (&exit.reason, exit.code) {
        (ExitReason::Completed, code) => format!(" (exit {})", code.unwrap_or(0)),
        (ExitReason::Error, Some(code)) => format!(" (exit {code})"),
        (ExitReason::Lost, _) => String::new(),
        (reason, Some(code)) => format!(" ({reason}, {code})"),
        (reason, None) => format!(" ({reason})"),
    });
    format!("{}{}", one.status, how.unwrap_or_default())
}

/// How often it was started again, with why it ended last: `6 (oom)`, `2 (exit 1)`.
fn restarts(one: &AllocationView) -> String {
    let why = one.exit.as_ref().filter(|_| one.restarts > 0).and_then(|exit| {
        match (&exit.reason, exit.code) {
            (ExitReason::Completed | ExitReason::Killed, _) => None,
            (ExitReason::Error, Some(code)) => Some(format!("exit {code}")),
            (reason, _) => Some(reason.to_string()),
        }
    });
    match why {
        Some(why) => format!("{} ({why})", one.restarts),
        // Processes in it were, and it lived on.
        None if one.ooms > 0 => format!("{} (oom {}×)", one.restarts, one.ooms),
        None => one.restarts.to_string(),
    }
}

fn status_style(status: &AllocationStatus) -> Option<Style> {
    use AllocationStatus as Status;
    match status {
        Status::Running => Some(GOOD),
        Status::Backoff | Status::Failed | Status::Lost => Some(BAD),
        Status::Pending | Status::Pulling | Status::Starting | Status::Stopping => Some(CHANGE),
        Status::Stopped | Status::Other(_) => None,
    }
}

fn health_style(health: &AllocationHealth) -> Option<Style> {
    match health {
        AllocationHealth::Healthy => Some(GOOD),
        AllocationHealth::Unhealthy => Some(BAD),
        AllocationHealth::Checking => Some(CHANGE),
        AllocationHealth::None | AllocationHealth::Unknown | AllocationHealth::Other(_) => None,
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::api::wire::{CpuUse, ExitView, MemoryUse};

    pub const PLAIN: Ui = Ui { json: false, color: false, live: false, asks: false };
    pub const NOW: Timestamp = Timestamp(1_772_366_641_220);

    /// A healthy allocation on n1, four minutes old at [`NOW`].
    pub fn allocation(id: &str, name: &str) -> AllocationView {
        AllocationView {
            traffic: None,
            id: id.to_owned(),
            name: name.to_owned(),
            kind: WorkloadKind::Service,
            node: "n1".to_owned(),
            status: AllocationStatus::Running,
            health: AllocationHealth::Healthy,
            draining: false,
            address: Some("10.99.8.7:3000".to_owned()),
            cpu: CpuUse { used: Some(0.12), limit: Some(0.5) },
            memory: MemoryUse { used: Some(91_000_000), limit: Some(512_000_000) },
            written: None,
            restarts: 0,
            ooms: 0,
            started_at: Some("2026-03-01T12:00:00Z".to_owned()),
            created_at: "2026-03-01T12:00:00Z".to_owned(),
            revision: 8,
            message: None,
            exit: None,
            secrets: Default::default(),
        }
    }

    fn dead() -> AllocationView {
        AllocationView {
            node: "n2".to_owned(),
            status: AllocationStatus::Backoff,
            health: AllocationHealth::None,
            address: Some("10.99.16.9:5432".to_owned()),
            cpu: CpuUse { used: None, limit: None },
            memory: MemoryUse { used: None, limit: Some(256_000_000) },
            restarts: 6,
            ooms: 6,
            created_at: "2026-03-01T11:00:00Z".to_owned(),
            exit: Some(ExitView { code: Some(137), reason: ExitReason::Oom, message: None }),
            ..allocation("db-0-x7q1", "db")
        }
    }

    fn args(name: Option<&str>) -> PsArgs {
        let name = name.into_iter().map(str::to_owned).collect();
        PsArgs { name, all: false, quiet: false, status: None, node: None, watch: false }
    }

    #[test]
    fn the_table_reads_as_documented() {
        let expected = "\
ID          NAME  NODE  STATUS   HEALTH   CPU        MEM       RESTARTS  AGE  ADDRESS
web-0-k3f9  web   n1    running  healthy  0.12/0.50  91M/512M  0         4m   10.99.8.7:3000
db-0-x7q1   db    n2    backoff  none     -          -         6 (oom)   1h   -
";
        assert_eq!(render(&[allocation("web-0-k3f9", "web"), dead()], NOW, PLAIN), expected);
    }

    #[test]
    fn names_resolve_in_the_documented_order() {
        let all = || {
            vec![allocation("web-0-aaaa", "web"), allocation("web-1-bbbb", "web"), {
                allocation("web-0-cccc", "web-0")
            }]
        };
        let ids = |name| {
            select(all(), &args(Some(name)))
                .map(|found| found.into_iter().map(|one| one.id).collect::<Vec<_>>())
                .map_err(|error| error.text())
        };
        assert_eq!(ids("web").unwrap(), ["web-0-aaaa", "web-1-bbbb"]);
        assert_eq!(ids("web-0").unwrap(), ["web-0-cccc"]);
        assert_eq!(ids("web-1-bbbb").unwrap(), ["web-1-bbbb"]);
        assert_eq!(ids("web-1").unwrap(), ["web-1-bbbb"]);
        assert!(ids("we").unwrap_err().contains("web-0-aaaa, web-1-bbbb, web-0-cccc"));
        assert!(ids("db").unwrap_err().starts_with("No service, task or allocation \"db\""));
    }

    #[test]
    fn several_names_are_shown_in_natural_order() {
        let all = ["many-59-a", "many-6-b", "other-0-c"];
        let all: Vec<_> = all.map(|id| allocation(id, id.split('-').next().unwrap())).into();
        let both = PsArgs { name: vec!["many".to_owned(), "other".to_owned()], ..args(None) };
        let ids: Vec<String> = select(all, &both).unwrap().into_iter().map(|one| one.id).collect();
        assert_eq!(ids, ["many-6-b", "many-59-a", "other-0-c"]);
    }

    #[test]
    fn how_it_ended_stands_beside_the_status() {
        let ended = |status: &str, reason: &str, code| AllocationView {
            status: status.into(),
            exit: Some(ExitView { code, reason: reason.into(), message: None }),
            ..allocation("a-0-aaaa", "a")
        };
        for (one, expected) in [
            (ended("failed", "error", Some(3)), "failed (exit 3)"),
            (ended("stopped", "completed", Some(0)), "stopped (exit 0)"),
            (ended("failed", "oom", Some(137)), "failed (oom, 137)"),
            (ended("lost", "lost", None), "lost"),
            (ended("backoff", "error", Some(3)), "backoff"),
        ] {
            assert_eq!(status(&one), expected);
        }
    }

    #[test]
    fn ended_ones_are_shown_on_demand() {
        let gone =
            AllocationView { status: AllocationStatus::Stopped, ..allocation("a-0-aaaa", "a") };
        assert_eq!(select(vec![gone.clone()], &args(None)).unwrap(), []);
        let all = PsArgs { all: true, ..args(None) };
        assert_eq!(select(vec![gone.clone()], &all).unwrap(), std::slice::from_ref(&gone));
        let failed = PsArgs { status: Some("failed".to_owned()), ..args(None) };
        assert_eq!(select(vec![gone.clone()], &failed).unwrap(), []);
        let stopped = PsArgs { status: Some("stopped".to_owned()), ..args(None) };
        assert_eq!(select(vec![gone.clone()], &stopped).unwrap().len(), 1);
        let elsewhere = PsArgs { node: Some("n2".to_owned()), ..all };
        assert_eq!(select(vec![gone], &elsewhere).unwrap(), []);
    }

    #[test]
    fn restarts_say_why_it_ended() {
        let mut one = dead();
        assert_eq!(restarts(&one), "6 (oom)");
        one.exit = Some(ExitView { code: Some(2), reason: ExitReason::Error, message: None });
        assert_eq!(restarts(&one), "6 (exit 2)");
        one.restarts = 0;
        assert_eq!(restarts(&one), "0 (oom 6×)");
        one.ooms = 0;
        assert_eq!(restarts(&one), "0");
    }
}
