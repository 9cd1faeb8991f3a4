//! The header by which a proxy in front tells whose connection it passes on (HAProxy's PROXY
//! protocol, versions 1 and 2).
//!
//! Owns how it is read. Never decides whom to believe.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The first bytes of version 2.
pub const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before its addresses.
pub const BINARY_HEAD: usize = 16;
/// Most bytes behind them that are read.
pub const BINARY_MAX: usize = 1_024;
/// Most bytes of a header of version 1, with its end.
pub const TEXT_MAX: usize = 107;
/// What each header of version 1 has at least: so many bytes may be read at once.
pub const TEXT_MIN: usize = 13;

/// No such header, or one that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proxy in front sent no header of the PROXY protocol")]
pub struct NoHeader;

/// Whose connection it is; none: the proxy's own.
pub type Client = Option<SocketAddr>;

/// Reads a header of version 1, with its end.
///
/// # Errors
/// It is none.
pub fn text(line: &[u8]) -> Result<Client, NoHeader> {
    let line = std::str::from_utf8(line).map_err(|_| NoHeader)?;
    let line = line.strip_suffix("\r\n").ok_or(NoHeader)?;
    let mut parts = line.split(' ');
    if parts.next() != Some("PROXY") {
        return Err(NoHeader);
    }
    let family = parts.next();
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let mut next = || parts.next().ok_or(NoHeader);
    let (from, _to, port, _to_port) = (next()?, next()?, next()?, next()?);
    let address: IpAddr = from.parse().map_err(|_| NoHeader)?;
    let fits = matches!((family, address), (Some("TCP4"), IpAddr::V4(_)))
        || matches!((family, address), (Some("TCP6"), IpAddr::V6(_)));
    let port: u16 = port.parse().map_err(|_| NoHeader)?;
    if fits && parts.next().is_none() { Ok(Some((address, port).into())) } else { Err(NoHeader) }
}

/// How many bytes follow the head of version 2.
///
/// # Errors
/// It is none.
pub fn length(head: &[u8; BINARY_HEAD]) -> Result<usize, NoHeader> {
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let known = head.starts_with(SIGNATURE) && head[12] >> 4 == 2 && length <= BINARY_MAX;
    if known { Ok(length) } else { Err(NoHeader) }
}

/// Reads a header of version 2: its head, and what follows it.
///
/// # Errors
/// It can't be read.
pub fn binary(head: &[u8; BINARY_HEAD], rest: &[u8]) -> Result<Client, NoHeader> {
    let port = |at: usize| -> Result<u16, NoHeader> {
        let bytes = rest.get(at..at + 2).ok_or(NoHeader)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    match (head[12] & 0x0f, head[13] >> 4) {
        // The proxy asks for itself, as to see whether somebody is there.
        (0, _) | (1, 0 | 3) => Ok(None),
        (1, 1) => {
            let from: [u8; 4] = rest.get(..4).and_then(|b| b.try_into().ok()).ok_or(NoHeader)?;
            Ok(Some((from, port(8)?).into()))
        }
        (1, 2) => {
            let from: [u8; 16] = rest.get(..16).and_then(|b| b.try_into().ok()).ok_or(NoHeader)?;
            Ok(Some((Ipv6Addr::from(from), port(32)?).into()))
        }
        _ => Err(NoHeader),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    #[parameterized(
        four = { "PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n", Ok(Some("203.0.113.7:4711")) },
        six = { "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n", Ok(Some("[2001:db8::1]:1")) },
        unknown = { "PROXY UNKNOWN\r\n", Ok(None) },
        unknown_with_more = { "PROXY UNKNOWN ffff:: ffff:: 1 2\r\n", Ok(None) },
        newline_only = { "PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\n", Err(()) },
        other_family = { "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", Err(()) },
        too_few = { "PROXY TCP4 203.0.113.7 192.0.2.1 4711\r\n", Err(()) },
        too_many = { "PROXY TCP4 203.0.113.7 192.0.2.1 1 2 3\r\n", Err(()) },
        no_port = { "PROXY TCP4 203.0.113.7 192.0.2.1 70000 80\r\n", Err(()) },
        request = { "GET / HTTP/1.1\r\n", Err(()) },
    )]
    fn a_line_names_the_client(line: &str, expected: Result<Option<&str>, ()>) {
        let expected = expected.map(|client| client.map(|client| client.parse().unwrap()));
        assert_eq!(text(line.as_bytes()).map_err(drop), expected);
    }

    #[parameterized(
        four = { "2111000c cb007107 c0000201 1267 0050", Ok(Some("203.0.113.7:4711")) },
        more = { "2111000f cb007107 c0000201 1267 0050 030000", Ok(Some("203.0.113.7:4711")) },
        six = {
            "21210024 20010db8000000000000000000000001 20010db8000000000000000000000002 0001 0002",
            Ok(Some("[2001:db8::1]:1"))
        },
        local = { "20000000", Ok(None) },
        unspecified = { "21000000", Ok(None) },
        cut = { "21110004 cb007107", Err(()) },
        other_version = { "11110000", Err(()) },
        other_command = { "2f110000", Err(()) },
        long = { "2111ffff", Err(()) },
    )]
    fn bytes_name_the_client(hex: &str, expected: Result<Option<&str>, ()>) {
        let bytes = [SIGNATURE, &hex::decode(hex.replace(' ', "")).unwrap()].concat();
        let (head, rest) = bytes.split_first_chunk().unwrap();
        let found = length(head).and_then(|length| {
            assert_eq!(length, rest.len());
            binary(head, rest)
        });
        let expected = expected.map(|client| client.map(|client| client.parse().unwrap()));
        assert_eq!(found.map_err(drop), expected);
    }
}
