//! The command line: one file a command.
//!
//! Owns what people type and read. Never talks to containers or the log directly, only to the API.

pub mod args;
pub mod argv;
mod backup;
mod cert;
pub mod check;
mod clean;
pub mod client;
mod clock;
mod complete;
mod completions;
mod context;
mod cp;
mod daemon;
mod dev;
mod diff;
mod doctor;
mod down;
mod drain;
mod duration;
mod early;
pub mod error;
mod events;
mod exec;
mod file;
pub mod fmt;
mod follow;
mod forward;
pub mod globals;
pub mod help;
mod history;
mod image;
mod import;
mod init;
mod install;
mod join;
mod leave;
mod login;
mod logs;
mod mesh;
mod names;
mod nodes;
mod plan;
mod ps;
mod rebalance;
mod restart;
mod restore;
mod rollback;
mod route;
mod scale;
mod scope;
mod screen;
mod secret;
mod show;
mod shown;
mod spawn;
mod status;
mod table;
mod token;
mod top;
pub mod ui;
mod up;
mod version;
mod volume;
mod why;

pub use context::Context;

use crate::actors::platform::secrets::keep_from_dumps;
use crate::config::Env;
use argh::FromArgs;
use args::{Command, Top};
use argv::Typed;
use error::CliError;
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use ui::Ui;

/// Commands about this machine, whatever cluster is used otherwise.
const LOCAL: [&str; 8] = ["daemon", "dev", "init", "join", "leave", "doctor", "clean", "install"];

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let env: Env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let mut args = Vec::new();
    for arg in std::env::args_os().skip(1) {
        match arg.into_string() {
            Ok(arg) => args.push(arg),
            Err(arg) => {
                let message = format!("{}: an argument is not UTF-8", arg.to_string_lossy());
                let plain = Ui::of_process(false, true, true);
                return report(plain, &CliError::Usage { message, hint: None });
            }
        }
    }
    if args.first().is_some_and(|first| first == complete::COMMAND) {
        complete::run(&args[1..], &env);
        return ExitCode::SUCCESS;
    }
    // Whoever wants JSON wants errors so too, also about what was typed.
    let json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    let typed = match argv::sort::<Top>(args) {
        Ok(typed) => typed,
        Err(error) => return report(Ui::of_process(json, true, true), &error.into()),
    };
    let mut globals = typed.globals.clone().with_env(&env);
    if !typed.rest.first().is_some_and(|command| LOCAL.contains(&command.as_str())) {
        globals = login::with_kept(globals, &env);
    }
    let dumb = env.get("TERM").is_some_and(|term| term == "dumb");
    let ui = Ui::of_process(globals.json, globals.no_color, dumb);
    let rest: Vec<&str> = typed.rest.iter().map(String::as_str).collect();
    let command = match Top::from_args(&["mill"], &rest) {
        Ok(top) => top.command,
        Err(exit) => return early(ui, &typed, &exit),
    };
    let context = Context { globals, env, ui, parting: Arc::default() };
    match run(command, &context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(ui, &error),
    }
}

/// Help, or a mistake that only argh finds.
fn early(ui: Ui, typed: &Typed, exit: &argh::EarlyExit) -> ExitCode {
    if exit.status.is_ok() {
        return match ui.print(&help::render(&typed.rest)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report(ui, &error),
        };
    }
    let code = report(ui, &early::mistake(typed, &exit.output));
    if early::is_unfinished(&exit.output) && !ui.json {
        // Nothing was asked for: what can be is more use than a complaint.
        ui.note(&format!("\n{}", help::render(&typed.rest)));
    }
    code
}

fn report(ui: Ui, error: &CliError) -> ExitCode {
    if !error.is_silent() {
        if ui.json {
            ui.note(&serde_json::to_string(&error.document()).unwrap_or_default());
        } else {
            let is_report = matches!(error, CliError::File(_) | CliError::Refused { .. });
            ui.note(&if is_report { ui.report(&error.text()) } else { error.text() });
        }
    }
    ExitCode::from(error.code())
}

