//! Further processes in the node's containers: `mill exec` and probes by command.
//!
//! Owns their pipes and their end: a process that nobody holds any more is killed and removed, also
//! if it was left by an earlier life of the daemon. Never decides who may have one.

mod pipes;

use super::containerd::{Containerd, Error, NewExec, TaskState};
use super::transfer::Root;
use crate::id::ContainerId;
use crate::limits;
use oci_spec::runtime::{BoxBuilder, Process};
use pipes::{Tail, make_folder, readers, receiver, remove_folder, sender};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::Semaphore;

/// What this life's processes are called, so that those of an earlier one are known.
static LIFE: LazyLock<String> = LazyLock::new(|| format!("{:08x}", rand::random::<u32>()));
static NEXT: AtomicU64 = AtomicU64::new(0);
static STARTS: Semaphore = Semaphore::const_new(limits::EXEC_STARTS);

/// Between a container's name and a process's, in the name of its folder.
const BETWEEN: char = '+';

/// Why there is no such process.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// containerd, or the program itself.
    #[error(transparent)]
    Containerd(#[from] Error),
    #[error("can't make a pipe in {folder}", folder = folder.display())]
    Pipe {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What is run.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// It has a terminal of this size: columns and rows.
    pub terminal: Option<[u16; 2]>,
    /// It is given input.
    pub input: bool,
    /// What it writes on both outputs comes as one; so it is with a terminal.
    pub joined: bool,
}

/// How a probe ended, with the last of what it wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probed {
    /// By itself, with this code.
    Exited(u32, String),
    /// It was killed when its time was over.
    Late(String),
    /// The container has ended.
    Gone,
    /// Nobody says how it ended, though its container may run.
    Unknown,
}

/// The further processes of a node's containers.
#[derive(Clone, Debug)]
pub struct Execs {
    containerd: Containerd,
    folder: PathBuf,
}

/// A process that runs.
pub struct Running {
    /// What it reads; dropped it is not at its end yet, see [`Handle::end_input`].
    pub input: Option<Sender>,
    /// What it writes.
    pub output: Receiver,
    /// What it writes as errors, if that is apart.
    pub errors: Option<Receiver>,
    /// The process itself.
    pub handle: Handle,
}

/// A process besides its pipes. When it is dropped the process is killed and removed.
pub struct Handle(Traces);

/// Which process.
#[derive(Clone)]
struct Which {
    containerd: Containerd,
    container: ContainerId,
    exec: String,
}

/// What has to be removed of a process; done when it is dropped, if not before.
struct Traces {
    which: Which,
    folder: PathBuf,
}

impl Execs {
    /// Those with their pipes in that folder.
    #[must_use]
    pub fn new(containerd: Containerd, folder: PathBuf) -> Self {
        Self { containerd, folder }
    }

    /// Starts a program in a container, as its user and with its environment.
    ///
    /// # Errors
    /// The container doesn't run, or the program can't be executed.
    pub async fn start(
        &self,
        container: &ContainerId,
        program: &Program,
    ) -> Result<Running, ExecError> {
        let process = process(self.containerd.process_of(container).await?, program);
        let (this, container, program) = (self.clone(), container.clone(), program.clone());
        let begin = async move { this.begin(&container, process, &program).await };
        // A caller that goes meanwhile drops what comes of it, and that ends the process.
        self.containerd.whole(begin).await
    }

