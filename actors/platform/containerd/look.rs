//! What containerd says of processes: which there are, how they stand, how they ended.
//!
//! Owns the reading of its answers: what is gone is only what containerd says is gone. Never takes
//! an answer that doesn't come for one.

use super::client::{allow, retry};
use super::status::{is_away, is_unclear};
use super::{Containerd, Error, Exit, Found, TaskState};
use crate::backoff::Backoff;
use crate::id::ContainerId;
use crate::limits;
use crate::units::Timestamp;
use containerd_client::services::v1 as api;
use containerd_client::types::v1::{Process, Status as ProcessStatus};
use futures_util::StreamExt as _;
use tonic::Code;

/// So often a wait may be refused although the process runs.
const WAIT_REFUSALS: u32 = 10;

impl Containerd {
    /// Waits until a container's process has ended, also across restarts of containerd; `None` if
    /// there is no such task, or it is lost.
    ///
    /// # Errors
    /// containerd refuses to say.
    pub async fn wait(&self, id: &ContainerId) -> Result<Option<Exit>, Error> {
        self.wait_for(id, "").await
    }

    /// The same for a further process, or the first one if `exec` is empty.
    pub(super) async fn wait_for(
        &self,
        id: &ContainerId,
        exec: &str,
    ) -> Result<Option<Exit>, Error> {
        let mut backoff = Backoff::new(limits::CONTAINERD_RETRY);
        let mut refusals = 0;
        loop {
            let (container_id, exec_id) = (id.to_string(), exec.to_owned());
            let request = api::WaitRequest { container_id, exec_id };
            match self.tasks().wait(self.unbounded(request)).await {
                Ok(response) => {
                    let response = response.into_inner();
                    let at = timestamp(response.exited_at);
                    return Ok(Some(Exit { code: response.exit_status, at }));
                }
                Err(status) if status.code() == Code::NotFound => return Ok(None),
                Err(status) if is_away(&status) => {}
                // Its shim has gone: what containerd makes of that is seen in a moment.
                Err(status) => match self.process_state(id, exec).await {
                    Ok(TaskState::None) => return Ok(None),
                    Ok(TaskState::Stopped(exit)) => return Ok(Some(exit)),
                    Ok(TaskState::Unknown) => {}
                    Err(error) if error.is_unclear() => {}
                    Err(error) => return Err(error),
                    Ok(_) if is_unclear(&status) => {}
                    Ok(_) if refusals < WAIT_REFUSALS => refusals += 1,
                    Ok(_) => return Err(self.error("wait for", id.as_str(), status)),
                },
            }
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// What became of a container's process.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn task(&self, id: &ContainerId) -> Result<TaskState, Error> {
        self.process_state(id, "").await
    }

    /// The same of a further process, or the first one if `exec` is empty.
    pub(super) async fn process_state(
        &self,
        id: &ContainerId,
        exec: &str,
    ) -> Result<TaskState, Error> {
        let found = retry(|| {
            let (container_id, exec_id) = (id.to_string(), exec.to_owned());
            let request = api::GetRequest { container_id, exec_id };
            let request = self.request(request);
            let mut tasks = self.tasks();
            async move { tasks.get(request).await }
        })
        .await;
        allow(found, &[Code::NotFound])
            .map(|found| found.and_then(|f| f.process).map_or(TaskState::None, |p| state_of(&p)))
            .map_err(|status| self.error("look at", id.as_str(), status))
    }

    /// All containers of this namespace, by name, with what became of their processes.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn list(&self) -> Result<Vec<Found>, Error> {
        let listed = retry(|| {
            let request = self.request(api::ListContainersRequest::default());
            let mut containers = self.containers();
            async move { containers.list(request).await }
        });
        let listed = listed
            .await
            .map_err(|status| self.error("list containers of", &self.config().namespace, status))?;
        // One by one: in a list of tasks a shim that doesn't answer holds up all, or is missing.
        let looks = listed.containers.into_iter().map(|container| async move {
            let id = ContainerId::from(container.id);
            let task = self.task(&id).await.unwrap_or_else(|error| {
                tracing::debug!(%id, %error, "its process can't be seen");
                TaskState::Unknown
            });
            let labels = container.labels.into_iter().collect();
            Found { id, labels, image: container.image, task }
        });
        let looks = futures_util::stream::iter(looks).buffer_unordered(limits::CONTAINERD_LOOKS);
        let mut found: Vec<Found> = looks.collect().await;
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }
}

fn state_of(process: &Process) -> TaskState {
    let pid = process.pid;
    match process.status() {
        ProcessStatus::Created => TaskState::Created { pid },
        ProcessStatus::Running | ProcessStatus::Paused | ProcessStatus::Pausing => {
            TaskState::Running { pid }
        }
        ProcessStatus::Stopped => {
            TaskState::Stopped(Exit { code: process.exit_status, at: timestamp(process.exited_at) })
        }
        // Its shim didn't answer containerd in time.
        ProcessStatus::Unknown => TaskState::Unknown,
    }
}

/// containerd's time; zero if it gave none.
pub(crate) fn timestamp(time: Option<prost_types::Timestamp>) -> Timestamp {
    let time = time.unwrap_or_default();
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    let millis = u64::try_from(time.nanos / 1_000_000).unwrap_or(0);
    Timestamp(seconds.saturating_mul(1000).saturating_add(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_knows_is_not_gone() {
        let of = |status: ProcessStatus| {
            let process = Process { pid: 7, status: status.into(), ..Process::default() };
            state_of(&process)
        };
        assert_eq!(of(ProcessStatus::Unknown), TaskState::Unknown);
        assert_eq!(of(ProcessStatus::Running), TaskState::Running { pid: 7 });
        assert_eq!(of(ProcessStatus::Paused), TaskState::Running { pid: 7 });
        assert_eq!(of(ProcessStatus::Created), TaskState::Created { pid: 7 });
        assert!(matches!(of(ProcessStatus::Stopped), TaskState::Stopped(_)));
    }
}
