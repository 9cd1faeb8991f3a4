//! A container's life: made, started, signalled, ended, removed.
//!
//! Never keeps anything in memory: containerd's own records are the truth.

use super::client::{allow, is_away, retry};
use super::error::start_error;
use super::options::RuncOptions;
use super::{Containerd, Error, Exit, Found, NewContainer, SNAPSHOTTER, TaskState, host};
use crate::id::ContainerId;
use crate::limits;
use crate::units::Timestamp;
use containerd_client::services::v1 as api;
use containerd_client::types::Mount;
use containerd_client::types::v1::{Process, Status as ProcessStatus};
use std::collections::BTreeMap;
use tonic::Code;

const RUNTIME: &str = "io.containerd.runc.v2";
const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
const SIGKILL: u32 = 9;
/// So often a wait may be refused although the process runs.
const WAIT_REFUSALS: u32 = 10;

impl Containerd {
    /// Makes a container: record, snapshot, and the process up to just before its program.
    ///
    /// What exists already under this name is kept. A failure leaves nothing behind. Returns the
    /// process id on the host.
    ///
    /// # Errors
    /// The image's snapshot is gone, the program isn't in the image, the disk is full, …
    pub async fn create(&self, new: &NewContainer) -> Result<u32, Error> {
        let fresh = self.create_record(new).await?;
        let made = self.create_task(new).await;
        if let Err(failure) = &made
            && fresh
            && !matches!(failure, Error::Away { .. })
            && let Err(error) = self.delete(&new.id).await
        {
            // The failure itself is what the caller wants to hear.
            tracing::warn!(id = %new.id, %error, "can't remove a failed container");
        }
        made
    }

    async fn create_task(&self, new: &NewContainer) -> Result<u32, Error> {
        let rootfs = self.prepare(new).await?;
        let request = api::CreateTaskRequest {
            container_id: new.id.to_string(),
            rootfs,
            // Both must be set, or the shim of containerd 1.6 panics.
            stdout: new.log.clone(),
            stderr: new.log.clone(),
            ..api::CreateTaskRequest::default()
        };
        let made = retry(|| {
            let request = self.request(request.clone());
            let mut tasks = self.tasks();
            async move { tasks.create(request).await }
        })
        .await;
        match made {
            Ok(made) => Ok(made.pid),
            Err(status) if status.code() == Code::AlreadyExists => {
                match self.task(&new.id).await? {
                    TaskState::Created { pid } | TaskState::Running { pid } => Ok(pid),
                    TaskState::None | TaskState::Stopped(_) => {
                        Err(self.error("make task", new.id.as_str(), status))
                    }
                }
            }
            Err(status) if is_away(&status) => {
                Err(self.error("make task", new.id.as_str(), status))
            }
            Err(status) => Err(start_error(command(new), status.message())),
        }
    }

    /// The record comes first: it keeps the snapshot from garbage collection. Tells whether it
    /// wasn't there before.
    async fn create_record(&self, new: &NewContainer) -> Result<bool, Error> {
        let spec = prost_types::Any {
            type_url: SPEC_TYPE.to_owned(),
            value: serde_json::to_vec(&host::fit(&new.spec))?,
        };
        let container = api::Container {
            id: new.id.to_string(),
            image: new.image.clone(),
            labels: new.labels.clone().into_iter().collect(),
            runtime: Some(api::container::Runtime {
                name: RUNTIME.to_owned(),
                options: Some(RuncOptions::any(self.config())),
            }),
            spec: Some(spec),
            snapshotter: SNAPSHOTTER.to_owned(),
            snapshot_key: new.id.to_string(),
            ..api::Container::default()
        };
        let made = retry(|| {
            let request = api::CreateContainerRequest { container: Some(container.clone()) };
            let request = self.request(request);
            let mut containers = self.containers();
            async move { containers.create(request).await }
        })
        .await;
        allow(made, &[Code::AlreadyExists])
            .map(|made| made.is_some())
            .map_err(|status| self.error("make container", new.id.as_str(), status))
    }

