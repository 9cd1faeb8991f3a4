//! A container's life: made, started, signalled, ended, removed.
//!
//! Never keeps anything in memory: containerd's own records are the truth.

use super::client::{allow, retry};
use super::error::start_error;
use super::look::timestamp;
use super::options::RuncOptions;
use super::status::{is_away, is_unclear};
use super::{Containerd, Error, Exit, NewContainer, SNAPSHOTTER, TaskState, host};
use crate::id::ContainerId;
use crate::limits;
use containerd_client::services::v1 as api;
use containerd_client::types::Mount;
use tonic::Code;

const RUNTIME: &str = "io.containerd.runc.v2";
const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";
const SIGKILL: u32 = 9;

impl Containerd {
    /// Makes a container: record, snapshot, and the process up to just before its program.
    ///
    /// What exists already under this name is kept. A failure leaves nothing behind. Returns the
    /// process id on the host.
    ///
    /// # Errors
    /// The image's snapshot is gone, the program isn't in the image, the disk is full, …
    pub async fn create(&self, new: &NewContainer) -> Result<u32, Error> {
        let (this, new) = (self.clone(), new.clone());
        self.alone(&new.id.clone(), async move { this.create_now(&new).await }).await
    }

    async fn create_now(&self, new: &NewContainer) -> Result<u32, Error> {
        let fresh = self.create_record(new).await?;
        let made = self.create_task(new).await;
        if let Err(failure) = &made
            && fresh
            && !matches!(failure, Error::Away { .. })
            && let Err(error) = self.delete_now(&new.id).await
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
                    TaskState::Unknown => Err(Error::Silent { id: new.id.to_string() }),
                    TaskState::None | TaskState::Stopped(_) => {
                        Err(self.error("make task", new.id.as_str(), status))
                    }
                }
            }
            Err(status) if is_unclear(&status) => {
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
        let (this, of) = (self.clone(), id.clone());
        self.alone(id, async move { this.start_now(&of).await }).await
    }

    async fn start_now(&self, id: &ContainerId) -> Result<u32, Error> {
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
            _ if is_unclear(&status) => Err(self.error("start", id.as_str(), status)),
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

    /// Removes a container with everything it had: a process that still runs is killed, then task,
    /// record and snapshot go. Nothing there is success. Returns how the process ended, if known.
    ///
    /// # Errors
    /// containerd doesn't answer, or the process doesn't die.
    pub async fn delete(&self, id: &ContainerId) -> Result<Option<Exit>, Error> {
        let (this, of) = (self.clone(), id.clone());
        self.alone(id, async move { this.delete_now(&of).await }).await
    }

    async fn delete_now(&self, id: &ContainerId) -> Result<Option<Exit>, Error> {
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
}

fn command(new: &NewContainer) -> &str {
    let args = new.spec.process().as_ref().and_then(|process| process.args().as_ref());
    args.and_then(|args| args.first()).map(String::as_str).unwrap_or_default()
}
