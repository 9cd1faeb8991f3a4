//! The settings of a daemon: flags, then `MILL_…` variables, then defaults.
//!
//! Owns what each setting means, its default and its check. Never reads the process's environment
//! and never opens anything: both are handed in.

use crate::cidr::Cidr;
use crate::id::NodeId;
use crate::limits;
use crate::units::Millis;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

mod hints;
#[cfg(test)]
mod tests;

pub use hints::{hint, hints_in};

/// Whether a node serves for good or for one developer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `mill daemon`.
    Daemon,
    /// `mill dev`.
    Dev,
}

/// Which containerd runs the containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerdChoice {
    /// The machine's if it answers, else a private one.
    Auto,
    /// A private one, started as a child under the data directory.
    Private,
    /// The one that listens there.
    Given(PathBuf),
}

/// How the daemon writes what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One document a line.
    Json,
}

/// The addresses of a cluster's containers: the first one and the prefix's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterSubnet {
    /// The first address.
    pub address: Ipv4Addr,
    /// Length of the prefix, at most 21: a node takes a /21.
    pub prefix: u8,
}

impl fmt::Display for ClusterSubnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// All settings of a daemon, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonConfig {
    /// Daemon or dev.
    pub mode: Mode,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The API's UNIX socket.
    pub socket: PathBuf,
    /// The API's plain TCP listener.
    pub api: SocketAddr,
    /// For other nodes; none in dev.
    pub peer: Option<SocketAddr>,
    /// Ingress.
    pub http: SocketAddr,
    /// Ingress with TLS.
    pub https: SocketAddr,
    /// A DNS listener beside the bridge's.
    pub dns: Option<SocketAddr>,
    /// WireGuard's UDP port; none in dev.
    pub mesh_port: Option<u16>,
    pub containerd: ContainerdChoice,
    /// The cluster's container addresses, used at init.
    pub subnet: ClusterSubnet,
    /// Registries that are spoken to without TLS or with an unknown certificate, `HOST:PORT`.
    pub insecure_registries: Vec<String>,
    /// Docker's `config.json`, whose logins count where mill has none of its own.
    pub docker_config: PathBuf,
    /// Proxies in front of this node whose headers about the client count.
    pub trusted_proxies: Vec<Cidr>,
    /// Their connections begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Extra trust for the ACME directory.
    pub acme_ca: Option<PathBuf>,
    /// Who is asked where a host leads before a certificate is ordered; absent: the host's
    /// resolvers. `MILL_ACME_RESOLVER`, for tests.
    pub acme_resolver: Option<SocketAddr>,
    /// The directory where orders are tried after a failure. `MILL_ACME_TRIAL`, for tests and
    /// authorities of one's own.
    pub acme_trial: Option<String>,
    /// How to log.
    pub log_format: LogFormat,
    /// Become a cluster of one, keeping the state.
    pub recover_single: bool,
    /// That somebody has said so.
    pub yes: bool,
    /// Where members are that have moved, `HOST:PORT` by id.
    pub peer_hints: BTreeMap<NodeId, String>,
    /// How long certificates are good that this node signs. `MILL_CERTIFICATE_LIFE`, for tests.
    pub certificate_life: Duration,
    /// Where the machine finds its volumes of the provider. `MILL_VOLUME_DEVICES`, for tests.
    pub volume_devices: PathBuf,
}

/// Settings as they were given on the command line; absent: not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonFlags {
    /// `--data-dir`.
    pub data_dir: Option<String>,
    /// `--socket`.
    pub socket: Option<String>,
    /// `--api`.
    pub api: Option<String>,
    /// `--peer`.
    pub peer: Option<String>,
    /// `--http`.
    pub http: Option<String>,
    /// `--https`.
    pub https: Option<String>,
    /// `--dns`.
    pub dns: Option<String>,
    /// `--mesh-port`.
    pub mesh_port: Option<String>,
    /// `--containerd`.
    pub containerd: Option<String>,
    /// `--subnet`.
    pub subnet: Option<String>,
    /// `--insecure-registry`, each.
    pub insecure_registry: Vec<String>,
    /// `--peer-hint`, each.
    pub peer_hint: Vec<String>,
    /// `--trusted-proxies`, each.
    pub trusted_proxies: Vec<String>,
    /// `--proxy-protocol`.
    pub proxy_protocol: Option<String>,
    /// `--acme-ca`.
    pub acme_ca: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
    /// `--recover-single`.
    pub recover_single: bool,
    /// `--yes`.
    pub yes: bool,
}

/// A setting that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {value:?} is not {wanted}")]
pub struct ConfigError {
    /// The flag or the variable that it came from.
    pub origin: String,
    /// What was given.
    pub value: String,
    /// What is wanted, with an example.
    pub wanted: &'static str,
}

/// Environment variables by name.
pub type Env = BTreeMap<String, String>;

