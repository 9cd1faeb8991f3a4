//! The host's DNS servers: which of them another network namespace, or a forwarder, can ask.
//!
//! Owns the reading of `resolv.conf` (resolv.conf(5)). Never reads a file: its text is an input.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

/// What a host's `resolv.conf` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolvers {
    /// Servers that can be asked from outside of the host's own loopback, in order.
    pub servers: Vec<IpAddr>,
    /// Domains that are tried behind a name.
    pub search: Vec<String>,
    /// Options, as they are written.
    pub options: Vec<String>,
    /// Servers as they are written that can't be asked.
    pub unusable: Vec<String>,
}

impl Resolvers {
    /// Reads the text of a `resolv.conf`; what isn't understood is left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let Some(written) = words.next() else { continue };
                    match written.parse().ok().filter(|server| is_usable(*server)) {
                        Some(server) if found.servers.contains(&server) => {}
                        Some(server) => found.servers.push(server),
                        // One with a zone, `fe80::1%eth0`, means something on that link only.
                        None => found.unusable.push(written.to_owned()),
                    }
                }
                // The last one counts.
                Some("search" | "domain") => found.search = words.map(str::to_owned).collect(),
                Some("options") => found.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        found
    }

    /// The first of several files' that names a server which can be asked; what a stub on the
    /// host's loopback asks itself is in a file of its own. Without any: the first file's.
    #[must_use]
    pub fn choose<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut first = None;
        for text in texts {
            let found = Self::parse(text);
            if !found.servers.is_empty() {
                return found;
            }
            first.get_or_insert(found);
        }
        first.unwrap_or_default()
    }

    /// Those that a container can ask: it has IPv4 only, and nothing link-local.
    pub fn of_containers(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.servers.iter().filter_map(|server| match server {
            IpAddr::V4(server) if !server.is_link_local() => Some(*server),
            _ => None,
        })
    }

    /// What a container can't ask, as it is written.
    #[must_use]
    pub fn left_out(&self) -> Vec<String> {
        let asked: Vec<Ipv4Addr> = self.of_containers().collect();
        let others = self.servers.iter().filter(|server| match server {
            IpAddr::V4(server) => !asked.contains(server),
            IpAddr::V6(_) => true,
        });
        self.unusable.iter().cloned().chain(others.map(IpAddr::to_string)).collect()
    }

    /// A container's `resolv.conf` that asks these servers.
    #[must_use]
    pub fn file(&self, servers: impl IntoIterator<Item = Ipv4Addr>) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        if !self.search.is_empty() {
            let _ = writeln!(text, "search {}", self.search.join(" "));
        }
        for server in servers {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        text
    }
}

fn is_usable(server: IpAddr) -> bool {
    let link_local = match server {
        IpAddr::V4(_) => false,
        IpAddr::V6(server) => {
            server.is_unicast_link_local()
                || server.to_ipv4_mapped().is_some_and(|mapped| mapped.is_loopback())
        }
    };
    !(server.is_loopback() || server.is_unspecified() || server.is_multicast() || link_local)
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    #[parameterized(
        plain = {
            "search lan\nnameserver 192.0.2.1\noptions edns0\n",
            "search lan\nnameserver 192.0.2.1\noptions edns0\n",
            &[]
        },
        stub = {
            "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n",
            "search .\noptions edns0 trust-ad\n",
            &["127.0.0.53"]
        },
        several = {
            "nameserver 127.0.0.1\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n\
             nameserver 192.0.2.1",
            "nameserver 192.0.2.1\nnameserver 192.0.2.2\n",
            &["127.0.0.1"]
        },
        zone = {
            "nameserver fe80::1%eth0\nnameserver fe80::1\nnameserver ::1\n",
            "",
            &["fe80::1%eth0", "fe80::1", "::1"]
        },
        nothing = { "nameserver 0.0.0.0\nnameserver ::\n", "", &["0.0.0.0", "::"] },
        six = {
            "nameserver 2001:db8::1\nnameserver 192.0.2.1\n",
            "nameserver 192.0.2.1\n",
            &["2001:db8::1"]
        },
        metadata = { "nameserver 169.254.169.253\n", "", &["169.254.169.253"] },
        odd = {
            "# x\n; y\nnameserver\nnameserver one\nnameserver 192.0.2.1 # why\nlookup file\n",
            "nameserver 192.0.2.1\n",
            &["one"]
        },
        last_search = { "domain a\nsearch b c\n", "search b c\n", &[] },
        empty = { "", "", &[] },
    )]
    fn a_container_is_told_what_it_can_ask(text: &str, file: &str, left_out: &[&str]) {
        let found = Resolvers::parse(text);
        assert_eq!(found.file(found.of_containers()), file);
        assert_eq!(found.left_out(), left_out);
    }

    #[test]
    fn behind_a_stub_are_the_real_servers() {
        let stub = "nameserver 127.0.0.53\nsearch lan\n";
        let real = "nameserver 192.0.2.1\nsearch corp\n";
        let found = Resolvers::choose([stub, real]);
        assert_eq!(found, Resolvers::parse(real));
        assert_eq!(Resolvers::choose([real, stub]), Resolvers::parse(real));
        assert_eq!(Resolvers::choose([stub, ""]), Resolvers::parse(stub));
        assert_eq!(Resolvers::choose([]), Resolvers::default());
    }

    #[test]
    fn a_forwarder_may_ask_more_than_a_container() {
        let found = Resolvers::parse("nameserver 2001:db8::1\nnameserver 169.254.169.253\n");
        assert_eq!(found.servers.len(), 2);
        assert_eq!(found.of_containers().count(), 0);
    }
}
