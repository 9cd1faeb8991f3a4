//! Checks of what is around the containers' network: other firewalls, DNS servers.
//!
//! Never changes a rule or a file.

use super::Check;
use crate::actors::platform::net::{self, Foreign};
use crate::node::resolvers::Resolvers;

/// Other firewalls that drop what containers send and get.
pub(super) fn firewalls(root: bool, bridge: &str) -> Check {
    if !root {
        let remedy = "sudo mill doctor";
        return Check::warn("other firewalls", "can only be seen by root", remedy);
    }
    judge_firewalls(net::foreign_to(bridge).map_err(|error| error.to_string()))
}

pub(super) fn judge_firewalls(found: Result<Vec<Foreign>, String>) -> Check {
    let name = "other firewalls";
    match found.as_deref() {
        Ok([]) => Check::ok(name, "none drops what containers send and get"),
        Ok(found) => {
            let details: Vec<String> = found.iter().map(Foreign::to_string).collect();
            let remedies: Vec<&str> = found.iter().map(Foreign::remedy).collect();
            Check::warn(name, details.join("; "), remedies.join(" && "))
        }
        Err(error) => {
            let remedy = "apt-get install nftables";
            Check::warn(name, format!("nft can't list them: {error}"), remedy)
        }
    }
}

/// The DNS servers that containers are told.
pub(super) fn resolvers(found: &Resolvers) -> Check {
    let name = "DNS servers";
    let servers: Vec<String> = found.of_containers().map(|server| server.to_string()).collect();
    let left_out = found.left_out();
    let remedy =
        "name a server with an IPv4 address that is not the host's own in /etc/resolv.conf";
    match (servers.as_slice(), left_out.as_slice()) {
        ([], []) => Check::warn(name, "none is named: containers find no names", remedy),
        ([], _) => {
            let detail = format!("containers can't ask {}", left_out.join(", "));
            Check::warn(name, format!("{detail}, and find no names"), remedy)
        }
        (_, []) => Check::ok(name, servers.join(", ")),
        _ => {
            let (asked, left) = (servers.join(", "), left_out.join(", "));
            Check::warn(name, format!("{asked}; containers can't ask {left}"), remedy)
        }
    }
}
