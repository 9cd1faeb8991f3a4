//! `mill daemon`: a node in the foreground.

use super::{Context, error::CliError};
use crate::config::{DaemonConfig, DaemonFlags, LogFormat, Mode};
use crate::daemon::{DaemonError, Ending, Node, RecoverError};
use crate::limits;
use crate::reasons::with_reasons;
use argh::{ArgsInfo, FromArgs};
use sd_notify::NotifyState;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Run a node in the foreground. Every flag has a variable: MILL_DATA_DIR and so on.
#[derive(Debug, Default, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "daemon",
    help_triggers("-h", "--help"),
    example = "mill daemon --data-dir /var/lib/mill"
)]
pub struct DaemonArgs {
    /// where everything is kept; default /var/lib/mill
    #[argh(option)]
    pub data_dir: Option<String>,
    /// listener of the API; default 127.0.0.1:4400
    #[argh(option)]
    pub api: Option<String>,
    /// listener for other nodes; default 0.0.0.0:4401
    #[argh(option)]
    pub peer: Option<String>,
    /// listener for HTTP; default 0.0.0.0:80
    #[argh(option)]
    pub http: Option<String>,
    /// listener for HTTPS; default 0.0.0.0:443
    #[argh(option)]
    pub https: Option<String>,
    /// listener for DNS beside the bridge's; default none
    #[argh(option)]
    pub dns: Option<String>,
    /// the mesh's UDP port; default 51820
    #[argh(option)]
    pub mesh_port: Option<String>,
    /// containerd's socket, or private
    #[argh(option)]
    pub containerd: Option<String>,
    /// addresses of containers, used at init; default 10.99.0.0/16
    #[argh(option)]
    pub subnet: Option<String>,
    /// registry without TLS or with an unknown certificate, HOST:PORT
    #[argh(option)]
    pub insecure_registry: Vec<String>,
    /// where a member is that has moved, ID=HOST[:PORT]
    #[argh(option)]
    pub peer_hint: Vec<String>,
    /// proxy in front whose headers about the client count, a CIDR
    #[argh(option)]
    pub trusted_proxies: Vec<String>,
    /// these proxies speak the PROXY protocol
    #[argh(switch)]
    pub proxy_protocol: bool,
    /// trust for the ACME directory
    #[argh(option)]
    pub acme_ca: Option<String>,
    /// text or json
    #[argh(option)]
    pub log_format: Option<String>,
    /// become a cluster of one after a lost quorum, keeping the state
    #[argh(switch)]
    pub recover_single: bool,
    /// do what --recover-single says that it would do
    #[argh(switch, short = 'y')]
    pub yes: bool,
}

impl DaemonArgs {
    /// The settings, with what the environment says and the defaults.
    ///
    /// # Errors
    /// The first setting that can't be used.
    pub(super) fn config(self, mode: Mode, context: &Context) -> Result<DaemonConfig, CliError> {
        let flags = DaemonFlags {
            data_dir: self.data_dir,
            // Of the environment's the settings know themselves.
            socket: context.globals.socket.clone(),
            api: self.api,
            peer: self.peer,
            http: self.http,
            https: self.https,
            dns: self.dns,
            mesh_port: self.mesh_port,
            containerd: self.containerd,
            subnet: self.subnet,
            insecure_registry: self.insecure_registry,
            peer_hint: self.peer_hint,
            trusted_proxies: self.trusted_proxies,
            proxy_protocol: self.proxy_protocol.then(|| "true".to_owned()),
            acme_ca: self.acme_ca,
            log_format: self.log_format,
            recover_single: self.recover_single,
            yes: self.yes,
        };
        let config = DaemonConfig::new(mode, &flags, &context.env)?;
        if let Some(file) = &config.acme_ca
            && let Err(error) = std::fs::File::open(file)
        {
            let message = format!("acme-ca {}: {error}", file.display());
            return Err(CliError::usage(message, "name the PEM file of the authority's own CA"));
        }
        Ok(config)
    }
}

pub(super) fn run(args: DaemonArgs, context: &Context) -> Result<(), CliError> {
    close_inherited();
    let config = args.config(Mode::Daemon, context)?;
    log_to_stderr(config.log_format, "info", context);
    let runtime = runtime()?;
    let done = runtime.block_on(serve(config));
    // What waits for a disk that doesn't answer ends with the process.
    runtime.shutdown_timeout(limits::RUNTIME_STOP);
    done
}

