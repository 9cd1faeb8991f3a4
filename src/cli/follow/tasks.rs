//! What a file changes in its app's tasks, for the first lines of a deployment.
//!
//! Never asks the daemon: the file that runs is an input.

use super::story::{Change, image, tag};
use crate::spec::Spec;
use crate::spec::model::TaskSpec;

/// Tasks that come, change or go. `old`: the file that the app has now, if it has one.
#[must_use]
pub fn changes(new: &Spec, old: Option<&Spec>) -> Vec<Change> {
    let known = |name| old.and_then(|old| old.tasks.get(name));
    let mut all = Vec::new();
    for (name, task) in &new.tasks {
        let facts = match known(name) {
            Some(old) if old == task => continue,
            Some(old) => differences(old, task),
            None => vec![format!("image {}", tag(&task.run.image))],
        };
        all.push(change(name.as_str(), known(name).map(|_| 0), Some(0), facts));
    }
    let gone = old.into_iter().flat_map(|old| old.tasks.keys());
    let gone = gone.filter(|name| !new.tasks.contains_key(*name));
    all.extend(gone.map(|name| change(name.as_str(), Some(0), None, vec!["removed".to_owned()])));
    all
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

    fn file(tasks: &str) -> Spec {
        crate::spec::parse("file", &format!("app \"shop\"\n{tasks}")).unwrap()
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
        let mut story = Story::new(PLAIN, "shop", "prod", changes(&new, Some(&old)), &[]);
        let expected = "\
shop r8 → prod
+ come       task, image 1
~ new-image  task, image 1 → 2, schedule none → @daily
~ other      task, changed
- gone       task, removed";
        assert_eq!(story.accepted(8).join("\n"), expected);
        assert_eq!(changes(&new, Some(&new)), []);
        assert_eq!(changes(&new, None).len(), 4);
    }
}
