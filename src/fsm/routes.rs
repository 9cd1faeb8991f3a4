//! Hosts that are paused: a page of maintenance in place of what they lead to.
//!
//! Owns their record. Never answers a request: that is the proxy of each node.

use super::allocation::not_found;
use super::{Outcome, Rejection, State, Touched};
use crate::limits;
use crate::spec::model::ServiceSpec;
use crate::units::Timestamp;
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Paused hosts, as routes name them.
pub type Pauses = OrdMap<String, Arc<Pause>>;

/// A host that is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// What clients are told; empty: the usual.
    pub message: String,
    pub since: Timestamp,
}

/// A change of the routes beside what files say. Needs level 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteChange {
    /// Answer every request for a host with the page, or with another message than before.
    Pause {
        /// Which, as its routes name it.
        host: String,
        /// See [`Pause::message`].
        message: String,
    },
    /// Let requests for a host through again.
    Resume { host: String },
}

impl State {
    /// The specifications whose routes may count: what services are to be, and were.
    pub fn routed(&self) -> impl Iterator<Item = &ServiceSpec> {
        let services = self.apps.values().flat_map(|app| app.services.values());
        let specs = services.flat_map(|service| service.target.iter().chain(&service.stable));
        specs.filter_map(|hash| self.spec(hash)?.spec.service())
    }

    /// The hosts of all routes.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<&str> {
        self.routed().flat_map(|spec| &spec.routes).map(|route| route.host.as_str()).collect()
    }

    pub(super) fn change_routes(
        &mut self,
        change: RouteChange,
        touched: &mut Touched,
    ) -> Result<Outcome, Rejection> {
        touched.routes = true;
        match change {
            RouteChange::Pause { host, message } => {
                if !self.hosts().contains(host.as_str()) {
                    return Err(not_found("route of the host", &host));
                }
                let since = self.pauses.get(&host).map_or(self.time, |known| known.since);
                self.pauses.insert(host, Arc::new(Pause { message, since }));
                if self.pauses.len() > limits::PAUSES_MAX {
                    let what = format!("paused hosts: the cluster keeps {}", limits::PAUSES_MAX);
                    return Err(Rejection::TooMany { what });
                }
            }
            RouteChange::Resume { host } => {
                self.pauses.remove(&host).ok_or_else(|| not_found("paused host", &host))?;
            }
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::events;
    use crate::fsm::{Command, NEXT_LEVEL};
    use crate::node::ingress::fixture::Case;

    fn pause(host: &str, message: &str) -> Command {
        let (host, message) = (host.to_owned(), message.to_owned());
        Command::Routes(RouteChange::Pause { host, message })
    }

    fn resume(host: &str) -> Command {
        Command::Routes(RouteChange::Resume { host: host.to_owned() })
    }

    #[test]
    fn a_host_is_paused_until_it_is_resumed() {
        let file = "service \"web\" { image \"a\"; port 80; route \"a.example\" }";
        let mut case = Case::new(file);
        assert!(case.try_change(pause("b.example", "")).is_err(), "nothing has it");
        assert!(case.try_change(resume("a.example")).is_err(), "it is not paused");
        case.try_change(pause("a.example", "")).unwrap();
        let since = case.state.pauses["a.example"].since;
        case.try_change(pause("a.example", "Back at noon")).unwrap();
        case.deploy(&file.replace("\"a\"", "\"b\""));
        let kept = &case.state.pauses["a.example"];
        assert_eq!((kept.message.as_str(), kept.since), ("Back at noon", since));
        assert_eq!(State::decode(&case.state.encode().unwrap()).unwrap(), case.state);
        case.try_change(resume("a.example")).unwrap();
        assert!(case.state.pauses.is_empty());
        let told: Vec<_> = events::after(&case.state, 0)
            .filter(|event| event.kind.to_string().starts_with("route-"))
            .map(|event| (event.kind.to_string(), event.message.clone().unwrap_or_default()))
            .collect();
        let expected = [
            ("route-paused", "a.example"),
            ("route-paused", "a.example: Back at noon"),
            ("route-resumed", "a.example"),
        ];
        assert_eq!(told, expected.map(|(kind, text)| (kind.to_owned(), text.to_owned())));
        assert_eq!(pause("a.example", "").needs(), NEXT_LEVEL);
    }
}
