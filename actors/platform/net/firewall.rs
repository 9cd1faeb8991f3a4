//! The node's nftables tables: egress, published ports, who may reach a container and the host.
//!
//! Owns the text of the rules. Never touches another table, and never runs anything: `nft` does.

use super::{NetConfig, PublishOn};
use crate::network::{Protocol, Subnet};
pub use crate::node::project::{Neighbours, PublishMap, Virtuals};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// What every bridge and mesh of this program is called at the start: several nodes share a host.
pub(super) const OURS: &str = "mill-*";

/// What the rules depend on besides the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Surroundings {
    /// The other nodes.
    pub neighbours: Neighbours,
    /// The interface that leads to them; absent: they are routed to as they are.
    pub mesh: Option<String>,
    /// The host forwards for this program alone, since nobody else has turned forwarding on.
    pub alone: bool,
}

/// The table, all but published ports and stable addresses, which stay as they are: what an earlier
/// process published or led goes on working until the next `publish` and `lead`.
pub(super) fn base(config: &NetConfig, around: &Surroundings) -> String {
    let table = config.table();
    let mut rules = format!(
        r#"table ip {table} {{
 set peers {{ type ipv4_addr; flags interval; }}
 set private {{ type ipv4_addr . inet_service; }}
 chain publish {{ }}
 chain reserved {{ }}
 chain lead {{ }}
 chain nowhere {{ }}
 chain inside {{ }}
 chain others {{ }}
 chain guard {{ type filter hook prerouting priority raw; policy accept; }}
 chain prerouting {{ type nat hook prerouting priority dstnat; policy accept; }}
 chain output {{ type nat hook output priority -100; policy accept; }}
 chain postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}
 chain input {{ type filter hook input priority filter; policy accept; }}
 chain leaving {{ type filter hook output priority filter; policy accept; }}
 chain forward {{ type filter hook forward priority filter; policy accept; }}
 chain clamp {{ type filter hook forward priority mangle; policy accept; }}
}}
"#
    );
    for set in ["peers", "private"] {
        let _ = writeln!(rules, "flush set ip {table} {set}");
    }
    let chains = [
        "inside",
        "others",
        "guard",
        "prerouting",
        "output",
        "postrouting",
        "input",
        "leaving",
        "forward",
        "clamp",
    ];
    for chain in chains {
        let _ = writeln!(rules, "flush chain ip {table} {chain}");
    }
    rules.push_str(&elements(config, around));
    let _ = writeln!(
        rules,
        "table ip {table} {{\n{}{}{}{}{}}}",
        guard(config, around),
        translation(config),
        host(config, around),
        forward(config, around),
        clamp(config),
    );
    rules
}

/// The sets of the other nodes: their parts of the subnet, and the ports that are theirs alone.
fn elements(config: &NetConfig, around: &Surroundings) -> String {
    let table = config.table();
    let mut rules = String::new();
    let others = &around.neighbours.subnets;
    let peers: Vec<String> =
        others.iter().filter(|s| **s != config.subnet).map(Subnet::to_string).collect();
    if !peers.is_empty() {
        let _ = writeln!(rules, "add element ip {table} peers {{ {} }}", peers.join(", "));
    }
    let mut private = BTreeSet::new();
    for (address, peer) in &around.neighbours.nodes {
        let ports = config.private_ports.iter().chain([peer]).filter(|port| **port != 0);
        private.extend(ports.map(|port| (*address, *port)));
    }
    let private: Vec<String> =
        private.iter().map(|(address, port)| format!("{address} . {port}")).collect();
    if !private.is_empty() {
        let _ = writeln!(rules, "add element ip {table} private {{ {} }}", private.join(", "));
    }
    rules
}

/// Whose packets are taken at all, by where they come from.
fn guard(config: &NetConfig, around: &Surroundings) -> String {
    let (bridge, subnet, cluster) = (config.bridge(), config.subnet, config.cluster_subnet);
    let elsewhere = format!("iifname != \"{OURS}\" iifname != \"lo\" ip saddr {cluster}");
    // With a mesh nothing of the cluster comes another way; without one, the way that leads back.
    let others = match &around.mesh {
        Some(mesh) => format!("iifname != \"{mesh}\" {elsewhere} drop"),
        None => format!(
            "{elsewhere} ip saddr != @peers drop\n  {elsewhere} fib saddr . iif oif missing drop"
        ),
    };
    format!(
        r#" chain guard {{
  iifname "{bridge}" ip daddr 127.0.0.0/8 drop
  iifname "{bridge}" ip saddr != {subnet} drop
  iifname != "{bridge}" iifname != "lo" ip saddr {subnet} drop
  {others}
 }}
