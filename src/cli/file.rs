//! The file that a command works on: which one, its text, and what is wrong with it.
//!
//! Owns finding and reading it. Never sends it anywhere.

use super::Context;
use super::error::CliError;
use crate::api::wire::ErrorDetail;
use crate::limits::{CONFIG_FILE_MAX, FILE_MAX};
use crate::spec::{self, Parsed, Report, Source, Spec, Written};
use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};

/// The name that standard input has in messages.
const STDIN: &str = "<stdin>";

/// A file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MillFile {
    /// As it was given; [`STDIN`] for standard input.
    pub name: String,
    /// Where it is; none for standard input.
    pub path: Option<PathBuf>,
    /// What is in it; once it is complete, with the contents of the config files beside it.
    pub text: String,
    /// As it was written, if the text has such contents.
    pub written: Option<Written>,
}

impl MillFile {
    /// Reads the file that was given, or the only one of the current directory; `-` is stdin.
    ///
    /// # Errors
    /// There is none, there are several, or it can't be read as text.
    pub fn open(context: &Context, given: Option<&str>) -> Result<Self, CliError> {
        match given {
            Some("-") => Self::read(STDIN.to_owned(), None, std::io::stdin().lock()),
            Some(name) if Path::new(name).is_dir() => {
                Self::at(only(context, name, &candidates(Path::new(name)))?)
            }
            Some(name) => Self::at(name.into()),
            None => Self::at(only(context, "", &candidates(Path::new("")))?),
        }
    }

    /// Reads every file that was given, and those of each directory; without one the only file of
    /// the current directory.
    ///
    /// # Errors
    /// As [`MillFile::open`], for the first.
    pub fn open_all(
        context: &Context,
        given: &[String],
    ) -> Result<Vec<Result<Self, CliError>>, CliError> {
        if given.is_empty() {
            return Ok(vec![Ok(Self::open(context, None)?)]);
        }
        let mut all = Vec::new();
        for name in given {
            let found = candidates(Path::new(name));
            if !Path::new(name).is_dir() {
                all.push(Self::open(context, Some(name)));
            } else if found.is_empty() {
                all.push(Err(none(name)));
            }
            all.extend(found.into_iter().map(Self::at));
        }
        Ok(all)
    }

    /// Reads the file at a path.
    ///
    /// # Errors
    /// It can't be read as text.
    pub fn at(path: PathBuf) -> Result<Self, CliError> {
        let failed = |source| CliError::Read { path: path.clone(), source };
        let file = std::fs::File::open(&path).map_err(failed)?;
        if file.metadata().is_ok_and(|about| about.is_dir()) {
            return Err(failed(std::io::ErrorKind::IsADirectory.into()));
        }
        Self::read(path.display().to_string(), Some(path), file)
    }

    fn read(name: String, path: Option<PathBuf>, from: impl Read) -> Result<Self, CliError> {
        let mut bytes = Vec::new();
        let taken = from.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes);
        let shown = || path.clone().unwrap_or_else(|| name.clone().into());
        taken.map_err(|source| CliError::Read { path: shown(), source })?;
        // One that is too large is refused when it is parsed: cut, it may end within a character.
        let text = if bytes.len() > FILE_MAX {
            String::from_utf8_lossy(&bytes).into_owned()
        } else {
            spec::text(&name, bytes)?
        };
        Ok(Self { name, path, text, written: None })
    }

    /// With the config files that stand beside it: what is sent has all of it.
    ///
    /// # Errors
    /// Everything that is wrong with the file; a config file that can't be read, with its line.
    pub fn complete(mut self) -> Result<Self, CliError> {
        let beside = self.path.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let read = |from: &str| content(&beside.join(from));
        let filled = spec::fill(&self.name, &self.text, read)?;
        if let Some((text, written)) = filled {
            self.text = text;
            self.written = Some(written);
        }
        Ok(self)
    }

    /// The file as it was written.
    #[must_use]
    pub fn written(&self) -> &str {
        self.written.as_ref().map_or(self.text.as_str(), Written::text)
    }

    /// Moves what a daemon says of the text to the places of the file as it was written.
    pub fn place(&self, details: &mut [ErrorDetail]) {
        let Some(written) = &self.written else { return };
        let whole = Source::new(&self.name, &self.text);
        for detail in details {
            (detail.line, detail.column) = written.position(&whole, detail.line, detail.column);
        }
    }

    /// The same for a report on the text.
    fn placed(&self, report: Report) -> Report {
        match &self.written {
            Some(written) => written.report(report),
            None => report,
        }
    }

    fn parsed(&self) -> Result<Parsed, Report> {
        spec::read(&self.name, &self.text).map_err(|report| self.placed(report))
    }

    /// As [`MillFile::parse`], and everything in it can be executed by this build.
    ///
    /// # Errors
    /// Everything that is wrong with it, or can't be executed.
    pub fn executable(&self) -> Result<Spec, CliError> {
        let parsed = self.parsed()?;
        parsed.check(spec::unsupported(&parsed)).map_err(|report| self.placed(report))?;
        Ok(parsed.spec)
    }

    /// What the file says, and what of it this build can't execute, as a report.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn judged(&self) -> Result<(Spec, Option<Report>), CliError> {
        let parsed = self.parsed()?;
        let unsupported = parsed.check(spec::unsupported(&parsed)).err();
        Ok((parsed.spec, unsupported.map(|report| self.placed(report))))
    }

    /// What the file says, after all checks that need no cluster.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(&self) -> Result<Spec, CliError> {
        Ok(self.parsed()?.spec)
    }
}

