//! One field's line: its values and properties, decoded by the KDL parser.
//!
//! Owns the hand-over to the parser: it gets one line at a time, rebuilt from tokens without
//! blocks and comments, so that neither nesting nor size can overflow its stack or its time.
//! Never judges a value.

use super::decode::{Ctx, Scope};
use super::elsewhere;
use super::fields;
use super::nearest::nearest;
use super::outline::{Block, Entry, Node};
use super::report::{Source, Span};
use super::scan::Token;
use super::slips;
use kdl::{KdlNode, KdlValue};

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub value: KdlValue,
    pub span: Span,
}

/// A property.
#[derive(Clone, Debug)]
pub(super) struct Property {
    pub name: String,
    pub name_span: Span,
    pub value: Value,
}

/// A field's line.
#[derive(Clone, Debug)]
pub(super) struct Line<'o> {
    pub field: &'static str,
    pub name_span: Span,
    /// The name and the values.
    pub span: Span,
    pub values: Vec<Value>,
    pub properties: Vec<Property>,
    pub block: Option<&'o Block>,
    /// A property was refused: what is missing was perhaps meant by it.
    pub refused: bool,
}

/// The name of a field or property.
pub(super) fn name(source: &Source, token: Token) -> String {
    let text = slips::fixed(source, token);
    if !text.starts_with(['"', '#']) {
        return text.into_owned();
    }
    KdlNode::parse(&text).map_or_else(|_| text.to_string(), |node| node.name().value().to_owned())
}

impl Value {
    /// How the value is called in a message.
    pub(super) fn kind(&self) -> &'static str {
        match &self.value {
            KdlValue::String(_) => "text",
            KdlValue::Integer(_) | KdlValue::Float(_) => "a number",
            KdlValue::Bool(_) => "#true or #false",
            KdlValue::Null => "#null",
        }
    }
}

impl<'o> Line<'o> {
    /// A line with this value alone.
    pub(super) fn of(field: &'static str, value: Value) -> Self {
        let (name_span, span) = (value.span, value.span);
        let (values, properties) = (vec![value], Vec::new());
        Self { field, name_span, span, values, properties, block: None, refused: false }
    }

    /// Decodes a field's values and checks its form: annotations, properties, number, a block.
    /// None if there is nothing left to read.
    pub(super) fn read(
        ctx: &mut Ctx,
        scope: &Scope,
        node: &'o Node,
        field: &'static str,
    ) -> Option<Self> {
        let mut line = Self {
            field,
            name_span: node.name.span,
            span: node.span,
            values: Vec::new(),
            properties: Vec::new(),
            block: node.block.as_ref(),
            refused: false,
        };
        let entries: Vec<&Entry> = node.entries().collect();
        let annotations = entries.iter().filter_map(|entry| entry.annotation);
        for span in node.annotation.into_iter().chain(annotations) {
            ctx.error(scope, span, "type annotations aren't used here", Some("drop it".to_owned()));
        }
        let property = entries.iter().find_map(|entry| entry.name.map(|name| (name, entry)));
        if let Some((name, entry)) = property
            && field == "variable"
        {
            let first = entries.first().map_or(name.span, |first| match first.name {
                Some(name) => name.span,
                None => first.value.span,
            });
            let last = entries.last().map_or(entry.value.span, |last| last.value.span);
            let whole = ctx.source.slice(Span::new(first.start, last.end)).replace('"', "");
            let variable = ctx.source.slice(node.name.span);
            let hint = format!("quote the whole: {variable} {}", slips::quoted(&whole));
            ctx.error(scope, name.span, "env: a variable takes no properties", Some(hint));
            return None;
        }
        let values = decode(ctx, scope, &entries)?;
        for (entry, (name, value)) in entries.iter().zip(values) {
            match (name, entry.name) {
                (Some(name), Some(token)) => {
                    let property = Property { name, name_span: token.span, value };
                    line.property(ctx, scope, property, fields::properties(field));
                }
                _ => line.values.push(value),
            }
        }
        if let Some(block) = &node.block
            && !matches!(field, "service" | "task" | "env" | "route")
        {
            let brace = Span::new(block.span.start, block.span.start + 1);
            let what = if field == "variable" { "env: a variable" } else { field };
            ctx.error(scope, brace, &format!("{what} takes no block"), None);
            line.refused = true;
        }
        line.count(ctx, scope).then_some(line)
    }

