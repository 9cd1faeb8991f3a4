//! Further processes in a container that runs: made, started, resized, signalled, removed.
//!
//! Never opens the pipes that such a process reads and writes: who asks for it does.

use super::client::{allow, retry};
use super::error::start_error;
use super::status::is_unclear;
use super::{Containerd, Error, Exit, TaskState};
use crate::id::ContainerId;
use crate::limits;
use containerd_client::services::v1 as api;
use oci_spec::runtime::{Process, Spec};
use std::path::{Path, PathBuf};
use tonic::Code;

const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// A process to be made beside a container's first one.
#[derive(Clone, Debug)]
pub struct NewExec {
    /// In which container.
    pub container: ContainerId,
    /// Its name, distinct within the container.
    pub exec: String,
    /// What it runs, as whom, where.
    pub process: Process,
    /// The pipe that it reads; absent: nothing.
    pub stdin: Option<PathBuf>,
    /// The pipe that it writes.
    pub stdout: PathBuf,
    /// The pipe for its errors; absent with a terminal, which has one output.
    pub stderr: Option<PathBuf>,
}

impl Containerd {
    /// What a container's first process is: its user, environment, folder and rights.
    ///
    /// # Errors
    /// There is no such container.
    pub async fn process_of(&self, id: &ContainerId) -> Result<Process, Error> {
        let found = retry(|| {
            let request = self.request(api::GetContainerRequest { id: id.to_string() });
            let mut containers = self.containers();
            async move { containers.get(request).await }
        })
        .await;
        let gone = || Error::NotRunning { id: id.to_string() };
        let found = allow(found, &[Code::NotFound])
            .map_err(|status| self.error("look at", id.as_str(), status))?;
        let spec = found.and_then(|found| found.container?.spec).ok_or_else(gone)?;
        let spec: Spec = serde_json::from_slice(&spec.value)?;
        spec.process().clone().ok_or_else(gone)
    }

    /// Makes the process, up to just before its program.
    ///
    /// # Errors
    /// The container doesn't run.
    pub async fn exec_create(&self, new: &NewExec) -> Result<(), Error> {
        let text = |path: &Option<PathBuf>| path.as_deref().map(name).unwrap_or_default();
        let request = api::ExecProcessRequest {
            container_id: new.container.to_string(),
            stdin: text(&new.stdin),
            stdout: name(&new.stdout),
            stderr: text(&new.stderr),
            terminal: new.process.terminal().unwrap_or(false),
            spec: Some(prost_types::Any {
                type_url: PROCESS_TYPE.to_owned(),
                value: serde_json::to_vec(&new.process)?,
            }),
            exec_id: new.exec.clone(),
        };
        let made = retry(|| {
            let request = self.request(request.clone());
            let mut tasks = self.tasks();
            async move { tasks.exec(request).await }
        })
        .await;
        match made {
            Ok(()) => Ok(()),
            // The answer to an earlier try was lost: the name is ours alone.
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => Err(self.refused(&new.container, "make a process in", status).await),
        }
    }

    /// Starts its program; gives the process id on the host.
    ///
    /// # Errors
    /// The program isn't there or can't be executed, or the container doesn't run.
    pub async fn exec_start(
        &self,
        container: &ContainerId,
        exec: &str,
        command: &str,
    ) -> Result<u32, Error> {
        let started = retry(|| {
            let request = self.request(api::StartRequest {
                container_id: container.to_string(),
                exec_id: exec.to_owned(),
            });
            let mut tasks = self.tasks();
            async move { tasks.start(request).await }
        })
        .await;
        let status = match started {
            Ok(started) => return Ok(started.pid),
            Err(status) => status,
        };
        if let Ok(TaskState::Running { pid }) = self.process_state(container, exec).await {
            // The answer to an earlier try was lost.
            return Ok(pid);
        }
        if is_unclear(&status) || is_over(self.task(container).await?) {
            return Err(self.refused(container, "start a process in", status).await);
        }
        Err(start_error(command, status.message()))
    }

