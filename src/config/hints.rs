//! Where members are that have moved: `ID=ADDR`, as flags and in a file.
//!
//! Never opens the file: its text is handed in.

use crate::cluster::join;
use crate::id::NodeId;
use std::collections::BTreeMap;

/// What a hint looks like.
const HINT: &str = "ID=HOST[:PORT] of a member, such as 2=10.0.0.7";

/// One hint: a node's id and where its peer port is.
///
/// # Errors
/// It is none; what is wanted instead.
pub fn hint(text: &str) -> Result<(NodeId, String), &'static str> {
    let (id, place) = text.trim().split_once('=').ok_or(HINT)?;
    let id = id.trim().parse().ok().filter(|id| *id > 0).ok_or(HINT)?;
    let (host, port) = join::place(place.trim()).ok_or(HINT)?;
    let place =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Ok((NodeId(id), place))
}

/// The hints of a file, one a line; empty lines and those that begin with `#` say nothing.
///
/// # Errors
/// The first line that is none, by its number, with what is wanted.
pub fn hints_in(text: &str) -> Result<BTreeMap<NodeId, String>, (usize, &'static str)> {
    let lines = text.lines().map(str::trim).enumerate();
    let said = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    said.map(|(at, line)| hint(line).map_err(|wanted| (at + 1, wanted))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[yare::parameterized(
        address = { "2=10.0.0.7", Some((2, "10.0.0.7:4401")) },
        port = { "3=n3.lan:99", Some((3, "n3.lan:99")) },
        v6 = { "1=fd00::1", Some((1, "[fd00::1]:4401")) },
        no_id = { "10.0.0.7", None },
        by_name = { "n2=10.0.0.7", None },
        zero = { "0=10.0.0.7", None },
        no_place = { "2=", None },
        url = { "2=http://n2", None },
    )]
    fn a_hint_is_an_id_and_a_place(text: &str, want: Option<(u64, &str)>) {
        let want = want.map(|(id, place)| (NodeId(id), place.to_owned()));
        assert_eq!(hint(text).ok(), want);
    }

    #[test]
    fn a_file_has_one_a_line() {
        let read = hints_in("# moved on Monday\n\n1=10.0.0.1\n 2 = 10.0.0.2:5 \n").unwrap();
        let all: Vec<_> = read.into_iter().map(|(id, place)| (id.0, place)).collect();
        assert_eq!(all, [(1, "10.0.0.1:4401".to_owned()), (2, "10.0.0.2:5".to_owned())]);
        assert_eq!(hints_in("1=a\nn2\n").unwrap_err().0, 2);
    }
}
