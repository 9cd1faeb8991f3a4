//! What a test's node is made of.
//!
//! Never ends any of it: the node does.

use super::proxy::Proxy;
use mill::actors::platform::containerd::Containerd;
use mill::actors::platform::exec::Execs;
use mill::actors::platform::image::{Images, RegistryConfig};
use mill::actors::platform::logs;
use mill::actors::platform::net::{Net, PublishOn};
use mill::actors::platform::private_containerd::Daemon;
use mill::actors::platform::secrets::SecretStore;
use mill::actors::platform::trash::Trash;
use mill::actors::platform::volumes::VolumeStore;
use mill::actors::platform::volumes::attached::Attached;
use mill::actors::platform::{Places, Platform};
use mill::network::Subnet;
use mill::secret::{Keyring, OwnKey};
use mill::spec::model::PublishSpec;
use std::net::Ipv4Addr;
use std::path::Path;

/// Opens everything below a data directory.
pub async fn platform(
    data: &Path,
    first: Ipv4Addr,
    private_port: u16,
    proxy: Option<&mut Proxy>,
) -> (Platform, Daemon) {
    let places = Places::of(data);
    let cluster: Subnet = "10.101.0.0/16".parse().unwrap();
    let mut net = places.net(first, cluster, PublishOn::Loopback);
    net.private_ports = vec![private_port];
    let net = Net::open(net).await.unwrap();
    let private = Daemon::start(places.private()).await.unwrap();
    let logger = logs::install_from(data, Path::new(env!("CARGO_BIN_EXE_mill"))).unwrap();
    let socket = match proxy {
        Some(proxy) => proxy.listen(&data.join("proxy.sock"), private.socket()),
        None => private.socket(),
    };
    let config = places.containerd(socket, logs::wrapper_of(&logger));
    let containerd = Containerd::connect(config).await.unwrap();
    let images = Images::new(containerd.clone(), RegistryConfig::default());
    let logs = logs::LogReader::new(data).unwrap();
    let execs = Execs::new(containerd.clone(), places.execs());
    let (private_of, trash) = (None, Trash::open(data));
    let secrets = SecretStore::new(places.secrets(), Keyring::new(OwnKey::new([1; 32])));
    let attached = Attached::new(data.join("attached"), "/nowhere".into());
    let volumes = VolumeStore::new(data.join("volumes"), attached);
    let platform = Platform {
        places,
        containerd,
        images,
        execs,
        net,
        trash,
        logger,
        logs,
        secrets,
        volumes,
        private: private_of,
    };
    (platform, private)
}

/// Publishes the main port on a host port.
pub fn publish(host_port: u16) -> Vec<PublishSpec> {
    vec![PublishSpec { host_port, port: None, udp: false }]
}
