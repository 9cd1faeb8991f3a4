//! Following a deployment to its end: what `up`, `down` and `scale` have in common.
//!
//! Owns the order of events and the exit code. Never knows the looks: those are the story's.

mod live;
mod pull;
pub mod story;
pub mod tasks;

use super::Context;
use super::client::sse::Event;
use super::client::{Client, Resuming, patiently};
use super::error::{CliError, FAILED};
use super::ps;
use crate::api::wire::{
    AcceptedEvent, AllocationView, DeploymentStatus, DoneEvent, FailedEvent, ProgressEvent,
    ServiceView, StatusView,
};
use crate::limits;
use crate::units::Millis;
use live::Live;
use serde_json::Value;
use std::collections::BTreeSet;
use story::{Change, Story};
use tasks::Tasks;

/// The cluster before a deployment, for its story.
pub struct Before {
    status: StatusView,
}

impl Before {
    /// Looks.
    ///
    /// # Errors
    /// The daemon can't say.
    pub async fn look(client: &Client) -> Result<Self, CliError> {
        Ok(Self { status: client.status().await? })
    }

    /// All services.
    #[must_use]
    pub fn services(&self) -> &[ServiceView] {
        &self.status.services
    }

    /// The tasks that an app has, as its file says. None where this version of mill doesn't take
    /// the file.
    pub async fn tasks_of(&self, client: &Client, app: &str) -> Option<Tasks> {
        let own: BTreeSet<&str> =
            self.tasks().iter().filter(|t| t.app == app).map(|t| t.name.as_str()).collect();
        if own.is_empty() {
            return Some(Tasks::new());
        }
        let file = client.app(app).await.ok()?.file;
        let mut spec = crate::spec::parse(app, &file).ok()?;
        // Some may have been taken down since.
        spec.tasks.retain(|name, _| own.contains(name.as_str()));
        Some(spec.tasks)
    }

    /// All tasks of files.
    #[must_use]
    pub fn tasks(&self) -> &[crate::api::wire::TaskView] {
        &self.status.tasks
    }

    /// The service of that name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServiceView> {
        self.services().iter().find(|service| service.name == name)
    }

    /// The apps that run something, or did.
    #[must_use]
    pub fn apps(&self) -> Vec<&str> {
        self.status.apps.iter().map(|app| app.name.as_str()).collect()
    }

    /// The app's newest revision, if it has ended: one that is on its way can be joined.
    #[must_use]
    pub fn revision(&self, app: &str) -> Option<u64> {
        let app = self.status.apps.iter().find(|one| one.name == app)?;
        let ended = app.deployment.as_ref().filter(|one| one.status != DeploymentStatus::Running);
        ended.map(|deployment| deployment.revision)
    }

    /// The story of a deployment that makes these changes to an app.
    #[must_use]
    pub fn story(&self, context: &Context, app: &str, changes: Vec<Change>) -> Story {
        let own: Vec<ServiceView> =
            self.services().iter().filter(|service| service.app == app).cloned().collect();
        Story::new(context.ui, app, &self.status.cluster, changes, &own)
    }
}

/// A deployment that is followed.
pub struct Follow<'a> {
    /// Output.
    pub context: &'a Context,
    /// For how many are healthy at the end.
    pub client: &'a Client,
    pub app: String,
    /// Its revision, once accepted.
    pub revision: Option<u64>,
    /// Its newest revision before, if that had ended.
    pub before: Option<u64>,
    /// How to tell it.
    pub story: Story,
    /// Go on until what it replaces has ended, too.
    pub wait_stopped: bool,
    /// It has succeeded.
    pub is_done: bool,
}