    /// Makes the pipes and starts it. The runtime waits for a reader of each, and the container
    /// with it: they are held until it has answered.
    async fn begin(
        &self,
        container: &ContainerId,
        process: Process,
        program: &Program,
    ) -> Result<Running, ExecError> {
        let exec = format!("{}-{}", *LIFE, NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = self.folder.join(format!("{container}{BETWEEN}{exec}"));
        let pipe = |source| ExecError::Pipe { folder: folder.clone(), source };
        make_folder(&folder).map_err(pipe)?;
        let traces = self.traces(container, &exec, &folder);
        let joined = program.joined || program.terminal.is_some();
        let input = program.input.then(|| sender(&folder.join("in"))).transpose().map_err(pipe)?;
        let output = receiver(&folder.join("out")).map_err(pipe)?;
        let errors = (!joined).then(|| receiver(&folder.join("err"))).transpose().map_err(pipe)?;
        let apart = if joined { "out" } else { "err" };
        let new = NewExec {
            container: container.clone(),
            exec,
            process,
            stdin: program.input.then(|| folder.join("in")),
            stdout: folder.join("out"),
            // A terminal has one output; without one both must be named.
            stderr: program.terminal.is_none().then(|| folder.join(apart)),
        };
        let started = {
            // It is never closed.
            let _place = STARTS.acquire().await;
            self.launch(&new, program).await
        };
        if let Err(error) = started {
            // Dropped it is tried again.
            let _ = traces.end().await;
            return Err(error.into());
        }
        Ok(Running { input, output, errors, handle: Handle(traces) })
    }

    async fn launch(&self, new: &NewExec, program: &Program) -> Result<(), Error> {
        self.containerd.exec_create(new).await?;
        let command = program.argv.first().map(String::as_str).unwrap_or_default();
        self.containerd.exec_start(&new.container, &new.exec, command).await?;
        if let Some(size) = program.terminal
            && let Err(error) = self.containerd.exec_resize(&new.container, &new.exec, size).await
        {
            // One that is quick has ended by now.
            tracing::debug!(%error, "a terminal keeps its size");
        }
        Ok(())
    }

    /// Runs a program to its end, at most for so long.
    ///
    /// # Errors
    /// As [`Execs::start`].
    pub async fn probe(
        &self,
        container: &ContainerId,
        argv: &[String],
        within: Duration,
    ) -> Result<Probed, ExecError> {
        let program = Program { argv: argv.to_vec(), joined: true, ..Program::default() };
        let mut running = self.start(container, &program).await?;
        let mut tail = Tail::default();
        let ended = {
            let wait = running.handle.wait();
            let both = async {
                tokio::pin!(wait);
                loop {
                    tokio::select! {
                        ended = &mut wait => return ended,
                        more = tail.read(&mut running.output) => if !more {
                            return wait.await;
                        },
                    }
                }
            };
            tokio::time::timeout(within, both).await
        };
        if matches!(ended, Ok(Ok(Some(_)))) {
            let rest = async { while tail.read(&mut running.output).await {} };
            // A child of it may hold the pipe for ever: what it wrote so far will do.
            let _ = tokio::time::timeout(limits::EXEC_DRAIN, rest).await;
        }
        let probed = match ended {
            Ok(ended) => running.handle.0.which.judge(ended?, tail.text()).await,
            Err(_) => running.handle.0.which.overdue(tail.text()).await?,
        };
        // What can't be removed now is tried again: it changes nothing about how it ended.
        let _ = running.handle.remove().await;
        Ok(probed)
    }

    /// The files of a container that runs; what is made in them belongs to its user.
    ///
    /// # Errors
    /// It doesn't run.
    pub async fn root(&self, container: &ContainerId) -> Result<Root, Error> {
        let gone = || Error::NotRunning { id: container.to_string() };
        let process = self.containerd.process_of(container).await?;
        let pid = match self.containerd.task(container).await? {
            TaskState::Running { pid } => pid,
            TaskState::Unknown => return Err(Error::Silent { id: container.to_string() }),
            _ => return Err(gone()),
        };
        let owner = [process.user().uid(), process.user().gid()];
        let root = Root::of(pid, owner).map_err(|_| gone())?;
        // Its number may have become another's before the root was held.
        match self.containerd.task(container).await? {
            TaskState::Running { pid: now } if now == pid => Ok(root),
            _ => Err(gone()),
        }
    }

    /// Kills and removes what an earlier life of the daemon left in a container.
    pub async fn repair(&self, container: &ContainerId) {
        let start = format!("{container}{BETWEEN}");
        for (name, folder) in self.folders() {
            let Some(exec) = name.strip_prefix(&start).filter(|e| !e.starts_with(&**LIFE)) else {
                continue;
            };
            // The runtime may wait for a reader since the earlier life has gone.
            let _readers = readers(&folder);
            // Dropped it is tried once more.
            if let Err(error) = self.traces(container, exec, &folder).end().await {
                tracing::warn!(%container, %error, "a process of an earlier life is left");
            }
        }
    }

    /// Removes the pipes of a container that is gone.
    pub fn forget(&self, container: &ContainerId) {
        let start = format!("{container}{BETWEEN}");
        for (_, folder) in self.folders().into_iter().filter(|(name, _)| name.starts_with(&start)) {
            remove_folder(&folder);
        }
    }

    fn traces(&self, container: &ContainerId, exec: &str, folder: &Path) -> Traces {
        let (container, exec) = (container.clone(), exec.to_owned());
        let which = Which { containerd: self.containerd.clone(), container, exec };
        Traces { which, folder: folder.to_owned() }
    }

    fn folders(&self) -> Vec<(String, PathBuf)> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter_map(|e| Some((e.file_name().into_string().ok()?, e.path()))).collect()
    }
}

