//! Tests of plans, and a small world to plan in.

use super::*;
use crate::api::views;
use crate::api::wire::PlanView;
use crate::fsm::fixture;
use crate::fsm::model::{DeployStatus, Node};
use crate::scheduler::revise::{self, Resolved, Up};
use crate::spec;
use crate::spec::model::hash_of;
use crate::units::{Bytes, MilliCpu, Timestamp};

/// Two services: one without a volume, one with.
pub const SHOP: &str = "app \"shop\"
service \"web\" {
    image \"registry.example.com/web:v1\"
    port 3000
    replicas 2
    cpu 1
    memory \"1G\"
    env { API \"x\"; MODE \"slow\"; KEY \"${secret(web.key)}hunter2\" }
}
service \"old\" {
    image \"old:v1\"
    volume \"old-data\" path=\"/data\" size=\"1Gi\"
}
";

/// A cluster whose nodes do at once what they are asked to.
pub struct World {
    /// The cluster.
    pub state: State,
    /// Where tags lead, if it matters.
    pub digests: BTreeMap<String, String>,
}

impl World {
    /// Nodes of so many cores and gigabytes, named n1, n2 and so on.
    pub fn new(nodes: &[(u64, u64)]) -> Self {
        let mut world = Self { state: State::default(), digests: BTreeMap::new() };
        world.change(Command::Init(fixture::init())).unwrap();
        world.change(Command::Register(fixture::register())).unwrap();
        let first = world.state.nodes[&NodeId(1)].clone();
        for (n, (cores, gigabytes)) in (1..).zip(nodes) {
            let (cpu, memory) = (MilliCpu(cores * 1_000), Bytes(gigabytes * 1_000_000_000));
            let (id, name) = (NodeId(n), format!("n{n}"));
            world
                .state
                .nodes
                .insert(id, Arc::new(Node { id, name, cpu, memory, ..(*first).clone() }));
        }
        world
    }

    /// Applies a command, a second later.
    pub fn change(&mut self, command: Command) -> Result<Outcome, Rejection> {
        let time = Timestamp(self.state.time.0 + 1_000);
        fsm::apply_next(&mut self.state, time, command).outcome
    }

    /// Changes a node.
    pub fn node(&mut self, id: u64, how: impl FnOnce(&mut Node)) {
        let mut node = (*self.state.nodes[&NodeId(id)]).clone();
        how(&mut node);
        self.state.nodes.insert(NodeId(id), Arc::new(node));
    }

    /// What `up` would propose.
    pub fn wanted(&self, text: &str) -> Deploy {
        let spec = spec::parse("file", text).unwrap();
        let digest = |image: &String| match self.digests.get(image) {
            Some(digest) => digest.as_str().into(),
            None => format!("sha256:{}", hash_of(image)).into(),
        };
        let resolved: Resolved =
            revise::references(&spec).into_iter().map(|i| (i.clone(), Ok(digest(&i)))).collect();
        let up = Up { spec, file: text.to_owned(), replace: false };
        revise::up(&self.state, up, &resolved).unwrap()
    }

    /// Deploys, and lets it go as far as it goes.
    pub fn up(&mut self, text: &str) -> Forecast {
        let deploy = self.wanted(text);
        let app = deploy.app.clone();
        self.change(Command::Deploy(deploy)).unwrap();
        super::forecast::follow(&mut self.state, &app)
    }

    /// What `up` would do.
    pub fn plan(&self, text: &str) -> Preview {
        preview(&self.state, &self.wanted(text)).unwrap()
    }

    fn view(&self, text: &str) -> PlanView {
        views::plan(&self.state, &self.plan(text), &self.wanted(text))
    }
}

/// `web-0 n1` and so on.
fn places(change: &Change) -> Vec<(u32, u64)> {
    change.placements.iter().map(|(replica, node)| (*replica, node.0)).collect()
}

