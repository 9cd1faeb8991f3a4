//! Config files: `file path="…" from="…"` or with `content="…"`.
//!
//! Owns their fields. Never reads a file: `from` is a place that the command line reads beside the
//! `.mill` file and sends as `content`.

use super::super::model::{EnvPart, EnvValue, FileSpec};
use super::super::parsed::FromFile;
use super::super::report::Span;
use super::super::value::Line;
use super::values::At;
use super::{Ctx, Fields, Scope, env};
use crate::limits::CONFIG_FILE_MAX;
use kdl::KdlValue;

/// Permissions of a file that says nothing of them.
const MODE: u32 = 0o444;

/// Reads all config files of a service or task; `taken` complains about a path that is used twice.
pub(super) fn read(
    ctx: &mut Ctx,
    scope: &Scope,
    fields: &mut Fields,
    mut taken: impl FnMut(&mut Ctx, &str, &Line),
) -> Vec<FileSpec> {
    let mut files = Vec::new();
    for line in fields.all("file") {
        let path = match At::property(scope, &line, "path") {
            Some(at) => at.path(ctx),
            None => {
                let hint = Some("add path=\"/etc/…\"".to_owned());
                ctx.error(scope, line.span, "the file has no path", hint);
                None
            }
        };
        let mode = At::property(scope, &line, "mode").map(|at| mode(ctx, at));
        let interpolate = At::property(scope, &line, "interpolate").map(|at| at.flag(ctx));
        let interpolate = interpolate.flatten().unwrap_or(false);
        let content = content(ctx, scope, &line, interpolate);
        let (Some(path), Some(content)) = (path, content) else { continue };
        taken(ctx, &path, &line);
        ctx.keep(scope, &["file", &path], line.span);
        files.push(FileSpec { path, content, mode: mode.flatten().unwrap_or(MODE) });
    }
    files
}

/// What is in it; nothing yet where it is read from beside the `.mill` file.
fn content(ctx: &mut Ctx, scope: &Scope, line: &Line, interpolate: bool) -> Option<EnvValue> {
    let given = At::property(scope, line, "content");
    let from = At::property(scope, line, "from");
    match (given, from) {
        (Some(_), Some(from)) => {
            from.error(ctx, "the file has content and from: leave one out", None);
            None
        }
        (None, None) => {
            let hint = Some("add from=\"web.toml\", or content=\"…\"".to_owned());
            ctx.error(scope, line.span, "the file has no content", hint);
            None
        }
        (None, Some(at)) => {
            let from = at.some_text(ctx)?;
            let name = line.properties.iter().find(|property| property.name == "from")?;
            let span = Span::new(name.name_span.start, at.value.span.end);
            ctx.from_files.push(FromFile { from, span, value: at.value.span });
            Some(EnvValue::default())
        }
        (Some(at), None) => {
            let KdlValue::String(text) = &at.value.value else {
                return at.text(ctx).map(|_| EnvValue::default());
            };
            if text.len() > CONFIG_FILE_MAX {
                let most = CONFIG_FILE_MAX >> 10;
                at.error(ctx, &format!("the file's content is larger than {most} KiB"), None);
                return None;
            }
            if interpolate {
                return env::interpolate(ctx, scope, at.value.span, text);
            }
            let parts = Some(EnvPart::Text(text.clone())).filter(|_| !text.is_empty());
            Some(EnvValue(parts.into_iter().collect()))
        }
    }
}

/// Permissions in octal, without bits that change who a program runs as.
fn mode(ctx: &mut Ctx, at: At) -> Option<u32> {
    let text = at.text(ctx)?;
    let octal = text.bytes().all(|byte| matches!(byte, b'0'..=b'7')) && text.len() >= 3;
    let bits = u32::from_str_radix(&text, 8).ok().filter(|bits| octal && *bits <= 0o777);
    if bits.is_none() {
        let hint = Some(at.written("\"0444\""));
        at.error(ctx, &format!("the mode {text:?} isn't one"), hint.map(|h| format!("write {h}")));
    }
    bits
}
