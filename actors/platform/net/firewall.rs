//! The node's nftables table: egress, published ports, who may reach a container.
//!
//! Owns the text of the rules and the one way they reach the kernel: `nft`, one transaction a
//! change. Never touches another table.

use super::{NetConfig, NetError, PublishOn};
use crate::limits::NFT_DEADLINE;
use crate::node::network::Protocol;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

pub use crate::node::project::PublishMap;

/// The table, all but the published ports, which stay as they are: what an earlier process
/// published goes on working until the next `publish`.
pub(super) fn base(config: &NetConfig) -> String {
    let table = config.table();
    let bridge = config.bridge();
    let subnet = config.subnet;
    let cluster = config.cluster_subnet;
    let (arriving, leaving) = match config.publish_on {
        PublishOn::All => {
            ("fib daddr type local jump publish", "fib daddr type local jump publish")
        }
        PublishOn::Loopback => ("", "ip daddr 127.0.0.1 jump publish"),
    };
    let private = match config.private_ports.as_slice() {
        [] => String::new(),
        ports => {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            let ports = ports.join(", ");
            format!("iifname \"{bridge}\" tcp dport {{ {ports} }} reject with tcp reset")
        }
    };
    format!(
        r#"table ip {table} {{
 chain publish {{ }}
 chain reserved {{ }}
 chain guard {{ type filter hook prerouting priority raw; policy accept; }}
 chain prerouting {{ type nat hook prerouting priority dstnat; policy accept; }}
 chain output {{ type nat hook output priority -100; policy accept; }}
 chain postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}
 chain input {{ type filter hook input priority filter; policy accept; }}
 chain forward {{ type filter hook forward priority filter; policy accept; }}
}}
flush chain ip {table} guard
flush chain ip {table} prerouting
flush chain ip {table} output
flush chain ip {table} postrouting
flush chain ip {table} input
flush chain ip {table} forward
table ip {table} {{
 chain guard {{
  iifname "{bridge}" ip daddr 127.0.0.0/8 drop
 }}
 chain prerouting {{
  {arriving}
 }}
 chain output {{
  {leaving}
 }}
 chain postrouting {{
  ip saddr {subnet} ip daddr != {cluster} oifname != "{bridge}" masquerade
  ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade
  ip saddr {subnet} oifname "{bridge}" ct status dnat masquerade
 }}
 chain input {{
  {private}
  jump reserved
 }}
 chain forward {{
  ct state established,related accept
  oifname "{bridge}" ct status dnat accept
  oifname "{bridge}" ip saddr {cluster} accept
  oifname "{bridge}" drop
 }}
}}
"#
    )
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

/// Takes the table away; no error if there is none.
pub(super) fn remove(config: &NetConfig) -> String {
    let table = config.table();
    format!("add table ip {table}\ndelete table ip {table}\n")
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

/// Applies the text as one transaction.
pub(super) async fn apply(rules: &str) -> Result<(), NetError> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| NetError::NoNft { source })?;
    let stdin = child.stdin.take();
    let talk = async {
        if let Some(mut stdin) = stdin {
            // A broken pipe: nft says on stderr why it left early.
            let _ = stdin.write_all(rules.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(NFT_DEADLINE, talk)
        .await
        .map_err(|_| NetError::NftSlow { after: NFT_DEADLINE })?
        .map_err(|source| NetError::NoNft { source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let message = text.lines().next().unwrap_or("no reason given").trim().to_owned();
    Err(NetError::Nft { message, remedy: remedy(&text) })
}

fn remedy(text: &str) -> &'static str {
    if text.contains("not permitted") {
        "run mill as root"
    } else if text.contains("No such file") || text.contains("not supported") {
        "this kernel lacks a part of nftables: modprobe -a nf_tables nft_chain_nat nft_masq \
         nft_fib_ipv4 nft_numgen nft_reject_ipv4"
    } else {
        "see `nft list ruleset`"
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