fn run(command: Command, context: &Context) -> Result<(), CliError> {
    if command.holds_secrets() {
        keep_from_dumps();
    }
    match command {
        Command::Daemon(args) => daemon::run(args, context),
        Command::Dev(args) => dev::run(args, context),
        Command::Check(args) => check::run(args, context),
        Command::Fmt(args) => fmt::run(args, context),
        Command::Import(args) => import::run(args, context),
        Command::Completions(args) => completions::run(args, context),
        Command::Install(args) => install::run(args, context),
        Command::Logout(_) => login::forget(context),
        Command::Version(args) => version::run(args, context),
        command => wait(context, run_async(command, context)),
    }
}

async fn run_async(command: Command, context: &Context) -> Result<(), CliError> {
    match command {
        Command::Init(args) => init::run(args, context).await,
        Command::Join(args) => join::run(args, context).await,
        Command::Leave(args) => leave::run(args, context).await,
        Command::Up(args) => up::run(args, context).await,
        Command::Plan(args) => plan::run(args, context).await,
        Command::Down(args) => down::run(args, context).await,
        Command::Rollback(args) => rollback::run(args, context).await,
        Command::Route(args) => route::run(args, context).await,
        Command::Scale(args) => scale::run(args, context).await,
        Command::Rebalance(args) => rebalance::run(args, context).await,
        Command::Restart(args) => restart::run(args, context).await,
        Command::Ps(args) => ps::run(args, context).await,
        Command::Top(args) => top::run(args, context).await,
        Command::Status(args) => status::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Cp(args) => cp::run(args, context).await,
        Command::Why(args) => why::run(args, context).await,
        Command::Events(args) => events::run(args, context).await,
        Command::Exec(args) => exec::run(args, context).await,
        Command::PortForward(args) => forward::run(args, context).await,
        Command::Spawn(args) => spawn::run(args, context).await,
        Command::Kill(args) => spawn::kill(args, context).await,
        Command::Show(args) => show::run(args, context).await,
        Command::Diff(args) => diff::run(args, context).await,
        Command::History(args) => history::run(args, context).await,
        Command::Image(args) => image::run(args, context).await,
        Command::Cert(args) => cert::run(args, context).await,
        Command::Volume(args) => volume::run(args, context).await,
        Command::Backup(args) => backup::run(args, context).await,
        Command::Restore(args) => restore::run(args, context).await,
        Command::Secret(args) => secret::run(args, context).await,
        Command::Token(args) => token::run(args, context).await,
        Command::Login(args) => login::run(args, context).await,
        Command::Nodes(args) => nodes::run(args, context).await,
        Command::Mesh(args) => mesh::run(args, context).await,
        Command::Label(args) => nodes::label(args, context).await,
        Command::Drain(args) => drain::run(args, context).await,
        Command::Undrain(args) => nodes::undrain(args, context).await,
        Command::Remove(args) => nodes::remove(args, context).await,
        Command::Doctor(args) => doctor::run(args, context).await,
        Command::Clean(args) => clean::run(args, context).await,
        Command::Daemon(_) | Command::Dev(_) | Command::Check(_) => Ok(()),
        Command::Fmt(_) | Command::Completions(_) | Command::Version(_) => Ok(()),
        Command::Install(_) | Command::Logout(_) | Command::Import(_) => Ok(()),
    }
}

/// Runs a command that waits for something, until it ends or Ctrl-C.
fn wait(
    context: &Context,
    command: impl Future<Output = Result<(), CliError>>,
) -> Result<(), CliError> {
    let started =
        |source| CliError::Failed { message: format!("cannot start: {source}"), hint: None };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(started)?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = command => ended,
            _ = tokio::signal::ctrl_c() => Err(CliError::Interrupted),
        }
    });
    if let Err(CliError::Interrupted) = ended {
        context.part();
    }
    // A read of standard input can't be taken back: don't wait for it.
    runtime.shutdown_background();
    ended
}