#[test]
fn a_new_app_is_planned_where_it_then_goes() {
    let mut world = World::new(&[(4, 8), (4, 8)]);
    let plan = world.plan(SHOP);
    assert_eq!((plan.base, plan.next), (None, Some(Revision(1))));
    let names: Vec<&str> = plan.changes.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["old", "web"]);
    let web = &plan.changes[1];
    assert_eq!((web.sign, web.effect, web.replicas), (Sign::Add, Effect::Start, (None, Some(2))));
    // Spread over the nodes, after what came before it.
    assert_eq!(places(web), [(0, 1), (1, 2)]);
    assert_eq!(world.plan(SHOP).hash, plan.hash, "the same plan has the same hash");
    assert!(plan_hash::is_hash(&plan.hash), "{}", plan.hash);
    let happened = world.up(SHOP);
    for change in &plan.changes {
        assert_eq!(happened.placed[&change.name], change.placements, "{}", change.name);
    }
    assert!(happened.is_whole && happened.unplaced.is_empty());
    let nothing = world.plan(SHOP);
    assert_eq!((nothing.base, nothing.next), (Some(Revision(1)), None));
    assert!(nothing.changes.is_empty());
}

#[test]
fn every_change_has_its_fields_and_its_effect() {
    let mut world = World::new(&[(4, 8), (4, 8)]);
    world.up(SHOP);
    for (from, to, effect, expected) in [
        ("web:v1\"", "web:v2\"", Effect::Replace, "image - web:v1 (f2a8…) web:v2 (4a72…)"),
        ("MODE \"slow\"", "MODE \"fast\"", Effect::Replace, "env MODE - -"),
        ("MODE \"slow\"", "LEVEL \"1\"", Effect::Replace, "env LEVEL - -, env MODE - -"),
        ("replicas 2", "replicas 3", Effect::Scale, "replicas - 2 3"),
        ("replicas 2", "replicas 1", Effect::Scale, "replicas - 2 1"),
        ("cpu 1", "cpu 0.5", Effect::Replace, "cpu - 1 0.5"),
        ("memory \"1G\"", "memory \"2G\"", Effect::Replace, "memory - 1G 2G"),
        ("cpu 1", "cpu 1\n user \"1000\"", Effect::Replace, "user - - 1000"),
        ("cpu 1", "cpu 1\n command \"/a\" \"b c\"", Effect::Replace, "command - - \"/a\" \"b c\""),
        ("cpu 1", "cpu 1\n args \"-v\"", Effect::Replace, "args - - \"-v\""),
        (
            "cpu 1",
            "cpu 1\n health \"/a\"",
            Effect::Replace,
            "health - tcp every 10s, timeout 2s, grace 30s GET /a every 10s, timeout 2s, grace 30s",
        ),
        (
            "cpu 1",
            "cpu 1\n route \"a.example.com\" path=\"/x\"",
            Effect::Nothing,
            "route a.example.com/x - -",
        ),
        (
            "cpu 1",
            "cpu 1\n stop signal=\"SIGINT\" grace=\"3s\"",
            Effect::Nothing,
            "stop - the image's signal, 10s SIGINT, 3s",
        ),
        (
            "cpu 1",
            "cpu 1\n update max-parallel=2",
            Effect::Nothing,
            "update - 1 at a time, start-first, 1m 2 at a time, start-first, 1m",
        ),
        ("cpu 1", "cpu 1\n publish 8443", Effect::Nothing, "publish 8443 - -"),
    ] {
        let text = SHOP.replace(from, to);
        let plan = world.plan(&text);
        let web = &plan.changes[0];
        let or = |value: &Option<String>| match value.as_deref() {
            None | Some("") => "-".to_owned(),
            Some(text) => text.to_owned(),
        };
        let field = |f: &FieldChange| {
            format!("{} {} {} {}", f.field, or(&f.key), or(&f.before), or(&f.after))
        };
        let fields: Vec<String> = web.fields.iter().map(field).collect();
        let (fields, is_image) = (fields.join(", "), to.starts_with("web:"));
        if is_image {
            let digests = |text: &str| text.matches("…)").count() == 2 && text.contains("web:v2 (");
            assert!(digests(&fields) && digests(expected), "{fields}");
        } else {
            assert_eq!(fields, expected, "{to}");
        }
        assert_eq!((plan.changes.len(), web.effect, web.sign), (1, effect, Sign::Change), "{to}");
        let placed = match effect {
            Effect::Replace => 2,
            Effect::Scale if to.ends_with('3') => 1,
            _ => 0,
        };
        assert_eq!(web.placements.len(), placed, "{to}");
    }
}

