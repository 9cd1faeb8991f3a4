//! State → zone: each name with its records, ready to be copied into an answer.
//!
//! Owns which allocation a name leads to. Never rotates them: that is each answer's.

use crate::fsm::State;
use crate::fsm::model::{AllocKind, Allocation, Desired, Phase};
use crate::id::{NodeId, WorkloadName};
use crate::limits;
use crate::network::Subnet;
use crate::spec::model::PortSpec;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

/// The domain of the cluster's names.
pub const DOMAIN: &str = "mill";
/// Names of services in here have their stable addresses.
pub const VIRTUAL: &str = "virtual";
/// Longest label (RFC 1035, 2.3.4).
const LABEL_MAX: usize = 63;
/// Longest name on the wire (RFC 1035, 2.3.4).
pub(super) const NAME_MAX: usize = 255;
/// Types of records (RFC 1035, RFC 2782).
pub(super) const A: u16 = 1;
pub(super) const SOA: u16 = 6;
pub(super) const PTR: u16 = 12;
pub(super) const SRV: u16 = 33;
pub(super) const ANY: u16 = 255;
/// The class of all of them.
pub(super) const IN: u16 = 1;
/// A name that is the question's: it begins right behind the header.
pub(super) const ASKED: [u8; 2] = [0xc0, 12];

/// The names of the cluster, by their lower-case wire form.
#[derive(Debug, Default)]
pub struct Zone {
    names: HashMap<Box<[u8]>, Entry>,
    /// The addresses whose names are known.
    pub(super) reverse: Option<Subnet>,
    /// The data of the zone's SOA record.
    pub(super) authority: Vec<u8>,
}

/// What is known of a name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Addresses on this node, and those on others.
    pub(super) addresses: [Vec<Ipv4Addr>; 2],
    /// Finished records of another type.
    pub(super) other: Option<Finished>,
}

/// Records as they stand behind the question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) kind: u16,
    pub(super) answers: Records,
    /// Addresses of the names in the answers.
    pub(super) additional: Records,
}

/// Encoded records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) count: u16,
    pub(super) bytes: Vec<u8>,
}

impl Records {
    fn push(&mut self, owner: &[u8], kind: u16, data: &[u8]) {
        let Ok(length) = u16::try_from(data.len()) else { return };
        self.count = self.count.saturating_add(1);
        self.bytes.extend_from_slice(owner);
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(IN.to_be_bytes());
        self.bytes.extend(ttl());
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend_from_slice(data);
    }
}

/// The time to live of every record.
pub(super) fn ttl() -> [u8; 4] {
    u32::try_from(limits::DNS_TTL.as_secs()).unwrap_or(u32::MAX).to_be_bytes()
}

