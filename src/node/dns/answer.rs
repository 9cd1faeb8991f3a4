//! Plain questions, answered at once: one question of class IN, with no or a bare OPT record.
//!
//! Owns the bytes of the answer. Never allocates but in the buffer that it is given. What isn't
//! plain is left to `unusual`.

use super::zone::{A, ANY, ASKED, Entry, IN, NAME_MAX, SOA, Zone, ttl};
use std::net::Ipv4Addr;

/// Length of a message's header (RFC 1035, 4.1.1).
pub(super) const HEADER: usize = 12;
/// The type of an OPT record (RFC 6891).
const OPT: u16 = 41;
/// What may be answered over UDP to a question without EDNS (RFC 1035, 4.2.1).
const PLAIN_MAX: usize = 512;
/// What may be answered with EDNS, and what is asked for: no fragments (DNS Flag Day 2020).
pub(super) const EDNS_MAX: u16 = 1232;
/// Response codes.
const NO_SUCH_NAME: u8 = 3;

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The answer is in the buffer.
    Ready(Outcome),
    /// It isn't plain, or not about the zone.
    NotPlain,
}

/// What a question came to, as the metric has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// There are such records.
    Answered,
    /// The name has none of that type.
    Empty,
    /// There is no such name.
    NoSuchName,
    /// The answer is a resolver's.
    Forwarded,
    /// It isn't for whoever asked, or can't be understood.
    Refused,
    /// No resolver answered.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Answered,
        Self::Empty,
        Self::NoSuchName,
        Self::Forwarded,
        Self::Refused,
        Self::Failed,
    ];

    /// Its label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Empty => "empty",
            Self::NoSuchName => "nxdomain",
            Self::Forwarded => "forwarded",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// A plain question.
struct Question {
    /// The name in lower case.
    key: [u8; NAME_MAX],
    key_len: usize,
    /// Where each of its last three labels begins in the message, the last one first.
    last: [usize; 4],
    kind: u16,
    /// Where the question ends.
    end: usize,
    /// How much the asker can take, if it says so.
    edns: Option<u16>,
}

/// Answers a question about the zone. `rotation` turns the addresses; over TCP (`stream`) any
/// size fits.
pub fn answer(
    zone: &Zone,
    message: &[u8],
    stream: bool,
    rotation: usize,
    out: &mut Vec<u8>,
) -> Answer {
    let Some(question) = Question::parse(message) else { return Answer::NotPlain };
    let key = &question.key[..question.key_len];
    let Some(apex) = apex(zone, &question) else { return Answer::NotPlain };
    let limit = match question.edns {
        _ if stream => usize::from(u16::MAX),
        None => PLAIN_MAX,
        Some(size) => usize::from(size.clamp(512, EDNS_MAX)),
    };
    begin(message, &question, out);
    let entry = zone.get(key);
    let found = entry.is_some_and(|entry| records(entry, &question, limit, rotation, out));
    let outcome = match entry {
        Some(_) if found => Outcome::Answered,
        Some(_) if question.kind == SOA && key == b"\x04mill\0" => {
            out[7] = 1;
            authority(zone, ASKED, out);
            Outcome::Answered
        }
        Some(_) => Outcome::Empty,
        None => {
            out[3] |= NO_SUCH_NAME;
            Outcome::NoSuchName
        }
    };
    if outcome != Outcome::Answered {
        out[9] = 1;
        let [high, low] = u16::try_from(apex).unwrap_or_default().to_be_bytes();
        authority(zone, [0xc0 | high, low], out);
    }
    if question.edns.is_some() {
        out[11] = out[11].saturating_add(1);
        out.extend([0, 0, 41]);
        out.extend(EDNS_MAX.to_be_bytes());
        out.extend([0; 6]);
    }
    Answer::Ready(outcome)
}

/// Header and question, with no records yet.
fn begin(message: &[u8], question: &Question, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&message[..2]);
    // A response, with authority; recursion as it was asked for, and there is some.
    out.extend([0x84 | message[2] & 1, 0x80]);
    out.extend([0, 1, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&message[HEADER..question.end]);
}