#[yare::parameterized(
    memory = { ["memory \"16M\"", "memory \"16.4M\""], "memory: 16M → 16400K" },
    body = {
        ["route \"a.example\" body-max=\"5Gi\"", "route \"a.example\" body-max=\"5.4G\""],
        "route: body-max=\"5Gi\" → body-max=\"5400M\"",
    },
    volume = {
        [
            "volume \"v\" path=\"/d\" size=\"5Gi\"",
            "volume \"v\" path=\"/d\" size=\"5.4G\"",
        ],
        "volume: /d size=5Gi → /d size=5400M",
    },
    hooks = {
        [
            "before-deploy \"a\"; before-deploy \"b\"",
            "before-deploy \"b\"; before-deploy \"a\"",
        ],
        "before-deploy: a, b → b, a",
    },
)]
fn what_looks_alike_differs(lines: [&str; 2], expected: &str) {
    let [before, after] = lines.map(|line| {
        let tasks = "task \"a\" { image \"a\" }\ntask \"b\" { image \"a\" }\n";
        let text = format!("service \"web\" {{\n image \"a\"\n port 80\n {line}\n}}\n{tasks}");
        WorkloadSpec::Service(
            spec::parse("file", &text).unwrap().services.remove(&"web".into()).unwrap(),
        )
    });
    let told = |one: FieldChange| {
        format!("{}: {} → {}", one.field, one.before.unwrap(), one.after.unwrap())
    };
    let found: Vec<String> = diff(&before, &after).into_iter().map(told).collect();
    assert_eq!(found, [expected]);
}

#[test]
fn what_goes_leaves_its_volumes_and_no_value_is_shown() {
    let mut world = World::new(&[(4, 8)]);
    world.up(SHOP);
    let end = SHOP.find("service \"old\"").unwrap();
    let rest = SHOP[..end].replace("hunter2", "hunter3");
    let plan = world.plan(&rest);
    let old = plan.changes.iter().find(|c| c.name.as_str() == "old").unwrap();
    assert_eq!((old.sign, old.effect, old.replicas), (Sign::Remove, Effect::Stop, (Some(1), None)));
    assert_eq!(old.kept, ["old-data"]);
    let view = world.view(&rest);
    let text = serde_json::to_string(&view).unwrap();
    assert!(!text.contains("hunter"), "{text}");
    let web = view.changes.iter().find(|change| change.name == "web").unwrap();
    assert_eq!(web.fields.len(), 1);
    let env = &web.fields[0];
    assert_eq!((env.field.as_str(), env.key.as_deref()), ("env", Some("KEY")));
    assert_eq!((&env.change, &env.before, &env.after), (&"change".into(), &None, &None));
}

#[test]
fn a_replica_that_would_wait_is_foretold_with_every_nodes_reason() {
    let mut world = World::new(&[(4, 8), (1, 1)]);
    let text = SHOP.replace("replicas 2", "replicas 9").replace("memory \"1G\"", "memory \"2G\"");
    let view = world.view(&text);
    let web = view.changes.iter().find(|change| change.name == "web").unwrap();
    let waiting: Vec<_> = web.placements.iter().filter(|one| one.node.is_none()).collect();
    assert_eq!((web.placements.len(), waiting.len()), (9, 5));
    assert_eq!(waiting[0].waits.as_deref(), Some("no node fits cpu 1, memory 2.0G"));
    let reasons: Vec<_> =
        waiting[0].nodes.iter().map(|n| format!("{} {}", n.node, n.reason)).collect();
    assert_eq!(reasons, ["n1 cpu", "n2 cpu"]);
    let happened = world.up(&text);
    assert_eq!(happened.unplaced.len(), 5);
    // Whoever follows it is told once.
    let told = world.state.deployments[&Revision(1)].progress.values().filter(|p| p.is_waiting());
    assert_eq!(told.count(), 1);
}

