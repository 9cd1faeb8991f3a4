//! Who may become a member: what a join request must fulfil, and where it is sent.
//!
//! Owns the refusals with their remedies. Never makes anybody a member: that is `apply`.

use crate::cluster::token::{self, TokenError};
use crate::fsm::State;
use crate::fsm::model::Role;
use crate::limits::{self, LABEL_MAX, LABEL_VALUE_MAX};
use crate::units::{Millis, Timestamp, span};
use std::fmt;

/// What is known of a node that wants to join, and matters for whether it may.
#[derive(Clone, PartialEq, Eq)]
pub struct Wish<'a> {
    /// The token's whole text.
    pub token: &'a str,
    /// The name that it wants.
    pub node: &'a str,
    /// How others reach it.
    pub address: &'a str,
    /// Its peer port.
    pub port: u32,
    /// Its labels, by name.
    pub labels: Vec<(&'a str, &'a str)>,
    /// Its program's version.
    pub version: &'a str,
    /// The highest feature level that it knows.
    pub feature_level: u32,
    /// Its wall clock.
    pub time: Timestamp,
}

/// Why a node may not join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefusal {
    /// The token is not let in.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A token for something else.
    #[error("a token of role {} joins no node", role.name())]
    Role {
        /// What it is for.
        role: Role,
    },
    /// The clocks differ.
    #[error(
        "this host's clock is {by} {} the cluster's",
        if *ahead { "ahead of" } else { "behind" }
    )]
    Clock {
        /// By how much.
        by: Apart,
        /// Which way.
        ahead: bool,
    },
    /// An older program than the cluster needs.
    #[error("mill {version} is too old: it has feature level {level}, the cluster is at {needed}")]
    TooOld {
        /// Of the program that wants to join.
        version: String,
        /// What it knows.
        level: u32,
        /// What it would have to know.
        needed: u32,
    },
    /// A newer program than the cluster can be upgraded to at once.
    #[error("mill {version} is too new: it has feature level {level}, the cluster is at {ours}")]
    TooNew {
        /// Of the program that wants to join.
        version: String,
        /// What it knows.
        level: u32,
        /// What the cluster knows.
        ours: u32,
    },
    /// No name.
    #[error("node name {name:?} is not 1 to 50 of a-z, 0-9 and -")]
    Name {
        /// What was given.
        name: String,
    },
    /// A label that is none.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// More labels than a node may have.
    #[error("{count} labels are too many for a node")]
    Labels { count: usize },
    /// No address.
    #[error("{address:?} with port {port} is no place where others could reach the node")]
    Address {
        /// What was given.
        address: String,
        port: u32,
    },
}

impl JoinRefusal {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Token(_) | Self::Role { .. } => {
                "make another on a member: mill token create --role join --ttl 1h".to_owned()
            }
            Self::Clock { .. } => "set this host's clock, for example by NTP".to_owned(),
            Self::TooOld { .. } => "install the cluster's version on this host".to_owned(),
            Self::TooNew { .. } => {
                "upgrade the members first, or install their version on this host".to_owned()
            }
            Self::Label(no) => no.hint(),
            Self::Labels { .. } => format!("pass at most {} --label", limits::NODE_LABELS_MAX),
            Self::Name { .. } => "pass --node NAME".to_owned(),
            Self::Address { .. } => "pass --advertise IP".to_owned(),
        }
    }

    /// Whether it is about the token: nothing else helps.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Token(_) | Self::Role { .. })
    }
}

/// A time between two clocks, as a person says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apart(Millis);

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&span(self.0.0 / 1000))
    }
}

