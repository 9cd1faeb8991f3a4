//! What is kept of the past, in bytes: files and specifications of revisions, and of runs.
//!
//! Owns what has to go for what is new. Never drops what runs, what was last stable, or a run that
//! is not over; what doesn't fit beside them is refused.

use super::model::{App, DeployStatus, Deployment};
use super::{Rejection, State, Touched};
use crate::id::{AppName, Revision, SpecHash};
use crate::limits;
use crate::spec::model::hash_of;
use std::sync::Arc;

/// A file as a revision keeps it.
pub(super) struct Kept {
    /// The text, where it is kept with the revision.
    pub(super) file: Arc<str>,
    /// Or where it is found.
    pub(super) hash: Option<SpecHash>,
    /// What it adds to the state.
    pub(super) bytes: u64,
}

impl State {
    /// The file of an app, as a person wrote it.
    #[must_use]
    pub fn file_of_app(&self, app: &App) -> Arc<str> {
        self.stored_file(app.file_hash.as_ref(), &app.file)
    }

    /// The file of a revision.
    #[must_use]
    pub fn file_of(&self, deployment: &Deployment) -> Arc<str> {
        self.stored_file(deployment.file_hash.as_ref(), &deployment.file)
    }

    fn stored_file(&self, hash: Option<&SpecHash>, inline: &Arc<str>) -> Arc<str> {
        let stored = hash.and_then(|hash| self.files.get(hash));
        Arc::clone(stored.unwrap_or(inline))
    }

    /// A file is kept once, however many revisions have it.
    pub(super) fn store_file(&mut self, file: String) -> Kept {
        if !self.is_next() {
            return Kept { file: file.into(), hash: None, bytes: 0 };
        }
        let hash = hash_of(&file);
        let bytes = if self.files.contains_key(&hash) { 0 } else { file.len() as u64 };
        if bytes > 0 {
            self.files.insert(hash.clone(), file.into());
        }
        Kept { file: "".into(), hash: Some(hash), bytes }
    }

    /// Makes room for what an app's new revision brought.
    pub(super) fn make_room(&mut self, name: &AppName) -> Result<(), Rejection> {
        if !self.is_next() {
            return Ok(());
        }
        self.forget_ended_apps(name);
        while self.bytes_of(Some(name)) > limits::REVISIONS_BYTES_EACH
            && let Some(spare) = self.oldest_spare(name)
        {
            self.deployments.remove(&spare);
        }
        while self.bytes_of(None) > limits::REVISIONS_BYTES {
            let Some(spare) = self.any_spare() else {
                let most = limits::REVISIONS_BYTES >> 20;
                let what = format!(
                    "bytes of files and specifications: the cluster keeps {most} MiB of what runs"
                );
                return Err(Rejection::TooMany { what });
            };
            self.deployments.remove(&spare);
        }
        Ok(())
    }

    /// What the revisions of an app, or of all, have added.
    fn bytes_of(&self, name: Option<&AppName>) -> u64 {
        let of = self.deployments.values().filter(|d| name.is_none_or(|name| d.app == *name));
        of.map(|deployment| deployment.added()).sum()
    }

    /// The oldest revision of an app that nothing needs.
    fn oldest_spare(&self, name: &AppName) -> Option<Revision> {
        let app = self.apps.get(name)?;
        let mut own = self.deployments.values().filter(|d| d.app == *name);
        let is_spare = |d: &&Arc<Deployment>| {
            let is_needed = d.revision == app.revision || Some(d.revision) == app.stable;
            d.status != DeployStatus::Running && (!is_needed || self.has_ended(app))
        };
        let spare = own.find(is_spare)?.revision;
        (spare != app.revision).then_some(spare)
    }

    /// One that nothing needs: of an app that was taken down, else of the largest.
    fn any_spare(&self) -> Option<Revision> {
        let ended = self.apps.values().filter(|app| self.has_ended(app));
        let mut ended: Vec<Revision> =
            ended.filter_map(|app| self.oldest_spare(&app.name)).collect();
        ended.sort_unstable();
        if let Some(oldest) = ended.first() {
            return Some(*oldest);
        }
        let spare =
            |app: &Arc<App>| Some((self.bytes_of(Some(&app.name)), self.oldest_spare(&app.name)?));
        self.apps.values().filter_map(spare).max().map(|(_, revision)| revision)
    }

