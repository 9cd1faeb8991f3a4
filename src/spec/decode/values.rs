//! Values of each type: text, name, number, flag, size, duration, path.
//!
//! Owns what is said when a value has the wrong type or is out of bounds. Never knows what a field
//! is for.

use super::super::fields;
use super::super::model::RateLimit;
use super::super::slips::quoted;
use super::super::value::{Line, Value};
use super::service::share;
use super::{Ctx, Scope};
use crate::limits::{ARG_MAX, NAME_MAX, PATH_MAX, SIZE_MAX, SPAN_MAX_MS};
use crate::units::{Bytes, Millis, QuantityError};
use kdl::KdlValue;

/// A value of a line that is to be read.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub scope: &'a Scope,
    pub line: &'a Line<'a>,
    pub value: &'a Value,
    pub property: Option<&'static str>,
}

impl<'a> At<'a> {
    /// The n-th value of a line; lines are read only with as many values as they need.
    pub(super) fn value(scope: &'a Scope, line: &'a Line<'a>, n: usize) -> Option<Self> {
        line.values.get(n).map(|value| Self { scope, line, value, property: None })
    }

    /// A property, if the line has it.
    pub(super) fn property(
        scope: &'a Scope,
        line: &'a Line<'a>,
        name: &'static str,
    ) -> Option<Self> {
        line.get(name).map(|value| Self { scope, line, value, property: Some(name) })
    }

