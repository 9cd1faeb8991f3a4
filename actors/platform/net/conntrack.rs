//! The kernel's table of connections: what leads to an address that is gone is taken out of it.
//!
//! Owns the messages to the kernel (linux/netfilter/nfnetlink_conntrack.h). Never decides which
//! entries go. A connection is led by its entry for as long as packets come, whatever the rules say
//! by then: who sends UDP all the time would be led to a container that is gone for ever.

use rtnetlink::sys::{Socket, SocketAddr};
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

const NETFILTER: isize = 12;
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

const CONNTRACK: u16 = 1 << 8;
const GET: u16 = 1;
const DELETE: u16 = 2;

const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;

const HEADER: usize = 16;
/// Family, version and resource behind the header.
const FAMILY: usize = 4;
const INET: u8 = 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IP_SOURCE: u16 = 1;
const IP_DESTINATION: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
/// The bits of an attribute's type that only describe it.
const TYPE_MASK: u16 = 0x3fff;

/// UDP's number.
pub(super) const UDP: u8 = 17;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Direction {
    pub source: (Ipv4Addr, u16),
    pub destination: (Ipv4Addr, u16),
}

/// A connection that the kernel keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub protocol: u8,
    /// As the first packet came.
    pub original: Direction,
    /// As the answers come; they differ where addresses are translated.
    pub reply: Direction,
}

impl Flow {
    /// Whether one of its ends has that address.
    pub fn touches(&self, address: Ipv4Addr) -> bool {
        let ends = [self.original, self.reply].map(|way| [way.source.0, way.destination.0]);
        ends.concat().contains(&address)
    }
}

/// Takes the connections out of the table that `goes` says; how many they were.
///
/// # Errors
/// The kernel refuses.
pub(super) async fn forget(goes: impl Fn(&Flow) -> bool + Send + 'static) -> io::Result<usize> {
    let done = tokio::task::spawn_blocking(move || forget_now(goes));
    done.await.unwrap_or_else(|lost| Err(io::Error::other(lost)))
}

fn forget_now(goes: impl Fn(&Flow) -> bool) -> io::Result<usize> {
    let count = std::fs::read_to_string(COUNT).unwrap_or_default();
    if count.trim() == "0" || !Path::new(COUNT).exists() {
        return Ok(0);
    }
    let mut socket = Socket::new(NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&message(GET, DUMP, &[]), 0)?;
    let mut found = Vec::new();
    'dump: loop {
        let (bytes, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&bytes) {
            match kind {
                DONE => break 'dump,
                ERROR => failure(body)?,
                _ => found.extend(entry(body).filter(|(flow, _)| goes(flow))),
            }
        }
    }
    for (_, name) in &found {
        socket.send(&message(DELETE, ACKNOWLEDGE, name), 0)?;
        let (bytes, _) = socket.recv_from_full()?;
        for (_, body) in messages(&bytes).filter(|(kind, _)| *kind == ERROR) {
            match failure(body) {
                // It has ended meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                told => told?,
            }
        }
    }
    Ok(found.len())
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let length = HEADER + FAMILY + attributes.len();
    let mut bytes = u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    bytes.extend((CONNTRACK | kind).to_ne_bytes());
    bytes.extend((REQUEST | flags).to_ne_bytes());
    // The sequence, and the kernel as the other end.
    bytes.extend([0; 8]);
    bytes.extend([INET, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// The messages in a datagram: type and what is behind the header.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?)).ok()?;
        let kind = u16::from_ne_bytes(rest.get(4..6)?.try_into().ok()?);
        let body = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// What an answer says went wrong; 0 is that nothing did.
fn failure(body: &[u8]) -> io::Result<()> {
    let code = body.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Attributes with their types and, besides their values, their bytes as they came.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = rest.get(4..length)?;
        let padded = length.next_multiple_of(4).min(rest.len());
        let (whole, after) = rest.split_at_checked(padded)?;
        rest = after;
        Some((kind, value, whole))
    })
}

/// A connection, and the attributes that name it.
fn entry(body: &[u8]) -> Option<(Flow, Vec<u8>)> {
    let (mut original, mut reply, mut name) = (None, None, Vec::new());
    for (kind, value, whole) in attributes(body.get(FAMILY..)?) {
        match kind {
            TUPLE_ORIGINAL => original = direction(value),
            TUPLE_REPLY => reply = direction(value),
            _ => {}
        }
        if matches!(kind, TUPLE_ORIGINAL | ID | ZONE) {
            name.extend(whole);
        }
    }
    let ((protocol, original), (_, reply)) = (original?, reply?);
    Some((Flow { protocol, original, reply }, name))
}

fn direction(tuple: &[u8]) -> Option<(u8, Direction)> {
    let address = |bytes: &[u8]| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?));
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.try_into().ok()?));
    let (mut from, mut to, mut protocol) = (None, None, None);
    // Without ports there are none.
    let (mut from_port, mut to_port) = (0, 0);
    for (kind, nested, _) in attributes(tuple) {
        for (inner, value, _) in attributes(nested) {
            match (kind, inner) {
                (TUPLE_IP, IP_SOURCE) => from = address(value),
                (TUPLE_IP, IP_DESTINATION) => to = address(value),
                (TUPLE_PROTOCOL, PROTOCOL_NUMBER) => protocol = value.first().copied(),
                (TUPLE_PROTOCOL, SOURCE_PORT) => from_port = port(value)?,
                (TUPLE_PROTOCOL, DESTINATION_PORT) => to_port = port(value)?,
                _ => {}
            }
        }
    }
    let direction = Direction { source: (from?, from_port), destination: (to?, to_port) };
    Some((protocol?, direction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_is_no_entry() {
        let whole = message(GET, DUMP, &[8, 0, 12, 0, 1, 2, 3, 4]);
        assert_eq!(messages(&whole).count(), 1);
        for length in 0..whole.len() {
            assert_eq!(messages(&whole[..length]).count(), 0, "{length}");
        }
        assert_eq!(entry(&[]), None);
        assert_eq!(entry(&[2, 0, 0, 0, 255, 0, 1, 0]), None);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0, "an empty one doesn't go on for ever");
    }
}
