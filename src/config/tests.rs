//! Tests of the settings.

use super::*;
use yare::parameterized;

fn env(pairs: &[(&str, &str)]) -> Env {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_daemon_has_the_documented_defaults() {
    let config = DaemonConfig::new(Mode::Daemon, &DaemonFlags::default(), &env(&[])).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/mill"));
    assert_eq!(config.socket, PathBuf::from("/run/mill/mill.sock"));
    assert_eq!(config.api, "127.0.0.1:4400".parse().unwrap());
    assert_eq!(config.peer, "0.0.0.0:4401".parse().ok());
    assert_eq!(config.http, "0.0.0.0:80".parse().unwrap());
    assert_eq!(config.https, "0.0.0.0:443".parse().unwrap());
    assert_eq!((config.dns, config.mesh_port), (None, Some(51820)));
    assert_eq!(config.containerd, ContainerdChoice::Auto);
    assert_eq!(config.subnet.to_string(), "10.99.0.0/16");
    assert_eq!(config.log_format, LogFormat::Text);
}

#[test]
fn dev_has_its_own_defaults() {
    let home = env(&[("HOME", "/home/ada")]);
    let config = DaemonConfig::new(Mode::Dev, &DaemonFlags::default(), &home).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("/home/ada/.local/share/mill/dev"));
    assert_eq!(config.socket, PathBuf::from("/run/mill/dev.sock"));
    assert_eq!(config.api, "127.0.0.1:4410".parse().unwrap());
    assert_eq!(config.http, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.https, "127.0.0.1:8443".parse().unwrap());
    assert_eq!(config.dns, "127.0.0.1:5354".parse().ok());
    assert_eq!((config.peer, config.mesh_port), (None, None));
    assert_eq!(config.subnet.to_string(), "10.98.0.0/16");
    assert_eq!(config.docker_config, PathBuf::from("/home/ada/.docker/config.json"));
    let moved = env(&[("HOME", "/home/ada"), ("DOCKER_CONFIG", "/etc/docker-login")]);
    let config = DaemonConfig::new(Mode::Daemon, &DaemonFlags::default(), &moved).unwrap();
    assert_eq!(config.docker_config, PathBuf::from("/etc/docker-login/config.json"));
}

#[test]
fn a_flag_goes_before_its_variable_and_that_before_the_default() {
    let env = env(&[("MILL_API", "127.0.0.1:1"), ("MILL_DATA_DIR", "/d"), ("MILL_SOCKET", "")]);
    let flags = DaemonFlags { api: some("localhost:2"), ..DaemonFlags::default() };
    let config = DaemonConfig::new(Mode::Daemon, &flags, &env).unwrap();
    assert_eq!(config.api, "127.0.0.1:2".parse().unwrap());
    assert_eq!(config.data_dir, PathBuf::from("/d"));
    assert_eq!(config.socket, PathBuf::from("/run/mill/mill.sock"));
}

#[test]
fn registries_come_from_flags_or_from_a_list() {
    let env = env(&[("MILL_INSECURE_REGISTRY", "a:1, b.lan:2")]);
    let none = DaemonFlags::default();
    let config = DaemonConfig::new(Mode::Daemon, &none, &env).unwrap();
    assert_eq!(config.insecure_registries, ["a:1", "b.lan:2"]);
    let flags = DaemonFlags { insecure_registry: vec!["c:3".to_owned()], ..none };
    let config = DaemonConfig::new(Mode::Daemon, &flags, &env).unwrap();
    assert_eq!(config.insecure_registries, ["c:3"]);
}

#[test]
fn members_that_have_moved_come_from_flags_or_from_a_list() {
    let env = env(&[("MILL_PEER_HINT", "1=10.0.0.1 2=10.0.0.2:5")]);
    let config = DaemonConfig::new(Mode::Daemon, &DaemonFlags::default(), &env).unwrap();
    assert_eq!(config.peer_hints[&NodeId(2)], "10.0.0.2:5");
    let flags = DaemonFlags { peer_hint: vec!["3=n3".to_owned()], ..DaemonFlags::default() };
    let config = DaemonConfig::new(Mode::Daemon, &flags, &env).unwrap();
    assert_eq!(config.peer_hints, [(NodeId(3), "n3:4401".to_owned())].into());
    let flags = DaemonFlags { peer_hint: vec!["n3".to_owned()], ..DaemonFlags::default() };
    let error = DaemonConfig::new(Mode::Daemon, &flags, &env).unwrap_err();
    assert!(error.to_string().starts_with("--peer-hint: \"n3\" is not ID=HOST"), "{error}");
}

#[parameterized(
    address_without_port = { "MILL_API", "127.0.0.1" },
    address_by_name = { "MILL_HTTP", "example.com:80" },
    port_zero = { "MILL_MESH_PORT", "0" },
    port_too_large = { "MILL_MESH_PORT", "65536" },
    relative_socket = { "MILL_CONTAINERD", "containerd.sock" },
    relative_data = { "MILL_DATA_DIR", "data" },
    subnet_without_prefix = { "MILL_SUBNET", "10.99.0.0" },
    subnet_too_small = { "MILL_SUBNET", "10.99.0.0/22" },
    subnet_with_host_bits = { "MILL_SUBNET", "10.99.1.0/16" },
    subnet_of_another_family = { "MILL_SUBNET", "fd00::/16" },
    registry_without_port = { "MILL_INSECURE_REGISTRY", "registry.lan" },
    registry_with_scheme = { "MILL_INSECURE_REGISTRY", "http://registry.lan:5000" },
    unknown_format = { "MILL_LOG_FORMAT", "xml" },
    no_switch = { "MILL_PROXY_PROTOCOL", "on" },
)]
fn a_bad_value_is_an_error_at_start(name: &str, value: &str) {
    let error = DaemonConfig::new(Mode::Daemon, &DaemonFlags::default(), &env(&[(name, value)]))
        .unwrap_err();
    assert_eq!((error.origin.as_str(), error.value.as_str()), (name, value));
    assert!(error.to_string().starts_with(&format!("{name}: {value:?} is not ")), "{error}");
}

#[test]
fn the_proxy_protocol_is_for_proxies_that_are_trusted() {
    let flags = DaemonFlags { proxy_protocol: some("true"), ..DaemonFlags::default() };
    let error = DaemonConfig::new(Mode::Daemon, &flags, &env(&[])).unwrap_err().to_string();
    assert!(error.contains("add --trusted-proxies"), "{error}");
    let env = env(&[("MILL_TRUSTED_PROXIES", "10.0.0.0/8"), ("MILL_PROXY_PROTOCOL", "true")]);
    let config = DaemonConfig::new(Mode::Daemon, &DaemonFlags::default(), &env).unwrap();
    assert!(config.proxy_protocol);
}

#[test]
fn an_error_names_the_flag_it_came_from() {
    let flags = DaemonFlags { log_format: some("xml"), ..DaemonFlags::default() };
    let error = DaemonConfig::new(Mode::Daemon, &flags, &env(&[])).unwrap_err();
    assert_eq!(error.to_string(), "--log-format: \"xml\" is not text or json");
}
