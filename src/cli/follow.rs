//! Following a deployment to its end: what `up`, `down` and `scale` have in common.
//!
//! Owns the order of events and the exit code. Never knows the looks: those are the story's.

mod live;
mod pull;
pub mod story;
pub mod tasks;

use super::Context;
use super::client::sse::Event;
use super::client::{Client, Resuming};
use super::error::{CliError, FAILED};
use crate::api::wire::{
    AcceptedEvent, DeploymentStatus, DoneEvent, FailedEvent, ProgressEvent, ServiceView, StatusView,
};
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
    /// The app.
    pub app: String,
    /// Its revision, once accepted.
    pub revision: Option<u64>,
    /// Its newest revision before, if that had ended.
    pub before: Option<u64>,
    /// How to tell it.
    pub story: Story,
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
        while let Some(event) = events.next().await? {
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
                    return self.done(&event.decode()?).await;
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
        if self.context.ui.json {
            return Ok(());
        }
        let (healthy, desired) = self.health().await;
        if self.is_old(event.revision) {
            let text =
                format!("Nothing to do: r{} runs, {healthy}/{desired} healthy", event.revision);
            return self.context.ui.print(&text);
        }
        self.context.ui.print(&self.story.done(event, (healthy, desired)))
    }

    async fn failed(&mut self, event: &FailedEvent) -> Result<(), CliError> {
        self.context.farewell(None);
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