impl Handle {
    /// Waits for its end; gives its code, or nothing if its container has gone.
    ///
    /// # Errors
    /// containerd refuses to say.
    pub fn wait(&self) -> impl Future<Output = Result<Option<u32>, ExecError>> + Send + 'static {
        let Which { containerd, container, exec } = self.0.which.clone();
        async move { Ok(containerd.exec_wait(&container, &exec).await?.map(|exit| exit.code)) }
    }

    /// Tells its terminal the size: columns and rows.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn resize(&self, size: [u16; 2]) -> Result<(), ExecError> {
        let Which { containerd, container, exec } = &self.0.which;
        Ok(containerd.exec_resize(container, exec, size).await?)
    }

    /// Nothing more comes for it to read; the caller has dropped its end of the pipe.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn end_input(&self) -> Result<(), ExecError> {
        let Which { containerd, container, exec } = &self.0.which;
        Ok(containerd.exec_close_stdin(container, exec).await?)
    }

    /// Kills it if it runs, and removes what is kept of it.
    ///
    /// # Errors
    /// containerd doesn't answer.
    pub async fn remove(self) -> Result<(), ExecError> {
        self.0.end().await
    }
}

impl Which {
    /// How a process ended with that code, or what it means that nobody knows it.
    async fn judge(&self, code: Option<u32>, output: String) -> Probed {
        match code {
            Some(code) => Probed::Exited(code, output),
            None => match self.containerd.task(&self.container).await {
                Ok(TaskState::None | TaskState::Stopped(_)) => Probed::Gone,
                _ => Probed::Unknown,
            },
        }
    }

    /// How a process stands whose time is over: it may have ended without anybody saying so.
    async fn overdue(&self, output: String) -> Result<Probed, Error> {
        Ok(match self.containerd.exec_state(&self.container, &self.exec).await? {
            TaskState::Stopped(exit) => Probed::Exited(exit.code, output),
            TaskState::Created { .. } | TaskState::Running { .. } => Probed::Late(output),
            TaskState::None | TaskState::Unknown => self.judge(None, output).await,
        })
    }

    /// Ends it; asked again where nobody says whether it is gone.
    async fn end_surely(&self) -> Result<(), Error> {
        for _ in 1..limits::EXEC_END_TRIES {
            match self.end().await {
                Err(error) if error.is_unclear() => tokio::time::sleep(limits::PROBE_AGAIN).await,
                told => return told,
            }
        }
        self.end().await
    }

    async fn end(&self) -> Result<(), Error> {
        let Self { containerd, container, exec } = self;
        if containerd.exec_delete(container, exec).await.is_err() {
            // It says so in several ways, but a process that runs is the usual reason.
            containerd.exec_kill(container, exec).await?;
            let gone = containerd.exec_wait(container, exec);
            if let Ok(ended) = tokio::time::timeout(limits::KILL_DEADLINE, gone).await {
                ended?;
            }
            containerd.exec_delete(container, exec).await?;
        }
        Ok(())
    }
}

impl Traces {
    async fn end(&self) -> Result<(), ExecError> {
        let which = self.which.clone();
        self.which.containerd.whole(async move { which.end().await }).await?;
        remove_folder(&self.folder);
        Ok(())
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if !self.folder.exists() {
            return;
        }
        let (which, folder) = (self.which.clone(), self.folder.clone());
        // A runtime that did not answer in time may begin with it only now.
        let held = readers(&folder);
        self.which.containerd.aside(async move {
            let _held = held;
            match which.end_surely().await {
                Ok(()) => remove_folder(&folder),
                Err(error) => {
                    tracing::warn!(container = %which.container, %error, "a process is left");
                }
            }
        });
    }
}

/// The container's own process with another program.
fn process(mut process: Process, program: &Program) -> Process {
    process.set_args(Some(program.argv.clone()));
    process.set_terminal(Some(program.terminal.is_some()));
    process.set_console_size(None);
    if let Some([width, height]) = program.terminal {
        // A program may ask for it before a resize could come.
        let size = BoxBuilder::default().width(width).height(height).build();
        process.set_console_size(size.ok());
        let mut env = process.env().clone().unwrap_or_default();
        if !env.iter().any(|variable| variable.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        process.set_env(Some(env));
    }
    process
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_its_size_from_the_start() {
        let program = Program { terminal: Some([90, 30]), ..Program::default() };
        let made = serde_json::to_value(process(Process::default(), &program)).unwrap();
        let size = serde_json::json!({ "width": 90, "height": 30 });
        assert_eq!((&made["consoleSize"], &made["terminal"]), (&size, &true.into()));
        let plain = process(Process::default(), &Program::default());
        assert!(plain.console_size().is_none() && plain.terminal() == Some(false));
    }
}