    fn name(self) -> &'static str {
        self.property.unwrap_or(self.line.field)
    }

    /// As it is to be written with this text for its value: `memory "512M"`, `interval="10s"`.
    pub(super) fn written(self, value: &str) -> String {
        match self.property {
            Some(name) => format!("{name}={value}"),
            None => format!("{} {value}", self.line.field),
        }
    }

    /// The same, for a value that is perhaps not its field's first.
    fn nth(self, value: &str) -> String {
        let first = self.line.values.first().is_none_or(|v| v.span == self.value.span);
        if first || self.property.is_some() { self.written(value) } else { value.to_owned() }
    }

    pub(super) fn error(self, ctx: &mut Ctx, text: &str, hint: Option<String>) {
        ctx.error(self.scope, self.value.span, text, hint);
    }

    /// Any text that a process can be given.
    pub(super) fn text(self, ctx: &mut Ctx) -> Option<String> {
        let KdlValue::String(text) = &self.value.value else {
            let message = format!("{} is a text, not {}", self.name(), self.value.kind());
            let plain = ctx.source.slice(self.value.span).trim_start_matches('#').to_owned();
            let hint = match (self.value.value.clone(), self.name()) {
                (KdlValue::Null, _) | (_, "before-deploy" | "after-deploy") => None,
                // In quotes it would be wrong, too.
                (_, field @ ("health" | "memory" | "schedule" | "timeout" | "route" | "path")) => {
                    let example = match field {
                        "path" => "path=\"/\"",
                        field => fields::example(field),
                    };
                    Some(format!("write {example}"))
                }
                (_, field) => Some(match with_unit(field, &plain) {
                    Some(text) => format!("write {}", self.written(&quoted(&text))),
                    None => format!("quote it: {}", self.nth(&quoted(&plain))),
                }),
            };
            self.error(ctx, &message, hint);
            return None;
        };
        if text.contains('\0') {
            self.error(ctx, &format!("{} contains a NUL character", self.name()), None);
            return None;
        }
        if text.len() > ARG_MAX {
            let message = format!("{} is longer than {ARG_MAX} bytes", self.name());
            self.error(ctx, &message, None);
            return None;
        }
        Some(text.clone())
    }

    /// A text that isn't empty.
    pub(super) fn some_text(self, ctx: &mut Ctx) -> Option<String> {
        let text = self.text(ctx)?;
        if text.trim().is_empty() {
            self.error(ctx, &format!("{} is empty", self.name()), None);
            return None;
        }
        Some(text)
    }

    /// A name: `[a-z0-9-]`, 1 to 50, no dash at its ends.
    pub(super) fn label(self, ctx: &mut Ctx, what: &str) -> Option<String> {
        let text = self.text(ctx)?;
        let Err(why) = check_name(&text) else { return Some(text) };
        let hint = suggested(&text).map(|name| format!("for example {name:?}"));
        self.error(ctx, &format!("{what} {text:?} {why}"), hint);
        None
    }

    /// A whole number within bounds.
    pub(super) fn integer(self, ctx: &mut Ctx, least: u32, most: u32) -> Option<u32> {
        let number = match &self.value.value {
            KdlValue::Integer(number) => *number,
            other => {
                let message = format!(
                    "{} is a whole number, not {}",
                    self.name(),
                    match other {
                        KdlValue::Float(_) => "a fraction",
                        _ => self.value.kind(),
                    }
                );
                let number = match other {
                    KdlValue::String(text) => text.trim().parse::<u32>().ok(),
                    _ => None,
                };
                let hint = number.map(|n| format!("write {}", self.written(&n.to_string())));
                self.error(ctx, &message, hint.or_else(|| self.mapping()));
                return None;
            }
        };
        let found = u32::try_from(number).ok().filter(|n| (least..=most).contains(n));
        if found.is_none() {
            let message = format!("{} {number} isn't between {least} and {most}", self.name());
            self.error(ctx, &message, None);
        }
        found
    }

    /// What stands for Docker's `8080:80`.
    fn mapping(self) -> Option<String> {
        let KdlValue::String(text) = &self.value.value else { return None };
        let (host, port) = text.rsplit_once(':')?;
        let host: u16 = host.rsplit(':').next()?.parse().ok()?;
        let port: u16 = port.split('/').next()?.parse().ok()?;
        Some(match self.name() {
            "publish" => format!("write publish {host}; the container's is port {port}"),
            "port" => format!("write port {port}; for the host's: publish {host}"),
            _ => return None,
        })
    }

    /// A port.
    pub(super) fn port(self, ctx: &mut Ctx) -> Option<u16> {
        self.integer(ctx, 1, u32::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
    }

    /// `#true` or `#false`.
    pub(super) fn flag(self, ctx: &mut Ctx) -> Option<bool> {
        if let KdlValue::Bool(flag) = self.value.value {
            return Some(flag);
        }
        let on = !matches!(&self.value.value, KdlValue::String(t) if t == "false" || t == "no");
        let hint = format!("write {}", self.written(if on { "#true" } else { "#false" }));
        let message = format!("{} is #true or #false, not {}", self.name(), self.value.kind());
        self.error(ctx, &message, Some(hint));
        None
    }

    /// A duration of at least so many milliseconds.
    pub(super) fn duration(self, ctx: &mut Ctx, least: u64) -> Option<Millis> {
        let example = "units are ms, s, m, h";
        let text = self.quantity(ctx, &format!("{example}, as in {}", self.written("\"10s\"")))?;
        match Millis::parse(&text) {
            Ok(Millis(ms)) if ms < least => {
                let message = format!("{}: at least {}", self.shown(&text), Millis(least));
                self.error(ctx, &message, None);
                None
            }
            Ok(Millis(ms)) if ms > SPAN_MAX_MS => {
                let most = Millis(SPAN_MAX_MS);
                self.error(ctx, &format!("{}: at most {most}", self.shown(&text)), None);
                None
            }
            Ok(duration) => Some(duration),
            Err(why) => {
                self.not_a_quantity(ctx, &text, why, "duration", example);
                None
            }
        }
    }

    /// A size of at least so many bytes.
    pub(super) fn size(self, ctx: &mut Ctx, least: u64) -> Option<Bytes> {
        let example = "units are K, M, G (1000) and Ki, Mi, Gi (1024)";
        let text = self.quantity(ctx, &format!("{example}, as in {}", self.written("\"512M\"")))?;
        match Bytes::parse(&text) {
            Ok(Bytes(size)) if size < least => {
                let message = format!("{}: at least {}", self.shown(&text), Bytes(least));
                self.error(ctx, &message, None);
                None
            }
            Ok(Bytes(size)) if size > SIZE_MAX => {
                self.error(ctx, &format!("{}: at most 1048576Gi", self.shown(&text)), None);
                None
            }
            Ok(size) => Some(size),
            Err(why) => {
                self.not_a_quantity(ctx, &text, why, "size", example);
                None
            }
        }
    }

    fn shown(self, text: &str) -> String {
        self.written(&quoted(text))
    }

    /// The text of a quantity; a bare number lacks its unit.
    fn quantity(self, ctx: &mut Ctx, hint: &str) -> Option<String> {
        if let KdlValue::Integer(_) | KdlValue::Float(_) = self.value.value {
            let message = format!("{} needs a unit and quotes", self.name());
            self.error(ctx, &message, Some(hint.to_owned()));
            return None;
        }
        self.text(ctx)
    }

    fn not_a_quantity(
        self,
        ctx: &mut Ctx,
        text: &str,
        why: QuantityError,
        what: &str,
        units: &str,
    ) {
        let shown = self.shown(text);
        let (message, hint) = match why {
            QuantityError::Malformed => (format!("{shown} isn't a {what}"), Some(units.to_owned())),
            QuantityError::NoUnit => (format!("{shown} has no unit"), Some(units.to_owned())),
            QuantityError::UnknownUnit => {
                let near = near_unit(text, what)
                    .map(|near| format!("did you mean {}?", self.written(&quoted(&near))));
                let message = format!("{shown} has an unknown unit");
                (message, near.or_else(|| Some(units.to_owned())))
            }
            QuantityError::TooLarge => (format!("{shown} is too large"), None),
            QuantityError::TooFine => (format!("{shown} is too fine"), None),
        };
        self.error(ctx, &message, hint);
    }

    /// An absolute path in the container, without `.` and `..`.
    pub(super) fn path(self, ctx: &mut Ctx) -> Option<String> {
        let text = self.text(ctx)?;
        let parts = || text.split('/').skip(1);
        let why = if !text.starts_with('/') {
            "must begin with /"
        } else if parts().all(str::is_empty) {
            "can't be the root of the container"
        } else if parts().any(|part| matches!(part, "." | "..")) {
            "can't have . or .. in it"
        } else if matches!(parts().find(|part| !part.is_empty()), Some("proc" | "sys"))
            || parts().filter(|part| !part.is_empty()).eq(["dev"])
        {
            "is the kernel's"
        } else if text.len() > PATH_MAX {
            "is too long"
        } else {
            return Some(text);
        };
        self.error(ctx, &format!("the path {text:?} {why}"), None);
        None
    }
}

