//! What a revision changes in its app's tasks, for the first lines of a deployment.
//!
//! Never asks the daemon: what the app has is an input.

use super::story::{Change, image, tag};
use crate::id::WorkloadName;
use crate::spec::model::TaskSpec;
use std::collections::BTreeMap;

/// An app's tasks by name.
pub type Tasks = BTreeMap<WorkloadName, TaskSpec>;

/// Tasks that come, change or go.
#[must_use]
pub fn changes(new: &Tasks, old: &Tasks) -> Vec<Change> {
    let known = |name| old.get(name);
    let mut all = Vec::new();
    for (name, task) in new {
        let facts = match known(name) {
            Some(old) if old == task => continue,
            Some(old) => differences(old, task),
            None => vec![format!("image {}", tag(&task.run.image))],
        };
        all.push(change(name.as_str(), known(name).map(|_| 0), Some(0), facts));
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    all.extend(gone.map(|name| removed(name.as_str())));
    all
}

/// A task that goes.
#[must_use]
pub fn removed(name: &str) -> Change {
    change(name, Some(0), None, vec!["removed".to_owned()])
}

fn change(name: &str, before: Option<u32>, after: Option<u32>, facts: Vec<String>) -> Change {
    let facts = std::iter::once("task".to_owned()).chain(facts).collect();
    Change { name: name.to_owned(), before, after, facts, order: None }
}

fn differences(old: &TaskSpec, new: &TaskSpec) -> Vec<String> {
    let mut facts: Vec<String> = image(&old.run.image, &new.run.image).into_iter().collect();
    if old.schedule != new.schedule {
        let [from, to] = [old, new].map(|task| task.schedule.as_deref().unwrap_or("none"));
        facts.push(format!("schedule {from} → {to}"));
    }
    if facts.is_empty() {
        facts.push("changed".to_owned());
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::follow::story::Story;
    use crate::cli::ps::tests::PLAIN;

    fn file(tasks: &str) -> Tasks {
        crate::spec::parse("file", &format!("app \"shop\"\n{tasks}")).unwrap().tasks
    }

    #[test]
    fn tasks_that_come_change_or_go_are_told() {
        let old = file(
            "task \"same\" { image \"a:1\" }\ntask \"gone\" { image \"a:1\" }\n\
             task \"new-image\" { image \"a:1\" }\ntask \"other\" { image \"a:1\" }\n",
        );
        let new = file(
            "task \"same\" { image \"a:1\" }\ntask \"come\" { image \"a:1\" }\n\
             task \"new-image\" { image \"a:2\"; schedule \"@daily\" }\n\
             task \"other\" { image \"a:1\"; timeout \"5m\" }\n",
        );
        let mut story = Story::new(PLAIN, "shop", "prod", changes(&new, &old), &[]);
        let expected = "\
shop r8 → prod
+ come       task, image 1
~ new-image  task, image 1 → 2, schedule none → @daily
~ other      task, changed
- gone       task, removed";
        assert_eq!(story.accepted(8).join("\n"), expected);
        assert_eq!(changes(&new, &new), []);
        assert_eq!(changes(&new, &Tasks::new()).len(), 4);
    }
}
