//! Flags that every command has, with their variables.
//!
//! Owns what they are and which source wins. Never connects to anything.

use crate::config::Env;
use std::path::PathBuf;

/// Global flags as they were typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Globals {
    /// `--address`.
    pub address: Option<String>,
    /// `--token`.
    pub token: Option<String>,
    /// `--socket`.
    pub socket: Option<String>,
    /// `--dev`.
    pub dev: bool,
    /// `--json`.
    pub json: bool,
    /// `--no-color`.
    pub no_color: bool,
}

impl Globals {
    /// Each flag and whether it takes a value.
    pub const FLAGS: [(&'static str, bool); 6] = [
        ("--address", true),
        ("--token", true),
        ("--socket", true),
        ("--dev", false),
        ("--json", false),
        ("--no-color", false),
    ];

    /// Each flag and what it is for.
    pub const ABOUT: [(&'static str, &'static str); 6] = [
        ("--address", "the daemon's API, such as https://10.0.0.1:4400 (MILL_ADDRESS)"),
        ("--token", "who you are, for an address (MILL_TOKEN)"),
        ("--socket", "the daemon's UNIX socket (MILL_SOCKET)"),
        ("--dev", "the node of mill dev"),
        ("--json", "documents instead of text"),
        ("--no-color", "no colour (NO_COLOR)"),
    ];

    /// Whether the global flag takes a value; none if there is no such flag.
    #[must_use]
    pub fn takes_value(flag: &str) -> Option<bool> {
        Self::FLAGS.iter().find(|(name, _)| *name == flag).map(|(_, takes)| *takes)
    }

    /// Notes a flag; the last one of a kind wins.
    pub fn set(&mut self, flag: &str, value: Option<String>) {
        match flag {
            "--address" => self.address = value,
            "--token" => self.token = value,
            "--socket" => self.socket = value,
            "--dev" => self.dev = true,
            "--json" => self.json = true,
            "--no-color" => self.no_color = true,
            _ => {}
        }
    }

    /// With the environment where no flag was given.
    #[must_use]
    pub fn with_env(mut self, env: &Env) -> Self {
        let variable = |name: &str| env.get(name).filter(|value| !value.is_empty()).cloned();
        // A flag that says where goes before any variable that does.
        if self.address.is_none() && self.socket.is_none() && !self.dev {
            self.address = variable("MILL_ADDRESS");
            self.socket = variable("MILL_SOCKET");
        }
        self.token = self.token.or_else(|| variable("MILL_TOKEN"));
        self.no_color |= variable("NO_COLOR").is_some();
        self
    }
}

/// Where a daemon may be, in the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A UNIX socket.
    Unix(PathBuf),
    /// Plain HTTP over TCP.
    Tcp {
        /// Name or address.
        host: String,
        port: u16,
    },
    /// HTTPS, verified by the CA's fingerprint in the token.
    Tls {
        /// Name or address.
        host: String,
        port: u16,
    },
}

impl Target {
    /// What goes into the header `Host`.
    #[must_use]
    pub fn host_header(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Tcp { host, port } | Self::Tls { host, port } if host.contains(':') => {
                format!("[{host}]:{port}")
            }
            Self::Tcp { host, port } | Self::Tls { host, port } => format!("{host}:{port}"),
        }
    }
}

/// An address that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Something else than HTTP.
    #[error("{0:?} is not an address; write it as https://HOST:4400")]
    Form(String),
}

/// The API's port where an address gives none.
const API_PORT: u16 = 4400;

impl Globals {
    /// Where to look for a daemon.
    ///
    /// # Errors
    /// An address that can't be used.
    pub fn targets(&self) -> Result<Vec<Target>, AddressError> {
        if let Some(address) = &self.address {
            return Ok(vec![parse(address)?]);
        }
        if let Some(socket) = &self.socket {
            return Ok(vec![Target::Unix(socket.into())]);
        }
        let dev = Target::Unix("/run/mill/dev.sock".into());
        if self.dev {
            return Ok(vec![dev]);
        }
        let daemon = Target::Unix("/run/mill/mill.sock".into());
        Ok(vec![daemon, dev, Target::Tcp { host: "127.0.0.1".to_owned(), port: API_PORT }])
    }
}

