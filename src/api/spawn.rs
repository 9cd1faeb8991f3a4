//! A request for a run of a task, as the command that it becomes.
//!
//! Owns the checks of a request. Never resolves an image itself and never proposes.

use super::wire::SpawnRequest;
use crate::fsm::command::Spawned;
use crate::id::WorkloadName;
use crate::limits;
use crate::spec::image::{Reference, ReferenceError};
use crate::spec::model::{EnvPart, EnvValue, RunSpec, StopSpec, TaskSpec};
use crate::units::{Bytes, MilliCpu, Millis};
use std::collections::BTreeMap;

/// Why a request makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpawnError {
    /// Neither or both.
    #[error("name either a task or an image")]
    What,
    /// What only an image can have.
    #[error("{field} is the file's where a task is named")]
    Fixed { field: &'static str },
    /// Not an image.
    #[error("image {image:?}: {source}")]
    Image {
        /// As given.
        image: String,
        source: ReferenceError,
    },
    /// Not a variable.
    #[error("env {name:?}: {why}")]
    Env { name: String, why: &'static str },
    /// Out of bounds.
    #[error("{field} must be {bounds}")]
    Bounds {
        field: &'static str,
        /// What it may be.
        bounds: &'static str,
    },
}

/// Checks a request. An image is not pinned yet.
///
/// # Errors
/// What is wrong with it.
pub fn read(request: SpawnRequest) -> Result<Spawned, SpawnError> {
    check_env(&request.env)?;
    match (request.task, request.image) {
        (Some(task), None) => {
            let fixed = [
                ("command", request.command.is_some()),
                ("cpu", request.cpu.is_some()),
                ("memory", request.memory.is_some()),
                ("timeout", request.timeout.is_some()),
            ];
            match fixed.iter().find(|(_, given)| *given) {
                Some((field, _)) => Err(SpawnError::Fixed { field }),
                None => Ok(Spawned::Task { name: task.into(), env: request.env }),
            }
        }
        (None, Some(image)) => {
            let parsed = Reference::parse(&image);
            let reference =
                parsed.map_err(|source| SpawnError::Image { image: image.clone(), source })?;
            let wrong =
                |(n, word): (usize, &String)| n == 0 && word.is_empty() || word.contains('\0');
            if request.command.iter().flatten().enumerate().any(wrong) {
                let (field, bounds) = ("command", "a program with its arguments");
                return Err(SpawnError::Bounds { field, bounds });
            }
            let name = name_of(&reference.repository);
            let run = RunSpec {
                command: request.command.unwrap_or_default(),
                cpu: request.cpu.map(cores).transpose()?,
                memory: memory(request.memory)?,
                env: request.env.into_iter().map(|(name, text)| (name, plain(text))).collect(),
                ..RunSpec::of(image)
            };
            let timeout = timeout(request.timeout)?;
            let stop = StopSpec { signal: None, grace: Millis::secs(10) };
            let spec = Box::new(TaskSpec { run, timeout, schedule: None, stop });
            Ok(Spawned::Image { name, spec })
        }
        _ => Err(SpawnError::What),
    }
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), SpawnError> {
    for (name, value) in env {
        let bad = |why| Err(SpawnError::Env { name: name.clone(), why });
        if name.is_empty() || name.contains(['=', '\0']) {
            return bad("is no name of a variable");
        }
        if name.starts_with("MILL_") {
            return bad("MILL_ is what mill itself sets");
        }
        if value.contains('\0') || name.len() + value.len() >= limits::ARG_MAX {
            return bad("its value can't be given to a program");
        }
    }
    Ok(())
}

fn cores(cores: f64) -> Result<MilliCpu, SpawnError> {
    let most = limits::CPU_MAX_MILLI as f64 / 1000.0;
    if (0.001..=most).contains(&cores) {
        return Ok(MilliCpu((cores * 1000.0).round() as u64));
    }
    Err(SpawnError::Bounds { field: "cpu", bounds: "0.001 to 1024 cores" })
}

fn memory(bytes: Option<u64>) -> Result<Bytes, SpawnError> {
    let bytes = bytes.unwrap_or(RunSpec::DEFAULT_MEMORY.0);
    if (limits::MEMORY_MIN..=limits::SIZE_MAX).contains(&bytes) {
        return Ok(Bytes(bytes));
    }
    Err(SpawnError::Bounds { field: "memory", bounds: "4000000 bytes (4M) or more" })
}

fn timeout(seconds: Option<f64>) -> Result<Millis, SpawnError> {
    let Some(seconds) = seconds else { return Ok(Millis::secs(3600)) };
    let most = limits::SPAN_MAX_MS as f64 / 1000.0;
    if (1.0..=most).contains(&seconds) {
        return Ok(Millis((seconds * 1000.0) as u64));
    }
    Err(SpawnError::Bounds { field: "timeout", bounds: "1 second to 366 days" })
}

fn plain(text: String) -> EnvValue {
    EnvValue(if text.is_empty() { vec![] } else { vec![EnvPart::Text(text)] })
}

/// The last part of an image's path, as a name.
fn name_of(repository: &str) -> WorkloadName {
    let last = repository.rsplit('/').next().unwrap_or_default();
    let fitting = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = last.chars().map(fitting).take(limits::NAME_MAX).collect();
    let name = name.trim_matches('-');
    WorkloadName::from(if name.is_empty() { "task" } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(image: &str) -> SpawnRequest {
        SpawnRequest { image: Some(image.to_owned()), ..SpawnRequest::default() }
    }

    fn env(name: &str) -> SpawnRequest {
        let env = BTreeMap::from([(name.to_owned(), "v".to_owned())]);
        SpawnRequest { env, ..image("busybox") }
    }

    #[yare::parameterized(
        nothing = { SpawnRequest::default(), "name either a task or an image" },
        both = { SpawnRequest { task: Some("t".into()), ..image("i") }, "name either" },
        fixed = {
            SpawnRequest { task: Some("t".into()), cpu: Some(1.0), ..SpawnRequest::default() },
            "cpu is the file's where a task is named"
        },
        no_image = { image("a b"), "image \"a b\"" },
        own = { env("MILL_NODE"), "env \"MILL_NODE\": MILL_ is what mill itself sets" },
        unnamed = { env(""), "is no name of a variable" },
        no_memory = { SpawnRequest { memory: Some(1), ..image("i") }, "memory must be 4000000" },
        no_cpu = { SpawnRequest { cpu: Some(f64::NAN), ..image("i") }, "cpu must be 0.001" },
        no_program = { SpawnRequest { command: Some(vec![String::new()]), ..image("i") },
            "command must be a program" },
        no_time = { SpawnRequest { timeout: Some(0.5), ..image("i") }, "timeout must be 1 second" },
    )]
    fn what_makes_no_sense_is_refused(request: SpawnRequest, why: &str) {
        let text = read(request).unwrap_err().to_string();
        assert!(text.contains(why), "{text}");
    }

    #[test]
    fn an_image_is_named_by_the_last_part_of_its_path() {
        for (reference, name) in [
            ("busybox", "busybox"),
            ("127.0.0.1:5000/team/my_app:v1", "my-app"),
            ("registry.example.com/a/b.c:v2", "b-c"),
        ] {
            assert_eq!(read(image(reference)).unwrap().name().as_str(), name, "{reference}");
        }
    }
}
