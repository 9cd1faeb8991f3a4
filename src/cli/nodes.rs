//! `mill nodes`, `mill label`, `mill undrain`, `mill remove`: the members of the cluster.
//!
//! Never follows a drain: that is `drain`.

use super::table::{self, Cell, NONE, Table};
use super::ui::{BAD, CHANGE, GOOD, Ui};
use super::{Context, error::CliError};
use crate::api::wire::{LabelsRequest, NodeStatus, NodeView};
use argh::{ArgsInfo, FromArgs};
use std::collections::BTreeMap;

/// List the nodes.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "nodes", help_triggers("-h", "--help"), example = "mill nodes --wide")]
pub struct NodesArgs {
    /// also id, subnet and labels
    #[argh(switch)]
    pub wide: bool,
}

/// Set labels of a node, which constraints name: KEY=VALUE sets, KEY- takes away.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "label",
    help_triggers("-h", "--help"),
    example = "mill label n2 zone=eu-1 disk-"
)]
pub struct LabelArgs {
    /// the node
    #[argh(positional)]
    pub node: String,
    /// KEY=VALUE or KEY-
    #[argh(positional)]
    pub labels: Vec<String>,
}

/// Let a draining node take work again.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "undrain", help_triggers("-h", "--help"), example = "mill undrain n2")]
pub struct UndrainArgs {
    /// the node
    #[argh(positional)]
    pub node: String,
}

/// Remove a drained node, or one that is down, from the cluster for good.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "remove",
    help_triggers("-h", "--help"),
    example = "mill remove n2 --yes"
)]
pub struct RemoveArgs {
    /// the node
    #[argh(positional)]
    pub node: String,
    /// don't ask
    #[argh(switch, short = 'y')]
    pub yes: bool,
}

pub(super) async fn run(args: NodesArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let nodes = client.nodes().await?;
    if context.ui.json {
        return context.ui.document(&nodes);
    }
    context.ui.print(&render(&nodes, args.wide, context.ui))?;
    context.note_stale(&client);
    Ok(())
}

pub(super) async fn label(args: LabelArgs, context: &Context) -> Result<(), CliError> {
    let request = request(&args.labels)?;
    let node = context.client()?.label(&args.node, &request).await?;
    if context.ui.json {
        return context.ui.document(&node);
    }
    context.ui.print(&format!("{}  {}", node.name, labels(&node)))
}

pub(super) async fn undrain(args: UndrainArgs, context: &Context) -> Result<(), CliError> {
    let node = context.client()?.undrain(&args.node).await?;
    if context.ui.json {
        return context.ui.document(&node);
    }
    context.ui.print(&format!("{}  {}", node.name, node.status))
}

pub(super) async fn remove(args: RemoveArgs, context: &Context) -> Result<(), CliError> {
    let client = context.client()?;
    let name = client.node(&args.node).await?.name;
    let question = format!("This removes node {name} from the cluster for good");
    context.ui.confirm(args.yes, &question)?;
    client.remove_node(&name).await?;
    match context.ui.json {
        true => context.ui.document(&serde_json::json!({ "name": name, "deleted": true })),
        false => context.ui.print(&format!("{name}  removed")),
    }
}

fn request(labels: &[String]) -> Result<LabelsRequest, CliError> {
    if labels.is_empty() {
        let hint = "mill label NODE zone=eu-1, or zone- to take it away";
        return Err(CliError::usage("No label was given", hint));
    }
    let mut all = BTreeMap::new();
    for text in labels {
        let (label, value) = match (text.split_once('='), text.strip_suffix('-')) {
            (Some((label, value)), _) if !value.is_empty() => (label, Some(value.to_owned())),
            (Some((label, _)), _) => {
                let hint = format!("{label}- takes it away");
                return Err(CliError::usage(format!("{text} has no value"), hint));
            }
            (None, Some(label)) => (label, None),
            (None, None) => {
                let hint = format!("{text}=VALUE sets it, {text}- takes it away");
                return Err(CliError::usage(format!("{text} has no value"), hint));
            }
        };
        if label.is_empty() {
            return Err(CliError::usage(format!("{text} names no label"), "KEY=VALUE or KEY-"));
        }
        all.insert(label.to_owned(), value);
    }
    Ok(LabelsRequest { labels: all })
}