fn parse(address: &str) -> Result<Target, AddressError> {
    if let Some(path) = address.strip_prefix("unix:") {
        return Ok(Target::Unix(path.strip_prefix("//").unwrap_or(path).into()));
    }
    let wrong = || AddressError::Form(address.to_owned());
    let tls = address.strip_prefix("https://");
    let rest = tls.or(address.strip_prefix("http://")).unwrap_or(address).trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', ' ', '?', '#', '@']) {
        return Err(wrong());
    }
    let bare_v6 = rest.parse::<std::net::Ipv6Addr>().is_ok() || rest.ends_with(']');
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !bare_v6 => (host, port.parse().map_err(|_| wrong())?),
        _ => (rest, API_PORT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.to_owned();
    match tls {
        _ if host.is_empty() => Err(wrong()),
        Some(_) => Ok(Target::Tls { host, port }),
        None => Ok(Target::Tcp { host, port }),
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp { .. } => f.write_str(&self.host_header()),
            Self::Tls { .. } => write!(f, "https://{}", self.host_header()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    fn tcp(host: &str, port: u16) -> Target {
        Target::Tcp { host: host.to_owned(), port }
    }

    #[parameterized(
        whole = { "http://10.0.0.1:1234", "10.0.0.1", 1234 },
        slash = { "http://n1.lan:1234/", "n1.lan", 1234 },
        no_port = { "http://n1.lan", "n1.lan", 4400 },
        no_scheme = { "n1.lan:80", "n1.lan", 80 },
        v6 = { "http://[::1]:80", "::1", 80 },
        v6_without_port = { "http://[::1]", "::1", 4400 },
    )]
    fn addresses_read_as_people_write_them(address: &str, host: &str, port: u16) {
        assert_eq!(parse(address), Ok(tcp(host, port)));
    }

    #[parameterized(
        empty = { "" }, path = { "http://a/b" }, port = { "http://a:x" }, scheme = { "ftp://a" },
        https = { "https://" }, port_alone = { ":80" },
    )]
    fn other_addresses_are_refused(address: &str) {
        assert!(parse(address).is_err());
    }

    #[parameterized(
        port = { "https://n1.lan:1234", "n1.lan", 1234, "https://n1.lan:1234" },
        no_port = { "https://10.0.0.1/", "10.0.0.1", 4400, "https://10.0.0.1:4400" },
        v6 = { "https://[::1]:80", "::1", 80, "https://[::1]:80" },
    )]
    fn https_is_another_target(address: &str, host: &str, port: u16, shown: &str) {
        let target = Target::Tls { host: host.to_owned(), port };
        assert_eq!((parse(address), target.to_string().as_str()), (Ok(target), shown));
    }

    #[test]
    fn without_an_address_the_sockets_come_first() {
        let targets = Globals::default().targets().unwrap();
        let names: Vec<String> = targets.iter().map(Target::to_string).collect();
        assert_eq!(names, ["/run/mill/mill.sock", "/run/mill/dev.sock", "127.0.0.1:4400"]);
        let dev = Globals { dev: true, ..Globals::default() }.targets().unwrap();
        assert_eq!(dev, [Target::Unix("/run/mill/dev.sock".into())]);
    }

    #[test]
    fn flags_go_before_variables() {
        let env: Env = [("MILL_ADDRESS", "a"), ("MILL_SOCKET", "/s"), ("MILL_TOKEN", "t")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let from_env = Globals::default().with_env(&env);
        assert_eq!(
            (from_env.address.as_deref(), from_env.token.as_deref()),
            (Some("a"), Some("t"))
        );
        assert_eq!(from_env.targets().unwrap(), [tcp("a", 4400)]);
        let typed = Globals { socket: Some("/x".to_owned()), ..Globals::default() }.with_env(&env);
        assert_eq!(typed.targets().unwrap(), [Target::Unix("/x".into())]);
        let dev = Globals { dev: true, ..Globals::default() }.with_env(&env);
        assert_eq!(dev.targets().unwrap(), [Target::Unix("/run/mill/dev.sock".into())]);
    }
}
