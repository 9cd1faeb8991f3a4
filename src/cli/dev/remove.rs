//! The end of `mill dev`: what ran is stopped and removed.
//!
//! Owns the order of that. Never touches images or the data of volumes.

use super::Dev;
use crate::cli::client::{Client, ClientError, Resuming};
use crate::cli::daemon::asked_to_stop;
use crate::cli::error::{CliError, FAILED};
use crate::limits;
use std::collections::BTreeSet;

impl Dev<'_> {
    /// Stops and removes all that runs.
    pub(super) async fn remove(&self) -> Result<(), CliError> {
        if !self.context.ui.json {
            self.note("removing everything; Ctrl-C again leaves it");
        }
        tokio::select! {
            removed = self.remove_apps() => removed,
            asked = asked_to_stop() => {
                asked?;
                let text = "Left as it is. Remove it: mill dev --once, or mill clean --dev";
                self.context.ui.note(text);
                Err(CliError::Said { code: FAILED })
            }
        }
    }

    async fn remove_apps(&self) -> Result<(), CliError> {
        let status = self.client.status().await?;
        let of_services = status.services.iter().map(|service| service.app.as_str());
        let of_tasks = status.tasks.iter().map(|task| task.app.as_str());
        let apps: BTreeSet<&str> = of_services.chain(of_tasks).collect();
        for app in apps {
            self.remove_app(app).await?;
        }
        crate::cli::down::kill_spawned(&self.client).await?;
        crate::cli::down::runs_over(&self.client, |_| true).await?;
        crate::cli::down::ends_over(&self.client).await
    }

    /// Removes an app, also one whose deployment has to end first.
    async fn remove_app(&self, app: &str) -> Result<(), CliError> {
        let revision = loop {
            match self.client.delete_app(app, None).await {
                Ok(accepted) => break accepted.revision,
                Err(ClientError::Api { status: 404, .. }) => return Ok(()),
                Err(ClientError::Api { status: 409, .. }) => {
                    tokio::time::sleep(limits::FOLLOW_INTERVAL).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let mut events = Resuming::new(&self.client, Client::deployment_events(revision), true);
        while let Some(event) = events.next().await? {
            match event.event.as_str() {
                "done" => return Ok(()),
                "failed" => break,
                _ => {}
            }
        }
        Err(CliError::failed(format!("{app} could not be removed. Look: mill status --dev")))
    }
}
