//! Other firewalls on this host: what they drop can't be let through by a table of one's own.
//!
//! Owns the reading of their rules and the remedies. Never changes them.

use serde::Deserialize;
use std::fmt;

/// Another firewall that drops what containers send and get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// The chain that drops it, for example `table ip filter, chain FORWARD`.
    chain: String,
    /// Whose it is, if that is known.
    owner: Option<&'static str>,
    /// What lets it through, a command.
    remedy: String,
}

impl Foreign {
    /// A command that lets it through.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let owner = self.owner.map(|owner| format!("{owner}'s firewall")).unwrap_or_default();
        let owner = if owner.is_empty() { "another firewall" } else { &owner };
        write!(f, "{owner} drops what containers send and get ({})", self.chain)
    }
}

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    chain: Option<Chain>,
}

/// A chain as `nft --json list chains` has it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Chain {
    pub family: String,
    pub table: String,
    pub name: String,
    hook: Option<String>,
    policy: Option<String>,
}

/// All chains of the host.
///
/// # Errors
/// It is no such listing.
pub(super) fn chains(json: &str) -> Result<Vec<Chain>, serde_json::Error> {
    let listing: Listing = serde_json::from_str(json)?;
    Ok(listing.nftables.into_iter().filter_map(|item| item.chain).collect())
}

/// The chains that drop what is forwarded unless a rule of theirs lets it through.
pub(super) fn dropping(chains: &[Chain]) -> impl Iterator<Item = &Chain> {
    chains.iter().filter(|chain| {
        let is_ours = chain.table.starts_with("mill_");
        let forwards = chain.hook.as_deref() == Some("forward") && chain.family != "ip6";
        let drops = chain.policy.as_deref() == Some("drop");
        // Rejects at its end what no zone lets through.
        let is_firewalld = chain.table == "firewalld";
        forwards && !is_ours && (drops || is_firewalld)
    })
}

/// What that chain, whose table reads so, means for a bridge; nothing if it lets it through.
pub(super) fn judge(chain: &Chain, chains: &[Chain], table: &str, bridge: &str) -> Option<Foreign> {
    if lets_through(table, bridge, ["iifname", "oifname"]) {
        return None;
    }
    let has = |name: &str| {
        chains.iter().any(|other| {
            other.family == chain.family && other.table == chain.table && other.name == name
        })
    };
    let (family, of, name) = (&chain.family, &chain.table, &chain.name);
    let (owner, remedy) = match (of.as_str(), name.as_str()) {
        ("firewalld", _) => {
            let add = format!("--zone=trusted --add-interface={bridge}");
            (Some("firewalld"), format!("firewall-cmd --permanent {add} && firewall-cmd --reload"))
        }
        _ if has("DOCKER-USER") => (Some("Docker"), both(bridge, "DOCKER-USER")),
        _ if has("ufw-before-forward") => (
            Some("ufw"),
            format!("ufw route allow in on {bridge} && ufw route allow out on {bridge}"),
        ),
        ("filter", "FORWARD") => (None, both(bridge, "FORWARD")),
        _ => {
            let rule =
                |end: &str| format!("nft insert rule {family} {of} {name} {end} {bridge} accept");
            (None, format!("{} && {}", rule("iifname"), rule("oifname")))
        }
    };
    let chain = format!("table {family} {of}, chain {name}");
    Some(Foreign { chain, owner, remedy })
}

/// The same of the older tables, as `iptables-legacy --list-rules` lists them.
pub(super) fn judge_legacy(rules: &str, bridge: &str) -> Option<Foreign> {
    let drops = rules.lines().any(|line| line.trim() == "-P FORWARD DROP");
    if !drops || lets_through(rules, bridge, ["-i", "-o"]) {
        return None;
    }
    let is_dockers = rules.contains("-N DOCKER-USER");
    let (owner, chain) =
        if is_dockers { (Some("Docker"), "DOCKER-USER") } else { (None, "FORWARD") };
    let remedy = both(bridge, chain).replace("iptables ", "iptables-legacy ");
    Some(Foreign { chain: "iptables-legacy, chain FORWARD".to_owned(), owner, remedy })
}

fn both(bridge: &str, chain: &str) -> String {
    let rule = |end: &str| format!("iptables -I {chain} {end} {bridge} -j ACCEPT");
    format!("{} && {}", rule("-i"), rule("-o"))
}

