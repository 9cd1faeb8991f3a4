//! All commands with their flags, as the parser, the help and the completions know them.
//!
//! Owns the list of commands. Never runs one; each command's flags are in its own file.

use super::{
    backup, cert, check, clean, completions, cp, daemon, dev, diff, doctor, down, drain, events,
    exec, fmt, forward, history, image, import, init, install, join, leave, login, logs, mesh,
    nodes, plan, ps, rebalance, restart, restore, rollback, route, scale, secret, show, spawn,
    status, token, top, up, version, volume, why,
};
use argh::{ArgsInfo, FromArgs};

/// mill runs containers on 1 to 20 machines: one binary, one file format.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    help_triggers("-h", "--help"),
    note = "Every command also takes --json, --no-color, and where the daemon is: --address URL, \
            --token T, --socket PATH, --dev.",
    example = "mill dev examples/hello.mill",
    example = "mill up && mill ps",
    error_code(1, "The operation failed."),
    error_code(2, "Wrong usage, or an invalid file."),
    error_code(3, "No daemon reached."),
    error_code(4, "Not authorised."),
    error_code(5, "Gave up waiting; the deployment goes on.")
)]
pub struct Top {
    #[argh(subcommand)]
    /// what to do
    pub command: Command,
}

/// The commands.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(subcommand)]
pub enum Command {
    /// `mill dev`.
    Dev(dev::DevArgs),
    /// `mill daemon`.
    Daemon(daemon::DaemonArgs),
    /// `mill init`.
    Init(init::InitArgs),
    /// `mill join`.
    Join(join::JoinArgs),
    /// `mill leave`.
    Leave(leave::LeaveArgs),
    /// `mill up` and `mill deploy`.
    Up(up::UpArgs),
    /// `mill plan`.
    Plan(plan::PlanArgs),
    /// `mill down`.
    Down(down::DownArgs),
    /// `mill rollback`.
    Rollback(rollback::RollbackArgs),
    /// `mill route`.
    Route(route::RouteArgs),
    /// `mill scale`.
    Scale(scale::ScaleArgs),
    /// `mill rebalance`.
    Rebalance(rebalance::RebalanceArgs),
    /// `mill restart`.
    Restart(restart::RestartArgs),
    /// `mill ps`.
    Ps(ps::PsArgs),
    /// `mill top`.
    Top(top::TopArgs),
    /// `mill status`.
    Status(status::StatusArgs),
    /// `mill logs`.
    Logs(logs::LogsArgs),
    /// `mill cp`.
    Cp(cp::CpArgs),
    /// `mill exec`.
    Exec(exec::ExecArgs),
    /// `mill port-forward`.
    PortForward(forward::PortForwardArgs),
    /// `mill why`.
    Why(why::WhyArgs),
    /// `mill events`.
    Events(events::EventsArgs),
    /// `mill spawn`.
    Spawn(spawn::SpawnArgs),
    /// `mill kill`.
    Kill(spawn::KillArgs),
    /// `mill show`.
    Show(show::ShowArgs),
    /// `mill diff`.
    Diff(diff::DiffArgs),
    /// `mill history`.
    History(history::HistoryArgs),
    /// `mill image`.
    Image(image::ImageArgs),
    /// `mill secret`.
    Secret(secret::SecretArgs),
    /// `mill cert`.
    Cert(cert::CertArgs),
    /// `mill volume`.
    Volume(volume::VolumeArgs),
    /// `mill backup`.
    Backup(backup::BackupArgs),
    /// `mill restore`.
    Restore(restore::RestoreArgs),
    /// `mill token`.
    Token(token::TokenArgs),
    /// `mill login`.
    Login(login::LoginArgs),
    /// `mill logout`.
    Logout(login::LogoutArgs),
    /// `mill nodes`.
    Nodes(nodes::NodesArgs),
    /// `mill mesh`.
    Mesh(mesh::MeshArgs),
    /// `mill label`.
    Label(nodes::LabelArgs),
    /// `mill drain`.
    Drain(drain::DrainArgs),
    /// `mill undrain`.
    Undrain(nodes::UndrainArgs),
    /// `mill remove`.
    Remove(nodes::RemoveArgs),
    /// `mill import`.
    Import(import::ImportArgs),
    /// `mill check`.
    Check(check::CheckArgs),
    /// `mill fmt`.
    Fmt(fmt::FmtArgs),
    /// `mill doctor`.
    Doctor(doctor::DoctorArgs),
    /// `mill clean`.
    Clean(clean::CleanArgs),
    /// `mill install`.
    Install(install::InstallArgs),
    /// `mill completions`.
    Completions(completions::CompletionsArgs),
    /// `mill version`.
    Version(version::VersionArgs),
}

impl Command {
    /// Values of secrets or keys come into its memory.
    #[must_use]
    pub fn holds_secrets(&self) -> bool {
        matches!(
            self,
            Self::Dev(_)
                | Self::Daemon(_)
                | Self::Secret(_)
                | Self::Backup(_)
                | Self::Restore(_)
                | Self::Image(_)
        )
    }
}
