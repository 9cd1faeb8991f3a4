//! `mill import`: a `.mill` file from a Compose file.
//!
//! Owns finding what stands beside it. Never knows what becomes of a field: that is `compose`'s.

use super::file::content;
use super::{Context, error::CliError};
use crate::compose::{self, ComposeError, Given};
use crate::limits::FILE_MAX;
use argh::{ArgsInfo, FromArgs};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

/// The names that Compose itself looks for.
const USUAL: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// Make a .mill file of a Compose file: mill import docker-compose.yml -o shop.mill.
#[derive(Debug, FromArgs, ArgsInfo)]
#[argh(
    subcommand,
    name = "import",
    help_triggers("-h", "--help"),
    note = "What has no counterpart is a comment of the new file. Variables are those of the \
            environment and of .env beside the Compose file.",
    example = "mill import docker-compose.yml -o shop.mill"
)]
pub struct ImportArgs {
    /// the Compose file; - is standard input; without it the one of the current directory
    #[argh(positional)]
    pub compose: Option<String>,
    /// a new file to write instead of standard output
    #[argh(option, short = 'o')]
    pub output: Option<PathBuf>,
    /// the app's name; without it that of the Compose file, else its folder's
    #[argh(option)]
    pub app: Option<String>,
}

pub(super) fn run(args: ImportArgs, context: &Context) -> Result<(), CliError> {
    let name = match args.compose {
        Some(name) => name,
        None => usual()?,
    };
    let (text, folder) = match name.as_str() {
        "-" => (read(io::stdin().lock(), Path::new("<stdin>"))?, PathBuf::from(".")),
        path => {
            let path = Path::new(path);
            let failed = |source| CliError::Read { path: path.to_owned(), source };
            let file = std::fs::File::open(path).map_err(failed)?;
            let folder = path.parent().filter(|above| *above != Path::new(""));
            (read(file, path)?, folder.unwrap_or(Path::new(".")).to_owned())
        }
    };
    let mut variables: BTreeMap<String, String> =
        compose::dotenv(&content(&folder.join(".env")).unwrap_or_default()).into_iter().collect();
    variables.extend(context.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    let beside = |path: &str| content(&folder.join(path)).ok();
    let app = args.app.clone().unwrap_or_else(|| name_of(&folder));
    let file = if name == "-" { "<stdin>" } else { name.as_str() };
    let (text, app_given) = (text.as_str(), args.app.is_some());
    let (variables, beside) = (&variables, &beside);
    let given = Given { file, text, app: &app, app_given, variables, beside };
    let made = compose::convert(&given).map_err(refused)?;
    if let Some(path) = &args.output {
        write(path, &made.text)?;
    }
    if context.ui.json {
        return context.ui.document(&json!({
            "file": args.output.as_ref().map(|path| path.display().to_string()),
            "text": made.text,
            "notes": made.notes,
        }));
    }
    let Some(path) = &args.output else { return context.ui.print(&made.text) };
    let look = match made.notes.len() {
        0 => String::new(),
        1 => "; one comment says what to look at".to_owned(),
        notes => format!("; {notes} comments say what to look at"),
    };
    context.ui.print(&format!("{}{look}", path.display()))?;
    context.ui.note(&format!("Now: mill check {0}, then mill plan {0}", path.display()));
    Ok(())
}

fn usual() -> Result<String, CliError> {
    let found = USUAL.into_iter().find(|name| Path::new(name).is_file());
    found.map(str::to_owned).ok_or_else(|| {
        CliError::usage("There is no Compose file here", "Name it: mill import docker-compose.yml")
    })
}

fn read(from: impl Read, path: &Path) -> Result<String, CliError> {
    let mut bytes = Vec::new();
    let taken = from.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes);
    taken.map_err(|source| CliError::Read { path: path.to_owned(), source })?;
    if bytes.len() > FILE_MAX {
        let message = format!("{} is larger than {} MiB", path.display(), FILE_MAX >> 20);
        return Err(CliError::Usage { message, hint: None });
    }
    String::from_utf8(bytes).map_err(|_| {
        CliError::usage(format!("{} isn't text in UTF-8", path.display()), "Save it so")
    })
}

/// The name of a folder.
fn name_of(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn refused(error: ComposeError) -> CliError {
    let hint = match &error {
        ComposeError::Yaml { .. } => None,
        ComposeError::NoServices { .. } => Some("Compose files have a field services".to_owned()),
        ComposeError::Unfit { .. } => Some("Correct the Compose file there".to_owned()),
    };
    CliError::Usage { message: error.to_string(), hint }
}

/// Writes a file that isn't there yet.
fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let opened = std::fs::File::options().write(true).create_new(true).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let shown = path.display();
        let (message, hint) = match error.kind() {
            io::ErrorKind::AlreadyExists => {
                let hint = "Name another file, or take it away first";
                (format!("{shown} is there already"), Some(hint.to_owned()))
            }
            _ => (format!("cannot write {shown}: {error}"), None),
        };
        CliError::Failed { message, hint }
    })
}
