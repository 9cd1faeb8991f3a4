//! Server-sent events from bytes, as the WHATWG HTML standard (section 9.2.6) describes them.
//!
//! Owns the line and field rules and the bound on an event. Never reads from a connection.

use super::ClientError;
use crate::limits;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The last id that the stream has given, also by an earlier event.
    pub id: Option<String>,
    /// Its type; `message` where the stream names none.
    pub event: String,
    /// Its data lines, joined.
    pub data: String,
}

impl Event {
    /// Its data as JSON.
    ///
    /// # Errors
    /// It has another shape.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        let path = format!("event {}", self.event);
        serde_json::from_str(&self.data).map_err(|source| ClientError::Decode { path, source })
    }
}

/// An event that is larger than any of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is larger than {} bytes", limits::EVENT_MAX)]
pub struct TooLarge;

/// Puts events together from pieces of any size.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    after_return: bool,
    begun: bool,
    id: Option<String>,
    kind: String,
    data: Option<String>,
    ready: VecDeque<Event>,
}

impl Parser {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// An event grows beyond the bound.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        for &byte in bytes {
            let after_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if after_return => {}
                b'\n' => self.end_line(),
                b'\r' => {
                    self.after_return = true;
                    self.end_line();
                }
                _ => self.line.push(byte),
            }
            let size = self.line.len() + self.data.as_ref().map_or(0, String::len);
            if size > limits::EVENT_MAX {
                return Err(TooLarge);
            }
        }
        Ok(())
    }

    /// The next whole event.
    pub fn pop(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Makes an event the next one again.
    pub fn unpop(&mut self, event: Event) {
        self.ready.push_front(event);
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { line.trim_start_matches('\u{feff}') } else { &line };
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.kind),
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // Comments have an empty field name; others are not for us.
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        let kind = std::mem::take(&mut self.kind);
        let Some(data) = self.data.take() else { return };
        let event = if kind.is_empty() { "message".to_owned() } else { kind };
        self.ready.push_back(Event { id: self.id.clone(), event, data });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{feff}: hello\n\nid: 1\nevent: accepted\ndata: {\"revision\":8}\n\n\
                          :\r\n\r\ndata:a\r\ndata: b\r\nid:2\r\n\r\nevent: x\rdata\r\rretry: 5\n\n";

    fn event(id: &str, event: &str, data: &str) -> Event {
        Event { id: Some(id.to_owned()), event: event.to_owned(), data: data.to_owned() }
    }

    fn expected() -> Vec<Event> {
        vec![
            event("1", "accepted", "{\"revision\":8}"),
            event("2", "message", "a\nb"),
            event("2", "x", ""),
        ]
    }

    fn parse(pieces: &[&[u8]]) -> Vec<Event> {
        let mut parser = Parser::default();
        for piece in pieces {
            parser.push(piece).unwrap();
        }
        std::iter::from_fn(|| parser.pop()).collect()
    }

    #[test]
    fn events_come_out_whole_however_they_are_cut() {
        let bytes = STREAM.as_bytes();
        assert_eq!(parse(&[bytes]), expected());
        for cut in 0..bytes.len() {
            assert_eq!(parse(&[&bytes[..cut], &bytes[cut..]]), expected(), "cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(parse(&single), expected());
    }

    #[test]
    fn an_unfinished_event_is_none() {
        assert_eq!(parse(&[b"id: 1\ndata: x\n"]), []);
        assert_eq!(parse(&[b"event: done\n\n"]), []);
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; limits::EVENT_MAX];
        assert_eq!(parser.push(&piece), Ok(()));
        assert_eq!(parser.push(b"xx"), Err(TooLarge));
    }
}