    /// Waits until the process has ended; `None` if there is no such process any more.
    ///
    /// # Errors
    /// containerd refuses to say.
    pub async fn exec_wait(
        &self,
        container: &ContainerId,
        exec: &str,
    ) -> Result<Option<Exit>, Error> {
        self.wait_for(container, exec).await
    }

    /// How the process stands; asked again for as long as nobody says so.
    ///
    /// # Errors
    /// containerd refuses to say.
    pub async fn exec_state(
        &self,
        container: &ContainerId,
        exec: &str,
    ) -> Result<TaskState, Error> {
        loop {
            match self.process_state(container, exec).await {
                Ok(TaskState::Unknown) => {}
                Err(error) if error.is_unclear() => {}
                told => return told,
            }
            tokio::time::sleep(limits::CONTAINERD_LOOK_AGAIN).await;
        }
    }

    /// Kills the process with whatever it has started and not let go.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn exec_kill(&self, container: &ContainerId, exec: &str) -> Result<(), Error> {
        const SIGKILL: u32 = 9;
        let mut state = self.process_state(container, exec).await?;
        for _ in 0..limits::EXEC_START_LOOKS {
            // Its start is under way: killed now, what it starts meanwhile would stay.
            if !matches!(state, TaskState::Created { .. }) {
                break;
            }
            tokio::time::sleep(limits::CONTAINERD_RETRY[0]).await;
            state = self.process_state(container, exec).await?;
        }
        if let TaskState::Running { pid } = state
            && let Ok(pid) = i32::try_from(pid)
            && pid > 1
        {
            // The runtime makes it the leader of a group of its own. It may end at any moment.
            let group = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        }
        self.signal(container, exec, SIGKILL).await
    }

    /// Removes what is kept of a process that has ended, or was never started.
    ///
    /// # Errors
    /// It runs, or containerd doesn't answer.
    pub async fn exec_delete(&self, container: &ContainerId, exec: &str) -> Result<(), Error> {
        let deleted = retry(|| {
            let request = self.request(api::DeleteProcessRequest {
                container_id: container.to_string(),
                exec_id: exec.to_owned(),
            });
            let mut tasks = self.tasks();
            async move { tasks.delete_process(request).await }
        })
        .await;
        allow(deleted, &[Code::NotFound])
            .map(drop)
            .map_err(|status| self.error("remove a process of", container.as_str(), status))
    }

    /// Tells the process's terminal its size.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn exec_resize(
        &self,
        container: &ContainerId,
        exec: &str,
        [width, height]: [u16; 2],
    ) -> Result<(), Error> {
        let resized = retry(|| {
            let request = self.request(api::ResizePtyRequest {
                container_id: container.to_string(),
                exec_id: exec.to_owned(),
                width: width.into(),
                height: height.into(),
            });
            let mut tasks = self.tasks();
            async move { tasks.resize_pty(request).await }
        })
        .await;
        allow(resized, &[Code::NotFound, Code::FailedPrecondition])
            .map(drop)
            .map_err(|status| self.error("resize the terminal of", container.as_str(), status))
    }

    /// Closes the runtime's end of the pipe that the process reads.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn exec_close_stdin(&self, container: &ContainerId, exec: &str) -> Result<(), Error> {
        let closed = retry(|| {
            let request = self.request(api::CloseIoRequest {
                container_id: container.to_string(),
                exec_id: exec.to_owned(),
                stdin: true,
            });
            let mut tasks = self.tasks();
            async move { tasks.close_io(request).await }
        })
        .await;
        allow(closed, &[Code::NotFound, Code::FailedPrecondition])
            .map(drop)
            .map_err(|status| self.error("close the input of", container.as_str(), status))
    }

    /// A refusal, told as that of a container which doesn't run where that is the reason.
    async fn refused(
        &self,
        container: &ContainerId,
        doing: &'static str,
        status: tonic::Status,
    ) -> Error {
        if !is_unclear(&status) && matches!(self.task(container).await, Ok(task) if is_over(task)) {
            return Error::NotRunning { id: container.to_string() };
        }
        self.error(doing, container.as_str(), status)
    }
}

/// Whether containerd says that a container's program doesn't run.
fn is_over(task: TaskState) -> bool {
    !matches!(task, TaskState::Running { .. } | TaskState::Unknown)
}

fn name(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