#[test]
fn a_plan_is_carried_out_exactly_or_not_at_all() {
    let mut world = World::new(&[(4, 8)]);
    world.up(SHOP);
    let v2 = SHOP.replace("web:v1", "web:v2");
    let planned = |world: &World, text: &str| {
        let hash = world.plan(text).hash;
        Planned { hash, deploy: world.wanted(text) }
    };
    let try_it = |world: &mut World, text: &str, plan: &Planned| {
        let asked = Deploy { plan: Some(plan.hash.clone()), ..world.wanted(text) };
        let outcome = world.change(Command::Deploy(asked.clone()));
        let why = changed_since(&world.state, Some(plan), &plan.hash, &asked);
        let alone = changed_since(&world.state, None, &plan.hash, &asked);
        (outcome.map_err(|_| (why.join("; "), alone.join("; "))), asked)
    };
    // A tag moved.
    let plan = planned(&world, &v2);
    let image = "registry.example.com/web:v2".to_owned();
    let led = world.digests.insert(image.clone(), "sha256:77ab0000".to_owned());
    assert_eq!(led, None);
    let (refused, _) = try_it(&mut world, &v2, &plan);
    let (why, _) = refused.unwrap_err();
    assert!(why.starts_with("the tag web:v2 now leads to 77ab…, was "), "{why}");
    // The file changed.
    let plan = planned(&world, &v2);
    let other = v2.replace("cpu 1", "cpu 0.5").replace("slow", "fast");
    let (refused, _) = try_it(&mut world, &other, &plan);
    assert_eq!(refused.unwrap_err().0, "web has other values in the file: cpu, env");
    // Nothing changed.
    let (done, asked) = try_it(&mut world, &v2, &plan);
    assert_eq!(done.unwrap(), Outcome::Revision { revision: Revision(2), new: true });
    assert_eq!(world.state.deployments[&Revision(2)].plan, asked.plan);
    super::forecast::follow(&mut world.state, &"shop".into());
    // Somebody deployed meanwhile: told also by a node that has not made the plan.
    let v3 = SHOP.replace("web:v1", "web:v3");
    let plan = planned(&world, &v3);
    world.up(&v2.replace("replicas 2", "replicas 1"));
    let (refused, _) = try_it(&mut world, &v3, &plan);
    let (why, alone) = refused.unwrap_err();
    assert!(why.starts_with("shop is at r3 since ") && why.ends_with(", was r2"), "{why}");
    assert_eq!(alone, why);
    // The same plan made anew is good again.
    let plan = planned(&world, &v3);
    assert!(try_it(&mut world, &v3, &plan).0.is_ok());
}

#[test]
fn a_rollout_that_waits_for_a_task_is_foretold_behind_it() {
    let mut world = World::new(&[(4, 8)]);
    let task = "task \"migrate\" {\n    image \"registry.example.com/web:v1\"\n}\n";
    let text = SHOP.replace("cpu 1", "cpu 1\n before-deploy \"migrate\"") + task;
    let plan = world.plan(&text);
    let names: Vec<&str> = plan.changes.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["old", "web", "migrate"]);
    assert_eq!(places(&plan.changes[1]), [(0, 1), (1, 1)]);
    assert!(plan.changes[2].is_task && plan.changes[2].sign == Sign::Add);
    assert!(world.up(&text).is_whole);
    assert_eq!(world.state.deployments[&Revision(1)].status, DeployStatus::Succeeded);
}