    async fn prepare(&self, new: &NewContainer) -> Result<Vec<Mount>, Error> {
        let key = new.id.as_str();
        let parent = new.chain_id.as_ref().map(|id| id.to_string()).unwrap_or_default();
        let prepared = retry(|| {
            let request = self.request(api::snapshots::PrepareSnapshotRequest {
                snapshotter: SNAPSHOTTER.to_owned(),
                key: key.to_owned(),
                parent: parent.clone(),
                ..api::snapshots::PrepareSnapshotRequest::default()
            });
            let mut snapshots = self.snapshots();
            async move { snapshots.prepare(request).await }
        })
        .await;
        let prepared =
            allow(prepared, &[Code::AlreadyExists]).map_err(|status| match status.code() {
                Code::NotFound => Error::ImageGone { image: new.image.clone() },
                _ => self.error("make file system of", key, status),
            })?;
        match prepared {
            Some(prepared) => Ok(prepared.mounts),
            None => self.mounts(key).await,
        }
    }

    /// How a snapshot is mounted.
    pub(crate) async fn mounts(&self, key: &str) -> Result<Vec<Mount>, Error> {
        retry(|| {
            let request = self.request(api::snapshots::MountsRequest {
                snapshotter: SNAPSHOTTER.to_owned(),
                key: key.to_owned(),
            });
            let mut snapshots = self.snapshots();
            async move { snapshots.mounts(request).await }
        })
        .await
        .map(|response| response.mounts)
        .map_err(|status| self.error("find file system of", key, status))
    }

    /// Starts the program of a container that was made. One that runs already is left alone.
    ///
    /// # Errors
    /// There is no such task, or the program can't be executed.
    pub async fn start(&self, id: &ContainerId) -> Result<u32, Error> {
        let started = retry(|| {
            let request = api::StartRequest { container_id: id.to_string(), ..Default::default() };
            let request = self.request(request);
            let mut tasks = self.tasks();
            async move { tasks.start(request).await }
        })
        .await;
        let status = match started {
            Ok(started) => return Ok(started.pid),
            Err(status) => status,
        };
        if is_away(&status) || status.code() == Code::NotFound {
            return Err(self.error("start", id.as_str(), status));
        }
        match self.task(id).await? {
            TaskState::Running { pid } => Ok(pid),
            _ => Err(start_error("the command", status.message())),
        }
    }