/// The runtime of a process that is a node.
///
/// # Errors
/// No threads are left.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.map_err(|error| CliError::failed(format!("cannot start threads: {error}")))
}

/// Sends what the node does to standard error, unless `MILL_LOG` says otherwise.
pub(super) fn log_to_stderr(format: LogFormat, default: &str, context: &Context) {
    use tracing_subscriber::EnvFilter;
    let wanted = context.env.get("MILL_LOG").map_or(default, String::as_str);
    let mut filter = EnvFilter::try_new(wanted).unwrap_or_else(|_| EnvFilter::new(default));
    // To these a peer that is away is an error, and a kernel without WireGuard as well.
    for library in ["defguard_boringtun=off", "defguard_wireguard_rs=off"] {
        if let Ok(quiet) = library.parse() {
            filter = filter.add_directive(quiet);
        }
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only if something set it before, which then stays.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(context.ui.color).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

async fn serve(config: DaemonConfig) -> Result<(), CliError> {
    // Whoever is told that the daemon is ready may end it.
    let mut signals = StopSignals::listen()?;
    let started = Node::start(config).await;
    let mut node = started.map_err(|error| failed(&error))?;
    if node.config.log_format == LogFormat::Text {
        let text = begun(&node.config.socket, node.is_member());
        // Nobody is left to be told that nobody listens.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
    tell_systemd(NotifyState::Ready);
    let ended = loop {
        tokio::select! {
            ending = node.ended() => match ending {
                Ending::Failed(error) => break Err(failed(&error)),
                Ending::Left => node = node.leave().await.map_err(|error| failed(&error))?,
            },
            () = signals.asked() => break Ok(()),
        }
    };
    tell_systemd(NotifyState::Stopping);
    let patience = if ended.is_ok() { Duration::MAX } else { limits::STOP_FAILED };
    if tokio::time::timeout(patience, node.stop()).await.is_err() {
        tracing::warn!("the node's parts did not stop in time");
    }
    ended
}

/// What is said once the socket is served.
fn begun(socket: &Path, is_member: bool) -> String {
    let head = format!("mill {} on {}", env!("CARGO_PKG_VERSION"), socket.display());
    if is_member {
        return head;
    }
    format!("{head}, no cluster yet. Now: sudo mill init, or sudo mill join HOST --token T")
}

/// Closes what the caller left open: what a node starts outlives it, and would hold it for ever.
/// What systemd kept over a restart is there on purpose.
pub(super) fn close_inherited() {
    let kept = 3 + systemd_kept();
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let inherited: Vec<i32> = numbers.filter(|number| *number >= kept).collect();
    for number in inherited {
        // The list's own is closed by now.
        let _ = nix::unistd::close(number);
    }
}

/// How many descriptors systemd has given to this process (sd_listen_fds(3)).
fn systemd_kept() -> i32 {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let is_meant = number("LISTEN_PID") == Some(std::process::id());
    let count = number("LISTEN_FDS").filter(|_| is_meant).unwrap_or(0);
    i32::try_from(count).unwrap_or(0)
}

/// Tells a systemd that started this process how far it is.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd can't be told how far the daemon is");
    }
}

/// SIGTERM and SIGINT, from now on.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self, CliError> {
        let refused = |error| CliError::failed(format!("cannot wait for signals: {error}"));
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(refused)?,
            interrupt: signal(SignalKind::interrupt()).map_err(refused)?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
/// Signals can't be waited for.
pub(super) async fn asked_to_stop() -> Result<(), CliError> {
    StopSignals::listen()?.asked().await;
    Ok(())
}

/// A node's failure with all its reasons.
pub(super) fn failed(error: &DaemonError) -> CliError {
    let message = with_reasons(error);
    match error {
        DaemonError::Recover(RecoverError::Unasked { .. }) => {
            CliError::usage(message, "Pass --yes to do it")
        }
        _ => CliError::failed(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_without_a_cluster_says_what_comes_next() {
        let text = begun(Path::new("/run/mill/mill.sock"), false);
        assert_eq!(
            text,
            "mill 0.1.0 on /run/mill/mill.sock, no cluster yet. \
             Now: sudo mill init, or sudo mill join HOST --token T"
        );
        assert_eq!(begun(Path::new("/s"), true), "mill 0.1.0 on /s");
    }
}