const ADDRESS: &str = "an address with a port, such as 127.0.0.1:4400";
const PORT: &str = "a port from 1 to 65535";
const CONTAINERD: &str = "the absolute path of containerd's socket, or private";
const SUBNET: &str = "an IPv4 subnet of at least a /21, such as 10.99.0.0/16";
const REGISTRY: &str = "HOST:PORT of a registry, such as registry.lan:5000";
const RANGE: &str = "a range of addresses, such as 10.0.0.0/8";
const FORMAT: &str = "text or json";
const LIFE: &str = "a duration of at least a second, such as 30s";
const URL: Wanted = "an address such as https://ca.example.com/directory";
const PATH: &str = "an absolute path";

impl DaemonConfig {
    /// The settings from flags, environment and defaults, in this order.
    ///
    /// # Errors
    /// The first setting that can't be used.
    pub fn new(mode: Mode, flags: &DaemonFlags, env: &Env) -> Result<Self, ConfigError> {
        let given = Given { env };
        let dev = mode == Mode::Dev;
        let defaults = Defaults::of(mode, env);
        let address = |flag: &Option<String>, name, default: SocketAddr| {
            Ok::<_, ConfigError>(given.parse(flag, name, address)?.unwrap_or(default))
        };
        let path = |flag: &Option<String>, name, default: &PathBuf| {
            Ok::<_, ConfigError>(given.parse(flag, name, absolute)?.unwrap_or(default.clone()))
        };
        let peer = given.parse(&flags.peer, "peer", self::address)?;
        let mesh_port = given.parse(&flags.mesh_port, "mesh-port", port)?;
        Ok(Self {
            mode,
            data_dir: path(&flags.data_dir, "data-dir", &defaults.data_dir)?,
            socket: path(&flags.socket, "socket", &defaults.socket)?,
            api: address(&flags.api, "api", defaults.api)?,
            peer: peer.or((!dev).then_some(any(4401))),
            http: address(&flags.http, "http", defaults.http)?,
            https: address(&flags.https, "https", defaults.https)?,
            dns: given.parse(&flags.dns, "dns", self::address)?.or(defaults.dns),
            mesh_port: mesh_port.or((!dev).then_some(51820)),
            containerd: given
                .parse(&flags.containerd, "containerd", containerd)?
                .unwrap_or(ContainerdChoice::Auto),
            subnet: given.parse(&flags.subnet, "subnet", subnet)?.unwrap_or(defaults.subnet),
            insecure_registries: given.registries(&flags.insecure_registry)?,
            trusted_proxies: given.list(&flags.trusted_proxies, "trusted-proxies", range)?,
            proxy_protocol: given.proxy_protocol(flags)?,
            docker_config: docker_folder(env).join("config.json"),
            acme_ca: given.parse(&flags.acme_ca, "acme-ca", absolute)?,
            acme_resolver: given.parse(&None, "acme-resolver", self::address)?,
            acme_trial: given.parse(&None, "acme-trial", https)?,
            log_format: given
                .parse(&flags.log_format, "log-format", log_format)?
                .unwrap_or(LogFormat::Text),
            recover_single: flags.recover_single,
            yes: flags.yes,
            peer_hints: given.hints(&flags.peer_hint)?,
            certificate_life: given
                .parse(&None, "certificate-life", life)?
                .unwrap_or(limits::CERTIFICATE_LIFE),
            volume_devices: given
                .parse(&None, "volume-devices", absolute)?
                .unwrap_or_else(|| "/dev/disk/by-id".into()),
        })
    }
}

struct Defaults {
    data_dir: PathBuf,
    socket: PathBuf,
    api: SocketAddr,
    http: SocketAddr,
    https: SocketAddr,
    dns: Option<SocketAddr>,
    subnet: ClusterSubnet,
}

impl Defaults {
    fn of(mode: Mode, env: &Env) -> Self {
        match mode {
            Mode::Daemon => Self {
                data_dir: "/var/lib/mill".into(),
                socket: "/run/mill/mill.sock".into(),
                api: loopback(4400),
                http: any(80),
                https: any(443),
                dns: None,
                subnet: ClusterSubnet { address: Ipv4Addr::new(10, 99, 0, 0), prefix: 16 },
            },
            Mode::Dev => Self {
                data_dir: home(env).join(".local/share/mill/dev"),
                socket: "/run/mill/dev.sock".into(),
                api: loopback(4410),
                http: loopback(8080),
                https: loopback(8443),
                dns: Some(loopback(5354)),
                subnet: ClusterSubnet { address: Ipv4Addr::new(10, 98, 0, 0), prefix: 16 },
            },
        }
    }
}

/// On or off.
fn switch(text: &str) -> Result<bool, Wanted> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("true or false"),
    }
}

/// Where Docker's command line keeps its settings.
fn docker_folder(env: &Env) -> PathBuf {
    let given = env.get("DOCKER_CONFIG").filter(|folder| folder.starts_with('/'));
    given.map_or_else(|| home(env).join(".docker"), PathBuf::from)
}