/// Whether a node may join: all that can be said before the change is proposed. `level` is the
/// feature level that entries of this cluster may need, `known` the one that this member knows.
///
/// # Errors
/// Why not; the token first, so that whoever has none learns nothing else.
pub fn check(
    state: &State,
    wish: &Wish<'_>,
    now: Timestamp,
    (level, known): (u32, u32),
) -> Result<(), JoinRefusal> {
    let token = token::find(state, wish.token, now)?;
    if token.role != Role::Join {
        return Err(JoinRefusal::Role { role: token.role });
    }
    let version = || wish.version.chars().take(limits::NAME_MAX).collect();
    if wish.feature_level < level {
        let (version, level, needed) = (version(), wish.feature_level, level);
        return Err(JoinRefusal::TooOld { version, level, needed });
    }
    // One step ahead is a rolling upgrade. A new cluster's level has still to be raised.
    if wish.feature_level > level.max(known) + 1 {
        let (version, level, ours) = (version(), wish.feature_level, level);
        return Err(JoinRefusal::TooNew { version, level, ours });
    }
    let by = Millis(wish.time.0.abs_diff(now.0));
    if by > Millis::from(limits::JOIN_CLOCK) {
        return Err(JoinRefusal::Clock { by: Apart(by), ahead: wish.time > now });
    }
    if !is_name(wish.node) {
        return Err(JoinRefusal::Name { name: wish.node.chars().take(limits::NAME_MAX).collect() });
    }
    check_labels(&wish.labels)?;
    let reachable = wish.address.parse::<std::net::IpAddr>().is_ok_and(|a| !a.is_unspecified());
    if !reachable || wish.port == 0 || u16::try_from(wish.port).is_err() {
        let address = wish.address.chars().take(limits::NAME_MAX).collect();
        return Err(JoinRefusal::Address { address, port: wish.port });
    }
    Ok(())
}

/// Why a label isn't taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error("{label:?} is no label")]
    Name {
        /// The beginning of it.
        label: String,
    },
    #[error("{value:?} is no value of label {label}")]
    Value {
        /// Whose.
        label: String,
        /// The beginning of it.
        value: String,
    },
}

impl LabelError {
    /// What to write instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Name { .. } => {
                format!("1 to {LABEL_MAX} bytes without blanks and =, and no dash at the end")
            }
            Self::Value { .. } => format!("1 to {LABEL_VALUE_MAX} bytes without blanks"),
        }
    }
}

/// Labels are what `constraint` can name and `mill label` can write.
///
/// # Errors
/// The label or its value is none.
pub fn check_label(label: &str, value: Option<&str>) -> Result<(), LabelError> {
    let begin = |text: &str| text.chars().take(LABEL_MAX).collect();
    let is_odd = |c: char| c.is_control() || c.is_whitespace();
    let is_label = !label.contains(|c| is_odd(c) || c == '=') && !label.ends_with('-');
    if label.is_empty() || label.len() > LABEL_MAX || !is_label {
        return Err(LabelError::Name { label: begin(label) });
    }
    let is_value =
        |value: &str| (1..=LABEL_VALUE_MAX).contains(&value.len()) && !value.contains(is_odd);
    match value {
        Some(value) if !is_value(value) => {
            Err(LabelError::Value { label: label.to_owned(), value: begin(value) })
        }
        _ => Ok(()),
    }
}

/// All labels of a node.
///
/// # Errors
/// One is none, or there are too many.
pub fn check_labels(labels: &[(&str, &str)]) -> Result<(), JoinRefusal> {
    if labels.len() > limits::NODE_LABELS_MAX {
        return Err(JoinRefusal::Labels { count: labels.len() });
    }
    Ok(labels.iter().try_for_each(|(label, value)| check_label(label, Some(value)))?)
}

/// Whether a text can be the name of a cluster or node.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=limits::NAME_MAX).contains(&text.len())
        && text.bytes().all(is_part)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The peer port where none is given.
pub const PEER_PORT: u16 = 4401;