"#
    )
}

/// Published ports, and the addresses with which containers are seen.
fn translation(config: &NetConfig) -> String {
    let (bridge, subnet, cluster) = (config.bridge(), config.subnet, config.cluster_subnet);
    let gateway = subnet.gateway();
    let (arriving, leaving) = match config.publish_on {
        PublishOn::All => {
            ("fib daddr type local jump publish", "fib daddr type local jump publish")
        }
        PublishOn::Loopback => ("", "ip daddr 127.0.0.1 jump publish"),
    };
    format!(
        r#" chain prerouting {{
  {arriving}
  iifname "{bridge}" jump lead
 }}
 chain output {{
  {leaving}
  jump lead
 }}
 chain leaving {{
  jump nowhere
 }}
 chain postrouting {{
  ip saddr {subnet} ip daddr != {cluster} oifname != "{bridge}" masquerade
  ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade
  ip saddr {subnet} oifname "{bridge}" ct status dnat masquerade
  ip saddr != {cluster} ip daddr {cluster} oifname != "{bridge}" ct status dnat snat to {gateway}
 }}
"#
    )
}

/// What containers, here and of other nodes, reach of the host itself: names, what is open to
/// everybody through this program, and nothing else.
fn host(config: &NetConfig, around: &Surroundings) -> String {
    let (bridge, gateway) = (config.bridge(), config.subnet.gateway());
    let mesh = around.mesh.iter().map(|mesh| format!("  iifname \"{mesh}\" jump inside\n"));
    let mesh: String = mesh.collect();
    let open = match config.open_ports.as_slice() {
        [] => String::new(),
        ports => format!("  tcp dport {{ {} }} accept\n", list(ports)),
    };
    format!(
        r#" chain inside {{
  ct state established,related accept
  meta l4proto {{ tcp, udp }} ip daddr {gateway} th dport 53 accept
  icmp type echo-request accept
{open}  meta l4proto tcp reject with tcp reset
  reject
 }}
 chain input {{
  iifname "{bridge}" jump inside
{mesh}  jump reserved
 }}
"#
    )
}

fn list(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// What goes to a container or comes from one, and what is let through for others.
fn forward(config: &NetConfig, around: &Surroundings) -> String {
    let bridge = config.bridge();
    let mesh = around
        .mesh
        .iter()
        .flat_map(|mesh| ["iifname", "oifname"].map(|end| format!("  {end} \"{mesh}\" return\n")));
    let mesh: String = mesh.collect();
    let alone = if around.alone { "  jump others\n" } else { "" };
    // Those of other nodes; the guard has looked at which way they came.
    format!(
        r#" chain others {{
  iifname "{OURS}" return
  oifname "{OURS}" return
{mesh}  drop
 }}
 chain forward {{
  ct state established,related accept
{alone}  iifname "{bridge}" jump nowhere
  iifname "{bridge}" oifname "{bridge}" accept
  iifname "{bridge}" ip daddr . tcp dport @private reject with tcp reset
  iifname "{bridge}" ip daddr 169.254.0.0/16 reject
  oifname "{bridge}" ct status dnat accept
  oifname "{bridge}" ip saddr @peers accept
  oifname "{bridge}" drop
 }}
"#
    )
}

/// The size of segments for connections through the mesh, whose packets are smaller: a path that
/// drops ICMP would never tell.
fn clamp(config: &NetConfig) -> String {
    let mesh = config.mesh();
    format!(
        r#" chain clamp {{
  oifname "{mesh}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
 }}
"#
    )
}

/// Which address each cable to a container may send from, replacing those before: another one is
/// forged. Each is named by the host's end.
pub(super) fn sources(config: &NetConfig, cables: &BTreeMap<String, Ipv4Addr>) -> String {
    let table = config.table();
    let mut rules = format!(
        r#"table bridge {table} {{
 set cables {{ type ifname; }}
 set members {{ type ifname . ipv4_addr; }}
 chain sources {{ type filter hook prerouting priority -300; policy accept; }}
}}
flush chain bridge {table} sources
flush set bridge {table} cables
flush set bridge {table} members
table bridge {table} {{
 chain sources {{
  iifname != @cables accept
  ether type ip iifname . ip saddr @members accept
  ether type arp iifname . arp saddr ip @members accept
  drop
 }}
}}
"#
    );
    if !cables.is_empty() {
        let names: Vec<String> = cables.keys().map(|name| format!("\"{name}\"")).collect();
        let pairs: Vec<String> =
            cables.iter().map(|(name, address)| format!("\"{name}\" . {address}")).collect();
        let _ = writeln!(rules, "add element bridge {table} cables {{ {} }}", names.join(", "));
        let _ = writeln!(rules, "add element bridge {table} members {{ {} }}", pairs.join(", "));
    }
    rules
}