    fn has_ended(&self, app: &App) -> bool {
        let is_empty = app.services.is_empty() && app.tasks.is_empty();
        is_empty && self.running_deployment(&app.name).is_none()
    }

    /// Of apps that were taken down, the newest are remembered.
    fn forget_ended_apps(&mut self, but: &AppName) {
        let is_idle = |app: &&Arc<App>| {
            let lives = self.allocations.values().any(|a| a.app == app.name && a.is_live());
            app.name != *but && !lives && self.has_ended(app)
        };
        let ended = self.apps.values().filter(is_idle);
        let mut ended: Vec<_> = ended.map(|app| (app.revision, app.name.clone())).collect();
        ended.sort_unstable();
        let excess = ended.len().saturating_sub(limits::APPS_ENDED);
        for (_, name) in ended.into_iter().take(excess) {
            self.apps.remove(&name);
            let own = self.deployments.values().filter(|d| d.app == name);
            for revision in own.map(|d| d.revision).collect::<Vec<_>>() {
                self.deployments.remove(&revision);
            }
        }
    }

    /// Makes room for a run that brought something of its own: the oldest that are over go.
    pub(super) fn make_room_for_runs(&mut self, touched: &mut Touched) -> Result<(), Rejection> {
        if !self.is_next() {
            return Ok(());
        }
        let mut bytes: u64 = self.runs.values().map(|run| run.bytes).sum();
        let ended: Vec<_> = self.derived.ended_runs.iter().cloned().collect();
        for (_, id) in ended {
            if bytes <= limits::RUNS_BYTES {
                break;
            }
            bytes -= self.runs.get(&id).map_or(0, |run| run.bytes);
            self.forget_run(&id, touched);
        }
        if bytes > limits::RUNS_BYTES {
            let most = limits::RUNS_BYTES >> 20;
            let what = format!("bytes of tasks that are not over: the cluster keeps {most} MiB");
            return Err(Rejection::TooMany { what });
        }
        self.collect_specs();
        Ok(())
    }

    /// Drops files that nothing refers to.
    pub(super) fn collect_files(&mut self) {
        let of_apps = self.apps.values().filter_map(|app| app.file_hash.as_ref());
        let of_revisions = self.deployments.values().filter_map(|d| d.file_hash.as_ref());
        let used: std::collections::BTreeSet<&SpecHash> = of_apps.chain(of_revisions).collect();
        let is_unused = |hash: &&SpecHash| !used.contains(hash);
        let unused: Vec<SpecHash> = self.files.keys().filter(is_unused).cloned().collect();
        for hash in unused {
            self.files.remove(&hash);
        }
    }
}