/// What a number means in a field whose texts end with a unit; an example if it can't stand there.
fn with_unit(field: &str, number: &str) -> Option<String> {
    let (unit, example) = match field {
        "limit" => ("/s", "100/s"),
        "max-error-rate" => ("%", "1%"),
        _ => return None,
    };
    let text = format!("{number}{unit}");
    let is_sound = match field {
        "limit" => RateLimit::parse(&text).is_some(),
        _ => share(&text).is_some(),
    };
    Some(if is_sound { text } else { example.to_owned() })
}

/// What was perhaps meant by `512MB`, `512m`, `10sec`.
fn near_unit(text: &str, what: &str) -> Option<String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(at);
    let unit = match (what, unit.trim().to_ascii_lowercase().as_str()) {
        ("size", "k" | "kb") => "K",
        ("size", "m" | "mb") => "M",
        ("size", "g" | "gb") => "G",
        ("size", "ki" | "kib") => "Ki",
        ("size", "mi" | "mib") => "Mi",
        ("size", "gi" | "gib") => "Gi",
        ("duration", "ms" | "msec" | "millis" | "milliseconds") => "ms",
        ("duration", "s" | "sec" | "secs" | "second" | "seconds") => "s",
        ("duration", "m" | "min" | "mins" | "minute" | "minutes") => "m",
        ("duration", "h" | "hr" | "hour" | "hours") => "h",
        ("duration", "d" | "day" | "days") => {
            let days: u64 = number.parse().ok()?;
            return Some(format!("{}h", days.checked_mul(24)?));
        }
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

/// Why a text is not a name.
pub(super) fn check_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    if text.len() > NAME_MAX {
        return Err("is longer than 50 characters");
    }
    if !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err("takes only a-z, 0-9 and -");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("can't begin or end with -");
    }
    Ok(())
}

/// Why a text is not a secret's name: names joined by dots.
pub(in crate::spec) fn check_secret(text: &str) -> Result<(), &'static str> {
    text.split('.').try_for_each(|part| {
        check_name(part).map_err(|why| match why {
            "is empty" => "has an empty part",
            why => why,
        })
    })
}

/// The nearest text that is a name.
fn suggested(text: &str) -> Option<String> {
    if !text.is_ascii() {
        return None;
    }
    let keep = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().take(NAME_MAX).map(keep).collect();
    let name = name.trim_matches('-').to_owned();
    check_name(&name).ok().map(|()| name)
}