impl Follow<'_> {
    /// Follows to the end, for at most that long.
    ///
    /// # Errors
    /// The deployment failed, the time is up, or the daemon is gone.
    pub async fn run(mut self, events: Resuming<'_>, time: Option<Millis>) -> Result<(), CliError> {
        let Some(time) = time else { return self.follow(events).await };
        match tokio::time::timeout(time.duration(), self.follow(events)).await {
            Ok(ended) => ended,
            Err(_) => {
                self.context.farewell(None);
                let message = match self.revision {
                    Some(r) if self.is_done => {
                        format!("Gave up after {time}; r{r} is done, what it replaces still stops")
                    }
                    Some(r) => {
                        format!(
                            "Gave up after {time}; r{r} goes on. Follow it: mill up --attach r{r}"
                        )
                    }
                    None => format!("Gave up after {time}; the deployment goes on"),
                };
                Err(CliError::GaveUp { message })
            }
        }
    }

    async fn follow(&mut self, mut events: Resuming<'_>) -> Result<(), CliError> {
        let mut live = Live::new(self.context.ui);
        if let Some(revision) = self.revision {
            self.begin(&live, revision)?;
        }
        while let Some(event) = self.next(&mut events, &mut live).await? {
            if self.context.ui.json {
                self.context.ui.json_line(&labelled(&event))?;
            }
            match event.event.as_str() {
                "accepted" if self.revision.is_none() => {
                    let revision = event.decode::<AcceptedEvent>()?.revision;
                    self.revision = Some(revision);
                    self.begin(&live, revision)?;
                }
                // What was there before anything was asked for is an old story.
                "progress" if !self.context.ui.json && !self.is_told() => {
                    let said = self.story.progress(&event.decode::<ProgressEvent>()?);
                    for line in said.lines {
                        live.line(&line)?;
                    }
                    if let Some((old, text)) = said.ending {
                        live.doing(&old, Some(text), &[]);
                    }
                    if let Some(id) = said.allocation {
                        live.doing(&id, said.doing, &said.parts);
                    }
                }
                "done" => {
                    live.clear();
                    self.done(&event.decode()?).await?;
                    return self.ends(&mut live).await;
                }
                "failed" => {
                    live.clear();
                    return self.failed(&event.decode()?).await;
                }
                _ => {}
            }
        }
        Err(CliError::failed("The daemon ended the stream before the deployment's end"))
    }

    /// The next event. While none comes, it is said what is about to end: that is waited for.
    async fn next(
        &mut self,
        events: &mut Resuming<'_>,
        live: &mut Live,
    ) -> Result<Option<Event>, CliError> {
        let next = events.next();
        tokio::pin!(next);
        loop {
            tokio::select! {
                event = &mut next => return Ok(event?),
                () = tokio::time::sleep(limits::FOLLOW_QUIET) => {
                    // What can't be asked right now is no loss.
                    if let Ok(all) = self.client.allocations().await && !self.is_told() {
                        self.tell_ends(&all, live)?;
                    }
                }
            }
        }
    }

    fn tell_ends(&mut self, all: &[AllocationView], live: &mut Live) -> Result<(), CliError> {
        if self.context.ui.json || self.revision.is_none() {
            return Ok(());
        }
        for (id, line, is_new) in self.story.ends(all) {
            if self.context.ui.live {
                live.doing(&id, Some(line), &[]);
            } else if is_new {
                live.line(&line)?;
            }
        }
        Ok(())
    }

    /// Waits until what was replaced has ended, if that is asked for.
    async fn ends(&mut self, live: &mut Live) -> Result<(), CliError> {
        while self.wait_stopped {
            let all = patiently(async || self.client.allocations().await).await?;
            if !all.iter().any(|one| self.story.is_ending(one)) {
                live.clear();
                return Ok(());
            }
            self.tell_ends(&all, live)?;
            tokio::time::sleep(limits::FOLLOW_INTERVAL).await;
        }
        Ok(())
    }

    fn begin(&mut self, live: &Live, revision: u64) -> Result<(), CliError> {
        let text = format!("r{revision} goes on. Follow it: mill up --attach r{revision}");
        self.context.farewell(Some(text));
        if self.context.ui.json || self.is_old(revision) {
            return Ok(());
        }
        for line in self.story.accepted(revision) {
            live.line(&line)?;
        }
        Ok(())
    }

    /// It was there and had ended before anything was asked for.
    fn is_old(&self, revision: u64) -> bool {
        self.before.is_some_and(|before| revision <= before)
    }

    /// Whether what happened is past.
    fn is_told(&self) -> bool {
        self.revision.is_some_and(|revision| self.is_old(revision))
    }

    async fn done(&mut self, event: &DoneEvent) -> Result<(), CliError> {
        self.context.farewell(None);
        self.is_done = true;
        if self.context.ui.json {
            return Ok(());
        }
        if self.is_old(event.revision) {
            let (healthy, desired) = self.health().await;
            let text =
                format!("Nothing to do: r{} runs, {healthy}/{desired} healthy", event.revision);
            return self.context.ui.print(&text);
        }
        let all = self.client.allocations().await.unwrap_or_default();
        let own = all.iter().filter(|one| self.story.is_ending(one));
        let newest = self.client.app(&self.app).await.map_or(event.revision, |app| app.revision);
        // What runs by now may be a later revision's.
        let is_newest = newest == event.revision;
        let health = if is_newest { self.health().await } else { (0, 0) };
        let text = self.story.done(event, health) + &ps::still_stopping(own);
        self.context.ui.print(&text)
    }

    async fn failed(&mut self, event: &FailedEvent) -> Result<(), CliError> {
        self.context.farewell(None);
        if self.is_old(event.revision) {
            // What failed and left nothing is all that there was.
            let text = format!("Nothing of {} runs: nothing to do", self.app);
            return if self.context.ui.json { Ok(()) } else { self.context.ui.print(&text) };
        }
        if self.context.ui.json {
            let message = match event.status {
                DeploymentStatus::Superseded | DeploymentStatus::Aborted => {
                    format!("r{} {}", event.revision, event.reason)
                }
                _ => format!("r{} failed: {}", event.revision, event.reason),
            };
            return Err(CliError::failed(message));
        }
        for line in self.story.failed(event, self.health().await) {
            self.context.ui.print(&line)?;
        }
        Err(CliError::Said { code: FAILED })
    }

    /// Healthy and wanted replicas of the app now.
    async fn health(&self) -> (u32, u32) {
        let all = self.client.services().await.unwrap_or_default();
        let own = all.iter().filter(|service| service.app == self.app);
        own.fold((0, 0), |(healthy, desired), service| {
            (healthy + service.replicas.healthy, desired + service.replicas.desired)
        })
    }
}

/// The event's document with the event's name in it.
fn labelled(event: &Event) -> Value {
    let mut value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
    if let Value::Object(fields) = &mut value {
        fields.insert("event".to_owned(), event.event.clone().into());
    }
    value
}
