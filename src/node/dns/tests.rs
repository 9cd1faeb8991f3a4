//! Tests of the zone and the bytes of its answers, which another library reads.

use super::*;
use crate::fsm::command::{Action, Deploy, Place, Register, Report, Steps};
use crate::fsm::model::{AllocationStatus, DeployKind, Health, Phase, WorkloadSpec};
use crate::fsm::{Command, NEXT_LEVEL, State, apply_next, fixture};
use crate::id::{AllocId, Attempt, BootId, NodeId, WorkloadName};
use crate::node::project;
use crate::spec;
use crate::units::{Bytes, MilliCpu, Millis};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::str::FromStr as _;

const FILE: &str = "service \"db\" {
    image \"postgres:17\"
    port 5432
    port 9001 name=\"admin\"
    replicas 3
}
service \"silent\" { image \"x:1\" }
";

pub(crate) struct Case {
    pub(crate) state: State,
    replicas: Vec<AllocId>,
}

impl Case {
    /// So many replicas of `db`, healthy.
    pub(crate) fn new(replicas: u32) -> Self {
        let mut case = Self { state: State::default(), replicas: Vec::new() };
        case.change(Command::Init(fixture::init()));
        case.change(Command::Register(Register {
            cpu: MilliCpu(64_000),
            memory: Bytes(64_000_000_000),
            feature_level: NEXT_LEVEL,
            ..fixture::register()
        }));
        case.change(Command::Raise { level: NEXT_LEVEL });
        let parsed = spec::parse("file", FILE).unwrap();
        let services = parsed.services.into_iter().map(|(n, s)| (n, WorkloadSpec::Service(s)));
        case.change(Command::Deploy(Deploy {
            app: parsed.app,
            kind: DeployKind::Up,
            base: None,
            services: services.collect(),
            tasks: BTreeMap::new(),
            file: FILE.to_owned(),
            replace: false,
            plan: None,
        }));
        for replica in 0..replicas {
            let id = case.place("db", replica);
            case.report(&id, Health::Healthy, replica + 1);
            case.replicas.push(id);
        }
        case
    }

    fn change(&mut self, command: Command) {
        let time = self.state.time.plus(Millis(500));
        apply_next(&mut self.state, time, command).outcome.unwrap();
    }

    fn act(&mut self, action: Action) {
        self.change(Command::Steps(Steps { actions: vec![action], ..Default::default() }));
    }

    fn place(&mut self, service: &str, replica: u32) -> AllocId {
        let workload = WorkloadName::from(service);
        let spec = self.state.owner(&workload).unwrap().services[&workload].target.clone();
        let (id, spec) = (AllocId::service(&workload, replica, 7), spec.unwrap());
        let node = NodeId(1);
        self.act(Action::Place(Place {
            id: id.clone(),
            workload,
            replica,
            node,
            spec,
            replaces: None,
        }));
        id
    }

    fn report(&mut self, id: &AllocId, health: Health, last: u32) {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 99, 8, 0)) + last);
        let observed = AllocationStatus {
            attempt: Attempt(1),
            phase: Phase::Running,
            health,
            address: Some(address),
            ..Default::default()
        };
        let seq = self.state.reports.get(&NodeId(1)).map_or(1, |last| last + 1);
        let allocations = BTreeMap::from([(id.clone(), observed)]);
        let (node, boot) = (NodeId(1), BootId(1));
        self.change(Command::Report(Report { node, boot, seq, allocations }));
    }

    fn ask(&self, name: &str, kind: RecordType) -> Message {
        self.ask_with(&question(name, kind)).0
    }

    fn ask_with(&self, question: &Message) -> (Message, Outcome) {
        let zone = Zone::of(&self.state, NodeId(1));
        let mut out = Vec::new();
        let bytes = question.to_vec().unwrap();
        let Answer::Ready(outcome) = answer(&zone, &bytes, false, 0, &mut out) else {
            panic!("not plain: {question:?}");
        };
        let answer = Message::from_vec(&out).unwrap();
        assert_eq!(answer.metadata.id, question.metadata.id);
        assert_eq!(answer.metadata.message_type, MessageType::Response);
        assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
        assert_eq!(answer.queries, question.queries);
        let records = answer.answers.iter().chain(&answer.authorities).chain(&answer.additionals);
        records.for_each(|record| assert_eq!(record.ttl, 1));
        (answer, outcome)
    }
}

pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    message
}

fn addresses(message: &Message) -> BTreeSet<Ipv4Addr> {
    let address = |data: &RData| match data {
        RData::A(address) => address.0,
        other => panic!("{other:?}"),
    };
    message.answers.iter().map(|record| address(&record.data)).collect()
}

fn last(numbers: &[u8]) -> BTreeSet<Ipv4Addr> {
    numbers.iter().map(|last| Ipv4Addr::new(10, 99, 8, *last)).collect()
}

#[test]
fn a_service_leads_to_what_is_healthy_and_not_draining() {
    let mut case = Case::new(3);
    assert_eq!(addresses(&case.ask("db.mill.", RecordType::A)), last(&[1, 2, 3]));
    let second = case.replicas[1].clone();
    case.report(&second, Health::Unhealthy, 2);
    assert_eq!(addresses(&case.ask("db.mill.", RecordType::A)), last(&[1, 3]));
    let one = format!("{second}.mill.");
    assert_eq!(addresses(&case.ask(&one, RecordType::A)), last(&[2]), "by its own name");
    case.act(Action::Drain { allocation: case.replicas[0].clone() });
    assert_eq!(addresses(&case.ask("db.mill.", RecordType::A)), last(&[3]));
    let gone = case.ask(&format!("{}.mill.", case.replicas[0]), RecordType::A);
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn addresses_are_rotated_and_those_of_this_node_come_first() {
    let case = Case::new(3);
    let first = |zone: &Zone, rotation| {
        let (mut out, bytes) = (Vec::new(), question("db.mill.", RecordType::A).to_vec().unwrap());
        assert!(matches!(answer(zone, &bytes, false, rotation, &mut out), Answer::Ready(_)));
        let message = Message::from_vec(&out).unwrap();
        match message.answers[0].data {
            RData::A(address) => address.0.octets()[3],
            ref other => panic!("{other:?}"),
        }
    };
    let zone = Zone::of(&case.state, NodeId(1));
    assert_eq!([0, 1, 2, 3].map(|rotation| first(&zone, rotation)), [1, 2, 3, 1]);
    let mut state = case.state.clone();
    let far = state.allocations.get(&case.replicas[0]).unwrap().clone();
    let mut far = (*far).clone();
    far.node = NodeId(2);
    state.allocations.insert(far.id.clone(), far.into());
    let zone = Zone::of(&state, NodeId(1));
    assert_eq!([0, 1, 2, 3].map(|rotation| first(&zone, rotation)), [2, 3, 2, 3]);
}

#[test]
fn there_being_no_such_name_is_another_thing_than_there_being_no_such_record() {
    let case = Case::new(1);
    for (name, kind, code) in [
        ("db.mill.", RecordType::AAAA, ResponseCode::NoError),
        ("_tcp.db.mill.", RecordType::A, ResponseCode::NoError),
        ("mill.", RecordType::A, ResponseCode::NoError),
        ("dc.mill.", RecordType::A, ResponseCode::NXDomain),
        ("a.db.mill.", RecordType::A, ResponseCode::NXDomain),
        ("silent.mill.", RecordType::A, ResponseCode::NXDomain),
        ("9.8.99.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain),
    ] {
        let answer = case.ask(name, kind);
        assert_eq!(answer.metadata.response_code, code, "{name}");
        assert_eq!(answer.answers, [], "{name}");
        let authority = &answer.authorities[0];
        let apex = if name.ends_with("mill.") { "mill." } else { "10.in-addr.arpa." };
        assert_eq!(authority.name, Name::from_str(apex).unwrap(), "{name}");
        assert_eq!(authority.record_type(), RecordType::SOA, "{name}");
    }
    let none = Case::new(0).ask("db.mill.", RecordType::A);
    assert_eq!(none.metadata.response_code, ResponseCode::NoError, "it exists");
}

#[test]
fn ports_and_addresses_lead_back_to_allocations() {
    let case = Case::new(2);
    for name in ["_5432._tcp.db.mill.", "_admin._tcp.DB.mill."] {
        let answer = case.ask(name, RecordType::SRV);
        assert_eq!((answer.answers.len(), answer.additionals.len()), (2, 2), "{name}");
        let RData::SRV(first) = &answer.answers[0].data else { panic!("{answer:?}") };
        let port = if name.contains("admin") { 9001 } else { 5432 };
        let target = Name::from_str(&format!("{}.mill.", case.replicas[0])).unwrap();
        assert_eq!((first.port, &first.target), (port, &target));
        assert_eq!(answer.additionals[0].name, target);
    }
    let answer = case.ask("2.8.99.10.in-addr.arpa.", RecordType::PTR);
    let RData::PTR(name) = &answer.answers[0].data else { panic!("{answer:?}") };
    assert_eq!(name.0, Name::from_str(&format!("{}.mill.", case.replicas[1])).unwrap());
}

#[test]
fn a_stable_address_has_a_name_whether_it_leads_anywhere_or_not() {
    let case = Case::new(0);
    let own = [Ipv4Addr::new(10, 99, 248, 2)].into();
    assert_eq!(addresses(&case.ask("db.virtual.mill.", RecordType::A)), own);
    for (name, kind, code) in [
        ("db.virtual.mill.", RecordType::AAAA, ResponseCode::NoError),
        ("virtual.mill.", RecordType::A, ResponseCode::NoError),
        ("silent.virtual.mill.", RecordType::A, ResponseCode::NXDomain),
        ("3.248.99.10.in-addr.arpa.", RecordType::PTR, ResponseCode::NXDomain),
    ] {
        let answer = case.ask(name, kind);
        assert_eq!((answer.metadata.response_code, answer.answers), (code, vec![]), "{name}");
    }
    let answer = case.ask("2.248.99.10.in-addr.arpa.", RecordType::PTR);
    let RData::PTR(name) = &answer.answers[0].data else { panic!("{answer:?}") };
    assert_eq!(name.0, Name::from_str("db.virtual.mill.").unwrap());
}

#[test]
fn a_stable_address_leads_to_what_may_get_traffic_and_to_the_last_until_they_stop() {
    let mut case = Case::new(2);
    let sick = case.place("db", 2);
    case.report(&sick, Health::Unhealthy, 3);
    let leads = |case: &Case| {
        let all = project::virtuals(&case.state);
        assert_eq!(all.range.unwrap().to_string(), "10.99.248.0/21");
        let ports: BTreeSet<u16> = all.targets.keys().map(|(_, port)| *port).collect();
        assert!(ports.is_empty() || ports == [5432, 9001].into(), "{ports:?}");
        all.targets.into_values().next().unwrap_or_default()
    };
    assert_eq!(leads(&case), last(&[1, 2]));
    case.act(Action::Drain { allocation: case.replicas[0].clone() });
    assert_eq!(leads(&case), last(&[2]));
    case.act(Action::Drain { allocation: case.replicas[1].clone() });
    assert_eq!(leads(&case), last(&[1, 2]), "there is no other");
    assert_eq!(leads(&Case::new(0)), last(&[]));
}

#[test]
fn the_case_of_the_question_is_kept() {
    let case = Case::new(1);
    let mut asked = question("db.mill.", RecordType::A).to_vec().unwrap();
    asked[12..21].copy_from_slice(b"\x02dB\x04MiLL\0");
    let zone = Zone::of(&case.state, NodeId(1));
    let mut out = Vec::new();
    assert_eq!(answer(&zone, &asked, false, 0, &mut out), Answer::Ready(Outcome::Answered));
    assert_eq!(&out[12..21], b"\x02dB\x04MiLL\0");
}

#[test]
fn what_is_too_large_is_cut_off_as_the_asker_can_take_it() {
    let case = Case::new(60);
    let plain = case.ask("db.mill.", RecordType::A);
    assert!(plain.metadata.truncation && plain.answers.is_empty());
    let mut large = question("db.mill.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    large.set_edns(edns);
    let (whole, _) = case.ask_with(&large);
    assert!(!whole.metadata.truncation);
    assert_eq!((whole.answers.len(), whole.max_payload()), (60, 1232));
    let ports = case.ask_with(&{
        let mut ports = large.clone();
        ports.queries[0] = question("_5432._tcp.db.mill.", RecordType::SRV).queries[0].clone();
        ports
    });
    assert!(ports.0.metadata.truncation);
    let zone = Zone::of(&case.state, NodeId(1));
    let (mut out, bytes) = (Vec::new(), question("db.mill.", RecordType::A).to_vec().unwrap());
    assert_eq!(answer(&zone, &bytes, true, 0, &mut out), Answer::Ready(Outcome::Answered));
    assert_eq!(Message::from_vec(&out).unwrap().answers.len(), 60, "over TCP");
}

#[test]
fn what_is_not_plain_is_answered_all_the_same() {
    let case = Case::new(1);
    let zone = Zone::of(&case.state, NodeId(1));
    let ask = |message: &Message| {
        let (mut out, bytes) = (Vec::new(), message.to_vec().unwrap());
        assert_eq!(answer(&zone, &bytes, false, 0, &mut out), Answer::NotPlain);
        match unusual(&zone, &bytes, false, 0, &mut out) {
            Unusual::Ready(_) => Some(Message::from_vec(&out).unwrap()),
            Unusual::Forward(_) => None,
            Unusual::Ignore => panic!("{message:?}"),
        }
    };
    let mut with_options = question("db.mill.", RecordType::A);
    let mut edns = Edns::new();
    edns.options_mut().insert(EdnsOption::Unknown(10, vec![1; 8]));
    with_options.set_edns(edns);
    assert_eq!(addresses(&ask(&with_options).unwrap()), last(&[1]));
    assert!(ask(&question("example.com.", RecordType::A)).is_none(), "a resolver's");
    let mut other = question("db.mill.", RecordType::A);
    other.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(ask(&other).unwrap().metadata.response_code, ResponseCode::Refused);
    let mut update = question("db.mill.", RecordType::A);
    update.metadata.op_code = OpCode::Status;
    assert_eq!(ask(&update).unwrap().metadata.response_code, ResponseCode::NotImp);
    let mut new = question("db.mill.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    new.set_edns(edns);
    let code = ask(&new).unwrap().metadata.response_code;
    assert_eq!(u16::from(code), u16::from(ResponseCode::BADVERS));
}

#[test]
fn no_bytes_end_the_process() {
    let case = Case::new(2);
    let zone = Zone::of(&case.state, NodeId(1));
    let whole = question("_admin._tcp.db.mill.", RecordType::SRV).to_vec().unwrap();
    let mut out = Vec::new();
    let mut try_all = |bytes: &[u8]| {
        if answer(&zone, bytes, false, 1, &mut out) == Answer::NotPlain {
            drop(unusual(&zone, bytes, false, 1, &mut out));
        }
    };
    for at in 0..=whole.len() {
        try_all(&whole[..at]);
        for byte in [0, 1, 63, 64, 0xc0, 0xff] {
            let mut damaged = whole.clone();
            if let Some(place) = damaged.get_mut(at) {
                *place = byte;
            }
            try_all(&damaged);
        }
    }
    let mut response = question("db.mill.", RecordType::A).to_vec().unwrap();
    response[2] |= 0x80;
    assert!(matches!(unusual(&zone, &response, false, 0, &mut out), Unusual::Ignore));
}
