//! `mill plan`: what a file would do, and the command that does exactly that.

use super::client::DeployOptions;
use super::file::{MillFile, either};
use super::ui::{BAD, CHANGE, FAINT, GOOD, STRONG, Ui};
use super::up::{overrides, placed};
use super::{Context, error::CliError};
use crate::api::wire::{
    Change, Effect, PlanChangeView, PlanFieldView, PlanPlacementView, PlanView, WorkloadKind,
};
use argh::{ArgsInfo, FromArgs};
use std::collections::BTreeMap;

/// Show what a file would change, without changing it. Exits with 10 if there is something to do.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "plan",
    help_triggers("-h", "--help"),
    example = "mill plan shop.mill",
    error_code(10, "There is something to do.")
)]
pub struct PlanArgs {
    /// the file; without it the only *.mill file here
    #[argh(positional)]
    pub path: Option<String>,
    /// the same; - is standard input
    #[argh(option, short = 'f')]
    pub file: Option<String>,
    /// another image for a service or task, NAME=REF
    #[argh(option)]
    pub image: Vec<String>,
    /// the file may share no name with what its app runs
    #[argh(switch)]
    pub replace: bool,
}

/// There is something to do.
const CHANGES: u8 = 10;
/// More placements than this are told by node.
const PLACEMENTS_NAMED: usize = 8;

pub(super) async fn run(args: PlanArgs, context: &Context) -> Result<(), CliError> {
    let given = either(args.path.as_deref(), args.file.as_deref())?;
    let file = MillFile::open(context, given)?.complete()?;
    let mut spec = file.executable()?;
    let images = overrides(&mut spec, &args.image)?;
    let replace = args.replace;
    let options = DeployOptions { replace, images, ..DeployOptions::default() };
    let client = context.client()?;
    let plan = client.plan(file.text.clone(), &options).await;
    let plan = plan.map_err(|error| placed(error, &file))?;
    if context.ui.json {
        context.ui.document(&plan)?;
    } else {
        context.ui.print(&render(&plan, &command(&plan.hash, given, &options), context.ui))?;
        context.note_stale(&client);
    }
    match plan.revision {
        Some(_) => Err(CliError::Said { code: CHANGES }),
        None => Ok(()),
    }
}