impl Zone {
    /// The zone as a node answers it.
    #[must_use]
    pub fn of(state: &State, node: NodeId) -> Self {
        let cluster = state.cluster.as_ref();
        let reverse = cluster.map(|cluster| Subnet::of(cluster.subnet, cluster.prefix));
        let serial = u32::try_from(state.index.0 & u64::from(u32::MAX)).unwrap_or_default();
        let mut zone = Self { names: HashMap::new(), reverse, authority: authority(serial) };
        zone.name(&[]);
        for (name, service) in state.apps.values().flat_map(|app| &app.services) {
            let spec = service.target.as_ref().or(service.stable.as_ref());
            let spec = spec.and_then(|spec| state.spec(spec)?.spec.service());
            if spec.is_some_and(|spec| !spec.ports.is_empty()) {
                zone.name(&[name.as_str()]);
            }
            if let Some(address) = service.address {
                zone.add_virtual(name.as_str(), address);
            }
        }
        let mut ports = BTreeMap::new();
        for allocation in state.allocations.values() {
            zone.add(state, node, allocation, &mut ports);
        }
        for ((service, port), targets) in ports {
            zone.add_port(&service, &port, &targets);
        }
        zone
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none, as before the first view.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The addresses that a service, a task, an allocation or a run leads to.
    pub fn addresses(&self, name: &str) -> impl Iterator<Item = Ipv4Addr> {
        let found = wire(&[name, DOMAIN]).and_then(|key| self.names.get(&*key));
        found.into_iter().flat_map(|entry| entry.addresses.iter().flatten().copied())
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.names.get(key)
    }

    /// The entry of a name in the domain, made if it isn't there. One that is too long has none.
    fn name(&mut self, labels: &[&str]) -> Option<&mut Entry> {
        let labels: Vec<&str> = labels.iter().copied().chain([DOMAIN]).collect();
        Some(self.names.entry(wire(&labels)?).or_default())
    }

    /// An allocation's names, and where its ports are.
    fn add<'s>(
        &mut self,
        state: &'s State,
        node: NodeId,
        allocation: &'s Allocation,
        ports: &mut BTreeMap<(WorkloadName, String), Vec<(&'s Allocation, u16)>>,
    ) {
        let runs =
            allocation.desired == Desired::Run && allocation.observed.phase == Phase::Running;
        let Some(address) = allocation.observed.address.filter(|_| runs) else { return };
        let place = usize::from(allocation.node != node);
        let id = allocation.id.as_str();
        if let Some(entry) = self.name(&[id]) {
            entry.addresses[place].push(address);
        }
        self.add_pointer(address, &[id, DOMAIN]);
        let spec = state.spec(&allocation.spec).and_then(|stored| stored.spec.service());
        let has_ports = spec.is_some_and(|spec| !spec.ports.is_empty());
        let is_task = allocation.kind == AllocKind::Task;
        if !(is_task || allocation.is_routable() && has_ports) {
            return;
        }
        if let Some(entry) = self.name(&[allocation.workload.as_str()]) {
            entry.addresses[place].push(address);
        }
        for port in spec.into_iter().flat_map(|spec| &spec.ports) {
            for name in names_of(port) {
                let key = (allocation.workload.clone(), name);
                ports.entry(key).or_default().push((allocation, port.port));
            }
        }
    }

    /// `_PORT._tcp.NAME`, by the port's name and by its number.
    fn add_port(&mut self, service: &WorkloadName, port: &str, targets: &[(&Allocation, u16)]) {
        let (mut answers, mut additional) = (Records::default(), Records::default());
        for (allocation, number) in targets {
            let Some(name) = wire(&[allocation.id.as_str(), DOMAIN]) else { continue };
            // Priority and weight: all alike.
            let mut data = vec![0, 0, 0, 0];
            data.extend(number.to_be_bytes());
            data.extend_from_slice(&name);
            answers.push(&ASKED, SRV, &data);
            if let Some(address) = allocation.observed.address {
                additional.push(&name, A, &address.octets());
            }
        }
        let service = service.as_str();
        // The name between exists as well, with nothing of its own (RFC 8020).
        self.name(&["_tcp", service]);
        if let Some(entry) = self.name(&[&format!("_{port}"), "_tcp", service]) {
            entry.other = Some(Finished { kind: SRV, answers, additional });
        }
    }

    /// A service's stable address, whether it leads anywhere now or not.
    fn add_virtual(&mut self, service: &str, address: Ipv4Addr) {
        // The name between exists as well (RFC 8020).
        self.name(&[VIRTUAL]);
        if let Some(entry) = self.name(&[service, VIRTUAL]) {
            entry.addresses[0].push(address);
        }
        self.add_pointer(address, &[service, VIRTUAL, DOMAIN]);
    }

    fn add_pointer(&mut self, address: Ipv4Addr, name: &[&str]) {
        let [a, b, c, d] = address.octets().map(|octet| octet.to_string());
        let (Some(key), Some(name)) = (wire(&[&d, &c, &b, &a, "in-addr", "arpa"]), wire(name))
        else {
            return;
        };
        let mut answers = Records::default();
        answers.push(&ASKED, PTR, &name);
        let finished = Finished { kind: PTR, answers, additional: Records::default() };
        self.names.entry(key).or_default().other = Some(finished);
    }
}

/// How a port is asked for: by its number, and by its name if it has one.
fn names_of(port: &PortSpec) -> impl Iterator<Item = String> {
    [Some(port.port.to_string()), port.name.clone()].into_iter().flatten()
}

/// A name on the wire, without compression. None if it is too long.
fn wire(labels: &[&str]) -> Option<Box<[u8]>> {
    let mut bytes = Vec::with_capacity(NAME_MAX);
    for label in labels {
        let length = u8::try_from(label.len()).ok().filter(|n| usize::from(*n) <= LABEL_MAX)?;
        bytes.push(length);
        bytes.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    bytes.push(0);
    (bytes.len() <= NAME_MAX).then(|| bytes.into())
}

/// The data of the SOA record: server, person, serial, and times, the last for how long there being
/// no such name is remembered.
fn authority(serial: u32) -> Vec<u8> {
    let mut data = Vec::new();
    data.extend(wire(&["ns", DOMAIN]).into_iter().flatten());
    data.extend(wire(&["hostmaster", DOMAIN]).into_iter().flatten());
    data.extend(serial.to_be_bytes());
    for _ in 0..4 {
        data.extend(ttl());
    }
    data
}