/// Appends the records of the asked type, if there are any. What doesn't fit is left out as a
/// whole, and said so; additional ones without a word.
fn records(
    entry: &Entry,
    question: &Question,
    limit: usize,
    rotation: usize,
    out: &mut Vec<u8>,
) -> bool {
    let room = limit.saturating_sub(out.len() + question.edns.map_or(0, |_| 11));
    let count: usize = entry.addresses.iter().map(Vec::len).sum();
    if count > 0 && matches!(question.kind, A | ANY) {
        if count * 16 > room {
            out[2] |= 2;
            return true;
        }
        for group in &entry.addresses {
            let start = if group.is_empty() { 0 } else { rotation % group.len() };
            let rotated = group[start..].iter().chain(&group[..start]);
            rotated.for_each(|address| push_address(*address, out));
        }
        set_count(out, 6, u16::try_from(count).unwrap_or(u16::MAX));
        return true;
    }
    let wanted = |kind: u16| question.kind == kind || question.kind == ANY;
    let Some(other) = entry.other.as_ref().filter(|other| wanted(other.kind)) else {
        return false;
    };
    if other.answers.bytes.len() > room {
        out[2] |= 2;
        return true;
    }
    out.extend_from_slice(&other.answers.bytes);
    set_count(out, 6, other.answers.count);
    if other.answers.bytes.len() + other.additional.bytes.len() <= room {
        out.extend_from_slice(&other.additional.bytes);
        set_count(out, 10, other.additional.count);
    }
    true
}

fn push_address(address: Ipv4Addr, out: &mut Vec<u8>) {
    out.extend(ASKED);
    out.extend([0, 1, 0, 1]);
    out.extend(ttl());
    out.extend([0, 4]);
    out.extend(address.octets());
}

fn set_count(out: &mut [u8], at: usize, count: u16) {
    out[at..at + 2].copy_from_slice(&count.to_be_bytes());
}

/// Appends the zone's SOA record.
fn authority(zone: &Zone, owner: [u8; 2], out: &mut Vec<u8>) {
    out.extend(owner);
    out.extend(SOA.to_be_bytes());
    out.extend(IN.to_be_bytes());
    out.extend(ttl());
    out.extend(u16::try_from(zone.authority.len()).unwrap_or_default().to_be_bytes());
    out.extend_from_slice(&zone.authority);
}

/// Where the name of the zone begins that the question is about; none if it is none of ours.
fn apex(zone: &Zone, question: &Question) -> Option<usize> {
    let key = &question.key[..question.key_len];
    let [top, _, third, _] = question.last;
    if key.ends_with(b"\x04mill\0") && key.len() + HEADER - 6 == top {
        return Some(top);
    }
    let address = key.strip_suffix(b"\x07in-addr\x04arpa\0")?;
    let mut octets = [0; 4];
    let mut rest = address;
    let mut at = 4;
    while let Some((length, after)) = rest.split_first() {
        let digits = after.get(..usize::from(*length))?;
        at = usize::checked_sub(at, 1)?;
        octets[at] = std::str::from_utf8(digits).ok()?.parse().ok()?;
        rest = &after[usize::from(*length)..];
    }
    let is_ours = at == 0 && zone.reverse?.contains(Ipv4Addr::from(octets));
    is_ours.then_some(third)
}

impl Question {
    fn parse(message: &[u8]) -> Option<Self> {
        let header = message.get(..HEADER)?;
        // A standard query that isn't cut off.
        let is_plain = header[2] & 0xfe == 0 && header[4..10] == [0, 1, 0, 0, 0, 0];
        let extra = u16::from_be_bytes([header[10], header[11]]);
        if !is_plain || extra > 1 {
            return None;
        }
        let mut question =
            Self { key: [0; NAME_MAX], key_len: 0, last: [0; 4], kind: 0, end: 0, edns: None };
        let mut at = HEADER;
        loop {
            let length = usize::from(*message.get(at)?);
            let label = message.get(at..=at + length)?;
            // A pointer is no label, and longer than any.
            let room = question.key.get_mut(at - HEADER..=at - HEADER + length)?;
            if length > 63 {
                return None;
            }
            for (to, from) in room.iter_mut().zip(label) {
                *to = from.to_ascii_lowercase();
            }
            if length == 0 {
                break;
            }
            question.last.rotate_right(1);
            question.last[0] = at;
            at += 1 + length;
        }
        question.key_len = at + 1 - HEADER;
        let fixed = message.get(at + 1..at + 5)?;
        question.kind = u16::from_be_bytes([fixed[0], fixed[1]]);
        question.end = at + 5;
        let is_internet = fixed[2..] == IN.to_be_bytes();
        question.edns = bare(&message[question.end..], extra)?;
        is_internet.then_some(question)
    }
}

/// What is behind the question: nothing, or an OPT record of version 0 without options.
#[expect(clippy::option_option, reason = "not plain, or plain without EDNS")]
fn bare(rest: &[u8], extra: u16) -> Option<Option<u16>> {
    match (extra, rest) {
        (0, []) => Some(None),
        (1, [0, a, b, high, low, 0, 0, _, _, 0, 0]) if u16::from_be_bytes([*a, *b]) == OPT => {
            Some(Some(u16::from_be_bytes([*high, *low])))
        }
        _ => None,
    }
}
