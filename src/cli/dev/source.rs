//! What `mill dev` deploys: a file, or an image by itself.
//!
//! Owns when it has changed. Never deploys it.

use super::DevArgs;
use crate::cli::file::{MillFile, either};
use crate::cli::{Context, error::CliError};
use crate::limits;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where the specification comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// A file on disk.
    Path(PathBuf),
    /// A text that stays: standard input, or made from `--run`.
    Text(MillFile),
}

impl Source {
    /// What the flags say.
    pub fn of(args: &DevArgs, context: &Context) -> Result<Self, CliError> {
        let given = either(args.path.as_deref(), args.file.as_deref())?;
        let source = match (&args.run, given) {
            (Some(_), Some(_)) => {
                return Err(CliError::usage("--run takes no file", "mill dev --run IMAGE"));
            }
            (Some(image), None) => Self::Text(image_alone(image, args.port)),
            (None, _) if args.port.is_some() => {
                return Err(CliError::usage("--port belongs to --run", "mill dev --run IMAGE"));
            }
            (None, given) => {
                let file = MillFile::open(context, given)?;
                file.path.clone().map_or(Self::Text(file), Self::Path)
            }
        };
        match source {
            Self::Text(_) if args.watch => {
                Err(CliError::usage("There is no file to watch", "mill dev FILE --watch"))
            }
            source => Ok(source),
        }
    }

    /// The text as it is now.
    pub fn read(&self, _: &Context) -> Result<MillFile, CliError> {
        match self {
            Self::Path(path) => MillFile::at(path.clone())?.complete(),
            Self::Text(file) => file.clone().complete(),
        }
    }

    /// Ends when the file on disk is another than at the call.
    pub async fn changed(&self) {
        let Self::Path(path) = self else { return std::future::pending().await };
        let before = stamp(path);
        while stamp(path) == before {
            tokio::time::sleep(limits::FILE_WATCH_INTERVAL).await;
        }
    }
}

/// What changes when a file is written, or another put in its place.
fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let about = path.metadata().ok()?;
    Some((about.modified().ok()?, about.len()))
}

/// A file with one service: the image.
fn image_alone(image: &str, port: Option<u16>) -> MillFile {
    let quoted = image.replace('\\', "\\\\").replace('"', "\\\"");
    let port = port.map(|port| format!("    port {port}\n")).unwrap_or_default();
    let name = name_of(image);
    let text = format!("app \"dev\"\n\nservice \"{name}\" {{\n    image \"{quoted}\"\n{port}}}\n");
    MillFile { name: "--run".to_owned(), path: None, text, written: None }
}

/// A service's name from an image reference: `registry:5000/team/my_app:v1` is `my-app`.
fn name_of(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    let last = last.split([':', '@']).next().unwrap_or_default().to_ascii_lowercase();
    let fitting = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = last.chars().map(fitting).take(limits::NAME_MAX).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "app".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::globals::Globals;
    use crate::cli::ps::tests::PLAIN;
    use std::sync::Arc;

    fn source(args: &DevArgs) -> Result<Source, u8> {
        let (globals, env) = (Globals::default(), Default::default());
        let context = Context { globals, env, ui: PLAIN, parting: Arc::default() };
        Source::of(args, &context).map_err(|error| error.code())
    }

    #[test]
    fn an_image_alone_is_a_valid_file() {
        let args = DevArgs {
            run: Some("127.0.0.1:5000/team/my_app:v1".to_owned()),
            port: Some(80),
            ..DevArgs::default()
        };
        let Ok(Source::Text(file)) = source(&args) else { panic!("a text") };
        let spec = file.parse().unwrap();
        let service = &spec.services[&"my-app".into()];
        assert_eq!(service.run.image, "127.0.0.1:5000/team/my_app:v1");
        assert_eq!(service.main_port(), Some(80));
    }

    #[test]
    fn flags_that_contradict_are_usage() {
        let run = || DevArgs { run: Some("a".to_owned()), ..DevArgs::default() };
        assert_eq!(source(&DevArgs { path: Some("x.mill".to_owned()), ..run() }), Err(2));
        assert_eq!(source(&DevArgs { watch: true, ..run() }), Err(2));
        assert_eq!(source(&DevArgs { port: Some(1), ..DevArgs::default() }), Err(2));
    }

    #[tokio::test]
    async fn a_change_on_disk_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.mill");
        std::fs::write(&path, "one").unwrap();
        let source = Source::Path(path.clone());
        let mut changed = std::pin::pin!(source.changed());
        assert!(futures_util::poll!(&mut changed).is_pending());
        std::fs::write(&path, "another").unwrap();
        let noticed = tokio::time::timeout(std::time::Duration::from_secs(10), changed).await;
        assert_eq!(noticed, Ok(()));
    }
}