fn home(env: &Env) -> PathBuf {
    let home = env.get("HOME").filter(|home| home.starts_with('/'));
    home.map_or_else(|| PathBuf::from("/root"), PathBuf::from)
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn any(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

/// What was given beside the flags.
struct Given<'a> {
    env: &'a Env,
}

type Wanted = &'static str;

impl Given<'_> {
    /// The setting from its flag, else from its variable.
    fn parse<T>(
        &self,
        flag: &Option<String>,
        name: &str,
        parse: fn(&str) -> Result<T, Wanted>,
    ) -> Result<Option<T>, ConfigError> {
        let variable = variable(name);
        let (origin, value) = match (flag, self.env.get(&variable)) {
            (Some(value), _) => (format!("--{name}"), value),
            (None, Some(value)) if !value.is_empty() => (variable, value),
            (None, _) => return Ok(None),
        };
        match parse(value) {
            Ok(parsed) => Ok(Some(parsed)),
            Err(wanted) => Err(ConfigError { origin, value: value.clone(), wanted }),
        }
    }

    fn registries(&self, flags: &[String]) -> Result<Vec<String>, ConfigError> {
        self.list(flags, "insecure-registry", registry)
    }

    /// Only proxies that are trusted have a word in whose connection it is.
    fn proxy_protocol(&self, flags: &DaemonFlags) -> Result<bool, ConfigError> {
        let name = "proxy-protocol";
        let wanted = self.parse(&flags.proxy_protocol, name, switch)?.unwrap_or(false);
        let trusted = self.list(&flags.trusted_proxies, "trusted-proxies", range)?;
        if wanted && trusted.is_empty() {
            let (origin, value) = (format!("--{name}"), "true".to_owned());
            let wanted = "of use without the proxies that speak it; add --trusted-proxies CIDR";
            return Err(ConfigError { origin, value, wanted });
        }
        Ok(wanted)
    }

    fn hints(&self, flags: &[String]) -> Result<BTreeMap<NodeId, String>, ConfigError> {
        Ok(self.list(flags, "peer-hint", hint)?.into_iter().collect())
    }

    /// Each flag, else the variable's list.
    fn list<T>(
        &self,
        flags: &[String],
        name: &str,
        parse: fn(&str) -> Result<T, Wanted>,
    ) -> Result<Vec<T>, ConfigError> {
        if !flags.is_empty() {
            let each = flags.iter().map(|flag| self.parse(&Some(flag.clone()), name, parse));
            return each.filter_map(Result::transpose).collect();
        }
        let list = self.env.get(&variable(name)).map(String::as_str).unwrap_or_default();
        let given = list.split([',', ' ']).filter(|one| !one.is_empty());
        given
            .map(|one| {
                let refused =
                    |wanted| ConfigError { origin: variable(name), value: one.to_owned(), wanted };
                parse(one).map_err(refused)
            })
            .collect()
    }
}

/// The variable of a flag: `MILL_DATA_DIR` of `data-dir`.
#[must_use]
pub fn variable(flag: &str) -> String {
    format!("MILL_{}", flag.to_uppercase().replace('-', "_"))
}

fn address(text: &str) -> Result<SocketAddr, Wanted> {
    let local = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    local.as_deref().unwrap_or(text).parse().map_err(|_| ADDRESS)
}

fn port(text: &str) -> Result<u16, Wanted> {
    text.parse().ok().filter(|port| *port > 0).ok_or(PORT)
}

fn https(text: &str) -> Result<String, Wanted> {
    if text.starts_with("https://") { Ok(text.to_owned()) } else { Err(URL) }
}

fn absolute(text: &str) -> Result<PathBuf, Wanted> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err(PATH) }
}

fn containerd(text: &str) -> Result<ContainerdChoice, Wanted> {
    match text {
        "private" => Ok(ContainerdChoice::Private),
        "auto" => Ok(ContainerdChoice::Auto),
        _ => absolute(text).map(ContainerdChoice::Given).map_err(|_| CONTAINERD),
    }
}

fn subnet(text: &str) -> Result<ClusterSubnet, Wanted> {
    let (address, prefix) = text.split_once('/').ok_or(SUBNET)?;
    let address: Ipv4Addr = address.parse().map_err(|_| SUBNET)?;
    let prefix: u8 = prefix.parse().map_err(|_| SUBNET)?;
    let rest = address.to_bits().checked_shl(u32::from(prefix)).unwrap_or(0);
    let fits = (8..=21).contains(&prefix) && rest == 0;
    if fits { Ok(ClusterSubnet { address, prefix }) } else { Err(SUBNET) }
}

fn range(text: &str) -> Result<Cidr, Wanted> {
    Cidr::parse(text).ok_or(RANGE)
}

fn registry(text: &str) -> Result<String, Wanted> {
    let (host, port) = text.rsplit_once(':').ok_or(REGISTRY)?;
    let is_host = !host.is_empty() && !host.contains(['/', ' ']);
    if is_host && self::port(port).is_ok() { Ok(text.to_owned()) } else { Err(REGISTRY) }
}

fn life(text: &str) -> Result<Duration, Wanted> {
    let parsed = Millis::parse(text).ok().map(|life| Duration::from_millis(life.0));
    parsed.filter(|life| *life >= Duration::from_secs(1)).ok_or(LIFE)
}

fn log_format(text: &str) -> Result<LogFormat, Wanted> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(FORMAT),
    }
}