/// A config file's text, or why it can't be one.
pub(super) fn content(path: &Path) -> Result<String, String> {
    let told = |error: std::io::Error| super::error::unread(&error);
    // Asked first: to open a pipe waits until somebody writes to it.
    if !std::fs::metadata(path).map_err(told)?.is_file() {
        return Err("it is no file".to_owned());
    }
    let file = std::fs::File::open(path).map_err(told)?;
    let mut bytes = Vec::new();
    file.take(CONFIG_FILE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() > CONFIG_FILE_MAX {
        return Err(format!("it is larger than {} KiB", CONFIG_FILE_MAX >> 10));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it isn't text in UTF-8".to_owned())?;
    if text.contains('\0') { Err("it contains a NUL character".to_owned()) } else { Ok(text) }
}

/// The `*.mill` files of a directory, by name.
fn candidates(directory: &Path) -> Vec<PathBuf> {
    let here = directory.as_os_str().is_empty();
    let entries = std::fs::read_dir(if here { Path::new(".") } else { directory });
    let names = entries.into_iter().flatten().filter_map(|one| one.ok().map(|one| one.file_name()));
    let mut found: Vec<PathBuf> = names
        .map(|name| directory.join(name))
        .filter(|path| path.extension().is_some_and(|extension| extension == "mill"))
        .collect();
    found.sort();
    found
}

fn none(place: &str) -> CliError {
    let place = if place.is_empty() { "here".to_owned() } else { format!("in {place}") };
    CliError::usage(format!("There is no *.mill file {place}"), "Pass one, or -f - for stdin")
}

fn only(context: &Context, place: &str, found: &[PathBuf]) -> Result<PathBuf, CliError> {
    match found {
        [] => Err(none(place)),
        [one] => Ok(one.clone()),
        several if context.ui.asks && !context.ui.json => ask(several),
        several => {
            let names: Vec<String> =
                several.iter().map(|path| path.display().to_string()).collect();
            let place = if place.is_empty() { "here" } else { "there" };
            let message = format!("There are several files {place}: {}", names.join(", "));
            Err(CliError::usage(message, "Pass one"))
        }
    }
}

fn ask(several: &[PathBuf]) -> Result<PathBuf, CliError> {
    let mut err = std::io::stderr().lock();
    for (at, path) in several.iter().enumerate() {
        let _ = writeln!(err, "{:>3}  {}", at + 1, path.display());
    }
    let _ = write!(err, "Which file? ").and_then(|()| err.flush());
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    let answer = answer.trim();
    let by_number = answer.parse::<usize>().ok().and_then(|n| several.get(n.checked_sub(1)?));
    let by_name = || several.iter().find(|path| path.as_os_str() == answer);
    let chosen = by_number.or_else(by_name).cloned();
    chosen.ok_or_else(|| CliError::usage(format!("{answer:?} is none of them"), "Pass one"))
}

/// One of two ways to say which file: `FILE` or `-f FILE`.
///
/// # Errors
/// Both were used.
pub fn either<'a>(
    positional: Option<&'a str>,
    option: Option<&'a str>,
) -> Result<Option<&'a str>, CliError> {
    match (positional, option) {
        (Some(_), Some(_)) => Err(CliError::usage("Two files were given", "Pass FILE or -f FILE")),
        (one, other) => Ok(one.or(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::globals::Globals;
    use crate::cli::ui::Ui;
    use crate::config::Env;

    fn context() -> Context {
        let ui = Ui { json: false, color: false, live: false, asks: false };
        Context { globals: Globals::default(), env: Env::new(), ui, parting: Default::default() }
    }

    #[test]
    fn the_only_file_is_taken_and_several_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let found = || candidates(directory.path());
        assert_eq!(only(&context(), "", &found()).unwrap_err().code(), 2);
        for name in ["b.mill", "notes.txt"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        assert_eq!(only(&context(), "", &found()).unwrap(), directory.path().join("b.mill"));
        let name = directory.path().to_str();
        assert_eq!(MillFile::open(&context(), name).unwrap().text, "");
        std::fs::write(directory.path().join("a.mill"), "").unwrap();
        let error = only(&context(), "", &found()).unwrap_err();
        assert_eq!(error.code(), 2);
        let (text, place) = (error.text(), format!("{}/", directory.path().display()));
        assert_eq!(
            text.replace(&place, ""),
            "There are several files here: a.mill, b.mill. Pass one"
        );
        let all = MillFile::open_all(&context(), &[name.unwrap().to_owned()]).unwrap();
        assert_eq!(all.into_iter().filter_map(Result::ok).count(), 2);
    }

    #[test]
    fn what_is_no_text_is_invalid() {
        let read = |bytes: &[u8]| {
            MillFile::read("x".to_owned(), None, bytes).map_err(|error| error.code())
        };
        assert_eq!(read(b"\xff\xfe"), Err(2));
        let large =
            read(&vec![b' '; FILE_MAX + 1]).and_then(|file| file.parse().map_err(|e| e.code()));
        assert_eq!(large, Err(2));
        assert_eq!(read(b"ok").unwrap().text, "ok");
        let missing = MillFile::at("/nonexistent/x.mill".into()).unwrap_err();
        assert_eq!(missing.code(), 2);
        assert_eq!(MillFile::at("/".into()).unwrap_err().code(), 2);
    }

    #[test]
    fn config_files_beside_it_are_sent_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).unwrap();
            directory.path().join(name)
        };
        let head = "service \"web\" {\n    image \"nginx\"\n";
        let file = "    file path=\"/etc/a\" from=\"a.toml\" mode=\"0400\"\n";
        let path = write("a.mill", &format!("{head}{file}}}\n"));
        let error = MillFile::at(path.clone()).unwrap().complete().unwrap_err();
        assert_eq!(error.code(), 2);
        assert!(error.text().contains("a.mill:3:29: a.toml: no such file"), "{}", error.text());
        write("a.toml", "a = \"1\"\n\tb = '\\'\n");
        let complete = MillFile::at(path).unwrap().complete().unwrap();
        assert_eq!(complete.text.lines().count(), 4, "lines keep their numbers");
        let spec = complete.parse().unwrap();
        let file = &spec.services[&"web".into()].run.files[0];
        let text = crate::spec::model::EnvPart::Text("a = \"1\"\n\tb = '\\'\n".to_owned());
        assert_eq!((file.path.as_str(), file.mode), ("/etc/a", 0o400));
        assert_eq!(file.content.0, [text]);
        assert_eq!(complete.clone().complete().unwrap(), complete);
    }

    #[test]
    fn what_is_said_of_a_config_file_is_said_where_it_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.mill");
        let line = "    file path=\"/etc/a\" from=\"a.toml\" interpolate=#true";
        let text = format!("service \"web\" {{\n    image \"nginx\"\n{line}\n}}\n");
        std::fs::write(&path, &text).unwrap();
        let complete = |content: &str| {
            std::fs::write(directory.path().join("a.toml"), content).unwrap();
            MillFile::at(path.clone()).unwrap().complete().unwrap()
        };
        let error = complete("ok\nline ${foo}\n").executable().unwrap_err().text();
        let shown = format!("  3 | {line}\n    | {}{}", " ".repeat(23), "^".repeat(13));
        assert!(error.contains("a.mill:3:24: service \"web\": ${foo} isn't known"), "{error}");
        assert!(error.ends_with(&shown), "{error}");
        // What the daemon finds in the text that it was sent.
        let file = complete("a\nb ${secret(web.db)}\n");
        assert_eq!(file.written(), text);
        let column = |word: &str| file.text.lines().nth(2).unwrap().find(word).unwrap() + 1;
        let detail = |word: &str| ErrorDetail {
            line: 3,
            column: u32::try_from(column(word)).unwrap(),
            message: "m".to_owned(),
            hint: None,
        };
        let mut details = ["path", "${secret", "interpolate"].map(detail);
        file.place(&mut details);
        assert_eq!(details.map(|one| (one.line, one.column)), [(3, 10), (3, 24), (3, 38)]);
    }

    #[test]
    fn a_pipe_is_no_config_file() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(content(&pipe), Err("it is no file".to_owned()));
        assert_eq!(content(directory.path()), Err("it is no file".to_owned()));
    }

    #[test]
    fn a_file_is_given_in_one_way() {
        assert_eq!(either(Some("a"), None).unwrap(), Some("a"));
        assert_eq!(either(None, Some("b")).unwrap(), Some("b"));
        assert_eq!(either(Some("a"), Some("b")).unwrap_err().code(), 2);
    }
}
