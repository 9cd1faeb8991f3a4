//! `mill top`: what uses the most, first.
//!
//! Owns the order, and the screen while it is shown live. Never computes a figure.

use super::client::Client;
use super::exec::{Raw, size};
use super::table::{self, NONE, Table};
use super::ui::Ui;
use super::{Context, error::CliError};
use crate::api::wire::{AllocationView, NodeView};
use crate::units::Timestamp;
use argh::{ArgsInfo, FromArgs};
use std::io::{IsTerminal as _, Write as _};
use tokio::io::AsyncReadExt as _;

/// Show allocations by what they use, the busiest first; live on a terminal.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "top",
    help_triggers("-h", "--help"),
    note = "On a terminal it is shown again every second: q or Ctrl-C ends it. Elsewhere, and with \
            --json, it is shown once.",
    example = "mill top -m"
)]
pub struct TopArgs {
    /// only those on this node
    #[argh(option)]
    pub node: Option<String>,
    /// by memory instead of processor time
    #[argh(switch, short = 'm')]
    pub memory: bool,
}

pub(super) async fn run(args: TopArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    if !context.ui.live {
        let text = show(&client, &args, context).await?;
        context.ui.print(&text)?;
        context.note_stale(&client);
        return Ok(());
    }
    // What can't be had is said on the screen that stays.
    show(&client, &args, context).await?;
    let _screen = Screen::begin();
    tokio::select! {
        ended = context.watch(&client, || show(&client, &args, context)) => ended,
        () = quit() => Ok(()),
    }
}

/// A screen of its own; dropped, what was there before is back.
struct Screen {
    _keys: Option<Raw>,
}

impl Screen {
    fn begin() -> Self {
        write("\u{1b}[?1049h\u{1b}[?25l");
        Self { _keys: Raw::keys() }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write("\u{1b}[?25h\u{1b}[?1049l");
    }
}

fn write(text: &str) {
    let mut out = std::io::stdout().lock();
    // There is nobody to tell if the terminal has gone.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Until somebody types q.
async fn quit() {
    let mut input = tokio::io::stdin();
    while std::io::stdin().is_terminal() {
        match input.read_u8().await {
            Ok(b'q' | b'Q') => return,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    std::future::pending().await
}

async fn show(client: &Client, args: &TopArgs, context: &Context) -> Result<String, CliError> {
    let mut all = client.allocations().await?;
    let nodes = client.nodes().await?;
    if let Some(node) = &args.node {
        if !nodes.iter().any(|one| one.name == *node) {
            // Which is an error, in the API's words.
            client.node(node).await?;
        }
        all.retain(|one| one.node == *node);
    }
    all.retain(|one| !one.status.is_ended());
    sort(&mut all, args.memory);
    if context.ui.json {
        return Ok(serde_json::to_string_pretty(&all).unwrap_or_default());
    }
    let nodes: Vec<&NodeView> = nodes
        .iter()
        .filter(|node| args.node.as_ref().is_none_or(|asked| node.name == *asked))
        .collect();
    let text = format!("{}\n{}", total(&nodes), rows(&all, context.now(), context.ui));
    Ok(match size().filter(|_| context.ui.live) {
        Some([_, height]) => text.lines().take(height.into()).collect::<Vec<_>>().join("\n"),
        None => text,
    })
}

/// What uses most comes first; what isn't known comes last.
fn sort(all: &mut [AllocationView], by_memory: bool) {
    all.sort_by(|a, b| {
        let used = if by_memory {
            b.memory.used.cmp(&a.memory.used)
        } else {
            let of = |one: &AllocationView| one.cpu.used.unwrap_or(-1.0);
            of(b).total_cmp(&of(a))
        };
        used.then_with(|| a.id.cmp(&b.id))
    });
}

/// All nodes in a line.
fn total(nodes: &[&NodeView]) -> String {
    let sum = |of: &dyn Fn(&NodeView) -> Option<f64>| {
        let known: Vec<f64> = nodes.iter().filter_map(|node| of(node)).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    };
    let bytes = |of: &dyn Fn(&NodeView) -> Option<u64>| {
        let known: Vec<u64> = nodes.iter().filter_map(|node| of(node)).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    };
    let cpu = table::cores(sum(&|n| n.cpu.used), sum(&|n| Some(n.cpu.total)), 1);
    let memory = table::memory(bytes(&|n| n.memory.used), bytes(&|n| Some(n.memory.total)));
    let count = match nodes {
        [one] => one.name.clone(),
        all => format!("{} nodes", all.len()),
    };
    format!("{count}  cpu {cpu}  memory {memory}")
}

fn rows(all: &[AllocationView], now: Timestamp, ui: Ui) -> String {
    let mut table = Table::new(&["ID", "NAME", "NODE", "STATUS", "CPU", "MEM", "AGE"]);
    for one in all {
        table.row(vec![
            one.id.as_str().into(),
            one.name.as_str().into(),
            Some(one.node.as_str()).filter(|node| !node.is_empty()).unwrap_or(NONE).into(),
            one.status.to_string().into(),
            table::cores(one.cpu.used, one.cpu.limit, 2).into(),
            table::memory(one.memory.used, one.memory.limit).into(),
            table::age(Some(&one.created_at), now).into(),
        ]);
    }
    table.render(ui)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::{CpuUse, MemoryUse};
    use crate::cli::ps::tests::{NOW, PLAIN, allocation};

    fn using(id: &str, cpu: Option<f64>, memory: Option<u64>) -> AllocationView {
        AllocationView {
            cpu: CpuUse { used: cpu, limit: Some(1.0) },
            memory: MemoryUse { used: memory, limit: Some(100_000_000) },
            ..allocation(id, "web")
        }
    }

    #[test]
    fn the_busiest_comes_first_and_the_unknown_last() {
        let mut all = vec![
            using("c", None, None),
            using("b", Some(0.1), Some(90_000_000)),
            using("a", Some(0.1), Some(1_000_000)),
            using("d", Some(0.9), Some(2_000_000)),
        ];
        let ids = |all: &[AllocationView]| all.iter().map(|one| one.id.clone()).collect::<String>();
        sort(&mut all, false);
        assert_eq!(ids(&all), "dabc");
        let shown = rows(&all[..1], NOW, PLAIN);
        let parts = ["ID", "CPU", "d ", "0.90/1.00", "2M/100M"];
        assert!(parts.iter().all(|part| shown.contains(part)), "{shown}");
        sort(&mut all, true);
        assert_eq!(ids(&all), "bdac");
    }
}