    /// Sends a signal to a container's first process. One that is gone counts as signalled.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn kill(&self, id: &ContainerId, signal: u32) -> Result<(), Error> {
        self.signal(id, "", signal).await
    }

    /// The same to a further process, or the first one if `exec` is empty.
    pub(super) async fn signal(
        &self,
        id: &ContainerId,
        exec: &str,
        signal: u32,
    ) -> Result<(), Error> {
        let killed = retry(|| {
            let request = self.request(api::KillRequest {
                container_id: id.to_string(),
                exec_id: exec.to_owned(),
                signal,
                all: false,
            });
            let mut tasks = self.tasks();
            async move { tasks.kill(request).await }
        })
        .await;
        let gone = [Code::NotFound, Code::FailedPrecondition];
        allow(killed, &gone)
            .map(|_| ())
            .map_err(|status| self.error("send a signal to", id.as_str(), status))
    }

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
        let [mut pause, longest] = limits::CONTAINERD_RETRY;
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
                Err(status) => match self.process_state(id, exec).await? {
                    TaskState::None => return Ok(None),
                    TaskState::Stopped(exit) => return Ok(Some(exit)),
                    _ if refusals < WAIT_REFUSALS => refusals += 1,
                    _ => return Err(self.error("wait for", id.as_str(), status)),
                },
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
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

    /// Removes a container with everything it had: a process that still runs is killed, then task,
    /// record and snapshot go. Nothing there is success. Returns how the process ended, if known.
    ///
    /// # Errors
    /// containerd doesn't answer, or the process doesn't die.
    pub async fn delete(&self, id: &ContainerId) -> Result<Option<Exit>, Error> {
        let exit = match self.delete_task(id).await {
            Ok(exit) => exit,
            Err(status) if is_away(&status) => {
                return Err(self.error("remove task of", id.as_str(), status));
            }
            // It says so in several ways, but a process that runs is the usual reason.
            Err(_) => {
                self.end(id).await?;
                let exit = self.delete_task(id).await;
                exit.map_err(|status| self.error("remove task of", id.as_str(), status))?
            }
        };
        self.delete_record(id).await?;
        self.remove_snapshot(id.as_str()).await?;
        Ok(exit)
    }

    /// Kills a container's process and waits until it is gone.
    async fn end(&self, id: &ContainerId) -> Result<(), Error> {
        self.kill(id, SIGKILL).await?;
        let gone = tokio::time::timeout(limits::KILL_DEADLINE, self.wait(id)).await;
        let seconds = limits::KILL_DEADLINE.as_secs();
        gone.map_err(|_| Error::Undead { id: id.to_string(), seconds })?.map(|_| ())
    }

    async fn delete_task(&self, id: &ContainerId) -> Result<Option<Exit>, tonic::Status> {
        let deleted = retry(|| {
            let request = self.request(api::DeleteTaskRequest { container_id: id.to_string() });
            let mut tasks = self.tasks();
            async move { tasks.delete(request).await }
        })
        .await;
        let exit =
            |d: api::DeleteResponse| Exit { code: d.exit_status, at: timestamp(d.exited_at) };
        Ok(allow(deleted, &[Code::NotFound])?.map(exit))
    }

    async fn delete_record(&self, id: &ContainerId) -> Result<(), Error> {
        let deleted = retry(|| {
            let request = self.request(api::DeleteContainerRequest { id: id.to_string() });
            let mut containers = self.containers();
            async move { containers.delete(request).await }
        })
        .await;
        allow(deleted, &[Code::NotFound])
            .map(|_| ())
            .map_err(|status| self.error("remove container", id.as_str(), status))
    }

    /// Removes a snapshot; one that isn't there is removed.
    pub(crate) async fn remove_snapshot(&self, key: &str) -> Result<(), Error> {
        let removed = retry(|| {
            let request = self.request(api::snapshots::RemoveSnapshotRequest {
                snapshotter: SNAPSHOTTER.to_owned(),
                key: key.to_owned(),
            });
            let mut snapshots = self.snapshots();
            async move { snapshots.remove(request).await }
        })
        .await;
        allow(removed, &[Code::NotFound])
            .map(|_| ())
            .map_err(|status| self.error("remove file system of", key, status))
    }

    /// All containers of this namespace, by name, with what became of their processes.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn list(&self) -> Result<Vec<Found>, Error> {
        let containers = retry(|| {
            let request = self.request(api::ListContainersRequest::default());
            let mut containers = self.containers();
            async move { containers.list(request).await }
        });
        let tasks = retry(|| {
            let request = self.request(api::ListTasksRequest::default());
            let mut tasks = self.tasks();
            async move { tasks.list(request).await }
        });
        let (containers, tasks) = tokio::try_join!(containers, tasks)
            .map_err(|status| self.error("list containers of", &self.config().namespace, status))?;
        let states: BTreeMap<&str, TaskState> =
            tasks.tasks.iter().map(|task| (task.id.as_str(), state_of(task))).collect();
        let mut found: Vec<Found> = containers
            .containers
            .into_iter()
            .map(|container| Found {
                task: states.get(container.id.as_str()).copied().unwrap_or(TaskState::None),
                id: ContainerId::from(container.id),
                labels: container.labels.into_iter().collect(),
                image: container.image,
            })
            .collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }
}

fn command(new: &NewContainer) -> &str {
    let args = new.spec.process().as_ref().and_then(|process| process.args().as_ref());
    args.and_then(|args| args.first()).map(String::as_str).unwrap_or_default()
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
        ProcessStatus::Unknown => TaskState::None,
    }
}

/// containerd's time; zero if it gave none.
pub(crate) fn timestamp(time: Option<prost_types::Timestamp>) -> Timestamp {
    let time = time.unwrap_or_default();
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    let millis = u64::try_from(time.nanos / 1_000_000).unwrap_or(0);
    Timestamp(seconds.saturating_mul(1000).saturating_add(millis))
}