/// The command that does what was planned.
fn command(hash: &str, file: Option<&str>, options: &DeployOptions) -> String {
    let mut words = vec!["mill up --plan".to_owned(), hash.to_owned()];
    words.extend(file.map(|file| format!("-f {}", quoted(file))));
    words.extend(options.images.iter().map(|image| format!("--image {}", quoted(image))));
    words.extend(options.replace.then(|| "--replace".to_owned()));
    words.join(" ")
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn render(plan: &PlanView, command: &str, ui: Ui) -> String {
    let Some(revision) = plan.revision else {
        return match plan.base {
            Some(base) => format!("Nothing to do: {} r{base} is as the file says", plan.app),
            None => format!("Nothing to do: the file has nothing, and {} has not run", plan.app),
        };
    };
    let base = plan.base.map(|base| format!(" r{base}")).unwrap_or_default();
    let head = format!("{}{base} → r{revision} on {}", plan.app, plan.cluster);
    let mut lines = vec![ui.paint(STRONG, &head)];
    for change in &plan.changes {
        let (sign, style) = sign(&change.change);
        let name = ui.paint(style, &format!("{sign} {}", change.name));
        lines.push(format!("{name}  {}", what(change)));
        lines.extend(fields(&change.fields));
        lines.extend(waiting(change, ui));
    }
    lines.push(ui.paint(FAINT, command));
    lines.join("\n")
}

pub(super) fn sign(change: &Change) -> (char, anstyle::Style) {
    match change {
        Change::Add => ('+', GOOD),
        Change::Remove => ('-', BAD),
        Change::Change | Change::Other(_) => ('~', CHANGE),
    }
}

/// What becomes of it, in a line.
fn what(change: &PlanChangeView) -> String {
    let count = |n: u32| format!("{n} replica{}", if n == 1 { "" } else { "s" });
    let (before, after) = (change.replicas.before, change.replicas.after);
    let order = change.order.as_ref().map(ToString::to_string).unwrap_or_default();
    let is_task = change.kind == WorkloadKind::Task;
    let text = match change.effect {
        _ if is_task && change.change == Change::Remove => "task, removed".to_owned(),
        _ if is_task => "task".to_owned(),
        Effect::Start => count(after.unwrap_or_default()),
        Effect::Replace => format!("replace {}, {order}", after.unwrap_or_default()),
        Effect::Scale => {
            format!("scale {} → {}", before.unwrap_or_default(), after.unwrap_or_default())
        }
        Effect::Stop => count(before.unwrap_or_default()),
        Effect::None | Effect::Other(_) => "nothing that runs changes".to_owned(),
    };
    let places = places(&change.name, &change.placements);
    let places = if places.is_empty() { places } else { format!(": {places}") };
    format!("{text}{places}{}", kept(&change.volumes_kept))
}

fn kept(volumes: &[String]) -> String {
    match volumes {
        [] => String::new(),
        [one] => format!("; volume {one} is kept"),
        several => format!("; volumes {} are kept", several.join(", ")),
    }
}

fn places(name: &str, placements: &[PlanPlacementView]) -> String {
    let placed = placements.iter().filter_map(|one| Some((one.replica, one.node.as_deref()?)));
    let placed: Vec<(u32, &str)> = placed.collect();
    if placed.len() <= PLACEMENTS_NAMED {
        let each = placed.iter().map(|(replica, node)| format!("{name}-{replica} {node}"));
        return each.collect::<Vec<_>>().join(", ");
    }
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for (_, node) in placed {
        *counts.entry(node).or_default() += 1;
    }
    let each = counts.iter().map(|(node, count)| format!("{node} ×{count}"));
    each.collect::<Vec<_>>().join(", ")
}

/// The fields that differ, a line each.
pub(super) fn fields(all: &[PlanFieldView]) -> Vec<String> {
    let mut lines: Vec<(&str, Vec<String>)> = Vec::new();
    for one in all {
        let text = field(one);
        match lines.last_mut() {
            Some((name, texts)) if *name == one.field => texts.push(text),
            _ => lines.push((&one.field, vec![text])),
        }
    }
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let line =
        |(name, texts): (&str, Vec<String>)| format!("    {name:width$}  {}", texts.join("  "));
    let mut shown: Vec<String> = lines.into_iter().map(line).collect();
    let differing = all.iter().flat_map(|one| &one.lines);
    shown.extend(differing.map(|line| format!("      {line}")));
    shown
}

fn field(one: &PlanFieldView) -> String {
    let shown = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let (before, after) = (shown(&one.before), shown(&one.after));
    let Some(key) = &one.key else {
        let unset = || "unset".to_owned();
        return format!("{} → {}", before.unwrap_or_else(unset), after.unwrap_or_else(unset));
    };
    let sign = sign(&one.change).0;
    let value = match (before, after) {
        (Some(before), Some(after)) => format!(" {before} → {after}"),
        (Some(one), None) | (None, Some(one)) => format!(" {one}"),
        (None, None) => String::new(),
    };
    format!("{sign} {key}{value}")
}

/// Replicas that would wait, and why.
fn waiting(change: &PlanChangeView, ui: Ui) -> Vec<String> {
    let waiting: Vec<&PlanPlacementView> =
        change.placements.iter().filter(|one| one.node.is_none()).collect();
    let Some(first) = waiting.first() else { return Vec::new() };
    let names: Vec<String> =
        waiting.iter().map(|one| format!("{}-{}", change.name, one.replica)).collect();
    let verb = if waiting.len() == 1 { "waits" } else { "wait" };
    let why = first.waits.as_deref().unwrap_or_default();
    let line = format!("! {} {verb}: {why}", names.join(", "));
    let mut lines = vec![format!("    {}", ui.paint(BAD, &line))];
    lines.extend(super::why::nodes(&first.nodes).into_iter().map(|line| format!("    {line}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::{NodeReasonView, ReplicaChange};
    use crate::cli::ps::tests::PLAIN;

    fn change(name: &str, change: &str, effect: &str) -> PlanChangeView {
        PlanChangeView {
            name: name.to_owned(),
            kind: WorkloadKind::Service,
            change: change.into(),
            effect: effect.into(),
            replicas: ReplicaChange { before: Some(1), after: Some(2) },
            order: Some("start-first".into()),
            fields: vec![],
            placements: vec![],
            volumes_kept: vec![],
        }
    }

    fn field(
        field: &str,
        change: &str,
        key: Option<&str>,
        values: [Option<&str>; 2],
    ) -> PlanFieldView {
        let [before, after] = values.map(|value| value.map(str::to_owned));
        let (field, key) = (field.to_owned(), key.map(str::to_owned));
        let lines = Vec::new();
        PlanFieldView { field, change: change.into(), key, before, after, lines }
    }

    fn on(replica: u32, node: &str) -> PlanPlacementView {
        PlanPlacementView { replica, node: Some(node.to_owned()), waits: None, nodes: vec![] }
    }

    fn plan(changes: Vec<PlanChangeView>) -> PlanView {
        PlanView {
            hash: "4f9c2e71".to_owned(),
            app: "shop".to_owned(),
            cluster: "prod".to_owned(),
            base: Some(8),
            revision: (!changes.is_empty()).then_some(9),
            changes,
        }
    }

    #[test]
    fn a_plan_reads_as_documented() {
        let web = PlanChangeView {
            fields: vec![
                field("image", "change", None, [Some("web:v1 (1aa0…)"), Some("web:v2 (9c1e…)")]),
                field("env", "add", Some("LOG_LEVEL"), [None, None]),
            ],
            placements: vec![on(0, "n1"), on(1, "n2")],
            ..change("web", "change", "replace")
        };
        let old = PlanChangeView {
            volumes_kept: vec!["old-data".to_owned()],
            ..change("old", "remove", "stop")
        };
        let expected = "\
shop r8 → r9 on prod
~ web  replace 2, start-first: web-0 n1, web-1 n2
    image  web:v1 (1aa0…) → web:v2 (9c1e…)
    env    + LOG_LEVEL
- old  1 replica; volume old-data is kept
mill up --plan 4f9c2e71";
        assert_eq!(render(&plan(vec![web, old]), "mill up --plan 4f9c2e71", PLAIN), expected);
        let nothing = render(&plan(vec![]), "", PLAIN);
        assert_eq!(nothing, "Nothing to do: shop r8 is as the file says");
    }

    #[test]
    fn replicas_that_would_wait_are_told_with_every_nodes_reason() {
        let reason = NodeReasonView {
            node: "n1".to_owned(),
            reason: "memory".into(),
            detail: "380M free".to_owned(),
        };
        let waits = PlanPlacementView {
            replica: 1,
            node: None,
            waits: Some("no node fits cpu 0.5, memory 512M".to_owned()),
            nodes: vec![reason],
        };
        let web = PlanChangeView {
            placements: vec![on(0, "n1"), waits],
            ..change("web", "add", "start")
        };
        let mut plan = plan(vec![web]);
        plan.base = None;
        let expected = "\
shop → r9 on prod
+ web  2 replicas: web-0 n1
    ! web-1 waits: no node fits cpu 0.5, memory 512M
      n1  memory  380M free
x";
        assert_eq!(render(&plan, "x", PLAIN), expected);
    }

    #[test]
    fn many_values_and_replicas_stay_on_a_line() {
        let mut web = change("web", "change", "scale");
        web.fields = vec![
            field("replicas", "change", None, [Some("1"), Some("2")]),
            field("env", "change", Some("A"), [None, None]),
            field("env", "remove", Some("B"), [None, None]),
            field("constraint", "add", Some("zone"), [None, Some("eu-1")]),
            field("user", "change", None, [None, Some("1000")]),
        ];
        let lines = fields(&web.fields);
        assert_eq!(
            lines,
            [
                "    replicas    1 → 2",
                "    env         ~ A  - B",
                "    constraint  + zone eu-1",
                "    user        unset → 1000",
            ]
        );
        web.placements = (0..9).map(|n| on(n, if n < 5 { "n1" } else { "n2" })).collect();
        assert_eq!(what(&web), "scale 1 → 2: n1 ×5, n2 ×4");
        assert_eq!(what(&change("web", "change", "none")), "nothing that runs changes");
    }

    #[test]
    fn the_command_repeats_what_was_given() {
        let images = vec!["web=web:v2".to_owned()];
        let options = DeployOptions { replace: true, images, ..DeployOptions::default() };
        let full = command("4f9c2e71", Some("my shop.mill"), &options);
        let expected = "mill up --plan 4f9c2e71 -f 'my shop.mill' --image web=web:v2 --replace";
        assert_eq!(full, expected);
        assert_eq!(command("4f9c2e71", None, &DeployOptions::default()), "mill up --plan 4f9c2e71");
    }
}
