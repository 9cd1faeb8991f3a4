//! Stable addresses: each service with ports has one, for as long as it is there.
//!
//! Owns who has which. They come from the last /21 of the cluster's subnet, as long as no node has
//! that. Never leads anything to a replica: that is each node's firewall.

use super::model::{App, Service};
use super::{State, Touched};
use crate::id::AppName;
use crate::network::Subnet;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

impl State {
    /// Where the services' stable addresses come from; none where a node has that part of the
    /// cluster's subnet, or not every node knows of them yet.
    #[must_use]
    pub fn virtual_range(&self) -> Option<Subnet> {
        let cluster = self.cluster.as_ref().filter(|_| self.is_next())?;
        let range = Subnet::of(cluster.subnet, cluster.prefix).last_slice()?;
        let is_free = self.nodes.values().all(|node| node.subnet != range.address());
        is_free.then_some(range)
    }

    /// Gives each service with ports an address, among the apps that an entry touched; all of them
    /// where it touched a node, which may have taken the range or given it back.
    pub(super) fn give_addresses(&mut self, touched: &mut Touched) {
        if !self.is_next() || !(touched.nodes || touched.all || !touched.apps.is_empty()) {
            return;
        }
        let range = self.virtual_range();
        let all = touched.nodes || touched.all;
        let wrong = |app: &App| {
            let is_wrong = |service: &Service| match range {
                Some(_) => service.address.is_none() && self.is_asked_for(service),
                None => service.address.is_some(),
            };
            app.services.values().any(is_wrong)
        };
        let apps = self.apps.values().filter(|app| all || touched.apps.contains(&app.name));
        let apps: Vec<AppName> =
            apps.filter(|app| wrong(app)).map(|app| app.name.clone()).collect();
        if apps.is_empty() {
            return;
        }
        let services = self.apps.values().flat_map(|app| app.services.values());
        let mut used: BTreeSet<Ipv4Addr> = services.filter_map(|one| one.address).collect();
        for name in apps {
            let Some(mut app) = self.apps.get(&name).map(|app| App::clone(app)) else { continue };
            for service in app.services.values_mut() {
                service.address = match (range, service.address) {
                    (None, _) => None,
                    (Some(range), None) if self.is_asked_for(service) => {
                        let address = range.pick(&used, self.last_address);
                        used.extend(address);
                        self.last_address = address.or(self.last_address);
                        address
                    }
                    (Some(_), address) => address,
                };
            }
            touched.apps.insert(name.clone());
            self.apps.insert(name, Arc::new(app));
        }
    }

    fn is_asked_for(&self, service: &Service) -> bool {
        service.target.as_ref().is_some_and(|target| self.has_ports(target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::command::Register;
    use crate::fsm::deploy::tests::{change, put, running, shop, step, take_down};
    use crate::fsm::model::DeployStatus;
    use crate::fsm::{Command, NEXT_LEVEL, command::Action, fixture};
    use crate::id::{BootId, NodeId, Revision};

    fn addresses(state: &State) -> Vec<(&str, Option<[u8; 4]>)> {
        let of = |address: Ipv4Addr| address.octets();
        let all = shop(state).services.iter();
        all.map(|(name, service)| (name.as_str(), service.address.map(of))).collect()
    }

    fn raised() -> State {
        let mut state = running();
        let node = Register { feature_level: NEXT_LEVEL, boot: BootId(2), ..fixture::register() };
        change(&mut state, Command::Register(node)).unwrap();
        assert_eq!(addresses(&state), [("db", None), ("web", None)], "not all know of them");
        change(&mut state, Command::Raise { level: NEXT_LEVEL }).unwrap();
        state
    }

    #[test]
    fn a_service_keeps_its_address_for_as_long_as_it_is_there() {
        let mut state = raised();
        let [db, web] = [Some([10, 99, 248, 2]), Some([10, 99, 248, 3])];
        assert_eq!(addresses(&state), [("db", db), ("web", web)]);
        put(&mut state, &[("web", "web:2"), ("db", "db:1"), ("api", "api:1")]);
        let api = Some([10, 99, 248, 4]);
        assert_eq!(addresses(&state), [("api", api), ("db", db), ("web", web)]);
        let again = State::decode(&state.encode().unwrap()).unwrap();
        assert_eq!(again.hash(), state.hash());

        take_down(&mut state, &[("web", "web:2"), ("api", "api:1")]);
        assert_eq!(addresses(&state)[1], ("db", db), "until it has ended");
        let (revision, status) = (Revision(3), DeployStatus::Succeeded);
        step(&mut state, Action::Finish { revision, status, degraded: vec![] });
        put(&mut state, &[("web", "web:2"), ("api", "api:1"), ("db", "db:1")]);
        assert_eq!(addresses(&state)[1], ("db", Some([10, 99, 248, 5])), "no stranger's soon");
    }

    #[test]
    fn a_node_gets_the_services_part_last_and_then_they_have_none() {
        let mut state = raised();
        for n in 2..=32 {
            assert!(state.virtual_range().is_some(), "before node {n}");
            let join = fixture::join(&format!("n{n}"), "k");
            change(&mut state, Command::Join(join)).unwrap();
        }
        assert_eq!(state.nodes[&NodeId(32)].subnet, Ipv4Addr::new(10, 99, 248, 0));
        assert_eq!(state.virtual_range(), None);
        assert_eq!(addresses(&state), [("db", None), ("web", None)]);
        // The one that is given in turn is not the first that is free.
        state.nodes.remove(&NodeId(32));
        state.nodes.remove(&NodeId(9));
        state.last_node = NodeId(31);
        change(&mut state, Command::Join(fixture::join("more", "k"))).unwrap();
        assert_eq!(state.nodes[&NodeId(32)].subnet, Ipv4Addr::new(10, 99, 64, 0));
        let ours = |(_, address): (_, Option<_>)| address.is_some();
        assert!(addresses(&state).into_iter().all(ours), "there is room for them again");
    }

    #[test]
    fn a_subnet_of_one_node_has_no_room_for_them() {
        let mut state = raised();
        let mut cluster = state.cluster.take().unwrap();
        cluster.prefix = 21;
        state.cluster = Some(cluster);
        assert_eq!(state.virtual_range(), None);
    }
}
