//! The runtime as the shim sees it: a link to mill named `runc-…` that becomes the real runc.
//!
//! Owns where the real one is found, and how a program gets its secret variables: they are put into
//! what runc reads, in memory, since containerd keeps what it is told on the disk. Runs before
//! anything that takes time or memory: each container pays for it several times. Never stays a
//! process of its own.

use super::secrets::ENV_FILE;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::IntoRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use zeroize::Zeroizing;

/// What the name of a link starts with that makes mill the runtime.
pub const PREFIX: &str = "runc-";

/// The folder of secrets beside an instance's other running things.
pub const SECRETS: &str = "secrets";

/// Where programs are installed if `PATH` doesn't lead to them.
pub(crate) const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The exit code of a shell for a program that isn't there.
const NOT_FOUND: u8 = 127;

/// Whether the process was called as the runtime; `name` is its first argument, `argv[0]`.
#[must_use]
pub fn is_called(name: &OsStr) -> bool {
    let file = Path::new(name).file_name().and_then(OsStr::to_str);
    file.is_some_and(|file| file.starts_with(PREFIX))
}

/// Becomes the real runc with the same arguments (those after `argv[0]`), but for where it reads
/// what has secrets in it. Returns only if that fails.
#[must_use]
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(runc) = find("runc", &path).or_else(|| find("runc", USUAL.as_ref())) else {
        // The shim reads the reason from here.
        eprintln!("runc isn't installed. Run: apt-get install runc");
        return ExitCode::from(NOT_FOUND);
    };
    let mut args: Vec<OsString> = args.collect();
    super::secrets::keep_from_dumps();
    if let Err(error) = with_secrets(&mut args) {
        eprintln!("the container's secrets can't be handed over: {error}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(&runc).args(args).exec();
    eprintln!("can't run {}: {error}", runc.display());
    ExitCode::from(NOT_FOUND)
}

/// The first program of that name in a list of folders like `PATH`.
#[must_use]
pub fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Lets runc read a description with the container's secret variables, where it has some.
fn with_secrets(args: &mut [OsString]) -> io::Result<()> {
    let Some(folder) = folder_of(args) else { return Ok(()) };
    let env = match std::fs::read(folder.join(ENV_FILE)) {
        Ok(env) => Zeroizing::new(env),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if args.iter().any(|arg| arg == "create") {
        let Some(at) = value_of(args, "--bundle") else { return Ok(()) };
        args[at] = bundle(Path::new(&args[at]), &folder, &env)?.into();
    } else if args.iter().any(|arg| arg == "exec") {
        let Some(at) = value_of(args, "--process") else { return Ok(()) };
        args[at] = process(Path::new(&args[at]), &env)?.into();
    }
    Ok(())
}

/// Where the container's secrets would be: runc's root tells the instance, the last argument the
/// container.
fn folder_of(args: &[OsString]) -> Option<PathBuf> {
    let root = Path::new(&args[value_of(args, "--root")?]);
    let named = |part: &&Path| {
        let name = part.file_name().and_then(OsStr::to_str);
        name.is_some_and(|name| name.starts_with(PREFIX))
    };
    let own = root.ancestors().find(named)?;
    let instance = own.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    let id = args.last()?;
    let is_name = !id.as_bytes().contains(&b'/') && !id.as_bytes().starts_with(b".");
    is_name.then(|| own.parent().map(|run| run.join(instance).join(SECRETS).join(id)))?
}

/// The index of a flag's value.
fn value_of(args: &[OsString], flag: &str) -> Option<usize> {
    let at = args.iter().position(|arg| arg == flag)? + 1;
    (at < args.len()).then_some(at)
}

/// A bundle in memory like the one that is given, with the variables.
fn bundle(given: &Path, folder: &Path, env: &[u8]) -> io::Result<PathBuf> {
    let mut spec: Value = serde_json::from_slice(&std::fs::read(given.join("config.json"))?)?;
    add(spec.pointer_mut("/process/env"), env)?;
    if let Some(root) = spec.pointer_mut("/root/path")
        && let Some(path) = root.as_str()
    {
        *root = given.join(path).to_string_lossy().into_owned().into();
    }
    let bundle = folder.join("bundle");
    match DirBuilder::new().mode(0o700).create(&bundle) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
    let mut file = options.open(bundle.join("config.json"))?;
    file.write_all(&Zeroizing::new(serde_json::to_vec(&spec)?))?;
    Ok(bundle)
}

/// A process in memory like the one that is given, with the variables.
fn process(given: &Path, env: &[u8]) -> io::Result<PathBuf> {
    let mut process: Value = serde_json::from_slice(&std::fs::read(given)?)?;
    add(process.pointer_mut("/env"), env)?;
    let memory = memfd_create(c"mill-process", MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(&Zeroizing::new(serde_json::to_vec(&process)?))?;
    // runc inherits it and opens it by its path; it closes it before the program starts.
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(PathBuf::from(format!("/proc/self/fd/{}", file.into_raw_fd())))
}

/// Adds variables, each ended by a NUL, to a list of `NAME=VALUE`.
fn add(list: Option<&mut Value>, env: &[u8]) -> io::Result<()> {
    let Some(list) = list.and_then(Value::as_array_mut) else {
        return Err(io::Error::other("the runtime's description has no variables"));
    };
    for variable in env.split(|byte| *byte == 0).filter(|variable| !variable.is_empty()) {
        let text = std::str::from_utf8(variable).map_err(io::Error::other)?;
        list.push(text.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn only_links_with_the_prefix_are_the_runtime() {
        assert!(is_called(OsStr::new("/var/lib/mill/bin/runc-1aa0")));
        assert!(!is_called(OsStr::new("/usr/bin/mill")) && !is_called(OsStr::new("/x/runc-/mill")));
    }

    #[test]
    fn a_container_s_secrets_are_found_by_the_root_and_its_name() {
        let folder = |text: &str| folder_of(&args(text));
        let given = "--root /run/mill/runc-0a1b/mill-0a1b --log x create --bundle /b web-0-a.1";
        assert_eq!(folder(given), Some("/run/mill/0a1b/secrets/web-0-a.1".into()));
        assert_eq!(folder("--root /run/containerd/runc/k8s.io create --bundle /b x"), None);
        assert_eq!(folder("--root /run/mill/runc-0a1b/n state ../../x"), None);
        assert_eq!(folder("--version"), None);
    }

    #[test]
    fn what_runc_reads_has_the_variables_and_the_given_bundle_has_not() {
        let place = tempfile::tempdir().unwrap();
        let [given, run] = ["given", "run"].map(|name| place.path().join(name));
        let root = run.join("runc-0a1b/ns");
        let folder = run.join("0a1b/secrets/web.1");
        for path in [&given, &root, &folder] {
            std::fs::create_dir_all(path).unwrap();
        }
        let config = r#"{"process": {"env": ["A=1"]}, "root": {"path": "rootfs"}}"#;
        std::fs::write(given.join("config.json"), config).unwrap();
        std::fs::write(given.join("process.json"), r#"{"env": ["A=1"]}"#).unwrap();
        let text = format!("--root {} create --bundle {} web.1", root.display(), given.display());
        let mut without = args(&text);
        with_secrets(&mut without).unwrap();
        assert_eq!(without, args(&text), "it has none");
        std::fs::write(folder.join(ENV_FILE), b"PASSWORD=hunter=2\0B=two lines\n\0").unwrap();
        let mut with = args(&text);
        with_secrets(&mut with).unwrap();
        let bundle = folder.join("bundle");
        assert_eq!(Path::new(&with[4]), bundle);
        let read = std::fs::read(bundle.join("config.json")).unwrap();
        let read: Value = serde_json::from_slice(&read).unwrap();
        let env = serde_json::json!(["A=1", "PASSWORD=hunter=2", "B=two lines\n"]);
        assert_eq!(read["process"]["env"], env);
        assert_eq!(read["root"]["path"], given.join("rootfs").to_str().unwrap());
        assert_eq!(std::fs::read_to_string(given.join("config.json")).unwrap(), config);
        let file = given.join("process.json");
        let mut exec =
            args(&format!("--root {} exec --process {} web.1", root.display(), file.display()));
        with_secrets(&mut exec).unwrap();
        let read: Value = serde_json::from_slice(&std::fs::read(&exec[4]).unwrap()).unwrap();
        assert_eq!(read["env"], env);
    }
}