/// Whether rules name the bridge at both ends and accept.
fn lets_through(rules: &str, bridge: &str, ends: [&str; 2]) -> bool {
    ends.iter().all(|end| {
        rules.lines().any(|line| {
            let mut words = line.split_whitespace();
            let named = words.any(|word| word == *end)
                && words.next().is_some_and(|word| word.trim_matches('"') == bridge);
            let goes =
                ["accept", "ACCEPT", "goto filter_FWD_trusted", "goto filter_FORWARD_POLICIES"];
            named && goes.iter().any(|verdict| line.contains(verdict))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    fn base(table: &str, name: &str, policy: &str) -> String {
        format!(
            r#"{{"chain": {{"family": "ip", "table": "{table}", "name": "{name}", "handle": 1,
                "type": "filter", "hook": "forward", "prio": 0, "policy": "{policy}"}}}}"#
        )
    }

    fn plain(name: &str) -> String {
        format!(
            r#"{{"chain": {{"family": "ip", "table": "filter", "name": "{name}", "handle": 2}}}}"#
        )
    }

    fn found(items: &[String], table: &str) -> Vec<String> {
        let all = [&["{\"metainfo\": {}}".to_owned()], items].concat().join(", ");
        let json = format!(r#"{{"nftables": [{all}]}}"#);
        let chains = chains(&json).unwrap();
        let judged = dropping(&chains).filter_map(|one| judge(one, &chains, table, "mill-x"));
        judged.map(|one| format!("{one}: {}", one.remedy())).collect()
    }

    #[parameterized(
        none = { &[], "", &[] },
        accepts = { &[base("filter", "FORWARD", "accept")], "", &[] },
        own = { &[base("mill_x", "forward", "drop")], "", &[] },
        plain_drop = { &[base("filter", "FORWARD", "drop")], "", &[
            "another firewall drops what containers send and get (table ip filter, chain FORWARD): \
             iptables -I FORWARD -i mill-x -j ACCEPT && iptables -I FORWARD -o mill-x -j ACCEPT"
        ] },
        docker = { &[base("filter", "FORWARD", "drop"), plain("DOCKER-USER")], "", &[
            "Docker's firewall drops what containers send and get (table ip filter, \
             chain FORWARD): \
             iptables -I DOCKER-USER -i mill-x -j ACCEPT && \
             iptables -I DOCKER-USER -o mill-x -j ACCEPT"
        ] },
        ufw = { &[base("filter", "FORWARD", "drop"), plain("ufw-before-forward")], "", &[
            "ufw's firewall drops what containers send and get (table ip filter, chain FORWARD): \
             ufw route allow in on mill-x && ufw route allow out on mill-x"
        ] },
        another_table = { &[base("mine", "fwd", "drop")], "", &[
            "another firewall drops what containers send and get (table ip mine, chain fwd): \
             nft insert rule ip mine fwd iifname mill-x accept && \
             nft insert rule ip mine fwd oifname mill-x accept"
        ] },
        mended = {
            &[base("filter", "FORWARD", "drop")],
            "iifname \"mill-x\" counter packets 0 bytes 0 accept\n\
             oifname \"mill-x\" counter packets 0 bytes 0 accept",
            &[]
        },
        half = {
            &[base("mine", "fwd", "drop")],
            "iifname \"mill-x\" accept\noifname \"mill-y\" accept",
            &[
            "another firewall drops what containers send and get (table ip mine, chain fwd): \
             nft insert rule ip mine fwd iifname mill-x accept && \
             nft insert rule ip mine fwd oifname mill-x accept"
        ] },
    )]
    fn what_drops_is_told_with_its_remedy(items: &[String], table: &str, wanted: &[&str]) {
        assert_eq!(found(items, table), wanted);
    }

    #[test]
    fn the_older_tables_are_read_too() {
        assert_eq!(judge_legacy("-P INPUT DROP\n-P FORWARD ACCEPT\n", "mill-x"), None);
        let told = judge_legacy("-P FORWARD DROP\n", "mill-x").unwrap();
        assert!(told.remedy().starts_with("iptables-legacy -I FORWARD -i mill-x"), "{told:?}");
        let mended =
            "-P FORWARD DROP\n-A FORWARD -i mill-x -j ACCEPT\n-A FORWARD -o mill-x -j ACCEPT";
        assert_eq!(judge_legacy(mended, "mill-x"), None);
    }
}