impl Deployment {
    /// What it has added to the state, in bytes.
    fn added(&self) -> u64 {
        if self.file_hash.is_some() { self.bytes } else { self.file.len() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::command::Action;
    use crate::fsm::command::{Deploy, Spawn, Spawned};
    use crate::fsm::deploy::tests::{change, deploy, running, step};
    use crate::fsm::model::DeployKind;
    use crate::fsm::{Command, NEXT_LEVEL};
    use crate::spec;
    use crate::spec::model::{EnvPart, EnvValue};

    const MB: usize = 1 << 20;

    fn next() -> State {
        State { feature_level: NEXT_LEVEL, ..running() }
    }

    /// A revision of an app with one service and a file of that size, which succeeds.
    fn up(state: &mut State, app: &str, n: usize, size: usize) -> Result<Revision, Rejection> {
        let name = format!("{app}-s");
        let number = n.to_string();
        let file = "0".repeat(size.saturating_sub(number.len())) + &number;
        let base = state.apps.get(&AppName::from(app)).map(|app| app.revision);
        let one = deploy(state, &[(&name, &format!("{app}:{n}"))]);
        let deploy = Deploy { app: app.into(), base, file, ..one };
        change(state, Command::Deploy(deploy))?;
        let revision = state.last_revision;
        let status = DeployStatus::Succeeded;
        step(state, Action::Finish { revision, status, degraded: Vec::new() });
        Ok(revision)
    }

    fn down(state: &mut State, app: &str) {
        let kind = DeployKind::Down;
        let deploy = Deploy { app: app.into(), base: None, kind, ..deploy(state, &[]) };
        change(state, Command::Deploy(deploy)).unwrap();
        let (revision, status) = (state.last_revision, DeployStatus::Succeeded);
        step(state, Action::Finish { revision, status, degraded: Vec::new() });
    }

    #[test]
    fn a_file_is_kept_once_and_read_from_both() {
        let mut state = next();
        for n in [7, 8, 7] {
            up(&mut state, "a", n, MB).unwrap();
        }
        assert_eq!(state.files.len(), 2);
        let app = &state.apps[&AppName::from("a")];
        let file = state.file_of_app(app);
        assert!(file.ends_with('7') && file.len() == MB && app.file.is_empty());
        let first = state.deployments.values().find(|d| d.app.as_str() == "a").unwrap();
        assert_eq!(state.file_of(first), file);
        let encoded = state.encode().unwrap();
        assert!(encoded.len() < 3 * MB, "{}", encoded.len());
        assert_eq!(State::decode(&encoded).unwrap(), state);
        // What an earlier version kept with its revisions is read as before.
        let shop = &state.apps[&AppName::from("shop")];
        assert!(shop.file_hash.is_none() && !state.file_of_app(shop).is_empty());
    }

    #[test]
    fn revisions_with_large_files_are_fewer() {
        let mut state = next();
        for n in 0..40 {
            up(&mut state, "a", n, MB).unwrap();
        }
        let a = AppName::from("a");
        let most = limits::REVISIONS_BYTES_EACH;
        assert!(state.bytes_of(Some(&a)) <= most && state.files.len() as u64 * MB as u64 <= most);
        let kept = state.deployments.values().filter(|d| d.app == a).count();
        assert!((8..40).contains(&kept), "{kept}");
        for n in 0..60 {
            up(&mut state, "small", n, 100).unwrap();
        }
        let small = state.deployments.values().filter(|d| d.app.as_str() == "small").count();
        assert_eq!(small, limits::REVISIONS_PER_APP);
    }

    #[test]
    fn what_ended_apps_had_goes_for_what_runs() {
        let mut state = next();
        for n in 0..200 {
            let app = format!("a{n}");
            up(&mut state, &app, n, MB).unwrap();
            down(&mut state, &app);
        }
        assert!(state.bytes_of(None) <= limits::REVISIONS_BYTES);
        assert!(state.apps.len() <= limits::APPS_ENDED + 2, "{}", state.apps.len());
        assert!(state.encode().unwrap().len() as u64 <= limits::REVISIONS_BYTES * 2);
        assert!(state.apps.contains_key(&AppName::from("a199")));
        assert!(state.apps.contains_key(&AppName::from("shop")), "it runs");
        // What runs stays, and what doesn't fit beside it is refused.
        let mut n = 0;
        let refused = loop {
            n += 1;
            assert!(n < 100);
            if let Err(refused) = up(&mut state, &format!("b{n}"), n, MB) {
                break refused;
            }
        };
        assert!(refused.to_string().contains("bytes of files"), "{refused}");
        assert!((1..n).all(|n| state.apps.contains_key(&AppName::from(format!("b{n}").as_str()))));
    }

    #[test]
    fn runs_of_their_own_are_bounded_in_bytes() {
        let mut state = next();
        let text = "task \"t\" {\n image \"busybox:1\"\n}\n";
        let task = spec::parse("file", text).unwrap().tasks.into_values().next().unwrap();
        let mut refused = None;
        for n in 0..2_000 {
            let mut spec = task.clone();
            spec.run.env.insert("A".into(), EnvValue(vec![EnvPart::Text(format!("{n:060000}"))]));
            let what = Spawned::Image { name: "t".into(), spec: Box::new(spec) };
            let id = format!("t-{n:04}").as_str().into();
            refused = change(&mut state, Command::Spawn(Spawn { id, what })).err();
            if refused.is_some() {
                break;
            }
        }
        let refused = refused.expect("a bound").to_string();
        assert!(refused.contains("bytes of tasks"), "{refused}");
        let most = limits::RUNS_BYTES;
        assert!(state.runs.values().map(|run| run.bytes).sum::<u64>() <= most);
        for run in state.runs.keys().take(200).cloned().collect::<Vec<_>>() {
            change(&mut state, Command::Kill { run }).unwrap();
        }
        let what = Spawned::Image { name: "t".into(), spec: Box::new(task) };
        change(&mut state, Command::Spawn(Spawn { id: "t-last".into(), what })).unwrap();
        assert!(state.encode().unwrap().len() as u64 <= most * 2);
    }
}
