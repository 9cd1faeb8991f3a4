//! `mill diff`: what two revisions differ in.
//!
//! Owns its looks. Never compares anything itself.

use super::show::parse_revision;
use super::ui::{STRONG, Ui};
use super::{Context, error::CliError, plan};
use crate::api::wire::{Change, DiffChangeView, DiffView, WorkloadKind};
use argh::{ArgsInfo, FromArgs};

/// Show what two revisions of an app differ in; without the second, what runs now.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "diff", help_triggers("-h", "--help"), example = "mill diff r7 r8")]
pub struct DiffArgs {
    /// a revision, such as r7
    #[argh(positional, arg_name = "rev")]
    pub from: String,
    /// the one that it is compared with; default the newest of its app
    #[argh(positional, arg_name = "rev")]
    pub to: Option<String>,
}

pub(super) async fn run(args: DiffArgs, context: &Context) -> Result<(), CliError> {
    let from = parse_revision(&args.from)?;
    let to = args.to.as_deref().map(parse_revision).transpose()?;
    let client = context.client()?;
    let diff = client.diff(from, to).await?;
    if context.ui.json {
        return context.ui.document(&diff);
    }
    context.ui.print(&render(&diff, context.ui))?;
    context.note_stale(&client);
    Ok(())
}

fn render(diff: &DiffView, ui: Ui) -> String {
    let DiffView { app, from, to, changes } = diff;
    if changes.is_empty() {
        return format!("{app} r{from} and r{to} are the same");
    }
    let mut lines = vec![ui.paint(STRONG, &format!("{app} r{from} → r{to}"))];
    lines.extend(changes.iter().flat_map(|one| change(one, ui)));
    lines.join("\n")
}

fn change(one: &DiffChangeView, ui: Ui) -> Vec<String> {
    let (sign, style) = plan::sign(&one.change);
    let head = ui.paint(style, &format!("{sign} {}", one.name));
    let what = if one.kind == WorkloadKind::Task { "  task" } else { "" };
    let image = match one.change {
        Change::Change => String::new(),
        _ => format!("  image {}", one.image),
    };
    let mut lines = vec![format!("{head}{what}{image}")];
    lines.extend(plan::fields(&one.fields));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::PlanFieldView;
    use crate::cli::ps::tests::PLAIN;

    #[test]
    fn two_revisions_differ_field_by_field() {
        let image = PlanFieldView {
            field: "image".to_owned(),
            change: Change::Change,
            key: None,
            before: Some("web:v1".to_owned()),
            after: Some("web:v2".to_owned()),
            lines: vec![],
        };
        let one = |name: &str, change: &str, fields| DiffChangeView {
            name: name.to_owned(),
            kind: if name == "job" { "task" } else { "service" }.into(),
            change: change.into(),
            image: format!("{name}:v1"),
            fields,
        };
        let mut diff = DiffView {
            app: "shop".to_owned(),
            from: 7,
            to: 8,
            changes: vec![
                one("web", "change", vec![image]),
                one("old", "remove", vec![]),
                one("job", "add", vec![]),
            ],
        };
        let expected = "\
shop r7 → r8
~ web
    image  web:v1 → web:v2
- old  image old:v1
+ job  task  image job:v1";
        assert_eq!(render(&diff, PLAIN), expected);
        diff.changes.clear();
        assert_eq!(render(&diff, PLAIN), "shop r7 and r8 are the same");
    }
}