    fn property(&mut self, ctx: &mut Ctx, scope: &Scope, property: Property, known: &[&str]) {
        let Property { name, name_span, value } = &property;
        let field = self.field;
        if !known.contains(&name.as_str()) {
            self.refused = true;
            let text = format!("{field} has no property {name:?}");
            let whole = ctx.source.slice(Span::new(name_span.start, value.span.end));
            let foreign = elsewhere::property(field, name);
            let hint = match nearest(name, known) {
                _ if foreign.is_some() => foreign.map(str::to_owned),
                Some(near) => Some(format!("did you mean {near:?}?")),
                None if matches!(field, "command" | "args") => {
                    Some(format!("quote it: {}", slips::quoted(whole)))
                }
                None if field == "constraint" => {
                    let plain = || ctx.source.slice(value.span).trim_start_matches('#');
                    let text = slips::quoted(value.value.as_string().unwrap_or_else(plain));
                    Some(format!("write constraint {} {text}", slips::quoted(name)))
                }
                None if field == "env" => Some("write env { NAME \"value\" }".to_owned()),
                None if matches!(field, "service" | "task") => {
                    Some("fields go between { and }".to_owned())
                }
                None => None,
            };
            return ctx.error(scope, *name_span, &text, hint);
        }
        if let Some(first) = self.properties.iter().find(|p| p.name == *name) {
            let hint = format!("the first is on line {}", ctx.line_of(first.name_span));
            return ctx.error(
                scope,
                *name_span,
                &format!("{field}: {name} is given twice"),
                Some(hint),
            );
        }
        self.properties.push(property);
    }

    /// Whether the field has as many values as it takes.
    fn count(&self, ctx: &mut Ctx, scope: &Scope) -> bool {
        let (least, most) = fields::values(self.field);
        let (field, found) = (self.field, self.values.len());
        let example = fields::example(field);
        if found < least && self.refused {
            return false;
        }
        if found < least {
            let what = if least == 1 { "a value" } else { "two values" };
            let text = format!("{field} needs {what}");
            ctx.error(scope, self.name_span, &text, Some(format!("write {example}")));
            return false;
        }
        if found > most {
            let text = match most {
                0 => format!("{field} takes no value"),
                1 => format!("{field} takes one value"),
                _ => format!("{field} takes two values"),
            };
            let (first, last) = (self.values[0].span.start, self.values[found - 1].span.end);
            let next = ctx.source.slice(self.values[most].span).to_owned();
            let hint = if fields::SERVICE.contains(&next.as_str()) {
                format!("a new line is missing before {next}")
            } else if matches!(field, "schedule" | "timeout" | "memory") {
                let whole = ctx.source.slice(Span::new(first, last)).replace('"', "");
                // A unit stands at its number.
                let whole = if field == "schedule" { whole } else { whole.replace(' ', "") };
                format!("quote the whole: {field} {}", slips::quoted(&whole))
            } else {
                format!("write {example}")
            };
            ctx.error(scope, self.values[most].span, &text, Some(hint));
            return false;
        }
        true
    }

    /// A property's value.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.properties.iter().find(|property| property.name == name).map(|p| &p.value)
    }
}

type Decoded = Vec<(Option<String>, Value)>;

/// Hands the values to the parser as one line of canonical KDL.
fn decode(ctx: &mut Ctx, scope: &Scope, entries: &[&Entry]) -> Option<Decoded> {
    if entries.is_empty() {
        return Some(Vec::new());
    }
    let mut text = String::from("x");
    for entry in entries {
        text.push(' ');
        push(ctx.source, entry, &mut text);
    }
    let Ok(node) = KdlNode::parse(&text) else {
        for entry in entries {
            let mut text = String::from("x ");
            push(ctx.source, entry, &mut text);
            if KdlNode::parse(&text).is_err() {
                refuse(ctx, scope, entry);
            }
        }
        return None;
    };
    let decoded = entries.iter().zip(node.entries()).map(|(entry, decoded)| {
        let value = Value { value: decoded.value().clone(), span: entry.value.span };
        (decoded.name().map(|name| name.value().to_owned()), value)
    });
    Some(decoded.collect())
}

fn push(source: &Source, entry: &Entry, text: &mut String) {
    if let Some(name) = entry.name {
        text.push_str(&slips::fixed(source, name));
        text.push('=');
    }
    text.push_str(&slips::fixed(source, entry.value));
}

/// What the scanner lets through and the parser doesn't: huge numbers and ragged texts.
fn refuse(ctx: &mut Ctx, scope: &Scope, entry: &Entry) {
    let text = ctx.source.slice(entry.value.span);
    let (message, hint) = if text.trim_start_matches('#').starts_with("\"\"\"") {
        let hint = "indent each line at least as far as the closing \"\"\", alone on its line";
        ("this text isn't indented evenly", Some(hint.to_owned()))
    } else if text.starts_with(['"', '#']) {
        ("this text can't be read", None)
    } else {
        ("this number is too large", None)
    };
    ctx.error(scope, entry.value.span, message, hint);
}