fn labels(node: &NodeView) -> String {
    let all: Vec<String> = node.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    if all.is_empty() { NONE.to_owned() } else { all.join(" ") }
}

/// Age of the handshake, traffic and drops, as the answering node has them.
fn mesh(node: &NodeView) -> [String; 4] {
    let Some(seen) = &node.mesh else { return std::array::from_fn(|_| NONE.to_owned()) };
    let age = seen.handshake.map_or_else(|| "never".to_owned(), |age| format!("{age}s"));
    let size = |bytes| table::memory(Some(bytes), None);
    [age, size(seen.sent), size(seen.received), seen.dropped.to_string()]
}

fn render(nodes: &[NodeView], wide: bool, ui: Ui) -> String {
    let mut head = vec!["NODE", "STATUS", "ROLE", "CPU", "MEM", "ALLOCS", "ADDRESS", "VERSION"];
    if wide {
        head.extend(["ID", "SUBNET", "HANDSHAKE", "SENT", "RECEIVED", "DROPS", "LABELS"]);
    }
    let mut table = Table::new(&head);
    for node in nodes {
        let role = match (node.leader, node.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        let version = Some(node.version.as_str()).filter(|v| !v.is_empty()).unwrap_or(NONE);
        let mut row: Vec<Cell> = vec![
            node.name.as_str().into(),
            Cell::styled(node.status.to_string(), Some(style(&node.status))),
            role.into(),
            table::cores(node.cpu.used, Some(node.cpu.total), 1).into(),
            table::memory(node.memory.used, Some(node.memory.total)).into(),
            node.allocations.to_string().into(),
            node.address.as_str().into(),
            version.into(),
        ];
        if wide {
            row.extend([node.id.to_string().into(), node.subnet.as_str().into()]);
            row.extend(mesh(node).map(Cell::from));
            row.push(labels(node).into());
        }
        table.row(row);
    }
    table.render(ui)
}

fn style(status: &NodeStatus) -> anstyle::Style {
    match status {
        NodeStatus::Ready => GOOD,
        NodeStatus::Draining => CHANGE,
        _ => BAD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::tests::node;

    #[test]
    fn labels_are_set_and_taken_away() {
        let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let got = request(&texts(&["zone=eu=1", "old-", "a-b=c-"])).unwrap().labels;
        let want = [("a-b", Some("c-")), ("old", None), ("zone", Some("eu=1"))];
        let want = want.map(|(k, v)| (k.to_owned(), v.map(str::to_owned)));
        assert_eq!(got.into_iter().collect::<Vec<_>>(), want);
        for bad in [&[][..], &["zone"], &["zone="], &["=x"], &["-"]] {
            assert_eq!(request(&texts(bad)).unwrap_err().code(), 2, "{bad:?}");
        }
    }

    #[test]
    fn nodes_are_shown_with_their_part() {
        let ui = Ui { json: false, color: false, live: false, asks: false };
        let mut second = node("n2");
        (second.leader, second.voter, second.status) = (false, false, NodeStatus::Draining);
        second.labels.insert("zone".to_owned(), "eu-1".to_owned());
        let text = render(&[node("n1"), second], true, ui);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(&lines[0][..3], ["NODE", "STATUS", "ROLE"]);
        assert_eq!(&lines[1][..3], ["n1", "ready", "leader"]);
        assert_eq!(&lines[2][..3], ["n2", "draining", "learner"]);
        assert_eq!(lines[2].last(), Some(&"zone=eu-1"));
        assert!(!render(&[node("n1")], false, ui).contains("LABELS"));
    }
}