/// A member's place as a person writes it: `HOST`, `HOST:PORT`, `[v6]:PORT`.
#[must_use]
pub fn place(text: &str) -> Option<(String, u16)> {
    let bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok() || text.ends_with(']');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !bare_v6 => (host, port.parse().ok().filter(|port| *port > 0)?),
        _ => (text, PEER_PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_host = !host.is_empty() && !host.contains(['/', ' ', '@', '?', '#', '[', ']']);
    is_host.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::model::Token;
    use std::sync::Arc;
    use yare::parameterized;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);
    const DAY: u64 = 86_400_000;

    fn wish(token: &str) -> Wish<'_> {
        Wish {
            token,
            node: "n2",
            address: "10.0.0.2",
            port: 4401,
            labels: vec![("zone", "a")],
            version: "9.9",
            feature_level: 3,
            time: NOW,
        }
    }

    fn answer(role: Role, change: impl FnOnce(&mut Wish<'_>)) -> String {
        let mut state = State::default();
        let minted = token::mint(1, [1; 32], None);
        let token = Token {
            id: minted.id.clone(),
            role,
            hash: minted.hash.clone(),
            created_at: NOW,
            expires_at: Some(NOW.plus(Millis(10))),
            uses: None,
        };
        state.tokens.insert(minted.id, Arc::new(token));
        let mut wish = wish(&minted.text);
        change(&mut wish);
        let now = if wish.version == "late" { NOW.plus(Millis(11)) } else { NOW };
        match check(&state, &wish, now, (3, 3)) {
            Ok(()) => "welcome".to_owned(),
            Err(refusal) => {
                assert!(!refusal.hint().is_empty());
                refusal.to_string()
            }
        }
    }

    #[parameterized(
        well = { |_| {}, "welcome" },
        next_level = { |w| w.feature_level = 4, "welcome" },
        a_minute = { |w| w.time = Timestamp(NOW.0 - 60_000), "welcome" },
        unknown = { |w| w.token = "mill_x_y", "the token is not known to this cluster" },
        expired = { |w| w.version = "late", "the token has expired" },
        old = { |w| w.feature_level = 2,
            "mill 9.9 is too old: it has feature level 2, the cluster is at 3" },
        new = { |w| w.feature_level = 5,
            "mill 9.9 is too new: it has feature level 5, the cluster is at 3" },
        ahead = { |w| w.time = Timestamp(NOW.0 + DAY),
            "this host's clock is 1d ahead of the cluster's" },
        behind = { |w| w.time = Timestamp(NOW.0 - 3 * DAY),
            "this host's clock is 3d behind the cluster's" },
        seconds = { |w| w.time = Timestamp(NOW.0 + 61_000),
            "this host's clock is 1m ahead of the cluster's" },
        label = { |w| w.labels.push(("a b", "c")), "\"a b\" is no label" },
        label_value = { |w| w.labels.push(("a", "")), "\"\" is no value of label a" },
        labels = { |w| w.labels = vec![("a", "b"); 65], "65 labels are too many for a node" },
        name = { |w| w.node = "N 2", "node name \"N 2\" is not 1 to 50 of a-z, 0-9 and -" },
        address = { |w| w.address = "0.0.0.0",
            "\"0.0.0.0\" with port 4401 is no place where others could reach the node" },
        port = { |w| w.port = 70_000,
            "\"10.0.0.2\" with port 70000 is no place where others could reach the node" },
    )]
    fn a_node_may_join_or_learns_why_not(change: fn(&mut Wish<'_>), expected: &str) {
        assert_eq!(answer(Role::Join, change), expected);
    }

    #[parameterized(
        admin = { Role::Admin, "admin" }, deploy = { Role::Deploy, "deploy" },
        read = { Role::Read, "read" },
    )]
    fn other_tokens_join_nothing(role: Role, name: &str) {
        let expected = format!("a token of role {name} joins no node");
        assert_eq!(answer(role, |_| {}), expected);
    }

    #[parameterized(
        host = { "n1.lan", Some(("n1.lan", 4401)) },
        port = { "10.0.0.1:99", Some(("10.0.0.1", 99)) },
        v6 = { "[::1]:99", Some(("::1", 99)) },
        bare_v6 = { "::1", Some(("::1", 4401)) },
        empty = { "", None },
        no_port = { "n1:", None },
        zero = { "n1:0", None },
        url = { "https://n1:4401", None },
    )]
    fn places_read_as_people_write_them(text: &str, expected: Option<(&str, u16)>) {
        let expected = expected.map(|(host, port)| (host.to_owned(), port));
        assert_eq!(place(text), expected);
    }

    #[test]
    fn names_have_few_letters() {
        assert!(is_name("n1") && is_name("my-host"));
        assert!(!is_name("") && !is_name("-a") && !is_name("Ä") && !is_name(&"a".repeat(51)));
    }

    #[test]
    fn labels_are_checked() {
        for (label, value) in [("zone", Some("eu-1")), ("a.b/c", Some("1=2")), ("old", None)] {
            assert!(check_label(label, value).is_ok(), "{label} {value:?}");
        }
        for (label, value) in [
            ("", None),
            ("a b", None),
            ("a=b", None),
            ("a-", None),
            ("a", Some("")),
            ("a", Some("\n")),
        ] {
            assert!(check_label(label, value).is_err(), "{label} {value:?}");
        }
    }
}