/// The published ports, replacing those before. New connections follow at once; established ones
/// stay where they are, since only a connection's first packet meets these rules.
pub(super) fn publish(config: &NetConfig, map: &PublishMap) -> String {
    let table = config.table();
    let mut rules = format!("flush chain ip {table} publish\nflush chain ip {table} reserved\n");
    // Writing to a string can't fail.
    for ((port, protocol), targets) in map {
        if let Some(to) = spread(targets) {
            let _ =
                writeln!(rules, "add rule ip {table} publish {protocol} dport {port} dnat to {to}");
        }
        let on = match config.publish_on {
            PublishOn::All => "",
            PublishOn::Loopback => "ip daddr 127.0.0.1 ",
        };
        let with = match protocol {
            Protocol::Tcp => " with tcp reset",
            Protocol::Udp => "",
        };
        let _ = writeln!(
            rules,
            "add rule ip {table} reserved {on}{protocol} dport {port} ct state new reject{with}"
        );
    }
    rules
}

/// The services' stable addresses, replacing those before. What leads nowhere is refused at once.
pub(super) fn lead(config: &NetConfig, virtuals: &Virtuals) -> String {
    let table = config.table();
    let mut rules = format!("flush chain ip {table} lead\nflush chain ip {table} nowhere\n");
    let Some(range) = virtuals.range else { return rules };
    // Writing to a string can't fail.
    let _ = writeln!(rules, "add rule ip {table} lead ip daddr != {range} return");
    let _ = writeln!(
        rules,
        "add rule ip {table} nowhere ip daddr {range} meta l4proto tcp reject with tcp reset\n\
         add rule ip {table} nowhere ip daddr {range} reject"
    );
    // Most services have the same replicas behind all of their ports.
    let mut alike: BTreeMap<_, Vec<u16>> = BTreeMap::new();
    for ((address, port), targets) in &virtuals.targets {
        alike.entry((address, targets)).or_default().push(*port);
    }
    for ((address, targets), ports) in alike {
        let Some(to) = any(targets) else { continue };
        let ports = list(&ports);
        let _ = writeln!(
            rules,
            "add rule ip {table} lead ip daddr {address} meta l4proto {{ tcp, udp }} \
             th dport {{ {ports} }} dnat to {to}"
        );
    }
    rules
}

/// One of them by chance, at the port that was asked for.
fn any(targets: &BTreeSet<Ipv4Addr>) -> Option<String> {
    let parts: Vec<String> =
        targets.iter().enumerate().map(|(n, address)| format!("{n} : {address}")).collect();
    match parts.len() {
        0 => None,
        1 => targets.first().map(Ipv4Addr::to_string),
        count => Some(format!("numgen random mod {count} map {{ {} }}", parts.join(", "))),
    }
}

/// Takes the tables away; no error if there are none.
pub(super) fn remove(config: &NetConfig) -> String {
    let table = config.table();
    ["ip", "bridge"]
        .map(|family| format!("add table {family} {table}\ndelete table {family} {table}\n"))
        .concat()
}

fn spread(targets: &[(Ipv4Addr, u16)]) -> Option<String> {
    match targets {
        [] => None,
        [(address, port)] => Some(format!("{address}:{port}")),
        _ => {
            let parts: Vec<String> = targets
                .iter()
                .enumerate()
                .map(|(n, (address, port))| format!("{n} : {address} . {port}"))
                .collect();
            Some(format!("numgen inc mod {} map {{ {} }}", parts.len(), parts.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_spread_over_the_targets() {
        let ip = Ipv4Addr::new(10, 99, 0, 2);
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[(ip, 80)]).as_deref(), Some("10.99.0.2:80"));
        assert_eq!(
            spread(&[(ip, 80), (ip, 81)]).as_deref(),
            Some("numgen inc mod 2 map { 0 : 10.99.0.2 . 80, 1 : 10.99.0.2 . 81 }")
        );
    }
}
