//! `mill install`: the daemon as a service of systemd.
//!
//! Owns the unit and where the files go. Never touches a node's data.

use super::{Context, error::CliError};
use argh::{ArgsInfo, FromArgs};
use serde::Serialize;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const UNIT: &str = "etc/systemd/system/mill.service";
const SETTINGS: &str = "etc/mill/mill.env";
const BINARY: &str = "usr/local/bin/mill";
/// Only a host whose first process is systemd has it.
const SYSTEMD: &str = "/run/systemd/system";

/// What a new settings file says; every line of it is a comment.
const SETTINGS_TEXT: &str = "\
# Settings of mill daemon, one a line: MILL_ and the flag's name in capitals (mill daemon --help).
# After a change: systemctl restart mill
#MILL_DATA_DIR=/var/lib/mill
#MILL_API=127.0.0.1:4400
#MILL_PEER=0.0.0.0:4401
#MILL_LOG=info
";

/// Install mill as a systemd service: the program, the unit, a file for its settings.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand, name = "install", help_triggers("-h", "--help"), example = "sudo mill install")]
pub struct InstallArgs {
    /// only print the unit
    #[argh(switch)]
    pub print: bool,
    /// install and enable, but don't start
    #[argh(switch)]
    pub no_start: bool,
    /// install below this directory, as into the image of a machine; starts nothing
    #[argh(option)]
    pub root: Option<PathBuf>,
}

/// What was installed.
#[derive(Debug, Serialize)]
struct Installed {
    unit: PathBuf,
    binary: PathBuf,
    settings: PathBuf,
    started: bool,
}

/// The unit. The proxy's listeners are kept over a restart, so that no client is refused meanwhile.
/// Containers outlive the daemon, so that only its own process is ever stopped, and its
/// control group is its own to divide.
fn unit(binary: &Path) -> String {
    format!(
        "\
[Unit]
Description=mill, a container orchestrator
After=network-online.target containerd.service
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
EnvironmentFile=-/{SETTINGS}
ExecStart={} daemon
Restart=always
RestartSec=1
KillMode=process
Delegate=yes
TimeoutStopSec=90
FileDescriptorStoreMax=64
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
",
        binary.display()
    )
}

pub(super) fn run(args: InstallArgs, context: &Context) -> Result<(), CliError> {
    let there = Path::new("/").join(BINARY);
    if args.print {
        let unit = unit(&there);
        return match context.ui.json {
            true => context.ui.document(&serde_json::json!({ "unit": unit })),
            false => context.ui.print(unit.trim_end()),
        };
    }
    if args.root.is_none() && !Path::new(SYSTEMD).exists() {
        return Err(CliError::Failed {
            message: "systemd does not run on this machine".to_owned(),
            hint: Some(
                "Run mill daemon under your own service manager, after the example of \
                 mill install --print; or pass --root DIR to prepare another machine's files"
                    .to_owned(),
            ),
        });
    }
    let root = args.root.as_deref().unwrap_or(Path::new("/"));
    let files = write_files(root, &there)?;
    let starts = args.root.is_none() && !args.no_start;
    if args.root.is_none() {
        systemctl(&["daemon-reload"])?;
        systemctl(&["enable", "mill"])?;
    }
    if starts {
        // One that runs already is replaced: its containers run on.
        systemctl(&["restart", "mill"])?;
    }
    let installed = Installed { started: starts, ..files };
    if context.ui.json {
        return context.ui.document(&installed);
    }
    for path in [&installed.binary, &installed.unit, &installed.settings] {
        context.ui.print(&format!("installed {}", path.display()))?;
    }
    let next = match (starts, args.root.is_some()) {
        (true, _) => {
            "mill runs. Next: mill init, or mill join HOST --token T; logs: journalctl -u mill"
        }
        (false, false) => "Start it: systemctl start mill",
        (false, true) => "Enable it there: systemctl enable mill",
    };
    context.ui.print(next)
}

/// Writes all three below a root; a settings file that is there stays.
fn write_files(root: &Path, binary: &Path) -> Result<Installed, CliError> {
    let own =
        std::env::current_exe().map_err(|error| refused(Path::new("/proc/self/exe"), &error))?;
    let place = |path: &str| root.join(path);
    let installed = Installed {
        unit: place(UNIT),
        binary: place(BINARY),
        settings: place(SETTINGS),
        started: false,
    };
    if own != installed.binary {
        let program = fs::read(&own).map_err(|error| refused(&own, &error))?;
        replace(&installed.binary, &program, 0o755)?;
    }
    replace(&installed.unit, unit(binary).as_bytes(), 0o644)?;
    if !installed.settings.exists() {
        replace(&installed.settings, SETTINGS_TEXT.as_bytes(), 0o640)?;
    }
    Ok(installed)
}

/// Puts a whole file in the place of an old one, also of a program that runs.
fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), CliError> {
    let draft = path.with_extension("new");
    let write = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&draft, content)?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(mode))?;
        fs::rename(&draft, path)
    };
    write().map_err(|error| refused(path, &error))
}

fn refused(path: &Path, error: &io::Error) -> CliError {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let hint = denied.then(|| "sudo mill install".to_owned());
    CliError::Failed { message: format!("installing {}: {error}", path.display()), hint }
}

fn systemctl(args: &[&str]) -> Result<(), CliError> {
    let line = format!("systemctl {}", args.join(" "));
    let done = Command::new("systemctl").args(args).output();
    let done = done.map_err(|error| CliError::failed(format!("{line}: {error}")))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    let hint = Some("Look at: journalctl -u mill -e".to_owned());
    Err(CliError::Failed { message: format!("{line}: {said}"), hint })
}
