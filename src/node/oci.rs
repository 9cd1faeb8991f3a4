//! Pure conversion: a specification and an image's configuration become an OCI runtime spec.
//!
//! Owns what a container may do by default: capabilities, system calls, hidden paths, ceilings.
//! Never touches a container, a file or a registry; the shell reads and passes the text in.

pub mod challenge;
pub mod docker_config;
pub mod image;
mod platform;
pub mod pull;
mod search;
pub mod seccomp;
mod spec;
pub mod user;

pub use image::{ImageConfig, ImageFile, Index, Manifest};
pub use platform::Platform;
pub use search::{Candidate, Search, Unfound};
pub use spec::{BindMount, CgroupVersion, Context, SpecError, runtime_spec};
pub use user::{Account, UserError, resolve_user};

use crate::spec::model::{EnvPart, RunSpec, StopSpec};
use std::collections::BTreeMap;

/// The signal a container gets when neither the file nor the image names one.
pub const DEFAULT_STOP_SIGNAL: u32 = 15;

/// What is run: ENTRYPOINT and CMD, replaced by `command`, or CMD alone by `args`.
///
/// Empty if nobody says what to run.
#[must_use]
pub fn argv(run: &RunSpec, image: &ImageConfig) -> Vec<String> {
    if !run.command.is_empty() {
        return [run.command.as_slice(), run.args.as_slice()].concat();
    }
    let rest = if run.args.is_empty() { &image.cmd } else { &run.args };
    [image.entrypoint.as_slice(), rest.as_slice()].concat()
}

/// The file's variables, when all of them are plain text; otherwise the name of the first that
/// refers to a service or a secret.
///
/// # Errors
/// The name of the variable that isn't plain text.
pub fn plain_env(run: &RunSpec) -> Result<BTreeMap<String, String>, String> {
    let text = |part: &EnvPart| match part {
        EnvPart::Text(text) => Some(text.clone()),
        EnvPart::Service(_) | EnvPart::Secret(_) => None,
    };
    run.env
        .iter()
        .map(|(name, value)| {
            let parts: Option<String> = value.0.iter().map(text).collect();
            parts.map(|value| (name.clone(), value)).ok_or_else(|| name.clone())
        })
        .collect()
}

/// The number of the signal that asks a container to end: the file's, else the image's, else
/// SIGTERM. A name that no signal has counts as absent.
#[must_use]
pub fn stop_signal(stop: &StopSpec, image: &ImageConfig) -> u32 {
    let named = |name: &Option<String>| name.as_deref().and_then(signal_number);
    named(&stop.signal).or_else(|| named(&image.stop_signal)).unwrap_or(DEFAULT_STOP_SIGNAL)
}

/// The number of a signal given as `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`; numbers of Linux on
/// x86-64 and aarch64.
#[must_use]
pub fn signal_number(name: &str) -> Option<u32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    const RTMIN: u32 = 34;
    const RTMAX: u32 = 64;
    if let Ok(number) = name.parse::<u32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(rest) = short.strip_prefix("RTMIN") {
        let offset = if rest.is_empty() { 0 } else { rest.strip_prefix('+')?.parse().ok()? };
        return RTMIN.checked_add(offset).filter(|number| *number <= RTMAX);
    }
    if let Some(rest) = short.strip_prefix("RTMAX") {
        let offset = if rest.is_empty() { 0 } else { rest.strip_prefix('-')?.parse().ok()? };
        return RTMAX.checked_sub(offset).filter(|number| *number >= RTMIN);
    }
    let position = NAMES.iter().position(|known| *known == short)?;
    u32::try_from(position + 1).ok()
}

#[cfg(test)]
mod tests;
